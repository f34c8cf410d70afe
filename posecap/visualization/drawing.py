"""Drawing of skeletons and text on images, and contact sheets.

People are told apart by hue (the Okabe-Ito palette, which colour-blind eyes can separate), left from right by
brightness: a person's left limbs are light, the right ones dark, head and trunk in between.

Text may be in any script that a font here has; what none has is written as escapes, never as empty boxes. Pillow's own
font has Latin letters. Others come, character by character, from the files that the environment variable
``POSECAP_FONT`` names (separated as in ``PATH``), from the package ``noto-cjk-sans-otc`` if it is installed, and from
well-known fonts of the operating system.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from posecap.joints import Layout, LayoutError, layout_named

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Doubles = NDArray[np.float64]

PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
"""Hues by person; the eighth person has the first one's again."""

PAPER: Colour = (24, 24, 28)
"""Background of sheets and of pictures without footage."""
INK: Colour = (236, 236, 236)
"""First line of a caption."""
FAINT_INK: Colour = (160, 160, 168)
"""Further lines."""

# These, and widths, shades, gaps, sizes of fonts and the least size of a tile below, are chosen by eye.
_SUPERSAMPLING = 3  # lines are drawn so many times as large, since Pillow does not anti-alias them
_LEAST_OPACITY, _OPAQUE_SCORE = 0.4, 0.6  # at the least score drawn; score from which joints are opaque
_HALO: Colour = (0, 0, 0)  # around bones and joints, so that they are seen on any picture

FONT_VARIABLE = "POSECAP_FONT"
"""Environment variable, as the module describes it."""

_PACKAGE, _PACKAGE_FILE = "noto_cjk_sans_otc", "NotoSansCJK-Regular.ttc"
"""Module of the package of fonts, and the file in it."""
_SYSTEM_FONTS = (
    *(
        "NotoSansCJK-Regular.ttc",
        "NotoSansCJKjp-Regular.otf",
        "SourceHanSans.ttc",
        "wqy-microhei.ttc",
    ),  # Linux, with the next
    *("DroidSansFallbackFull.ttf", "NotoSans-Regular.ttf", "DejaVuSans.ttf"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),  # macOS
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "segoeui.ttf"),  # Windows
)
_UNASSIGNED = "\U0010fffe"  # no font has it, so it is drawn as missing characters are
_LONGEST = 500
"""Characters that are measured of a line, as shortening it measures it once for each that is cut off."""


def fullest_frame(joints_MTJ3: NDArray[np.float32]) -> int:
    """The frame in which most joints are seen, the most central one if several."""
    seen_T = (joints_MTJ3[..., 2] > 0).sum((0, 2))
    from_middle_T = np.abs(np.arange(len(seen_T)) - len(seen_T) // 2)
    return int(np.lexsort((from_middle_T, -seen_T))[0])


def draw_skeletons(
    image: Image.Image, joints_MJ3: NDArray[np.float32], layout: str, *, least_score: float = 0.2
) -> Image.Image:
    """A copy of ``image``, as RGB, with every person's bones and joints on it; the first person lies on top.

    Args:
        joints_MJ3: (M, J, 3) pixels of ``image`` and score. Joints that score below ``least_score`` are left out,
            the others are drawn fainter the lower they score. By default the score from which
            :class:`posecap.stages.filter_people.FilterPeople` counts a joint.
        layout: name of the joints' layout.

    Raises:
        LayoutError: unknown layout, or another number of joints.
        PillowMissingError: see :func:`pillow`.
    """
    bones = layout_named(layout)
    if joints_MJ3.ndim != 3 or joints_MJ3.shape[1:] != (len(bones.names), 3):
        raise LayoutError(f"layout {layout!r} needs joints (M, {len(bones.names)}, 3), got {joints_MJ3.shape}")
    drawn: Image.Image = image.convert("RGB")
    if drawn is image:
        drawn = image.copy()
    for person in reversed(range(len(joints_MJ3))):
        joints_J3 = np.asarray(joints_MJ3[person], np.float64)
        seen_J = (joints_J3[:, 2] >= least_score) & (joints_J3[:, 2] > 0) & np.isfinite(joints_J3).all(-1)
        if seen_J.any():
            # Opacity: full from a score of 0.6 on, 0.4 at the least score.
            opaque = max(_OPAQUE_SCORE, least_score + 1e-6)  # above the least score, as it divides
            share_J = np.clip((joints_J3[:, 2] - least_score) / (opaque - least_score), 0, 1)
            opacity_J = _LEAST_OPACITY + (1 - _LEAST_OPACITY) * share_J
            _draw_person(drawn, bones, joints_J3[:, :2], seen_J, opacity_J, PALETTE[person % len(PALETTE)])
    return drawn


def _draw_person(
    image: Image.Image, layout: Layout, xy_J2: Doubles, seen_J: NDArray[np.bool_], opacity_J: Doubles, hue: Colour
) -> None:
    """Draw the seen bones and joints of one person, on a dark halo."""
    pil = pillow()
    seen = xy_J2[seen_J]
    # 0.7 % of the picture's longer side, and less for people so small that it would cover them.
    width = max(1.0, min(0.007 * max(image.size), 0.03 * float(np.linalg.norm(seen.max(0) - seen.min(0)))))
    low_2 = np.floor(np.clip(seen.min(0) - 2 * width, 0, image.size)).astype(int)
    high_2 = np.ceil(np.clip(seen.max(0) + 2 * width, 0, image.size)).astype(int)
    if not (low_2 < high_2).all():
        return  # the person lies outside of the picture
    size = tuple((high_2 - low_2).tolist())
    layer = pil.Image.new("RGBA", (_SUPERSAMPLING * size[0], _SUPERSAMPLING * size[1]), (*_HALO, 0))
    pen = pil.ImageDraw.Draw(layer)
    xy_J2 = (xy_J2 - low_2) * _SUPERSAMPLING
    # Width of the lines, colours, and the alpha of a clear joint (255 is opaque): first the halo, then the bones.
    for stroke, shades, most in (
        (1.7 * width * _SUPERSAMPLING, (_HALO,) * 3, 150),
        (width * _SUPERSAMPLING, shades_of(hue), 255),
    ):
        # The shade of left, middle or right; a bone takes the side of its child, the joint farther from the trunk.
        colours = [shades[name.startswith("right_") - name.startswith("left_") + 1] for name in layout.names]
        for child, parent in layout.bones:
            if seen_J[child] and seen_J[parent]:
                ink = (*colours[child], round(most * float(min(opacity_J[child], opacity_J[parent]))))
                pen.line([*xy_J2[child], *xy_J2[parent]], fill=ink, width=max(1, round(stroke)))
        radius = 0.75 * stroke
        for joint in map(int, np.flatnonzero(seen_J)):
            x, y = xy_J2[joint]
            ink = (*colours[joint], round(most * float(opacity_J[joint])))
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=ink)
    layer = layer.resize(size, pil.Image.Resampling.BOX)
    image.paste(layer, tuple(low_2.tolist()), layer)


