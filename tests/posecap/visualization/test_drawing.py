import numpy as np
import pytest
from PIL import Image, ImageChops

from posecap.joints import LAYOUTS, LayoutError
from posecap.visualization.drawing import PALETTE, PAPER, contact_sheet, draw_skeletons, fullest_frame
from posecap.visualization.fonts import PillowMissingError, font

COCO = {name: i for i, name in enumerate(LAYOUTS["coco17"].names)}


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
