"""A sample as members and back."""

import json
from dataclasses import replace

import building
import numpy as np
import pytest

from posecap.shards import ShardError, members
from posecap.types import Caption


def packed(sample):
    return {name: memoryview(bytearray(head + bytes(body))) for name, (head, body) in members.pack(sample).items()}


def test_round_trip() -> None:
    sample = building.sample(people=2, frames=7)
    found = members.unpack(sample.key, packed(sample), video_mp4=b"mp4")
    for name in ("joints_MTJ3", "pts_T", "video_D", "text_CD"):
        assert np.array_equal(getattr(found, name), getattr(sample, name))
        assert getattr(found, name).dtype == getattr(sample, name).dtype
    assert found.captions == sample.captions
    assert dict(found.facts) == json.loads(json.dumps(sample.facts))
    assert found.video_mp4 == b"mp4"
    assert packed(found) == packed(sample)


def test_members_in_tar_order_with_the_first_caption_and_all_captions_with_origins() -> None:
    sample = replace(building.sample(), captions=(Caption("Grüße", "row"), Caption("walking", "label")))
    found = packed(sample)
    assert list(found) == ["joints", "pts", "video", "text", "txt", "json"]
    assert bytes(found["txt"]).decode() == "Grüße"
    assert json.loads(bytes(found["json"]))["captions"] == [
        {"text": "Grüße", "origin": "row"},
        {"text": "walking", "origin": "label"},
    ]


def test_arrays_that_do_not_lie_in_c_order_are_written_in_c_order() -> None:
    sample = building.sample(frames=4)
    turned = replace(sample, joints_MTJ3=np.asfortranarray(sample.joints_MTJ3), pts_T=np.repeat(sample.pts_T, 2)[::2])
    assert packed(turned) == packed(sample)


def test_another_dtype_or_axis_is_refused() -> None:
    sample = building.sample()
    with pytest.raises(ShardError, match=f"{sample.key}: joints is <f8"):
        members.pack(replace(sample, joints_MTJ3=sample.joints_MTJ3.astype(np.float64)))
    with pytest.raises(ShardError, match="video is <f4 with 2 axes"):
        members.pack(replace(sample, video_D=sample.video_D[None]))


@pytest.mark.parametrize("name", ["joints", "pts", "video", "text", "json"])
def test_a_missing_member_is_named(name: str) -> None:
    sample = building.sample()
    rest = {n: content for n, content in packed(sample).items() if n != name}
    with pytest.raises(ShardError, match=f"{sample.key}: member '{name}' is missing"):
        members.unpack(sample.key, rest)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"captions": 3}', b'{"captions": [{}]}', b"{}"]
)
def test_hostile_facts_are_refused(content: bytes) -> None:
    sample = building.sample()
    with pytest.raises(ShardError, match=sample.key):
        members.unpack(sample.key, {**packed(sample), "json": memoryview(content)})


def test_arrays_that_disagree_are_refused() -> None:
    one, other = building.sample(frames=4), building.sample(frames=5)
    with pytest.raises(ShardError, match=r"frames in pts_T is \(5,\), expected \(4,\)"):
        members.unpack(one.key, {**packed(one), "pts": packed(other)["pts"]})
