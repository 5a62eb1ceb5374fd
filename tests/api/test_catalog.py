"""`/api/v1/series` from columns, as the embedded engine gives them: what a list of label sets would say."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from vedette.api.catalog import Catalog
from vedette.api.prometheus import matchers_of
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.interface import Tabling
from vedette.storage.memory import Memory
from vedette.storage.select import distinct

ROWS = [Labels.of(__name__="m", i=str(i), odd='"\\é') for i in range(30)]


class Columns:
    """A storage that has nothing but label sets."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def series_table(self, tenant: str, sets: Any, start: int, end: int) -> LabelTable:
        self.asked.append((tenant, len(sets), start, end))
        return LabelTable.from_labels(ROWS[::-1])


async def run(function: Any, *args: Any) -> Any:
    return function(*args)


async def ask(storage: Columns, query: str) -> dict[str, Any]:
    catalog = Catalog(storage, run, matchers_of, lambda scope: "team")  # type: ignore[arg-type]  # as far as `series` goes
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": query.encode()})
    found: dict[str, Any] = json.loads(bytes((await catalog.series(request)).body))
    return found


async def test_series_come_in_order_and_a_limit_says_so() -> None:
    assert issubclass(Engine, Tabling)
    storage, wanted = Columns(), [dict(row) for row in sorted(ROWS)]
    assert await ask(storage, "match[]=m&match[]=n&start=1&end=2") == {"status": "success", "data": wanted}
    assert storage.asked == [("team", 2, 1000, 2000)]
    assert await ask(storage, "match[]=m&limit=30") == {"status": "success", "data": wanted}
    cut = await ask(storage, "match[]=m&limit=7")
    assert cut == {"status": "success", "data": wanted[:7], "warnings": ["results truncated due to limit"]}


def test_tables_of_several_sources_are_joined_each_label_set_once() -> None:
    memory = Memory()
    memory.take(SampleBatch.of(canonical(), ROWS, [1] * len(ROWS), [0.0] * len(ROWS)), window=0, oldest=0, scope=1)
    _, view = memory.index("default")
    assert view is not None
    tables = [view.table(view.all_ids[lo:hi]) for lo, hi in ((0, 20), (5, 5), (10, 30))]
    symbols = tables[0].symbols
    assert sorted(distinct(tables, symbols)) == sorted(ROWS)
    assert sorted(distinct(tables[:1], symbols)) == sorted(ROWS[:20])
    assert len(distinct([tables[1]], symbols)) == len(distinct([], symbols)) == 0
