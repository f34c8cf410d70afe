"""Samples of different numbers of people, frames and captions as one batch of padded, masked tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from posecap.shards.layout import ShardError


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch: arrays padded with zeros and stacked, everything else in lists.

    Returns:
        joints_BMTJ3 and frames_BMT (bool, True where a person's frame is there at all), pts_BT and frames_BT (bool),
        video_BD, text_BCD and captions_BC (bool); ``key``, ``captions`` and ``facts`` as lists. Padded axes are as
        long as the batch's longest.

    Raises:
        ShardError: samples differ in their joints or vector lengths and so do not fit one batch.
    """
    batch: dict[str, Any] = {"key": [sample["key"] for sample in samples]}
    for name in ("captions", "facts"):
        if name in samples[0]:
            batch[name] = [sample[name] for sample in samples]
    try:
        if "joints" in samples[0]:
            batch["joints_BMTJ3"], batch["frames_BMT"] = _pad_people([sample["joints"] for sample in samples])
        if "pts" in samples[0]:
            batch["pts_BT"], batch["frames_BT"] = _pad([sample["pts"] for sample in samples])
        if "video" in samples[0]:
            batch["video_BD"] = torch.stack([sample["video"] for sample in samples])
        if "text" in samples[0]:
            batch["text_BCD"], batch["captions_BC"] = _pad([sample["text"] for sample in samples])
    except RuntimeError as error:
        raise ShardError(f"samples {batch['key'][0]} … do not fit one batch: {error}") from error
    return batch


def _pad(tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack tensors that differ in their first axis, with a mask of what is there."""
    mask = pad_sequence([torch.ones(len(tensor), dtype=torch.bool) for tensor in tensors], batch_first=True)
    return pad_sequence(tensors, batch_first=True), mask


def _pad_people(joints: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack (M, T, J, 3) tensors that differ in M and T, with a mask (B, M, T)."""
    most, longest = (max(tensor.shape[axis] for tensor in joints) for axis in (0, 1))
    padded = joints[0].new_zeros(len(joints), most, longest, *joints[0].shape[2:])
    mask = torch.zeros(len(joints), most, longest, dtype=torch.bool)
    for number, tensor in enumerate(joints):
        people, frames = tensor.shape[:2]
        if tensor.shape[2:] != padded.shape[3:]:  # assignment would silently repeat a single joint
            raise RuntimeError(f"joints of shape {tuple(tensor.shape)} beside {tuple(joints[0].shape)}")
        padded[number, :people, :frames] = tensor
        mask[number, :people, :frames] = True
    return padded, mask
