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
