"""The objective against the paper's equations as loops, and against the ways in which such a loss goes wrong."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import plain_objective
from tests.plain_objective import Clip
from tmor_train import objective_config as words
from tmor_train.methods.tmor import Anchors, Objective, ObjectiveOutput
from tmor_train.objective_config import ObjectiveConfig

torch.set_num_threads(1)

WIDTH = 4
IDENTITY: dict[str, Any] = {
    "motion_head": "identity",
    "video_head": "identity",
    "text_head": "identity",
    "width": WIDTH,
    "keys": "same",
}
CHOICES = {
    "positive_reduction": words.Reduction,
    "mv_positives": words.Positives,
    "mt_positives": words.Positives,
    "mt_negatives": words.TextNegatives,
    "own_copies": words.Copies,
    "noise": words.Noise,
    "symmetric": words.Switch,
}


@dataclasses.dataclass
class Case:
    """A batch and a filled queue of random vectors, for few clips, so that all relations occur."""

    anchors: Anchors
    queued: dict[str, torch.Tensor]
    cluster_of: torch.Tensor | None


def case(seed: int, *, batch: int = 3, queue: int = 6, clips: int = 7, clustered: bool = True) -> Case:
    """Random, but each clip has one text and one cluster for good."""
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int) -> torch.Tensor:
        return torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64)

    def draw(low: int, high: int, count: int) -> torch.Tensor:
        return torch.randint(low, high, (count,), generator=generator)

    text_of, cluster_of = draw(-1, 3, clips), draw(-1, 3, clips)
    has_video_of = draw(0, 4, clips) > 0
    index_N, index_K = torch.randperm(clips, generator=generator)[:batch], draw(-1, clips, queue)
    there_K = index_K >= 0
    anchors = Anchors(
        features_ND=normal(batch),
        keys_ND=normal(batch),
        index_N=index_N,
        video_NDv=normal(batch),
        text_NDt=normal(batch),
        text_id_N=text_of[index_N],
        has_video_N=has_video_of[index_N],
    )
    queued = {
        "motion_KD": torch.nn.functional.normalize(normal(queue), dim=1),
        "video_KDv": normal(queue),
        "text_KDt": normal(queue),
        "index_K": index_K,
        "text_id_K": torch.where(there_K, text_of[index_K], -1),
        "has_video_K": there_K & has_video_of[index_K],
        "has_text_K": there_K & (text_of[index_K] >= 0),
    }
    return Case(anchors, queued, cluster_of if clustered else None)


def objective_of(config: ObjectiveConfig, given_case: Case) -> Objective:
    """In float64, its queue filled with the case's."""
    queue = len(given_case.queued["index_K"])
    config = dataclasses.replace(config, queue_size=queue)
    objective = Objective(config, features=WIDTH, video=WIDTH, text=WIDTH).double()
    for name, part in given_case.queued.items():
        objective.memory.get_buffer(name).copy_(part)
    return objective


def plain_pool(given_case: Case) -> list[Clip]:
    """The batch's candidates and the taken slots of the queue."""
    a, q, labels = given_case.anchors, given_case.queued, given_case.cluster_of
    rows = [
        (a.index_N, a.text_id_N, a.keys_ND, a.video_NDv, a.has_video_N, a.text_NDt, a.text_id_N >= 0),
        (
            q["index_K"],
            q["text_id_K"],
            q["motion_KD"],
            q["video_KDv"],
            q["has_video_K"],
            q["text_KDt"],
            q["has_text_K"],
        ),
    ]
    return [
        Clip(
            clip=int(index),
            label=-1 if labels is None else int(labels[index]),
            text_id=int(text_id),
            motion=motion.tolist(),
            video=video.tolist() if has_video else None,
            text=text.tolist() if has_text else None,
        )
        for part in rows
        for index, text_id, motion, video, has_video, text, has_text in zip(*part, strict=True)
        if index >= 0
    ]


def check(config: ObjectiveConfig, given_case: Case) -> ObjectiveOutput:
    """All three losses and their sum are those of the loops."""
    losses = objective_of(config, given_case)(given_case.anchors, given_case.cluster_of)
    pool, anchors = plain_pool(given_case), given_case.anchors.features_ND.tolist()
    expected = 0.0
    for kind, term in (("mm", losses.mm), ("mv", losses.mv), ("mt", losses.mt)):
        value, counted = plain_objective.loss(kind, anchors, pool, config, clustered=given_case.cluster_of is not None)
        assert term.loss.item() == pytest.approx(value, rel=1e-9, abs=1e-9), kind
        assert term.anchors.item() == counted, kind
        expected += value
    assert losses.total.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    return losses


