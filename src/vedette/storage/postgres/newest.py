"""Each series' newest sample, and what comes too late for it: more than its tenant's out-of-order window behind, as the engine has it.

After a start the newest samples are the database's to know; it is asked only where a sample is old enough that they could matter. Not
here: retention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.storage.setback import AHEAD_MS, SetBack

_I64 = np.int64
_UNKNOWN, _NONE = -(1 << 63), -(1 << 62)


@dataclass(frozen=True, slots=True)
class Sent:
    """Samples of one batch in the order in which they came: series ids (below 0: dropped), times in ms, the tenant's window in ms."""

    series: NDArray[np.int64]
    times: NDArray[np.int64]
    window: int


class Newest:
    """The newest samples by id of series, as far as they are known."""

    def __init__(self) -> None:
        self._times: NDArray[np.int64] = np.full(1024, _UNKNOWN, dtype=_I64)
        self._top = _NONE
        self._set_back = SetBack()

    def begin(self, ids: Sequence[int]) -> None:
        """These series are new: they have no sample yet."""
        if ids:
            self._grown(max(ids))[np.array(ids, dtype=_I64)] = _NONE

    def _grown(self, most: int) -> NDArray[np.int64]:
        if most >= len(self._times):
            more = np.full(max(most + 1, 2 * len(self._times)), _UNKNOWN, dtype=_I64)
            more[: len(self._times)] = self._times
            self._times = more
        return self._times

    async def late(self, connection: Any, group: Sequence[Sent], now: int) -> list[NDArray[np.bool_]]:
        """Of each batch the samples that come too late, those of the group before it counted in. `now` is the clock's, in ms.

        Where that was set back, the windows are wider by as much.
        """
        found = [np.zeros(len(sent.times), dtype=np.bool_) for sent in group]
        newest = self._grown(max((int(sent.series.max(initial=0)) for sent in group), default=0))
        await self._ask(connection, group, now)
        back = self._set_back.by(self._top, now)
        ahead: dict[int, int] = {}
        # What a series has by the end of the group is enough to see that nothing of it is late, as nearly always.
        tops = np.full(len(newest), _UNKNOWN, dtype=_I64)
        for sent in group:
            np.maximum.at(tops, sent.series[sent.series >= 0], sent.times[sent.series >= 0])
        for mask, sent in zip(found, group, strict=True):
            safe = np.maximum(sent.series, 0)
            behind = np.maximum(np.maximum(newest[safe], tops[safe]), _NONE)  # so that no window can make it wrap
            window = sent.window + back
            doubtful = (sent.series >= 0) & (sent.times < behind - window)
            watched = np.isin(sent.series, np.unique(sent.series[doubtful])) if doubtful.any() else doubtful
            watched |= np.isin(sent.series, list(ahead)) if ahead else False
            for i in np.flatnonzero(watched).tolist():
                series, time = int(sent.series[i]), int(sent.times[i])
                last = ahead.get(series, int(newest[series]))
                mask[i] = last > _NONE and time < last - window
                if not mask[i]:
                    ahead[series] = max(last, time)
        return found

    async def _ask(self, connection: Any, group: Sequence[Sent], now: int) -> None:
        """Find out the newest samples of those series for which samples may be too late, where they are not known."""
        series, least = [], 1 << 62
        for sent in group:
            old = (sent.series >= 0) & (sent.times < now + AHEAD_MS - sent.window)
            old &= self._times[np.maximum(sent.series, 0)] == _UNKNOWN
            if old.any():
                series.append(np.unique(sent.series[old]))
                least = min(least, int(sent.times[old].min()) + sent.window)
        if not series:
            return
        rows = await connection.fetch(
            "SELECT series_id, max(ts) AS newest FROM vedette_samples WHERE series_id = ANY($1::int[]) AND ts > $2 GROUP BY series_id",
            *(np.unique(np.concatenate(series)).tolist(), least),
        )
        for row in rows:
            self._times[row["series_id"]] = row["newest"]
            self._top = max(self._top, row["newest"])

    def advance(self, series: NDArray[np.int64], times: NDArray[np.int64], now: int, window: int) -> None:
        """These were stored. Of a series of which nothing is known an old sample says nothing: newer ones may be in the database."""
        known = (self._times[series] != _UNKNOWN) | (times >= now + AHEAD_MS - window)
        np.maximum.at(self._times, series[known], times[known])
        self._top = max(self._top, int(times.max(initial=_NONE)))
