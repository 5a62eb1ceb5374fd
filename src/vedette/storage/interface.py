"""What a storage backend offers: eight methods, one contract suite for all backends.

The tenant is a required argument of every read: a select without one cannot be written. Times are int64
Unix milliseconds, ranges inclusive at both ends. Reads are synchronous and thread-safe (they run on the query
threads, beside one another and beside appends); `append` is a coroutine that returns once the batch is durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.matchers import Matcher
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vedette.storage.replay import ReplayProgress
    from vedette.storage.statistics import BlockFigures, GrowthFigures, IndexFigures

Matchers = Sequence[Matcher]


@dataclass(frozen=True, slots=True)
class StorageStats:
    """Figures of the whole engine (not of one tenant); sizes in bytes, times in ms, 0 where there is nothing."""

    series: int = 0
    chunks: int = 0
    label_pairs: int = 0
    min_time: int = 0
    max_time: int = 0
    samples_appended: int = 0
    wal_bytes: int = 0
    block_bytes: int = 0
    blocks: int = 0
    replayed: bool = True
    series_by_metric: Sequence[tuple[str, int]] = field(default_factory=tuple)
    values_by_label: Sequence[tuple[str, int]] = field(default_factory=tuple)
    memory_by_label: Sequence[tuple[str, int]] = field(default_factory=tuple)
    series_by_pair: Sequence[tuple[str, int]] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Estimate:
    """About how many series and samples a select would answer."""

    series: int
    samples: int


@runtime_checkable
class Estimating(Protocol):
    """What a backend may offer besides: the size of an answer before it is read, so that a query may be refused in time."""

    def estimate(self, tenant: str, matchers: Matchers | None, start: int, end: int, coarse: Coarse | None = None) -> Estimate:
        """About what `select` would answer, by the index alone; with None the most that any select could.

        With `coarse`, about what `coarse_select` would.
        """
        ...


@runtime_checkable
class Locking(Protocol):
    """What a backend may offer besides: whether whoever reads now waits for another who reads or writes."""

    def busy(self) -> bool:
        """Whether what readers take turns at is taken at this moment."""
        ...


@runtime_checkable
class AtHand(Protocol):
    """What a backend may offer besides: reads that are over at once, for whoever must not wait."""

    def at_hand(self, tenant: str, matchers: tuple[Matcher, ...], start: int, end: int, most: int) -> SeriesSet | None:
        """What `select` gives, where that is in memory, known to be of few series and of `most` samples at the most, and nobody waits.

        None otherwise: then `select` tells.
        """
        ...

    def look(self, tenant: str, matchers: tuple[Matcher, ...], *, few: int | None = None) -> bool:
        """Find out which series in memory pass the matchers, so that `at_hand` knows them; may wait.

        False where it did not: there are none at all, or more than `few` would have to be looked at one by one.
        """
        ...


@runtime_checkable
class Tabling(Protocol):
    """What a backend may offer besides: the label sets of `Storage.series` as columns, so that many are no objects."""

    def series_table(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> LabelTable:
        """As `Storage.series`, all of them, in no order."""
        ...


@dataclass(frozen=True, slots=True)
class Coarse:
    """A select whose answer goes by stretches of `width` ms, which all its windows begin and end with.

    `column` is what is made of them: `count`, `sum`, `min`, `max`, `last` or `counter` (`rollup.COLUMNS`). Where that is not `exact`
    to the bit, it may only stand in for samples that are not kept any more. `weighted` asks for how many samples each one stands.
    """

    width: int
    column: str
    exact: bool
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class Stretches:
    """What a coarse select answers; `weights` float64 (where it was asked for): for how many samples each of `series` stands."""

    series: SeriesSet
    weights: NDArray[np.float64] | None = None


@runtime_checkable
class Tiered(Protocol):
    """A storage that keeps rollups."""

    def rolled_up(self, start: int, end: int) -> bool:
        """Whether there are any of [start, end] (ms)."""
        ...

    def coarse_select(self, tenant: str, matchers: Matchers, start: int, end: int, coarse: Coarse) -> Stretches | None:
        """What the function needs of [start, end], from rollups where they serve; None where they do not, or hold no more than samples."""
        ...


@runtime_checkable
class Starting(Protocol):
    """A storage that may keep start timestamps."""

    def with_starts(self, tenant: str, matchers: Matchers, start: int, end: int, found: SeriesSet) -> SeriesSet:
        """What a `select` of these arguments has `found`, with the start timestamps that are kept of it."""
        ...


class Steps(NamedTuple):
    """Windows `(t - range, t]` that end at t = first + k * step for k < n, of which alone a read wants samples; all in ms."""

    first: int
    step: int
    n: int
    range: int

    @property
    def last(self) -> int:
        """Where the last window ends."""
        return self.first + (self.n - 1) * self.step

    def part(self, lo: int, hi: int) -> Steps:
        """The windows [lo, hi) of them."""
        return self._replace(first=self.first + lo * self.step, n=hi - lo)


class Chains(NamedTuple):
    """Where samples of some rows lie in memory, as `kernels.head.survey` found them; not to be changed."""

    tails: NDArray[np.int64]
    held: NDArray[np.int64]
    newest: NDArray[np.int64]
    old_tails: NDArray[np.int64]
    upto: NDArray[np.int64]
    """int64[rows + 1]: how many samples the rows before each have at most."""
    arena: NDArray[np.int64]
    old_arena: NDArray[np.int64]

    def part(self, lo: int, hi: int) -> Chains:
        """The rows [lo, hi) of them."""
        rows = self.tails[lo:hi], self.held[lo:hi], self.newest[lo:hi], self.old_tails[lo:hi]
        return Chains(*rows, self.upto[lo : hi + 1], self.arena, self.old_arena)


class PieceRows(Protocol):
    """Rows of `Pieces`, to be read once, or from the last windows to the first."""

    @property
    def doubtful(self) -> bool:
        """Whether there may be stale markers in what was read last."""
        ...

    def read(
        self, steps: Steps, times: NDArray[np.int64], bits: NDArray[np.int64], *, resume: int | None = None
    ) -> NDArray[np.int64] | None:
        """Samples of the rows that `steps` want (and maybe more) as the last of `times` and `bits` (of the values), both int64.

        Answers their offsets, int64[rows + 1], or None where there is not room enough: then it may be asked for again. There always is for
        as many as `Pieces.upto` says. With `resume`, the next read wants nothing later than that (ms); without, there is no next.
        """
        ...


class Pieces(Protocol):
    """The answer to a select, of which samples are read when they are wanted. Thread-safe; as of one moment, however late it is read."""

    @property
    def labels(self) -> LabelTable:
        """The series that have samples; and maybe some that have them before and after the range, and none in it."""
        ...

    @property
    def begins(self) -> NDArray[np.int64] | None:
        """Where rows begin that are best read together, since they are stored so: int64, from 0 to n. None where each row stands alone."""
        ...

    @property
    def upto(self) -> NDArray[np.int64]:
        """int64[n + 1]: how many samples the rows before each have at most."""
        ...

    @property
    def share(self) -> float:
        """About which part of these lies in the range that was asked for."""
        ...

    @property
    def sample_count(self) -> int:
        """How many samples have been read so far, those of a row that was begun again once."""
        ...

    def rows(self, lo: int, hi: int) -> PieceRows:
        """The rows [lo, hi), for one thread."""
        ...

    def chains(self, lo: int, hi: int) -> tuple[Chains, NDArray[np.int64]] | None:
        """Where all samples of the rows [lo, hi) are, and where to write how many of each were read; None where not all are in memory."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A storage whose answers may be read in pieces."""

    def in_pieces(self, tenant: str, matchers: Matchers, start: int, end: int) -> Pieces | None:
        """What `select` would answer; None where that is too small to be worth it, too large, or not to be had this way."""
        ...


