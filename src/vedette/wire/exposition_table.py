"""Exposition text of many series at once, from a label table, beside a few given one by one; families stay together.

The text is that of `exposition.render`, without a Python object for each series. Not here: which series, which values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import render as kernel
from vedette.model.labels import METRIC_NAME, Labels, LabelTable, is_legacy_metric_name, quote
from vedette.model.samples import MetricMetadata
from vedette.wire.escaping import Spell, as_it_is
from vedette.wire.exposition import family_of, format_series, format_value, header, label_text

_LONGEST_DECIMAL = 24
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
    known = {m.metric: m for m in metadata}
    families: dict[str, list[bytes]] = {}
    for labels, value in zip(series, values, strict=True):
        line = f"{format_series(labels, spell)} {format_value(float(value))}\n".encode()
        families.setdefault(family_of(labels.metric, known), []).append(line)
    metrics = table.column(METRIC_NAME)
    distinct, first, which = np.unique(metrics[rows], return_index=True, return_inverse=True)
    if len(distinct):
        assert distinct[0] >= 0, "a series without a metric name cannot be exposed"
        names = [family_of(table.symbols.text(int(s)), known) for s in distinct.tolist()]
        for i in np.argsort(first).tolist():
            families.setdefault(names[i], [])
        place = {name: i for i, name in enumerate(families)}
        places = np.array([place[name] for name in names], dtype=np.int64)[which.reshape(-1)]
        order = np.argsort(places, kind="stable")
        lines, ends = _lines(table, metrics, rows[order], np.ascontiguousarray(floats[order]), spell)
        last = np.flatnonzero(np.diff(places[order], append=-1)).tolist()
        begin = 0
        of_place = list(families)
        for at in last:
            families[of_place[places[order[at]]]].append(lines[begin : ends[at]])
            begin = int(ends[at])
    out: list[bytes] = []
    for family, texts in families.items():
        out.append(header(family, known, spell).encode())
        out += texts
    return b"".join(out)


def _lines(
    table: LabelTable, metrics: NDArray[np.int32], rows: _Ints, floats: NDArray[np.float64], spell: Spell
) -> tuple[bytes, _Ints]:
    """The lines of `rows`, in their order, and where each ends."""
    whole, places = np.empty(len(floats), dtype=np.int64), np.empty(len(floats), dtype=np.int8)
    kernel.decimals(floats, whole, places)
    places[np.abs(floats) >= _WHOLE_UNTIL] = -1
    hard, hard_offsets = _joined([format_value(v).encode() for v in floats[places < 0].tolist()])
    pieces, name_at, value_at, heads, inside = _pieces(table, metrics, spell)
    pool, pool_offsets = _joined(pieces)
    sizes = np.diff(pool_offsets)
    pair_bytes = np.zeros(len(name_at) + 1, dtype=np.int64)
    np.cumsum(np.where(name_at >= 0, sizes[name_at] + sizes[value_at] + 1, 0), out=pair_bytes[1:])
    row_bytes = (pair_bytes[table.offsets[1:]] - pair_bytes[table.offsets[:-1]])[rows] + sizes[heads[rows]] + _LONGEST_DECIMAL + 6
    out, ends = np.empty(int(row_bytes.sum()) + len(hard), dtype=np.uint8), np.zeros(len(rows), dtype=np.int64)
    kernel.exposition_lines(
        rows, table.offsets, name_at, value_at, heads, inside, pool, pool_offsets, whole, places, hard, hard_offsets, out, ends
    )
    return out[: ends[-1]].tobytes(), ends


def _pieces(
    table: LabelTable, metrics: NDArray[np.int32], spell: Spell
) -> tuple[list[bytes], _Ints, _Ints, _Ints, NDArray[np.bool_]]:
    """Texts; of each pair the indices of its name's and its value's; of each row that of its metric, and whether it goes inside."""
    text = table.symbols.text
    pieces: list[bytes] = []

    def indices(column: NDArray[np.int32], write: list[bytes], distinct: NDArray[np.int32]) -> _Ints:
        begin = len(pieces)
        pieces.extend(write)
        return begin + np.searchsorted(distinct, column).astype(np.int64)

    symbols = np.unique(table.names)
    name_at = indices(table.names, [f"{label_text(spell(text(s)))}=".encode() for s in symbols.tolist()], symbols)
    name_at[table.names == table.symbols.find(METRIC_NAME)] = -1
    symbols = np.unique(table.values)
    value_at = indices(table.values, [quote(text(s)).encode() for s in symbols.tolist()], symbols)
    symbols = np.unique(metrics)
    texts = [spell(text(s)) if s >= 0 else "" for s in symbols.tolist()]
    legacy = np.array([is_legacy_metric_name(t) for t in texts], dtype=np.bool_)
    heads = indices(metrics, [(t if plain else quote(t)).encode() for t, plain in zip(texts, legacy.tolist(), strict=True)], symbols)
    return pieces, name_at, value_at, heads, ~legacy[np.searchsorted(symbols, metrics)]


def _joined(pieces: Sequence[bytes]) -> tuple[NDArray[np.uint8], _Ints]:
    """Texts end to end, and their bounds; never empty, since kernels index into it."""
    offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
    np.cumsum([len(p) for p in pieces], out=offsets[1:])
    return np.frombuffer(bytearray(b"".join(pieces) or b"\0"), dtype=np.uint8), offsets
