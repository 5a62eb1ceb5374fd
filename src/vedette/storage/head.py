"""The head: the samples of the last minutes to hours, in chains of chunks, two bytes a sample or so.

Two generations at most: the one that takes samples, and the one before, frozen, which is being (or has just been)
written to a block and answers queries meanwhile. One writer; whoever reads holds the engine's lock while a kernel
runs. Not here: the log (`wal.py`), labels (`series.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import head as kernel
from vedette.kernels.chunks import UNIT_BYTES, UNIT_WORDS
from vedette.model.histograms import Histograms
from vedette.storage.histogram_columns import Found, located, other_than, standing
from vedette.storage.histogram_head import Batch, HeadHistograms, kept_of, places_of

_I64 = np.int64
_FIRST_UNITS = 1 << 12
LARGE = 1 << 18
"""Samples from which two threads read them sooner than one."""
FAR_FUTURE = (1 << 63) - 1
"""`min_time` where there are no samples; `max_time` is its negative then."""


def _arena(units: int) -> NDArray[np.int64]:
    return np.empty(units * UNIT_WORDS, dtype=_I64)


def _from_first(
    offsets: NDArray[np.int64], times: NDArray[np.int64], bits: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows that end where their room does, without what is free before them."""
    first = int(offsets[0])
    return offsets - first, times[first:], bits[first:]