def contact_sheet(tiles: Sequence[tuple[Image.Image, str]], *, columns: int, tile_side: int) -> Image.Image:
    """Pictures in rows, each fitted into a square of ``tile_side`` pixels, its caption below it.

    A line of a caption that is too long for its tile ends in dots; a row is as high as its highest tile.

    Args:
        tiles: pictures and captions, in rows from left to right; a line break in a caption begins its second line.
        columns: tiles in a row.
        tile_side: pixels.

    Raises:
        ValueError: no tiles, or no room for any.
        PillowMissingError: see :func:`pillow`.
    """
    if not tiles or columns < 1 or tile_side < 16:
        raise ValueError(
            f"a contact sheet needs tiles, columns and at least 16 pixels a tile, "
            f"got {len(tiles)}, {columns} and {tile_side}"
        )
    pil = pillow()
    gap = max(4, tile_side // 32)
    letters = font(sheet_font_size(tile_side))
    cells = [
        (_fitted(image, tile_side), [letters.shortened(text, tile_side) for text in caption.splitlines()])
        for image, caption in tiles
    ]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    images = [max(image.height for image, _ in row) for row in rows]
    line = letters.line_height
    heights = [high + gap // 2 + line * max(len(t) for _, t in row) for high, row in zip(images, rows, strict=True)]
    width = gap + min(columns, len(cells)) * (tile_side + gap)
    sheet: Image.Image = pil.Image.new("RGB", (width, gap + sum(height + gap for height in heights)), PAPER)
    pen = pil.ImageDraw.Draw(sheet)
    top = gap
    for row, high, height in zip(rows, images, heights, strict=True):
        for column, (image, texts) in enumerate(row):
            left = gap + column * (tile_side + gap)
            sheet.paste(image, (left + (tile_side - image.width) // 2, top + high - image.height))
            for i, text in enumerate(texts):
                place = (left, top + high + gap // 2 + i * line)
                letters.draw(pen, place, text, fill=FAINT_INK if i else INK)
        top += height + gap
    return sheet


def sheet_font_size(tile_side: int) -> int:
    """Pixels of the captions' font on a contact sheet."""
    return max(11, tile_side // 18)


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """The picture scaled to a longer side of so many pixels, as RGB."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, pillow().Image.Resampling.LANCZOS)


def shades_of(colour: Colour) -> tuple[Colour, Colour, Colour]:
    """Left (light), middle and right (dark) of one hue."""

    def mixed(other: int, share: float) -> Colour:
        """The hue with so large a share of a grey."""
        red, green, blue = (round(c + (other - c) * share) for c in colour)
        return red, green, blue

    return mixed(255, 0.5), colour, mixed(0, 0.25)


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
    """Fonts of one size, in order of preference for each character. ``_face_of`` remembers which face has one."""

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
        """Pixels from the top of a line to the line that letters stand on."""
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
    """What to tell people about characters that no font has, eight of them named; empty if there are none."""
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
    """A character as ``\\u2603``."""
    return letter.encode("unicode_escape").decode("ascii")
