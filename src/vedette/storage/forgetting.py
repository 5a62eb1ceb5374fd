"""Series that are gone leave memory: their labels, keys and texts, and the texts that queries of old blocks brought in.

A table without them is made beside the writer and then put in the present one's place; a series that comes back is
registered again. Done when a quarter of the series or texts would go, so that memory follows what is active and not what ever
was. Not here: when it may be done (`flush.py`).
"""

from __future__ import annotations

import numpy as np
import structlog
from numpy.typing import NDArray

from vedette.clock import Clock, now_ms
from vedette.storage.limits import Limits
from vedette.storage.memory import Memory
from vedette.storage.series import KeyTable, SeriesTable
from vedette.storage.settings import StorageSettings

log = structlog.get_logger(__name__)

_LEAST = 10_000
"""So many series or texts are worth the trouble."""

_SHARE = 0.25
_EVERY = 60.0


class Forgetting:
    """Steps of one renewal of the series table: `due`, `prepare` (on any thread), `finish`; the others on the writer's thread."""

    def __init__(self, memory: Memory, settings: StorageSettings, clock: Clock, *, limits: Limits) -> None:
        self._memory = memory
        self._clock = clock
        self._limits = limits
        self._head_span = settings.head_span
        self._again = 0.0
        self._refused = 0
        self._made: tuple[SeriesTable, NDArray[np.int64]] | None = None
        self._gone = np.zeros(0, dtype=np.bool_)
        self.forgotten = 0

    def due(self) -> bool:
        """Whether it is worth while now; looks once a minute."""
        now = self._clock.monotonic()
        if now < self._again:
            return False
        self._again = now + _EVERY
        series = self._memory.series
        self._gone = self._memory.idle(self._since())
        borrowed, texts = series.names.borrowed, len(series.names.symbols)
        gone = int(np.count_nonzero(self._gone))
        # A tenant that has as many series as it may gets room as soon as any are gone.
        refused, self._refused = self._memory.refused_series - self._refused, self._memory.refused_series
        wanted = refused > 0 and gone > 0
        return wanted or gone > max(_LEAST, _SHARE * len(series)) or borrowed > max(_LEAST, _SHARE * texts)

    def prepare(self) -> None:
        """Make the table of those that stay, beside the writer."""
        # Compiled here, where it is not yet: `finish` has everybody wait.
        KeyTable(4).renumbered(np.zeros(1, dtype=np.int64))
        self._made = self._memory.series.without(self._gone)

    @property
    def prepared(self) -> bool:
        """Whether `finish` is due."""
        return self._made is not None

    def finish(self) -> None:
        """Put the new table in place. The log must be at the beginning of a scope, since ids change."""
        assert self._made is not None
        made, self._made = self._made, None
        before = len(self._memory.series)
        self._memory.succeed(*made, self._since())
        self.forgotten += before - len(self._memory.series)
        log.debug("series that are gone were forgotten", before=before, now=len(self._memory.series))

    def _since(self) -> int:
        # As long as late samples of a series are told from new ones, its newest sample must be known.
        return now_ms(self._clock) - max(self._limits.longest_window, self._head_span)
