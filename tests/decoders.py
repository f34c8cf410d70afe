"""What tests of decoders share."""

import pytest

from posecap.stage import Engine
from posecap.types import Media

MEDIA = Media(
    width=160,
    height=96,
    fps=30.0,
    codec="h264",
    rotation_degrees=0,
    seconds=2.0,
    container="mov,mp4,m4a,3gp,3g2,mj2",
)
"""Of an MP4 file of two seconds whose container does not state how many frames it has."""


def installed_or_skip(decoder: Engine) -> None:
    """Load a decoder, or skip the test with what is missing: its package, or the shared libraries that it needs."""
    try:
        decoder.load()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
