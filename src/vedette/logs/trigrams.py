"""Which three letters follow each other in a segment's messages: what a text search need not read.

2^16 bits, one for each hash of three ASCII bytes, letters in lower case. A search for text of which one such triple is in no
message of a segment leaves the segment out; a bit that is set by another triple only costs a search. 2^16 more bits say the same
of triples with a capital in them, as they are written: so a search that heeds no case mostly knows the one spelling that can be
there, and looks for that, which is many times as fast. Beside each segment lies a file of a CRC-32 (u32, little-endian) and the
bits; without it, or with a damaged one, a segment is always searched, and for every spelling.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
"""uint8[16384]: bit i of byte j is the hash 8 j + i of a triple in lower case, from byte 8192 on of one with a capital."""

_SIZE = 1 << 16
_HALF = _SIZE // 8
_BYTES = 2 * _HALF
_MOST_SPELLINGS = 8
_AT_ONCE = 1 << 18
_PLAIN = np.arange(256, dtype=np.uint32)
_LOWER = _PLAIN.copy()
_LOWER[ord("A") : ord("Z") + 1] += 32
# The Kelvin sign and the long s are k and s where case does not count: with one of them, anything may be there.
_FOLDED = ("\u212a".encode(), "\u017f".encode())


def suffix() -> str:
    """What the file's name ends with, in the place of the segment's `.parquet`."""
    return ".trigrams"


def of_text(parts: Iterable[NDArray[np.uint8]]) -> Bits:
    """The bits of messages, given as UTF-8 one after another; triples over the ends of two count, and do no harm."""
    seen = np.zeros(2 * _SIZE, np.bool_)
    for data in parts:
        if any(special in data.tobytes() for special in _FOLDED):
            return np.full(_BYTES, 255, np.uint8)
        for start in range(0, len(data), _AT_ONCE):
            part = data[start : start + _AT_ONCE + 2]
            seen[_hashes(part)] = True
            seen[_SIZE + _capitals(part)] = True
    return np.packbits(seen, bitorder="little")


def _hashes(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    lower = _LOWER[data]
    if len(lower) < 3:
        return np.zeros(0, np.uint32)
    return _mixed(lower[:-2], lower[1:-1], lower[2:])


def _mixed(a: NDArray[np.uint32], b: NDArray[np.uint32], c: NDArray[np.uint32]) -> NDArray[np.uint32]:
    found: NDArray[np.uint32] = (a * np.uint32(2654435761) + b * np.uint32(10409571) + c * np.uint32(69069)) >> np.uint32(16)
    return found


def _capitals(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The hashes of those triples, as they are written, that have a capital."""
    capital = (data >= ord("A")) & (data <= ord("Z"))
    at = np.flatnonzero(capital[:-2] | capital[1:-1] | capital[2:]) if len(data) >= 3 else np.zeros(0, np.int64)
    a, b, c = (_PLAIN[data[at + i]] for i in range(3))
    return _mixed(a, b, c)


def spellings(bits: Bits | None, text: str) -> list[str]:
    """The ways of writing `text`, as to case, in which segments with these bits may have it; empty for too many to say, or unknown ones."""
    if bits is None or not text.isascii():
        return []
    found = [""]
    for character in text:
        cases = {character.lower(), character.upper()}
        found = [f + c for f in found for c in sorted(cases) if _written(bits, f[-2:] + c)]
        # Two letters stand in no triple yet, so a few more may be under way than are let through at the end.
        if len(found) > 4 * _MOST_SPELLINGS:
            return []
    return found if len(found) <= _MOST_SPELLINGS else []


def _written(bits: Bits, triple: str) -> bool:
    """Whether three letters may be written so; fewer may always."""
    if len(triple) < 3 or triple.lower() == triple:
        return True
    a, b, c = (np.array([ord(letter)], np.uint32) for letter in triple)
    place = int(_mixed(a, b, c)[0])
    return bool(bits[_HALF + (place >> 3)] >> (place & 7) & 1)


def merged(all_of: Iterable[Bits | None]) -> Bits | None:
    """The bits of several segments together; None where those of one are not known."""
    found: Bits | None = None
    for bits in all_of:
        if bits is None:
            return None
        found = bits if found is None else found | bits
    return found


def may_hold(bits: Bits | None, text: str) -> bool:
    """Whether a segment with these bits may have a message that contains `text`, whatever the case."""
    if bits is None:
        return True
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    hashes = _hashes(data)
    if not len(hashes):
        return True
    plain = data < 128
    hashes = hashes[plain[:-2] & plain[1:-1] & plain[2:]]
    return bool(np.all(bits[hashes >> np.uint32(3)] >> (hashes & np.uint32(7)).astype(np.uint8) & 1))


def packed(bits: Bits) -> bytes:
    """The file's content."""
    data = bits.tobytes()
    return struct.pack("<I", zlib.crc32(data)) + data


def load(segment: Path) -> Bits | None:
    """The bits of a segment, None where they are not there or damaged."""
    try:
        data = segment.with_suffix(suffix()).read_bytes()
    except OSError:
        return None
    if len(data) not in (4 + _HALF, 4 + _BYTES) or struct.unpack_from("<I", data)[0] != zlib.crc32(data[4:]):
        return None
    if len(data) == 4 + _HALF:  # of a version that knew nothing of capitals
        return np.concatenate([np.frombuffer(data, np.uint8, _HALF, 4), np.full(_HALF, 255, np.uint8)])
    return np.frombuffer(data, np.uint8, _BYTES, 4)
