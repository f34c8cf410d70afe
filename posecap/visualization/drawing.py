"""Drawing of skeletons on images, and contact sheets.

People are told apart by hue (the Okabe-Ito palette, which colour-blind eyes can separate), left from right by
brightness: a person's left limbs are light, the right ones dark, head and trunk in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from posecap.joints import LAYOUTS, Layout, LayoutError

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
INK: Colour = (236, 236, 236)
FAINT_INK: Colour = (160, 160, 168)

_FINER = 3  # supersampling of lines, which Pillow does not anti-alias
_FAINTEST, _SURE_SCORE = 0.4, 0.6
_HALO: Colour = (0, 0, 0)


class PillowMissingError(ImportError):
    """Pillow is not installed; the base install does not include it."""


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


def draw_skeletons(
    image: Image.Image, joints_MJ3: NDArray[np.float32], layout: str, *, least_score: float = 0.2
) -> Image.Image:
    """A copy of ``image``, as RGB, with every person's bones and joints on it; the first person lies on top.

    Args:
        joints_MJ3: (M, J, 3) pixels of ``image`` and score. Joints that score below ``least_score`` are left out,
            the others are drawn fainter the lower they score.
        layout: name of the joints' layout.

    Raises:
        LayoutError: unknown layout, or another number of joints.
        PillowMissingError: see :func:`pillow`.
    """
    bones = LAYOUTS.get(layout)
    if bones is None:
        raise LayoutError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    if joints_MJ3.ndim != 3 or joints_MJ3.shape[1:] != (len(bones.names), 3):
        raise LayoutError(f"layout {layout!r} needs joints (M, {len(bones.names)}, 3), got {joints_MJ3.shape}")
    drawn: Image.Image = image.convert("RGB")
    if drawn is image:
        drawn = image.copy()
    for person in reversed(range(len(joints_MJ3))):
        joints_J3 = np.asarray(joints_MJ3[person], np.float64)
        seen_J = (joints_J3[:, 2] >= least_score) & (joints_J3[:, 2] > 0) & np.isfinite(joints_J3).all(-1)
        if seen_J.any():
            colours = _shades(PALETTE[person % len(PALETTE)])
            _Figure(bones, joints_J3, seen_J, colours, least_score).draw_on(drawn)
    return drawn


@dataclass(frozen=True)
class _Figure:
    """One person in one picture."""

    layout: Layout
    joints_J3: Doubles
    seen_J: NDArray[np.bool_]
    colours: tuple[Colour, Colour, Colour]
    least_score: float

    def draw_on(self, image: Image.Image) -> None:
        pil = pillow()
        width = self._line_width(image.size)
        box = self._box(image.size, margin=2 * width)
        if box is None:
            return
        size = (_FINER * (box[2] - box[0]), _FINER * (box[3] - box[1]))
        layer = pil.Image.new("RGBA", size, (*_HALO, 0))
        pen = pil.ImageDraw.Draw(layer)
        xy_J2 = (self.joints_J3[:, :2] - box[:2]) * _FINER
        for thickness, halo in ((1.7 * width, True), (width, False)):
            self._strokes(pen, xy_J2, thickness * _FINER, halo)
        layer = layer.resize((box[2] - box[0], box[3] - box[1]), pil.Image.Resampling.BOX)
        image.paste(layer, box[:2], layer)

    def _strokes(self, pen: ImageDraw.ImageDraw, xy_J2: Doubles, width: float, halo: bool) -> None:
        strengths = self._strengths()
        for child, parent in self.layout.bones:
            if self.seen_J[child] and self.seen_J[parent]:
                ink = self._ink(child, min(strengths[child], strengths[parent]), halo)
                pen.line([*xy_J2[child], *xy_J2[parent]], fill=ink, width=max(1, round(width)))
        radius = 0.75 * width
        for joint in map(int, np.flatnonzero(self.seen_J)):
            x, y = xy_J2[joint]
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=self._ink(joint, strengths[joint], halo))

    def _strengths(self) -> list[float]:
        """Opacity of each joint: full from a score of 0.6 on, 0.4 at the least score."""
        sure = max(_SURE_SCORE, self.least_score + 1e-6)
        share_J = np.clip((self.joints_J3[:, 2] - self.least_score) / (sure - self.least_score), 0, 1)
        return [float(share) for share in _FAINTEST + (1 - _FAINTEST) * share_J]

    def _ink(self, joint: int, strength: float, halo: bool) -> tuple[int, int, int, int]:
        """A bone takes the side of its child, the joint farther from the trunk."""
        name = self.layout.names[joint]
        left, middle, right = self.colours
        colour = left if name.startswith("left_") else right if name.startswith("right_") else middle
        return (*_HALO, round(150 * strength)) if halo else (*colour, round(255 * strength))

    def _line_width(self, size: tuple[int, int]) -> float:
        """0.7 % of the picture's longer side, and less for people so small that it would cover them."""
        seen = self.joints_J3[self.seen_J, :2]
        person = float(np.linalg.norm(seen.max(0) - seen.min(0)))
        return max(1.0, min(0.007 * max(size), 0.03 * person))

    def _box(self, size: tuple[int, int], margin: float) -> tuple[int, int, int, int] | None:
        """The part of the picture that the figure covers; None when it lies outside."""
        limit = np.array(size, np.float64)
        seen = self.joints_J3[self.seen_J, :2]
        low = np.floor(np.clip(seen.min(0) - margin, 0, limit)).astype(int)
        high = np.ceil(np.clip(seen.max(0) + margin, 0, limit)).astype(int)
        return (int(low[0]), int(low[1]), int(high[0]), int(high[1])) if bool((low < high).all()) else None


def contact_sheet(tiles: Sequence[tuple[Image.Image, str]], *, columns: int, tile_side: int) -> Image.Image:
    """Pictures in rows, each fitted into a square of ``tile_side`` pixels, its caption below it.

    A line of a caption that is too long for its tile ends in dots; a row is as high as its highest tile.

    Args:
        tiles: pictures and captions; a line break in a caption begins its second line.

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
    font = pil.ImageFont.load_default(max(11, tile_side // 18))
    cells = [
        (_fitted(image, tile_side), [shortened(text, font, tile_side) for text in caption.splitlines()])
        for image, caption in tiles
    ]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    images = [max(image.height for image, _ in row) for row in rows]
    line = line_height(font)
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
                pen.text((left, top + high + gap // 2 + i * line), text, fill=FAINT_INK if i else INK, font=font)
        top += height + gap
    return sheet


def line_height(font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> int:
    """Pixels from one line of text to the next."""
    return int(font.getbbox("ÅÇgjpq|")[3]) + 2


def shortened(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """``text`` on one line of at most ``width`` pixels, cut off with dots where it is longer."""
    text = " ".join(text.split())[:500]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text.rstrip() + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""


def _fitted(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, pillow().Image.Resampling.LANCZOS)


def _shades(colour: Colour) -> tuple[Colour, Colour, Colour]:
    """Left (light), middle and right (dark) of one hue."""

    def mixed(other: int, share: float) -> Colour:
        red, green, blue = (round(c + (other - c) * share) for c in colour)
        return red, green, blue

    return mixed(255, 0.5), colour, mixed(0, 0.25)
