"""Fetches YouTube videos with yt-dlp: whole, or only the span that a row names."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, ClassVar, Literal

from posecap.download.byte_ranges import RangeFile, remux_span
from posecap.download.package_index import cache_folder
from posecap.download.retry import HostLimits, HostSlot, RetryPolicy, retry, wait_for_rate_limit, with_timeout
from posecap.download.youtube import UPDATE, Format, best_format, is_plain_video, video_id, youtube_error
from posecap.files import atomic_file, unused_path
from posecap.interfaces import Fetched, Limits
from posecap.stage import Engine, Reject, TransientError
from posecap.types import Span

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
