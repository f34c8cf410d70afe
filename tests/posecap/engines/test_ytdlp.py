"""The real yt-dlp and its real YouTube extractor, against a server that plays YouTube. Stretches of remote videos: the
same frames as the whole, few bytes read, troubles passed on."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from posecap.engines.pyav import PyAV
from posecap.engines.ytdlp import RangeFile, remux_span
from posecap.stage import Reject, TransientError
from posecap.types import Span
from tests import ROOT, footage

pytest.importorskip("yt_dlp")

from posecap.download.retry import RetryPolicy
from posecap.engines.ytdlp import YtDlp
from posecap.interfaces import Limits
from posecap.stage import configuration
from tests.concurrency import AtOnce
from tests.played_youtube import PlayedYouTube, form

VIDEO = "dQw4w9WgX-_"
URI = f"https://www.youtube.com/watch?v={VIDEO}"
SIZE = (320, 240)
YTDLP = YtDlp(requests_per_minute=60_000, retry_policy=RetryPolicy(attempts=2, base_seconds=0.01), socket_seconds=5)


@pytest.fixture
def youtube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PlayedYouTube]:
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    with PlayedYouTube(monkeypatch) as playing:
        yield playing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, a keyframe every second."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    return footage.write_video(path, frames=300, size=SIZE, options={"g": "30", "bf": "2"})


def refused(ytdlp: YtDlp, folder: Path, limits: Limits | None = None) -> Reject:
    """What a fetch raises; nothing stays behind."""
    with pytest.raises(Reject) as caught:
        ytdlp.fetch(URI, folder, limits=limits or Limits(), span=Span(4.0, 5.0))
    assert list(folder.iterdir()) == []
    assert str(folder) not in caught.value.detail
    return caught.value


def test_brings_the_span_with_its_place_on_the_clock(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    fetched = YTDLP.fetch(URI, folder, limits=Limits(), span=Span(5.5, 6.5))
    assert (fetched.keeping, fetched.begins_seconds, fetched.path.suffix) == ("temporary", 4.0, ".mp4")
    assert list(folder.iterdir()) == [fetched.path]
    pyav = PyAV()
    (whole,) = pyav.frames(video, pyav.probe(video), span=Span(5.5, 6.5), size=SIZE)
    (ours,) = pyav.frames(fetched.path, pyav.probe(fetched.path), span=Span(1.5, 2.5), size=SIZE)
    assert footage.numbers(ours.frames_THW3) == list(range(165, 195))
    assert np.array_equal(ours.frames_THW3, whole.frames_THW3)
    np.testing.assert_allclose(ours.pts_T + fetched.begins_seconds, whole.pts_T, rtol=0, atol=1e-9)


def test_brings_everything_where_no_span_is_wanted(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    body = video.read_bytes()
    youtube.shows(VIDEO, body)
    for ytdlp, span in ((YTDLP, None), (replace(YTDLP, stretch="whole"), Span(4.0, 5.0))):
        fetched = ytdlp.fetch(f"youtube:{VIDEO}", folder, limits=Limits(size_bytes=len(body)), span=span)
        assert fetched.path.read_bytes() == body
        assert fetched.begins_seconds == 0.0


def test_asks_for_little(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    YTDLP.fetch(URI, folder, limits=Limits(), span=Span(4.0, 5.0))
    assert [page for page, _, _ in youtube.asked] == ["watch", "player", "videoplayback"]


def test_a_webm_stays_a_webm_unless_cut(youtube: PlayedYouTube, folder: Path, tmp_path: Path) -> None:
    options = {"g": "15", "deadline": "realtime", "cpu-used": "8"}
    vp9 = footage.write_video(tmp_path / "v.webm", frames=60, size=SIZE, codec="libvpx-vp9", options=options)
    youtube.shows(VIDEO, vp9.read_bytes(), mimeType='video/webm; codecs="vp9"')
    whole = YTDLP.fetch(URI, folder, limits=Limits())
    assert (whole.path.suffix, whole.path.read_bytes()) == (".webm", vp9.read_bytes())
    stretch = YTDLP.fetch(URI, folder, limits=Limits(), span=Span(1.6, 2.0))
    assert (stretch.path.suffix, stretch.begins_seconds) == (".mp4", 0.5)
    assert PyAV().probe(stretch.path).codec == "vp9"
    assert set(folder.iterdir()) == {whole.path, stretch.path}


def test_the_player_can_be_named(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    replace(YTDLP, players=("ios", "visionos")).fetch(URI, folder, limits=Limits(), span=Span(4.0, 5.0))
    assert youtube.seen_players == ["IOS", "VISIONOS"]


def test_a_javascript_runtime_that_is_not_there_changes_nothing(
    youtube: PlayedYouTube, folder: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    monkeypatch.setenv("PATH", "")
    fetched = replace(YTDLP, javascript="node").fetch(URI, folder, limits=Limits())
    assert fetched.path.read_bytes() == video.read_bytes()


def test_waits_for_what_is_shown_before_the_video(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    advertisement = {"instreamVideoAdRenderer": {"playerVars": "length_seconds=30"}}
    place = {"config": {"adPlacementConfig": {"kind": "AD_PLACEMENT_KIND_START"}}, "renderer": advertisement}
    youtube.players[VIDEO]["adPlacements"] = [{"adPlacementRenderer": place}]
    found = refused(YTDLP, folder, Limits(seconds=20))
    assert (type(found), found.reason) == (TransientError, "timeout")
    assert youtube.ranges == []


GEO = "The uploader has not made this video available in your country"
REFUSALS = [
    ("ERROR", "Video unavailable", "This video has been removed by the uploader", Reject, "removed"),
    ("ERROR", "Video unavailable", "The YouTube account … has been terminated.", Reject, "removed"),
    ("ERROR", "Video unavailable", "", Reject, "removed"),
    ("ERROR", "Video unavailable", "This video is not available", TransientError, "unavailable"),
    ("LOGIN_REQUIRED", "Private video", "Sign in if you've been granted access", Reject, "private"),
    ("LOGIN_REQUIRED", "Sign in to confirm your age", "It may be …", Reject, "age_restricted"),
    ("LOGIN_REQUIRED", "This video may be inappropriate for some users.", "", Reject, "age_restricted"),
    ("UNPLAYABLE", "Video unavailable", GEO, Reject, "geo_blocked"),
    ("UNPLAYABLE", "Video unavailable", "X has blocked it on copyright grounds", Reject, "copyright"),
    ("UNPLAYABLE", "Join this channel to get access to members-only content", "", Reject, "members_only"),
    ("LIVE_STREAM_OFFLINE", "Premieres in 5 hours", "", TransientError, "not_yet_available"),
    ("LIVE_STREAM_OFFLINE", "This live event will begin in 2 days.", "", TransientError, "not_yet_available"),
    ("LOGIN_REQUIRED", "Sign in to confirm you’re not a bot", "This helps …", TransientError, "rate_limited"),
    ("UNPLAYABLE", "Never heard of", "", TransientError, "extractor_broken"),
]


@pytest.mark.parametrize(("status", "said", "more", "kind", "reason"), REFUSALS)
def test_each_refusal_has_its_reason(
    youtube: PlayedYouTube, folder: Path, status: str, said: str, more: str, kind: type[Reject], reason: str
) -> None:
    youtube.refuses(VIDEO, status, said, more)
    found = refused(YTDLP, folder)
    assert (type(found), found.reason) == (kind, reason)
    assert refused(YTDLP, folder).detail == found.detail
    assert found.detail.startswith(f"https://youtu.be/{VIDEO}: ")


@pytest.mark.parametrize(
    ("details", "kind", "reason"),
    [({"isLive": True}, Reject, "live"), ({"isUpcoming": True}, TransientError, "not_yet_available")],
)
def test_streams_are_told_apart(
    youtube: PlayedYouTube, folder: Path, video: Path, details: dict[str, Any], kind: type[Reject], reason: str
) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    youtube.players[VIDEO]["videoDetails"] |= {"isLiveContent": True, **details}
    found = refused(YTDLP, folder)
    assert (type(found), found.reason) == (kind, reason)


def test_a_trailer_is_not_the_video(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows("aaaaaaaaaaa", video.read_bytes())
    youtube.refuses(VIDEO, "UNPLAYABLE", "This video requires payment to watch")
    trailer = {"playerLegacyDesktopYpcTrailerRenderer": {"trailerVideoId": "aaaaaaaaaaa"}}
    youtube.players[VIDEO]["playabilityStatus"]["errorScreen"] = trailer
    assert refused(YTDLP, folder).reason == "paid"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "no",
        7,
        None,
        {"playabilityStatus": [], "videoDetails": {"videoId": VIDEO}},
        {"playabilityStatus": {"status": "OK"}, "videoDetails": {"videoId": "aaaaaaaaaaa"}},
        {"videoDetails": {"videoId": VIDEO}, "streamingData": {"adaptiveFormats": [{"url": 5, "itag": {}}]}},
        {"videoDetails": {"videoId": VIDEO}, "streamingData": {"adaptiveFormats": [{"url": "https://h/", "fps": "x"}]}},
        {"videoDetails": {"videoId": VIDEO}, "streamingData": [[]], "microformat": 3},
        {"playabilityStatus": {"status": "ERROR", "reason": {"a": "b"}}, "videoDetails": {"videoId": VIDEO}},
    ],
)
def test_answers_of_another_shape(youtube: PlayedYouTube, folder: Path, answer: Any) -> None:
    youtube.players[VIDEO] = answer
    found = refused(YTDLP, folder)
    assert isinstance(found, TransientError)
    assert refused(YTDLP, folder).detail == found.detail


PASSING = [{"player": [500]}, {"player": [0]}, {"videoplayback": [503]}, {"videoplayback": [0]}, {"watch": [429]}]
LASTING = [
    ({"player": [429]}, "rate_limited"),
    ({"player": [500, 500]}, "connection"),
    ({"player": [0, 0]}, "connection"),
    ({"videoplayback": [403]}, "forbidden"),
    ({"videoplayback": [429]}, "rate_limited"),
    ({"videoplayback": [500, 500]}, "connection"),
]


@pytest.mark.parametrize("status", PASSING)
def test_goes_on_after_a_passing_trouble(
    youtube: PlayedYouTube, folder: Path, video: Path, status: dict[str, list[int]]
) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    youtube.status = {page: list(codes) for page, codes in status.items()}
    assert YTDLP.fetch(URI, folder, limits=Limits()).path.read_bytes() == video.read_bytes()


@pytest.mark.parametrize(("status", "reason"), LASTING)
def test_gives_up_for_now_after_a_lasting_trouble(
    youtube: PlayedYouTube, folder: Path, video: Path, status: dict[str, list[int]], reason: str
) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    youtube.status = {page: list(codes) for page, codes in status.items()}
    found = refused(YTDLP, folder)
    assert (type(found), found.reason) == (TransientError, reason)
    assert not any(youtube.status.values())


def test_goes_on_where_a_transfer_broke(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    youtube.cuts = [1000]
    fetched = YTDLP.fetch(URI, folder, limits=Limits())
    assert fetched.path.read_bytes() == video.read_bytes()
    fetched.path.unlink()
    youtube.cuts = [1000, 1000]
    found = refused(YTDLP, folder)
    assert (type(found), found.reason) in ((TransientError, "connection"), (TransientError, "truncated"))


def test_a_server_that_ignores_ranges(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    youtube.ignores_ranges = True
    assert refused(YTDLP, folder).reason == "bad_range"


def test_takes_the_tallest_format_allowed(youtube: PlayedYouTube, folder: Path) -> None:
    tall = {"width": 1280, "height": 720, "qualityLabel": "720p", "quality": "hd720"}
    formats = [form("136", b"tall", VIDEO, **tall), form("134", b"low", VIDEO)]
    youtube.shows_formats(VIDEO, {"136": b"tall", "134": b"low"}, formats)
    assert YTDLP.fetch(URI, folder, limits=Limits()).path.read_bytes() == b"tall"
    assert replace(YTDLP, height=719).fetch(URI, folder, limits=Limits()).path.read_bytes() == b"low"
    with pytest.raises(Reject) as caught:
        replace(YTDLP, height=239).fetch(URI, folder, limits=Limits())
    assert (caught.value.reason, type(caught.value)) == ("no_format", Reject)


@pytest.mark.parametrize("changes", [{"url": None}, {"url": "https://rr1.googlevideo.com/videoplayback?n=challenge"}])
def test_formats_that_need_javascript(youtube: PlayedYouTube, folder: Path, changes: dict[str, Any]) -> None:
    youtube.shows(VIDEO, b"", **changes)
    found = refused(YTDLP, folder)
    assert (type(found), found.reason) == (TransientError, "extractor_broken")
    assert "javascript" in found.detail
    assert "yt-dlp" in found.detail


def test_size_limit(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    for ytdlp in (YTDLP, replace(YTDLP, stretch="whole")):
        found = refused(ytdlp, folder, Limits(size_bytes=video.stat().st_size - 1))
        assert (type(found), found.reason) == (Reject, "too_large")


def test_time_limit(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    youtube.silence_seconds = 1.0
    found = refused(YTDLP, folder, Limits(seconds=0.2))
    assert (type(found), found.reason) == (TransientError, "timeout")
    found = refused(replace(YTDLP, socket_seconds=0.2), folder, Limits())
    assert (type(found), found.reason) == (TransientError, "timeout")


def test_a_pace_too_slow_for_the_time_allowed(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    found = refused(replace(YTDLP, requests_per_minute=1), folder, Limits(seconds=30))
    assert (type(found), found.reason) == (TransientError, "no_turn")
    assert [page for page, _, _ in youtube.asked] == ["watch"]


def test_cookies_are_sent_and_the_file_is_left_alone(
    youtube: PlayedYouTube, folder: Path, video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    jar = tmp_path / "cookies.txt"
    jar.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tTASTE\tsecret\n")
    with jar.open("a") as file:
        file.write("a line of secret nonsense\n127.0.0.1\tsecret\n")
    before = jar.read_bytes(), jar.stat().st_mtime_ns
    ytdlp = replace(YTDLP, cookies_file=str(jar))
    ytdlp.load()
    ytdlp.fetch(URI, folder, limits=Limits())
    assert any("TASTE=secret" in cookies for cookies in youtube.seen_cookies)
    assert (jar.read_bytes(), jar.stat().st_mtime_ns) == before
    assert "secret" not in str(configuration(ytdlp)) + "".join(capfd.readouterr())


def test_cookies_that_cannot_be_read_end_a_build_early(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.txt cannot be read"):
        replace(YTDLP, cookies_file=str(tmp_path / "nowhere.txt")).load()
    (tmp_path / "page.txt").write_text("<!doctype html>")
    with pytest.raises(ValueError, match=r"page\.txt holds no cookies"):
        replace(YTDLP, cookies_file=str(tmp_path / "page.txt")).load()


def test_runs_nothing_and_writes_nowhere_else(
    youtube: PlayedYouTube, folder: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".config" / "yt-dlp").mkdir(parents=True)
    (home / ".config" / "yt-dlp" / "config").write_text(f"--exec 'touch {home}/ran'\n--output {home}/out\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_program(*arguments: object, **_: object) -> None:
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr(subprocess.Popen, "__init__", no_program)
    monkeypatch.setattr(os, "system", no_program)
    monkeypatch.chdir(tmp_path)
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    youtube.shows(VIDEO, video.read_bytes())
    fetched = YTDLP.fetch(URI, folder, limits=Limits(), span=Span(1.0, 2.0))
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} - before == {fetched.path}


def test_loads_no_plugins(tmp_path: Path) -> None:
    plugin = tmp_path / "yt_dlp_plugins" / "extractor" / "evil.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    root = ROOT
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
    code = "from posecap.engines.ytdlp import YtDlp; YtDlp().load()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert not (tmp_path / "ran").exists()


def test_threads_do_not_disturb_each_other(youtube: PlayedYouTube, folder: Path, video: Path) -> None:
    youtube.shows(VIDEO, video.read_bytes())
    spans = [Span(second + 0.5, second + 0.9) for second in range(8)]
    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(lambda span: YTDLP.fetch(URI, folder, limits=Limits(), span=span), spans))
    assert [f.begins_seconds for f in fetched] == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert len({f.path for f in fetched}) == 8


def test_without_yt_dlp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'posecap\[youtube\]'"):
        YTDLP.load()


@pytest.mark.parametrize("fields", [{"height": 0}, {"margin_seconds": -1.0}, {"requests_per_minute": 0.0}])
def test_fields_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="YtDlp: needs"):
        YtDlp(**fields)


def test_a_few_videos_at_once_and_waiting_takes_no_time_of_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = AtOnce()

    def download(*_: Any, **__: Any) -> tuple[float, str]:
        with at_once:
            time.sleep(0.15)
        return 0.0, "mp4"

    monkeypatch.setattr("posecap.engines.ytdlp._Session.download", download)
    two = replace(YTDLP, connections=2)
    assert configuration(two) == configuration(YTDLP)
    with ThreadPoolExecutor(8) as threads:
        fetched = list(threads.map(lambda _: two.fetch(URI, folder, limits=Limits(seconds=0.4)), range(8)))
    assert (len({each.path for each in fetched}), at_once.most) == (8, 2)


SMALL = (160, 96)
LAYOUTS = {
    "progressive.mp4": ("libx264", {"bf": "3", "g": "30"}, {"movflags": "+faststart"}),
    "fragmented.mp4": ("libx264", {"bf": "3", "g": "30"}, {"movflags": "+dash+global_sidx+frag_keyframe+empty_moov"}),
    "open_gop.mp4": ("libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=30:min-keyint=30:scenecut=0"}, {}),
    "vp9.webm": ("libvpx-vp9", {"g": "30", "deadline": "realtime", "cpu-used": "8"}, {"cues_to_front": "1"}),
}


class Remote:
    """A file in memory that remembers what was asked of it."""

    def __init__(self, body: bytes) -> None:
        self.body, self.asked = body, 0

    def __call__(self, first: int, last: int) -> tuple[bytes, int]:
        part = self.body[first : last + 1]
        self.asked += len(part)
        return part, len(self.body)


def opened(ask: Callable[[int, int], tuple[bytes, int]], *, limit: int = 1 << 30, block: int = 4096) -> RangeFile:
    return RangeFile(ask, size_limit=limit, name="it", block_bytes=block)


def decoded(path: Path, span: Span | None) -> tuple[np.ndarray, np.ndarray]:
    pyav = PyAV()
    blocks = list(pyav.frames(path, pyav.probe(path), span=span, size=SMALL))
    return np.concatenate([b.frames_THW3 for b in blocks]), np.concatenate([b.pts_T for b in blocks])


@pytest.fixture(scope="module", params=LAYOUTS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, a keyframe every second."""
    codec, options, muxing = LAYOUTS[request.param]
    path = tmp_path_factory.mktemp("whole") / request.param
    return footage.write_video(path, frames=300, size=SMALL, codec=codec, options=options, muxing=muxing)


