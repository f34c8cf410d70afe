"""For YouTube videos: finds ids in URLs, interprets yt-dlp's error messages, and chooses among formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from posecap.stage import Reject, TransientError

Format = dict[str, Any]
"""One of a video's formats, as yt-dlp describes it."""

_CODECS = ("avc1", "vp9", "vp09", "av01")
"""Codecs that the decoders read, in order of preference; an mp4 can hold each of them."""
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_HOSTS = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "youtube-nocookie.com", "www.youtube-nocookie.com"}
)
_NO_IDS = frozenset({"videoseries", "live_stream"})
"""Words that stand where an id would and look like one, for a playlist and for a channel's live stream."""
_ID_FOLLOWS = ("shorts", "embed", "v", "live")
"""First steps of paths whose second one is an id."""


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
    elif host in _HOSTS and len(steps) == 2 and steps[0] in _ID_FOLLOWS:
        found = steps[1]
    return found if _ID.fullmatch(found) and found not in _NO_IDS else None


@dataclass(frozen=True, slots=True)
class _ErrorKind:
    """A kind of error, and the message about it.

    Args:
        reason, error: of the exception to raise.
        pattern: regular expression that is found in lower-cased messages of this kind.
        advice: what to do.
        words: whether the message quotes YouTube's own sentence.
    """

    reason: str
    error: type[Reject]
    pattern: str
    advice: str
    words: Literal["quoted", "left_out"] = "quoted"


UPDATE = "update yt-dlp (pip install -U 'yt-dlp[default]') or name a javascript runtime, and run again"
"""The remedy when YouTube has changed."""

_COOKIES = "a cookies_file of an account that may see it would help"
# The first one whose pattern is found counts.
_ERROR_KINDS = (
    _ErrorKind(
        "rate_limited",
        TransientError,
        r"not a bot|too many requests|http error 429|rate.?limited|try again later|captcha|ip is likely being blocked",
        "YouTube wants fewer requests from here: lower requests_per_minute, wait an hour, or name a cookies_file",
        "left_out",
    ),
    _ErrorKind("private", Reject, r"private video|video is private", _COOKIES),
    _ErrorKind(
        "age_restricted",
        Reject,
        r"confirm your age|age.restricted|age.verif|inappropriate for some|age_check",
        "name a cookies_file of an account of age",
    ),
    _ErrorKind(
        "geo_blocked",
        Reject,
        r"in your country|geo.?restrict|not available from your location|in your region",
        "a machine in another country may get it",
    ),
    _ErrorKind("members_only", Reject, r"members.only|join this channel|channel.s members|premium members", _COOKIES),
    _ErrorKind("paid", Reject, r"requires payment|\bpurchase\b|\brent(al)?\b", _COOKIES),
    _ErrorKind("copyright", Reject, r"copyright", "it cannot be had any more"),
    _ErrorKind(
        "not_yet_available",
        TransientError,
        r"premieres? (in|will)|live event (will|has ended)|begin in|processing this video",
        "it has not been shown yet, or is being prepared: run again later",
        "left_out",
    ),
    _ErrorKind(
        "live", Reject, r"live stream recording is not available|is offline", "a live stream has no fixed content"
    ),
    _ErrorKind("drm", Reject, r"\bdrm\b", "it cannot be downloaded"),
    _ErrorKind(
        "removed",
        Reject,
        r"removed|terminated|no longer available|closed their|does not exist|doesn.t exist|video (is )?unavailable"
        r"|isn.t available any ?more|account .* closed",
        "it cannot be had any more",
    ),
    _ErrorKind(
        "tls",
        TransientError,
        r"certificate|\bssl",
        "no trusted connection to YouTube; check certificates and clock",
        "left_out",
    ),
    _ErrorKind("timeout", TransientError, r"timed out|timeout", "YouTube did not answer in time", "left_out"),
    _ErrorKind(
        "connection",
        TransientError,
        r"http error 5\d\d|transporterror|incompleteread|connection|unable to connect|name resolution|getaddrinfo"
        r"|remote end closed|bytes read|proxy|network is unreachable",
        "the connection to YouTube failed",
        "left_out",
    ),
)
# "This video is not available" is the message for removed videos, but also for children's videos and others that this
# kind of player may not show. Only a person or another player can tell them apart, so it is tried again later.
_UNCLEAR = _ErrorKind(
    "unavailable",
    TransientError,
    r"video is not available",
    "it may be gone, or want a signed-in player: open it in a browser, try javascript or a cookies_file",
)
_UNKNOWN = _ErrorKind("extractor_broken", TransientError, "", UPDATE)
# What yt-dlp puts before YouTube's words: "ERROR: [youtube] ID: ", in colours; and what it adds to them: colours,
# causes, advice, addresses of help and of objects in memory.
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
_MAX_QUOTE = 200
"""Characters of YouTube's own sentence in a message. Our choice."""


