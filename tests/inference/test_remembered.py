import numpy as np

from posecap.inference.remembered import Remembered


def test_a_sentence_is_computed_once():
    asked = []

    def compute(new):
        asked.append(new)
        return [np.full(2, len(sentence), np.float32) for sentence in new]

    memory = Remembered(most=3)
    assert [v[0] for v in memory.vectors(["a", "bb", "a"], compute)] == [1, 2, 1]
    assert [v[0] for v in memory.vectors(["bb", "ccc"], compute)] == [2, 3]
    assert memory.vectors([], compute) == []
    assert [v[0] for v in memory.vectors(["a", "dddd", "a"], compute)] == [1, 4, 1]  # a fourth: all are forgotten
    memory.vectors(["bb"], compute)
    assert asked == [["a", "bb"], ["ccc"], ["dddd"], ["bb"]]