@pytest.mark.parametrize("words_chosen", list(itertools.product(*map(get_args, CHOICES.values()))), ids="-".join)
def test_every_combination_of_readings_is_its_equation(words_chosen):
    config = ObjectiveConfig(**IDENTITY, **dict(zip(CHOICES, words_chosen, strict=True)), temperature_mv=0.5)
    check(config, case(1, queue=8))


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries({name: st.sampled_from(get_args(kind)) for name, kind in CHOICES.items()}),
    st.integers(0, 2**20),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(5, 12),
    st.booleans(),
)
def test_any_batch_and_queue_is_its_equation(chosen, seed, batch, queue, clips, clustered):
    check(ObjectiveConfig(**IDENTITY, **chosen), case(seed, batch=batch, queue=queue, clips=clips, clustered=clustered))


def test_the_order_of_the_pool_changes_nothing():
    given_case = case(5, queue=40, clips=60)
    given_case.queued["index_K"].copy_(torch.randperm(60, generator=torch.Generator().manual_seed(1))[:40])
    config = ObjectiveConfig(**IDENTITY, num_negatives=6, max_positives=2)
    before = objective_of(config, given_case)(given_case.anchors, given_case.cluster_of)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = Case(given_case.anchors, {n: part[order] for n, part in given_case.queued.items()}, None)
    after = objective_of(config, shuffled)(given_case.anchors, given_case.cluster_of)
    assert before.mm.negatives.item() == 6
    assert after.metrics() == pytest.approx(before.metrics(), rel=1e-12)


@pytest.mark.parametrize("reduction", get_args(words.Reduction))
@pytest.mark.parametrize("symmetric", get_args(words.Switch))
def test_gradients_are_right(reduction, symmetric):
    given_case = case(1, batch=3, queue=4)
    config = ObjectiveConfig(
        positive_reduction=reduction, symmetric=symmetric, keys="same", width=3, temperature="learned"
    )
    config = dataclasses.replace(config, temperature_mm=0.5, temperature_mv=0.5, temperature_mt=0.5)
    given_case.queued["motion_KD"] = given_case.queued["motion_KD"][:, :3]
    torch.manual_seed(0)
    objective = objective_of(config, given_case)
    names = [name for name, _ in objective.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in objective.parameters()]
    features = given_case.anchors.features_ND.clone().requires_grad_()
    keys = given_case.anchors.keys_ND.clone().requires_grad_()

    def total(features, keys, *values):
        anchors = dataclasses.replace(given_case.anchors, features_ND=features, keys_ND=keys)
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(objective, state, (anchors, given_case.cluster_of)).total

    assert torch.autograd.gradcheck(total, (features, keys, *values))


def one_cluster(reduction: str, spread: float, **more: Any) -> ObjectiveOutput:
    """Eight clips in one cluster; each has a direction of its own, by which it stands out from a common one."""
    config = ObjectiveConfig(**{**IDENTITY, "width": 9}, positive_reduction=reduction, negatives="batch", **more)
    directions = torch.cat([torch.ones(8, 1), spread * torch.eye(8)], 1)
    anchors = Anchors(
        features_ND=directions,
        keys_ND=directions,
        index_N=torch.arange(8),
        video_NDv=directions,
        text_NDt=directions,
        text_id_N=torch.arange(8),
    )
    return Objective(config, features=9, video=9, text=9)(anchors, torch.zeros(8, dtype=torch.int64))


@pytest.mark.parametrize("reduction", get_args(words.Reduction))
@pytest.mark.parametrize("mt_negatives", get_args(words.TextNegatives))
def test_one_cluster_does_not_reward_collapse(reduction, mt_negatives):
    collapsed = one_cluster(reduction, 0.0, mt_negatives=mt_negatives)
    apart = one_cluster(reduction, 10.0, mt_negatives=mt_negatives)
    for term in (collapsed.mm, collapsed.mv):
        assert term.alone.item() == 1
        assert term.without_negatives.item() == 1
        assert term.loss.item() == pytest.approx(math.log(8), abs=1e-5)
        assert term.collapsed.item() == pytest.approx(math.log(8), abs=1e-5)
    assert collapsed.mt.loss.item() == pytest.approx(math.log(8), abs=1e-5)
    assert apart.total.item() < 0.1 < collapsed.total.item()


