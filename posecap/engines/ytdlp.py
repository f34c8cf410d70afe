"""Fetches YouTube videos with yt-dlp: whole, or only the span that a row names.

Of a span only the bytes that hold it are read, and its packets are copied without decoding.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal

from fsspec.spec import AbstractBufferedFile

from posecap.download.package_index import cache_folder
from posecap.download.retry import HostLimits, HostSlot, RetryPolicy, retry, wait_for_rate_limit, with_timeout
from posecap.download.youtube import UPDATE, Format, best_format, is_plain_video, video_id, youtube_error
from posecap.files import atomic_file, unused_path
from posecap.interfaces import Fetched, Limits
from posecap.stage import Engine, Reject, TransientError
from posecap.types import Span
from posecap.video_file import best_stream, clock_zero

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream


_INSTALL = "yt-dlp is not installed: pip install 'posecap[youtube]'"
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_SOON = frozenset({"connection", "timeout", "truncated"})
"""Reasons of errors after which another attempt soon may succeed; others pass in hours or days, if at all."""
_HOST = "www.youtube.com:443"
"""By this name all downloads share the number of connections, whichever server has the video's bytes."""
_PIECE = 1 << 16
"""Bytes that are read at once; the time is checked after each. Our choice."""
_SPAN_BLOCK, _WHOLE_BLOCK = 1 << 18, 1 << 22
"""Bytes of one request: small for a span, so that little beside it is fetched; large for a whole video, so that there
are few requests (YouTube slows down those above 10 MiB).
"""
# Domain, whether for its sub-domains too, path, whether for https only, time of expiry, name, value.
_COOKIE = re.compile(r"(#HttpOnly_)?[^\s#]+\t(TRUE|FALSE)\t/[^\t]*\t(TRUE|FALSE)\t\d*\t[^\t]+\t[^\t]*")
_COOKIE_BYTES = 1 << 20
"""As much is read of the file of cookies, whatever its size; our choice, of some thousand cookies."""


