"""How often somebody may guess a password: a few times in a minute from one address for one name, more from one address in all."""

from __future__ import annotations

import math

from vedette.clock import Clock
from vedette.errors import LimitExceeded

WINDOW_S = 60.0
PER_NAME = 5
PER_ADDRESS = 20
_REMEMBERED = 10_000


class Attempts:
    """Failed attempts of the last minute. Bounded: what has been known longest is forgotten first. One event loop's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, str], tuple[float, int]] = {}

    def check(self, address: str, name: str) -> None:
        """Raises `LimitExceeded` where there were too many."""
        now = self._clock.monotonic()
        for key, most in (((address, name), PER_NAME), ((address, ""), PER_ADDRESS)):
            ends, count = self._counts.get(key, (0.0, 0))
            if now < ends and count >= most:
                raise LimitExceeded("too many failed attempts", retry_after=float(math.ceil(ends - now)))

    def failed(self, address: str, name: str) -> None:
        """Count one."""
        now = self._clock.monotonic()
        for key in ((address, name), (address, "")):
            ends, count = self._counts.pop(key, (0.0, 0))
            if now >= ends:
                ends, count = now + WINDOW_S, 0
            if len(self._counts) >= _REMEMBERED:
                del self._counts[next(iter(self._counts))]
            self._counts[key] = (ends, count + 1)