def test_anchors_without_negatives_are_left_out_and_counted():
    config = ObjectiveConfig(**IDENTITY, negatives="batch", noise="drop")
    given_case = case(0, batch=4)
    labels = torch.full((7,), -1)
    labels[given_case.anchors.index_N[:2]] = torch.tensor([0, 0])
    objective = Objective(config, features=WIDTH, video=WIDTH, text=WIDTH).double()
    # Both in one cluster, the others dropped as noise: no negatives at all, so each of the four stands for itself.
    alone = objective(given_case.anchors, labels).mm
    assert (alone.alone.item(), alone.anchors.item(), alone.negatives.item()) == (1, 4, 3)
    # A third in another cluster is a negative of the two, and they are its own.
    labels[given_case.anchors.index_N[2]] = 1
    guided = objective(given_case.anchors, labels).mm
    assert (guided.alone.item(), guided.anchors.item(), guided.negatives.item()) == (0, 3, pytest.approx(4 / 3))


def test_a_clip_alone_has_no_loss_and_no_gradient():
    objective = Objective(ObjectiveConfig(queue_size=3, keys="same"), features=5, video=6, text=7)
    features = torch.randn(1, 5, requires_grad=True)
    losses = objective(Anchors(features_ND=features, keys_ND=features, index_N=torch.tensor([0])), None)
    losses.total.backward()
    assert losses.total.item() == 0
    assert losses.mm.anchors.item() == losses.mv.anchors.item() == losses.mt.anchors.item() == 0
    assert features.grad.abs().max().item() == 0


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries({name: st.sampled_from(get_args(kind)) for name, kind in CHOICES.items()}),
    st.integers(0, 2**20),
    st.sampled_from([0.0, 1e-30, 1.0, 1e15]),
    st.sampled_from(["one", "noise", "none", "mixed"]),
)
def test_no_number_is_ever_nan(chosen, seed, size, clusters):
    config = ObjectiveConfig(
        **chosen,
        width=WIDTH,
        queue_size=8,
        max_positives=2,
        num_negatives=3,
        temperature_mm=0.01,
        temperature="learned",
    )
    objective = Objective(config, features=WIDTH, video=WIDTH, text=WIDTH)
    cluster_of = {"one": torch.zeros(7), "noise": -torch.ones(7), "mixed": torch.arange(7) % 3 - 1.0}.get(clusters)
    labels = None if cluster_of is None else cluster_of.long()
    for step in range(3):
        anchors = case(seed + step).anchors
        features = (anchors.features_ND.float() * size).requires_grad_()
        video = anchors.video_NDv.float().masked_fill(~anchors.has_video_N[:, None], math.nan)
        anchors = dataclasses.replace(
            anchors, features_ND=features, keys_ND=anchors.keys_ND.float(), video_NDv=video, text_NDt=features.detach()
        )
        losses = objective(anchors, labels)
        losses.total.backward()
        objective.after_step(losses.fresh)
        assert all(math.isfinite(number) for number in losses.metrics().values())
        assert features.grad.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())


def test_half_precision_stops_at_the_heads():
    torch.manual_seed(0)
    objective = Objective(ObjectiveConfig(queue_size=8, width=8), features=WIDTH, video=WIDTH, text=WIDTH)
    anchors = as_single(case(0, batch=6).anchors)
    full = objective(anchors, None)
    with torch.autocast("cpu", torch.bfloat16):
        half = objective(anchors, None)
    assert half.total.dtype == half.fresh[0].motion_KD.dtype == torch.float32
    assert half.total.item() == pytest.approx(full.total.item(), rel=0.05)
    assert half.total.item() != full.total.item()
    # bf16 keeps 8 bits: a cosine that went through it would be off by more than this.
    assert half.fresh[0].motion_KD.norm(dim=1).sub(1).abs().max().item() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("negatives", get_args(words.Negatives))
@pytest.mark.parametrize("clustered", [True, False])
def test_the_objective_is_one_graph(negatives, clustered):
    config = ObjectiveConfig(
        negatives=negatives, queue_size=8, width=4, symmetric="on", max_positives=2, num_negatives=3, noise="drop"
    )
    torch.manual_seed(0)
    objective = Objective(config, features=WIDTH, video=WIDTH, text=WIDTH, clips=7).double()
    given_case = case(0, clustered=clustered)
    plain = objective(given_case.anchors, given_case.cluster_of)
    torch._dynamo.reset()
    compiled = torch.compile(objective, backend="eager", fullgraph=True)(given_case.anchors, given_case.cluster_of)
    assert compiled.metrics() == plain.metrics()


