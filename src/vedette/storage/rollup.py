"""Rollup tiers: what a day of samples comes to in stretches of 5 minutes and of an hour, kept longer than the samples.

A tier's day is a block of its own under `rollups/`, in which each series stands once for each column (`COLUMNS`), told apart by the
tenant's name. It is made in the background once the day is over, from all blocks that have samples of it, whose numbers it remembers:
where other samples of the day came later, or some were deleted, it is no longer read and made anew. Days begin a millisecond after
midnight, UTC, as stretches do. Not here: which queries may be answered from it (`promql/coarse.py`), files of blocks (`block.py`).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from vedette.errors import BadInput, Corrupt
from vedette.kernels import rollup as kernel
from vedette.model.matchers import Matcher
from vedette.storage import sealed
from vedette.storage.block import Block
from vedette.storage.block_writer import TEMPORARY, Origin, Snapshot, write_block
from vedette.storage.disk import Disk
from vedette.storage.histogram_columns import Found
from vedette.storage.merging import Merged
from vedette.storage.page_cache import PageCache
from vedette.storage.starts import shown_tenant
from vedette.storage.tombstones import Gone, Tombstones

log = structlog.get_logger(__name__)

DAY = 86_400_000
TIERS: Mapping[str, int] = {"5m": 300_000, "1h": 3_600_000}
"""How wide their stretches are, ms."""

COLUMNS: Mapping[str, int] = {
    "count": kernel.COUNT, "sum": kernel.SUM, "min": kernel.MIN, "max": kernel.MAX, "last": kernel.LAST, "counter": kernel.COUNTER,
}  # fmt: skip
"""What is kept of a stretch: figures at its end, its last sample, and the samples that make up a counter's increase."""

_SETTLE = 3_600_000
"""So long after its end a day is rolled up: late samples would have it done again."""

_I64 = np.int64


def hidden_tenant(tenant: str, column: str) -> str:
    """As what tenant a tier's block knows one column of a tenant's series."""
    return f"{tenant}\x00{column}"


