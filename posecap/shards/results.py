"""What a build found out about rows before anything was chosen, a file for each part: ``results/train-00042.results``.

A row's results are those of the stages that look at frames: properties of the video, times of frames, boxes, tracks and
joints of everybody who was followed, spans and clips that were rejected there, the video vector, and one picture; with
``keep_intermediates: all``, what captioners wrote about its clips, too. A later build with other thresholds, captions
or models goes on from them (:mod:`posecap.run.replay`). The file shows and describes people who are in no sample. So it
is neither released nor published, and a dataset is whole without it.

Everything is stored without loss, so that a build which goes on from results gives the bytes of one that begins anew.
Equal results give equal bytes, with the same version of pyarrow, which brings Zstandard.

The file begins with :data:`MAGIC`, then the rows' blocks follow one another, then the list of rows: canonical JSON of
the stages' chains and, for each row, its digest and the place and SHA-256 of its block. The last 48 bytes are the size
of the list (8 bytes, little-endian), its SHA-256 (32) and :data:`MAGIC` again. A block is its size before compression
(8 bytes) and a Zstandard frame of: the size of a JSON header (4 bytes), the header, and the arrays in the order in
which :func:`_arrays_of` names them.

An array is stored as integers: a float32 array whose values are all multiples of 1/16 or of 1/1024 as how many they
are, any other by the bits of its floats. Along time each value is replaced by its difference to the one before, signs
go to the lowest bit, and bytes of equal weight stand together; then Zstandard finds little to keep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posecap.files import ShardError, canonical_json, digest, parse_json
from posecap.joints import LAYOUTS
from posecap.outcomes import ClipOutcome
from posecap.shards.paths import MAX_DOCUMENT_BYTES, MAX_MEMBER_BYTES, results_path
from posecap.storage import Storage, StorageFile
from posecap.types import (
    FileRange,
    Floats,
    Media,
    PartName,
    Picture,
    Row,
    Seconds,
    Sentences,
    Span,
    StagedResults,
    Tracks,
    VideoVector,
)

MAGIC: Final = b"POSERES1"
"""How a file of results begins and ends."""
_TRAILER_BYTES: Final = 8 + 32 + len(MAGIC)
_SCALES: Final = (16, 1024)
"""Values are tried to be multiples of one part in so many, as those of engines that round are: our choices. 0 in a
header stands for the bits of floats."""
_LEVEL: Final = 9
"""Of Zstandard: on real tracks 3 % smaller than 3, at a hundredth of the time that finding people takes."""


@dataclass(frozen=True, kw_only=True)
class StoredClip:
    """One clip as the stages that look at frames left it.

    ``size`` is the (width, height) of its frames; ``lost`` says where it ended, None where later stages got it. Fields
    of stages that it did not reach are None or empty. ``joints_MTJ3``, in ``layout``, are of the people of ``tracks``,
    and ``sentences`` of those whom later stages kept.
    The others are those of :class:`posecap.types.Clip`, :class:`~posecap.types.TrackedClip` and
    :class:`~posecap.types.PosedClip`.
    """

    span: Span
    media: Media
    decoder: str
    size: tuple[int, int]
    pts_T: Seconds
    deinterlaced_frames: int = 0
    damaged_frames: int = 0
    signature: str = ""
    lost: ClipOutcome | None = None
    tracks: Tracks | None = None
    detector: str = ""
    tracker: str = ""
    joints_MTJ3: Floats | None = None
    layout: str = ""
    pose_model: str = ""
    picture: Picture | None = None
    video_vector: VideoVector | None = None
    sentences: Mapping[int, Sentences] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RowResults:
    """A row's video, and its clips and rejected spans in the order in which they were found.

    The first three are those of :class:`posecap.types.Video`.
    """

    source_id: str
    size_bytes: int
    begins_seconds: float
    entries: tuple[StoredClip | ClipOutcome, ...]


@dataclass(frozen=True, slots=True)
class ResultsBlock:
    """A row's results as bytes (:func:`encode_results`) that are nowhere yet, and the ``source_id`` of its video."""

    content: bytes
    source_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsEntry:
    """One row in the list of a file of results.

    ``digest`` is :func:`row_digest`; ``results`` says where the row's block is; None for a row that was rejected as a
    whole, by ``ended``: stage, reason and detail.
    """

    row_id: str
    digest: str
    results: StagedResults | None
    ended: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class ResultsList:
    """The rows of a file of results, and what they were made with (:class:`posecap.pipeline.Perception`). ``sha256`` is
    that of the list as it was read, ``file`` the name of its file. ``texts``, ``mp4`` and ``samples`` are of the
    part's samples; empty in a file of a posecap that did not write them down. ``captioners`` are those whose sentences
    are stored."""

    chains: Mapping[str, str]
    vectors: str
    entries: tuple[ResultsEntry, ...]
    texts: str = field(default="", kw_only=True)
    mp4: str = field(default="", kw_only=True)
    captioners: tuple[str, ...] = field(default=(), kw_only=True)
    samples: str = field(default="", kw_only=True)
    sha256: str = field(default="", compare=False)
    file: str = field(default="", compare=False)

    def without(self, sources: Collection[str], row_ids: Collection[str]) -> ResultsList:
        """The same without the rows of these videos, by ``source_id``, and those with these ids."""
        kept = (one for one in self.entries if one.row_id not in row_ids)
        return replace(
            self, entries=tuple(one for one in kept if one.results is None or one.results.source_id not in sources)
        )


