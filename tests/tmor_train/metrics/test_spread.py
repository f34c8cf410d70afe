"""Student's interval, against its table."""

import math

import pytest

from tmor_train.metrics.spread import spread


def test_three_seeds() -> None:
    found = spread([90, 92, 94])
    assert found.mean == 92
    assert found.half_width == pytest.approx(4.303 * 2 / math.sqrt(3), rel=1e-3)


def test_one_seed_has_no_interval() -> None:
    assert spread([90]).mean == 90
    assert math.isnan(spread([90]).half_width)


def test_a_higher_confidence_is_wider() -> None:
    assert spread([1, 2], confidence=0.99).half_width > spread([1, 2]).half_width


@pytest.mark.parametrize(("values", "confidence"), [([], 0.95), ([1, 2], 1.0), ([1, 2], 0.0)])
def test_what_has_no_interval_is_refused(values: list[float], confidence: float) -> None:
    with pytest.raises(ValueError, match="have no interval"):
        spread(values, confidence=confidence)
