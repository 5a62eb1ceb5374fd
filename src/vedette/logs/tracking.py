"""Errors grouped: which lines tell of one error, of what type it is, how it goes.

Lines of level error and above are one error where their exception's type and their pattern agree: the message with its
quoted parts and all words with digits (numbers, ids, addresses) masked (`database.py`). Pure functions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+")
# What a message without an exception's name tells of, by the first word of these in it.
_TOPICS = (
    ("timeout_error", ("timeout", "timed out", "deadline exceeded")),
    ("database_error", ("database", "sql", "postgres", "mysql", "sqlite", "deadlock", "redis", "mongo")),
    ("validation_error", ("validation", "invalid", "malformed", "bad request", "schema")),
    ("authentication_error", ("unauthorized", "forbidden", "authentication", "permission denied")),
    ("connection_error", ("connection", "connect", "unreachable", "socket", "dns")),
    ("memory_error", ("out of memory", "oom")),
)
UNKNOWN_TYPE = "unknown_error"


@dataclass(slots=True)
class TrackedError:
    """One error. Times in Unix ns; `counts` by span of the period, the oldest first; `message` is the last."""

    fingerprint: str
    type: str
    exception: str
    pattern: str
    message: str = ""
    count: int = 0
    first: int = 0
    last: int = 0
    services: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    trend: str = "stable"


def error_type(exception: str, message: str) -> str:
    """The kind of an error in snake case: of `sqlalchemy.exc.TimeoutError`, `timeout_error`."""
    if exception:
        words = _WORD.findall(exception.rsplit(".", 1)[-1])
        name = "_".join(words).lower() or exception.lower()
        name = name.removesuffix("_exception") or name
        return name if name.endswith("error") else f"{name}_error"
    lower = message.lower()
    return next((kind for kind, words in _TOPICS if any(w in lower for w in words)), UNKNOWN_TYPE)


def fingerprint(pattern: str, exception: str) -> str:
    """What names an error: 16 hexadecimal digits."""
    return hashlib.sha256(f"{exception}\0{pattern}".encode()).hexdigest()[:16]


def grouped(
    rows: Iterable[tuple[Any, ...]], *, start: int, end: int, step: int, before: Mapping[tuple[str, str], int] | None = None
) -> list[TrackedError]:
    """Errors of rows (pattern, exception, service, span's start, count, first, last, message), the most frequent first.

    `before` says when (pattern, exception) was first seen before `start`: such an error is not new.
    """
    before = before or {}
    found: dict[tuple[str, str], TrackedError] = {}
    base = start // step * step
    spans = max(1, -(-(end - base) // step))
    for pattern, exception, service, span, n, first, last, message in rows:
        known = found.get((pattern, exception))
        if known is None:
            known = found[pattern, exception] = TrackedError(
                fingerprint(pattern, exception), error_type(exception, message), exception, pattern, first=first, counts=[0] * spans
            )
        known.count += n
        known.first = min(known.first, first)
        if last >= known.last:
            known.last, known.message = last, message
        known.services[service] = known.services.get(service, 0) + n
        known.counts[min(spans - 1, max(0, (span - base) // step))] += n
    for key, error in found.items():
        error.trend = _trend(error.counts, known=key in before)
        error.first = before.get(key, error.first)
    return sorted(found.values(), key=lambda e: (-e.count, e.fingerprint))


def _trend(counts: list[int], *, known: bool) -> str:
    """Whether the later half of a period has clearly more, or fewer, than the earlier: by half, and by more than chance would do.

    `new` is what was never seen before that half.
    """
    half = len(counts) // 2
    before, after = sum(counts[:half]), sum(counts[-half:]) if half else 0
    if before == 0 and after > 0 and not known:
        return "new"
    # Counts that come by chance differ by about their square root.
    if abs(after - before) <= 2 * (after + before) ** 0.5:
        return "stable"
    return "increasing" if after > 1.5 * before else "decreasing" if before > 1.5 * after else "stable"
