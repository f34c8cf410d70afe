"""Writes and reads reproducible USTAR archives.

Every header has mode 0644, owner 0, time 0 and no user names, so equal members give equal bytes, the same that
:mod:`tarfile` writes for them. webdataset's ``TarWriter``, reproducible too, is not used
because it sorts members by name, which format 1 does not, and writes 1,600 samples of six members a second where this
module writes 27,000 (in ``benchmarks/pack.py``, 1,430 against 3,120 with columns, index, hashes and fsync included).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, Final

from posecap.shards.paths import ShardError

BLOCK: Final = 512
_RECORD = 20 * BLOCK
_LARGEST = 8**11 - 1
_TAIL: Final = b"0" + bytes(100) + b"ustar\x0000" + bytes(BLOCK - 265)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar; ``offset`` is that of its first byte, after the header."""

    name: str
    offset: int
    size: int


@lru_cache(maxsize=1024)
def _after_name(size: int) -> tuple[bytes, int]:
    """The header's bytes between name and checksum, and the sum of all bytes that do not depend on the name."""
    fields = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    return fields, sum(fields) + sum(_TAIL) + 8 * ord(" ")


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a member's data.

    Raises:
        ShardError: the name is longer than 100 bytes or the size too large for USTAR.
    """
    written = name.encode("ascii")
    if len(written) > 100 or not 0 <= size <= _LARGEST:
        raise ShardError(f"member {name!r} of {size} bytes does not fit a USTAR header")
    fields, fixed = _after_name(size)
    return b"%b%b%06o\0 %b" % (written.ljust(100, b"\0"), fields, fixed + sum(written), _TAIL)


def padding(size: int) -> bytes:
    """Zeros from a member's end to the next block."""
    return bytes(-size % BLOCK)


def end(size: int) -> bytes:
    """The end of an archive of ``size`` bytes: two empty blocks, then zeros up to a full record."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % _RECORD)


def members(file: BinaryIO) -> Iterator[Member]:
    """Members of an archive that posecap wrote, in order; the caller may read and seek between them.

    Raises:
        ShardError: any byte outside the members' data is not as :func:`header` and :func:`end` write it.
    """
    size = file.seek(0, 2)
    position = 0
    while position + BLOCK <= size:
        file.seek(position)
        found = file.read(BLOCK)
        if not any(found):
            break
        member = _member(found, position)
        after = member.offset + member.size
        if after + len(padding(member.size)) > size:
            raise ShardError(f"member {member.name!r} at byte {position} is cut short")
        yield member
        file.seek(after)
        if any(file.read(len(padding(member.size)))):
            raise ShardError(f"padding after member {member.name!r} is not zero")
        position = after + len(padding(member.size))
    file.seek(position)
    closing = end(position)
    if size - position != len(closing) or file.read(len(closing) + 1) != closing:
        raise ShardError(f"archive has no proper end at byte {position}")


def _member(found: bytes, position: int) -> Member:
    try:
        name = found[:100].rstrip(b"\0").decode("ascii")
        size = int(found[124:135], 8)
        sound = header(name, size) == found
    except (ValueError, UnicodeDecodeError):
        sound = False
    if not sound:
        raise ShardError(f"tar header at byte {position} is damaged")
    return Member(name, position + BLOCK, size)
