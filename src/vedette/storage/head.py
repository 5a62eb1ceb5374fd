"""The head: the samples of the last minutes to hours, uncompressed, in chains of chunks.

Two generations at most: the one that takes samples, and the one before, frozen, which is being (or has just been)
written to a block and answers queries meanwhile. One writer; whoever reads holds the engine's lock while a kernel
runs. Not here: the log (`wal.py`), labels (`series.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import head as kernel
from vedette.model.histograms import Histograms
from vedette.storage.histogram_columns import Found, other_than
from vedette.storage.histogram_head import Batch, HeadHistograms, kept_of

_I64 = np.int64
_FIRST_CHUNKS = 1 << 12
FAR_FUTURE = (1 << 63) - 1
"""`min_time` where there are no samples; `max_time` is its negative then."""


def _states(count: int) -> NDArray[np.int64]:
    state = np.zeros((count, 8), dtype=_I64)
    state[:, kernel.LAST_TIME] = kernel.NEVER
    state[:, kernel.FIRST] = -1
    state[:, kernel.TAIL] = -1
    return state


@dataclass(slots=True)
class Generation:
    """Samples that become one block: `state` int64[n, 8] of each series, `chunks` int64[m, 32] of which `used` hold samples."""

    state: NDArray[np.int64]
    chunks: NDArray[np.int64]
    used: int = 0
    samples: int = 0
    min_time: int = FAR_FUTURE
    max_time: int = -FAR_FUTURE
    histograms: HeadHistograms = field(default_factory=HeadHistograms)

    @classmethod
    def empty(cls) -> Generation:
        """One without series."""
        return cls(_states(0), np.empty((0, kernel.CHUNK_WORDS), dtype=_I64))

    @property
    def held_bytes(self) -> int:
        """Bytes in use: what was allocated ahead is not in memory yet."""
        return self.used * self.chunks.itemsize * kernel.CHUNK_WORDS + self.state.nbytes

    def series(self) -> NDArray[np.int64]:
        """The ids that have samples, ascending."""
        return np.flatnonzero(self.state[:, kernel.COUNT])


@dataclass(slots=True)
class Kept:
    """What of a batch the head took, as the log records it (`ids` uint32, `times` and `bits` int64), and what became of the rest."""

    ids: NDArray[np.uint32]
    times: NDArray[np.int64]
    bits: NDArray[np.int64]
    defined: NDArray[np.uint32]
    """Series of which the log's scope knows nothing yet."""
    same: int
    dropped: dict[str, int]


