"""Skips tests whose weights are neither on this machine nor downloadable."""

import pytest

from posecap.models import MissingWeightsError, locate


def weights_or_skip(*names: str) -> None:
    """Make sure that the weights ``names`` are in the cache, or skip the test with the reason."""
    for name in names:
        try:
            locate(name)
        except MissingWeightsError as error:
            pytest.skip(str(error))
