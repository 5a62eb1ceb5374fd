"""Large batches of alerts on their way to the disk: one row each at once, the rows of their tables when there is time.

A thousand alerts that come in one request are two thousand rows in two tables with three indexes. Until they are there the batch
is one compressed row, as durable, at a tenth of the cost; whoever reads the tables first waits until it is spread. Only over SQLite,
which one server has for itself: others that share a database must find rows where they look. Not here: what the rows mean.

    body = zstd(JSON [[values of a HeldAlertRow, ...], [values of an AlertEventRow, ...]])

The labels of the i-th event are "" where they are those of the i-th alert.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cramjam
import orjson
import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import Corrupt
from vedette.records.numbers import Numbers, own_number
from vedette.records.rows import AlertEventRow, AlertJournalRow, HeldAlertRow, Many, Row

if TYPE_CHECKING:
    from vedette.records.database import Records

log = structlog.get_logger(__name__)

FEW = 100
"""Fewer rows than these go to their tables at once."""
MOST = 200
"""So many batches may wait; who comes then spreads the oldest one first."""
_LABELS, _EVENT_LABELS, _VALUE = 2, 6, 8
_INFINITE = (math.inf, -math.inf)


class Journal:
    """The batches of one tenant that are not spread yet. Call `start` once, before the tables are read."""

    def __init__(self, records: Records, clock: Clock, *, tenant: str) -> None:
        self._records, self._clock, self._tenant = records, clock, tenant
        self._numbers = Numbers(0, 0)
        # By number, how each is being written. A batch whose caller went away may be on the disk all the same.
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._spreading = asyncio.Lock()
        self.news = asyncio.Event()
        """Set when a batch comes."""

    def __len__(self) -> int:
        return len(self._waiting)

    async def start(self) -> None:
        """Spread what the last run left. A batch that cannot be read stays where it is, and is told of in the log."""
        rows = await self._records.load(AlertJournalRow, tenant=self._tenant)
        self._numbers = Numbers(max((row.seq for row in rows), default=0), own_number())
        for row in rows:
            try:
                await self._spread(row)
            except Corrupt as error:
                # Without it some alerts are unknown until they are sent again; without a start nobody is told of any.
                log.error("a batch of alerts cannot be read, and stays in the journal", number=row.seq, reason=str(error))

    async def save(self, held: Many, events: Many, others: Sequence[Row] = (), drop: Sequence[Row] = ()) -> None:
        """Commit the rows of alerts and of their steps, with others, all or none. Raises `LimitExceeded` where the disk takes nothing."""
        # What waits is older than this: in the tables at once, news of the same alert would be overwritten when that is spread.
        if len(held.values) < FEW and not (self._waiting and held.values):
            await self._records.save([held, events, *others], drop)
            return
        body = packed(held.values, events.values) if self._records.alone else None
        if body is None:
            while self._waiting:  # more may come while what there is is spread
                await self.spread()
            await self._records.save([held, events, *others], drop)
            return
        if len(self._waiting) >= MOST:
            await self.spread(most=1)
        now = now_ms(self._clock)
        row = AlertJournalRow(self._tenant, self._numbers.take(now), now, body)
        saving = self._waiting[row.seq] = asyncio.ensure_future(self._records.save([row, *others], drop))
        # Looked at here too: whose caller went away would otherwise be told of as forgotten.
        saving.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.news.set()
        await asyncio.shield(saving)

    async def spread(self, *, most: int = 1 << 62) -> None:
        """Bring the batches that are there, or the oldest `most` of them, into the tables. Raises `LimitExceeded`."""
        for seq in list(self._waiting)[:most]:
            async with self._spreading:
                if seq not in self._waiting:
                    continue
                await asyncio.wait([self._waiting[seq]])
                # One that the disk refused is not there.
                found = await self._records.page(AlertJournalRow, self._tenant, before=seq + 1, since=0, until=1 << 62, limit=1)
                for row in found:
                    if row.seq == seq:
                        await self._spread(row)
                del self._waiting[seq]

    async def _spread(self, row: AlertJournalRow) -> None:
        held, events = unpacked(row.body)
        await self._records.save([Many(HeldAlertRow, held), Many(AlertEventRow, events)], [row])


def packed(held: Sequence[tuple[Any, ...]], events: Sequence[tuple[Any, ...]]) -> bytes | None:
    """A batch as one body; None for values that no JSON holds: an infinite one goes to its table, what is no text is refused there."""
    if any(event[_VALUE] in _INFINITE for event in events):
        return None
    texts = [row[_LABELS] for row in held]
    lean = [
        (*event[:_EVENT_LABELS], "", *event[_EVENT_LABELS + 1 :]) if i < len(texts) and event[_EVENT_LABELS] == texts[i] else event
        for i, event in enumerate(events)
    ]
    try:
        return bytes(cramjam.zstd.compress(orjson.dumps([held, lean]), level=1))
    except TypeError:
        return None


def unpacked(body: bytes) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """(values of the alerts' rows, values of the events') of a body. Raises `Corrupt`."""
    try:
        held, lean = orjson.loads(bytes(cramjam.zstd.decompress(body)))
        events = [(*e[:_EVENT_LABELS], e[_EVENT_LABELS] or held[i][_LABELS], *e[_EVENT_LABELS + 1 :]) for i, e in enumerate(lean)]
    except (cramjam.DecompressionError, ValueError, IndexError, TypeError) as error:
        raise Corrupt(f"a batch of alerts cannot be read: {error}", path=Path("alert_journal"), offset=0) from error
    return [tuple(row) for row in held], events
