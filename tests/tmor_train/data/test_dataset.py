from __future__ import annotations

import numpy as np
import pytest

from posecap.joints import LayoutError
from tests import skeletons
from tmor_train.data import Clip, combined, from_clips
from tmor_train.data.dataset import Vectors, concat_vectors, slices, vectors

LINES = [
    skeletons.counted("a", frames=3, label="walk", captions=("Walking.",), split="train", subject=4, fps=25.0),
    skeletons.counted("b", frames=5, people=2, label="run", captions=("Running.", "Walking."), split="test", camera=2),
    skeletons.counted("c", frames=2, split="train"),
]


def test_clips_come_back_as_they_went_in() -> None:
    motions = from_clips(LINES)
    for number, clip in enumerate(LINES):
        got = motions.clip(number)
        assert (got.joints_MTJC == clip.joints_MTJC).all()
        for name in ("key", "layout", "fps", "width", "height", "label", "captions", "split", "subject", "camera"):
            assert getattr(got, name) == getattr(clip, name)


def test_one_sentence_has_one_number() -> None:
    motions = from_clips(LINES)
    assert motions.sentences == ("Walking.", "Running.")
    assert motions.caption_K.tolist() == [0, 1, 0]
    assert motions.clips.caption_first_N.tolist() == [0, 1, 3]
    assert motions.clips.caption_count_N.tolist() == [1, 2, 0]
    assert motions.classes == ("run", "walk")
    assert motions.clips.label_N.tolist() == [1, 0, -1]


def test_gathering_takes_the_frames_and_people_asked_for() -> None:
    motions = from_clips(LINES)
    joints, seen = motions.gather(
        np.array([1, 0]),
        frame_NT=np.array([[4, 0, -1], [2, 2, 1]]),
        person_NM=np.array([[1, 0], [0, -1]]),
        layout="coco17",
    )
    assert joints.shape == (2, 2, 3, 17, 2)
    np.testing.assert_allclose(joints[0, 0, 0, 3], [1040.03, 1140.03], rtol=1e-6)
    np.testing.assert_allclose(joints[0, 1, 1, 0], [0, 100], rtol=1e-6)
    np.testing.assert_allclose(joints[1, 0, 0, 16], [20.16, 120.16], rtol=1e-6)
    assert seen[0, :, :2].all()
    assert seen[1, 0].all()
    assert not seen[0, :, 2].any()
    assert not seen[1, 1].any()


@pytest.mark.parametrize(("frame", "person"), [(3, 0), (0, 1)])
def test_a_frame_or_person_beyond_the_clip_is_refused(frame: int, person: int) -> None:
    with pytest.raises(IndexError, match="out of range of its clip"):
        from_clips(LINES).gather(
            np.array([0]), frame_NT=np.array([[frame]]), person_NM=np.array([[person]]), layout="coco17"
        )


def test_clips_of_several_layouts_and_dimensions_come_out_in_one() -> None:
    space = np.ones((1, 4, 25, 4), np.float32)
    space[..., 2] = 7
    motions = from_clips([LINES[0], Clip(key="deep", joints_MTJC=space, layout="ntu25")])
    assert motions.dimensions == 3
    assert motions.has_depth.tolist() == [False, True]
    joints, seen = motions.gather(
        np.array([0, 1]), frame_NT=np.array([[1], [1]]), person_NM=np.zeros((2, 1), np.int64), layout="unik17"
    )
    assert joints.shape == (2, 1, 1, 17, 3)
    np.testing.assert_allclose(joints[0, 0, 0, 0], [10, 110, 0])  # the nose
    np.testing.assert_allclose(joints[1, 0, 0, 0], [1, 1, 7])
    assert seen.all()


def test_selecting_copies_no_joint() -> None:
    motions = from_clips(LINES)
    chosen = motions.select([2, 0])
    assert chosen.clips.key_N.tolist() == ["c", "a"]
    assert chosen.arrays[0].values is motions.arrays[0].values
    assert chosen.clip(1).captions == ("Walking.",)
    assert motions.split("test").clips.key_N.tolist() == ["b"]
    assert len(motions.select([])) == 0
    assert motions.splits == ("test", "train")
    with pytest.raises(KeyError, match="no split val"):
        motions.split("val")


