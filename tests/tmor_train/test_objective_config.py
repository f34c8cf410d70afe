"""Words and ranges are checked when a config is made, and the message names the field."""

import dataclasses

import pytest

from tmor_train.objective_config import ObjectiveConfig


def test_the_defaults_are_the_faithful_readings():
    config = ObjectiveConfig()
    assert (config.positive_reduction, config.mv_positives, config.mt_negatives) == ("inside", "own", "both")
    assert (config.noise, config.symmetric, config.keys, config.temperature) == ("singleton", "off", "ema", "fixed")
    assert config.max_positives is config.num_negatives is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("positive_reduction", "between"),
        ("noise", "keep"),
        ("text_head", "cnn"),
        ("max_positives", 0),
        ("queue_size", -1),
        ("momentum", 1.0),
        ("temperature_mt", 0.001),
        ("temperature_mm", float("nan")),
        ("w_mv", -1.0),
        ("w_mm", float("inf")),
    ],
)
def test_what_cannot_be_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        ObjectiveConfig(**{field: value})


def test_some_loss_must_have_a_weight():
    with pytest.raises(ValueError, match="not all 0"):
        ObjectiveConfig(w_mm=0, w_mv=0, w_mt=0)


def test_variants_derive_from_one_another():
    stage_1 = dataclasses.replace(ObjectiveConfig(), w_mt=0.0)
    assert stage_1 != ObjectiveConfig()
    assert hash(stage_1) == hash(ObjectiveConfig(w_mt=0.0))