def youtube_error(name: str, message: str, *, warnings: tuple[str, ...] = ()) -> Reject:
    """The error to raise for yt-dlp's error message about a video.

    Args:
        name: of the video in messages.
        warnings: what yt-dlp warned of before. They are used when the message itself is unknown, and then only for
            temporary errors and the age limit.
    """
    wording = _shortened(message)
    hints = [kind for kind in map(_kind_of, warnings) if kind]
    hints = [kind for kind in hints if kind.error is TransientError or kind.reason == "age_restricted"]
    known = _kind_of(message) or next(iter(hints), _UNKNOWN)
    quote = f"{wording}; " if known.words == "quoted" and wording else ""
    return known.error(known.reason, f"{name}: {quote}{known.advice}")


def _kind_of(message: str) -> _ErrorKind | None:
    """The kind of error that a message of yt-dlp reports; None for an unknown one."""
    plain = _PREFIX.sub("", message).replace("\u2019", "'").lower()
    # Ambiguous messages come first: the "Video unavailable" around them would make them permanent.
    if re.search(_UNCLEAR.pattern, plain) and not re.search(r"terminated|removed|country|copyright|live stream", plain):
        return _UNCLEAR
    return next((kind for kind in _ERROR_KINDS if re.search(kind.pattern, plain)), None)


def _shortened(message: str) -> str:
    for noise in _NOISE:
        message = noise.sub("", message)
    return " ".join(message.split())[:_MAX_QUOTE].rstrip(" .;,")


def is_plain_video(found: Format) -> bool:
    """Whether a format is one plain file that the decoders read."""
    return (
        found.get("protocol") == "https"
        and str(found.get("url", "")).startswith("https://")
        and found.get("ext") in ("mp4", "webm")
        and _codec(found) in _CODECS
        and bool(found.get("height") and found.get("width"))
        and not found.get("has_drm")
        and (found.get("dynamic_range") or "SDR") == "SDR"
        and not str(found.get("format_id", "")).endswith("-sr")  # upscaled by a network
    )


def best_format(formats: Sequence[Format], *, height: int) -> Format | None:
    """The tallest of at most ``height`` lines, None where all have more; those that yt-dlp takes for damaged come after
    all others, whatever their height. Among equals H.264, then VP9, then AV1; then without sound; then the higher bit
    rate.

    Lines are counted on the shorter side, as YouTube's labels count them: "720p" upright is 720 pixels wide.

    Args:
        formats: only those of which :func:`is_plain_video` is true.
    """
    fitting = [f for f in formats if _lines(f) <= height]
    return max(fitting, key=_preference, default=None)


def _preference(found: Format) -> tuple[bool, int, int, bool, float, str]:
    """What :func:`best_format` goes by, the larger the better; ids make the choice the same on every machine."""
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
    """Its shorter side, pixels."""
    return int(min(found["height"], found["width"]))
