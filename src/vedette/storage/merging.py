"""Several blocks as the source of one: their series as one table, their samples merged, what was deleted left out.

In memory at a time: the labels of all series, some pages of each block, one page of the result. Not here: which blocks
(`levels.py`), writing (`block_writer.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import block as kernel
from vedette.storage.block import Block
from vedette.storage.block_writer import Snapshot
from vedette.storage.histogram_columns import Found
from vedette.storage.page_cache import PageCache
from vedette.storage.series import SeriesTable
from vedette.storage.tombstones import Gone

_I64 = np.int64
_EVER = (-(1 << 63), (1 << 63) - 1)
_ROWS_AT_ONCE = 1 << 16
_PAGES = 64 << 20
"""Bytes of decoded pages: neighbouring pages of the result share pages of the blocks."""


class Merged:
    """A `block_writer.Source` of blocks in order of storing: of two samples at one time the earlier block's counts.

    `gone` says what is left out of each block. Raises `Corrupt` from any method that meets damage.
    """

    def __init__(self, blocks: Sequence[Block], gone: Sequence[Gone | None]) -> None:
        table = SeriesTable()
        found = [_registered(table, block) for block in blocks]
        self.ids = np.arange(len(table), dtype=_I64)
        self.snapshot = Snapshot.of(table)
        self._parts = [(block, _inverse(ids, len(table)), erased) for block, ids, erased in zip(blocks, found, gone, strict=True)]
        self._cache = PageCache(_PAGES)

    def counts(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Source`: before anything is left out or merged."""
        total = np.zeros(len(ids), dtype=_I64)
        for block, row_of, _ in self._parts:
            rows = row_of[ids]
            there = rows >= 0
            total[there] += block.counts(rows[there].astype(np.uint32))
        return total

    def read(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """See `Source`."""
        targets, counts, times, bits = [], [], [], []
        for block, row_of, gone in self._parts:
            at = np.flatnonzero(row_of[ids] >= 0)
            rows = row_of[ids][at].astype(np.uint32)
            if len(rows) == 0:
                continue
            assert np.all(rows[1:] > rows[:-1]), "all blocks sort their series alike"
            columns = block.read(rows, *_EVER, cache=self._cache)
            if gone is not None:
                columns = gone.erase(rows, columns)
            targets.append(at)
            counts.append(np.diff(columns[0]))
            times.append(columns[1])
            bits.append(columns[2])
        offsets = np.concatenate([np.zeros(1, dtype=_I64), np.cumsum(np.concatenate(counts))])
        all_times, all_bits = np.concatenate(times), np.concatenate(bits)
        out_offsets, out_times, out_bits = np.empty(len(ids) + 1, _I64), np.empty_like(all_times), np.empty_like(all_bits)
        kernel.merge(np.concatenate(targets), offsets, all_times, all_bits, out_offsets, out_times, out_bits)
        return out_offsets, out_times[: out_offsets[-1]], out_bits[: out_offsets[-1]]

    def histograms(self, ids: NDArray[np.int64]) -> Sequence[Found]:
        """See `Source`."""
        parts = []
        for block, row_of, _ in self._parts:
            at = np.flatnonzero(row_of[ids] >= 0)
            found = block.histograms(row_of[ids][at].astype(np.uint32), *_EVER, cache=self._cache)
            if found is not None:
                parts.append(found.of_rows(at))
        return parts


def _registered(table: SeriesTable, block: Block) -> NDArray[np.int64]:
    """The id in `table` of each row of a block."""
    found = np.empty(block.meta.series, dtype=_I64)
    for tenant in block.meta.tenants:
        view = block.index(tenant)
        assert view is not None
        for lo in range(0, len(view.all_ids), _ROWS_AT_ONCE):
            rows = view.all_ids[lo : lo + _ROWS_AT_ONCE]
            found[rows], _ = table.register(tenant, *block.canonical(rows))
    return found


def _inverse(ids: NDArray[np.int64], count: int) -> NDArray[np.int32]:
    """The row of each of `count` ids, -1 where it has none."""
    rows = np.full(count, -1, dtype=np.int32)
    rows[ids] = np.arange(len(ids), dtype=np.int32)
    return rows
