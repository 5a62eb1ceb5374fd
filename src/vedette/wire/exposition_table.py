"""Exposition text of many series at once, from a label table, beside a few given one by one; families stay together.

The text is that of `exposition.render`, without a Python object for each series. Not here: which series, which values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.kernels import render as kernel
from vedette.model.labels import METRIC_NAME, Labels, LabelTable, is_legacy_metric_name, quote
from vedette.model.samples import MetricMetadata
from vedette.wire.escaping import Spell, as_it_is
from vedette.wire.exposition import family_of, format_series, format_value, header, label_text

_LONGEST_DECIMAL = 24
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


def _lines(table: LabelTable, metrics: NDArray[np.int32], rows: _Ints, floats: NDArray[np.float64], spell: Spell) -> tuple[bytes, _Ints]:
    """The lines of `rows`, in their order, and where each ends."""
    whole, places = np.empty(len(floats), dtype=np.int64), np.empty(len(floats), dtype=np.int8)
    kernel.decimals(floats, whole, places)
    places[np.abs(floats) >= _WHOLE_UNTIL] = -1
    hard, hard_offsets = _joined(_shortest(floats[places < 0]))
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


def _pieces(table: LabelTable, metrics: NDArray[np.int32], spell: Spell) -> tuple[list[bytes], _Ints, _Ints, _Ints, NDArray[np.bool_]]:
    """Texts; of each pair the indices of its name's and its value's; of each row that of its metric, and whether it goes inside."""
    text = table.symbols.text
    pieces: list[bytes] = []

    def indices(column: NDArray[np.int32], write: Callable[[int], str]) -> _Ints:
        """For each symbol of a column the index of its text among the pieces. A column's symbols are looked up, not sorted."""
        place = np.full(int(column.max(initial=-1)) + 2, -1, dtype=np.int64)  # the last is that of -1, a metric without a name
        place[column] = 0
        present = np.flatnonzero(place == 0)
        place[present] = len(pieces) + np.arange(len(present))
        pieces.extend(write(s if s < len(place) - 1 else -1).encode() for s in present.tolist())
        return place[column]

    name_at = indices(table.names, lambda s: f"{label_text(spell(text(s)))}=")
    name_at[table.names == table.symbols.find(METRIC_NAME)] = -1
    value_at = indices(table.values, lambda s: quote(text(s)))
    plain: dict[bytes, bool] = {}

    def head(symbol: int) -> str:
        name = spell(text(symbol)) if symbol >= 0 else ""
        legacy = is_legacy_metric_name(name)
        written = name if legacy else quote(name)
        plain[written.encode()] = legacy
        return written

    heads = indices(metrics, head)
    inside = np.array([not plain.get(piece, True) for piece in pieces], dtype=np.bool_)
    return pieces, name_at, value_at, heads, inside[heads]


def _shortest(floats: NDArray[np.float64]) -> list[bytes]:
    """The texts of values as `format_value` writes them."""
    size = np.abs(floats)
    # Within these bounds the shortest digits are laid out alike by all who find them; there are few beyond.
    other = np.flatnonzero(~((size >= _PLAIN_FROM) & (size < _WHOLE_UNTIL) & (np.trunc(floats) != floats)))
    texts = orjson.dumps(floats, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",") if len(floats) else []
    for at, value in zip(other.tolist(), floats[other].tolist(), strict=True):
        texts[at] = format_value(value).encode()
    return texts


def _joined(pieces: Sequence[bytes]) -> tuple[NDArray[np.uint8], _Ints]:
    """Texts end to end, and their bounds; never empty, since kernels index into it."""
    offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
    np.cumsum([len(p) for p in pieces], out=offsets[1:])
    return np.frombuffer(bytearray(b"".join(pieces) or b"\0"), dtype=np.uint8), offsets