@dataclass(frozen=True)
class YtDlp(Engine):
    """Fetches videos that rows name by their YouTube address or id.

    With ``stretch="span"`` only the row's span and ``margin_seconds`` on both sides are fetched, from the last keyframe
    before, without re-encoding; ``whole`` fetches everything. Sound is not fetched where YouTube has it in a file of
    its own. A row without a span is fetched whole either way. No other program is needed or run, except the
    ``javascript`` runtime where one is named: without one, yt-dlp is shown no format of some videos (it needs
    ``yt-dlp[default]``).

    Args:
        height: lines of the tallest format taken, counted on the shorter side as in "720p".
        cookies_file: cookies of a signed-in browser in Netscape's format; read, never written or recorded.
        requests_per_minute: to YouTube's pages, shared by all processes with the same cache folder; the video's own
            bytes come from other servers and are not counted. yt-dlp's guide reports a limit near 1000 an hour.
        connections: videos that one worker process fetches at once; others wait, which does not count as time of
            theirs.
        players: the YouTube players that yt-dlp poses as, its ``player_client``; empty leaves the choice to yt-dlp.
        retry_policy: for ``connection``, ``timeout`` and ``truncated``, for each request anew; every other error ends
            the download at once.
        socket_seconds: most time without a byte from a server.
        javascript: ``none``, or the runtime that yt-dlp may run: ``deno``, ``node``, ``bun`` or ``quickjs``.

    ``packages`` stays empty: yt-dlp must be updated often, and what it fetched is known by its hash. Defaults of which
    nothing is said here are our choices: 720 lines are more than models see, 15 requests a minute are 900 an hour, and
    20 seconds are yt-dlp's own.

    Raises:
        ValueError: a number is out of its range.
    """

    name: ClassVar[str] = "ytdlp"
    thread_safe: ClassVar[bool] = True  # every download has a yt-dlp of its own
    extra: ClassVar[str] = "youtube"
    modules: ClassVar[tuple[str, ...]] = ("yt_dlp",)
    path_fields: ClassVar[tuple[str, ...]] = ("cookies_file",)
    runtime_fields: ClassVar[tuple[str, ...]] = ("connections",)

    height: int = 720
    stretch: Literal["span", "whole"] = "span"
    margin_seconds: float = 1.0
    cookies_file: str | None = None
    requests_per_minute: float = 15.0
    players: tuple[str, ...] = ()
    javascript: Literal["none", "deno", "node", "bun", "quickjs"] = "none"
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    socket_seconds: float = 20.0
    connections: int = 4

    def __post_init__(self) -> None:
        if self.height < 1 or self.margin_seconds < 0 or self.requests_per_minute <= 0 or self.connections < 1:
            raise ValueError(
                "YtDlp: needs height >= 1, margin_seconds >= 0, requests_per_minute > 0 and connections >= 1"
            )

    def load(self) -> None:
        """Load yt-dlp and read the cookies once, so that a build without either ends before its first row.

        Raises:
            ModuleNotFoundError: yt-dlp is not installed.
            ValueError: ``cookies_file`` cannot be read as cookies.
        """
        _Session(self, "", until=time.monotonic()).load()

    def accepts(self, uri: str) -> bool:
        """Addresses of single YouTube videos and ``youtube:ID``; no channels, no playlists."""
        return video_id(uri) is not None

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        """Fetch into ``folder``; see :class:`posecap.interfaces.Fetcher`.

        Raises:
            Reject: ``bad_uri``, ``removed``, ``private``, ``age_restricted``, ``geo_blocked``, ``members_only``,
                ``paid``, ``copyright``, ``live``, ``drm``, ``no_format``, ``too_large``, ``no_video_stream``,
                ``undecodable``, ``span_outside_video``.
            TransientError: ``not_yet_available``, ``rate_limited``, ``no_turn``, ``unavailable``, ``forbidden``,
                ``extractor_broken``, ``connection``, ``timeout``, ``tls``, ``truncated``, ``changed``, ``bad_range``.
        """
        identity = video_id(uri)
        if identity is None:
            raise Reject("bad_uri", f"{uri} names no single YouTube video; write https://www.youtube.com/watch?v=ID")
        target = unused_path(folder, "video.mp4")
        # One after another, requests of many videos would be so far apart that none is done in its time.
        with HostSlot(HostLimits(connections=self.connections), longest_pause_seconds=0.0) as slot:
            slot.take(_HOST)
            until = time.monotonic() + limits.seconds
            with atomic_file(target) as file:
                session = _Session(self, identity, until)
                wanted = span if self.stretch == "span" else None
                begins, ending = with_timeout(
                    limits.seconds, lambda: session.download(file, limits=limits, span=wanted), what=session.shown
                )
        return Fetched(target.replace(target.with_suffix(f".{ending}")), "temporary", begins)


