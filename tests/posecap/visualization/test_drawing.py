"""Skeletons on pictures, contact sheets, and captions also in scripts that Pillow's own font does not have."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFont

from posecap.joints import LAYOUTS, LayoutError
from posecap.visualization import drawing
from posecap.visualization.drawing import (
    FONT_VARIABLE,
    PALETTE,
    PAPER,
    FontError,
    PillowMissingError,
    contact_sheet,
    draw_skeletons,
    font,
    fullest_frame,
    lacking_words,
)

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
COCO = {name: i for i, name in enumerate(LAYOUTS["coco17"].names)}


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch):
    """Only Pillow's own font, whatever the machine has, until a test says otherwise."""
    monkeypatch.delenv(FONT_VARIABLE, raising=False)
    monkeypatch.setattr(drawing, "_SYSTEM_FONTS", ())
    monkeypatch.setattr(drawing, "_PACKAGE", "no_such_font_package")
    font.cache_clear()
    yield
    font.cache_clear()


def person(**places: tuple[float, float, float]) -> np.ndarray:
    joints = np.zeros((1, 17, 3), np.float32)
    for name, place in places.items():
        joints[0, COCO[name]] = place
    return joints


def grey(width: int = 800, height: int = 640) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def at(image: Image.Image, x: int, y: int) -> np.ndarray:
    return np.asarray(image)[y, x].astype(int)


ARMS = person(
    left_shoulder=(600, 160, 1), left_elbow=(600, 480, 1), right_shoulder=(200, 160, 1), right_elbow=(200, 480, 1)
)


def test_left_limbs_are_the_person_s_hue_lightened_and_right_ones_darkened():
    drawn = draw_skeletons(grey(), ARMS, "coco17")
    hue = np.array(PALETTE[0])
    assert np.abs(at(drawn, 600, 320) - (hue + (255 - hue) * 0.5)).max() <= 2
    assert np.abs(at(drawn, 200, 320) - hue * 0.75).max() <= 2


def test_each_person_has_another_hue_and_the_first_lies_on_top():
    both = np.concatenate([ARMS, ARMS])
    alone = draw_skeletons(grey(), ARMS, "coco17")
    assert (at(draw_skeletons(grey(), both, "coco17"), 200, 320) == at(alone, 200, 320)).all()
    moved = both.copy()
    moved[1, :, 0] += 80 * (moved[1, :, 2] > 0)
    assert np.abs(at(draw_skeletons(grey(), moved, "coco17"), 280, 320) - np.array(PALETTE[1]) * 0.75).max() <= 2


def test_a_bone_needs_both_ends_and_a_joint_a_score():
    lone = person(left_elbow=(600, 480, 1), left_shoulder=(600, 160, 0.1))
    drawn = draw_skeletons(grey(), lone, "coco17")
    assert (at(drawn, 600, 320) == 128).all()
    assert (at(drawn, 600, 480) != 128).any()
    nothing = draw_skeletons(grey(), np.zeros((2, 17, 3), np.float32), "coco17")
    assert ImageChops.difference(nothing, grey()).getbbox() is None


def test_low_scores_are_fainter():
    faint = ARMS.copy()
    faint[..., 2] *= 0.3
    sure = np.abs(at(draw_skeletons(grey(), ARMS, "coco17"), 600, 320) - 128).sum()
    unsure = np.abs(at(draw_skeletons(grey(), faint, "coco17"), 600, 320) - 128).sum()
    assert 0.3 * sure < unsure < 0.8 * sure


def test_the_picture_given_is_left_as_it_was_and_repeats_give_the_same_bytes():
    image = grey()
    first, again = (draw_skeletons(image, ARMS, "coco17").tobytes() for _ in range(2))
    assert first == again
    assert image.tobytes() == grey().tobytes()


