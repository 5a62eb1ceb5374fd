"""Whole numbers, decimals and copied texts against Python's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.kernels import digits

MOST = 2**63 - 1


def written(n: int) -> str:
    out = np.full(40, 35, dtype=np.uint8)
    end = digits.write_integer(out, 3, n)
    assert out[:3].tobytes() == b"###"
    assert out[end + digits.SPARE :].tobytes() == b"#" * (40 - end - digits.SPARE)
    return out[3:end].tobytes().decode()


@pytest.mark.parametrize("n", sorted({0, MOST, *(10**k + d for k in range(19) for d in (-1, 0, 1))}))
def test_numbers_about_the_powers_of_ten(n: int) -> None:
    assert written(n) == str(n)


@given(st.one_of(st.integers(0, MOST), st.integers(0, 10**9), st.integers(0, 10**17)))
def test_any_number(n: int) -> None:
    assert written(n) == str(n)


def test_all_numbers_of_four_digits() -> None:
    assert [written(n) for n in range(10_000)] == [str(n) for n in range(10_000)]


@given(st.integers(-(2**53), 2**53), st.integers(0, 4))
@example(-5, 1)
@example(10_005, 4)
def test_decimals(whole: int, places: int) -> None:
    out = np.full(40, 35, dtype=np.uint8)
    end = digits.write_number(out, 0, whole, places)
    sign, size = "-" if whole < 0 else "", str(abs(whole)).zfill(places + 1)
    wanted = sign + (f"{size[:-places]}.{size[-places:]}" if places else size)
    assert out[:end].tobytes().decode() == wanted


@given(st.binary(max_size=40), st.integers(0, 9))
def test_a_text_is_copied_and_no_more_than_the_spare_bytes_behind_it(text: bytes, at: int) -> None:
    pool = np.frombuffer(bytearray(b"**" + text + bytes(digits.SPARE)), dtype=np.uint8)
    out = np.full(70, 35, dtype=np.uint8)
    end = digits.paste(out, at, pool, 2, 2 + len(text))
    assert end == at + len(text)
    assert out[:end].tobytes() == b"#" * at + text
    assert set(out[end + digits.SPARE :].tolist()) <= {35}
