"""Settings of evaluations that are refused."""

from typing import Any

import pytest

from tmor_train.configuration import ConfigError, changed
from tmor_train.evaluation.config import HoldOut, StartConfig, TaskConfig, TTAConfig
from tmor_train.recipes import recipe


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (HoldOut, {"share": 0.0}, "share lies between 0 and 1"),
        (HoldOut, {"share": 1.0}, "share lies between 0 and 1"),
        (HoldOut, {"seed": -1}, "seed is at least 0"),
        (TTAConfig, {"crops": 0}, "at least 1"),
        (TTAConfig, {"batch": 0}, "at least 1"),
    ],
)
def test_values_out_of_their_range_are_refused(kind: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**values)


@pytest.mark.parametrize(
    "name", ["probe", "logistic", "finetune", "fewshot", "detect_probe", "detect_events_cpu", "table1"]
)
def test_no_seed_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="seeds has at least one number"):
        changed(recipe(name), ["seeds="])


def test_the_test_part_is_what_is_measured_unless_it_is_said() -> None:
    assert TaskConfig().part == "test"
    assert TaskConfig().holdout == HoldOut(share=0.2, by="clips", seed=0)
    assert (TTAConfig().crops, TTAConfig().mirrored) == (1, "off")
    assert (StartConfig().weights, StartConfig().of, StartConfig().frames) == (None, None, None)
