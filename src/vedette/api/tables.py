"""A query's answer as a table, for pandas, DuckDB and spreadsheets: CSV or Parquet instead of JSON.

A row a value, in the columns of an export: `pandas.read_csv` and `read_parquet` take the URL of a query as it is. Not here:
evaluation (`queries.py`), the formats (`wire/dump.py`, `storage/parquet.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import quote

from vedette.api.params import Form
from vedette.errors import BadInput
from vedette.model.series import SeriesSet
from vedette.storage import parquet
from vedette.wire import dump

Kind = Literal["csv", "parquet"]

MEDIA: Mapping[Kind, str] = {"csv": dump.MEDIA["csv"], "parquet": "application/vnd.apache.parquet"}
NOTES = "x-vedette-warnings"
"""The header with a query's warnings, percent-encoded, separated by commas: a table has no place for them."""

_MOST_NOTES = 4000


def wanted(form: Form) -> Kind | None:
    """The kind of table that `format` asks for, None for JSON. Raises `BadInput` for another."""
    kind = form.text("format") or "json"
    if kind == "json":
        return None
    if kind not in get_args(Kind):
        raise BadInput(f'invalid parameter "format": {kind!r}', hint="expected one of json, " + ", ".join(get_args(Kind)))
    return cast("Kind", kind)


def encoded(series: SeriesSet, kind: Kind) -> bytes:
    """The table of some series. Raises `BadInput` where DuckDB is needed and missing."""
    if kind == "csv":
        return b"".join(dump.render(series, "csv"))
    with tempfile.TemporaryDirectory(prefix="vedette-") as folder:
        path = Path(folder) / "table.parquet"
        parquet.write(series, path)
        return path.read_bytes()


def headers(kind: Kind, warnings: Sequence[str]) -> dict[str, str]:
    """Of an answer that is a table."""
    found = {"content-disposition": f'inline; filename="query.{kind}"'}
    if warnings:
        found[NOTES] = ",".join(quote(text, safe=" ") for text in warnings)[:_MOST_NOTES]
    return found
