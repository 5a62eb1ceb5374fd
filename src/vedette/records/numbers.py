"""Numbers for the rows of a log that several servers write into one database without asking each other.

They rise with time, so that the order of the numbers is that of the rows, and each server gives its own. Not here: the logs.
"""

from __future__ import annotations

import secrets

INSTANCES = 4096
"""So many servers may share a database: each gives numbers of its own. 2^53, where readers of JSON stop to count, is reached in 2039."""


def own_number() -> int:
    """Which of the servers this one is, at random: nobody counts them."""
    return secrets.randbelow(INSTANCES)


class Numbers:
    """The numbers of one log's next rows, above `newest`, the highest that is there; `own` (below `INSTANCES`) is the server's."""

    def __init__(self, newest: int, own: int) -> None:
        assert 0 <= own < INSTANCES, own
        self._own = own
        self._next = (newest // INSTANCES + 1) * INSTANCES + own

    def take(self, now: int) -> int:
        """The next number at `now` (Unix ms): no other server gives it, and this one never again."""
        number = max(self._next, now * INSTANCES + self._own)
        self._next = number + INSTANCES
        return number

    def many(self, now: int, count: int) -> range:
        """The next `count` numbers at `now`, as `take` would give them one by one."""
        first = max(self._next, now * INSTANCES + self._own)
        self._next = first + count * INSTANCES
        return range(first, self._next, INSTANCES)
