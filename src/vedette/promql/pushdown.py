"""Queries that another server evaluates: `Engine`'s questions, put to the Prometheus API of the server that has the samples.

Its answers come back as they are, also where its dialect knows more than PromQL (MetricsQL). Not here: HTTP (`storage/remote`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import orjson

from vedette.clock import Clock
from vedette.errors import BadInput, VedetteError
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.promql.engine import Engine
from vedette.promql.errors import ParseError, QueryCanceled
from vedette.promql.result import QueryResult
from vedette.promql.settings import PromqlSettings
from vedette.promql.standing import Answer, Standing
from vedette.promql.values import Grid
from vedette.storage.interface import Storage


class Answering(Storage, Protocol):
    """A storage whose server answers queries itself."""

    def ask(self, tenant: str, path: str, params: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        """The server's answer to an operation of the API: `data`, and perhaps `warnings` and `infos`."""
        ...


class Pushdown(Engine):
    """An engine whose queries are evaluated behind `storage`."""

    def __init__(self, storage: Answering, settings: PromqlSettings, clock: Clock) -> None:
        super().__init__(storage, settings, clock)
        self._behind = storage

    def instant(
        self,
        tenant: str,
        expr: str,
        time_ms: int,
        *,
        timeout_s: float | None = None,
        lookback_ms: int | None = None,
        cancel: threading.Event | None = None,
        queryable: bool = False,
        as_text: bool = False,
    ) -> QueryResult:
        """See `Engine.instant`; counts of samples are not known here, and the answer comes as text."""
        grid = Grid(time_ms, 1, 1)
        return self._pushed(tenant, "query", [("query", expr), ("time", _time(time_ms))], grid, (timeout_s, lookback_ms, cancel, queryable))

    def range(
        self,
        tenant: str,
        expr: str,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        *,
        timeout_s: float | None = None,
        lookback_ms: int | None = None,
        cancel: threading.Event | None = None,
        queryable: bool = False,
        as_text: bool = False,
    ) -> QueryResult:
        """See `Engine.range`; counts of samples are not known here, and the answer comes as text."""
        if end_ms < start_ms or step_ms <= 0:
            raise ParseError("a range query needs an end after its start, and a step")
        grid = Grid(start_ms, step_ms, (end_ms - start_ms) // step_ms + 1)
        params = [("query", expr), ("start", _time(start_ms)), ("end", _time(end_ms)), ("step", _time(step_ms))]
        return self._pushed(tenant, "query_range", params, grid, (timeout_s, lookback_ms, cancel, queryable))

    def instants(self, tenant: str, asked: Sequence[Standing], time_ms: int) -> list[Answer]:
        """See `Engine.instants`; each is a query of its own here."""
        answers = []
        for one in asked:
            began = self._clock.monotonic()
            found: QueryResult | VedetteError
            try:
                found = self.instant(tenant, one.expr, time_ms)
            except VedetteError as error:
                found = error
            answers.append(Answer(found, self._clock.monotonic() - began))
        return answers

    def _pushed(
        self,
        tenant: str,
        path: str,
        params: list[tuple[str, str]],
        grid: Grid,
        how: tuple[float | None, int | None, threading.Event | None, bool],
    ) -> QueryResult:
        timeout_s, lookback_ms, cancel, queryable = how
        limit = self._settings.timeout_s if timeout_s is None else min(timeout_s, self._settings.timeout_s)
        params.append(("timeout", f"{max(1, int(limit * 1000))}ms"))
        if lookback_ms is not None:
            params.append(("lookback_delta", f"{lookback_ms}ms"))
        with self.running.entered(tenant, params[0][1], (grid.start, grid.last, grid.step), cancel):
            began = self._clock.monotonic()
            try:
                answer = self._behind.ask(tenant, path, params)
            except BadInput as error:
                raise ParseError(str(error).removeprefix('invalid parameter "query": ')) from None
            if cancel is not None and cancel.is_set():
                raise QueryCanceled("query was canceled")
            result = PushedResult(answer, grid)
            result.statistics.evaluating_s = self._clock.monotonic() - began
            if queryable:
                result.statistics.per_step = np.zeros(grid.n, dtype=np.int64)
            return result


def _time(ms: int) -> str:
    sign = "-" if ms < 0 else ""
    return f"{sign}{abs(ms) // 1000}.{abs(ms) % 1000:03d}"


class PushedResult(QueryResult):
    """A result that came as JSON, and goes on as it came; its float values are there as columns, too."""

    def __init__(self, answer: Mapping[str, Any], grid: Grid) -> None:
        super().__init__("", grid, range_query=False, warnings=list(answer.get("warnings") or ()), infos=list(answer.get("infos") or ()))
        data = answer["data"]
        self._data = data
        self.type = data["resultType"]
        result = data["result"]
        if self.type == "string":
            self._text = result[1]
            return
        if self.type == "scalar":
            self._floats = np.array([float(result[1])])
            self._labels = LabelTable.from_labels([])
            return
        labels: list[Labels] = []
        times: list[int] = []
        values: list[float] = []
        offsets = [0]
        for row in result:
            # A row of native histograms alone has no floats, and stays a row.
            points = row.get("values") or ([row["value"]] if "value" in row else [])
            labels.append(Labels.of(row["metric"]))
            times += [round(when * 1000) for when, _ in points]
            values += [float(text) for _, text in points]
            offsets.append(len(times))
        if self.type == "vector" and len(times) < len(labels):
            # `vector` has one value a row: those without one are only in the JSON.
            labels = [row for row, lo, hi in zip(labels, offsets, offsets[1:], strict=False) if hi > lo]
            offsets = list(range(len(labels) + 1))
        self._labels = LabelTable.from_labels(labels)
        self._order = np.arange(len(labels), dtype=np.int64)
        self._offsets = np.array(offsets, dtype=np.int64)
        self._times = np.array(times, dtype=np.int64)
        self._floats = np.array(values, dtype=np.float64)

    def parts(self, limit: int = 0) -> Sequence[bytes | memoryview]:
        """See `QueryResult.parts`."""
        return tuple(self.pieces(limit))

    def pieces(self, limit: int = 0) -> Iterator[bytes]:
        """The `data` object as the server gave it; at most `limit` series unless 0."""
        data = self._data
        if limit and self.type in ("vector", "matrix"):
            data = {**data, "result": data["result"][:limit]}
        yield orjson.dumps(data)
