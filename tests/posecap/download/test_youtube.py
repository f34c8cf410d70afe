"""YouTube's addresses, refusals and formats, as plain data."""

from __future__ import annotations

import pytest

from posecap.download.youtube import best_format, is_plain_video, video_id, youtube_error
from posecap.stage import Reject, TransientError

ID = "dQw4w9WgX-_"


@pytest.mark.parametrize(
    "uri",
    [
        f"https://www.youtube.com/watch?v={ID}",
        f"http://youtube.com/watch?v={ID}&t=42s",
        f"https://m.youtube.com/watch?list=PL123&v={ID}#x",
        f"HTTPS://WWW.YOUTUBE.COM/watch?v={ID}",
        f"https://youtu.be/{ID}?si=x",
        f"https://www.youtube.com/shorts/{ID}",
        f"https://www.youtube-nocookie.com/embed/{ID}",
        f"https://www.youtube.com/live/{ID}",
        f"https://www.youtube.com/v/{ID}/",
        f"youtube:{ID}",
        f"YouTube:{ID}",
    ],
)
def test_finds_the_one_video(uri: str) -> None:
    assert video_id(uri) == ID


@pytest.mark.parametrize(
    "uri",
    [
        "https://www.youtube.com/playlist?list=PL123",
        "https://www.youtube.com/@somebody",
        "https://www.youtube.com/channel/UC123456789",
        "https://www.youtube.com/results?search_query=x",
        "https://www.youtube.com/embed/videoseries?list=PL123",
        "https://www.youtube.com/watch",
        f"https://www.youtube.com/watch?v={ID}a",
        f"https://youtu.be/{ID}/more",
        f"https://youtube.com.evil.example/watch?v={ID}",
        f"https://evil.example/www.youtube.com/watch?v={ID}",
        f"https://youtube.com@evil.example/watch?v={ID}",
        f"ftp://youtube.com/watch?v={ID}",
        "youtube:short",
        f"youtube:{ID}\n",
        f"youtube://{ID}",
        ID,
        "http://[::1",
        "",
    ],
)
def test_everything_else_is_no_video_of_youtube(uri: str) -> None:
    assert video_id(uri) is None


SAID = "ERROR: [youtube] dQw4w9WgX-_: "
ENDED = " (caused by KeyError('x')); please report this issue on  https://github.com/yt-dlp/yt-dlp/issues?q= , …"


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        ("Video unavailable", Reject, "removed"),
        ("Video unavailable. This video has been removed by the uploader", Reject, "removed"),
        ("This video has been removed for violating YouTube's Terms of Service", Reject, "removed"),
        ("Video unavailable. The YouTube account associated with this video has been terminated.", Reject, "removed"),
        ("Video unavailable. The uploader has closed their YouTube account", Reject, "removed"),
        ("This video isn’t available anymore", Reject, "removed"),
        ("Video unavailable. This video does not exist.", Reject, "removed"),
        ("Private video. Sign in if you've been granted access to this video", Reject, "private"),
        ("Sign in to confirm your age. This video may be inappropriate for some users.", Reject, "age_restricted"),
        ("The uploader has not made this video available in your country", Reject, "geo_blocked"),
        ("Video unavailable. … who has blocked it in your country on copyright grounds", Reject, "geo_blocked"),
        ("Video unavailable. … who has blocked it on copyright grounds", Reject, "copyright"),
        ("Video unavailable. This video is no longer available due to a copyright claim by X", Reject, "copyright"),
        ("Join this channel to get access to members-only content", Reject, "members_only"),
        ("This video requires payment to watch", Reject, "paid"),
        ("This video is DRM protected", Reject, "drm"),
        ("This live stream recording is not available.", Reject, "live"),
        ("Premieres in 5 hours", TransientError, "not_yet_available"),
        ("Premiere will begin shortly", TransientError, "not_yet_available"),
        ("This live event will begin in 2 days.", TransientError, "not_yet_available"),
        ("We're processing this video. Check back later.", TransientError, "not_yet_available"),
        ("Sign in to confirm you’re not a bot. Use --cookies-from-browser or …", TransientError, "rate_limited"),
        ("Unable to download API page: HTTP Error 429: Too Many Requests", TransientError, "rate_limited"),
        (
            "This content isn't available, try again later. The current session has been …",
            TransientError,
            "rate_limited",
        ),
        ("Video unavailable. This video is not available", TransientError, "unavailable"),
        ("Unable to download webpage: HTTP Error 503: Busy", TransientError, "connection"),
        ("Unable to download webpage: [Errno 111] Connection refused", TransientError, "connection"),
        ("Unable to download webpage: The read operation timed out", TransientError, "timeout"),
        (
            "Unable to download webpage: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
            TransientError,
            "tls",
        ),
        ("Failed to extract any player response", TransientError, "extractor_broken"),
        ("No video formats found!", TransientError, "extractor_broken"),
    ],
)
def test_refusals(said: str, kind: type[Reject], reason: str) -> None:
    for wording in (said, SAID + said, SAID + said + ENDED):
        found = youtube_error("it", wording)
        assert (type(found), found.reason) == (kind, reason)
        assert found.detail.startswith("it: ")
        assert not any(noise in found.detail for noise in ("ERROR", "[youtube]", "caused by", "report", "--cookies"))