class Head:
    """The generation that takes samples and the one before."""

    def __init__(self) -> None:
        self.now = Generation(_states(1024), np.empty((_FIRST_CHUNKS, kernel.CHUNK_WORDS), dtype=_I64))
        self.before = Generation.empty()

    def reserve(self, series: int, samples: int) -> None:
        """Make room for ids below `series` and for `samples` more samples."""
        now = self.now
        if series > len(now.state):
            grown = _states(max(series, len(now.state) * 3 // 2))
            grown[: len(now.state)] = now.state
            now.state = grown
        if now.used + samples > len(now.chunks):
            chunks = np.empty((max(now.used + samples, len(now.chunks) * 2), kernel.CHUNK_WORDS), dtype=_I64)
            chunks[: now.used] = now.chunks[: now.used]
            now.chunks = chunks

    def append(
        self,
        ids: NDArray[np.int64],
        offsets: NDArray[np.int64],
        timestamps: NDArray[np.int64],
        bits: NDArray[np.int64],
        *,
        window: int,
        oldest: int,
        scope: int,
    ) -> Kept:
        """Take the samples of rows `ids` (`kernels/head.py`); `reserve` has made room for them."""
        now, n = self.now, len(timestamps)
        tally = np.zeros(9, dtype=_I64)
        tally[kernel.CHUNKS], tally[kernel.OLDEST], tally[kernel.NEWEST] = now.used, now.min_time, now.max_time
        log_ids, log_times, log_bits = np.empty(n, np.uint32), np.empty(n, _I64), np.empty(n, _I64)
        defined = np.empty(len(ids), np.uint32)
        kernel.append(
            *(ids, offsets, timestamps, bits, now.state, now.chunks, self.before.state, self.before.chunks),
            *(window, oldest, scope, log_ids, log_times, log_bits, defined, tally),
        )
        kept, same, duplicate, old, dropped, now.used, new, now.min_time, now.max_time = tally.tolist()
        now.samples += kept
        reasons = {"duplicate": duplicate, "too_old": old, "relabelled": dropped}
        return Kept(
            log_ids[:kept], log_times[:kept], log_bits[:kept], defined[:new], same, {why: count for why, count in reasons.items() if count}
        )

    def keep_histograms(self, histograms: Histograms, batch: Batch, kept: Kept) -> Histograms | None:
        """Take those of a batch's `histograms` whose samples were `kept` by `append`; answers them, `at` in the log's order."""
        native, missed = kept_of(histograms, batch, (kept.ids, kept.times, kept.bits))
        if len(missed):
            self._check_repeated(histograms.take(missed, histograms.at[missed]), batch, kept)
        if native is not None:
            self.now.histograms.append(kept.ids[native.at].astype(_I64), kept.times[native.at], native)
        return native

    def _check_repeated(self, histograms: Histograms, batch: Batch, kept: Kept) -> None:
        """Of histograms that were not kept, those are duplicates that only have the sum of the one that stands at their time."""
        ids, offsets, times, _ = batch
        series = ids[np.searchsorted(offsets, histograms.at, side="right") - 1]
        stored = np.flatnonzero(series >= 0)
        if not len(stored):
            return
        histograms, stamps = histograms.take(stored, histograms.at[stored]), times[histograms.at[stored]]
        known, rows = np.unique(series[stored], return_inverse=True)
        found = self.histograms(known, int(stamps.min()), int(stamps.max()))
        wrong = other_than(found, rows, stamps, histograms)
        if wrong:
            kept.same -= wrong
            kept.dropped["duplicate"] = kept.dropped.get("duplicate", 0) + wrong

    def gather(self, ids: NDArray[np.int64], start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(offsets int64[n + 1], timestamps, value bits) of the samples of series `ids` in [start, end]."""
        now, before = self.now, self.before
        most = int(kernel.bound(ids, now.state, before.state))
        offsets, times, bits = np.empty(len(ids) + 1, _I64), np.empty(most, _I64), np.empty(most, _I64)
        kernel.gather(ids, now.state, now.chunks, before.state, before.chunks, start, end, offsets, times, bits)
        return offsets, times[: offsets[-1]], bits[: offsets[-1]]

    def histograms(self, ids: NDArray[np.int64], start: int, end: int) -> list[Found]:
        """The native histograms of series `ids` in [start, end], those that count first."""
        found = (g.histograms.gather(ids, start, end) for g in (self.before, self.now))
        return [f for f in found if f is not None]

    def present(self, ids: NDArray[np.int64], start: int, end: int) -> NDArray[np.bool_]:
        """Which of the series `ids` have samples in [start, end]."""
        out = np.empty(len(ids), dtype=np.bool_)
        kernel.present(ids, self.now.state, self.now.chunks, self.before.state, self.before.chunks, start, end, out)
        return out

    def freeze(self) -> Generation:
        """Begin a new generation; answers the one that ends, which stays readable as `before`."""
        frozen = self.now
        state = frozen.state.copy()
        kernel.begin_generation(state)
        self.before = frozen
        self.now = Generation(state, np.empty((_FIRST_CHUNKS, kernel.CHUNK_WORDS), dtype=_I64))
        return frozen

    def idle(self, since: int) -> NDArray[np.bool_]:
        """Which series have no samples here, and had their last before `since`; as many as there is room for."""
        state = self.now.state
        idle: NDArray[np.bool_] = (state[:, kernel.COUNT] == 0) & (state[:, kernel.LAST_TIME] < since)
        idle[: len(self.before.state)] &= self.before.state[:, kernel.COUNT] == 0
        return idle

    def renumber(self, old_ids: NDArray[np.int64]) -> None:
        """Series i is from now on the one that was `old_ids[i]` (int64[n]); the others, which have no samples, are forgotten.

        The generation before becomes another object: whoever still writes the old one to a block is not disturbed.
        """
        state = _states(max(1024, len(old_ids)))
        state[: len(old_ids)] = self.now.state[old_ids]
        self.now.state = state
        self.now.histograms = self.now.histograms.renumbered(old_ids)
        if len(self.before.state):
            known = np.flatnonzero(old_ids < len(self.before.state))
            state = _states(len(old_ids))
            state[known] = self.before.state[old_ids[known]]
            self.before = replace(self.before, state=state, histograms=self.before.histograms.renumbered(old_ids))

    def drop_before(self) -> None:
        """Let go of the generation before."""
        self.before = Generation.empty()

    def bound(self, ids: NDArray[np.int64]) -> int:
        """How many samples the series `ids` have at most."""
        return int(kernel.bound(ids, self.now.state, self.before.state))

    @property
    def held(self) -> int:
        """How many samples there are, those included that a block holds already."""
        return self.now.samples + self.before.samples

    @property
    def min_time(self) -> int:
        """The oldest sample's time, the far future where there is none."""
        return min(self.now.min_time, self.before.min_time)

    @property
    def max_time(self) -> int:
        """The newest sample's time, the far past where there is none."""
        return max(self.now.max_time, self.before.max_time)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(g.state.nbytes + g.chunks.nbytes + g.histograms.nbytes for g in (self.now, self.before))
