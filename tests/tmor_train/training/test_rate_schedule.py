"""The learning rate at chosen steps, worked out by hand."""

import pytest

from tmor_train.training.schedule import ScheduleConfig, rate_at


def rates(config: ScheduleConfig, *steps: int) -> list[float]:
    return [rate_at(step, config, steps_per_epoch=10, epochs=6) for step in steps]


def test_a_warm_up_then_half_a_cosine_down_to_the_floor() -> None:
    config = ScheduleConfig(warmup=2.0, floor=0.1)
    # 20 steps of warm-up; then 40 of cosine, in the middle of which is the mean of 1 and the floor.
    assert rates(config, 0, 9, 19, 20, 40, 60) == pytest.approx([0.05, 0.5, 1.0, 1.0, 0.55, 0.1])


def test_no_warm_up_begins_at_the_full_rate() -> None:
    assert rates(ScheduleConfig(warmup=0.0), 0, 30) == pytest.approx([1.0, 0.5])


def test_constant_and_steps() -> None:
    assert rates(ScheduleConfig(shape="constant", warmup=1.0), 4, 10, 59) == pytest.approx([0.5, 1, 1])
    stepped = ScheduleConfig(shape="steps", warmup=0.0, drops=(2, 4))
    assert rates(stepped, 19, 20, 39, 40) == pytest.approx([1, 0.1, 0.1, 0.01])


def test_a_floor_above_the_full_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="floor from 0 to 1"):
        ScheduleConfig(floor=1.5)
