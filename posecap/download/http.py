"""Downloads over http and https into an open file: resumed after failures, and bounded in time and size.

For lists of URLs that others have written, they can be kept to public addresses. A name is then resolved once, and the
address that was checked is the one that is connected to; so a name that resolves to another address the next time (DNS
rebinding) gains nothing. Every redirect is a connection of its own.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import math
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests import PreparedRequest, Response, exceptions
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import parse_url
from urllib3.util.connection import create_connection

from posecap.download.retry import HostSlot, RetryAfter, host_of
from posecap.interfaces import Limits
from posecap.stage import Reject, TransientError

SCHEMES = ("http://", "https://")
_BLOCK = 1 << 18
"""Bytes that are read at once, at most; time and size are checked after each. Our choice."""
# By status; any other has the reason http_ and its number.
_REASONS = {401: "forbidden", 403: "forbidden", 404: "not_found", 410: "not_found", 451: "legal"}
_REMEDIES = {
    "forbidden": "it needs a login or a permission: name an address that is public",
    "legal": "it is blocked for legal reasons: remove the row",
}
_CORRECT_ADDRESS = "open it in a browser and correct the address"
_TRANSIENT = frozenset({408, 425, 429})
"""Statuses below 500 that ask to try again: the server waited too long, it is too early, too many requests."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
"""First byte, last byte, and size of the whole or ``*``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How to talk to a server.

    Args:
        connect_seconds: most time to connect.
        read_seconds: most time without a byte from the server.
        redirects: most redirects to follow.
        headers: added to requests with the scheme, host and port of the first URL, and to no others that it redirects
            to.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    redirects: int = 5
    headers: Mapping[str, str] = field(default_factory=dict)


def _without_queries(record: logging.LogRecord) -> bool:
    """Cut the query off each URL that urllib3 logs; it may hold a signature."""
    if isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_without_queries)


class Session(requests.Session):
    """A session that follows no redirects: the caller does, and checks where they lead.

    ``allow_redirects=False`` alone would still read the body of a redirect into memory, whatever its size.

    Args:
        private_addresses: ``refuse`` for connections to public addresses only (:class:`PublicAdapter`).
    """

    def __init__(self, *, private_addresses: Literal["allow", "refuse"] = "allow") -> None:
        super().__init__()
        if private_addresses == "refuse":
            for scheme in SCHEMES:
                self.mount(scheme, PublicAdapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def without_secrets(uri: str) -> str:
    """The URI as messages show it: without user, password, query and fragment, which may hold keys.

    More than :func:`posecap.uris.public_uri` leaves out, which is an identity and keeps what tells videos apart.
    """
    try:
        split = urlsplit(uri)
        return split._replace(netloc=split.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        return uri.partition("://")[0] + "://…"


@dataclass
class HttpDownload:
    """The download of one file into ``file``, which is open for reading and writing.

    Args:
        uri: of the file; user and password in it are sent to its own host alone.
        file: positioned at its end, which is where a download is resumed.
        limits: ``size_bytes`` bounds the file; ``seconds`` only stands in messages, since ``until`` is the deadline.
        until: the deadline, as a time of :func:`time.monotonic`.
        validator: the ETag or Last-Modified date that the server gave with the bytes that are already in ``file``.
            Without one, or when the server has another version by now, the download starts again. :meth:`attempt` sets
            it to that of the new bytes: save it to resume in a later process.
        on_progress: called with the bytes now in ``file``, resumed ones included, and those of the whole file, None
            where the server does not say.
        slot: the download's place with the host; where the URL redirects to another host, one there is taken instead.
            None sends requests without limit.
    """

    session: Session
    uri: str
    file: BinaryIO
    limits: Limits
    until: float
    options: HttpOptions = field(default_factory=HttpOptions)
    validator: str | None = None
    on_progress: Callable[[int, int | None], None] | None = None
    slot: HostSlot | None = None

    @property
    def shown(self) -> str:
        """The URI as messages show it."""
        return without_secrets(self.uri)

    def attempt(self) -> None:
        """Request the bytes that are missing, and append them, without retries.

        Raises:
            Reject: ``not_found`` (404, 410), ``forbidden`` (401, 403), ``legal`` (451), ``http_`` and the status for
                every other answer without content that is not transient; ``bad_uri``, ``bad_redirect``, ``too_large``,
                ``empty_file``, ``encoded_body``, ``private_address``.
            TransientError: ``http_408``, ``http_416``, ``http_425``, ``http_429`` and ``http_`` with any status from
                500 (as :class:`~posecap.download.retry.RetryAfter`, with 0 seconds where the server names no time);
                ``timeout``, ``connection``, ``tls``, ``truncated``, ``bad_range``, ``disk_full``, ``no_turn``,
                ``host_paused``.
        """
        if self.validator is None:
            self._start_again()
        with self._errors_translated(), contextlib.closing(self._request()) as response:
            self._check_status(response)
            expected = self._total_bytes(response)
            if expected is not None and expected > self.limits.size_bytes:
                raise self._too_large()
            self._receive(response, expected)
            if expected is not None and self.file.tell() < expected:
                raise TransientError("truncated", f"{self.shown}: the server sent less than it announced")
        if self.file.tell() == 0:
            raise Reject("empty_file", f"{self.shown} has no bytes; put the whole file there")

    def _start_again(self) -> None:
        self.validator = None
        self.file.seek(0)
        self.file.truncate()

    def _request(self) -> requests.Response:
        """The response after redirects."""
        # identity: a compressed body could unpack to far more bytes than were counted.
        headers = {"Accept-Encoding": "identity", "User-Agent": "posecap"}
        if self.validator is not None and self.file.tell():
            headers |= {"Range": f"bytes={self.file.tell()}-", "If-Range": self.validator}
        timeouts = (self.options.connect_seconds, self.options.read_seconds)
        url = self.uri
        for _ in range(self.options.redirects + 1):
            is_same_host = _same_host(url, self.uri)
            sent = {**headers, **self.options.headers} if is_same_host else headers
            user_and_password = get_auth_from_url(self.uri) if is_same_host else ("", "")
            if self.slot is not None:
                self.slot.take(host_of(url), until=self.until)
                self.slot.wait_for_turn(until=self.until)
            response = self.session.get(
                url,
                headers=sent,
                auth=user_and_password if any(user_and_password) else None,
                stream=True,
                allow_redirects=False,
                timeout=timeouts,
            )
            if not response.is_redirect:
                return response
            response.close()
            url = _redirect_url(url, response.headers["Location"])
            if not url.lower().startswith(SCHEMES):
                raise Reject("bad_redirect", f"{self.shown} redirects to something that is neither http nor https")
        raise Reject("bad_redirect", f"{self.shown} redirects more than {self.options.redirects} times")

    def _check_status(self, response: requests.Response) -> None:
        """Raise for an answer without the content; after 416 the file is empty, so that the next attempt begins
        anew."""
        status = response.status_code
        if status == 416:  # as many bytes are here as the server's file has, or more: it may be another version by now
            self._start_again()
        if status in _TRANSIENT or status == 416 or status >= 500:
            seconds = _retry_after_seconds(response.headers.get("Retry-After", ""))
            if self.slot is not None and seconds:
                self.slot.pause(seconds)
            raise RetryAfter(f"http_{status}", f"{self.shown} answered {status}", seconds=seconds)
        if status not in (200, 203, 206):  # 203 is 200 through a proxy that may have changed the body
            reason = _REASONS.get(status, f"http_{status}")
            raise Reject(reason, f"{self.shown} answered {status}; {_REMEDIES.get(reason, _CORRECT_ADDRESS)}")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise Reject("encoded_body", f"{self.shown} came encoded as {encoding} though plain bytes were requested")

    def _total_bytes(self, response: requests.Response) -> int | None:
        """Bytes of the whole file as announced, None where they are not. Afterwards ``file`` is positioned where the
        body belongs."""
        length = response.headers.get("Content-Length", "")
        announced = int(length) if length.isdecimal() and "Transfer-Encoding" not in response.headers else None
        if response.status_code == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != self.file.tell():
                self._start_again()
                raise TransientError("bad_range", f"{self.shown}: the server sent another part than the one asked for")
            # "*" for a size that the server does not know: the part that it sends is then the rest.
            return int(match[2]) + 1 if match[3] == "*" else int(match[3])
        self._start_again()
        etag = response.headers.get("ETag", "")
        strong = etag if etag.startswith('"') else None  # If-Range does not accept weak ones, W/"…"
        self.validator = strong or response.headers.get("Last-Modified")
        return announced

    def _receive(self, response: requests.Response, expected: int | None) -> None:
        """Append the body to the file; raises ``timeout`` and ``too_large``."""
        # read1 returns what has arrived, so that a slow server cannot delay the check of the time.
        response.raw.enforce_content_length = False  # the caller compares, and can resume
        while block := response.raw.read1(_BLOCK, decode_content=False):
            if time.monotonic() > self.until:
                raise TransientError("timeout", f"{self.shown}: not finished within {self.limits.seconds:g} s")
            if self.file.tell() + len(block) > self.limits.size_bytes:
                raise self._too_large()
            self.file.write(block)
            if self.on_progress:
                self.on_progress(self.file.tell(), expected)

    def _too_large(self) -> Reject:
        return Reject(
            "too_large",
            f"{self.shown} has more than {self.limits.size_bytes} bytes; raise limits.size_bytes, or cut the video",
        )

    @contextlib.contextmanager
    def _errors_translated(self) -> Iterator[None]:
        """In the block, errors of requests, urllib3 and the disk become those that :meth:`attempt` names."""
        try:
            yield
        except PrivateAddressError as error:
            raise Reject(
                "private_address",
                f"{self.shown} is, or redirects to, an address of this machine or of a local network; where that is "
                "meant, write Http(private_addresses='allow') in the pipeline",
            ) from error
        except exceptions.InvalidProxyURL as error:
            raise TransientError("connection", f"{self.shown}: the proxy's URL is malformed; correct it") from error
        except (exceptions.SSLError, urllib3.exceptions.SSLError) as error:
            raise TransientError("tls", f"{self.shown}: no trusted connection; check certificates and clock") from error
        except (exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as error:
            raise TransientError("timeout", f"{self.shown}: the server did not answer in time") from error
        except (exceptions.InvalidURL, exceptions.InvalidSchema, exceptions.MissingSchema, UnicodeError) as error:
            raise Reject(
                "bad_uri", f"{self.shown} is not a valid web address, or redirects to one that is not; correct it"
            ) from error
        except (exceptions.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
            raise TransientError("connection", f"{self.shown}: the connection failed") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise TransientError(
                    "disk_full", f"{self.shown}: no space for the file; free some and run again"
                ) from error
            raise


def _same_host(one: str, other: str) -> bool:
    """Whether both URLs have the same scheme, host and port; headers with keys are sent nowhere else."""
    try:
        a, b = urlsplit(one), urlsplit(other)
        return (a.scheme, a.hostname, a.port) == (b.scheme, b.hostname, b.port)
    except ValueError:
        return False


def _redirect_url(url: str, location: str) -> str:
    """The URL that ``location`` means at ``url``; an empty string when it is malformed."""
    try:
        # Headers arrive as Latin-1; servers that do not quote their paths mean UTF-8.
        return urljoin(url, location.encode("latin-1").decode())
    except ValueError:
        return ""


def _retry_after_seconds(retry_after: str) -> float:
    """Seconds that a Retry-After header asks for, 0 when it cannot be parsed."""
    try:
        return math.ceil(urllib3.Retry().parse_retry_after(retry_after))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that stand for the IPv4 address in their last 32 bits (RFC 6052)."""


