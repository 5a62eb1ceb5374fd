"""Native histograms as a column of a Parquet file, both ways: a struct, NULL where a sample is a number.

`count`, `zero_count`, `schema` (-53: custom buckets), `zero_threshold`, `bounds` (of custom buckets), `positive_index` and `positive`,
`negative_index` and `negative` (buckets and how many observations each has), `hint`. The sum is the sample's `value`. A count that is NaN
is NULL. Not here: the other columns (`parquet.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.model.histograms import COUNT, CUSTOM_SCHEMA, HEAD, SUM, ZERO, Histogram, Histograms, Layout, LayoutTable

KIND = (
    "STRUCT(count DOUBLE, zero_count DOUBLE, schema INTEGER, zero_threshold DOUBLE, bounds DOUBLE[], positive_index INTEGER[],"
    " positive DOUBLE[], negative_index INTEGER[], negative DOUBLE[], hint VARCHAR)"
)
HINTS = ("unknown", "reset", "not_reset", "gauge")
"""Counter reset hints, by number."""

_AT_ONCE = 4096
_BOUNDS, _POSITIVE, _NEGATIVE, _NONE = range(4)


def prepare(con: Any, histograms: Histograms | None) -> None:
    """Make the table `natives` (native, histogram) of all histograms, numbered from 0."""
    if histograms is None:
        con.execute(f"CREATE TEMP TABLE natives (native BIGINT, histogram {KIND})")
        return
    con.register("edges", _edges(histograms.layouts))
    con.register("buckets", _buckets(histograms))
    heads, cells = histograms.offsets[:-1], histograms.cells
    schemas = np.array([layout.schema for layout in histograms.layouts], dtype=np.int32)
    thresholds = np.array([layout.threshold for layout in histograms.layouts])
    head = {
        "number": np.arange(len(histograms)), "layout": histograms.layout.astype(np.int64),
        "schema": schemas[histograms.layout], "threshold": thresholds[histograms.layout],
        "total": cells[heads + COUNT], "zeros": cells[heads + ZERO], "hint": np.array(HINTS, dtype=object)[histograms.hints],
    }  # fmt: skip
    con.register("heads", head)
    sides = (_BOUNDS, _POSITIVE, _NEGATIVE)
    lists = [f"coalesce(list(value ORDER BY place) FILTER (side = {side}), [])" for side in sides]
    con.execute(
        # Nobody's input: the texts above.
        f"CREATE TEMP TABLE layouts AS SELECT layout, {lists[0]}::DOUBLE[] AS bounds, {lists[1]}::INTEGER[] AS positive_index,"  # noqa: S608
        f" {lists[2]}::INTEGER[] AS negative_index FROM edges GROUP BY layout"
    )
    con.execute(
        f"CREATE TEMP TABLE counts AS SELECT number, {lists[1]}::DOUBLE[] AS positive, {lists[2]}::DOUBLE[] AS negative"  # noqa: S608
        " FROM buckets GROUP BY number"
    )
    con.execute(
        # Nobody's input, again.
        "CREATE TEMP TABLE natives AS SELECT number AS native, struct_pack(count := total, zero_count := zeros, schema := schema,"  # noqa: S608
        " zero_threshold := threshold, bounds := bounds, positive_index := positive_index, positive := positive,"
        f" negative_index := negative_index, negative := negative, hint := hint)::{KIND} AS histogram"
        " FROM heads JOIN layouts USING (layout) JOIN counts USING (number)"
    )


def _edges(layouts: tuple[Layout, ...]) -> dict[str, NDArray[Any]]:
    """A row for each bound and bucket of each layout, and one besides, so that none is without."""
    parts = [
        (number, side, np.asarray(values, dtype=np.float64))
        for number, layout in enumerate(layouts)
        for side, values in ((_BOUNDS, layout.bounds), (_POSITIVE, layout.positive), (_NEGATIVE, layout.negative), (_NONE, [0.0]))
    ]
    lengths = [len(values) for _, _, values in parts]
    return {
        "layout": np.repeat(np.array([number for number, _, _ in parts]), lengths),
        "side": np.repeat(np.array([side for _, side, _ in parts], dtype=np.int8), lengths),
        "place": np.concatenate([np.arange(n) for n in lengths]),
        "value": np.concatenate([values for _, _, values in parts]),
    }


def _buckets(histograms: Histograms) -> dict[str, NDArray[Any]]:
    """A row for each cell: the buckets of either side, and those before them, so that none is without."""
    widths = np.diff(histograms.offsets)
    place = np.arange(len(histograms.cells)) - np.repeat(histograms.offsets[:-1], widths)
    positive = np.array([len(layout.positive) for layout in histograms.layouts])[histograms.layout]
    side = np.where(place < HEAD, _NONE, np.where(place < HEAD + np.repeat(positive, widths), _POSITIVE, _NEGATIVE))
    return {
        "number": np.repeat(np.arange(len(histograms)), widths),
        "side": side.astype(np.int8),
        "place": place,
        "value": histograms.cells,
    }


def read(con: Any, values: NDArray[np.float64], path: Path) -> Histograms | None:
    """The histograms of the table `ordered` (place, histogram), `values` being the samples'. Raises `BadInput` for what can be none."""
    fields = "count, zero_count, schema, zero_threshold, bounds, positive_index, positive, negative_index, negative, hint"
    columns = ", ".join(f"histogram.{name}" for name in fields.split(", "))
    con.execute(f"SELECT place, {columns} FROM ordered WHERE histogram IS NOT NULL ORDER BY place")  # noqa: S608 - names of our own
    table, parts = LayoutTable(), []
    while rows := con.fetchmany(_AT_ONCE):
        try:
            samples = [_histogram(table, values[row[0]], row[1:]) for row in rows]
        except (ValueError, TypeError, OverflowError) as error:
            raise BadInput(f"a native histogram that cannot be: {error}", where=str(path)) from None
        parts.append(Histograms.of([row[0] for row in rows], samples))
    return Histograms.joined(parts) if parts else None


