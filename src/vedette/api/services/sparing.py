"""Log lines of what happens thousands of times a second: one line a second, which says how many it stands for."""

from __future__ import annotations

from collections.abc import Callable

import structlog

_EVERY_S = 1.0
_log = structlog.get_logger(__name__)


class Sparing:
    """Lets one line a second through; `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last = float("-inf")
        self._held = 0

    def say(self, message: str, **fields: object) -> None:
        """Log `message` at level info, or hold it back; `held_back` are those before it that were."""
        now = self._monotonic()
        if now - self._last < _EVERY_S:
            self._held += 1
            return
        if self._held:
            fields["held_back"] = self._held
        self._last, self._held = now, 0
        _log.info(message, **fields)
