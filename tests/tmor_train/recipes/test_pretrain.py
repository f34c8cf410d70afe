"""The paper's stages and their variants; encoders of skeleton sets have seen no clip that is tested on. Ablations and
other works' methods differ from what they derive from in what is theirs alone; MoCo is its paper's equation."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from posecap.types import PartName
from tests import built
from tests.interrupted import assert_same_bytes, straight_and_resumed
from tmor_train.configuration import as_json, changed
from tmor_train.data.augment import EstimatorError, Noise, Project
from tmor_train.data.datasets import SETS
from tmor_train.data_sources import DataConfig
from tmor_train.methods import AimCLR, ClusterContrast, CrosSCLR, Dense, MotionCLIP, ViA
from tmor_train.methods.crosclr import STREAMS
from tmor_train.methods.tmor import Anchors, Objective
from tmor_train.recipes import pretrain as stages
from tmor_train.recipes.pretrain import RECIPES, pretrain_sets, stage1
from tmor_train.training.config import PretrainConfig


def test_stages_are_the_papers() -> None:
    one, two = RECIPES["stage1"](), RECIPES["stage2"]()
    assert (one.objective.w_mm, one.objective.w_mv, one.objective.w_mt) == (1, 1, 0)
    assert (two.objective.w_mm, two.objective.w_mv, two.objective.w_mt) == (1, 1, 1)
    assert (one.loop.start, two.loop.start) == ("scratch", "checkpoint")
    assert (one.objective.queue_size, one.objective.momentum, one.objective.temperature_mm) == (65_536, 0.999, 0.07)
    assert (one.optimizer.method, one.optimizer.lr, one.batching.size, one.loop.epochs) == ("sgd", 0.1, 256, 65)


def test_variants_differ_only_where_they_say_so() -> None:
    one, cpu = RECIPES["stage1"](), RECIPES["stage1_cpu"]()
    assert cpu.encoder == one.encoder
    assert cpu.views == one.views
    assert cpu.optimizer.method == "adamw"


def test_sets_in_space_are_seen_from_random_sides_and_clustered_from_one() -> None:
    views = RECIPES["pretrain_sets"]().views
    assert [type(step) for step in (views.anchor[0], views.positive[0])] == [Project, Project]
    assert views.still == (Project(yaw=0.0, pitch=0.0, camera="orthographic"),)


def test_no_clip_that_is_tested_on() -> None:
    sets = dict(words.partition(":")[::2] for words in RECIPES["sets_train"]().data.sets)
    assert set(sets) == {"penn_action", "utd_mhad", "msr_action3d"}  # nothing of SBU, all of which is tested on
    assert set(sets.values()) == {"train"}


def test_nothing_of_penn_and_all_of_the_others() -> None:
    config = RECIPES["sets_no_penn"]()
    assert set(config.data.sets) == set(SETS) - {"penn_action"}
    assert config.data.texts == "datasets/movements.parquet"
    assert config.objective.text_head == "identity"
    assert config.objective.width == 384  # as long as the sentences' vectors


@pytest.mark.parametrize("name", ["sets_no_penn", "sets_train"])
def test_both_views_come_out_flat(name: str) -> None:
    """Clips in space and in pictures share a batch, so the first step of each view makes them plane."""
    views = RECIPES[name]().views
    for view in (views.anchor, views.positive, views.still):
        assert type(view[0]).__name__ == "Project"


def test_estimated_joints_differ_from_recorded_ones_in_their_errors_alone() -> None:
    made, base = RECIPES["sets_estimated"](), RECIPES["sets_train"]()
    for view, plain in ((made.views.anchor, base.views.anchor), (made.views.positive, base.views.positive)):
        assert view == (*(step for step in plain if not isinstance(step, Noise)), EstimatorError())
    assert replace(made, recipe=base.recipe, about=base.about, views=base.views) == base


METHODS = {
    "cluster_contrast": ClusterContrast,
    "crosclr": CrosSCLR,
    "aimclr": AimCLR,
    "motionclip": MotionCLIP,
    "via": ViA,
}
# Dense is T-MOR with more losses; its recipes are tested where it is (tests/tmor_train/methods/test_dense.py).
OF_METHODS = [name for name, made in RECIPES.items() if not isinstance(made().method, Dense | None)]


def test_each_method_is_there_for_shards_and_for_sets() -> None:
    assert [*METHODS, *(f"sets_{name}" for name in METHODS)] == OF_METHODS


@pytest.mark.parametrize("name", OF_METHODS)
def test_data_lengths_and_optimizer_are_those_of_the_base(name: str) -> None:
    made, base = RECIPES[name](), pretrain_sets() if name.startswith("sets_") else stage1()
    assert isinstance(made.method, METHODS[name.removeprefix("sets_")])
    for field in ("sampling", "batching", "optimizer", "schedule", "loop"):
        assert getattr(made, field) == getattr(base, field)
    assert (made.data.shards, made.data.sets) == (base.data.shards, base.data.sets)
    assert (made.data.texts is None) == (name != "sets_motionclip")
    assert made.about.startswith("skeleton sets: ") == name.startswith("sets_")


def test_the_vectors_of_motionclip_are_those_of_its_data() -> None:
    shards, sets = RECIPES["motionclip"]().objective, RECIPES["sets_motionclip"]().objective
    assert (shards.width, shards.w_mv, shards.w_mt) == (768, 1.0, 1.0)
    assert (sets.width, sets.w_mv, sets.w_mt) == (384, 0.0, 1.0)
    assert all((made.w_mm, made.video_head, made.text_head) == (0.0, "identity", "identity") for made in (shards, sets))


def test_neighbours_count_from_the_middle_of_a_run_on() -> None:
    for prefix in ("", "sets_"):
        crosclr, aimclr = RECIPES[f"{prefix}crosclr"](), RECIPES[f"{prefix}aimclr"]()
        assert crosclr.method.cross_from == crosclr.loop.epochs // 2
        assert aimclr.method.mine_from == aimclr.loop.epochs // 2


def test_streams_widen_the_encoder() -> None:
    made = RECIPES["crosclr"]()
    assert made.views.streams == ("joint", "motion", "bone")
    assert made.encoder.channels == STREAMS * stage1().encoder.channels


def test_only_cluster_contrast_clusters_and_does_so_before_the_first_epoch() -> None:
    assert {name for name in OF_METHODS if RECIPES[name]().clusters.when != "off"} == {
        "cluster_contrast",
        "sets_cluster_contrast",
    }
    clusters = RECIPES["cluster_contrast"]().clusters
    assert (clusters.first, clusters.of, clusters.how.metric) == (0, "online", "jaccard")


def test_views_of_skeletons_in_space_begin_with_a_projection() -> None:
    for name in ("sets_aimclr", "sets_via"):
        views = RECIPES[name]().views
        assert [type(view[0]) for view in (views.anchor, views.positive)] == [Project, Project]
    views = RECIPES["via"]().views
    assert [type(step).__name__ for step in (*views.anchor, *views.positive)] == ["Rotate", "Shear"]


NAMES = ("recipe", "about")


def differences(one: PretrainConfig, other: PretrainConfig) -> set[str]:
    """The settings that differ, by path."""

    def flat(value: object, at: str) -> dict[str, object]:
        if not isinstance(value, dict):
            return {at: value}
        return {path: leaf for name, item in value.items() for path, leaf in flat(item, f"{at}.{name}").items()}

    here, there = flat(as_json(one), ""), flat(as_json(other), "")
    paths = {path.removeprefix(".") for path in here | there if here.get(path) != there.get(path)}
    return paths - set(NAMES)


@pytest.mark.parametrize(
    ("name", "weights", "start"),
    [
        ("ablation_mm", (1, 0, 0), "scratch"),
        ("ablation_mv", (0, 1, 0), "scratch"),
        ("ablation_mt", (0, 0, 1), "scratch"),
        ("ablation_mm_mv", (1, 1, 0), "scratch"),
        ("ablation_mm_mt", (1, 0, 1), "checkpoint"),
        ("ablation_all", (1, 1, 1), "checkpoint"),
        ("sets_mm", (1, 0, 0), "scratch"),
        ("sets_mt", (0, 0, 1), "scratch"),
        ("sets_mm_mt", (1, 0, 1), "scratch"),
    ],
)
def test_rows_of_losses(name: str, weights: tuple[float, ...], start: str) -> None:
    config = RECIPES[name]()
    assert (config.objective.w_mm, config.objective.w_mv, config.objective.w_mt) == weights
    assert config.loop.start == start


@pytest.mark.parametrize(
    ("name", "base", "changes"),
    [
        ("ablation_mm_mv", stages.stage1, set()),
        ("ablation_all", stages.stage2, set()),
        ("ablation_mm", stages.stage1, {"objective.w_mv"}),
        ("ablation_mm_mt", stages.stage2, {"objective.w_mv"}),
        ("ablation_queue_65536", stages.stage1, set()),
        ("ablation_queue_4096", stages.stage1, {"objective.queue_size"}),
        ("ablation_agcn", stages.stage1, {"encoder.backbone"}),
        ("sets_mm_mt", stages.pretrain_sets, set()),
        ("sets_mm", stages.pretrain_sets, {"objective.w_mt", "data.texts"}),
        ("sets_queue_256", stages.pretrain_sets, {"objective.queue_size"}),
        ("sets_stgcn", stages.pretrain_sets, {"encoder.backbone"}),
    ],
)
def test_only_what_is_studied_differs(name: str, base: Callable[[], PretrainConfig], changes: set[str]) -> None:
    assert differences(RECIPES[name](), base()) == changes


def test_rows_with_text_say_whose_weights_they_go_on_from() -> None:
    assert "from ablation_mm's" in RECIPES["ablation_mm_mt"]().about
    assert "from ablation_mm_mv's" in RECIPES["ablation_all"]().about


def plain_info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> float:
    """Eq. 1 of MoCo, clip by clip; the other keys of the batch and the queue are negatives."""
    total = 0.0
    for n in range(len(queries)):
        own = math.exp(float(queries[n] @ keys[n]) / temperature)
        others = sum(math.exp(float(queries[n] @ keys[m]) / temperature) for m in range(len(keys)) if m != n)
        others += sum(math.exp(float(queries[n] @ key) / temperature) for key in queue)
        total -= math.log(own / (own + others))
    return total / len(queries)


def test_moco_is_its_equation_also_with_older_keys_of_the_same_clip_in_the_queue() -> None:
    config = changed(
        RECIPES["moco"](), ["objective.queue_size=8", "objective.motion_head=identity", "objective.width=6"]
    )
    torch.manual_seed(0)
    objective = Objective(config.objective, features=6).double()

    def anchors(index: list[int]) -> Anchors:
        drawn = torch.nn.functional.normalize(torch.randn(2, len(index), 6, dtype=torch.float64), dim=2)
        return Anchors(features_ND=drawn[0], keys_ND=drawn[1], index_N=torch.tensor(index))

    first, second = anchors([0, 1, 2]), anchors([2, 3])
    objective.after_step(objective(first, None).fresh)
    found = float(objective(second, None).total)
    with_all = [
        plain_info_nce(second.features_ND[n : n + 1], second.keys_ND[[n]], queue, 0.07)
        for n, queue in (
            (0, torch.cat([second.keys_ND[1:], first.keys_ND[:2]])),  # clip 2's older key is left out
            (1, torch.cat([second.keys_ND[:1], first.keys_ND])),
        )
    ]
    assert found == pytest.approx(sum(with_all) / 2, rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_encoders")
@pytest.mark.parametrize("name", ["moco_cpu", "sets_moco", "sets_mm"])
def test_stopped_in_the_middle_and_resumed_ends_in_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tmor_train.training.pretrain.plot", lambda folder: "no plots")
    built.build(tmp_path / "shards", {PartName("train", 0): built.samples(9, people=1, frames=10)})
    tiny = (
        "sampling.frames=8 batching.size=4 batching.last=drop loop.epochs=2 loop.checkpoint_steps=1 loop.workers=0 "
        "clusters.first=1 loop.device=cpu"
    )
    sized = changed(RECIPES[name](), tiny.split())
    config = replace(sized, data=DataConfig(shards=(str(tmp_path / "shards"),)))
    straight, again = straight_and_resumed(config, tmp_path, monkeypatch, dies_before=3)
    assert_same_bytes(straight, again, steps=4)
    assert (straight["learner"]["clusters"]["labels"] is None) == (name != "sets_mm")
