"""CrosSCLR's pool, losses and encoder of three streams."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tmor_train.encoder import EncoderConfig
from tmor_train.losses.queue import Entries, Queue
from tmor_train.methods.base import Pool, multi_positive_info_nce, nearest_of, pool_of
from tmor_train.methods.crosclr import CrosSCLR, StreamEncoders, cross_stream_loss


def units(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def entries(keys: Tensor, index: Sequence[int]) -> Entries:
    nobody = torch.zeros(len(keys), dtype=torch.bool)
    return Entries(
        motion_KD=keys,
        video_KDv=None,
        text_KDt=None,
        has_video_K=nobody,
        has_text_K=nobody,
        index_K=torch.tensor(index),
        text_id_K=torch.full((len(keys),), -1),
    )


def filled() -> tuple[Queue, Entries]:
    """A queue of five places with keys of clips 7, 1 and 9, and fresh keys of clips 1, 2 and 3."""
    torch.manual_seed(0)
    queue = Queue(5, motion=6, video=None, text=None).double()
    queue.enqueue(entries(units(3, 6), [7, 1, 9]))
    return queue, entries(units(3, 6), [1, 2, 3])


def test_the_pool_is_the_batch_and_the_queue_without_older_keys_of_the_clip_and_empty_places() -> None:
    queue, fresh = filled()
    pool = pool_of(queue, fresh, first=1, count=2)  # the second process's two queries, clips 2 and 3
    assert pool.own_N.tolist() == [1, 2]
    assert pool.valid_NK.tolist() == [[True] * 6 + [False] * 2] * 2
    first = pool_of(queue, fresh, first=0, count=1)
    assert first.valid_NK.tolist() == [[True, True, True, True, False, True, False, False]]
    assert first.others.tolist() == [[False, True, True, True, False, True, False, False]]
    assert first.own.tolist() == [[True] + [False] * 7]


def test_nearest_are_those_of_the_others() -> None:
    others = torch.tensor([[False, True, True, True], [False, False, True, False]])
    near = nearest_of(torch.tensor([[0.9, 0.1, 0.5, 0.4], [0.9, 0.8, 0.1, 0.7]]), others, 2)
    assert near.tolist() == [[False, False, True, True], [False, False, True, False]]


def plain_crossed(similar: Sequence[Tensor], u: int, pool: Pool, temperature: float) -> float:
    """Clip by clip and stream by stream."""
    total = 0.0
    for n in range(len(pool.own_N)):
        own = int(pool.own_N[n])
        others = [k for k in range(pool.valid_NK.shape[1]) if pool.valid_NK[n, k] and k != own]
        for v in range(3):
            if v == u:
                continue
            near = max(others, key=lambda k: float(similar[v][n, k]))
            logits = {("key", k): float(similar[u][n, k]) for k in [own, *others]}
            logits |= {("context", k): float(similar[u][n, k] * similar[v][n, k]) for k in others}
            scale = sum(math.exp(value / temperature) for value in logits.values())
            positives = [("key", own), ("key", near), ("context", near)]
            total -= sum(logits[p] / temperature - math.log(scale) for p in positives) / len(positives) / 2
    return total / len(pool.own_N)


@pytest.mark.parametrize("u", [0, 1, 2])
def test_streams_mine_for_each_other(u: int) -> None:
    queue, fresh = filled()
    pool = pool_of(queue, fresh, first=0, count=3)
    similar = [units(3, 6) @ pool.keys_KD.T for _ in range(3)]
    found = cross_stream_loss(similar, u, pool, temperature=0.07, nearest=1)
    assert float(found) == pytest.approx(plain_crossed(similar, u, pool, 0.07))


def test_with_the_own_key_alone_it_is_info_nce() -> None:
    queue, fresh = filled()
    pool = pool_of(queue, fresh, first=0, count=3)
    logits = pool.similarities(units(3, 6)) / 0.07
    wanted = 0.0
    for n in range(3):
        scale = sum(math.exp(float(logits[n, k])) for k in range(8) if pool.valid_NK[n, k])
        wanted -= math.log(math.exp(float(logits[n, n])) / scale) / 3
    assert float(multi_positive_info_nce(logits, pool.own, pool.valid_NK)) == pytest.approx(wanted)


def test_the_encoder_gives_the_mean_of_three() -> None:
    torch.manual_seed(0)
    encoder = CrosSCLR().encoder(EncoderConfig(channels=6), layout="unik17", persons=1).eval()
    assert isinstance(encoder, StreamEncoders)
    clips = torch.randn(2, 6, 8, 17, 1)
    each = encoder.each(clips, torch.ones(2, 1))
    assert not torch.allclose(each[0], each[1])
    torch.testing.assert_close(encoder.clip_features(clips), sum(each) / 3)
    with pytest.raises(ValueError, match="channels is 4"):
        CrosSCLR().encoder(EncoderConfig(channels=4), layout="unik17", persons=1)
