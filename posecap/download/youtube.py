"""YouTube's addresses, what its refusals mean, and which of its formats to take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from posecap.stage import Reject, TransientError

Format = dict[str, Any]
"""One of a video's formats, in yt-dlp's words."""

_CODECS = ("avc1", "vp9", "vp09", "av01")
"""What decoders read, best known first; an mp4 can hold each of them."""
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_HOSTS = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "youtube-nocookie.com", "www.youtube-nocookie.com"}
)
_NO_IDS = frozenset({"videoseries", "live_stream"})
"""Words of eleven letters that stand where an id would, for a playlist and for whatever a channel streams."""
_BEFORE_AN_ID = ("shorts", "embed", "v", "live")


def video_id(uri: str) -> str | None:
    """The id of the one video that a URI names: a watch, shorts, embed or live page, youtu.be, or ``youtube:ID``.

    None for everything else: channels, playlists, searches, other sites. A video seen within a playlist
    (``watch?v=ID&list=…``) is that video.
    """
    scheme, _, rest = uri.partition(":")
    if scheme.lower() == "youtube":
        return rest if _ID.fullmatch(rest) else None
    try:
        split = urlsplit(uri)
        host = split.hostname or ""
    except ValueError:
        return None
    if split.scheme not in ("http", "https"):
        return None
    steps = split.path.strip("/").split("/")
    found = ""
    if host == "youtu.be" and len(steps) == 1:
        found = steps[0]
    elif host in _HOSTS and steps == ["watch"]:
        found = parse_qs(split.query).get("v", [""])[0]
    elif host in _HOSTS and len(steps) == 2 and steps[0] in _BEFORE_AN_ID:
        found = steps[1]
    return found if _ID.fullmatch(found) and found not in _NO_IDS else None


@dataclass(frozen=True, slots=True)
class _Refusal:
    """One kind of refusal: the words it is known by, and what to do. ``quoted`` adds YouTube's own sentence."""

    reason: str
    outcome: type[Reject]
    pattern: str
    advice: str
    words: Literal["quoted", "left_out"] = "quoted"


UPDATE = "update yt-dlp (pip install -U 'yt-dlp[default]') or name a javascript runtime, and run again"
"""The remedy when YouTube has changed."""

_COOKIES = "a cookies_file of an account that may see it would help"
_REFUSALS = (
    _Refusal(
        "rate_limited",
        TransientError,
        r"not a bot|too many requests|http error 429|rate.?limited|try again later|captcha|ip is likely being blocked",
        "YouTube wants fewer requests from here: lower requests_per_minute, wait an hour, or name a cookies_file",
        "left_out",
    ),
    _Refusal("private", Reject, r"private video|video is private", _COOKIES),
    _Refusal(
        "age_restricted",
        Reject,
        r"confirm your age|age.restricted|age.verif|inappropriate for some|age_check",
        "name a cookies_file of an account of age",
    ),
    _Refusal(
        "geo_blocked",
        Reject,
        r"in your country|geo.?restrict|not available from your location|in your region",
        "a machine in another country may get it",
    ),
    _Refusal("members_only", Reject, r"members.only|join this channel|channel.s members|premium members", _COOKIES),
    _Refusal("paid", Reject, r"requires payment|\bpurchase\b|\brent(al)?\b", _COOKIES),
    _Refusal("copyright", Reject, r"copyright", "it is gone"),
    _Refusal(
        "not_yet_available",
        TransientError,
        r"premieres? (in|will)|live event (will|has ended)|begin in|processing this video",
        "it has not been shown yet, or is being prepared: run again later",
        "left_out",
    ),
    _Refusal(
        "live", Reject, r"live stream recording is not available|is offline", "a live stream has no fixed content"
    ),
    _Refusal("drm", Reject, r"\bdrm\b", "it cannot be downloaded"),
    _Refusal(
        "removed",
        Reject,
        r"removed|terminated|no longer available|closed their|does not exist|doesn.t exist|video (is )?unavailable"
        r"|isn.t available any ?more|account .* closed",
        "it is gone",
    ),
    _Refusal(
        "tls",
        TransientError,
        r"certificate|\bssl",
        "no trusted connection to YouTube; check certificates and clock",
        "left_out",
    ),
    _Refusal("timeout", TransientError, r"timed out|timeout", "YouTube fell silent", "left_out"),
    _Refusal(
        "connection",
        TransientError,
        r"http error 5\d\d|transporterror|incompleteread|connection|unable to connect|name resolution|getaddrinfo"
        r"|remote end closed|bytes read|proxy|network is unreachable",
        "the connection to YouTube failed",
        "left_out",
    ),
)
# "This video is not available" is said of removed videos, but also of children's videos and others that this
# kind of player may not show; only a person or another player can tell, so it is left to be tried again.
_UNCLEAR = _Refusal(
    "unavailable",
    TransientError,
    r"video is not available",
    "it may be gone, or want a signed-in player: open it in a browser, try javascript or a cookies_file",
)
_UNKNOWN = _Refusal("extractor_broken", TransientError, "", UPDATE)
_PREFIX = re.compile(r"^(\x1b\[[0-9;]*m)*(ERROR:(\x1b\[[0-9;]*m)*\s*)?(\[[\w:+-]+\]\s*)?([A-Za-z0-9_-]{11}:\s*)?")
_NOISE = (
    _PREFIX,
    re.compile(r"\x1b\[[0-9;]*m"),
    re.compile(r"\(caused by .*", re.DOTALL),
    re.compile(r"[;.,]?\s*please report this issue.*", re.DOTALL | re.IGNORECASE),
    re.compile(r"\.?\s*Use --cookies.*", re.DOTALL),
    re.compile(r"\.?\s*You might want to use a VPN.*", re.DOTALL),
    re.compile(r"\.?\s*(For more (details|information)|See|Also see)\b[^.]*https?://.*", re.DOTALL),
    re.compile(r"0x[0-9a-fA-F]+"),
)
_LONGEST_QUOTE = 200


