"""Perceptual signatures of clips: what a clip looks like and how it changes, in at most 1.5 KB.

A signature holds, for up to 24 moments of a clip, the 48 lowest frequencies of the picture (a discrete cosine
transform, DCT, of its grey levels, 7 x 7 without the constant), after black bars are removed. Encoding, scale and
speed hardly change these. A mirrored picture has the same ones with the sign of every odd horizontal frequency changed;
those of a cropped picture follow from those of the whole by a matrix. So a comparison tries mirrored and cropped
pictures though none are stored, and looks for the shift and the rate in time at which two clips agree best.

The DCT of grey levels is that of perceptual hashes (pHash); the values are kept rather than their signs, since crops
move signs and leave most of the value. ``benchmarks/duplicates.py`` measures it.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from posecap.types import Floats, Pixels, Seconds

SIDE = 7
"""Frequencies of either axis that are kept, the constant among them. This and the next numbers are our choice: of a
size at which a signature takes 1.5 KB, and a million are compared in memory."""
VALUES = SIDE * SIDE - 1
"""Of one frame, K in names of axes: frequency (v, u) is value ``7 v + u - 1``, v down and u across."""
MOST_FRAMES = 24
"""Of a signature: moments of a clip, evenly spaced."""
SHORTEST_PERIOD = 0.25
"""Seconds between two of them, at least."""

_VERSION = 1
_HEADER = struct.Struct("<BBH")
"""Version, number of frames, milliseconds between two of them. Each frame then has a byte of contrast (the standard
deviation of what is kept, in grey levels) and its values as signed bytes, the largest of which is 127 or -127."""
_CELLS = 32
"""Of either axis of the grey picture that is transformed: means of as many rows and columns of pixels. Four for each
period of the highest frequency that is kept are enough, and there are five."""
_BLACK = 24
"""Mean grey level up to which a row or column at an edge is a black bar: black is 16 in video, and encoders blur."""
_MOST_BAR = 0.36
"""Share of a side that a bar may take: two of 0.342 are beside an upright video of 9:16 in a wide one of 16:9, or above
and below a wide one in an upright one. More is a dark picture: our choice."""
_BLANK = 3
"""Contrast, in grey levels, below which a frame shows nothing: what remains of a black frame is noise. Our choice."""


class SignatureError(ValueError):
    """A text is no signature."""


def make_signature(frames_THW3: Pixels, pts_T: Seconds) -> str:
    """The signature of a clip, as it stands in its facts: base64, at most 1,600 characters.

    Args:
        frames_THW3: RGB frames, one or more.
        pts_T: their times in seconds, increasing; as many.
    """
    chosen, period = _moments(pts_T)
    # Green alone: most of what is seen as grey, and a third of the work.
    green = np.ascontiguousarray(frames_THW3[chosen, :, :, 1])
    rows, columns = _content(green)
    cells = _cell_means(green[:, rows, columns])
    transform = _cosines(_CELLS)
    spectra = transform @ cells @ transform.T
    values = spectra.reshape(len(chosen), -1)[:, 1:]
    # An orthonormal transform keeps the sum of squares, so that this is a standard deviation over the picture.
    contrast = np.minimum(255, np.rint(np.sqrt((values**2).sum(1)) / _CELLS)).astype(np.uint8)
    values = values * _weights()
    largest = np.maximum(np.abs(values).max(1, keepdims=True), 1e-9)
    stored = np.rint(values / largest * 127).astype(np.int8)
    body = np.concatenate([contrast[:, None].view(np.int8), stored], 1).tobytes()
    header = _HEADER.pack(_VERSION, len(chosen), min(65_535, round(period * 1000)))
    return base64.b64encode(header + body).decode()


def _moments(pts_T: Seconds) -> tuple[NDArray[np.intp], float]:
    """The frames nearest to the middles of equal stretches of a clip, and the length of these in seconds."""
    step = float(np.median(np.diff(pts_T))) if len(pts_T) > 1 else SHORTEST_PERIOD
    seconds = float(pts_T[-1] - pts_T[0]) + step
    count = min(MOST_FRAMES, max(1, math.floor(seconds / SHORTEST_PERIOD)))
    period = seconds / count
    wanted = pts_T[0] + (np.arange(count) + 0.5) * period
    after = np.clip(np.searchsorted(pts_T, wanted), 1, max(1, len(pts_T) - 1))
    before = after - 1
    after = np.minimum(after, len(pts_T) - 1)
    return np.where(wanted - pts_T[before] <= pts_T[after] - wanted, before, after), period


def _content(grey_NHW: Pixels) -> tuple[slice, slice]:
    """Rows and columns without the black bars that are there in every frame."""
    rows = grey_NHW.mean(axis=2, dtype=np.float32).max(axis=0)
    columns = grey_NHW.mean(axis=1, dtype=np.float32).max(axis=0)
    return _between_bars(rows), _between_bars(columns)


def _between_bars(brightest: NDArray[np.float32]) -> slice:
    """Rows or columns between the first and the last that is not black in some frame; all where bars are too large."""
    lit = np.flatnonzero(brightest > _BLACK)
    count = len(brightest)
    if not len(lit) or lit[0] > _MOST_BAR * count or lit[-1] + 1 < (1 - _MOST_BAR) * count:
        return slice(0, count)
    return slice(int(lit[0]), int(lit[-1]) + 1)


def _cell_means(grey_NHW: Pixels) -> NDArray[np.float64]:
    """(N, 32, 32) means of equal cells; a picture of fewer pixels than cells repeats some."""
    sums = grey_NHW
    areas = np.ones(1)
    for axis in (1, 2):
        size = sums.shape[axis]
        starts = np.arange(_CELLS) * size // _CELLS
        sums = np.add.reduceat(sums, starts, axis=axis, dtype=np.uint32)
        areas = np.multiply.outer(areas, np.maximum(1, np.diff([*starts, size])))
    means: NDArray[np.float64] = sums / areas.reshape(_CELLS, _CELLS)
    return means


@lru_cache(maxsize=4)
def _cosines(points: int) -> NDArray[np.float64]:
    """(7, points) the orthonormal DCT-II of so many points, its lowest frequencies."""
    return _basis((np.arange(points) + 0.5) / points) / math.sqrt(points)


def _basis(at_P: NDArray[np.float64]) -> NDArray[np.float64]:
    """(7, P) the cosines at places of a side that goes from 0 to 1, each of mean square 1."""
    frequencies = np.arange(SIDE)[:, None]
    return np.where(frequencies, math.sqrt(2), 1.0) * np.cos(np.pi * frequencies * at_P)


@lru_cache(maxsize=1)
def _weights() -> NDArray[np.float64]:
    """(K) the length of each frequency: pictures have less of a frequency in inverse proportion to it, so that with
    these weights every value counts about as much as any other."""
    down, across = np.mgrid[:SIDE, :SIDE]
    weights: NDArray[np.float64] = np.sqrt(down**2 + across**2).reshape(-1)[1:]
    return weights


@lru_cache(maxsize=1)
def mirror() -> Floats:
    """(K) the factors that turn the values of a picture into those of its mirror image."""
    across = np.tile(np.arange(SIDE), SIDE)[1:]
    return np.where(across % 2, -1, 1).astype(np.float32)


_Side: TypeAlias = tuple[float, float]
"""Where a part of a picture begins and ends on one axis, as shares of the side."""
_HALF_STEP = 0.025
"""Half of the step between the sides of crops, by which the best of them is moved where two clips nearly agree."""
_CROPPED_SIDES: tuple[_Side, ...] = ((0.0, 1.0), (0.05, 1.0), (0.0, 0.95), (0.05, 0.95), (0.1, 1.0), (0.0, 0.9))
"""Where a crop may begin and end on either axis, as shares of the side: up to a tenth is gone in steps of a twentieth.
What lies between is compared with its nearest, and with half steps around that (:func:`_finer_crops`)."""
NINE_TENTHS = tuple(len(_CROPPED_SIDES) * down + across for down in (3, 4, 5) for across in (3, 4, 5))
"""Numbers, among :func:`crops`, of those that leave nine tenths of either side: the middle and the ends."""


@lru_cache(maxsize=1)
def crops() -> Floats:
    """(C, K, K) matrices that turn the values of a picture into those of a part of it; the first changes nothing."""
    return np.array([_crop(down, across) for down in _CROPPED_SIDES for across in _CROPPED_SIDES])


@lru_cache(maxsize=1024)
def _crop(down: _Side, across: _Side) -> Floats:
    """(K, K) the matrix that turns the values of a picture into those of the part between these sides."""
    weights = _weights()
    matrix = np.kron(_axis_crop(down), _axis_crop(across))[1:, 1:] * weights[:, None] / weights[None]
    return matrix.astype(np.float32)


@lru_cache(maxsize=64)
def _axis_crop(side: _Side) -> NDArray[np.float64]:
    """(7, 7) what a crop does to the frequencies of one axis."""
    points = np.linspace(0, 1, 257)[:-1] + 1 / 512  # middles of 256 cells: enough for frequencies up to 6
    begin, end = side
    found: NDArray[np.float64] = _basis(points) @ _basis(begin + (end - begin) * points).T / len(points)
    return found


@lru_cache(maxsize=64)
def _finer_crops(number: int) -> Floats:
    """(F, K, K) those around one of :func:`crops`, that included, whose sides are off by up to half of a step."""
    down, across = (_CROPPED_SIDES[at] for at in divmod(number, len(_CROPPED_SIDES)))
    return np.array([_crop(one, other) for one in _finer_sides(down) for other in _finer_sides(across)])


def _finer_sides(side: _Side) -> list[_Side]:
    """The ends of one axis moved by half of a step or not, within the picture."""
    moved = [(side[0] + first * _HALF_STEP, side[1] + last * _HALF_STEP) for first in (0, -1, 1) for last in (0, -1, 1)]
    return [(begin, end) for begin, end in moved if begin >= 0 and end <= 1]


@dataclass(frozen=True, eq=False)
class Signature:
    """What a clip looks like at N moments.

    Args:
        values_NK: of each, of length 1; zeros where a frame shows nothing.
        period_seconds: between two moments. The first is half of it after the clip's beginning.
    """

    values_NK: Floats = field(repr=False)
    period_seconds: float

    @classmethod
    def parse(cls, text: str) -> Signature:
        """From what :func:`make_signature` gave.

        Raises:
            SignatureError: it is something else, or of a later version.
        """
        try:
            content = base64.b64decode(text, validate=True)
            version, count, period = _HEADER.unpack_from(content)
        except (binascii.Error, struct.error, ValueError, TypeError) as error:
            raise SignatureError(f"no signature: {error}") from error
        if version != _VERSION:
            raise SignatureError(f"signature of version {version}, this posecap reads version {_VERSION}")
        if not 1 <= count <= MOST_FRAMES or not period or len(content) != _HEADER.size + count * (VALUES + 1):
            raise SignatureError(f"signature of {len(content)} bytes says it has {count} frames")
        stored = np.frombuffer(content, np.int8, offset=_HEADER.size).reshape(count, VALUES + 1)
        return cls.of(stored, period / 1000)

    @classmethod
    def of(cls, stored_NB: NDArray[np.int8], period_seconds: float) -> Signature:
        """From bytes as they are stored: (N, 1 + K), the contrast first."""
        values = stored_NB[:, 1:].astype(np.float32)
        length = np.sqrt(np.einsum("nk,nk->n", values, values))
        shown = (stored_NB[:, 0].view(np.uint8) >= _BLANK) & (length > 0)
        return cls(values * (shown / np.maximum(length, 1e-9))[:, None].astype(np.float32), period_seconds)

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return len(self.values_NK) * self.period_seconds

    @cached_property
    def cropped(self) -> Floats:
        """The values of each part of the picture (:func:`crops`), of length 1."""
        found = np.matmul(self.values_NK, crops().transpose(0, 2, 1))
        length = np.sqrt(np.einsum("cnk,cnk->cn", found, found))
        cropped: Floats = found / np.maximum(length, 1e-9)[..., None]
        return cropped

    @cached_property
    def cropped_mean(self) -> Floats:
        """(C, K) the mean values of each part of the picture, of length 1."""
        found = crops() @ self.values_NK.mean(0)
        cropped: Floats = found / np.maximum(np.linalg.norm(found, axis=1), 1e-9)[:, None]
        return cropped


@dataclass(frozen=True, slots=True)
class Likeness:
    """How two clips agree where they agree best.

    Args:
        picture: mean cosine of the values over the moments that both show, -1 to 1. Of the lowest five and six
            frequencies of either axis (:data:`_COMPARED`) it is the smaller one.
        evidence: that this is no chance: the natural logarithm of how many times pictures with as many values, each
            of random sign, would be compared until two agree so well (:func:`_evidence`); the smaller one, too.
        motion: cosine of what changes: of the differences from the mean over these moments. None where hardly anything
            does in either clip.
        seconds: of the first clip that both show.
        share: of the shorter clip that these are.
        mirrored: whether one is the mirror image of the other.
        rate: how much faster the second clip runs.
    """

    picture: float
    evidence: float
    motion: float | None
    seconds: float
    share: float
    mirrored: bool
    rate: float


LEAST_PICTURE, LEAST_EVIDENCE, LEAST_MOTION = 0.75, 5.5, 0.45
"""Of a near-duplicate (:class:`Likeness`): chosen on one half of the footage of ``benchmarks/duplicates.py``, which is
measured on the other. There, copies have 0.81, 5.68 and 0.51 at least, and 3 pairs of 10,000 made-up clips as much."""
_NEARLY = 4.0
"""Evidence from which two clips, of which that is all that they lack, are compared with finer crops. Our choice: these
raise it by a quarter, rarely by more."""
LEAST_EVIDENCE_OF_STILLS = 8.0
"""Where nothing moves, so that the picture is all there is to compare. Our choice: one in three thousand."""


def is_near_duplicate(found: Likeness) -> bool:
    """Whether two clips that agree so show the same footage."""
    if found.motion is None:
        return found.picture >= LEAST_PICTURE and found.evidence >= LEAST_EVIDENCE_OF_STILLS
    return found.picture >= LEAST_PICTURE and found.evidence >= LEAST_EVIDENCE and found.motion >= LEAST_MOTION


UNLIKE = Likeness(-1.0, 0.0, None, 0.0, 0.0, False, 1.0)
"""Of clips that agree nowhere, or cannot overlap enough."""
_RATES = (1.0, 0.9, 0.95, 1.05, 1.1)
"""How much faster the second clip may run. Our choice: films at 25 frames a second run 4 % faster, and copies are made
a little faster or slower so that they are not found."""
_LEAST_SECONDS, _LEAST_SHARE, _LEAST_MOMENTS = 1.0, 0.25, 3
"""Of an overlap: seconds or, of shorter clips, their half; share of the shorter clip; moments. Our choice: a shorter
one is found by chance, as nearly all shifts are tried."""
_SHORTER_COSTS = 0.05
"""Taken from a mean cosine whose overlap is nearly 0, in proportion to what it is shorter than the longest: our choice,
so that of equal ones the longer is taken."""
_HARDLY = 0.5
"""Mean cosine under which two whole pictures agree at no shift. A crop may still do. Our choice, to save time."""
_MEAN_CROP = 0.7
"""Cosine of the mean values of a crop and a whole picture from which they are compared, as in
:mod:`posecap.duplicates`."""


def likeness(one: Signature, two: Signature) -> Likeness:
    """Compare two clips at every shift in time, at five rates, mirrored or not, and cropped or not; :data:`UNLIKE`
    where they cannot overlap enough or agree nowhere. Where only evidence is lacking, finer crops are tried."""
    best, agreement = UNLIKE, -1.0
    for mirrored in (False, True):
        signs = mirror() if mirrored else np.ones(VALUES, np.float32)
        other = two.values_NK * signs
        whole = _aligned(one.values_NK, other, one, two)
        if whole is not None and whole[0] >= _HARDLY:
            # Which crop fits best is decided at the best shift of the whole pictures, then the shift is found anew.
            first, second = _moments_of(whole)
            crop_of_one = np.einsum("cnk,nk->c", one.cropped[:, first], other[second])
            crop_of_two = np.einsum("cnk,nk->c", two.cropped[:, second], one.values_NK[first] * signs)
        else:
            crop_of_one = one.cropped_mean @ _unit(other.mean(0))
            crop_of_two = two.cropped_mean @ (_unit(one.values_NK.mean(0)) * signs)
            if max(crop_of_one.max(), crop_of_two.max()) < _MEAN_CROP:
                continue
        of_one = crop_of_one.max() >= crop_of_two.max()
        number = int((crop_of_one if of_one else crop_of_two).argmax())
        pair: tuple[Floats, Floats] = one.values_NK, two.cropped[number] * signs
        if of_one:
            pair = one.cropped[number], other
        found = _aligned(*pair, one, two)
        if found is not None and found[0] > agreement:
            best, agreement = _likeness(pair, found, one, two, mirrored), found[0]
            if _NEARLY <= best.evidence < LEAST_EVIDENCE and best.picture >= LEAST_PICTURE:
                first, second = _moments_of(found)
                if of_one:
                    crop = _finer_crop(one.values_NK[first], other[second], number)
                    pair = _cropped(one.values_NK, crop), other
                else:
                    crop = _finer_crop(two.values_NK[second], one.values_NK[first] * signs, number)
                    pair = one.values_NK, _cropped(two.values_NK, crop) * signs
                best = max(best, _likeness(pair, found, one, two, mirrored), key=attrgetter("evidence"))
    return best


def _finer_crop(values_NK: Floats, like_NK: Floats, number: int) -> Floats:
    """(K, K) of :func:`_finer_crops`, the one that makes values most like others, moment by moment, over the lowest
    frequencies, by which it is decided."""
    crops, kept = _finer_crops(number), _lowest(_COMPARED[0])
    found = np.matmul(values_NK, crops.transpose(0, 2, 1))[..., kept]
    length = np.sqrt(np.einsum("fnk,fnk->fn", found, found))
    cosines = np.einsum("fnk,nk->fn", found, like_NK[:, kept]) / np.maximum(length, 1e-9)
    chosen: Floats = crops[int(cosines.sum(1).argmax())]
    return chosen


def _cropped(values_NK: Floats, crop_KK: Floats) -> Floats:
    """The values of a part of the picture, of length 1."""
    found = values_NK @ crop_KK.T
    cropped: Floats = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    return cropped


def _unit(values_K: Floats) -> Floats:
    unit: Floats = values_K / max(float(np.linalg.norm(values_K)), 1e-9)
    return unit


_Path = tuple[float, NDArray[np.int16], float, float]
"""Mean cosine, for each moment of the first clip the moment of the second (-1: none), the rate, and the time of the
first clip, in seconds, at which the second begins."""


def _moments_of(path: _Path) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The moments of the first clip that both show, and those of the second at them."""
    first = np.flatnonzero(path[1] >= 0)
    return first, path[1][first].astype(np.intp)


