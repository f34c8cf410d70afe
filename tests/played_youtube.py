"""YouTube's parts, played by a server on this machine: watch pages, the player's answers, and the bytes of videos.

with PlayedYouTube(monkeypatch) as youtube:     yt-dlp's requests to https://www.youtube.com come here from now on
    youtube.shows(VIDEO, body)                  a video whose bytes are ``body``
    youtube.refuses(VIDEO, "LOGIN_REQUIRED", "Private video")
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

HOSTS = ("www.youtube.com", "rr1.googlevideo.com")
WATCH_PAGE = (
    b"<!doctype html><title>Played</title>"
    b'<script>ytcfg.set({"INNERTUBE_CONTEXT": {"client": {"clientName": "WEB", "clientVersion": "2"}}});</script>'
    b'<script>var ytInitialData = {"contents": {"played": true}};</script>'
)


class PlayedYouTube:
    """Answers by video id. ``asked`` lists (path, id, Range header) of every request, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.seen_cookies: list[str] = []
        self.seen_players: list[str] = []
        self.players: dict[str, dict[str, Any]] = {}
        self.bodies: dict[str, bytes] = {}
        self.status: dict[str, list[int]] = {}
        """Statuses that a path answers with before it works, e.g. ``{"player": [429]}``."""
        self.cuts: list[int] = []
        """Bytes after which the next answers with video break off."""
        self.ignores_ranges = False
        self.silence_seconds = 0.0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"youtube": self}))
        self._redirect(monkeypatch)

    def __enter__(self) -> PlayedYouTube:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def shows(self, identity: str, body: bytes, **changes: Any) -> None:
        """A video with one H.264 format, 240 lines; ``changes`` replace what that format says."""
        self.shows_formats(identity, {"134": body}, [form("134", body, identity, **changes)])

    def shows_formats(self, identity: str, bodies: dict[str, bytes], formats: list[dict[str, Any]]) -> None:
        self.bodies |= {f"{identity}/{itag}": body for itag, body in bodies.items()}
        self.players[identity] = {
            "playabilityStatus": {"status": "OK"},
            "videoDetails": {"videoId": identity, "title": "Played", "lengthSeconds": "10", "isLiveContent": False},
            "streamingData": {"adaptiveFormats": formats},
        }

    def refuses(self, identity: str, status: str, reason: str, subreason: str = "", **details: Any) -> None:
        screen = {"reason": {"simpleText": reason}, "subreason": {"simpleText": subreason}}
        self.players[identity] = {
            "playabilityStatus": {
                "status": status,
                "reason": reason,
                "errorScreen": {"playerErrorMessageRenderer": screen if subreason else {}},
            },
            "videoDetails": {"videoId": identity, "title": "Played", **details},
        }

    @property
    def ranges(self) -> list[str | None]:
        return [header for path, _, header in self.asked if path == "videoplayback"]

    def _redirect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import yt_dlp

        real, port = yt_dlp.YoutubeDL.urlopen, self.server.server_address[1]

        def urlopen(youtube: Any, request: Any) -> Any:
            request = yt_dlp.networking.Request(request) if isinstance(request, str) else request
            split = urlsplit(request.url)
            assert (split.scheme, split.hostname in HOSTS) == ("https", True), f"nobody plays {request.url}"
            request.url = f"http://127.0.0.1:{port}{split.path}?{split.query}"
            return real(youtube, request)

        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        monkeypatch.setattr(yt_dlp.YoutubeDL, "urlopen", urlopen)


def form(itag: str, body: bytes, identity: str, **changes: Any) -> dict[str, Any]:
    """One entry of adaptiveFormats."""
    known = {
        "itag": int(itag),
        "url": f"https://rr1.googlevideo.com/videoplayback?id={identity}&itag={itag}",
        "mimeType": 'video/mp4; codecs="avc1.4d401e"',
        "bitrate": 300_000,
        "width": 320,
        "height": 240,
        "contentLength": str(len(body)),
        "quality": "small",
        "qualityLabel": "240p",
        "fps": 30,
        "approxDurationMs": "10000",
    }
    return {**known, **changes}


class _Handler(BaseHTTPRequestHandler):
    youtube: PlayedYouTube

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        page = split.path.rpartition("/")[2]
        self.youtube.seen_cookies.append(self.headers.get("Cookie", ""))
        self.youtube.asked.append((page, query.get("v") or query.get("id", ""), self.headers.get("Range")))
        time.sleep(self.youtube.silence_seconds)
        if self._out_of_order(page):
            return
        if page == "videoplayback":
            self._send_range(self.youtube.bodies[f"{query['id']}/{query['itag']}"])
        elif page == "watch" or "/embed/" in split.path:
            self._send(200, WATCH_PAGE, {"Content-Type": "text/html; charset=utf-8"})
        else:
            self._send(404, b"")

    def do_POST(self) -> None:
        page = urlsplit(self.path).path.rpartition("/")[2]
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        identity = question.get("videoId", "")
        self.youtube.asked.append((page, identity, None))
        self.youtube.seen_players.append(question["context"]["client"]["clientName"])
        if page == "player" and not self._out_of_order(page):
            self._send(200, json.dumps(self.youtube.players[identity]).encode(), {"Content-Type": "application/json"})
        elif page != "player":
            self._send(404, b"{}")

    def _out_of_order(self, page: str) -> bool:
        waiting = self.youtube.status.get(page)
        if not waiting:
            return False
        status = waiting.pop(0)
        if status:
            self._send(status, b"{}")
        else:  # the line goes dead before any answer
            self.close_connection = True
        return True

    def _send_range(self, body: bytes) -> None:
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        last = min(last, len(body) - 1)
        if self.youtube.ignores_ranges:
            self._send(200, body)
            return
        part = body[first : last + 1]
        headers = {"Content-Range": f"bytes {first}-{last}/{len(body)}", "Content-Type": "video/mp4"}
        self._send(206, part, headers, cut=self.youtube.cuts.pop(0) if self.youtube.cuts else None)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:cut])


__all__ = ["PlayedYouTube", "form"]