@pytest.mark.parametrize(
    ("start", "end", "margin", "begins"),
    [(0.0, 1.0, 0.5, 0.0), (4.0, 5.0, 0.0, 4.0), (5.51, 6.7, 0.6, 4.0), (2.95, 3.05, 0.0, 2.0), (9.5, 99.0, 1.0, 8.0)],
)
def test_a_stretch_decodes_to_the_same_frames_at_the_same_times(
    whole: Path, tmp_path: Path, start: float, end: float, margin: float, begins: float
) -> None:
    stretch = tmp_path / "stretch.mp4"
    with stretch.open("wb") as out:
        remote = opened(Remote(whole.read_bytes()))
        container = whole.suffix[1:]
        found = remux_span(remote, out, span=Span(start, end), margin_seconds=margin, container=container)
    assert found == begins
    wanted, wanted_pts = decoded(whole, Span(start, end))
    got, got_pts = decoded(stretch, Span(start - begins, end - begins))
    assert len(wanted) > 2
    assert np.array_equal(got, wanted)
    np.testing.assert_allclose(got_pts + begins, wanted_pts, rtol=0, atol=1e-9)
    assert footage.numbers(got)[0] == round(wanted_pts[0] * 30)


def noise(path: Path, muxing: dict[str, str]) -> Path:
    """Ten seconds of pictures that do not compress, a keyframe every second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream("mpeg4", rate=25, options={"g": "25", "sc_threshold": "1000000000"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SMALL, "yuv420p", 8_000_000
        for _ in range(250):
            picture = rng.integers(0, 256, (SMALL[1], SMALL[0], 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("flags", ["+faststart", "+dash+global_sidx+frag_keyframe+empty_moov"])
def test_only_the_bytes_around_the_span_are_read(tmp_path: Path, flags: str) -> None:
    remote = Remote(noise(tmp_path / "long.mp4", {"movflags": flags}).read_bytes())
    file, out = opened(remote, block=1 << 14), io.BytesIO()
    assert remux_span(file, out, span=Span(8.1, 8.9), margin_seconds=0.0, container="mp4") == 8.0
    assert len(remote.body) > 1_000_000
    assert len(out.getvalue()) < remote.asked < 0.25 * len(remote.body)


def test_a_stretch_before_the_first_keyframe_begins_there(tmp_path: Path) -> None:
    whole = footage.write_video(tmp_path / "whole.mp4", frames=90, size=SMALL, options={"g": "30", "bf": "0"})
    late = tmp_path / "late.mp4"
    with av.open(whole) as source, av.open(late, "w") as sink:
        stream = source.streams.video[0]
        copied = sink.add_stream_from_template(stream)
        for packet in list(source.demux(stream))[10:-1]:
            packet.stream = copied
            sink.mux_one(packet)

    def begins(start: float, end: float) -> float:
        remote = opened(Remote(late.read_bytes()))
        return remux_span(remote, io.BytesIO(), span=Span(start, end), margin_seconds=0.0, container="mp4")

    first = (30 - 10) / 30
    assert begins(0.0, 1.5) == pytest.approx(first)
    assert begins(first, 1.5) == pytest.approx(first)
    with pytest.raises(Reject, match="span_outside_video"):
        begins(0.0, 0.5)


def test_the_same_stretch_has_the_same_bytes(whole: Path) -> None:
    outs = [io.BytesIO(), io.BytesIO()]
    for out in outs:
        remote = opened(Remote(whole.read_bytes()))
        remux_span(remote, out, span=Span(3.0, 4.0), margin_seconds=1.0, container=whole.suffix[1:])
    assert outs[0].getvalue() == outs[1].getvalue()
    assert b"Lavf" not in outs[0].getvalue()


def test_a_rotation_is_kept(tmp_path: Path) -> None:
    path = footage.write_video(tmp_path / "turned.mp4", frames=90, size=SMALL, rotation=90, options={"g": "30"})
    stretch = tmp_path / "stretch.mp4"
    with stretch.open("wb") as out:
        remote = opened(Remote(path.read_bytes()))
        remux_span(remote, out, span=Span(1.0, 2.0), margin_seconds=0.0, container="mp4")
    assert PyAV().probe(stretch).rotation_degrees == PyAV().probe(path).rotation_degrees == 270


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    for body, reason in ((b"<!doctype html>" * 9000, "undecodable"), (b"#EXTM3U\n/etc/passwd\n", "undecodable")):
        with pytest.raises(Reject) as caught:
            remux_span(opened(Remote(body)), io.BytesIO(), span=Span(0, 1), margin_seconds=0, container="mp4")
        assert caught.value.reason == reason
    sound = footage.write_sound(tmp_path / "sound.mp4").read_bytes()
    with pytest.raises(Reject, match="no_video_stream"):
        remux_span(opened(Remote(sound)), io.BytesIO(), span=Span(0, 1), margin_seconds=0, container="mp4")


def test_what_an_mp4_cannot_hold_is_refused(tmp_path: Path) -> None:
    raw = footage.write_video(tmp_path / "raw.mov", frames=30, size=SMALL, codec="qtrle", pixels="rgb24").read_bytes()
    with pytest.raises(Reject, match="undecodable"):
        remux_span(opened(Remote(raw)), io.BytesIO(), span=Span(0, 1), margin_seconds=0, container="mp4")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_refused_or_kept(whole: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    body = bytearray(whole.read_bytes())
    head = rng.integers(0, 2)  # damage the tables in front, or anything
    for place in rng.integers(0, 4000 if head else len(body), 30):
        body[place] = rng.integers(0, 256)
    with contextlib.suppress(Reject):
        span = Span(3.0, 4.0)
        remux_span(opened(Remote(bytes(body))), io.BytesIO(), span=span, margin_seconds=0, container=whole.suffix[1:])


def test_troubles_of_reading_are_raised_not_taken_for_the_end(whole: Path) -> None:
    remote = Remote(whole.read_bytes())
    for allowed in range(0, len(remote.body) - 4096, len(remote.body) // 4):
        remote.asked = 0

        def ask(first: int, last: int, allowed: int = allowed) -> tuple[bytes, int]:
            if remote.asked > allowed:
                raise TransientError("connection", "cut")
            return remote(first, last)

        file, container = opened(ask), whole.suffix[1:]
        with pytest.raises(TransientError, match="cut"):
            remux_span(file, io.BytesIO(), span=Span(0.0, 99.0), margin_seconds=0, container=container)


def test_reads_like_a_file() -> None:
    body = bytes(range(256)) * 100
    remote, file = opened(Remote(body), block=1000), io.BytesIO(body)
    for offset, whence, size in ((0, 0, 10), (995, 0, 10), (-5, 2, 10), (3, 1, 1), (24_990, 0, -1), (99_999, 0, 5)):
        assert remote.seek(offset, whence) == file.seek(offset, whence)
        assert remote.read(size) == file.read(size)
        assert remote.tell() == file.tell()
    assert remote.size == len(body)


def test_the_limit_counts_every_byte_fetched() -> None:
    body = bytes(10_000)
    assert len(opened(Remote(body), limit=10_000).read()) == 10_000
    with pytest.raises(Reject) as caught:
        opened(Remote(body), limit=9_999).read()
    assert caught.value.reason == "too_large"


def test_a_file_that_changes_or_comes_short_is_tried_again_later() -> None:
    sizes = iter((10_000, 9_000))
    with pytest.raises(TransientError, match="changed"):
        opened(lambda first, last: (bytes(last + 1 - first), next(sizes))).read()
    with pytest.raises(TransientError, match="truncated"):
        opened(lambda first, last: (bytes(7), 10_000)).read()