class PrivateAddressError(Exception):
    """The host is this machine, or in a network that the internet does not reach."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's: not loopback, private, link-local, shared, reserved or multicast.

    Of an IPv6 address that stands for an IPv4 one (mapped, 6to4, Teredo, NAT64) the latter counts.
    """
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            ip = ipaddress.IPv4Address(ip.packed[-4:])
        else:
            ip = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def public_addresses(host: str, port: int | None) -> list[str]:
    """The addresses that a name resolves to.

    Raises:
        PrivateAddressError: one of them is not public.
        OSError, UnicodeError: it does not resolve.
    """
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if not all(map(is_public, addresses)):
        raise PrivateAddressError(host)
    return addresses


def _connected(connection: HTTPConnection) -> socket.socket:
    """A socket as urllib3's own connections make it, and with their errors, but to the addresses that were checked."""
    try:
        addresses = public_addresses(connection.host, connection.port)
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    problem: Exception = NewConnectionError(connection, "the name has no address")
    for address in addresses:
        try:
            return create_connection(
                (address, connection.port),
                connection.timeout,
                source_address=connection.source_address,
                socket_options=connection.socket_options,
            )
        except TimeoutError:
            problem = ConnectTimeoutError(connection, "the connection timed out")
        except OSError as error:
            problem = NewConnectionError(connection, f"no connection: {error}")
    raise problem


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class PublicAdapter(HTTPAdapter):
    """Sends requests to public addresses only; others raise :class:`PrivateAddressError`.

    Through a proxy it is the proxy that connects: then addresses and names that resolve to private ones here are
    refused, and what the proxy alone can resolve is left to it.
    """

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def send(self, request: PreparedRequest, *arguments: Any, **named: Any) -> Response:
        if select_proxy(request.url or "", named.get("proxies")):
            url = parse_url(request.url or "")
            with contextlib.suppress(OSError, UnicodeError):  # a name that the proxy alone may know
                public_addresses(url.host or "", url.port)
        return super().send(request, *arguments, **named)
