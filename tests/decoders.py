"""Skips tests of decoders that are not on this machine."""

import pytest

from posecap.stage import Engine


def installed_or_skip(decoder: Engine) -> None:
    """Load a decoder, or skip the test with what is missing: its package, or the shared libraries that it needs."""
    try:
        decoder.load()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