class RolledUp:
    """A `block_writer.Source`: one day of `raw` (a merge of all blocks that have samples of it) in stretches of `width` ms."""

    def __init__(self, raw: Merged, width: int, day: int) -> None:
        self._raw, self._width, self._day = raw, width, day
        labels = raw.snapshot
        # Start timestamps (`starts.py`) are no figures: nothing of them is made.
        figures = np.array([shown_tenant(tenant) == tenant for tenant in labels.tenants], dtype=np.bool_)
        self._rows = np.flatnonzero(figures[labels.tenant_of[: len(raw.ids)]])
        self._count = len(self._rows)
        times = len(COLUMNS)
        all_pairs = np.diff(labels.label_offsets[: len(raw.ids) + 1])
        pairs = all_pairs[self._rows]
        held = np.repeat(np.isin(np.arange(len(raw.ids)), self._rows), all_pairs)
        values = labels.label_values[: len(held)][held]
        self.snapshot: Snapshot = replace(
            labels,
            label_offsets=np.concatenate([np.zeros(1, dtype=_I64), np.cumsum(np.tile(pairs, times))]),
            label_at=np.tile(labels.label_at[self._rows], times),
            label_values=np.tile(values, times),
            tenant_of=np.concatenate([labels.tenant_of[self._rows] * times + column for column in range(times)]).astype(np.int32),
            tenants=tuple(hidden_tenant(tenant, column) for tenant in labels.tenants for column in COLUMNS),
        )
        # Start timestamps are no values: their minimum means nothing, and queries that heed them read samples.
        shown = np.array([shown_tenant(tenant) == tenant for tenant in labels.tenants], dtype=np.bool_)
        self.ids = np.flatnonzero(np.tile(shown[labels.tenant_of[: self._count]], times))

    def counts(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Source`; of counters that are reset often there may be more."""
        found: NDArray[np.int64] = np.minimum(self._raw.counts(self._rows[ids % self._count]), 2 * DAY // self._width)
        return found

    def read(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """See `Source`."""
        column = ids // self._count
        cuts = [0, *(np.flatnonzero(np.diff(column)) + 1).tolist(), len(ids)]
        lengths, all_times, all_values = [np.zeros(1, dtype=_I64)], [], []
        for lo, hi in itertools.pairwise(cuts):
            offsets, times, bits = self._raw.read(self._rows[ids[lo:hi] % self._count])
            out_offsets, out_times, out_values = np.empty_like(offsets), np.empty_like(times), np.empty(len(times))
            values = np.ascontiguousarray(bits).view(np.float64)
            which = int(column[lo])
            size = kernel.roll(offsets, times, values, self._day, self._day + DAY, self._width, which, out_offsets, out_times, out_values)
            lengths.append(np.diff(out_offsets))
            all_times.append(out_times[:size])
            all_values.append(out_values[:size])
        return np.cumsum(np.concatenate(lengths)), np.concatenate(all_times), np.concatenate(all_values).view(_I64)

    def histograms(self, ids: NDArray[np.int64]) -> Sequence[Found]:
        """See `Source`: native histograms are not rolled up."""
        return ()


@dataclass(frozen=True, slots=True)
class Day:
    """One day of one tier: its block (None where the day came to nothing), made of the blocks `sources`.

    `whole` says that nothing was left out, as native histograms are.
    """

    tier: str
    day: int
    block: Block | None
    sources: frozenset[int]
    whole: bool


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a query's time, both ends inclusive: to be read from a tier's day, or (None) from the samples themselves.

    `both` says that the samples would serve as well.
    """

    start: int
    end: int
    day: Day | None
    both: bool = False


@dataclass(frozen=True, slots=True)
class Present:
    """What there is besides: all blocks, the oldest sample that is in no block (ms), and since when all samples are kept."""

    blocks: Sequence[Block]
    unflushed: int
    kept_since: int


class Rollups:
    """The tiers of one data directory. `keep` is for how long each is kept, ms, 0 for ever; one that is not named is not made.

    `lock` is held while days change, and by whoever needs their files to stay.
    """

    def __init__(self, directory: Path, disk: Disk, *, keep: Mapping[str, int], page_cache: int) -> None:
        unknown = sorted(set(keep) - set(TIERS))
        if unknown:
            raise BadInput(f"there is no rollup tier {unknown[0]!r}", where="storage.rollups", hint="expected " + " or ".join(TIERS))
        self.directory = directory
        self.lock = threading.RLock()
        self.tombstones = Tombstones(directory / "tombstones", disk)
        self.made = 0
        self.damaged = 0
        self._disk = disk
        self._keep = keep
        self._cache = PageCache(page_cache)
        self._days: dict[tuple[str, int], Day] = {}
        self._unreadable: set[Path] = set()
        self._given_up: dict[str, int] = {}
        self._last = 0

    @property
    def days(self) -> Sequence[Day]:
        """All there are."""
        return list(self._days.values())

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(d.block.nbytes for d in self.days if d.block is not None)

    def load(self, blocks: Sequence[Block]) -> None:
        """At start: read which days there are, and delete what a crash left. Damage is reported and left out. Raises `OSError`."""
        if not self.directory.is_dir():
            return
        try:
            self.tombstones.load()
        except Corrupt as damage:
            self._report(damage)
        try:
            self._days = {(d.tier, d.day): d for d, name in read_index(self.directory, self._open) if not name or d.block is not None}
        except Corrupt as damage:
            self._report(damage)
            self._days = {(d.tier, d.day): d for d in self._found()}
        known = {d.block.path.name: d for d in self._days.values() if d.block is not None}
        for path in sorted(self.directory.iterdir()):
            if path.is_dir() and path.name not in known:
                self._disk.remove_tree(path)
        self._last = max((d.block.meta.sequence for d in self._days.values() if d.block is not None), default=0)
        for block in blocks:
            # A merge of which a crash kept the index from knowing.
            self._merged(block.meta.replaces, block.meta.sequence)

    def _found(self) -> Iterator[Day]:
        """The days as the blocks themselves tell of them, where the index cannot be read: of what they were made is not known."""
        for path in sorted(self.directory.iterdir()):
            if path.is_dir() and not path.name.startswith(TEMPORARY) and (block := self._open(path)) is not None:
                day = (block.meta.max_time - 1) // DAY * DAY
                yield Day(list(TIERS)[block.meta.level - 1], day, block, frozenset(), False)

    def _open(self, path: Path) -> Block | None:
        try:
            return Block(path, self._cache)
        except Corrupt as damage:
            self._report(damage)
            return None

    def _report(self, damage: Corrupt) -> None:
        self.damaged += 1
        log.error("a damaged rollup is left out", path=str(damage.path), offset=damage.offset, problem=str(damage))

    def set_aside(self, day: Day, damage: Corrupt) -> None:
        """A day that cannot be read whole is read no more, and made anew where its samples are still there."""
        assert day.block is not None, "what is not there is not damaged"
        self._unreadable.add(day.block.path)
        self._report(damage)

    def _is_unreadable(self, day: Day) -> bool:
        return day.block is not None and day.block.path in self._unreadable

    def merged(self, run: Sequence[Block], by: Block | None) -> None:
        """The blocks `run` were written again as `by`: the same samples. Raises `OSError`."""
        if by is not None and self._merged([b.meta.sequence for b in run], by.meta.sequence, *run):
            self._save()

    def _merged(self, gone: Sequence[int], by: int, *blocks: Block) -> bool:
        changed = False
        for key, day in list(self._days.items()):
            # At a start nothing is known of the blocks that are gone: all must be among those that the day was made of.
            concerned = {b.meta.sequence for b in blocks if _overlaps(b, day.day)} if blocks else set(gone)
            if concerned and concerned <= day.sources and by not in day.sources:
                self._days[key] = replace(day, sources=day.sources - set(gone) | {by})
                changed = True
        return changed

    def work(
        self,
        present: Present,
        now: int,
        *,
        skip: Set[int],
        gone_of: Callable[[Block], Gone | None],
        stopped: Callable[[], bool],
    ) -> None:
        """Delete what is too old, and roll up the days that are due, but for those of which the blocks `skip` have samples.

        Raises `Corrupt`, `OSError`, `Abandoned`.
        """
        self._expire(now)
        for tier in self._keep:
            for day in self._due(tier, present, now):
                blocks = [b for b in present.blocks if _overlaps(b, day)]
                if any(b.meta.sequence in skip for b in blocks):
                    continue
                self._make(tier, day, blocks, [gone_of(b) for b in blocks], stopped)
        with self.lock:
            self.tombstones.forget(lambda: [d.block for d in self.days if d.block is not None])

    def _due(self, tier: str, present: Present, now: int) -> Iterator[int]:
        ever = -(1 << 62)
        oldest = max(present.kept_since, now - self._keep[tier] if self._keep[tier] else ever, self._given_up.get(tier, ever) + 1)
        days = {
            day
            for b in present.blocks
            for day in range((b.meta.min_time - 1) // DAY * DAY, b.meta.max_time, DAY)
            if day >= oldest and day + DAY + _SETTLE <= now and present.unflushed > day + DAY
        }
        for day in sorted(days):
            known = self._days.get((tier, day))
            # Where some of what a day was made of is gone, there is nothing better to make of the rest.
            stale = known is not None and (self._is_unreadable(known) or not _covers(known, present.blocks))
            if known is None or (stale and _all_there(known, present.blocks)):
                yield day

    def _make(self, tier: str, day: int, blocks: Sequence[Block], gone: Sequence[Gone | None], stopped: Callable[[], bool]) -> None:
        if not self.directory.is_dir():
            self._disk.mkdir(self.directory)
            self._disk.sync_directory(self.directory.parent)
        with self.lock:
            self._last += 1
            sequence = self._last
        source = RolledUp(Merged(blocks, gone), TIERS[tier], day)
        origin = Origin(sequence, level=list(TIERS).index(tier) + 1)
        path = write_block(self.directory, source, origin, disk=self._disk, stopped=stopped, discard=self._discard)
        made = Block(path, self._cache) if path is not None else None
        sources = frozenset(b.meta.sequence for b in blocks)
        whole = not any(b.meta.histograms for b in blocks)
        with self.lock:
            old = self._days.get((tier, day))
            self._days[tier, day] = Day(tier, day, made, sources, whole)
            self._save()
            self._delete([old] if old is not None else [])
        self.made += 1
        log.debug("a day was rolled up", tier=tier, day=day, blocks=len(blocks), path=str(path))

    def _discard(self, path: Path) -> None:
        # No index names it, so a start deletes it.
        log.warning("a rollup that may not be durable is left out", path=str(path))

    def _expire(self, now: int) -> None:
        with self.lock:
            old = [d for d in self._days.values() if self._keep.get(d.tier, 1) and d.day + DAY <= now - self._keep.get(d.tier, 1)]
            if old:
                for day in old:
                    del self._days[day.tier, day.day]
                self._save()
                self._delete(old)

    def shrink(self, by: int) -> int:
        """Delete the oldest days until that frees `by` bytes or none is left; answers how many it freed. Raises `OSError`."""
        freed, old = 0, []
        with self.lock:
            for day in sorted(self._days.values(), key=lambda d: (d.day, TIERS[d.tier])):
                if freed >= by:
                    break
                if day.block is not None:
                    old.append(day)
                    freed += day.block.nbytes
            for day in old:
                del self._days[day.tier, day.day]
                # Made anew, it would be too much again.
                self._given_up[day.tier] = max(day.day, self._given_up.get(day.tier, day.day))
            if old:
                self._save()
                self._delete(old)
                log.info("days of rollups beyond the size of the retention were deleted", days=len(old))
        return freed

    def _delete(self, days: Sequence[Day]) -> None:
        for day in days:
            if day.block is not None and day.block.path.exists():
                day.block.doom()
                doomed = day.block.path.with_name(TEMPORARY + day.block.path.name)
                self._disk.rename(day.block.path, doomed)
                self._disk.remove_tree(doomed)

    def _save(self) -> None:
        self._disk.replace_file(self.directory / "index.json", render_index(self._days.values()))

    def delete(self, tenant: str, sets: Sequence[Sequence[Matcher]], start: int, end: int) -> None:
        """A tenant's samples in [start, end] are about to be deleted: whole stretches are, and days are made anew. Raises `OSError`."""
        with self.lock:
            concerned = {key: d for key, d in self._days.items() if d.day < end and start <= d.day + DAY}
            if not concerned:
                return
            for column in COLUMNS:
                # A stretch has its end for a time: one that begins within the range goes, too.
                upto = end if column in ("last", "counter") else min(end, 1 << 61) + max(TIERS.values()) - 1
                self.tombstones.add(hidden_tenant(tenant, column), sets, start, upto, upto=lambda: self._last)
            for key, day in concerned.items():
                self._days[key] = replace(day, sources=frozenset())
            self._save()

    def any_of(self, start: int, end: int) -> bool:
        """Whether any day of [start, end] is rolled up."""
        return any(day < end and day + DAY >= start for _, day in list(self._days))

    def plan(self, width: int, start: int, end: int, *, exact: bool, present: Present) -> list[Stretch]:
        """What of [start, end] to read from which tier, in order of time; all of it from the samples where nothing is better.

        `width` is a stretch that the query's steps and ranges are multiples of. Unless `exact`, a tier serves only where not all
        samples are kept any more.
        """
        found: list[Stretch] = []
        at = start
        for day in sorted({d.day for d in self.days if d.day < end and d.day + DAY >= start}):
            usable = self._usable(width, day, exact, present)
            if usable is None:
                continue
            lo, hi = max(at, day + 1), min(end, day + DAY)
            if lo > at:
                found.append(Stretch(at, lo - 1, None))
            found.append(Stretch(lo, hi, *usable))
            at = hi + 1
        return [*found, Stretch(at, end, None)] if found and at <= end else found or [Stretch(start, end, None)]

    def _usable(self, width: int, day: int, exact: bool, present: Present) -> tuple[Day, bool] | None:
        """The day of a tier that serves, and whether its samples would, too."""
        for tier in sorted(TIERS, key=lambda name: -TIERS[name]):
            known = self._days.get((tier, day))
            if known is None or width % TIERS[tier] or self._is_unreadable(known):
                continue
            flushed = present.unflushed > day + DAY
            nothing_left = flushed and not any(_overlaps(b, day) for b in present.blocks)
            if day < present.kept_since or nothing_left or not _all_there(known, present.blocks):
                return known, False
            if exact and known.whole and flushed and _covers(known, present.blocks):
                return known, True
        return None


def _overlaps(block: Block, day: int) -> bool:
    return block.meta.min_time <= day + DAY and block.meta.max_time > day


def _all_there(day: Day, blocks: Sequence[Block]) -> bool:
    """Whether what the day was made of is still there."""
    return day.sources <= {b.meta.sequence for b in blocks}


def _covers(day: Day, blocks: Sequence[Block]) -> bool:
    """Whether the day was made of all samples of it that these have."""
    return all(b.meta.sequence in day.sources for b in blocks if _overlaps(b, day.day)) and bool(day.sources)


def render_index(days: Iterable[Day]) -> bytes:
    """`index.json`: a line with the CRC-32 of what follows it, then (tier, day, block's name, sources, whole) of each day."""
    rows = [[d.tier, d.day, d.block.path.name if d.block is not None else "", sorted(d.sources), d.whole] for d in days]
    return sealed.render(rows)


def read_index(directory: Path, open_: Callable[[Path], Block | None]) -> Iterator[tuple[Day, str]]:
    """(day, its block's name) for each line of a directory's index, if there is one. Raises `Corrupt`, `OSError`."""
    path = directory / "index.json"
    if not path.exists():
        return
    found = sealed.read(path, "the index of rollups")
    try:
        rows = [(str(t), int(day), str(name), frozenset(map(int, sources)), bool(whole)) for t, day, name, sources, whole in found]
    except (ValueError, TypeError) as error:
        raise Corrupt(f"the index of rollups cannot be read: {error}", path=path, offset=9) from error
    for tier, day, name, sources, whole in rows:
        yield Day(tier, day, open_(directory / name) if name else None, sources, whole), name
