"""What the memories hold, in which order they forget, and that empty slots are nobody."""

import pytest
import torch

from tmor_train.losses.queue import Entries, MemoryBank, NoQueue, Queue, build_memory
from tmor_train.objective_config import ObjectiveConfig


def entries(*clips: int) -> Entries:
    """Clip c has the key (c, 1), the video (c, c, c) and the sentence c + 10."""
    index_K = torch.tensor(clips)
    key_K = index_K.float()
    return Entries(
        motion_KD=torch.stack([key_K, torch.ones(len(clips))], 1),
        video_KDv=key_K[:, None].repeat(1, 3),
        text_KDt=None,
        has_video_K=torch.ones(len(clips), dtype=torch.bool),
        has_text_K=torch.zeros(len(clips), dtype=torch.bool),
        index_K=index_K,
        text_id_K=index_K + 10,
    )


def queue(slots: int) -> Queue:
    return Queue(slots, motion=2, video=3, text=None)


def test_the_queue_forgets_the_oldest_first():
    memory = queue(5)
    seen = []
    for batch in ((1, 2, 3), (4, 5, 6), (7, 8)):
        memory.enqueue(entries(*batch))
        seen.append(sorted(memory.slots().index_K.tolist()))
    assert seen == [[-1, -1, 1, 2, 3], [2, 3, 4, 5, 6], [4, 5, 6, 7, 8]]
    assert memory.filled.item() == 5
    slots = memory.slots()
    assert torch.equal(slots.motion_KD[:, 0], slots.index_K.float())
    assert torch.equal(slots.video_KDv[:, 2], slots.index_K.float())
    assert torch.equal(slots.text_id_K, slots.index_K + 10)
    assert slots.has_video_K.all()


def test_empty_slots_are_nobody():
    memory = queue(4)
    assert memory.filled.item() == 0
    memory.enqueue(entries(3))
    slots = memory.slots()
    assert slots.index_K.tolist() == [3, -1, -1, -1]
    assert slots.has_video_K.tolist() == [True, False, False, False]


def test_of_a_batch_larger_than_the_queue_its_last_entries_stay():
    memory = queue(2)
    memory.enqueue(entries(1, 2, 3, 4, 5))
    memory.enqueue(entries(6))
    assert sorted(memory.slots().index_K.tolist()) == [5, 6]


def test_the_queue_goes_on_where_a_checkpoint_left_it():
    one, two = queue(5), queue(5)
    one.enqueue(entries(1, 2, 3))
    two.load_state_dict(one.state_dict())
    for memory in (one, two):
        memory.enqueue(entries(4, 5, 6))
    assert all(torch.equal(one.state_dict()[name], part) for name, part in two.state_dict().items())
    assert two.cursor.item() == 1


def test_the_queue_keeps_no_gradient():
    memory = queue(2)
    fresh = entries(1)
    memory.enqueue(fresh.map(lambda part: part.requires_grad_() if part.is_floating_point() else part))
    assert not memory.slots().motion_KD.requires_grad


def test_the_bank_averages_the_keys_of_a_clip():
    bank = MemoryBank(4, momentum=0.2, motion=2, video=3, text=None)
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    clip = entries(2)
    for key in (first, second):
        bank.enqueue(Entries(**{**parts(clip), "motion_KD": key}))
    expected = torch.tensor([0.2, 0.8]) / torch.tensor([0.2, 0.8]).norm()
    assert torch.allclose(bank.slots().motion_KD[2], expected)
    assert bank.slots().index_K.tolist() == [-1, -1, 2, -1]


def parts(of: Entries) -> dict[str, torch.Tensor | None]:
    return {name: getattr(of, name) for name in Entries.__dataclass_fields__}


def test_a_clip_of_the_batch_is_not_also_met_in_the_bank():
    bank = MemoryBank(4, momentum=0.2, motion=2, video=3, text=None)
    bank.enqueue(entries(0, 2, 3))
    assert bank.negatives(entries(2, 1)).index_K.tolist() == [0, -1, -1, 3]
    assert bank.filled.item() == 3


def test_entries_are_joined_with_what_both_have():
    joined = entries(1, 2).concat(entries(3))
    assert joined.index_K.tolist() == [1, 2, 3]
    assert joined.video_KDv.shape == (3, 3)
    assert joined.text_KDt is None


def test_the_config_names_the_memory():
    def named(**choices: object) -> object:
        return build_memory(ObjectiveConfig(queue_size=3, **choices), video=None, text=None, clips=9)

    assert isinstance(named(), Queue)
    assert isinstance(named(negatives="memory_bank"), MemoryBank)
    assert isinstance(named(negatives="batch"), NoQueue)
    assert len(named(negatives="memory_bank").slots().index_K) == 9
    with pytest.raises(ValueError, match="how many clips"):
        build_memory(ObjectiveConfig(negatives="memory_bank"), video=None, text=None, clips=None)