def test_asides_explain_an_error_that_says_nothing() -> None:
    asides = ("Unable to download API page: HTTP Error 429: Too Many Requests", "This video is age-restricted")
    assert youtube_error("it", "Failed to extract any player response", warnings=asides).reason == "rate_limited"
    assert youtube_error("it", "Private video", warnings=asides).reason == "private"
    assert youtube_error("it", "No video formats found!", warnings=asides[1:]).reason == "age_restricted"
    assert youtube_error("it", "No video formats found!", warnings=("Private video",)).reason == "extractor_broken"
    assert youtube_error("it", "ERROR: [youtube] drm-ssl-age: Odd").reason == "extractor_broken"
    assert youtube_error("it", "The current session is odd").reason == "extractor_broken"


def test_details_are_the_same_every_time() -> None:
    broken = (
        "\x1b[0;31mERROR:\x1b[0m [youtube] dQw4w9WgX-_: Odd <object at 0x7f{}> thing; please report this issue on …"
    )
    details = {youtube_error("it", broken.format(address)).detail for address in ("12ab", "99ff")}
    assert len(details) == 1
    assert details.pop().startswith("it: Odd <object at > thing; update yt-dlp")
    hours = {youtube_error("it", f"Premieres in {hours} hours").detail for hours in (4, 5)}
    assert len(hours) == 1


def plain(**changes: object) -> dict[str, object]:
    known = {"format_id": "136", "protocol": "https", "url": "https://h/v", "ext": "mp4", "vcodec": "avc1.4d401f"}
    return {**known, "acodec": "none", "width": 1280, "height": 720, "tbr": 1000.0, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "m3u8_native"},
        {"url": "http://h/v"},
        {"url": "file:///etc/passwd"},
        {"ext": "mhtml"},
        {"vcodec": "none"},
        {"vcodec": None},
        {"vcodec": "theora"},
        {"height": None},
        {"has_drm": True},
        {"dynamic_range": "HDR10"},
        {"format_id": "136-sr"},
    ],
)
def test_what_is_no_plain_video(changes: dict[str, object]) -> None:
    assert is_plain_video(plain())
    assert not is_plain_video(plain(**changes))


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"height": 480, "width": 854}, {}),
        ({"vcodec": "vp9", "tbr": 9000.0}, {}),
        ({"vcodec": "av01.0.05M.08", "ext": "mp4"}, {"vcodec": "vp09.00.31.08"}),
        ({"acodec": "mp4a.40.2"}, {}),
        ({}, {"tbr": 1200.0}),
        ({"preference": -10}, {"height": 360, "width": 640}),
        ({"height": 1080, "width": 1920}, {"height": 144, "width": 256}),
        ({}, {"height": 1280, "width": 720, "tbr": 1100.0}),
    ],
)
def test_the_better_format_wins(worse: dict[str, object], better: dict[str, object]) -> None:
    good, bad = plain(format_id="good", **better), plain(format_id="bad", **worse)
    assert best_format([bad, good], height=720) is best_format([good, bad], height=720) is good


def test_no_format_is_low_enough() -> None:
    assert best_format([plain()], height=480) is None
    assert best_format([], height=480) is None
