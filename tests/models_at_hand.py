"""Weights of the embedded engines, or a skip that says why they cannot be had."""

import pytest

from posecap.models import MissingWeights, locate


def weights_or_skip(*names: str) -> None:
    for name in names:
        try:
            locate(name)
        except MissingWeights as error:
            pytest.skip(str(error))