def row_digest(row: Row) -> str:
    """SHA-256 over what of a row determines its results beside the bytes of its video: URI and span."""
    return digest([row.uri, row.start_seconds, row.end_seconds])


def encode_results(results: RowResults) -> bytes:
    """A row's block.

    Raises:
        ValueError: a number is NaN or infinite where the schema has none, or the block would be larger than 1 GiB.
    """
    body: list[bytes] = []
    header = {
        "source_id": results.source_id,
        "size_bytes": results.size_bytes,
        "begins_seconds": results.begins_seconds,
        "entries": [
            {"rejected": asdict(one)} if isinstance(one, ClipOutcome) else _clip_header(one, body)
            for one in results.entries
        ],
    }
    written = canonical_json(header)
    content = b"".join([len(written).to_bytes(4, "little"), written, *body])
    if len(content) > MAX_MEMBER_BYTES:
        raise ValueError(f"a row's results have {len(content)} bytes, at most {MAX_MEMBER_BYTES} are written")
    compressed: bytes = pa.Codec("zstd", compression_level=_LEVEL).compress(content, asbytes=True)
    return len(content).to_bytes(8, "little") + compressed


def decode_results(block: bytes | bytearray, *, name: str) -> RowResults:
    """What :func:`encode_results` wrote.

    Args:
        name: of the file, for messages.

    Raises:
        ShardError: it is something else.
    """
    size = int.from_bytes(block[:8], "little")
    if size > MAX_MEMBER_BYTES:
        raise ShardError(f"{name}: a block says that it has {size} bytes, at most {MAX_MEMBER_BYTES} are read")
    try:
        content = pa.Codec("zstd").decompress(bytes(block[8:]), decompressed_size=size, asbytes=True)
        end = 4 + int.from_bytes(content[:4], "little")
        header = parse_json(content[4:end])
        reader = _Reader(content, end)
        entries = tuple(
            ClipOutcome(**one["rejected"]) if "rejected" in one else _clip(one, reader) for one in header["entries"]
        )
        if reader.at != len(content):
            raise ValueError("it goes on behind its last array")
        found = RowResults(
            source_id=header["source_id"],
            size_bytes=header["size_bytes"],
            begins_seconds=header["begins_seconds"],
            entries=entries,
        )
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError, pa.ArrowException) as error:
        raise ShardError(f"{name}: a block of it does not hold the results of a row ({error})") from error
    return found


def _arrays_of(clip: StoredClip) -> dict[str, NDArray[Any]]:
    """The arrays of a clip that change along time, by name in the order in which they are written: time is the last
    axis of ``pts`` and the second of the others. Joints are left out where they are those of the tracks."""
    found: dict[str, NDArray[Any]] = {"pts": clip.pts_T[None]}
    if clip.tracks is not None:
        found["scores"], found["boxes"] = clip.tracks.scores_MT, clip.tracks.boxes_MT4
        if clip.tracks.joints_MTJ3 is not None:
            found["tracks_xy"] = clip.tracks.joints_MTJ3[..., :2]
            found["tracks_score"] = clip.tracks.joints_MTJ3[..., 2]
    if clip.joints_MTJ3 is not None and not _are_those_of_tracks(clip):
        found["xy"], found["score"] = clip.joints_MTJ3[..., :2], clip.joints_MTJ3[..., 2]
    return found