def refusal(name: str, said: str, *, asides: tuple[str, ...] = ()) -> Reject:
    """What yt-dlp's last words about a video mean, to be raised.

    Args:
        name: how messages call the video.
        said: the error's message.
        asides: warnings before it. They are looked at when the error itself says nothing that is known, and
            never make a passing trouble final, but for an age limit.
    """
    wording = _trimmed(said)
    hints = [kind for kind in map(_kind_of, asides) if kind]
    hints = [kind for kind in hints if kind.outcome is TransientError or kind.reason == "age_restricted"]
    known = _kind_of(said) or next(iter(hints), _UNKNOWN)
    quote = f"{wording}; " if known.words == "quoted" and wording else ""
    return known.outcome(known.reason, f"{name}: {quote}{known.advice}")


def _kind_of(said: str) -> _Refusal | None:
    plain = _PREFIX.sub("", said).replace("\u2019", "'").lower()
    # Ambiguous words come first: the plain "Video unavailable" around them would make them sound final.
    if re.search(_UNCLEAR.pattern, plain) and not re.search(r"terminated|removed|country|copyright|live stream", plain):
        return _UNCLEAR
    return next((kind for kind in _REFUSALS if re.search(kind.pattern, plain)), None)


def _trimmed(said: str) -> str:
    for noise in _NOISE:
        said = noise.sub("", said)
    return " ".join(said.split())[:_LONGEST_QUOTE].rstrip(" .;,")


def is_plain_video(found: Format) -> bool:
    """Whether a format is one plain file of real pictures that the decoders read."""
    return (
        found.get("protocol") == "https"
        and str(found.get("url", "")).startswith("https://")
        and found.get("ext") in ("mp4", "webm")
        and _codec(found) in _CODECS
        and bool(found.get("height") and found.get("width"))
        and not found.get("has_drm")
        and (found.get("dynamic_range") or "SDR") == "SDR"
        and not str(found.get("format_id", "")).endswith("-sr")  # enlarged by a network: not what was filmed
    )


def best_format(formats: Sequence[Format], *, height: int) -> Format | None:
    """The tallest of at most ``height`` lines; among equals H.264, then without sound, then the higher bit rate.

    Lines are counted on the shorter side, as YouTube's labels count them: "720p" upright is 720 pixels wide.
    """
    fitting = [f for f in formats if _lines(f) <= height]
    return max(fitting, key=_merit, default=None)


def _merit(found: Format) -> tuple[bool, int, int, bool, float, str]:
    return (
        (found.get("preference") or 0) >= 0,  # damaged formats have a negative one
        _lines(found),
        -_CODECS.index(_codec(found)),
        found.get("acodec") == "none",
        float(found.get("tbr") or 0),
        str(found.get("format_id")),
    )


def _codec(found: Format) -> str:
    return str(found.get("vcodec") or "none").partition(".")[0]


def _lines(found: Format) -> int:
    return int(min(found["height"], found["width"]))
