from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from posecap.shards import ShardError, remove_samples
from posecap.types import Caption, PartName
from tests import building, built
from tmor_train.data import Batching, Loader, MotionSet, Sampling, read_shards


def same(one: MotionSet, other: MotionSet) -> None:
    assert len(one) == len(other)
    for number in range(len(one)):
        left, right = one.clip(number), other.clip(number)
        assert (left.joints_MTJC == right.joints_MTJC).all()
        for name in ("key", "layout", "fps", "width", "height", "label", "captions", "split"):
            assert getattr(left, name) == getattr(right, name)
    assert one.video is not None
    assert other.video is not None
    assert one.text is not None
    assert other.text is not None
    assert (one.video.rows(one.clips.video_N) == other.video.rows(other.clips.video_N)).all()
    assert one.sentences == other.sentences
    every = np.arange(len(one.sentences))
    assert (one.text.rows(every) == other.text.rows(every)).all()


def test_columns_and_tars_give_the_samples_as_written(tmp_path: Path) -> None:
    written = [sample for part in built.build(tmp_path).values() for sample in part]
    mapped = read_shards(tmp_path)
    assert mapped.clips.key_N.tolist() == [sample.key for sample in written]
    for number, sample in enumerate(written):
        assert (mapped.clip(number).joints_MTJC == sample.joints_MTJ3).all()
        assert mapped.video is not None
        assert (mapped.video.rows(mapped.clips.video_N[[number]])[0] == sample.video_D).all()
        assert mapped.clip(number).captions == tuple(caption.text for caption in sample.captions)
        assert mapped.clip(number).label == sample.facts["label"]
    same(mapped, read_shards(tmp_path, read="tar"))
    same(mapped, read_shards(f"file://{tmp_path}"))


def test_each_sentence_keeps_its_vector(tmp_path: Path) -> None:
    words = [("One.", "Two."), ("Two.",), ("Three.", "One.")]
    samples = [
        building.sample(
            row=building.row(row_id=f"row-{number}"), captions=tuple(Caption(word, "row") for word in said), seed=number
        )
        for number, said in enumerate(words)
    ]
    built.build(tmp_path, {PartName("train", 0): samples})
    motions = read_shards(tmp_path)
    assert motions.sentences == ("One.", "Two.", "Three.")
    assert motions.caption_K.tolist() == [0, 1, 1, 2, 0]
    assert motions.text is not None
    want = [samples[0].text_CD[0], samples[0].text_CD[1], samples[2].text_CD[0]]
    assert (motions.text.rows(np.arange(3)) == np.stack(want)).all()
    same(motions, read_shards(tmp_path, read="tar"))


def test_removed_samples_are_not_there(tmp_path: Path) -> None:
    written = [sample.key for part in built.build(tmp_path).values() for sample in part]
    parts = {path: path.read_bytes() for folder in ("data", "index") for path in (tmp_path / folder).rglob("*.*")}
    remove_samples(tmp_path, [written[1]], "asked")
    remaining = [key for key in written if key != written[1]]
    assert read_shards(tmp_path).clips.key_N.tolist() == remaining
    for path, content in parts.items():  # an old copy of the parts comes back; the tombstones stand
        path.write_bytes(content)
    assert read_shards(tmp_path).clips.key_N.tolist() == remaining
    same(read_shards(tmp_path), read_shards(tmp_path, read="tar"))


def test_one_split_and_none_of_the_vectors(tmp_path: Path) -> None:
    built.build(
        tmp_path, {PartName("train", 0): built.samples(2), PartName("val", 0): built.samples(1, first=7, split="val")}
    )
    motions = read_shards(tmp_path, split="val", video="leave", text="leave")
    assert motions.splits == ("val",)
    assert motions.video is None
    assert motions.text is None
    batch = next(iter(Loader(motions, sampling=Sampling(frames=4), batching=Batching(size=1))))
    assert batch.video_ND is None
    assert not batch.has_video_N.any()


@pytest.mark.parametrize("read", ["columns", "tar"])
def test_vectors_of_several_lengths_can_be_left_out(read: Literal["columns", "tar"], tmp_path: Path) -> None:
    one = building.sample(row=building.row(row_id="row-0"), captions=(Caption("One.", "row"),), seed=0)
    other = building.sample(row=building.row(row_id="row-1"), captions=(Caption("Two.", "row"),), seed=1)
    other = replace(other, video_D=other.video_D[:3].copy(), text_CD=other.text_CD[:, :2].copy())
    built.build(tmp_path, {PartName("train", 0): [one], PartName("train", 1): [other]})
    with pytest.raises(ShardError, match="choose one split, or leave them out"):
        read_shards(tmp_path, read=read, text="leave")
    with pytest.raises(ShardError, match="choose one split, or leave them out"):
        read_shards(tmp_path, read=read, video="leave")
    motions = read_shards(tmp_path, read=read, video="leave", text="leave")
    assert (motions.video, motions.text, motions.clips.video_N.tolist()) == (None, None, [-1, -1])
    assert len(motions.sentences) > 0


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no such folder"):
        read_shards(tmp_path / "nowhere")
    built.build(tmp_path)
    with pytest.raises(ShardError, match="no samples of split 'test'"):
        read_shards(tmp_path, split="test")
    with pytest.raises(ShardError, match="not on a local disk"):
        read_shards("memory://dataset", read="columns")
    (tmp_path / "data/train/pose-00003.columns").unlink()
    with pytest.raises(ShardError, match=r"pose-00003\.columns is missing"):
        read_shards(tmp_path)


def test_columns_of_another_part_are_refused(tmp_path: Path) -> None:
    built.build(tmp_path)
    train = tmp_path / "data/train"
    (train / "pose-00003.columns").write_bytes((train / "pose-00000.columns").read_bytes())
    with pytest.raises(ShardError, match="other samples"):
        read_shards(tmp_path)