def _are_those_of_tracks(clip: StoredClip) -> bool:
    """Whether a clip's joints are its tracks' own, bit by bit."""
    of_tracks = None if clip.tracks is None else clip.tracks.joints_MTJ3
    if of_tracks is None or clip.joints_MTJ3 is None:
        return False
    return of_tracks is clip.joints_MTJ3 or (
        of_tracks.shape == clip.joints_MTJ3.shape and of_tracks.tobytes() == clip.joints_MTJ3.tobytes()
    )


def _clip_header(clip: StoredClip, body: list[bytes]) -> dict[str, Any]:
    """The header of a clip, whose arrays are added to ``body``."""
    units = {}
    for name, array in _arrays_of(clip).items():
        units[name], integers = _integers(array)
        body.append(_planes(integers))
    header: dict[str, Any] = {
        "span": [clip.span.start_seconds, clip.span.end_seconds],
        "media": asdict(clip.media),
        "decoder": clip.decoder,
        "size": list(clip.size),
        "frames": len(clip.pts_T),
        "deinterlaced": clip.deinterlaced_frames,
        "damaged": clip.damaged_frames,
        "signature": clip.signature,
        "units": units,
    }
    if clip.lost is not None:
        header["lost"] = asdict(clip.lost)
    if clip.tracks is not None:
        header |= {"people": clip.tracks.people, "detector": clip.detector, "tracker": clip.tracker}
        header["tracks_layout"] = clip.tracks.layout
    if clip.joints_MTJ3 is not None:
        header |= {"layout": clip.layout, "pose_model": clip.pose_model}
    if clip.picture is not None:
        header["picture"] = [clip.picture.frame, len(clip.picture.jpeg)]
        body.append(clip.picture.jpeg)
    if clip.video_vector is not None:
        vector, span = clip.video_vector.video_D, clip.video_vector.span
        header["vector"] = [len(vector), span.start_seconds, span.end_seconds]
        body.append(_planes(_bits(vector[None, :, None])))
    if clip.sentences:
        header["sentences"] = {str(at): [one.inputs, list(one.texts)] for at, one in clip.sentences.items()}
    return header


def _clip(header: Mapping[str, Any], reader: _Reader) -> StoredClip:
    """The clip of a header, with the arrays that come next."""
    frames, units = int(header["frames"]), header["units"]
    media = header["media"]
    clip = StoredClip(
        span=Span(*header["span"]),
        media=Media(
            **{**media, "sample_aspect_ratio": tuple(media["sample_aspect_ratio"]), "joins": tuple(media["joins"])}
        ),
        decoder=header["decoder"],
        size=(int(header["size"][0]), int(header["size"][1])),
        pts_T=reader.array((1, frames), np.float64, units["pts"])[0],
        deinterlaced_frames=header["deinterlaced"],
        damaged_frames=header["damaged"],
        signature=header["signature"],
        lost=ClipOutcome(**header["lost"]) if "lost" in header else None,
    )
    if "people" in header:
        clip = _with_people(clip, header, reader)
    if "picture" in header:
        frame, size = header["picture"]
        clip = replace(clip, picture=Picture(int(frame), reader.take(int(size))))
    if "vector" in header:
        length, start, end = header["vector"]
        vector = VideoVector(reader.array((1, int(length), 1), np.float32, 0)[0, :, 0], Span(start, end))
        clip = replace(clip, video_vector=vector)
    if "sentences" in header:
        found = {
            int(at): Sentences(str(one), tuple(map(str, texts))) for at, (one, texts) in header["sentences"].items()
        }
        clip = replace(clip, sentences=found)
    return clip


