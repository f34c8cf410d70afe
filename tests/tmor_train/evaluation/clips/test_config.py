"""Settings of clip evaluations that are refused."""

from functools import partial
from typing import Any

import pytest

from tmor_train.evaluation.clips.config import (
    DescentConfig,
    ExactConfig,
    FewShotConfig,
    LinearConfig,
    ProbeConfig,
    RawConfig,
    TuneConfig,
)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (DescentConfig, {"rates": ()}),
        (DescentConfig, {"rates": (0.1, 0.0)}),
        (DescentConfig, {"batch": 0}),
        (DescentConfig, {"epochs": 0}),
        (DescentConfig, {"weight_decay": -1.0}),
        (ExactConfig, {"strengths": ()}),
        (ExactConfig, {"strengths": (-1.0,)}),
        (ExactConfig, {"iterations": 0}),
        (RawConfig, {"frames": 0}),
        (partial(ProbeConfig, recipe="r", about="a"), {"people": 0}),
        (TuneConfig, {"smoothing": 1.0}),
        (TuneConfig, {"dropout": -0.1}),
        (TuneConfig, {"head_lr_ratio": 0.0}),
        (TuneConfig, {"average": 1.0}),
        (TuneConfig, {"epochs": 0}),
        (TuneConfig, {"checkpoint_steps": 0}),
        (TuneConfig, {"workers": -1}),
    ],
)
def test_values_out_of_their_range_are_refused(kind: Any, values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(ValueError, match=name):
        kind(**values)


@pytest.mark.parametrize("number", [0.0, float("nan"), float("inf")])
def test_settings_that_are_no_numbers_above_zero_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="rates are above 0"):
        DescentConfig(rates=(0.1, number))
    with pytest.raises(ValueError, match="strengths are above 0"):
        ExactConfig(strengths=(1.0, number))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"percent": ()}, "one percent"),
        ({"percent": (1.0, 0.0)}, "above 0 and up to 100"),
        ({"percent": (101.0,)}, "above 0 and up to 100"),
        ({"modes": ()}, "at least one mode"),
        ({"steps": 0}, "steps is at least 1"),
        ({"linear": LinearConfig()}, "nothing is chosen on a hold-out: name one rate, or one strength"),
        ({"linear": LinearConfig(solver="sgd")}, "name one rate"),
    ],
)
def test_few_labels_leave_nothing_to_choose_on(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FewShotConfig(recipe="r", about="a", **values)


def test_only_the_solver_that_is_used_needs_one_setting() -> None:
    linear = LinearConfig(solver="sgd", descent=DescentConfig(rates=(0.1,)))
    assert len(linear.exact.strengths) > 1
    assert FewShotConfig(recipe="r", about="a", linear=linear).linear is linear