def test_lines_are_thicker_on_larger_pictures_and_never_wider_than_small_people():
    def inked(image: Image.Image) -> int:
        return int((np.asarray(image)[image.height // 2] != 128).any(-1).sum())

    scale = np.array([0.25, 0.25, 1], np.float32)
    small = inked(draw_skeletons(grey(200, 160), ARMS * scale, "coco17"))
    large = inked(draw_skeletons(grey(), ARMS, "coco17"))
    assert large > 2 * small
    tiny = person(left_shoulder=(600, 310, 1), left_elbow=(600, 330, 1))
    assert inked(draw_skeletons(grey(), tiny, "coco17")) <= 4


@pytest.mark.parametrize("place", [(-500.0, -500.0), (900.0, 20.0), (float("nan"), 5.0), (1e9, -1e9)])
def test_joints_outside_the_picture_or_not_finite_do_no_harm(place: tuple[float, float]):
    joints = person(left_shoulder=(*place, 1), left_elbow=(*place, 1))
    assert draw_skeletons(grey(), joints, "coco17").tobytes() == grey().tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_can_be_drawn(layout: str):
    joints = np.random.default_rng(0).uniform(10, 150, (1, len(LAYOUTS[layout].names), 3)).astype(np.float32)
    joints[..., 2] = 1
    assert draw_skeletons(grey(), joints, layout).tobytes() != grey().tobytes()


def test_wrong_layouts_are_named():
    with pytest.raises(LayoutError, match="unknown layout 'coco18'; known: coco17"):
        draw_skeletons(grey(), ARMS, "coco18")
    with pytest.raises(LayoutError, match=r"\(M, 25, 3\), got \(1, 17, 3\)"):
        draw_skeletons(grey(), ARMS, "ntu25")


def test_a_missing_pillow_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.ImageDraw", None)
    with pytest.raises(PillowMissingError, match=r"pip install 'posecap\[build\]'"):
        draw_skeletons(grey(), ARMS, "coco17")


def test_tiles_lie_in_rows_each_picture_whole_and_above_its_caption():
    red, green, blue = (Image.new("RGB", (80, 40), c) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    sheet = contact_sheet([(red, "a\nb"), (green, "c"), (blue, "d")], columns=2, tile_side=64)
    pixels = np.asarray(sheet).astype(int)
    boxes = {}
    second = 4 + 32 + 2 + 2 * font(11).line_height + 4
    for name, channel in (("red", 0), ("green", 1), ("blue", 2)):
        others = [c for c in range(3) if c != channel]
        ys, xs = np.nonzero((pixels[..., channel] > 250) & (pixels[..., others] < 5).all(-1))
        boxes[name] = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert boxes == {"red": (4, 4, 68, 36), "green": (72, 4, 136, 36), "blue": (4, second, 68, second + 32)}
    below_red = pixels[38:70, 4:68]
    assert (below_red != PAPER).any()
    assert (pixels[:, 68:72] == PAPER).all()
    assert sheet.width == 140


def test_a_sheet_is_the_same_each_time_and_needs_tiles():
    tiles = [(grey(), "one"), (grey(40, 90), "two")]
    first, again = (contact_sheet(tiles, columns=3, tile_side=64).tobytes() for _ in range(2))
    assert first == again
    with pytest.raises(ValueError, match="got 0, 3 and 64"):
        contact_sheet([], columns=3, tile_side=64)


def test_the_fullest_frame_is_the_most_central_of_those_with_most_joints():
    joints = np.zeros((2, 9, 17, 3), np.float32)
    assert fullest_frame(joints) == 4
    joints[0, [0, 3, 8], :5, 2] = 0.5
    assert fullest_frame(joints) == 3
    joints[1, 8, :1, 2] = 0.1
    assert fullest_frame(joints) == 8


def written(text: str, *, size: int = 20) -> np.ndarray:
    image = Image.new("RGB", (400, 40), BLACK)
    font(size).draw(ImageDraw.Draw(image), (4, 4), text, fill=WHITE)
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
    image = Image.new("RGB", (400, 40), BLACK)
    ImageDraw.Draw(image).text((4, 4), "Squat, 12 frames", fill=WHITE, font=ImageFont.load_default(20))
    np.testing.assert_array_equal(written("Squat, 12 frames"), np.asarray(image))


def test_what_no_font_has_is_escaped_and_said() -> None:
    np.testing.assert_array_equal(written("深 squat 𠀋"), written("\\u6df1 squat \\U0002000b"))
    assert font(20).lacking("深 squat\n𠀋") == {"深", "𠀋"}
    assert font(20).length("深") == font(20).length("\\u6df1")
    words = lacking_words({"深"})
    assert "no font here has 1 of the characters (深), which are written as \\u…" in words
    assert FONT_VARIABLE in words
    assert lacking_words(()) == ""


def test_each_character_is_of_the_first_font_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = font_with({"深": "one", "S": "two"}, tmp_path / "squares.ttf")
    monkeypatch.setenv(FONT_VARIABLE, str(squares))
    before = written("S")
    assert font(20).lacking("深蹲 S") == {"蹲"}
    image = written("深S")
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
    monkeypatch.setattr(drawing, "_PACKAGE", "fonts_at_hand")
    importlib.invalidate_caches()
    assert font(20).lacking("深") == set()
