"""Other works' methods differ from the base recipes in what is theirs alone."""

import pytest

from tmor_train.data.augment import Project
from tmor_train.methods import AimCLR, ClusterContrast, CrosSCLR, MotionCLIP, ViA
from tmor_train.methods.crosclr import STREAMS
from tmor_train.recipes.comparisons import RECIPES
from tmor_train.recipes.pretrain import pretrain_sets, stage1

METHODS = {
    "cluster_contrast": ClusterContrast,
    "crosclr": CrosSCLR,
    "aimclr": AimCLR,
    "motionclip": MotionCLIP,
    "via": ViA,
}


def test_each_method_is_there_for_shards_and_for_sets() -> None:
    assert list(RECIPES) == [*METHODS, *(f"sets_{name}" for name in METHODS)]


@pytest.mark.parametrize("name", RECIPES)
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
    assert {name for name, made in RECIPES.items() if made().clusters.when != "off"} == {
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
