"""What both command lines share."""

from posecap.terminal import count_text, duration_text


def test_counts_of_one_and_of_several() -> None:
    counts = [count_text(count, "row") for count in (0, 1, 2000)]
    assert counts == ["0 rows", "1 row", "2,000 rows"]


def test_durations_in_words() -> None:
    assert [duration_text(seconds) for seconds in (7, 3723, 190_800)] == ["0:07", "1:02:03", "2 d 5 h"]
