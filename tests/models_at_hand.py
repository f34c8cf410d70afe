"""Weights of the embedded engines, or a skip that says why they cannot be had."""

import pytest

from posecap.models import MissingWeightsError, locate


def weights_or_skip(*names: str) -> None:
    for name in names:
        try:
            locate(name)
        except MissingWeightsError as error:
            pytest.skip(str(error))