class _Session:
    """The download of one video."""

    def __init__(self, engine: YtDlp, identity: str, until: float) -> None:
        self._engine, self._identity, self._until = engine, identity, until
        self._remarks: list[str] = []
        """yt-dlp prints nothing; its remarks may explain an error."""
        self.shown = f"https://youtu.be/{identity}"

    def load(self) -> Any:
        """A yt-dlp for one site that runs no program, loads no plugin, and keeps no cache, cookie or file."""
        try:
            from yt_dlp import YoutubeDL
            from yt_dlp.extractor.youtube import YoutubeIE
            from yt_dlp.globals import plugin_dirs
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(_INSTALL, name=missing.name) from missing
        plugin_dirs.value = []
        youtube = YoutubeDL(self._options(), auto_init=False)
        youtube.add_info_extractor(YoutubeIE())
        return youtube

    def download(self, file: BinaryIO, *, limits: Limits, span: Span | None) -> tuple[float, str]:
        """Write the video, or the part around ``span``, into ``file``.

        Returns:
            Where in the whole video it begins, in seconds, and the suffix for its format.
        """
        youtube = self.load()
        again = functools.partial(retry, policy=self._engine.retry_policy, until=self._until, reasons=_SOON)
        chosen = self._choose(again(lambda: self._look_up(youtube)))
        self._wait_until_playable(chosen)

        def ask(first: int, last: int) -> tuple[bytes, int]:
            return again(lambda: self._part(youtube, chosen, first, last))

        block = _WHOLE_BLOCK if span is None else _SPAN_BLOCK
        with RangeFile(ask, size_limit=limits.size_bytes, name=self.shown, block_bytes=block) as remote:
            if span is not None:
                margin = self._engine.margin_seconds
                return remux_span(remote, file, span=span, margin_seconds=margin, container=chosen["ext"]), "mp4"
            if remote.size > limits.size_bytes:
                raise Reject(
                    "too_large",
                    f"{self.shown} has {remote.size} bytes, more than {limits.size_bytes}; raise limits.size_bytes, or "
                    "name a span",
                )
            while part := remote.read(_WHOLE_BLOCK):
                file.write(part)
            return 0.0, str(chosen["ext"])

    def _options(self) -> dict[str, Any]:
        """yt-dlp's own, for the engine's fields."""
        engine = self._engine
        # What is skipped takes requests of its own, and gives no plain file: playlists, subtitles, what the page adds.
        arguments = {"player_client": list(engine.players), "skip": ["hls", "dash", "translated_subs"]}
        arguments["player_skip"] = ["initial_data", *(["js"] if engine.javascript == "none" else [])]
        return {
            "quiet": True,
            "logger": SimpleNamespace(
                debug=lambda line: self._remarks.append(line) if "age-restricted" in line else None,
                warning=self._remarks.append,
                error=lambda line: None,
            ),
            "color": "never",
            "noprogress": True,
            "noplaylist": True,
            "cachedir": False,
            "cookiefile": _cookies(engine.cookies_file),
            "socket_timeout": engine.socket_seconds,
            "extractor_retries": 0,  # this engine retries by itself
            "js_runtimes": {} if engine.javascript == "none" else {engine.javascript: {}},
            "remote_components": [],
            "extractor_args": {"youtube": {key: value for key, value in arguments.items() if value}},
            # Any format will do: this engine chooses among them itself (_choose), not by yt-dlp's format expressions.
            "format": lambda context: iter(context["formats"][:1]),
        }

    def _look_up(self, youtube: Any) -> dict[str, Any]:
        """YouTube's description of the video, formats included."""
        from yt_dlp.utils import YoutubeDLError

        engine, send = self._engine, type(youtube).urlopen
        self._remarks.clear()

        def send_in_turn(request: Any) -> Any:
            state = cache_folder() / "youtube-pace"
            wait_for_rate_limit(state, per_minute=engine.requests_per_minute, until=self._until)
            return send(youtube, request)

        youtube.urlopen = send_in_turn
        try:
            watch = f"https://www.youtube.com/watch?v={self._identity}"
            found: dict[str, Any] = youtube.extract_info(watch, download=False, ie_key="Youtube")
        except YoutubeDLError as error:
            raise youtube_error(self.shown, str(error), warnings=tuple(self._remarks)) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # Answers of a shape that the extractor was not written for.
            raise TransientError(
                "extractor_broken", f"{self.shown}: {type(error).__name__} in yt-dlp; {UPDATE}"
            ) from error
        finally:
            del youtube.urlopen
        if found.get("id") != self._identity:
            raise Reject("paid", f"{self.shown} shows strangers only a trailer; a cookies_file of a buyer would help")
        if found.get("live_status") == "is_live":
            raise Reject("live", f"{self.shown} is a live stream, which has no fixed content")
        if found.get("live_status") in ("is_upcoming", "post_live"):
            raise TransientError(
                "not_yet_available", f"{self.shown}: the live event is ahead or being prepared: run again later"
            )
        return found

    def _choose(self, found: dict[str, Any]) -> Format:
        """The format to fetch, of a video as :meth:`_look_up` describes it."""
        usable = [f for f in found.get("formats") or () if is_plain_video(f)]
        if not usable:
            raise TransientError("extractor_broken", f"{self.shown} shows no plain video file to this player; {UPDATE}")
        best = best_format(usable, height=self._engine.height)
        if best is None:
            raise Reject(
                "no_format", f"{self.shown} has no format of at most {self._engine.height} lines; raise height"
            )
        return best

    def _wait_until_playable(self, chosen: Format) -> None:
        """Wait as long as YouTube shows advertisements before the video; asked sooner it answers with errors."""
        wait = (chosen.get("available_at") or 0) - time.time()
        if wait > 0:
            if time.monotonic() + wait >= self._until:
                raise TransientError(
                    "timeout",
                    f"{self.shown}: not playable within the time limit; run again, or raise the limit of seconds",
                )
            time.sleep(wait)

    def _part(self, youtube: Any, chosen: Format, first: int, last: int) -> tuple[bytes, int]:
        """Bytes ``first`` to ``last``, both included, of the chosen format, and the size of the whole."""
        from yt_dlp.networking import Request

        headers = {
            **(chosen.get("http_headers") or {}),
            "Range": f"bytes={first}-{last}",
            "Accept-Encoding": "identity",
        }
        with (
            self._faults_translated(),
            contextlib.closing(youtube.urlopen(Request(chosen["url"], headers=headers))) as got,
        ):
            match = _CONTENT_RANGE.fullmatch(got.headers.get("Content-Range", ""))
            if got.status != 206 or match is None or int(match[1]) != first or int(match[2]) > last:
                raise TransientError("bad_range", f"{self.shown}: the server sent another part than the one asked for")
            length = int(match[2]) + 1 - first
            body = io.BytesIO()
            while body.tell() < length and (piece := got.read(min(_PIECE, length - body.tell()))):
                if time.monotonic() > self._until:
                    raise TransientError("timeout", f"{self.shown}: not finished within the time allowed")
                body.write(piece)
        if body.tell() < length:
            raise TransientError("truncated", f"{self.shown}: the server sent less than it announced")
        return body.getvalue(), int(match[3])

    @contextlib.contextmanager
    def _faults_translated(self) -> Iterator[None]:
        """In the block, yt-dlp's network errors become those that :meth:`YtDlp.fetch` names."""
        from yt_dlp.networking.exceptions import HTTPError, RequestError

        try:
            yield
        except HTTPError as error:
            error.close()
            if error.status in (401, 403, 404, 410):  # said of the file's address, which holds for a while only
                advice = "update yt-dlp, or try javascript or a cookies_file"
                raise TransientError(
                    "forbidden", f"{self.shown}: the server denied the video's bytes ({error.status}); {advice}"
                ) from None
            raise youtube_error(self.shown, f"HTTP Error {error.status}") from None
        except RequestError as error:
            message = (
                str(error) if re.search("timed? ?out|certificate|ssl", str(error), re.IGNORECASE) else "connection"
            )
            raise youtube_error(self.shown, message) from None


