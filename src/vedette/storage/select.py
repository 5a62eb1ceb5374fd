"""What several sources (the head, blocks) hold of the same series, as one `SeriesSet`.

Not here: which sources there are (`engine.py`), postings (`index.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import block as kernel
from vedette.kernels.hashing import hash_regions
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.series import SeriesSet
from vedette.storage.block import Block, Columns
from vedette.storage.histogram_columns import Found, attached
from vedette.storage.memory import Memory
from vedette.storage.series import KeyTable, SymbolTable

_I64 = np.int64


@dataclass(frozen=True, slots=True)
class Part:
    """Rows from one source: their labels in the engine's symbols and their samples, both CSR."""

    labels: LabelTable
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]
    bits: NDArray[np.int64]
    histograms: Sequence[Found] = ()

    @classmethod
    def of(cls, labels: LabelTable, columns: Columns, histograms: Sequence[Found] = ()) -> Part:
        """Without the rows that have no samples."""
        offsets, times, bits = columns
        filled = offsets[1:] > offsets[:-1]
        if np.count_nonzero(filled) == len(filled):
            return cls(labels, offsets, times, bits, histograms)
        numbers = np.where(filled, np.cumsum(filled) - 1, -1)
        some = np.concatenate([offsets[:1], offsets[1:][filled]])
        return cls(labels.take(np.flatnonzero(filled)), some, times, bits, [h.of_rows(numbers) for h in histograms])


def block_labels(
    memory: Memory, names: SymbolTable, block: Block, columns: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]
) -> LabelTable:
    """A block's label columns in the symbols of `names`, the engine's, which learn the texts they lack."""
    offsets, own_names, own_values = columns
    of, known = block.to_engine or (None, None)
    texts = block.symbols
    if of is not names or known is None:
        known = np.full(len(texts), -1, dtype=_I64)
    used = np.unique(np.concatenate([own_names, own_values]))
    missing = used[known[used] < 0]
    if len(missing):
        raw = [texts.raw(s) for s in missing.tolist()]
        with memory.lock:
            known[missing] = names.intern_texts(raw)
    block.to_engine = (names, known)
    return LabelTable(names.symbols, offsets, known[own_names].astype(np.int32), known[own_values].astype(np.int32))


def merge(parts: Sequence[Part], symbols: Symbols) -> SeriesSet:
    """One row a label set; where parts hold a sample at the same time, the earlier part's counts."""
    filled = [p for p in parts if len(p.labels)]
    if not filled:
        none = np.zeros(0, dtype=np.int32)
        return SeriesSet(LabelTable(symbols, np.zeros(1, _I64), none, none), np.zeros(1, _I64), np.zeros(0, _I64), np.zeros(0, np.float64))
    if len(filled) == 1:
        only = filled[0]
        native = attached(only.histograms, only.offsets, only.times, only.bits)
        return SeriesSet(only.labels, only.offsets, only.times, only.bits.view(np.float64), native[1] if native else None)
    labels, targets, first = unified([p.labels for p in filled], symbols)
    offsets = np.concatenate([filled[0].offsets[:1], np.cumsum(np.concatenate([np.diff(p.offsets) for p in filled]))])
    times, bits = np.concatenate([p.times for p in filled]), np.concatenate([p.bits for p in filled])
    out_offsets, out_times, out_bits = np.empty(len(first) + 1, _I64), np.empty_like(times), np.empty_like(bits)
    kernel.merge(targets, offsets, times, bits, out_offsets, out_times, out_bits)
    total = int(out_offsets[-1])
    out_times, out_bits = out_times[:total], out_bits[:total]
    rows = np.cumsum([0, *(len(p.labels) for p in filled)]).tolist()
    found = [h.of_rows(targets[row : row + len(p.labels)]) for p, row in zip(filled, rows, strict=False) for h in p.histograms]
    native = attached(found, out_offsets, out_times, out_bits)
    return SeriesSet(labels.take(first), out_offsets, out_times, out_bits.view(np.float64), native[1] if native else None)


