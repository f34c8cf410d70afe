"""Damaged copies of small files, the same ones in every run.

for content in damaged(whole, count=200, seed=1): …
harmed(whole, "field", random.Random(1))                one copy with false 32-bit fields
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

_FIELDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Values of 32-bit fields: lengths, counts, offsets and clocks of file formats."""
HARMS = ("bit", "byte", "field", "gap")
"""What is done to a copy: a flipped bit, an overwritten byte, a false 32-bit field, up to 39 bytes removed."""
_ENDS = 1200
"""Bytes at both ends, where formats have their headers and indexes; half of the damage is there."""


def damaged(whole: bytes, *, count: int, seed: int) -> Iterator[bytes]:
    """``count`` copies: truncated, with flipped bits, overwritten or removed bytes, or false 32-bit fields."""
    chance = random.Random(seed)
    for _ in range(count):
        content = bytearray(whole)
        if chance.random() < 0.2:
            yield bytes(content[: chance.randrange(len(content))])
            continue
        for _ in range(chance.choice((1, 1, 2, 4, 12))):
            _harm(content, chance)
        yield bytes(content)


def harmed(whole: bytes, harm: str, chance: random.Random) -> bytes:
    """A copy with 1 to 12 of one of :data:`HARMS`."""
    content = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 4, 12))):
        _harm(content, chance, harm)
    return bytes(content)


def false_fields(whole: bytes, first: int, last: int) -> Iterator[bytes]:
    """Copies in each of which four bytes, from ``first`` up to ``last``, have a value of a 32-bit field."""
    for place in range(first, min(last, len(whole) - 4)):
        for value in _FIELDS:
            yield whole[:place] + struct.pack(">I", value) + whole[place + 4 :]


def _harm(content: bytearray, chance: random.Random, harm: str | None = None) -> None:
    """Damage ``content`` in one place; None draws what is done to it."""
    place = chance.randrange(max(1, len(content) - 4))
    if chance.random() < 0.5:
        near = chance.randrange(min(_ENDS, max(1, len(content) - 4)))
        place = near if chance.random() < 0.5 else max(0, len(content) - 5 - near)
    kind = harm or chance.choice(HARMS)
    if kind == "bit":
        content[place] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        content[place] = chance.choice((0, 1, 10, 34, 127, 128, 0xC3, 255))
    elif kind == "field":
        content[place : place + 4] = struct.pack(chance.choice((">I", "<I")), chance.choice(_FIELDS))
    else:
        del content[place : place + chance.randrange(1, 40)]
