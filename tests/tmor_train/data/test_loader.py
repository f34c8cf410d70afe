from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import skeletons
from tmor_train.data import Batching, Loader, LoaderState, MotionBatch, MotionSet, ProcessRank, Sampling, from_clips
from tmor_train.data.dataset import vectors
from tmor_train.data.loader import hashes, permutation, uniform

torch.set_num_threads(1)


def some(count: int = 23) -> MotionSet:
    motions = from_clips(
        skeletons.counted(
            f"clip-{n:02d}",
            frames=3 + n % 5,
            people=1 + n % 2,
            label=f"class {n % 3}",
            captions=(f"Number {n}.", "Any."),
        )
        for n in range(count)
    )
    text = vectors(np.arange(len(motions.sentences), dtype=np.float32)[:, None])
    rows = np.where(np.arange(count) % 4 == 3, -1, np.arange(count))
    video = vectors(np.arange(count, dtype=np.float32)[:, None] + 100)
    return replace(motions, text=text, video=video, clips=replace(motions.clips, video_N=rows))


MOTIONS = some()


def loader(**changes: Any) -> Loader:
    batching = {name: changes.pop(name) for name in ("size", "order", "last", "seed") if name in changes}
    return Loader(
        MOTIONS,
        sampling=changes.pop("sampling", Sampling(frames=4, people=2, by="first")),
        batching=Batching(**{"size": 4, "last": "keep", **batching}),
        **changes,
    )


def equal(one: MotionBatch, other: MotionBatch) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(MotionBatch)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def numbers(batches: list[MotionBatch]) -> list[int]:
    return [index for batch in batches for index in batch.index_N.tolist()]


def test_places_are_taken_from_a_rank_on() -> None:
    """Clip 3 has two people, clip 6 one: the second of the two alone, and nobody."""
    both, second = (
        loader(
            order="stored", sampling=Sampling(frames=4, people=people, by="first", rank=rank, draw="deterministic")
        ).gather(np.array([3, 6]))
        for people, rank in ((2, 0), (1, 1))
    )
    assert second.people.tolist() == [[True], [False]]
    torch.testing.assert_close(second.motion_NCTVM[0, ..., 0], both.motion_NCTVM[0, ..., 1])
    with pytest.raises(ValueError, match="rank is at least 0, not -1"):
        Sampling(rank=-1)


def test_a_batch_holds_what_its_clips_hold() -> None:
    batch = loader(order="stored", sampling=Sampling(frames=4, people=2, draw="deterministic", layout="coco17")).gather(
        np.array([3, 6])
    )
    assert batch.motion_NCTVM.shape == (2, 2, 4, 17, 2)
    # Clip 3 has 6 frames: the middles of four parts are frames 0, 2, 3, 5. Joint 2 of person 0 is at 10 t + .02.
    across = torch.tensor([0.02, 20.02, 30.02, 50.02]) / 320 - 1
    torch.testing.assert_close(batch.motion_NCTVM[0, 0, :, 2, 0], across)
    torch.testing.assert_close(batch.motion_NCTVM[0, 1, :, 2, 0], across + 1 + 100 / 320 - 0.75)
    assert batch.people.tolist() == [[True, True], [True, False]]
    assert batch.present.shape == (2, 2, 4)
    assert not batch.motion_NCTVM[1, ..., 1].any()
    assert batch.label_N.tolist() == [0, 0]
    assert batch.text_id_N.tolist() == [MOTIONS.sentences.index("Number 3."), MOTIONS.sentences.index("Number 6.")]
    assert batch.text_ND is not None
    assert batch.text_ND.flatten().tolist() == batch.text_id_N.tolist()
    assert batch.has_video_N.tolist() == [False, True]
    assert batch.video_ND is not None
    assert batch.video_ND.flatten().tolist() == [0, 106]


def test_every_clip_comes_once_an_epoch_in_another_order() -> None:
    data = loader()
    first, second = numbers(list(data)), numbers(list(data))
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    assert first == numbers(list(loader()))
    assert first != numbers(list(loader(seed=1)))
    assert numbers(list(loader(order="stored"))) == list(range(23))


def test_workers_change_nothing() -> None:
    for one, two in zip(loader(workers=0), loader(workers=3, ahead=1), strict=True):
        assert equal(one, two)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.integers(0, 4),
    before=st.integers(1, 3),
    after=st.integers(1, 3),
    size=st.integers(1, 9),
    workers=st.integers(0, 2),
)
def test_training_goes_on_with_the_clips_that_remain(
    steps: int, before: int, after: int, size: int, workers: int
) -> None:
    """Stopped after some steps on some ranks, and begun again on others, with another batch size and other workers."""
    seen: list[int] = []
    states = set()
    for rank in range(before):
        data = loader(process=ProcessRank(rank, before), size=2)
        batches = iter(data)
        seen += numbers([batch for batch in (next(batches, None) for _ in range(steps)) if batch is not None])
        states.add(data.state)
    assert len(states) == 1
    state = states.pop()
    for rank in range(after):
        data = loader(process=ProcessRank(rank, after), size=size, workers=workers)
        data.state = state
        seen += numbers(list(data))
        assert data.state == LoaderState(state.epoch + 1, 0)
    assert sorted(seen) == list(range(23))