def _with_people(clip: StoredClip, header: Mapping[str, Any], reader: _Reader) -> StoredClip:
    """The clip with the tracks that its header describes, and joints, if any; ValueError where they disagree."""
    shape, units = (int(header["people"]), len(clip.pts_T)), header["units"]

    def joints(prefix: str, layout: str) -> Floats:
        joints = len(LAYOUTS[layout].names)
        xy = reader.array((*shape, joints, 2), np.float32, units[f"{prefix}xy"])
        score = reader.array((*shape, joints), np.float32, units[f"{prefix}score"])
        return np.concatenate([xy, score[..., None]], axis=-1)

    scores = reader.array(shape, np.float32, units["scores"])
    boxes = reader.array((*shape, 4), np.float32, units["boxes"])
    tracks = Tracks(
        boxes_MT4=boxes,
        scores_MT=scores,
        joints_MTJ3=joints("tracks_", header["tracks_layout"]) if "tracks_xy" in units else None,
        layout=header["tracks_layout"],
    )
    clip = replace(clip, tracks=tracks, detector=header["detector"], tracker=header["tracker"])
    if "layout" in header:
        posed = joints("", header["layout"]) if "xy" in units else tracks.joints_MTJ3
        if posed is None or posed.shape[2] != len(LAYOUTS[header["layout"]].names):
            raise ValueError(f"there are no joints in {header['layout']}")
        clip = replace(clip, joints_MTJ3=posed, layout=header["layout"], pose_model=header["pose_model"])
    return clip


def _integers(array: NDArray[Any]) -> tuple[int, NDArray[Any]]:
    """An array's unit and its values in it; unit 0 and the floats' bits where no unit gives the same bits back."""
    if array.dtype == np.float32:
        for scale in _SCALES:
            with np.errstate(invalid="ignore"):
                counts = np.rint(array.astype(np.float64) * scale)
            if not (np.abs(counts) < 1 << 30).all():  # also where there is NaN
                break
            integers = counts.astype(np.int32)
            if (integers.astype(np.float32) / np.float32(scale)).tobytes() == array.tobytes():  # -0.0 has none
                return scale, integers
    return 0, _bits(array)


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    """An array of floats as integers with the same bits."""
    return np.ascontiguousarray(array).view(f"<i{array.dtype.itemsize}")


def _planes(integers_NT: NDArray[Any]) -> bytes:
    """Differences along the second axis, twice for int64 (times, whose differences are nearly equal), by bytes."""
    series = np.ascontiguousarray(np.moveaxis(integers_NT, 1, -1))
    times, bits = (2, 63) if series.dtype.itemsize == 8 else (1, 31)
    with np.errstate(over="ignore"):
        for _ in range(times):
            series = np.diff(series, axis=-1, prepend=series.dtype.type(0))
        folded = (series << 1) ^ (series >> bits)
    return np.ascontiguousarray(folded.reshape(-1).view(np.uint8).reshape(-1, series.dtype.itemsize).T).tobytes()


@dataclass
class _Reader:
    """Reads arrays from a block, one after another, and raises ValueError where none is; the next begins at ``at``."""

    content: bytes
    at: int

    def take(self, size: int) -> bytes:
        """The next bytes."""
        found = self.content[self.at : self.at + size]
        if size < 0 or len(found) != size:
            raise ValueError("it ends too early")
        self.at += size
        return found

    def array(self, shape: tuple[int, ...], dtype: type[np.floating[Any]], unit: int) -> NDArray[Any]:
        """The next array, with time on the second axis, in the unit that :func:`_integers` gave for it."""
        wide = np.dtype(dtype).itemsize
        count = 1
        for length in shape:  # in Python's integers, which have no end
            if length < 0:
                raise ValueError(f"an array has {length} elements")
            count *= length
        planes = np.frombuffer(self.take(count * wide), np.uint8).reshape(wide, count)
        moved = (shape[0], *shape[2:], shape[1])
        folded = np.ascontiguousarray(planes.T).view(f"<u{wide}").reshape(moved)
        series = (folded >> 1).view(f"<i{wide}") ^ -(folded & 1).view(f"<i{wide}")
        with np.errstate(over="ignore"):
            for _ in range(2 if wide == 8 else 1):
                series = np.cumsum(series, axis=-1, dtype=series.dtype)
        integers = np.ascontiguousarray(np.moveaxis(series, -1, 1))
        if not unit:
            return integers.view(dtype)
        if unit not in _SCALES or wide != 4:
            raise ValueError(f"{unit!r} is no unit")
        return np.asarray(integers.astype(np.float32) / np.float32(unit))


