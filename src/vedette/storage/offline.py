"""A data directory looked at without an engine: is all of it whole, what is in it, what makes its index large.

Nothing is changed. Not here: printing (`cli/storage.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vedette.errors import Corrupt
from vedette.storage import queue, rollup, tombstones, wal
from vedette.storage.block import Block
from vedette.storage.block_meta import Meta, read_meta
from vedette.storage.block_writer import TEMPORARY
from vedette.storage.flush import read_metadata
from vedette.storage.memory import Memory
from vedette.storage.page_cache import PageCache
from vedette.storage.replay import Replay, problem_of
from vedette.storage.starts import shown_tenant
from vedette.storage.statistics import Growth, GrowthFigures, IndexFigures, growth_figures, index_figures

_ROWS_AT_ONCE = 1 << 16


def block_paths(data: Path, part: str = "blocks") -> list[Path]:
    """The directories of blocks (or of `rollups`), in order of their numbers."""
    directory = data / part
    return sorted(p for p in directory.iterdir() if p.is_dir() and not p.name.startswith(TEMPORARY)) if directory.is_dir() else []


def metas(data: Path) -> Iterator[tuple[Path, Meta | Corrupt, int]]:
    """(directory, what `meta.json` says or what is wrong with it, bytes) of each block."""
    for path in block_paths(data):
        try:
            meta: Meta | Corrupt = read_meta(path)
        except Corrupt as damage:
            meta = damage
        yield path, meta, sum(f.stat().st_size for f in path.iterdir())


def verify(data: Path) -> Iterator[tuple[Path, int, list[Corrupt]]]:
    """Read everything: (a block, a segment of the log or a file, its bytes, its damage), one after another.

    A cut-off record at the end of a segment is no damage: a crash leaves it, and nobody was told that it was stored.
    """
    for path in (*block_paths(data), *block_paths(data, "rollups")):
        yield path, sum(f.stat().st_size for f in path.iterdir()), _block(path)
    for segment in wal.segments(data / "wal"):
        yield segment.path, segment.size, _segment(segment)
    for directory in (data / "exemplars", data / "remote" / "queue", *sorted((data / "forward").glob("*/queue"))):
        yield from verify_records(directory, _item_problem)
    for name, read in (
        ("tombstones", tombstones.read),
        ("metadata.json", read_metadata),
        ("rollups/tombstones", tombstones.read),
        ("rollups/index.json", _rollup_index),
    ):
        path = data / name
        if path.exists():
            try:
                read(path)
                found: list[Corrupt] = []
            except Corrupt as damage:
                found = [damage]
            yield path, path.stat().st_size, found


def _block(path: Path) -> list[Corrupt]:
    try:
        return list(Block(path, PageCache(0)).damage())
    except Corrupt as damage:
        return [damage]


def _segment(segment: wal.Segment) -> list[Corrupt]:
    try:
        _, records = wal.read_segment(segment)
    except Corrupt as damage:
        return [damage] if segment.size >= wal.SEGMENT_HEADER.size else []
    found = []
    for item in records:
        problem = item if isinstance(item, Corrupt) else problem_of(segment, item)
        if problem is not None and "ends inside" not in str(problem):
            found.append(problem)
    return found


def verify_records(directory: Path, problem: Callable[[int, memoryview], str]) -> Iterator[tuple[Path, int, list[Corrupt]]]:
    """As `verify`, of a directory of records (a log, a queue); `problem` says what is wrong with (kind, payload), empty for nothing."""
    for segment in wal.segments(directory) if directory.is_dir() else ():
        found: list[Corrupt] = []
        try:
            for item in wal.read_segment(segment)[1]:
                text = str(item) if isinstance(item, Corrupt) else problem(item.kind, item.payload)
                if text and "ends inside" not in text:
                    found.append(item if isinstance(item, Corrupt) else Corrupt(text, path=segment.path, offset=item.offset))
        except Corrupt as damage:
            # One without a whole head is what a crash leaves.
            found += [damage] if segment.size >= wal.SEGMENT_HEADER.size else []
        yield segment.path, segment.size, found


def _item_problem(kind: int, payload: memoryview) -> str:
    if kind != queue.ITEM:
        return f"a record of unknown kind {kind}"
    try:
        queue.Item.read(payload)
    except (struct.error, ValueError) as error:
        return str(error)
    return ""


def _rollup_index(path: Path) -> None:
    for _ in rollup.read_index(path.parent, lambda _: None):
        pass


def figures(data: Path, *, since: int, top: int) -> tuple[int, IndexFigures, GrowthFigures]:
    """(how many series, what makes their index large, what the last hour brought) of the log and of blocks that end at `since` (ms).

    The hour before the newest sample, that is. Each ranking has `top` entries. Raises `Corrupt`, `OSError`.
    """
    log = Memory()
    Replay(log).run(data / "wal", between_scopes=lambda _: None)
    blocks = [Block(path, PageCache(0)) for path in block_paths(data)]
    newest = max([log.head.max_time, *(block.meta.max_time for block in blocks)])
    hour = newest - int(Growth.HOUR * 1000)
    memory = Memory()
    blocks = [block for block in blocks if block.meta.max_time >= since]
    # First what was there before the hour: whatever is registered after it is new.
    _register(memory, log, blocks, before=hour)
    first = memory.series.handed_out
    _register(memory, log, blocks, before=newest + 1)
    return len(memory.series), index_figures(memory, top=top), growth_figures(memory, first=first, since=Growth.HOUR, top=top)


def _register(memory: Memory, log: Memory, blocks: Sequence[Block], *, before: int) -> None:
    """Have `memory` know the series of the log and of blocks that have a sample before a time (ms)."""
    known = log.head.present(np.arange(len(log.series), dtype=np.int64), -(1 << 62), before - 1)
    for number, tenant in enumerate(log.series.tenants):
        if shown_tenant(tenant) != tenant:
            continue  # start timestamps are nobody's series
        ids = log.series.ids_of[number].view().astype(np.int64)
        ids = ids[known[ids]]
        for lo in range(0, len(ids), _ROWS_AT_ONCE):
            memory.series.register(tenant, *log.series.canonical_of(ids[lo : lo + _ROWS_AT_ONCE]))
    for block in blocks:
        for tenant in filter(lambda tenant: shown_tenant(tenant) == tenant, block.meta.tenants):
            view = block.index(tenant)
            assert view is not None
            rows = view.all_ids[block.ranges(view.all_ids)[0] < before]
            for lo in range(0, len(rows), _ROWS_AT_ONCE):
                memory.series.register(tenant, *block.canonical(rows[lo : lo + _ROWS_AT_ONCE]))