def test_a_resumed_objective_goes_on_bit_for_bit():
    def train(objective: Objective, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
        totals = []
        for step in steps:
            given_case = case(step)
            losses = objective(given_case.anchors, given_case.cluster_of)
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()
            objective.after_step(losses.fresh)
            totals.append(losses.total.item())
        return totals

    def start() -> tuple[Objective, torch.optim.Optimizer]:
        torch.manual_seed(3)
        config = ObjectiveConfig(queue_size=7, width=4, num_negatives=3, temperature="learned", momentum=0.5)
        objective = Objective(config, features=WIDTH, video=WIDTH, text=WIDTH).double()
        return objective, torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1, momentum=0.9)

    whole = train(*start(), range(8))
    first, optimizer = start()
    assert train(first, optimizer, range(5)) == whole[:5]
    second, resumed = start()
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    assert train(second, resumed, range(5, 8)) == whole[5:]


def test_the_second_stage_inherits_heads_and_starts_with_an_empty_queue():
    torch.manual_seed(0)
    first = Objective(ObjectiveConfig(w_mt=0, queue_size=4), features=WIDTH, video=WIDTH)
    losses = first(as_single(case(0).anchors), None)
    first.after_step(losses.fresh)
    second = Objective(ObjectiveConfig(queue_size=4), features=WIDTH, video=WIDTH, text=WIDTH)
    taken = second.load_pretrained(first.state_dict())
    assert "motion_head.layers.0.weight" in taken
    assert torch.equal(second.video_head.layers[0].weight, first.video_head.layers[0].weight)
    assert second.memory.filled.item() == 0 < first.memory.filled.item()
    with pytest.raises(ValueError, match="give both the same heads and width"):
        Objective(ObjectiveConfig(width=5), features=WIDTH, video=WIDTH, text=WIDTH).load_pretrained(first.state_dict())


def as_single(anchors: Anchors) -> Anchors:
    """The same in float32."""
    parts = {field.name: getattr(anchors, field.name) for field in dataclasses.fields(anchors)}
    return Anchors(
        **{
            name: part.float() if part is not None and part.is_floating_point() else part
            for name, part in parts.items()
        }
    )


def test_a_loss_without_data_is_refused():
    with pytest.raises(ValueError, match="set w_mt=0"):
        Objective(ObjectiveConfig(), features=WIDTH, video=WIDTH)
    objective = Objective(ObjectiveConfig(w_mv=0, queue_size=4), features=WIDTH, text=WIDTH)
    anchors = dataclasses.replace(as_single(case(0).anchors), text_id_N=None)
    with pytest.raises(ValueError, match="text_id_N"):
        objective(anchors, None)


def test_a_loss_of_weight_nothing_is_not_there():
    objective = Objective(ObjectiveConfig(w_mm=0, w_mt=0, queue_size=4), features=WIDTH, video=WIDTH, text=WIDTH)
    losses = objective(as_single(case(0).anchors), None)
    assert losses.mm is losses.mt is objective.text_head is None
    assert losses.total.item() == losses.mv.loss.item()


def test_gathered_anchors_find_their_own_candidates():
    given_case = case(2, batch=4)
    config = ObjectiveConfig(**IDENTITY, negatives="batch")
    whole = Objective(config, features=WIDTH, video=WIDTH, text=WIDTH).double()
    together = whole(given_case.anchors, given_case.cluster_of)
    halves = []
    for first in (0, 2):
        rows = slice(first, first + 2)
        part = {f.name: getattr(given_case.anchors, f.name) for f in dataclasses.fields(Anchors)}
        anchors = Anchors(**{name: None if value is None else value[rows] for name, value in part.items()})
        ranked = Objective(
            config, features=WIDTH, video=WIDTH, text=WIDTH, gather=lambda _, first=first: (together.fresh[0], first)
        )
        halves.append(ranked.double()(anchors, given_case.cluster_of))
    weights = [half.mm.anchors.item() for half in halves]
    mean = sum(w * half.mm.loss.item() for w, half in zip(weights, halves, strict=True)) / sum(weights)
    assert mean == pytest.approx(together.mm.loss.item())


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
