"""Prometheus durations: `1h30m`, `15s`, `250ms`."""

from __future__ import annotations

import re

from vedette.errors import BadInput

_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_DURATION = re.compile(r"(?:([0-9]+)y)?(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?(?:([0-9]+)ms)?\Z")
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_GO_UNITS_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}
# Prometheus holds a duration in int64 nanoseconds, some 292 years.
_MAX_MS = (1 << 63) // 1_000_000


def parse_duration(text: str) -> int:
    """Milliseconds of a duration such as `1h30m` or `0`. Raises `BadInput` naming what was expected."""
    if text == "0":
        return 0
    match = _DURATION.match(text)
    if not text or match is None:
        raise BadInput(f"not a valid duration string: {text!r}", hint="expected units in falling order, such as 1h30m, 15s or 250ms")
    total = sum(int(n) * _UNITS_MS[u] for n, u in zip(match.groups(), _UNITS_MS, strict=True) if n)
    if total > _MAX_MS:
        raise BadInput(f"duration out of range: {text!r}", hint="at most 292y")
    return total


def parse_go_duration(text: str) -> int:
    """Milliseconds of a duration as Go writes it, too: `1.5h`, `90s500ms`. Raises `BadInput`."""
    parts = _GO_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return parse_duration(text)
    total = sum(float(number) * _GO_UNITS_MS[unit] for number, unit in parts)
    if total > _MAX_MS:
        raise BadInput(f"duration out of range: {text!r}", hint="at most 292y")
    return round(total)


def parse_seconds(text: str) -> float:
    """Seconds of a duration such as `2m`. Raises `BadInput` as `parse_duration` does."""
    return parse_duration(text) / 1000


def format_seconds(seconds: float) -> str:
    """The duration as `parse_seconds` reads it."""
    return format_duration(round(seconds * 1000))


def format_duration(ms: int) -> str:
    """The duration as Prometheus prints it: `0s`, `1h30m`, `90d`; weeks and years only where they divide it."""
    if ms == 0:
        return "0s"
    out, rest = "-" if ms < 0 else "", abs(ms)
    for unit, size in _UNITS_MS.items():
        # Years and weeks are printed only when nothing is left over: 90d is easier to read than 12w6d.
        if unit in ("y", "w") and rest % size:
            continue
        count, rest = divmod(rest, size)
        if count:
            out += f"{count}{unit}"
    return out
