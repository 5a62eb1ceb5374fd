"""Series as Parquet files, both ways and to the bit, by DuckDB (the extra `logs`).

Columns: `metric` VARCHAR, `labels` MAP(VARCHAR, VARCHAR) without the name, `timestamp` TIMESTAMP (UTC), `value` DOUBLE, and
`nan_bits` BIGINT: the bits of a NaN, NULL for every other value, so that `nan_bits IS NULL` leaves stale markers out. A native histogram
has its sum for a value, and stands in the column `histogram` (`parquet_histograms.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vedette.errors import BadInput
from vedette.kernels.dump import TEXT_NAN
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.series import SeriesSet
from vedette.storage import parquet_histograms
from vedette.wire.dump import Run

_ROWS = 1 << 20
_WANTED = {"metric": "VARCHAR", "labels": "MAP(VARCHAR, VARCHAR)", "value": "DOUBLE"}


def duckdb() -> Any:
    """The module. Raises `BadInput` saying what to install where it is missing."""
    try:
        import duckdb as found
    except ImportError:
        raise BadInput("Parquet needs DuckDB", hint="pip install 'vedette[logs]'") from None
    return found


def write(series: SeriesSet, path: Path) -> None:
    """Write a file: series by their labels, samples by time. Raises `OSError`."""
    rows = [series.labels.row(i) for i in range(len(series))]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    rank = np.empty(len(rows), dtype=np.int64)
    rank[order] = np.arange(len(rows))
    nan = np.isnan(series.values)
    native = np.full(series.sample_count, -1, dtype=np.int64)
    if series.histograms is not None:
        native[series.histograms.at] = np.arange(len(series.histograms))
    samples = {
        "series": np.repeat(rank, np.diff(series.offsets)),
        "stamp": series.timestamps,
        # DuckDB takes NumPy's NaN for NULL, so these are told apart by a column of their own.
        "number": np.where(nan, 0.0, series.values),
        "bits": np.where(nan, series.values.view(np.int64), 0),
        "nan": nan,
        "native": native,
    }
    pairs = [(place, n, v) for place, i in enumerate(order) for n, v in rows[i]]
    engine = duckdb()
    with engine.connect() as con:
        try:
            con.execute("SET TimeZone = 'UTC'")
            con.register("samples", samples)
            con.execute("CREATE TEMP TABLE names (series BIGINT, metric VARCHAR, labels MAP(VARCHAR, VARCHAR))")
            if pairs:
                columns = {
                    "series": np.array([p[0] for p in pairs]),
                    "n": _texts([p[1] for p in pairs]),
                    "v": _texts([p[2] for p in pairs]),
                }
                con.register("pairs", columns)
                con.execute(
                    "INSERT INTO names SELECT series, coalesce(max(v) FILTER (n = '__name__'), ''),"
                    " coalesce(map(list(n ORDER BY n) FILTER (n <> '__name__'), list(v ORDER BY n) FILTER (n <> '__name__')), MAP {})"
                    " FROM pairs GROUP BY series"
                )
            parquet_histograms.prepare(con, series.histograms)
            con.execute(
                "COPY (SELECT metric, labels, make_timestamp(stamp * 1000) AS timestamp,"
                " CASE WHEN nan THEN 'NaN'::DOUBLE ELSE number END AS value, CASE WHEN nan THEN bits END AS nan_bits, histogram"
                " FROM samples JOIN names USING (series) LEFT JOIN natives USING (native) ORDER BY series, stamp)"
                " TO $path (FORMAT parquet, COMPRESSION zstd)",
                {"path": str(path)},
            )
        except engine.Error as error:
            raise OSError(0, str(error), str(path)) from error


def _texts(texts: list[str]) -> Any:
    return np.array(texts, dtype=object)


def read(path: Path, *, start: int = 0) -> Iterator[tuple[Run, int]]:
    """The samples of a file from row `start` on, some at a time, each with the row that comes after them.

    Raises `BadInput` where it is no such file. `nan_bits` may be missing: NaN is what text means then; rows without a value are left out.
    """
    engine = duckdb()
    with engine.connect() as con:
        try:
            con.execute("SET TimeZone = 'UTC'")
            con.execute("SET preserve_insertion_order = true")
            source = {"path": str(path)}
            kinds = dict(
                con.execute("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet($path))", source).fetchall()
            )
            _check(kinds, path)
            bits = "nan_bits" if kinds.get("nan_bits") == "BIGINT" else "NULL::BIGINT"
            (total,) = con.execute("SELECT count(*) FROM read_parquet($path)", source).fetchone()
            native = "histogram" if "histogram" in kinds else "NULL"
            while start < total:
                yield _some(con, path, (native, bits), start), min(start + _ROWS, total)
                start += _ROWS
        except engine.Error as error:
            raise BadInput(
                f"cannot be read: {error}", where=str(path), hint="expected a Parquet file as `vedette storage export` writes"
            ) from None


def _check(kinds: dict[str, str], path: Path) -> None:
    for name, kind in _WANTED.items():
        if kinds.get(name) != kind:
            raise BadInput(f"column {name} is {kinds.get(name, 'missing')}", where=str(path), hint=f"expected {kind}")
    if "histogram" in kinds and kinds["histogram"].replace('"', "") != parquet_histograms.KIND:
        raise BadInput(f"column histogram is {kinds['histogram']}", where=str(path), hint=f"expected {parquet_histograms.KIND}, or none")
    if not kinds.get("timestamp", "").startswith("TIMESTAMP"):
        raise BadInput(f"column timestamp is {kinds.get('timestamp', 'missing')}", where=str(path), hint="expected TIMESTAMP")


def _some(con: Any, path: Path, columns: tuple[str, str], start: int) -> Run:
    """The rows from `start` on; `columns` are the expressions of the histogram and of the NaN's bits."""
    native, bits = columns
    con.execute(
        # These are two texts of `read`, nobody's input.
        f"CREATE OR REPLACE TEMP TABLE part AS SELECT metric, labels, epoch_ms(timestamp) AS stamp, value, {native} AS histogram,"  # noqa: S608
        f" coalesce({bits}, CASE WHEN isnan(value) THEN {TEXT_NAN} END, 0) AS bits FROM read_parquet($path, file_row_number = true)"
        " WHERE file_row_number >= $lo AND file_row_number < $hi AND value IS NOT NULL AND timestamp IS NOT NULL",
        {"path": str(path), "lo": start, "hi": start + _ROWS},
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE names AS SELECT row_number() OVER () - 1 AS series, * FROM (SELECT DISTINCT metric, labels FROM part)"
    )
    found = con.execute("SELECT metric, map_keys(labels), map_values(labels) FROM names ORDER BY series").fetchall()
    labels = [Labels.of({**dict(zip(keys or (), values or (), strict=True)), METRIC_NAME: metric or ""}) for metric, keys, values in found]
    con.execute(
        "CREATE OR REPLACE TEMP TABLE ordered AS SELECT row_number() OVER (ORDER BY series, stamp) - 1 AS place, series, stamp,"
        " CASE WHEN bits = 0 THEN value ELSE 0 END AS number, bits, histogram FROM part JOIN names"
        " ON part.metric IS NOT DISTINCT FROM names.metric AND part.labels IS NOT DISTINCT FROM names.labels"
    )
    read_ = con.execute("SELECT series, stamp, number, bits FROM ordered ORDER BY place").fetchnumpy()
    series, stamps, values, nans = (np.ma.getdata(read_[name]) for name in ("series", "stamp", "number", "bits"))
    values = values.astype(np.float64)
    values.view(np.int64)[nans != 0] = nans[nans != 0]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(series, minlength=len(labels)))]).astype(np.int64)
    histograms = parquet_histograms.read(con, values, path) if native != "NULL" else None
    return Run(labels, offsets, stamps.astype(np.int64), values, histograms=histograms)
