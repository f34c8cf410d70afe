"""Text on pictures in any script that a font here has; what none has is written as escapes, never as empty boxes.

Pillow's own font has Latin letters. Others come, character by character, from the files that the environment variable
``POSECAP_FONT`` names (separated as in ``PATH``), from the package ``noto-cjk-sans-otc`` if it is installed, and from
well-known fonts of the operating system.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

FONT_VARIABLE = "POSECAP_FONT"

_PACKAGE, _PACKAGE_FILE = "noto_cjk_sans_otc", "NotoSansCJK-Regular.ttc"
_SYSTEM_FONTS = (
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "SourceHanSans.ttc", "wqy-microhei.ttc"),
    *("DroidSansFallbackFull.ttf", "NotoSans-Regular.ttf", "DejaVuSans.ttf"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),  # macOS
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "segoeui.ttf"),  # Windows
)
_UNASSIGNED = "\U0010fffe"  # no font has it, so it is drawn as missing characters are
_LONGEST = 500
"""Characters that are measured of a line, as shortening it measures it once for each that is cut off."""


class PillowMissingError(ImportError):
    """Pillow is not installed; the base install does not include it."""


class FontError(ValueError):
    """A file named in ``POSECAP_FONT`` is not a font that can be read."""


def pillow() -> ModuleType:
    """The package ``PIL`` with ``Image``, ``ImageDraw`` and ``ImageFont`` loaded.

    Raises:
        PillowMissingError: it is not installed; the message names the remedy.
    """
    try:
        import PIL.Image
        import PIL.ImageDraw
        import PIL.ImageFont
    except ImportError as error:
        raise PillowMissingError(
            "pictures need Pillow, which is not installed: pip install 'posecap[build]'"
        ) from error
    return PIL


@dataclass(frozen=True)
class Font:
    """Fonts of one size, in order of preference for each character."""

    faces: tuple[ImageFont.FreeTypeFont, ...]
    _face_of: dict[str, int | None] = field(default_factory=dict, repr=False)

    @property
    def line_height(self) -> int:
        """Pixels from one line of text to the next."""
        return int(sum(self.faces[0].getmetrics())) + 2

    def length(self, text: str) -> float:
        """Width of a line of text, in pixels."""
        return sum(face.getlength(run) for run, face in self._runs(text))

    def shortened(self, text: str, width: int) -> str:
        """``text`` on one line of at most ``width`` pixels; where it is longer, cut off with dots. No more than
        its first 500 characters are looked at.
        """
        text = " ".join(text.split())[:_LONGEST]
        if self.length(text) <= width:
            return text
        while text and self.length(text.rstrip() + "...") > width:
            text = text[:-1]
        return text.rstrip() + "..." if text else ""

    def draw(self, pen: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, *, fill: tuple[int, int, int]) -> None:
        """Write one line of text, its top left corner at ``xy``."""
        x, y = xy
        for run, face in self._runs(text):
            pen.text((x, y + self._ascent), run, fill=fill, font=face, anchor="ls")
            x += face.getlength(run)

    def lacking(self, text: str) -> set[str]:
        """The characters that are written as escapes, since none of the fonts has them."""
        return {letter for letter in text if self._face(letter) is None}

    @property
    def _ascent(self) -> int:
        return int(self.faces[0].getmetrics()[0])

    def _runs(self, text: str) -> Iterator[tuple[str, ImageFont.FreeTypeFont]]:
        """The text in stretches of one face, with escapes for what no face has."""
        chosen = [(letter, self._face(letter)) for letter in text]
        shown = [(_escaped(letter), 0) if face is None else (letter, face) for letter, face in chosen]
        for face, run in groupby(shown, key=lambda one: one[1]):
            yield "".join(letter for letter, _ in run), self.faces[face]

    def _face(self, letter: str) -> int | None:
        """Which face has a character; None if none has."""
        if letter not in self._face_of:
            has = (n for n, face in enumerate(self.faces) if letter.isspace() or _has(face, letter))
            self._face_of[letter] = next(has, None)
        return self._face_of[letter]


@lru_cache(maxsize=8)
def font(size: int) -> Font:
    """The fonts of this machine, ``size`` pixels high.

    Raises:
        FontError: ``POSECAP_FONT`` names a file that is no font.
        PillowMissingError: see :func:`pillow`.
    """
    pil = pillow()
    faces = [pil.ImageFont.load_default(size)]
    for named in filter(None, os.environ.get(FONT_VARIABLE, "").split(os.pathsep)):
        try:
            faces.append(pil.ImageFont.truetype(named, size))
        except OSError as error:
            raise FontError(f"{FONT_VARIABLE} names {named}, which cannot be read as a font: {error}") from error
    for known in (_packaged(), *_SYSTEM_FONTS):
        try:
            faces += [pil.ImageFont.truetype(known, size)] if known else []
        except OSError:
            continue  # not on this machine
    return Font(tuple(faces))


def lacking_words(lacking: Collection[str]) -> str:
    """What to tell people about characters that no font has; empty if there are none."""
    if not lacking:
        return ""
    some = "".join(sorted(lacking)[:8])
    return (
        f"no font here has {len(lacking)} of the characters ({some}), which are written as \\u…: pip install "
        f"noto-cjk-sans-otc, or name the file of a font that has them in {FONT_VARIABLE}"
    )


def _packaged() -> str:
    """The file of the font package, if it is installed."""
    spec = find_spec(_PACKAGE)
    folders = [] if spec is None else spec.submodule_search_locations or []
    return next((str(path) for folder in folders if (path := Path(folder) / _PACKAGE_FILE).is_file()), "")


def _has(face: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether a font has a character of its own: one that it lacks looks like any other that it lacks."""
    # Basic layout, since shaping puts a dotted circle before a mark that stands alone.
    plain = face.font_variant(layout_engine=pillow().ImageFont.Layout.BASIC)
    return bytes(plain.getmask(letter)) != bytes(plain.getmask(_UNASSIGNED))


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
