"""Floats parsed in kernels against Python's `float`, bit for bit."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.kernels.floats import BAD, OK, POWERS, SLOW, parse_float

_WORD = np.zeros(1, dtype=np.float64)
_SCRATCH = (_WORD, _WORD.view(np.uint64))


def parsed(text: str) -> float | str:
    """The kernel's answer, Python's for what the kernel passes on, "bad" for what is none."""
    buffer = np.frombuffer(f"<{text}>".encode(), dtype=np.uint8)
    bits, status = parse_float(buffer, 1, len(buffer) - 1, POWERS, _SCRATCH)
    if status == BAD:
        return "bad"
    if status == SLOW:
        return float(text)
    assert status == OK
    return float(np.array([bits], dtype=np.uint64).view(np.float64)[0])


def bits_of(value: float | str) -> bytes | str:
    return value if isinstance(value, str) else struct.pack("<d", value)


def texts(seed: int, count: int) -> Iterator[str]:
    draw = random.Random(seed)
    for _ in range(count):
        kind = draw.random()
        if kind < 0.4:
            yield repr(struct.unpack("<d", struct.pack("<Q", draw.getrandbits(64)))[0])
        elif kind < 0.7:
            yield repr(draw.random() * 10 ** draw.randint(-5, 20))
        elif kind < 0.9:
            yield f"{draw.getrandbits(draw.randint(1, 64))}e{draw.randint(-345, 310)}"
        else:
            yield f"-{draw.getrandbits(30)}.{draw.getrandbits(25)}E+{draw.randint(0, 30)}"


def test_random_decimals() -> None:
    for text in texts(1, 8_000):
        if text not in ("nan", "-nan"):
            assert bits_of(parsed(text)) == bits_of(float(text)), text


@given(st.floats(allow_nan=False))
def test_every_float_comes_back(value: float) -> None:
    assert bits_of(parsed(repr(value))) == bits_of(value)
    assert bits_of(parsed(f"{value:.17e}")) == bits_of(value)


@given(st.text(alphabet="0123456789.eE+-infatyNx_ ", max_size=12))
@example(".iNf")
@example("-.nan")
def test_accepts_exactly_what_go_does(text: str) -> None:
    found = parsed(text)
    try:
        expected: float | str = float(text)
    except ValueError:
        expected = "bad"
    # Python also takes underscores, blanks around, and a signed nan; Go's parser, as Prometheus uses it, does not.
    if "_" in text or " " in text or text.lower() in ("+nan", "-nan"):
        expected = "bad"
    if isinstance(found, float) and isinstance(expected, float) and np.isnan(found):
        assert np.isnan(expected)
    else:
        assert bits_of(found) == bits_of(expected)


EDGES = """
0 -0 0.0 1. .5 00012 1e0 1e22 1e23 9007199254740993 9007199254740992.5 4.9e-324 2.2250738585072014e-308 2.2250738585072011e-308
1.7976931348623157e308 1e400 -1e400 1e-400 123456789012345678901234567890 0.1000000000000000055511151231257827 1e99999999999
inf -Inf +INFINITY 8.533e+68 5e-324 1.00000000000000011102230246251565404
"""


@pytest.mark.parametrize("text", EDGES.split())
def test_edges(text: str) -> None:
    assert bits_of(parsed(text)) == bits_of(float(text))


def test_nan_is_the_canonical_one_never_a_stale_marker() -> None:
    assert bits_of(parsed("NaN")) == struct.pack("<Q", 0x7FF8000000000001)