def _cookies(path: str | None) -> io.StringIO | None:
    """The file's cookies in memory: given its path, yt-dlp would write to the file, which workers share. None for none.

    Lines that are not well-formed are left out, since yt-dlp would print them; so is what comes after the first MiB.
    """
    if path is None:
        return None
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            lines = file.read(_COOKIE_BYTES).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cookies_file {path} cannot be read ({type(error).__name__}); export it again") from None
    cookies = [line for line in lines if _COOKIE.fullmatch(line)]
    if not cookies:
        raise ValueError(f"cookies_file {path} holds no cookies in Netscape's format; export it again")
    return io.StringIO("\n".join(["# Netscape HTTP Cookie File", *cookies, ""]))


FetchRange = Callable[[int, int], tuple[bytes, int]]
"""Gives bytes ``first`` to ``last``, both included, and the size of the whole file in bytes. Only in the first call,
whose purpose is to learn that size, may ``last`` lie beyond the end; what exists is then given.
"""

_LOOK_BACK_SECONDS = (0.0, 2.0, 10.0, 60.0)
"""How much earlier than wanted to seek; the next one is tried when the keyframe found is after the span's start. Our
choices: most videos have a keyframe every few seconds."""
_CACHED_BLOCKS = 8
"""In memory: FFmpeg goes back and forth between a file's index and its packets. Our choice."""
_EPSILON_SECONDS = 1e-6
"""By so much may a keyframe's time, as rounded, be after the span's start."""


class RangeFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A remote file with random access, read block by block; the last few blocks are cached until :meth:`close`.

    Args:
        fetch_range: called for the first block by the constructor, since its answer has the size of the file. What it
            raises later is raised by :meth:`read`, and again by :meth:`check`.
        size_limit: most bytes to fetch in all, blocks that are fetched again included.
        name: of the file in messages.
        block_bytes: fetched at a time.
    """

    def __init__(self, fetch_range: FetchRange, *, size_limit: int, name: str, block_bytes: int) -> None:
        self._ask, self._size_limit, self._name = fetch_range, size_limit, name
        self._fetched = 0
        self._error: Exception | None = None
        self._first, size = fetch_range(0, block_bytes - 1)
        self._count(self._first, min(block_bytes, size))
        cache: dict[str, Any] = {"cache_type": "blockcache", "cache_options": {"maxblocks": _CACHED_BLOCKS}}
        super().__init__(None, name, block_size=block_bytes, size=size, **cache)

    def check(self) -> None:
        """Raise what a read has raised: FFmpeg takes a failed read for the end of the file."""
        if self._error is not None:
            raise self._error

    def read(self, length: int = -1) -> bytes:
        # The oldest fsspec that is allowed asks for blocks beyond the end; and PyAV takes nothing but bytes.
        left = max(0, self.size - self.loc)
        return bytes(super().read(left if length < 0 else min(length, left)))

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Called by the cache for blocks that it does not have."""
        if start == 0:
            return self._first
        self.check()
        try:
            block, size = self._ask(start, min(end, self.size) - 1)
            if size != self.size:
                raise TransientError("changed", f"{self._name}: the file changed while it was read; run again")
            self._count(block, min(end, size) - start)
        except Exception as error:
            self._error = error
            raise
        return block

    def _count(self, block: bytes, announced: int) -> None:
        if len(block) != announced:
            raise TransientError("truncated", f"{self._name}: the server sent less than it announced")
        self._fetched += len(block)
        if self._fetched > self._size_limit:
            raise Reject("too_large", f"{self._name} needs more than {self._size_limit} bytes; raise limits.size_bytes")


def remux_span(remote: RangeFile, out: BinaryIO, *, span: Span, margin_seconds: float, container: str) -> float:
    """Write the packets of ``span`` from ``remote`` into ``out``, an mp4, without decoding them.

    They begin at a keyframe, ``margin_seconds`` before the span's start or earlier where the file allows, else at the
    last one before that start, or at the file's first where none is before it: no frame before that one can be decoded.
    They end before the first packet that is ``margin_seconds`` after the span's end or later. Every frame of the span
    that the whole file gives so decodes to the same pixels. Of a span beyond the file's end the last keyframe and what
    follows it are written, and the decode stage rejects it.

    Args:
        out: empty, seekable, and open for writing; the muxer goes back to write the file's index.
        span: in seconds of the player's clock, which starts where the remote file's first stream starts.
        margin_seconds: how much more to write on both sides.
        container: FFmpeg's name of the remote file's format, ``mp4`` or ``webm``; no other is tried.

    Returns:
        The time in the whole video, in seconds of its player's clock, at which ``out`` begins.

    Raises:
        Reject: ``no_video_stream``, ``undecodable``, or ``span_outside_video`` where no keyframe is before the span's
            end.
        Reject, TransientError: what reading raises.
    """
    import av

    try:
        with av.open(remote, "r", format=container, metadata_errors="ignore") as source:
            stream, _ = best_stream(source)
            zero = _zero(source, stream)
            start = _remux(_span_packets(source, stream, span, margin_seconds), stream, zero, out)
    except (av.error.FFmpegError, ArithmeticError, LookupError, ValueError, Reject) as error:
        remote.check()
        if isinstance(error, Reject):
            raise
        message = error.strerror if isinstance(error, av.error.FFmpegError) else str(error)
        raise Reject("undecodable", f"FFmpeg says of the remote file: {message}") from error
    remote.check()
    return start


