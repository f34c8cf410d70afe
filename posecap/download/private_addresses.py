"""Web connections to public addresses only, for lists of URLs that others have written.

A name is resolved once, and the address that was checked is the one that is connected to; so a name that resolves to
another address the next time (DNS rebinding) gains nothing. Every redirect is a connection of its own.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import parse_url
from urllib3.util.connection import create_connection

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
    """As urllib3's own connections are made, but to the addresses that were checked."""
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
