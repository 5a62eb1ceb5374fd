"""Pages read as `FORMAT.md` draws them, in plain Python, a number at a time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from pcodec import standalone

Row = tuple[int, list[int]]
"""(the vector of a row's times, the bits of its values)."""


def varints(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number >> 1 if number & 1 == 0 else -(number >> 1) - 1
            number = shift = 0


def bits_of(value: float) -> int:
    return struct.unpack("<q", struct.pack("<d", value))[0]


def read(page: bytes) -> list[Row]:
    crc, samples, rows, size, count = struct.unpack_from("<5I", page)
    assert crc == zlib.crc32(page[4:])
    at = 20
    kinds = [struct.unpack_from("<3I", page, at + 12 * i) for i in range(count)]
    at += 12 * count
    numbers = list(varints(zlib.decompress(page[at : at + size], -15)))
    at += size
    streams = []
    for kind, many, length in kinds:
        numbers_of = standalone.simple_decompress(page[at : at + length])
        held = [] if numbers_of is None else numbers_of.tolist()
        assert len(held) == many
        streams.append(held if kind == 0 else [bits_of(v) for v in held])
        at += length
    assert at == len(page)
    columns = [numbers[k * rows : (k + 1) * rows] for k in range(7)]
    rest = numbers[7 * rows :]
    places, odd = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    found, vector = [], 0
    for n, step, form, stream, slope, divisor, exceptions, base in zip(*columns, streams[0], strict=True):
        vector += step
        values = []
        if form & 7 > 0:
            values, streams[stream] = streams[stream][:n], streams[stream][n:]
        bits = row_bits(values, n, form, (base, slope, divisor))
        for place in places[:exceptions]:
            bits[place] = odd.pop(0)
        del places[:exceptions]
        found.append((vector, bits))
    assert sum(len(bits) for _, bits in found) == samples and not places and not odd and not any(streams[1:])
    return found


def row_bits(numbers: list[int], n: int, form: int, numbers_of_row: tuple[int, int, int]) -> list[int]:
    base, slope, divisor = numbers_of_row
    kind, multiply, scale = form & 7, form & 8, form >> 4
    if kind == 1:
        return numbers
    if kind == 0 and scale == 31:
        return [base] * n
    if kind == 0:
        wholes = [0] * n
    elif kind == 2:
        wholes = numbers
    elif kind == 3:
        wholes = [0]
        for number in numbers[1:]:
            wholes.append(wholes[-1] + slope + number)
    else:
        wholes, difference = [0], slope
        for number in numbers[1:]:
            difference += number
            wholes.append(wholes[-1] + difference)
    power = float(f"1e-{scale}") if multiply else float(f"1e{scale}")
    return [bits_of((base + divisor * w) * power if multiply else (base + divisor * w) / power) for w in wholes]