def _span_packets(
    source: InputContainer, stream: VideoStream, span: Span, margin: float
) -> Iterator[Packet[VideoStream]]:
    """Packets in decoding order, from a keyframe on, without the leading pictures that need what comes before it."""
    unit, zero = float(stream.time_base or 0), _zero(source, stream)
    first, packets = _first_keyframe(source, stream, span, margin)
    if first.pts is None:
        raise Reject("undecodable", "the remote file does not say when its frames are shown")
    yield first
    for packet in packets:
        moment = packet.pts if packet.dts is None else packet.dts
        if moment is None or packet.pts is None:  # a frame that cannot be placed in time is in no span
            continue
        if (moment - zero) * unit >= span.end_seconds + margin:
            return
        if packet.pts > first.pts:
            yield packet


def _first_keyframe(
    source: InputContainer, stream: VideoStream, span: Span, margin: float
) -> tuple[Packet[VideoStream], Iterator[Packet[VideoStream]]]:
    """The keyframe to begin with, and the packets after it."""
    import av

    unit, zero = float(stream.time_base or 0), _zero(source, stream)
    wanted = span.start_seconds - margin
    for target in (*(wanted - earlier for earlier in _LOOK_BACK_SECONDS if earlier < wanted), 0.0):
        # Without a keyframe before the target FFmpeg refuses to seek there, and the file is read on from where it
        # stands: at first its beginning, to which the last target goes back with or without a keyframe.
        try:
            source.seek(int(zero + target / unit), stream=stream)
        except av.error.FFmpegError:
            if target == 0:
                with suppress(av.error.FFmpegError):
                    source.seek(int(zero), stream=stream, any_frame=True)
        packets = (packet for packet in source.demux(stream) if packet.size)
        first = next((packet for packet in packets if packet.is_keyframe), None)
        if first is None or first.pts is None:
            continue
        moment = (first.pts - zero) * unit
        if moment <= span.start_seconds + _EPSILON_SECONDS or (target == 0 and moment < span.end_seconds):
            return first, packets
    raise Reject("span_outside_video", f"the video has no keyframe before {span.end_seconds:g} s")


def _zero(source: InputContainer, stream: VideoStream) -> float:
    """Where the player's clock starts, in ticks of the stream."""
    return float(clock_zero(source, stream) / Fraction(stream.time_base)) if stream.time_base else 0.0


def _remux(packets: Iterator[Packet[VideoStream]], stream: VideoStream, zero: float, out: BinaryIO) -> float:
    """Write ``packets`` with times that count from the first one; returns the first one's time in the whole video."""
    import av

    first = next(packets)
    start = first.pts or 0
    # bitexact: no version of the library in the file, so the same span has the same bytes.
    with av.open(out, "w", format="mp4", options={"fflags": "+bitexact"}) as sink:
        target = sink.add_stream_from_template(stream)
        for packet in chain((first,), packets):
            packet.pts = (packet.pts or 0) - start
            if packet.dts is not None:
                packet.dts -= start
            packet.stream = target
            sink.mux_one(packet)
    return float((start - zero) * (stream.time_base or 0))
