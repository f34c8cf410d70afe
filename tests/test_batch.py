"""Batches of unequal samples."""

import pytest
import torch

from posecap.batch import collate
from posecap.shards import ShardError


def sample(key: str, people: int, frames: int, captions: int) -> dict:
    return {
        "key": key,
        "joints": torch.full((people, frames, 17, 3), float(people)),
        "pts": torch.arange(1, frames + 1, dtype=torch.float64),
        "video": torch.ones(6),
        "text": torch.full((captions, 4), 2.0),
        "captions": ["c"] * captions,
        "facts": {"layout": "coco17"},
    }


def test_padded_axes_have_masks() -> None:
    batch = collate([sample("a", 2, 3, 1), sample("b", 1, 5, 2)])
    assert batch["key"] == ["a", "b"]
    assert batch["joints_BMTJ3"].shape == (2, 2, 5, 17, 3)
    assert batch["joints_BMTJ3"].dtype == torch.float32
    assert batch["frames_BMT"].tolist() == [[[True] * 3 + [False] * 2] * 2, [[True] * 5, [False] * 5]]
    assert batch["joints_BMTJ3"].sum(dim=(3, 4)).tolist() == [[[102.0] * 3 + [0.0] * 2] * 2, [[51.0] * 5, [0.0] * 5]]
    assert batch["pts_BT"].tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]]
    assert batch["pts_BT"].dtype == torch.float64
    assert batch["frames_BT"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch["video_BD"].shape == (2, 6)
    assert batch["text_BCD"][:, :, 0].tolist() == [[2, 0], [2, 2]]
    assert batch["captions_BC"].tolist() == [[True, False], [True, True]]
    assert batch["captions"] == [["c"], ["c", "c"]]
    assert batch["facts"] == [{"layout": "coco17"}] * 2


def test_fields_that_are_not_there_stay_away() -> None:
    assert set(collate([{"key": "a", "video": torch.ones(2)}])) == {"key", "video_BD"}


def test_no_captions_at_all() -> None:
    batch = collate([sample("a", 1, 1, 0), sample("b", 1, 1, 0)])
    assert batch["text_BCD"].shape == (2, 0, 4)
    assert batch["captions_BC"].shape == (2, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"joints": torch.zeros(1, 2, 13, 3)},
        {"joints": torch.zeros(1, 2, 1, 3)},
        {"video": torch.ones(7)},
        {"text": torch.ones(1, 5)},
    ],
)
def test_what_does_not_fit_one_batch_is_named(change: dict) -> None:
    with pytest.raises(ShardError, match="samples a … do not fit one batch"):
        collate([sample("a", 1, 2, 1), {**sample("b", 1, 2, 1), **change}])