def _histogram(table: LayoutTable, total: float, row: tuple[Any, ...]) -> Histogram:
    count, zeros, schema, threshold, bounds, positive_index, positive, negative_index, negative, hint = row
    indices = [np.array(side or (), dtype=np.int32) for side in (positive_index, negative_index)]
    layout = Layout(int(schema), float(threshold), tuple(map(float, bounds or ())), *indices)
    _check(layout)
    sides = [np.array([np.nan if v is None else v for v in side or ()], dtype=np.float64) for side in (positive, negative)]
    if [len(side) for side in sides] != [len(side) for side in indices]:
        raise ValueError("buckets and their counts are not as many")
    cells = np.empty(layout.width)
    cells[COUNT], cells[SUM], cells[ZERO] = np.nan if count is None else count, total, np.nan if zeros is None else zeros
    cells[HEAD:] = np.concatenate(sides)
    if (cells[HEAD:] < 0).any() or cells[COUNT] < 0 or cells[ZERO] < 0:
        raise ValueError("a count below zero")
    if hint not in HINTS:
        raise ValueError(f"hint {hint!r}, expected one of {', '.join(HINTS)}")
    return Histogram(table.layouts[table.number(layout)], cells, HINTS.index(hint))


def _check(layout: Layout) -> None:
    if not layout.custom and not -4 <= layout.schema <= 8:
        raise ValueError(f"schema {layout.schema}, expected -4 to 8, or {CUSTOM_SCHEMA}")
    if any((np.diff(side) <= 0).any() for side in (layout.positive, layout.negative, np.array(layout.bounds))):
        raise ValueError("buckets or bounds that do not ascend")
    if layout.custom and (len(layout.negative) or ((layout.positive < 0) | (layout.positive > len(layout.bounds))).any()):
        raise ValueError("custom buckets beyond their bounds")