@dataclass(slots=True)
class Generation:
    """Samples that become one block: `state` int64[n, 4] of each series, and `arena` int64[...], of which `units` are in use.

    What was allocated ahead is touched by nobody, and so takes no memory.
    """

    state: NDArray[np.int64]
    arena: NDArray[np.int64]
    units: int = 1
    """The first is not used: a chunk's number 0 says that there is none."""
    chunks: int = 0
    samples: int = 0
    min_time: int = FAR_FUTURE
    max_time: int = -FAR_FUTURE
    histograms: HeadHistograms = field(default_factory=HeadHistograms)
    ahead: NDArray[np.int64] | None = None
    """What `state` is the beginning of, in zeros."""

    @classmethod
    def empty(cls) -> Generation:
        """One without series."""
        return cls(np.zeros((0, kernel.STATE_WORDS), dtype=_I64), _arena(0))

    def reserve(self, series: int, samples: int) -> None:
        """Make room for ids below `series` and for `samples` more samples."""
        known = len(self.state)
        if series > known:
            if self.ahead is None or series > len(self.ahead):
                # From the system's store of zeros: what is not used yet stays there.
                self.ahead = np.zeros((max(series, known * 5 // 4, 1024), kernel.STATE_WORDS), dtype=_I64)
                self.ahead[:known] = self.state
            self.state = self.ahead[:series]
            self.state[known:, kernel.LAST_TIME] = kernel.NEVER
        # One more than all, since reading leaps a little ahead.
        needed, held = self.units + kernel.MOST_UNITS * samples + 1, len(self.arena) // UNIT_WORDS
        if needed > held:
            grown = _arena(max(needed, held * 3 // 2, _FIRST_UNITS))
            used = min(self.units * UNIT_WORDS, len(self.arena))
            grown[:used] = self.arena[:used]
            self.arena = grown

    @property
    def counts(self) -> NDArray[np.int32]:
        """How many samples each series has; a view."""
        return self.state.view(np.int32)[:, kernel.COUNT]

    def chained_as(self, ids: NDArray[np.int64]) -> Generation:
        """The same samples where series i is the one that was `ids[i]`, int64[n], new where that is not known here."""
        made = replace(self, state=self.state[:0], ahead=None, histograms=self.histograms.renumbered(ids))
        made.reserve(len(ids), 0)
        known = np.flatnonzero(ids < len(self.state))
        made.state[known] = self.state[ids[known]]
        return made

    @property
    def held_bytes(self) -> int:
        """Bytes in use: what was allocated ahead is not in memory yet."""
        return (self.units - 1) * UNIT_BYTES + self.state.nbytes

    def series(self) -> NDArray[np.int64]:
        """The ids that have samples, ascending."""
        return np.flatnonzero(self.counts)


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
        self.now = Generation.empty()
        self.before = Generation.empty()
        self._scope = 0
        self._scopes = 0
        # Begun when a large read first comes, gone with the head.
        self._other = ThreadPoolExecutor(max_workers=1, thread_name_prefix="head-read")

    def reserve(self, series: int, samples: int) -> None:
        """Make room for ids below `series` and for `samples` more samples."""
        self.now.reserve(series, samples)

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
        """Take the samples of rows `ids` (`kernels/head.py`); `reserve` has made room for them. `scope` 0 defines no series."""
        now, n = self.now, len(timestamps)
        tally = np.zeros(10, dtype=_I64)
        tally[kernel.UNITS], tally[kernel.CHUNKS], tally[kernel.OLDEST], tally[kernel.NEWEST] = (
            now.units,
            now.chunks,
            now.min_time,
            now.max_time,
        )
        log_ids, log_times, log_bits = np.empty(n, np.uint32), np.empty(n, _I64), np.empty(n, _I64)
        defined = np.empty(len(ids), np.uint32)
        kernel.append(
            *(ids, offsets, timestamps, bits, now.state, now.arena, self.before.state, self.before.arena),
            *(window, oldest, self._number_of(scope), log_ids, log_times, log_bits, defined, tally),
        )
        kept, same, duplicate, old, dropped, now.units, now.chunks, new, now.min_time, now.max_time = tally.tolist()
        now.samples += kept
        reasons = {"duplicate": duplicate, "too_old": old, "relabelled": dropped}
        return Kept(
            log_ids[:kept], log_times[:kept], log_bits[:kept], defined[:new], same, {why: count for why, count in reasons.items() if count}
        )

    def _number_of(self, scope: int) -> int:
        """The scope's number here, which is short: one comes after the other, and none comes back."""
        if scope and scope != self._scope:
            self._scope = scope
            self._scopes += 1
        return self._scopes if scope else 0

    def keep_histograms(self, histograms: Histograms | None, batch: Batch, kept: Kept) -> Histograms | None:
        """Take those of a batch's `histograms` whose samples were `kept` by `append`; answers them, `at` in the log's order.

        What `append` took for repetitions, since it knows sums alone, is a duplicate where another histogram stands at its time, or a
        float where a histogram came, or the other way round.
        """
        native = None
        if histograms is not None:
            native = kept_of(histograms, batch, (kept.ids, kept.times, kept.bits))
        if native is not None:
            self.now.histograms.append(kept.ids[native.at].astype(_I64), kept.times[native.at], native)
        if kept.same and (wrong := min(self._pretenders(histograms, batch, kept), kept.same)):
            kept.same -= wrong
            kept.dropped["duplicate"] = kept.dropped.get("duplicate", 0) + wrong
        return native

    def _pretenders(self, histograms: Histograms | None, batch: Batch, kept: Kept) -> int:
        """How many samples of a batch, `histograms` among them, were not kept and are as what stands there in their sum alone."""
        ids, offsets, times, bits = batch
        rows = np.repeat(ids, np.diff(offsets))
        missed = (places_of(batch, (kept.ids, kept.times, kept.bits)) < 0) & (rows >= 0)
        wrong = 0
        if histograms is not None:
            which = np.flatnonzero(missed[histograms.at])
            at = histograms.at[which]
            missed[at] = False
            if len(which):
                known, places = np.unique(rows[at], return_inverse=True)
                span = int(times[at].min()), int(times[at].max())
                other, alone = other_than(self.histograms(known, *span), places, times[at], histograms.take(which, at))
                wrong += other
                if len(alone):
                    sent = places[alone], times[at[alone]], bits[at[alone]]
                    wrong += int(np.count_nonzero(located(sent, *self.gather(known, *span)) >= 0))
        floats = np.flatnonzero(missed)
        if len(floats):
            known, places = np.unique(rows[floats], return_inverse=True)
            found = self.histograms(known, int(times[floats].min()), int(times[floats].max()))
            wrong += standing(found, (places, times[floats], bits[floats]))
        return wrong

    def gather(
        self, ids: NDArray[np.int64], start: int, end: int, *, bound: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(offsets int64[n + 1], timestamps, value bits) of the samples of series `ids` in [start, end]; `bound` is theirs, where known."""
        most = self.bound(ids) if bound is None else bound
        now, before = self.now, self.before

        def read(lo: int, hi: int, *columns: NDArray[np.int64]) -> None:
            kernel.gather(ids[lo:hi], now.state, now.arena, before.state, before.arena, start, end, *columns)

        half = len(ids) // 2
        return self.columns(len(ids), most, self.bound(ids[:half]) if most >= LARGE and half else 0, read)

    def columns(
        self, n: int, most: int, at: int, read: Callable[[int, int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], None]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """As `gather`, of n rows of at most `most` samples, of which `read` gives [lo, hi) as a kernel does: at the end of the columns.

        With an `at`, which is how many the first half of the rows has at most, each half is read by a thread.
        """
        offsets, times, bits = np.empty(n + 1, _I64), np.empty(most, _I64), np.empty(most, _I64)
        half = n // 2
        if not at:
            read(0, n, offsets, times, bits)
            return _from_first(offsets, times, bits)
        # Each half ends where its room does; the first is moved where the second leaves something between them.
        later = np.empty(n - half + 1, _I64)
        other = self._other.submit(read, half, n, later, times[at:], bits[at:])
        read(0, half, offsets[: half + 1], times[:at], bits[:at])
        other.result()
        if between := int(later[0]):
            for column in (times, bits):
                column[offsets[0] + between : at + between] = column[offsets[0] : at]
            offsets[:half] += between
        offsets[half:] = later + at
        return _from_first(offsets, times, bits)

    def in_halves(self, look: Callable[[int, int], bool], n: int, *, worth: bool) -> bool:
        """Whether `look(lo, hi)` is true of all rows [0, n), on two threads where that is worth it."""
        if not worth:
            return look(0, n)
        other = self._other.submit(look, n // 2, n)
        found = look(0, n // 2)
        return other.result() and found

    @property
    def has_histograms(self) -> bool:
        """Whether there are native histograms of any series."""
        return bool(len(self.now.histograms) or len(self.before.histograms))

    def histograms(self, ids: NDArray[np.int64], start: int, end: int) -> list[Found]:
        """The native histograms of series `ids` in [start, end], those that count first."""
        found = (g.histograms.gather(ids, start, end) for g in (self.before, self.now))
        return [f for f in found if f is not None]

    def any_histograms(self, ids: NDArray[np.int64]) -> bool:
        """Whether any of the series `ids` has native histograms, of any time."""
        return any(g.histograms.any_of(ids) for g in (self.before, self.now))

    def present(self, ids: NDArray[np.int64], start: int, end: int) -> NDArray[np.bool_]:
        """Which of the series `ids` have samples in [start, end]."""
        out = np.empty(len(ids), dtype=np.bool_)
        kernel.present(ids, self.now.state, self.now.arena, self.before.state, self.before.arena, start, end, out)
        return out

    def newest(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The time of each series' newest sample: the far past where there is none, the far future where `ids` is below 0."""
        out = np.full(len(ids), -FAR_FUTURE, dtype=_I64)
        known = (ids >= 0) & (ids < len(self.now.state))
        out[known] = self.now.state[ids[known], kernel.LAST_TIME]
        out[ids < 0] = FAR_FUTURE
        return out

    def freeze(self) -> Generation:
        """Begin a new generation; answers the one that ends, which stays readable as `before`."""
        frozen = self.now
        begun = Generation.empty()
        begun.reserve(len(frozen.state), 0)
        begun.state[:] = frozen.state
        fields = begun.state.view(np.int32)
        fields[:, kernel.TAIL : kernel.DELTA + 1] = 0
        self.before, self.now = frozen, begun
        return frozen

    def idle(self, since: int) -> NDArray[np.bool_]:
        """Which series have no samples here, and had their last before `since`; as many as there is room for."""
        idle: NDArray[np.bool_] = (self.now.counts == 0) & (self.now.state[:, kernel.LAST_TIME] < since)
        idle[: len(self.before.state)] &= self.before.counts == 0
        return idle

    def renumber(self, old_ids: NDArray[np.int64]) -> None:
        """Series i is from now on the one that was `old_ids[i]` (int64[n]); the others, which have no samples, are forgotten.

        The generation before becomes another object: whoever still writes the old one to a block is not disturbed.
        """
        self.now = self.now.chained_as(old_ids)
        if len(self.before.state):
            self.before = self.before.chained_as(old_ids)

    def drop_before(self) -> None:
        """Let go of the generation before."""
        self.before = Generation.empty()

    def bound(self, ids: NDArray[np.int64]) -> int:
        """How many samples the series `ids` have at most."""
        return int(kernel.bound(ids, self.now.state, self.before.state))

    def share(self, start: int, end: int) -> float:
        """About how large a part of the samples lies in [start, end]: as large as of the time that they span."""
        oldest, newest = self.min_time, self.max_time
        return max(0.0, min(end, newest) - max(start, oldest) + 1) / (newest - oldest + 1) if newest >= oldest else 0.0

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
        """Bytes in use."""
        return sum(g.held_bytes + g.histograms.nbytes for g in (self.now, self.before))