@runtime_checkable
class RowNumbered(Protocol):
    """A storage whose samples have numbers of their own."""

    def row_ids(self, tenant: str, labels: LabelTable, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number (below 2^53) of each series' sample at its place in `times` (int64[n], ms): int64[n], 0 where there is none."""
        ...


@runtime_checkable
class Ranked(Protocol):
    """A storage that can say more of what makes its index large and what makes it grow than `stats` has."""

    def figures(self, top: int) -> IndexFigures:
        """What makes the index large, `top` of each ranking."""
        ...

    def growth(self, top: int) -> GrowthFigures:
        """What the series of the last hour brought, `top` of each ranking."""
        ...


@runtime_checkable
class InBlocks(Protocol):
    """A storage that keeps what is older in blocks."""

    def block_figures(self) -> Sequence[BlockFigures]:
        """What each block holds, in the order in which their samples were stored."""
        ...


@runtime_checkable
class Replaying(Protocol):
    """A storage that reads a log at its start."""

    @property
    def replay_progress(self) -> ReplayProgress:
        """How far the reading has come."""
        ...


class Storage(Protocol):
    """A store of samples, metadata and the label index over them."""

    async def append(self, batch: SampleBatch) -> Appended:
        """Store a batch; durable when it returns.

        Raises `BadInput` where a new key names no valid series (nothing of the batch is stored), `LimitExceeded`
        where the engine cannot take it now (full disk, closing).
        """
        ...

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        """All samples in [start, end] of the series that pass all matchers.

        Raises `LimitExceeded` where the result would exceed the engine's select budget.
        """
        ...

    def series(self, tenant: str, sets: Sequence[Matchers], start: int, end: int, limit: int = 0) -> list[Labels]:
        """The label sets that pass any of `sets` and have samples in [start, end], sorted; `limit` 0 is none."""
        ...

    def label_names(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """The label names of those series (of all, where `sets` is empty), sorted."""
        ...

    def label_values(self, tenant: str, name: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """The values of label `name` among those series, sorted."""
        ...

    def metadata(self, tenant: str, metric: str | None = None) -> list[MetricMetadata]:
        """What is known of one metric or of all, in order of the name."""
        ...

    def stats(self) -> StorageStats:
        """Figures for `/api/v1/status/tsdb` and the engine's own metrics; cheap enough for every scrape."""
        ...

    async def close(self) -> None:
        """Finish what is in flight, flush, release the directory. Appends after it raise `LimitExceeded`."""
        ...
