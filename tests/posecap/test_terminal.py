"""What both command lines share."""

from posecap.terminal import duration_text


def test_durations_in_words() -> None:
    assert [duration_text(seconds) for seconds in (7, 3723, 190_800)] == ["0:07", "1:02:03", "2 d 5 h"]
