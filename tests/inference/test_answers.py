"""What is kept of a model's answer."""

import pytest

from posecap.inference.answers import sentences_of


@pytest.mark.parametrize(
    ("answer", "end", "expected"),
    [
        ("She waves.", "of itself", ["She waves."]),
        ("She waves with her left hand", "of itself", ["She waves with her left hand"]),
        ("She waves with her left", "cut off", []),
        ("She waves. Then she ste", "cut off", ["She waves."]),
        ("  She\n waves. ", "of itself", ["She waves."]),
        ("What moves? She waves.", "of itself", ["She waves."]),
        ("<think>The arm? Yes.</think>\nShe waves.", "of itself", ["She waves."]),
        ("<think>The arm? It seems", "cut off", []),
        (
            "Here is the description:\n\n- **She waves.**\n2. She bends 1.5 times.",
            "of itself",
            ["She waves.", "She bends 1.5 times."],
        ),
        ('"She waves." "She bends."', "of itself", ["She waves.", "She bends."]),
        ("他举手。他转身。他跳", "cut off", ["他举手。", "他转身。"]),
        ("", "of itself", []),
        (" … !", "of itself", []),
    ],
)
def test_answers_are_cleaned(answer, end, expected):
    assert sentences_of(answer, most=5, prompt="What moves?", end=end) == expected


def test_only_the_first_sentences_stay():
    assert sentences_of("A. B. C.", most=2, prompt="", end="of itself") == ["A.", "B."]
