"""Decimals of floats against Python's own shortest digits, what is written of them, and how long that is."""

from __future__ import annotations

import math
import random
import struct
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.kernels import digits, shortest
from vedette.promql.format import json_float

# Powers of two and of ten, with their neighbours: where digits run out, boundaries lie unevenly, and one digit less suffices.
POWERS = [float(f"1e{e}") for e in range(-323, 309)] + [math.ldexp(1.0, e) for e in range(-1074, 1024)]
EDGES = [value for power in POWERS for value in (math.nextafter(power, 0), power, math.nextafter(power, math.inf)) if 0 < value < math.inf]
KNOWN = (
    9007199254740993.0, 9007199254740991.0, 9.5e-323, 1e-323, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2e22, 1e23,
    123456789012345680000.0, 0.30000000000000004, 9e11 + 0.0001, 9e11 - 0.0001, 0.00001, 0.123456, 4503599627370495.5, 100.0, 0.1,
)  # fmt: skip


def decimals_of(values: list[float]) -> list[tuple[int, int]]:
    floats, whole, places = np.array(values), np.empty(len(values), dtype=np.int64), np.empty(len(values), dtype=np.int16)
    shortest.decimals(floats, whole, places)
    return list(zip(whole.tolist(), places.tolist(), strict=True))


def plainly(value: float) -> tuple[int, int]:
    """The same of a finite number other than 0, from Python's own digits."""
    if value == int(value) and abs(value) < 2**53:
        return int(value), 0
    sign, figures, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, figures))
    kept = text.rstrip("0")
    assert isinstance(exponent, int)
    return (-1 if sign else 1) * int(kept), -exponent - len(text) + len(kept)


def written(value: float) -> tuple[str, int]:
    """A number's text, and how long it was said to be; no more than the spare bytes behind it are touched."""
    (whole, places), out = decimals_of([value])[0], np.full(60, 35, dtype=np.uint8)
    end = digits.write_number(out, 3, whole, places)
    assert out[:3].tobytes() == b"###" and set(out[end + digits.SPARE :].tolist()) <= {35}
    assert end - 3 <= digits.NUMBER_BYTES
    return out[3:end].tobytes().decode(), digits.number_size(whole, places)


def test_numbers_at_the_edges() -> None:
    values = [*EDGES, *KNOWN, *(-value for value in KNOWN)]
    assert decimals_of(values) == [plainly(value) for value in values]


def test_numbers_of_any_bits() -> None:
    draw = random.Random(4)
    values = [struct.unpack("<d", struct.pack("<Q", draw.getrandbits(64)))[0] for _ in range(20_000)]
    values = [value for value in values if math.isfinite(value) and value != 0]
    assert decimals_of(values) == [plainly(value) for value in values]


@given(st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.decimals(-10_000, 10_000, places=5).map(float)), min_size=1))
def test_what_came_before_makes_no_difference(values: list[float]) -> None:
    values = [value for value in values if value != 0]
    assert decimals_of(values) == [decimals_of([value])[0] for value in values] == [plainly(value) for value in values]


def test_what_has_no_digits() -> None:
    codes = [(0, 0), (0, digits.MINUS_ZERO), (0, digits.NAN), (1, digits.INFINITE), (-1, digits.INFINITE)]
    assert decimals_of([0.0, -0.0, math.nan, math.inf, -math.inf]) == codes


@given(st.floats())
@example(-0.0)
@example(math.inf)
def test_any_number_is_written_as_go_does(value: float) -> None:
    assert written(value) == (json_float(value), len(json_float(value)))


@pytest.mark.parametrize("sign", [1, -1])
def test_all_layouts(sign: int) -> None:
    for figures in (1, 12, 123456789, 12345678901234567):
        for exponent in (-330, -323, -120, -40, -25, *range(-24, 24), 99, 100, 280):
            value = sign * float(f"{figures}e{exponent}")
            assert written(value) == (json_float(value), len(json_float(value))), (figures, exponent)


@given(st.integers(0, 10**19 - 1))
@example(0)
@example(10**18)
def test_how_many_digits(n: int) -> None:
    assert digits.digit_count(np.uint64(n)) == len(str(n))


@pytest.mark.parametrize("shared", [True, False])
def test_a_block_is_settled_in_its_own_memory_or_in_another(shared: bool) -> None:
    values = np.array([[1.0, 0.5, math.nan, 1e300], [7.0, -2.25, 0.1 + 0.2, 100.0], [1.0, 2.0, 3.0, 4.0]])
    present = np.array([[True, False, True, True], [True] * 4, [False] * 4])
    texts = [[json_float(v) for v, there in zip(row, mask, strict=True) if there] for row, mask in zip(values, present, strict=True)]
    whole = values.view(np.int64) if shared else np.empty((3, 4), dtype=np.int64)
    places, counts, sizes = np.empty((3, 4), dtype=np.int16), np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
    shortest.settle(values, present, np.full(4, 10), whole, places, counts, sizes)
    assert counts.tolist() == [3, 4, 0]
    assert sizes.tolist() == [len(",".join(f'[1000000000,"{text}"]' for text in row)) for row in texts]
    assert (places == digits.ABSENT).tolist() == (~present).tolist()
    assert whole[present].tolist() == [1, 0, 1, 7, -225, 30000000000000004, 100]
    assert places[present].tolist() == [0, digits.NAN, -300, 0, 2, 17, 0]
