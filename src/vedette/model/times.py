"""Points in time as people and programs write them: ISO 8601 in every form. Not here: Unix times, whose unit the reader knows."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A plus sign that was not escaped in a URL arrives as a space.
_LOST_PLUS = re.compile(r"([T ]\d\d\S+) (\d\d:?\d\d)\Z", re.ASCII)


def iso_ns(text: str) -> int | None:
    """Unix ns, to the microsecond, of ISO 8601 (calendar or week dates, extended or basic; UTC without a zone); None for all else."""
    if not text.isprintable():  # fromisoformat overlooks a NUL at the end
        return None
    try:
        when = datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", text))
    except ValueError:
        return None
    return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1) * 1000
