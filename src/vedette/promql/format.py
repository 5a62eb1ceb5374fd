"""Numbers and times as Go prints them."""

from __future__ import annotations

import math
from decimal import Decimal


def go_float(value: float) -> str:
    """`strconv.FormatFloat(value, 'f', -1, 64)`: the shortest digits that read back as `value`, never an exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(float(value))  # a NumPy float prints otherwise
    if "e" in text:
        text = format(Decimal(text), "f")
    return text[:-2] if text.endswith(".0") else text


def _digits(value: float) -> tuple[str, str, int]:
    """Sign, shortest digits and decimal exponent of a finite number."""
    sign, digits, exponent = Decimal(repr(float(value))).as_tuple()
    assert isinstance(exponent, int), "only finite numbers have digits"
    text = "".join(map(str, digits)).lstrip("0")
    exponent += len(text) - 1
    return "-" if sign else "", text.rstrip("0") or "0", exponent if text else 0


def _scientific(value: float) -> str:
    sign, digits, exponent = _digits(value)
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def go_scientific(value: float) -> str:
    """`strconv.FormatFloat(value, 'E', -1, 64)`: the shortest digits, and always an exponent."""
    if math.isfinite(value) and value == 0:
        return "-0E+00" if math.copysign(1, value) < 0 else "0E+00"
    return _scientific(value).upper() if math.isfinite(value) else go_float(value)


def go_g(value: float) -> str:
    """`fmt`'s `%g`: shortest digits, with an exponent below 1e-4 and from 1e6 on."""
    if not math.isfinite(value) or value == 0:
        return go_float(value)
    exponent = _digits(value)[2]
    return _scientific(value) if exponent < -4 or exponent >= 6 else go_float(value)


def json_float(value: float) -> str:
    """A number in JSON answers: an exponent below 1e-6 and from 1e21 on."""
    size = abs(value)
    return _scientific(value) if math.isfinite(value) and size != 0 and (size < 1e-6 or size >= 1e21) else go_float(value)
