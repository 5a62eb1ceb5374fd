"""How often somebody may guess a password: a few times in a minute from one address for one name, more from one address in all."""

from __future__ import annotations

import math

from vedette.clock import Clock
from vedette.errors import LimitExceeded

WINDOW_S = 60.0
PER_NAME = 5
PER_ADDRESS = 20
_REMEMBERED = 10_000


class TooManyAttempts(LimitExceeded):
    """Somebody guessed too often, and has to wait."""


class Attempts:
    """Attempts of the last minute that failed or are under way. Bounded: what has been known longest is forgotten first.

    An attempt counts from its beginning, or a thousand at once would all be let in before the first one failed. One event loop's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, str | None], tuple[float, int]] = {}
        """When they end and how many, by address and name; None for all from an address, "" for those that give a key and no name."""

    def begin(self, address: str, name: str) -> None:
        """Count one. Raises `TooManyAttempts` where there were too many."""
        now = self._clock.monotonic()
        for key, most in (((address, name), PER_NAME), ((address, None), PER_ADDRESS)):
            ends, count = self._counts.get(key, (0.0, 0))
            if now < ends and count >= most:
                raise TooManyAttempts("too many failed attempts", retry_after=float(math.ceil(ends - now)))
        for key in ((address, name), (address, None)):
            ends, count = self._counts.pop(key, (0.0, 0))
            if now >= ends:
                ends, count = now + WINDOW_S, 0
            if len(self._counts) >= _REMEMBERED:
                del self._counts[next(iter(self._counts))]
            self._counts[key] = (ends, count + 1)

    def forgive(self, address: str, name: str) -> None:
        """Take one back that proved who somebody is, or that came to no end."""
        for key in ((address, name), (address, None)):
            ends, count = self._counts.get(key, (0.0, 0))
            if count:
                self._counts[key] = (ends, count - 1)
