"""Dividing an epoch among ranks and workers, and what is left of it after interruptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecap.sample_order import Pass, Rest, Shuffle, StateError, Uneven, in_order

divisions = st.builds(
    Pass,
    world_size=st.integers(1, 4),
    workers=st.integers(1, 4),
    batch_size=st.integers(1, 6),
    drop_last=st.booleans(),
)
SHUFFLE = Shuffle(seed=3, epoch=1, buffer=4)


def given_by(rest: Rest, rank: int, shuffle: Shuffle = SHUFFLE) -> list[list[int]]:
    """Batches of a rank as a DataLoader gives them: one of each worker in turn."""
    shares = []
    for worker in range(rest.current.workers):
        share = rest.share(rank, worker, shuffle)
        epoch = dict(zip(share.numbers.tolist(), np.concatenate([*share.rounds, []]).astype(int).tolist(), strict=True))
        shares.append([epoch[number] for number in share.order])
    size, batches = rest.current.batch_size, []
    while any(shares):
        for share in shares:
            batch, share[:] = share[:size], share[size:]
            if len(batch) == size or (batch and not rest.current.drop_last):
                batches.append(batch)
    return batches


def begun(total: int, uneven: Uneven, division: Pass, passes: Sequence[Pass] = ()) -> Rest:
    return Rest.of(total, uneven, passes, division)


@given(total=st.integers(0, 60), division=divisions, seed=st.one_of(st.none(), st.just(7)))
@settings(max_examples=100, deadline=None)
def test_all_ranks_have_as_many_batches_and_nothing_is_lost(total: int, division: Pass, seed: int | None) -> None:
    shuffle = Shuffle(seed, 0, 4)
    world = range(division.world_size)
    for uneven in ("repeat", "drop", "keep"):
        rest = begun(total, uneven, division)  # type: ignore[arg-type]
        batches = [given_by(rest, rank, shuffle) for rank in world]
        assert [len(found) for found in batches] == [rest.batches(rank, shuffle) for rank in world]
        assert all(len(batch) == division.batch_size for found in batches for batch in found[:-1])
        if uneven != "keep":
            assert len({len(found) for found in batches}) == 1
        if not division.drop_last:
            counts = Counter(number for found in batches for batch in found for number in batch)
            if uneven == "drop":
                assert set(counts.values()) <= {1}
                assert total - len(counts) == total % division.world_size
            else:
                assert sorted(counts) == list(range(total))
                assert uneven == "repeat" or counts.total() == total
                assert counts.total() - total < division.world_size


@given(
    total=st.integers(1, 60),
    first=divisions,
    share=st.floats(0, 1),
    rank=st.integers(0, 3),
    uneven=st.sampled_from(["repeat", "drop", "keep"]),
)
@settings(max_examples=100, deadline=None)
def test_the_same_division_goes_on_exactly(total: int, first: Pass, share: float, rank: int, uneven: Any) -> None:
    rank %= first.world_size
    whole = given_by(begun(total, uneven, first), rank)
    had = round(share * len(whole))
    stopped = Pass(*first.as_numbers()[:3], first.drop_last, had)
    rest = begun(total, uneven, first, [stopped])
    assert given_by(rest, rank) == whole[had:]
    assert rest.batches(rank, SHUFFLE) == len(whole) - had


@given(
    total=st.integers(1, 60),
    chosen=st.lists(st.tuples(divisions, st.integers(0, 5)), min_size=1, max_size=4),
    last=divisions,
    uneven=st.sampled_from(["repeat", "keep"]),
)
@settings(max_examples=100, deadline=None)
def test_another_division_gives_the_others(total: int, chosen: list[tuple[Pass, int]], last: Pass, uneven: Any) -> None:
    passes: list[Pass] = []
    had: set[int] = set()
    for division, delivered in [*chosen, (last, 10**6)]:
        division = Pass(*division.as_numbers()[:3], False)
        rest = begun(total, uneven, division, passes)
        batches = [given_by(rest, rank) for rank in range(division.world_size)]
        now = {number for found in batches for batch in found[:delivered] for number in batch}
        may_repeat = uneven == "repeat" and rest.current.delivered  # of a pass that goes on, the same few
        assert len(now & had) <= (division.world_size - 1 if may_repeat else 0)
        had |= now
        passes = [*rest.ended, Pass(*division.as_numbers()[:3], False, rest.current.delivered + delivered)]
    assert had == set(range(total))


def test_the_buffer_mixes_no_farther_than_its_size() -> None:
    order = list(SHUFFLE.order(5, 30, consumer=0, number=0))
    assert sorted(order) == list(range(5, 30))
    assert order != sorted(order)
    assert all(number - 5 - place <= 4 for place, number in enumerate(order))


def test_what_is_read_early_is_held_until_its_turn() -> None:
    read = iter([(1, "a"), (2, "b"), (4, "c")])
    assert list(in_order(iter([2, 4, 1]), read)) == ["b", "c", "a"]


@pytest.mark.parametrize(
    "numbers",
    [
        [1, 1, 1, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 1, 1, 0, -1],
        [1, 1, 1, 0, 2.0],
        "abcde",
        5,
        [1 << 40, 1, 1, 0, 0],
    ],
)
def test_what_is_no_pass_is_refused(numbers: Any) -> None:
    with pytest.raises(StateError, match="the state is damaged"):
        Pass.from_numbers(numbers)