def test_a_clip_is_drawn_alike_whoever_gathers_it() -> None:
    alone = {int(batch.index_N[0]): batch for batch in loader(size=1)}
    for batch in loader(process=ProcessRank(1, 2), size=5):
        for at, index in enumerate(batch.index_N.tolist()):
            assert torch.equal(batch.motion_NCTVM[at], alone[index].motion_NCTVM[0])
            assert batch.text_id_N[at] == alone[index].text_id_N[0]


def test_random_draws_differ_between_epochs_and_centre_draws_do_not() -> None:
    index = np.arange(23)
    data = loader()
    assert not equal(data.gather(index, epoch=0), data.gather(index, epoch=1))
    still = loader(sampling=Sampling(frames=4, draw="deterministic"))
    assert equal(still.gather(index, epoch=0), still.gather(index, epoch=1))


def test_the_state_counts_what_was_handed_out_not_what_was_made_ready() -> None:
    data = loader(workers=2, ahead=3)
    batches = iter(data)
    next(batches)
    assert data.state == LoaderState(0, 4)
    next(batches)
    assert data.state == LoaderState(0, 8)
    assert len(data) == 4


@pytest.mark.parametrize(("last", "sizes"), [("drop", [4, 4]), ("keep", [4, 4, 3]), ("fill", [4, 4, 4])])
def test_the_last_batch(last: Any, sizes: list[int]) -> None:
    for rank in range(2):
        data = loader(last=last, process=ProcessRank(rank, 2))
        assert len(data) == len(sizes)
        got = [len(batch) for batch in data]
        assert got == sizes if rank == 0 or last != "keep" else got == [4, 4, 4]


def test_filling_up_repeats_the_epochs_first_clips() -> None:
    batches = list(loader(last="fill", order="stored", size=10))
    assert batches[-1].index_N.tolist() == [20, 21, 22, 0, 1, 2, 3, 4, 5, 6]
    assert next(iter(loader(last="fill", order="stored", size=50))).index_N.tolist() == [
        *range(23),
        *range(23),
        *range(4),
    ]


def test_more_ranks_than_clips_leave_some_without() -> None:
    sizes = [[len(batch) for batch in loader(process=ProcessRank(rank, 30), size=1)] for rank in range(30)]
    assert sum(sum(size) for size in sizes) == 23
    assert all(len(size) == 1 for size in sizes)


def test_windows_and_their_padding() -> None:
    padded = loader(sampling=Sampling(frames=8, choice="window", draw="deterministic", layout="coco17")).gather(
        np.array([0, 1])
    )
    assert padded.present[:, 0].tolist() == [[False] * 5 + [True] * 3, [False] * 4 + [True] * 4]
    looped = loader(
        sampling=Sampling(frames=8, choice="window", draw="deterministic", padding="loop", layout="coco17")
    ).gather(np.array([0]))
    across = torch.tensor([0.0, 10, 20, 0, 10, 20, 0, 10]) / 320 - 1
    torch.testing.assert_close(looped.motion_NCTVM[0, 0, :, 0, 0], across)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"frames": 0}, {"choice": "some"}, {"draw": "never"}, {"padding": "hold"}, {"by": "name"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Sampling(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rank 2"):
        ProcessRank(2, 2)
    with pytest.raises(ValueError, match="last is"):
        Batching(last="lose")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beyond the 23 clips"):
        loader().state = LoaderState(0, 24)
    with pytest.raises(ValueError, match="workers"):
        loader(workers=-1)


def test_numbers_depend_on_names_and_place_alone() -> None:
    whole = uniform(7, 3, 1, index_N=np.arange(100), count=5)
    alone = uniform(7, 3, 1, index_N=np.array([42]), count=5)
    assert (whole[42] == alone[0]).all()
    assert (uniform(7, 3, 1, index_N=np.arange(100), count=2) == whole[:, :2]).all()


def test_other_seeds_epochs_and_purposes_draw_others() -> None:
    index = np.arange(1000)
    drawn = [hashes(*names, index_N=index) for names in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    for number, one in enumerate(drawn):
        assert len(np.unique(one)) == 1000
        assert not any((one == other).any() for other in drawn[:number])


def test_numbers_are_even_over_zero_to_one() -> None:
    drawn = uniform(0, 0, 1, index_N=np.arange(20_000), count=3)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.abs(drawn.mean(0) - 0.5).max() < 0.01
    assert np.abs(np.histogram(drawn, 10)[0] / 6000 - 1).max() < 0.06
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.03


@given(count=st.integers(0, 300), seed=st.integers(0, 2**62), epoch=st.integers(0, 1000))
def test_a_permutation_holds_every_number_once(count: int, seed: int, epoch: int) -> None:
    order = permutation(seed, epoch, 0, count=count)
    assert sorted(order.tolist()) == list(range(count))
    assert (order == permutation(seed, epoch, 0, count=count)).all()


def test_permutations_of_epochs_differ() -> None:
    assert (permutation(0, 0, 0, count=50) != permutation(0, 1, 0, count=50)).any()
    assert (permutation(0, 0, 0, count=50) != np.arange(50)).any()
