"""A clock that was set back: how far what was stored meanwhile reaches into a future that only a wrong clock can have made.

Series that have a sample of that future would take none until it comes, were the window for what is out of order not as much wider.
Not here: what senders' clocks say (`ingest/door.py`).
"""

from __future__ import annotations

import structlog

log = structlog.get_logger(__name__)

AHEAD_MS = 600_000
"""So much may a sender's clock be ahead; what is stored of a later time than that is from when this machine's was."""
_WRONG_MS = 100 * 365 * 86_400_000
"""No clock is wrong by so much."""


class SetBack:
    """What a backend's newest sample says of the clock. Told once, in the log, each time that it is set back."""

    def __init__(self) -> None:
        self._newest = -(1 << 63)
        self._told = False

    def by(self, newest: int, now: int) -> int:
        """How far (ms) samples reach into the future, `newest` (ms) or one named before the newest; 0 where a sender may explain it."""
        self._newest = max(self._newest, newest)
        back = self._newest - now
        back = back if AHEAD_MS < back < _WRONG_MS else 0
        if back and not self._told:
            log.warning("the clock was set back: what is older than samples stored of the future is taken", newest_ms=self._newest)
        self._told = back > 0
        return back