def test_combined_sets_share_classes_and_sentences() -> None:
    one = from_clips(LINES[:2])
    two = from_clips([skeletons.counted("d", label="walk", captions=("Sitting.", "Running."))])
    both = combined([one, two])
    assert both.classes == ("run", "walk")
    assert both.sentences == ("Walking.", "Running.", "Sitting.")
    for number, clip in enumerate((*LINES[:2], two.clip(0))):
        assert both.clip(number).captions == clip.captions
        assert both.clip(number).label == clip.label
        assert (both.clip(number).joints_MTJC == clip.joints_MTJC).all()


def test_combined_text_vectors_follow_their_sentences() -> None:
    from dataclasses import replace

    one = replace(from_clips(LINES[:2]), text=vectors(np.array([[1.0], [2.0]], np.float32)))
    two = from_clips([skeletons.counted("d", captions=("Sitting.", "Running."))])
    assert combined([one, two]).text is None
    told = combined([one, replace(two, text=vectors(np.array([[3.0], [9.0]], np.float32)))])
    assert told.text is not None
    assert told.text.rows(np.arange(3)).tolist() == [[1], [2], [3]]


def test_malformed_clips_are_refused() -> None:
    with pytest.raises(LayoutError, match=r"clip a: joints \(1, 2, 17, 3\) are not"):
        Clip(key="a", joints_MTJC=np.zeros((1, 2, 17, 3), np.float32), layout="penn13", width=1, height=1)
    with pytest.raises(LayoutError, match="width and height"):
        Clip(key="a", joints_MTJC=np.zeros((1, 2, 17, 3), np.float32), layout="coco17")
    with pytest.raises(LayoutError, match="finite"):
        Clip(key="a", joints_MTJC=np.full((1, 2, 25, 4), np.nan, np.float32), layout="ntu25")
    with pytest.raises(ValueError, match="no key twice"):
        from_clips([LINES[0], LINES[0]])
    with pytest.raises(ValueError, match="not among the classes: walk"):
        from_clips(LINES, classes=["run"])


TEN = np.arange(10, dtype=np.float32)


def test_stretches_begin_where_asked_and_may_overlap() -> None:
    assert slices(TEN, np.array([[0, 7], [1, 2]]), 3).tolist() == [[[0, 1, 2], [7, 8, 9]], [[1, 2, 3], [2, 3, 4]]]
    assert slices(TEN, np.zeros((0, 2), np.int64), 3).shape == (0, 2, 3)


@pytest.mark.parametrize("start", [-1, 8])
def test_a_stretch_outside_is_refused(start: int) -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        slices(TEN, np.array([start]), 3)


def test_stretches_are_copies() -> None:
    taken = slices(TEN, np.array([0]), 2)
    taken[:] = -1
    assert TEN[0] == 0


def test_vectors_lie_in_several_maps_and_minus_one_is_zeros() -> None:
    store = Vectors((TEN, TEN * 10), np.array([0, 1, 1]), np.array([2, 0, 8]), 2)
    assert store.rows(np.array([2, -1, 0, 1])).tolist() == [[80, 90], [0, 0], [2, 3], [0, 10]]
    assert store.select(np.array([1])).rows(np.array([0, 0])).tolist() == [[0, 10], [0, 10]]


def test_joined_stores_count_on() -> None:
    store = concat_vectors([vectors(np.ones((2, 3), np.float32)), vectors(np.full((1, 3), 5, np.float32))])
    assert store.rows(np.array([2, 0])).tolist() == [[5, 5, 5], [1, 1, 1]]
    with pytest.raises(ValueError, match=r"lengths \[3, 4\]"):
        concat_vectors([store, vectors(np.ones((1, 4), np.float32))])


@pytest.mark.parametrize("store", [vectors(np.ones((2, 3), np.float32)), vectors(np.ones((0, 3), np.float32))])
def test_an_index_beyond_the_vectors_is_refused(store: Vectors) -> None:
    with pytest.raises(IndexError):
        store.rows(np.array([2, -1]))
    with pytest.raises(IndexError):
        store.rows(np.array([2]))