def write_results(storage: Storage, file: StorageFile, results: ResultsList) -> None:
    """Write rows in order, with their blocks, which are read one by one from where they lie.

    Raises:
        ShardError: a block is gone, or not what was written.
    """
    file.write(MAGIC)
    listed: list[dict[str, Any]] = []
    blocks = storage.read_ranges(entry.results.at for entry in results.entries if entry.results is not None)
    for entry in results.entries:
        line: dict[str, Any] = {"row": entry.row_id, "digest": entry.digest}
        found = entry.results
        if found is None:
            line["ended"] = None if entry.ended is None else list(entry.ended)
        else:
            try:
                block = next(blocks)
            except FileNotFoundError as error:
                raise ShardError(f"what was staged is gone ({error}); start the build again") from error
            if hashlib.sha256(block).hexdigest() != found.sha256:
                raise ShardError(f"{found.at.file}: reading back gives other bytes than were written; check the disk")
            line |= {"at": [file.size, len(block), found.sha256], "source_id": found.source_id}
            file.write(bytes(block))
        listed.append(line)
    made_with: dict[str, Any] = {"chains": dict(results.chains), "vectors": results.vectors}
    made_with |= {"texts": results.texts, "mp4": results.mp4, "samples": results.samples}
    if results.captioners:
        made_with["captioners"] = list(results.captioners)
    written = canonical_json({"format": 1, **made_with, "rows": listed})
    file.write(written + len(written).to_bytes(8, "little") + hashlib.sha256(written).digest() + MAGIC)


def read_results_list(storage: Storage, part: PartName) -> ResultsList | None:
    """The list of a part's file of results; None where there is no such file.

    Raises:
        ShardError: it is damaged, or of a later version of posecap.
    """
    name = results_path(part)
    size = storage.size(name)
    if size is None:
        return None
    if size < _TRAILER_BYTES:
        raise ShardError(f"{name} is cut short")
    trailer = storage.read_range(name, size - _TRAILER_BYTES, _TRAILER_BYTES)
    length = int.from_bytes(trailer[:8], "little")
    if trailer[40:] != MAGIC or length > min(MAX_DOCUMENT_BYTES, size - _TRAILER_BYTES):
        raise ShardError(f"{name} is damaged: it does not end as a file of results")
    written = storage.read_range(name, size - _TRAILER_BYTES - length, length)
    if hashlib.sha256(written).digest() != bytes(trailer[8:40]):
        raise ShardError(f"{name} is damaged: the list at its end has another hash")
    try:
        found = parse_json(bytes(written))
        if found["format"] != 1:
            raise ShardError(f"{name} has format {found['format']!r}, this posecap reads 1; update posecap")
        chains = {str(stage): str(chain) for stage, chain in found["chains"].items()}
        entries = tuple(_listed(name, line) for line in found["rows"])
        sha256 = bytes(trailer[8:40]).hex()
        of_samples = {what: str(found.get(what, "")) for what in ("texts", "mp4", "samples")}
        captioners = tuple(map(str, found.get("captioners", ())))
        vectors = str(found["vectors"])
        return ResultsList(chains, vectors, entries, sha256, name, captioners=captioners, **of_samples)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ShardError):
            raise
        raise ShardError(f"{name} is damaged: its list is none of rows ({error!r})") from error


def _listed(name: str, line: Mapping[str, Any]) -> ResultsEntry:
    """A row of the list of the file ``name``, as :func:`write_results` writes it."""
    results, ended = None, None
    if "at" in line:
        offset, size, hashed = line["at"]
        results = StagedResults(FileRange(name, int(offset), int(size)), str(hashed), str(line["source_id"]))
    elif line["ended"] is not None:
        stage, reason, detail = map(str, line["ended"])
        ended = (stage, reason, detail)
    return ResultsEntry(row_id=str(line["row"]), digest=str(line["digest"]), results=results, ended=ended)