def _aligned(one_NK: Floats, two_NK: Floats, one: Signature, two: Signature) -> _Path | None:
    """The shift and rate at which the mean cosine is greatest; None where the clips cannot overlap enough."""
    cosines = one_NK @ two_NK.T
    # To save time: an overlap of a quarter of the moments or more has no higher mean than the quarter with the highest
    # cosines. A much shorter clip may lie in fewer, and is then left out although they agree.
    best = np.sort(cosines.max(1))[-max(1, len(cosines) // 4) :]
    if float(best.mean()) < _HARDLY:
        return None
    paths, rates, shifts = _paths(len(one_NK), len(two_NK), round(one.period_seconds, 3), round(two.period_seconds, 3))
    if not len(paths):
        return None
    # A column of zeros stands for no moment, which is number -1.
    padded = np.concatenate([cosines, np.zeros((len(cosines), 1), np.float32)], 1)
    each = padded[np.arange(len(cosines)), paths]
    there = paths >= 0
    shown = there & (np.abs(each) > 0)
    counts = shown.sum(1)
    # Blank frames count for nothing, and of equal overlaps the longer one is the better evidence.
    means = each.sum(1) / np.maximum(counts, 1) - _SHORTER_COSTS * (1 - counts / there.sum(1).max())
    means[counts < np.minimum(_LEAST_MOMENTS, there.sum(1))] = -1.0
    at = int(means.argmax())
    if means[at] <= -1.0 or not counts[at]:
        return None
    path = np.where(shown[at], paths[at], -1)
    return float(each[at].sum() / counts[at]), path, rates[at], shifts[at]


@lru_cache(maxsize=4096)
def _paths(
    first: int, second: int, period: float, other_period: float
) -> tuple[NDArray[np.int16], list[float], list[float]]:
    """(P, N) for every rate and shift the moment of the second clip at each moment of the first, -1 where it has none;
    and the rate and the shift of each."""
    times = (np.arange(first) + 0.5) * period
    length, other_length = first * period, second * other_period
    shorter = min(length, other_length)
    least = max(_LEAST_SHARE * shorter, min(_LEAST_SECONDS, shorter / 2))
    step = min(period, other_period)
    found, rates, moved = [], [], list[float]()
    for rate in _RATES:
        # At this rate the second clip shows at (t - shift) / rate what the first shows at t.
        shifts = step * np.arange(math.ceil((least - other_length * rate) / step), (length - least) / step + 1)
        at = np.floor((times - shifts[:, None]) / rate / other_period).astype(np.int16)
        paths = np.where((at >= 0) & (at < second), at, np.int16(-1))
        long = (paths >= 0).sum(1) * period >= least - period / 2
        found.append(paths[long])
        rates += [rate] * int(long.sum())
        moved += shifts[long].tolist()
    return np.concatenate(found), rates, moved


_STILL = 0.004
"""Mean squared distance from the mean, of values of length 1, under which a clip hardly changes. Our choice: encoding
alone changes values by about 0.06 of their length."""


_COMPARED = (5, 6)
"""Lowest frequencies of either axis by which it is decided. The highest ones of a cropped picture depend on such of the
whole as are not kept: of the footage for choosing, cropped copies had cosines of 0.83 over all seven, and of 0.94 over
five. Where five agree and six do not, neither counts."""


def _likeness(
    pair: tuple[Floats, Floats],
    path: _Path,
    one: Signature,
    two: Signature,
    mirrored: bool,
) -> Likeness:
    """How the values of two clips, whole or cropped, agree on a path."""
    first, _ = _moments_of(path)
    both = pair[0][first], _between_moments(pair[1], (first + 0.5) * one.period_seconds, path, two.period_seconds)
    pictures, evidence, motions = zip(*(_agreement(*both, lowest) for lowest in _COMPARED), strict=True)
    changes = [values - values.mean(0) for values in both]
    moves = max(float(np.einsum("nk,nk->", change, change)) for change in changes) / len(first) >= _STILL
    seconds = len(first) * one.period_seconds
    shorter = min(one.seconds, two.seconds / path[2] if path[2] else two.seconds)
    return Likeness(
        picture=min(pictures),
        evidence=min(evidence),
        motion=min(motions) if moves else None,
        seconds=seconds,
        share=min(1.0, seconds / shorter),
        mirrored=mirrored,
        rate=path[2],
    )


def _between_moments(values_NK: Floats, times_T: Floats, path: _Path, period: float) -> Floats:
    """(T, K) the values of the second clip at times of the first: between its moments, which are up to half a second
    apart, as much of each neighbour as it is near, since much moves in a quarter of a second."""
    at = np.clip((times_T - path[3]) / path[2] / period - 0.5, 0, len(values_NK) - 1)
    before = at.astype(np.intp)
    after = np.minimum(before + 1, len(values_NK) - 1)
    share = (at - before)[:, None].astype(np.float32)
    values = values_NK[before] * (1 - share) + values_NK[after] * share
    found: Floats = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return found


def _agreement(one_NK: Floats, two_NK: Floats, lowest: int) -> tuple[float, float, float]:
    """Mean cosine, evidence and cosine of the changes, over the lowest frequencies of either axis."""
    kept = _lowest(lowest)
    one, two = (values[:, kept] / np.maximum(np.linalg.norm(values[:, kept], axis=1, keepdims=True), 1e-9)
                for values in (one_NK, two_NK))  # fmt: skip
    products = one * two
    picture = float(products.sum(1).mean())
    changes = one - one.mean(0), two - two.mean(0)
    energy = float(np.prod([np.einsum("nk,nk->", change, change) for change in changes]))
    motion = float(np.einsum("nk,nk->", *changes)) / math.sqrt(max(energy, 1e-12))
    return picture, _evidence(picture, products), motion


def _evidence(picture: float, products_NK: Floats) -> float:
    """That pictures of a mean cosine are no chance.

    The cosine of two vectors of n equal values with random signs has a variance of 1/n, as that of two random
    directions in n dimensions, which exceeds c in about (1 - c²)^(n/2) of all pairs. Pictures of few frequencies have
    few values that count: n is the inverse of the variance, the sum of the squared products.
    """
    values = 1 / max(float((products_NK**2).sum(1).mean()), 1e-9)
    return -values / 2 * math.log(max(1 - picture**2, 1e-4)) if picture > 0 else 0.0


@lru_cache(maxsize=8)
def _lowest(frequencies: int) -> NDArray[np.bool_]:
    """(K) which values are of so many of the lowest frequencies of either axis."""
    down, across = np.mgrid[:SIDE, :SIDE]
    found: NDArray[np.bool_] = ((down < frequencies) & (across < frequencies)).reshape(-1)[1:]
    return found
