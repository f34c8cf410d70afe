"""Clips become candidates; what they lack becomes zeros and a mask."""

import math

import pytest
import torch

from tmor_train.losses.anchors import Anchors

KEYS = torch.eye(2)


def anchors(**more: torch.Tensor) -> Anchors:
    return Anchors(features_ND=KEYS, keys_ND=KEYS, index_N=torch.tensor([4, 9]), **more)


def test_absent_vectors_are_zeros_whatever_the_data_holds_there():
    video = torch.tensor([[1.0, 2.0, 3.0], [math.nan, math.nan, math.nan]])
    entries = anchors(video_NDv=video, has_video_N=torch.tensor([True, False])).entries(KEYS, video=3, text=5)
    assert entries.video_KDv.tolist() == [[1, 2, 3], [0, 0, 0]]
    assert entries.has_video_K.tolist() == [True, False]
    assert entries.text_KDt.shape == (2, 5)
    assert not entries.has_text_K.any()
    assert entries.text_id_K.tolist() == [-1, -1]


def test_all_have_what_no_mask_denies():
    entries = anchors(video_NDv=torch.ones(2, 3)).entries(KEYS, video=3, text=None)
    assert entries.has_video_K.all()
    assert entries.text_KDt is None


def test_a_text_without_a_name_is_no_text():
    named = anchors(text_NDt=torch.ones(2, 3), text_id_N=torch.tensor([-1, 0])).entries(KEYS, video=None, text=3)
    assert named.has_text_K.tolist() == [False, True]
    with pytest.raises(ValueError, match="text_id_N"):
        anchors(text_NDt=torch.ones(2, 3)).entries(KEYS, video=None, text=3)