def unified(tables: Sequence[LabelTable], symbols: Symbols) -> tuple[LabelTable, NDArray[np.int64], NDArray[np.int64]]:
    """The rows of all tables, end to end; a number from 0 up for each, equal for equal label sets; the first row of each number."""
    labels = stacked(tables, symbols)
    same, n = tables[0], len(tables[0])
    # Mostly each source has the same series in the same order.
    if all(table is same or _equal(table, same) for table in tables[1:]):
        return labels, np.tile(np.arange(n, dtype=_I64), len(tables)), np.arange(n, dtype=_I64)
    return labels, *identities(labels)


def _equal(a: LabelTable, b: LabelTable) -> bool:
    return np.array_equal(a.offsets, b.offsets) and np.array_equal(a.names, b.names) and np.array_equal(a.values, b.values)


def stacked(tables: Sequence[LabelTable], symbols: Symbols) -> LabelTable:
    """The rows of several tables of the same symbols, one after the other."""
    lengths = np.concatenate([np.diff(t.offsets) for t in tables])
    offsets = np.zeros(len(lengths) + 1, dtype=_I64)
    np.cumsum(lengths, out=offsets[1:])
    return LabelTable(symbols, offsets, np.concatenate([t.names for t in tables]), np.concatenate([t.values for t in tables]))


def distinct(tables: Sequence[LabelTable], symbols: Symbols) -> LabelTable:
    """The label sets of tables of the same symbols, each once."""
    filled = [t for t in tables if len(t)]
    if len(filled) < 2:
        return filled[0] if filled else LabelTable.from_labels([], symbols)
    labels = stacked(filled, symbols)
    return labels.take(identities(labels)[1])


def identities(labels: LabelTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(a number from 0 up for each row, equal for equal label sets; the first row of each number)."""
    pairs = np.stack([labels.names, labels.values], axis=1)
    raw = np.ascontiguousarray(pairs).reshape(-1).view(np.uint8)
    hashes = hash_regions(raw, labels.offsets[:-1] * 8, labels.offsets[1:] * 8, np.uint64(0))
    return KeyTable(16).find_or_add(hashes, 0)


def with_starts(found: SeriesSet, starts: SeriesSet) -> SeriesSet | None:
    """`found` with `start_timestamps` from the samples of the tenant hidden behind theirs (`starts.py`).

    None where the two are not of one table of symbols.
    """
    out = np.zeros(found.sample_count, dtype=_I64)
    if starts.sample_count and found.sample_count:
        if found.labels.symbols is not starts.labels.symbols:
            return None
        row_of = _rows(found.labels, starts.labels)
        lengths = np.diff(starts.offsets)
        first = int(starts.offsets[0])
        rows = np.repeat(row_of, lengths)
        times, values = starts.timestamps[first : first + len(rows)], starts.values[first : first + len(rows)]
        known = rows >= 0
        place = _places(found, rows[known], times[known])
        there = place >= 0
        out[place[there]] = values[known][there].astype(_I64)
    return replace(found, start_timestamps=out)


def _rows(table: LabelTable, others: LabelTable) -> NDArray[np.int64]:
    """The row of `table` that has the labels of each of `others`, -1 where none has."""
    numbers, _ = identities(stacked([table, others], table.symbols))
    row = np.full(len(numbers), -1, dtype=_I64)
    row[numbers[: len(table)]] = np.arange(len(table))
    return row[numbers[len(table) :]]


def _places(found: SeriesSet, rows: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in `found` the sample of each row at each time is, -1 where there is none."""
    if not len(rows):
        return rows
    first = int(found.offsets[0])
    own = found.timestamps[first:]
    low = min(int(own.min()), int(times.min()))
    span = max(int(own.max()), int(times.max())) - low + 1
    # Rows of all times, as one rising number: a sample is found by a search, not by a walk.
    own_keys = np.repeat(np.arange(len(found)), np.diff(found.offsets)) * span + (own - low)
    keys = rows * span + (times - low)
    at = np.searchsorted(own_keys, keys)
    there = own_keys[np.minimum(at, len(own_keys) - 1)] == keys
    place: NDArray[np.int64] = np.where(there, at + first, -1)
    return place
