"""What the recipes of evaluation are about: UNIK's settings, those for a CPU, and the paper's tables."""

from tmor_train.recipes.evaluation import RECIPES
from tmor_train.tables.paper import TABLES


def test_fine_tuning_has_the_settings_of_uniks_code() -> None:
    config = RECIPES["finetune"]()
    tune = config.tune
    assert (config.start.frames, config.start.choice, tune.batching.size, tune.epochs) == (150, "window", 8, 30)
    assert (tune.optimizer.method, tune.optimizer.lr, tune.optimizer.weight_decay) == ("sgd", 0.05, 5e-4)
    assert (tune.schedule.shape, tune.schedule.milestones) == ("steps", (10, 20))


def test_its_linear_probe_differs_in_what_is_trained_alone() -> None:
    whole, probe = RECIPES["finetune"](), RECIPES["probe_reference"]()
    assert (whole.tune.trains, probe.tune.trains, probe.tune.statistics) == ("all", "head", "adapting")
    assert (probe.start, probe.tune.optimizer, probe.tune.epochs) == (whole.start, whole.tune.optimizer, 30)


def test_probes_find_the_optimum_or_take_steps_on_unscaled_features() -> None:
    assert RECIPES["probe"]().linear.solver == "lbfgs"
    assert (RECIPES["probe_sgd"]().linear.solver, RECIPES["probe_sgd"]().linear.scale) == ("sgd", "none")


def test_few_labels_fill_their_batches() -> None:
    few, tuned = RECIPES["fewshot"](), RECIPES["finetune_cpu"]()
    assert (few.percent, few.tune.batching.last) == ((1.0, 5.0, 10.0), "fill")
    assert few.tune.optimizer == tuned.tune.optimizer


def test_zero_shot_by_movements_has_these_prompts_alone() -> None:
    assert RECIPES["zero_shot_movement"]().prompts == ("movement",)
    assert "movement" not in RECIPES["zero_shot"]().prompts


def test_every_table_of_the_paper_has_a_recipe() -> None:
    assert [name for name in RECIPES if RECIPES[name]().__class__.__name__ == "TableConfig"] == list(TABLES)
    assert all(RECIPES[name]().table == name for name in TABLES)
