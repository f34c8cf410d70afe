"""One clip: with its skeletons as mp4 or gif, and in words.

The footage is fetched again from where the index says it was, and only used when its bytes are the same. Without it,
or on request, skeletons are drawn on a dark background, which shows what people do, but not who they are.

:func:`describe` gives the arrays with axes, units and dtype, the quality, and the captions with their origins, by the
names of facts that :mod:`posecap.stages.pack` writes.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from posecap.files import ShardError, file_sha256
from posecap.interfaces import Decoder, DecoderGaveUpError, Fetched, Fetcher, Limits, Prober, VideoEncoder
from posecap.joints import LAYOUTS
from posecap.manifest.rows import located
from posecap.shards import Dataset
from posecap.skeletons import MEASURES
from posecap.stage import Reject
from posecap.storage import Location
from posecap.types import Media, Pixels, Sample, Seconds, Span
from posecap.video import decode_span
from posecap.visualization.drawing import FAINT_INK, INK, PAPER, draw_skeletons, font, pillow

if TYPE_CHECKING:
    from PIL import Image


Background = Literal["footage", "blank"]

_LONG_SIDE, _ENLARGED_SIDE = 960, 480
"""Most pixels of an mp4's longer side, and those to which small footage is enlarged, so that drawn joints can be told
apart. Our choices, as those below."""
_PIXEL_BYTES = 512 << 20
"""Of all frames together, uncompressed."""
_GIF_SIDE, _GIF_FPS, _GIF_FRAMES = 480, 12.5, 500
"""Pixels of the longer side, frames a second (8 hundredths of a second each, the unit of a gif) and most frames."""
_SAME_FRAME_SECONDS = 0.5e-3
"""Largest difference between a stored time and that of the decoded frame."""
_SHORTEST_SECONDS = 0.001
"""Taken for the length of a video whose container does not say it: its first frame is then the one in the middle."""
_FACTS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("uri", "source_id", "layout"), str),
    **dict.fromkeys(("start_seconds", "end_seconds"), (int, float)),
    **dict.fromkeys(("width", "height"), int),
}
"""Facts of a sample that are used here, with their types."""


class ViewError(ValueError):
    """The clip cannot be drawn; the message says why and what to do."""


def drawable(sample: Sample) -> Sample:
    """The sample itself, whose facts have what is needed to draw it.

    Raises:
        ViewError: they lack some of that, or have it in another form than posecap writes.
    """
    odd = [name for name, kind in _FACTS.items() if not isinstance(sample.facts.get(name), kind)]
    if odd:
        raise ViewError(
            f"sample {sample.key}: its facts have {', '.join(odd)} not in the form that posecap writes: "
            "run `posecap verify`"
        )
    return sample


@dataclass(frozen=True)
class Footage:
    """The engines that fetch and decode footage again: the first fetcher that accepts it, and the first decoder that
    accepts it and does not give up.

    ``media_root`` is the folder or URL at which relative URIs start, as in the manifest; empty, they stay relative.
    """

    fetchers: tuple[Fetcher, ...]
    prober: Prober
    decoders: tuple[Decoder, ...]
    limits: Limits = field(default_factory=Limits)
    media_root: str = ""


@dataclass(frozen=True, kw_only=True)
class Viewed:
    """What :func:`view_clip` has written.

    Args:
        path: the file.
        key: of the sample.
        frames: number of frames drawn.
        background: what the skeletons were drawn on, ``blank`` also where footage was asked for and could not be used.
        why_blank: why it could not; empty otherwise.
        lacking: characters of the text that no font has.
    """

    path: Path
    key: str
    frames: int
    background: Background
    why_blank: str = ""
    lacking: frozenset[str] = frozenset()


def view_clip(
    location: Location,
    key: str,
    *,
    out: Path,
    encoder: VideoEncoder,
    footage: Footage | None,
    background: Background = "footage",
) -> Viewed:
    """Draw every person's skeleton over a clip, with caption, people and time below it.

    Args:
        location: of the dataset.
        key: of the sample, or a beginning that no other key has.
        out: ``.mp4`` or ``.gif``, whose folder is created; a gif has at most 12.5 frames a second and 500 in all.
        encoder: writes the mp4; not used for a gif.
        footage: how to get the video again; None draws on a dark background.
        background: ``blank`` draws on a dark background even if there is footage.

    Raises:
        ViewError: ``out`` has another ending, or the sample's facts do not have what is needed.
        ShardError: ``key`` names no sample or several, or the dataset is damaged.
        ShapeError: times are too close for the mp4's clock (:class:`posecap.interfaces.VideoEncoder`).
        FontError, PillowMissingError: see :func:`posecap.visualization.drawing.font`.
    """
    if out.suffix.lower() not in (".mp4", ".gif"):
        raise ViewError(f"{out}: a clip is written as .mp4 or .gif; for a contact sheet use --sheet")
    pillow()
    dataset = Dataset(location)
    sample = drawable(dataset.sample(dataset.whole_key(key)))
    is_gif = out.suffix.lower() == ".gif"
    rows = _evenly_spaced(sample.pts_T, _GIF_FPS, _GIF_FRAMES) if is_gif else np.arange(len(sample.pts_T))
    size = fitting_size(sample.facts, len(rows), _GIF_SIDE if is_gif else _LONG_SIDE)
    frames, why = clip_frames(sample, rows, size, footage) if background == "footage" else (None, "")
    painted = _painted(sample, rows, size, frames)
    pts_T = sample.pts_T[rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    if is_gif:
        _write_gif(out, painted, pts_T)
    else:
        out.write_bytes(encoder.encode(_stacked(painted, len(rows)), pts_T))
    behind: Background = "blank" if frames is None else "footage"
    lacking = frozenset(font(_strip_font_size(size)).lacking(_words(sample)))
    return Viewed(path=out, key=sample.key, frames=len(rows), background=behind, why_blank=why, lacking=lacking)


def clip_frames(
    sample: Sample, rows: np.ndarray, size: tuple[int, int], footage: Footage | None
) -> tuple[Pixels | None, str]:
    """The frames ``rows`` of the clip, (T, H, W, 3) uint8 RGB, or None and the reason why they cannot be fetched.

    Args:
        rows: ascending numbers of frames of ``sample``.
        size: (width, height) of the pictures, in pixels.
        footage: how to get the video; None gives None.
    """

    def fetch(fetcher: Fetcher, where: str, folder: Path, limits: Limits) -> Fetched | None:
        return _same_bytes(fetcher, where, folder, limits, sample)

    def decode(decoder: Decoder, fetched: Fetched, media: Media) -> tuple[Pixels | None, str]:
        return _decoded(decoder, fetched, media, sample.pts_T[rows], size)

    return _from_footage(str(sample.facts["uri"]), footage, fetch, decode)


def middle_frame(uri: str, span: Span | None, footage: Footage | None) -> tuple[Pixels | None, str]:
    """The frame in the middle of a span, or of the whole video: (1, H, W, 3) uint8 RGB with a longer side of at most
    480 pixels, or None and the reason why. Of a shorter video than was thought, it is the span's first frame.

    Raises:
        ViewError: the video states no size.
    """

    def fetch(fetcher: Fetcher, where: str, folder: Path, limits: Limits) -> Fetched | None:
        return fetcher.fetch(where, folder, limits=limits, span=span)

    def decode(decoder: Decoder, fetched: Fetched, media: Media) -> tuple[Pixels | None, str]:
        begins = fetched.begins_seconds
        whole = span or Span(begins, begins + max(media.seconds or 0.0, _SHORTEST_SECONDS))
        middle = Span((whole.start_seconds + whole.end_seconds) / 2, whole.end_seconds)
        size = fitting_size({"width": media.width, "height": media.height}, 1, _ENLARGED_SIDE)
        for wanted in (middle, whole):  # a video may end before its container says
            for block in decode_span(decoder, fetched.path, media, begins_seconds=begins, span=wanted, size=size):
                if len(block.frames_THW3):
                    return block.frames_THW3[:1].copy(), ""
        return None, f"{decoder.name} gives no frame from {whole.start_seconds:.3f} to {whole.end_seconds:.3f} s"

    return _from_footage(uri, footage, fetch, decode)


def _from_footage(
    uri: str,
    footage: Footage | None,
    fetch: Callable[[Fetcher, str, Path, Limits], Fetched | None],
    decode: Callable[[Decoder, Fetched, Media], tuple[Pixels | None, str]],
) -> tuple[Pixels | None, str]:
    """What ``decode`` makes of the file that ``fetch`` brings, or None and the reason why there is none."""
    if footage is None:
        return None, "no way to fetch footage was given"
    where = located(uri, footage.media_root)
    fetcher = next((f for f in footage.fetchers if f.accepts(where)), None)
    if fetcher is None:
        return None, f"nothing here can fetch {uri}"
    with tempfile.TemporaryDirectory(prefix="posecap-view-") as folder:
        try:
            fetched = fetch(fetcher, where, Path(folder), footage.limits)
            if fetched is None:
                return None, f"{uri}: fetched again, it is not the file that the skeletons were made from"
            media = footage.prober.probe(fetched.path)
            for decoder in footage.decoders:
                if decoder.accepts(media):
                    try:
                        return decode(decoder, fetched, media)
                    except DecoderGaveUpError:
                        continue
        except Reject as trouble:  # transient and permanent errors are Rejects, too
            return None, f"{uri}: {trouble}"
    return None, f"no decoder here reads {uri}"


def _same_bytes(fetcher: Fetcher, where: str, folder: Path, limits: Limits, sample: Sample) -> Fetched | None:
    """The file that the skeletons were made from (the clip's span or the whole video); None if it has changed."""
    span = Span(sample.facts["start_seconds"], sample.facts["end_seconds"])
    # Some fetchers bring only the span that they are asked for, and a row may have asked for the whole video. Where the
    # row's span is wider than what its clip covers, such a fetcher brings another file.
    for wanted in (span, None):
        try:
            fetched = fetcher.fetch(where, folder, limits=limits, span=wanted)
        except Reject:
            if wanted is None:
                raise
            continue
        if file_sha256(fetched.path) == sample.facts["source_id"]:
            return fetched
    return None


def _decoded(
    decoder: Decoder, fetched: Fetched, media: Media, pts_T: Seconds, size: tuple[int, int]
) -> tuple[Pixels | None, str]:
    """The frames shown at ``pts_T``, each within half a millisecond; None and the reason where one is not there."""
    span = Span(max(0.0, float(pts_T[0]) - 1e-3), float(pts_T[-1]) + 1e-3)  # a little wider than frames may differ
    wanted = np.empty((len(pts_T), size[1], size[0], 3), np.uint8)
    missing = np.ones(len(pts_T), bool)
    begins = fetched.begins_seconds
    for block in decode_span(decoder, fetched.path, media, begins_seconds=begins, span=span, size=size):
        for frame_HW3, pts in zip(block.frames_THW3, block.pts_T.tolist(), strict=True):
            nearest = int(np.abs(pts_T - pts).argmin())
            if abs(float(pts_T[nearest]) - pts) <= _SAME_FRAME_SECONDS:
                wanted[nearest], missing[nearest] = frame_HW3, False
    if missing.any():
        return None, f"{decoder.name} gives no frame at {float(pts_T[missing][0]):.3f} s"
    return wanted, ""


def _painted(sample: Sample, rows: np.ndarray, size: tuple[int, int], frames: Pixels | None) -> Iterator[Image.Image]:
    """The frames ``rows`` with skeletons on them and two lines of text below; ``frames`` None for a dark background."""
    facts = sample.facts
    to_view = np.array([size[0] / facts["width"], size[1] / facts["height"], 1], np.float32)
    words = _words(sample)
    for number, row in enumerate(rows):
        pil = pillow()
        picture = pil.Image.new("RGB", size, PAPER) if frames is None else pil.Image.fromarray(frames[number])
        joints_MJ3 = sample.joints_MTJ3[:, row] * to_view
        drawn = draw_skeletons(picture, joints_MJ3, facts["layout"])
        seen = int((joints_MJ3[..., 2] > 0).any(-1).sum())
        time = f"{sample.key[:8]} · {people_words(seen)} · {sample.pts_T[row]:.2f} s"
        yield _with_strip(drawn, (words, time))


def _words(sample: Sample) -> str:
    """The text below a clip: its first caption, else its label."""
    return str(sample.captions[0].text if sample.captions else sample.facts.get("label") or "no caption")


def _strip_font_size(size: tuple[int, int]) -> int:
    """Pixels of the font below a picture of that size; chosen by eye."""
    return max(12, max(size) // 40)


def _with_strip(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    """The picture with lines of text below it, the first in full ink."""
    pil = pillow()
    letters = font(_strip_font_size(picture.size))
    line, margin = letters.line_height, 6
    strip = len(lines) * line + 2 * margin
    whole: Image.Image = pil.Image.new("RGB", (picture.width, picture.height + strip + strip % 2), PAPER)
    whole.paste(picture, (0, 0))
    pen = pil.ImageDraw.Draw(whole)
    for number, text in enumerate(lines):
        place = (margin, picture.height + margin + number * line)
        letters.draw(pen, place, letters.shortened(text, picture.width - 2 * margin), fill=FAINT_INK if number else INK)
    return whole


def _stacked(images: Iterator[Image.Image], count: int) -> Pixels:
    """(T, H, W, 3) of ``count`` pictures of one size."""
    first = np.asarray(next(images))
    stack = np.empty((count, *first.shape), np.uint8)
    stack[0] = first
    for number, image in enumerate(images, 1):
        stack[number] = np.asarray(image)
    return stack


def _write_gif(out: Path, images: Iterator[Image.Image], pts_T: Seconds) -> None:
    """Write a gif that repeats forever.

    Gifs count hundredths of a second. The frames' times are rounded, and not the steps between them, so that errors do
    not add up. No step is below 2: browsers show such frames much longer.
    """
    ticks = np.floor((pts_T - pts_T[0]) * 100 + 0.5).astype(int)
    steps = np.diff(ticks).tolist() or [round(100 / _GIF_FPS)]
    lasts = [*steps, steps[-1]][: len(ticks)]
    first, *others = (image.quantize(256, dither=pillow().Image.Dither.NONE) for image in images)
    first.save(out, save_all=True, append_images=others, duration=[10 * max(2, n) for n in lasts], loop=0, disposal=1)


def _evenly_spaced(pts_T: Seconds, fps: float, most: int) -> np.ndarray:
    """Numbers of the frames nearest to evenly spaced moments, ``fps`` a second and at most ``most`` in all."""
    seconds = float(pts_T[-1] - pts_T[0])
    count = max(1, min(len(pts_T), most, round(seconds * fps) + 1))
    moments = np.linspace(pts_T[0], pts_T[-1], count)
    return np.unique(np.abs(pts_T[:, None] - moments[None]).argmin(0))


def fitting_size(facts: Mapping[str, Any], frames: int, long_side: int) -> tuple[int, int]:
    """(width, height) in even pixels of pictures of the source video, for ``frames`` frames.

    Small footage is enlarged, to a longer side of 480 pixels; it has at most ``long_side`` pixels, fewer where all
    frames together would exceed 512 MiB.

    Args:
        facts: of which ``width`` and ``height``, the pixels of the source video, are used.

    Raises:
        ViewError: the facts give no size.
    """
    width, height = int(facts["width"]), int(facts["height"])
    if width < 1 or height < 1:
        raise ViewError(f"the sample says that its video has {width} x {height} pixels: run `posecap verify`")
    scale = min(long_side, max(_ENLARGED_SIDE, width, height)) / max(width, height)
    scale = min(scale, math.sqrt(_PIXEL_BYTES / (3 * width * height * frames)))
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def people_words(count: int) -> str:
    """``1 person``, ``2 people``."""
    return "1 person" if count == 1 else f"{count} people"


def describe(sample: Sample, extra: Mapping[str, Any] | None = None) -> str:
    """Several lines about one sample, for people; the same for the same sample.

    Args:
        extra: its extra members by name: arrays, and lists of sentences.

    Raises:
        ShardError: its facts have another form than posecap writes, as in a dataset of somebody else's making.
    """
    try:
        return "\n".join([*_lines(sample), *_extra_lines(extra or {})]) + "\n"
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ShardError(
            f"sample {sample.key}: its facts have another form than posecap writes ({error}); run `posecap verify`"
        ) from error


def _lines(sample: Sample) -> Iterator[str]:
    facts = sample.facts
    yield f"sample {sample.key}"
    yield f"  from      row {facts.get('row_id')}, {facts.get('uri')}"
    yield f"  span      {_seconds(facts.get('start_seconds'))} to {_seconds(facts.get('end_seconds'))} of the video"
    yield (
        f"  video     {facts.get('width')} x {facts.get('height')} px, {_rates(facts)}, "
        f"{facts.get('codec') or 'codec unknown'}" + (", mp4 stored" if sample.video_mp4 is not None else "")
    )
    yield from _treatment(facts)
    yield f"  terms     license {facts.get('license') or 'not stated'}, source {facts.get('source') or 'not stated'}"
    yield f"  label     {facts.get('label') or 'none'}"
    yield "arrays"
    yield from _arrays(sample)
    yield "quality"
    for name, value in (facts.get("quality") or {}).items():
        yield f"  {name:<17} {_number(value):<9} {MEASURES.get(name, '')}".rstrip()
    if choice := facts.get("people_choice"):
        yield f"people ({choice.get('found')} found, {choice.get('candidates')} of them long, clear and lively enough)"
        chosen = [*(("kept", terms) for terms in choice.get("kept") or ()), ("next", choice.get("next"))]
        yield from (f"  {name:<17} {_terms(terms)}" for name, terms in chosen if terms)
        yield f"  {'presence':<17} counts frames in which the person's joints are confident, coverage any with a joint"
    if smoothing := facts.get("smoothing"):
        yield "smoothing (quality is that of the joints before)"
        yield from (f"  {name:<17} {_setting(value)}" for name, value in smoothing.items())
    yield "models"
    yield from (f"  {name:<17} {model}" for name, model in sorted((facts.get("models") or {}).items()) if model)
    yield f"captions ({len(sample.captions)})"
    yield from (f"  [{caption.origin}] {caption.text}" for caption in sample.captions)


def _extra_lines(extra: Mapping[str, Any]) -> Iterator[str]:
    """What `posecap add` added."""
    if extra:
        yield "extra members"
    for name, value in extra.items():
        if isinstance(value, list):
            yield f"  {name} ({len(value)})"
            yield from (f"    {sentence}" for sentence in value)
        else:
            meaning = "one vector of frames" if value.ndim == 1 else "one vector for each caption"
            yield f"  {name}  {value.dtype} {tuple(value.shape)}  {meaning if value.size else 'none'}"


def _rates(facts: Mapping[str, Any]) -> str:
    stored, source = _number(facts.get("fps")), _number(facts.get("source_fps", facts.get("fps")))
    return f"{stored} frames/s" + ("" if stored == source else f" of the source's {source}")


def _treatment(facts: Mapping[str, Any]) -> Iterator[str]:
    """How the file's pictures became those of a player (docs/format.md, "Frames, times and sizes")."""
    shape = facts.get("sample_aspect_ratio")
    yield f"  pixels    displayed ones, square; stored ones are {f'{shape} (width:height)' if shape else 'square too'}"
    unnoted = []
    if (count := facts.get("video_streams")) is not None:
        yield f"  stream    number {facts.get('stream')} of the file, the best of {count} with video"
    else:
        unnoted.append("no other video stream")
    if fields := facts.get("deinterlaced_frames"):
        yield f"  fields    of {fields} interlaced frames the one shown first, scaled to the whole frame"
    else:
        unnoted.append("no interlaced frames")
    if damaged := facts.get("damaged_frames"):
        yield f"  damaged   {damaged} frames of the source, left out"
    else:
        unnoted.append("no damaged ones")
    if joins := facts.get("clock_restarts"):
        yield f"  joined    recordings with clocks of their own meet at {', '.join(_seconds(join) for join in joins)}"
    else:
        unnoted.append("no restart of the clock")
    if unnoted:
        yield f"  noted     {', '.join(unnoted)}"


def _arrays(sample: Sample) -> Iterator[str]:
    people, frames, joints, _ = sample.joints_MTJ3.shape
    layout = str(sample.facts.get("layout"))
    seen = sample.joints_MTJ3[..., 2] > 0
    yield _array("joints", sample.joints_MTJ3, f"M={people} people, T={frames} frames, J={joints} joints ({layout})")
    yield "            x, y in pixels of the source video (right, down), score 0 to 1; (0, 0, 0) where not seen"
    if seen.any():
        xy = sample.joints_MTJ3[..., :2][seen]
        (x0, y0), (x1, y1) = xy.min(0), xy.max(0)
        yield f"            seen {seen.mean():.0%} of joints, within x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f} px"
    if layout in LAYOUTS:
        yield f"            {', '.join(LAYOUTS[layout].names)}"
    yield _array("pts", sample.pts_T, "T presentation times, seconds on the player's clock")
    if sample.pts_T.size:
        yield f"            {_seconds(sample.pts_T[0])} to {_seconds(sample.pts_T[-1])}"
    first, last = sample.facts.get("video_span") or (None, None)
    yield _array("video", sample.video_D, f"one vector of the frames from {_seconds(first)} to {_seconds(last)}")
    yield f"            length {np.linalg.norm(sample.video_D):.4f}"
    yield _array("text", sample.text_CD, "one vector for each caption")


def _array(name: str, array: Any, meaning: str) -> str:
    return f"  {name:<9} {array.dtype} {tuple(array.shape)}  {meaning}"


def _number(value: Any) -> str:
    """A number of a sample's facts, with four digits."""
    return "unknown" if value is None else f"{value:.4g}"


def _terms(terms: Mapping[str, float]) -> str:
    """What a person was chosen by, each with its number (:class:`posecap.stages.filter_people.FilterPeople`)."""
    return ", ".join(f"{name} {_number(value)}" for name, value in terms.items())


def _setting(value: Any) -> str:
    """A value of the facts about smoothing; of one with parameters its name and these."""
    if isinstance(value, dict):
        return ", ".join(str(v) if k == "name" else f"{k}={v}" for k, v in value.items())
    return "none" if value is None else str(value)


def _seconds(value: Any) -> str:
    return "unknown" if value is None else f"{value:.3f} s"
