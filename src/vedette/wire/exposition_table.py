"""Exposition text of many series at once, from a label table, beside a few given one by one; families stay together.

The text is that of `exposition.render`, without a Python object for each series. Not here: which series, which values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import lines as kernel
from vedette.kernels.digits import ABSENT
from vedette.kernels.shortest import decimals
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_metric_name, quote
from vedette.model.labeltable import LabelTable
from vedette.model.samples import MetricMetadata
from vedette.wire.escaping import Spell, as_it_is
from vedette.wire.exposition import family_of, format_series, format_value, header, label_text

AT_ONCE = 1 << 13
"""Rows whose text is made at a time."""
_ROOM = 2 << 20
_PLAIN_FROM = 1e-4
_WHOLE_UNTIL = 1e15
"""From here on whole numbers are written as Python does, with an exponent."""

_Ints = NDArray[np.int64]


def render_table(
    series: Sequence[Labels],
    values: Sequence[float],
    table: LabelTable,
    rows: _Ints,
    floats: NDArray[np.float64],
    *,
    metadata: Sequence[MetricMetadata] = (),
    spell: Spell = as_it_is,
) -> bytes:
    """Text 0.0.4: `series` with their `values`, and `rows` of the table with theirs (`floats`, one for each of `rows`).

    Families come in order of first appearance, each behind its HELP and TYPE. All series have a metric name. Names are written as
    `spell` gives them.
    """
    return b"".join(table_pieces(series, values, table, rows, floats, metadata=metadata, spell=spell))


def table_pieces(
    series: Sequence[Labels],
    values: Sequence[float],
    table: LabelTable,
    rows: _Ints,
    floats: NDArray[np.float64],
    *,
    metadata: Sequence[MetricMetadata] = (),
    spell: Spell = as_it_is,
) -> Iterator[bytes]:
    """The text of `render_table` in pieces, each of `AT_ONCE` rows at most; none is empty, and one is made when it is asked for."""
    known = {m.metric: m for m in metadata}
    families: dict[str, list[bytes]] = {}
    for labels, value in zip(series, values, strict=True):
        line = f"{format_series(labels, spell)} {format_value(float(value))}\n".encode()
        families.setdefault(family_of(labels.metric, known), []).append(line)
    texts = _Texts.of(table, rows)
    names = [family_of(table.symbols.text(s), known) for s in texts.metrics.tolist()]
    for name in names:
        families.setdefault(name, [])
    place = {name: i for i, name in enumerate(families)}
    starts, order = np.zeros(len(families) + 1, dtype=np.int64), np.empty(len(rows), dtype=np.int64)
    kernel.in_places(texts.which, np.array([place[name] for name in names], dtype=np.int64), starts, order)
    # What stands before the first line of a family; of families without a line in the table, before the next one's.
    before = np.full(len(rows), -1, dtype=np.int32)
    pending: list[bytes] = []
    for (family, given), lo, hi in zip(families.items(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        pending += [header(family, known, spell).encode(), *given]
        if hi > lo and any(pending):
            before[lo] = texts.add(b"".join(pending))
        if hi > lo:
            pending = []
    yield from texts.lines(rows[order], texts.which[order], floats[order], before, spell)
    if rest := b"".join(pending):
        yield rest


@dataclass(slots=True)
class _Texts:
    """What lines of some rows of `table` are put together from. By symbol: which are used as names, which as values of labels.

    `metrics` are the symbols of the metrics in order of first appearance, `which` (int32, one a row) the place there of each row's.
    """

    table: LabelTable
    used_names: NDArray[np.bool_]
    used_values: NDArray[np.bool_]
    metrics: _Ints
    which: NDArray[np.int32]
    pieces: list[bytes]

    @classmethod
    def of(cls, table: LabelTable, rows: _Ints) -> _Texts:
        """Of `rows`."""
        used_names = np.zeros(int(table.names.max(initial=-1)) + 1, dtype=np.bool_)
        used_values = np.zeros(int(table.values.max(initial=-1)) + 1, dtype=np.bool_)
        rank, which = np.full(len(used_values), -1, dtype=np.int32), np.empty(len(rows), dtype=np.int32)
        metric = table.symbols.find(METRIC_NAME)
        count = kernel.survey(rows, table.offsets, table.names, table.values, metric, used_names, used_values, rank, which)
        assert count >= 0, "a series without a metric name cannot be exposed"
        known = np.flatnonzero(rank >= 0)
        metrics = np.empty(count, dtype=np.int64)
        metrics[rank[known]] = known
        return cls(table, used_names, used_values, metrics, which, [])

    def add(self, text: bytes) -> int:
        """The number of one more text."""
        self.pieces.append(text)
        return len(self.pieces) - 1

    def _written(self, used: NDArray[np.bool_], write: Callable[[str], str]) -> NDArray[np.int32]:
        """For each symbol the number of its text, which those that are used get."""
        numbers = np.full(len(used), -1, dtype=np.int32)
        symbols = np.flatnonzero(used)
        numbers[symbols] = np.arange(len(symbols)) + len(self.pieces)
        text = self.table.symbols.text
        self.pieces += [write(text(s)).encode() for s in symbols.tolist()]
        return numbers

    def lines(
        self, rows: _Ints, which: NDArray[np.int32], floats: NDArray[np.float64], before: NDArray[np.int32], spell: Spell
    ) -> Iterator[bytes]:
        """The lines of `rows`, in their order, some at a time. `before[j]` is the number of the text before line j, -1 for none."""
        table = self.table
        name_at = self._written(self.used_names, lambda text: f"{label_text(spell(text))}=")
        value_at = self._written(self.used_values, quote)
        spelt = [spell(table.symbols.text(s)) for s in self.metrics.tolist()]
        inside = np.array([not is_legacy_metric_name(name) for name in spelt], dtype=np.bool_)
        heads = np.array([self.add((quote(m) if quoted else m).encode()) for m, quoted in zip(spelt, inside, strict=True)], dtype=np.int32)
        metric, (pool, pool_offsets) = table.symbols.find(METRIC_NAME), _joined(self.pieces)
        out = np.empty(_ROOM, dtype=np.uint8)
        for lo in range(0, len(rows), AT_ONCE):
            some = slice(lo, lo + AT_ONCE)
            whole, places, hard, hard_offsets = _numbers(floats[some])
            at = h = 0
            while at < len(rows[some]):
                done, h, size = kernel.lines(
                    *(at, rows[some], which[some], table.offsets, table.names, table.values, metric, name_at, value_at, heads, inside),
                    *(pool, pool_offsets, before[some], whole, places, hard, hard_offsets, h, out),
                )
                if done == at:
                    out = np.empty(2 * len(out), dtype=np.uint8)  # a line that is longer than all there is room for
                    continue
                at = done
                yield out[:size].tobytes()


def _numbers(floats: NDArray[np.float64]) -> tuple[_Ints, NDArray[np.int16], NDArray[np.uint8], _Ints]:
    """Values as `shortest.decimals` has them, and the texts of those that are laid out otherwise here, of which there are few."""
    whole, places = np.empty(len(floats), dtype=np.int64), np.empty(len(floats), dtype=np.int16)
    decimals(floats, whole, places)
    size = np.abs(floats)
    other = ((size < _PLAIN_FROM) & (places != 0)) | ~(size < _WHOLE_UNTIL)
    places[other] = ABSENT
    return whole, places, *_joined([format_value(value).encode() for value in floats[other].tolist()])


def _joined(pieces: Sequence[bytes]) -> tuple[NDArray[np.uint8], _Ints]:
    """Texts end to end, and their bounds, with the bytes to spare that kernels read."""
    offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
    np.cumsum([len(p) for p in pieces], out=offsets[1:])
    return np.frombuffer(bytearray(b"".join(pieces) + bytes(kernel.SPARE)), dtype=np.uint8), offsets
