import numpy as np
import pytest

from posecap.inference.resampling import resized, sampled


def picture(height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def ramp() -> np.ndarray:
    """Grey level 10 x + y."""
    y, x = np.mgrid[:5, :10]
    return np.repeat((10 * x + y)[..., None], 3, axis=2).astype(np.uint8)


def test_whole_places_give_the_pixels_themselves() -> None:
    got = sampled(picture(), np.arange(6.0), np.arange(8.0), outside="black")
    np.testing.assert_array_equal(got, picture())


def test_between_pixels_lies_their_mean() -> None:
    got = sampled(ramp(), np.array([1.0]), np.array([2.5, 3.25]), outside="black")
    np.testing.assert_array_equal(got[0, :, 0], [26, 34])  # 33.5 goes to the even one


def test_beyond_the_edge_it_is_black_or_more_of_the_same() -> None:
    places = np.array([-2.0, -0.5, 0.0, 9.0, 9.5, 12.0])
    white = np.full((5, 10, 3), 200, np.uint8)
    black = sampled(white, np.array([2.0]), places, outside="black")
    np.testing.assert_array_equal(black[0, :, 0], [0, 100, 200, 200, 100, 0])
    edge = sampled(white, np.array([2.0]), places, outside="edge")
    np.testing.assert_array_equal(edge[0, :, 0], [200] * 6)


def test_a_place_far_outside_is_black() -> None:
    got = sampled(picture(), np.arange(100.0, 104.0), np.arange(-50.0, -40.0), outside="black")
    np.testing.assert_array_equal(got, np.zeros((4, 10, 3), np.uint8))


def test_a_picture_of_twice_the_size() -> None:
    small = np.repeat(np.array([[[0], [100]]], np.uint8), 3, axis=2)
    np.testing.assert_array_equal(resized(small, height=1, width=4)[0, :, 0], [0, 25, 75, 100])


@pytest.mark.parametrize(("height", "width"), [(6, 8), (3, 4), (13, 5), (40, 80)])
def test_resizing_is_that_of_opencv(height: int, width: int) -> None:
    cv2 = pytest.importorskip("cv2")
    expected = cv2.resize(picture(), (width, height), interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(resized(picture(), height=height, width=width).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("centre", [(30.3, 20.7), (0.0, 0.0), (64.0, 70.0)])
def test_warping_is_that_of_opencv(centre: tuple[float, float]) -> None:
    cv2 = pytest.importorskip("cv2")
    big = picture(48, 64)
    step = 0.37
    warp = np.array([[1 / step, 0, 24 - centre[0] / step], [0, 1 / step, 32 - centre[1] / step]])
    expected = cv2.warpAffine(big, warp, (48, 64), flags=cv2.INTER_LINEAR).astype(int)
    rows = (np.arange(64) - 32) * step + centre[1]
    columns = (np.arange(48) - 24) * step + centre[0]
    difference = np.abs(sampled(big, rows, columns, outside="black").astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.05
