"""Captions in scripts that Pillow's own font does not have."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from posecap.visualization import fonts
from posecap.visualization.fonts import FONT_VARIABLE, FontError, font, lacking_words

PAPER, INK = (0, 0, 0), (255, 255, 255)


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch):
    """Only Pillow's own font, whatever the machine has, until a test says otherwise."""
    monkeypatch.delenv(FONT_VARIABLE, raising=False)
    monkeypatch.setattr(fonts, "_SYSTEM_FONTS", ())
    monkeypatch.setattr(fonts, "_PACKAGE", "no_such_font_package")
    font.cache_clear()
    yield
    font.cache_clear()


def drawn(text: str, *, size: int = 20) -> np.ndarray:
    image = Image.new("RGB", (400, 40), PAPER)
    font(size).draw(ImageDraw.Draw(image), (4, 4), text, fill=INK)
    return np.asarray(image)


def font_with(letters: dict[str, str], path: Path) -> Path:
    """A font file that has nothing but these characters, each a filled square as wide as the letter is high."""
    fontTools = pytest.importorskip("fontTools.fontBuilder")
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    def square(inset: int):
        pen = TTGlyphPen(None)
        low, high = inset, 1000 - inset
        for n, corner in enumerate([(low, low), (low, high), (high, high), (high, low)]):
            (pen.lineTo if n else pen.moveTo)(corner)
        pen.closePath()
        return pen.glyph()

    names = [".notdef", *letters.values()]
    builder = fontTools.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in letters.items()})
    builder.setupGlyf({name: square(300 if name == ".notdef" else 50) for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_latin_text_is_drawn_as_pillow_draws_it() -> None:
    image = Image.new("RGB", (400, 40), PAPER)
    ImageDraw.Draw(image).text((4, 4), "Squat, 12 frames", fill=INK, font=ImageFont.load_default(20))
    np.testing.assert_array_equal(drawn("Squat, 12 frames"), np.asarray(image))


def test_what_no_font_has_is_escaped_and_said() -> None:
    np.testing.assert_array_equal(drawn("深 squat 𠀋"), drawn("\\u6df1 squat \\U0002000b"))
    assert font(20).lacking("深 squat\n𠀋") == {"深", "𠀋"}
    assert font(20).length("深") == font(20).length("\\u6df1")
    words = lacking_words({"深"})
    assert "no font here has 1 of the characters (深), which are written as \\u…" in words
    assert FONT_VARIABLE in words
    assert lacking_words(()) == ""


def test_each_character_is_of_the_first_font_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = font_with({"深": "one", "S": "two"}, tmp_path / "squares.ttf")
    monkeypatch.setenv(FONT_VARIABLE, str(squares))
    before = drawn("S")
    assert font(20).lacking("深蹲 S") == {"蹲"}
    image = drawn("深S")
    filled = (image > 250).all(-1).sum(0)
    assert (filled[5:22] >= 17).all()  # the square of the one font
    np.testing.assert_array_equal(image[:, 24:60], before[:, 4:40])  # and the letter of the other after it


def test_lines_are_cut_off_with_dots_by_the_width_of_what_is_drawn() -> None:
    letters = font(14)
    cut = letters.shortened("a caption much longer than the tile that it stands under", 100)
    assert cut.startswith("a capt")
    assert cut.endswith("...")
    assert letters.length(cut) <= 100
    assert letters.shortened(" short\n one ", 100) == "short one"
    assert letters.shortened("W", 1) == ""
    assert letters.length(letters.shortened("深蹲" * 9, 100)) <= 100
    assert letters.line_height > 14


def test_a_file_that_is_no_font_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("no font")
    monkeypatch.setenv(FONT_VARIABLE, str(tmp_path / "notes.txt"))
    with pytest.raises(FontError, match=r"POSECAP_FONT names .*notes\.txt, which cannot be read as a font"):
        font(12)


def test_the_font_package_is_used_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fonts_at_hand").mkdir()
    (tmp_path / "fonts_at_hand" / "__init__.py").touch()
    font_with({"深": "one"}, tmp_path / "fonts_at_hand" / "NotoSansCJK-Regular.ttc")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(fonts, "_PACKAGE", "fonts_at_hand")
    importlib.invalidate_caches()
    assert font(20).lacking("深") == set()
