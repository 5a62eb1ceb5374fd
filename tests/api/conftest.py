"""The real routes over a naive storage: dicts where the engine has columns, correct by being simple."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.matchers import match_labels
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet
from vedette.storage.interface import Matchers, StorageStats

NOW = 1_700_000_000.0


class NaiveStorage:
    """A storage of dicts; `failing` is raised by the next append, `appends` counts those that were tried."""

    def __init__(self) -> None:
        self.tenants: dict[str, dict[Labels, dict[int, float]]] = {}
        self.known: dict[str, dict[str, MetricMetadata]] = {}
        self.failing: Exception | None = None
        self.appends = 0

    def put(self, labels: Labels, *samples: tuple[int, float], tenant: str = "default") -> None:
        self.tenants.setdefault(tenant, {}).setdefault(labels, {}).update(samples)

    def about(self, metric: str, kind: str, text: str = "", unit: str = "", tenant: str = "default") -> None:
        self.known.setdefault(tenant, {})[metric] = MetricMetadata(metric, kind, text, unit)

    async def append(self, batch: SampleBatch) -> Appended:
        self.appends += 1
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing
        space, tenant = batch.keyspace, batch.keyspace.tenant
        raw = batch.buffer.tobytes()
        rows = [space.resolve(raw[a:b]) for a, b in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)]
        stored, dropped = 0, 0
        for i, labels in enumerate(rows):
            for j in range(int(batch.offsets[i]), int(batch.offsets[i + 1])):
                if labels is None:
                    dropped += 1
                    continue
                series = self.tenants.setdefault(tenant, {}).setdefault(labels, {})
                when, value = int(batch.timestamps[j]), float(batch.values[j])
                if series.setdefault(when, value) == value:
                    stored += 1
                else:
                    dropped += 1
        for entry in batch.metadata:
            self.about(entry.metric, entry.type, entry.help, entry.unit, tenant)
        return Appended(np.arange(len(rows)), samples=stored, dropped={"duplicate": dropped} if dropped else {})

    def _selected(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> dict[Labels, list[tuple[int, float]]]:
        found = {}
        for labels, samples in self.tenants.get(tenant, {}).items():
            inside = sorted((t, v) for t, v in samples.items() if start <= t <= end)
            if inside and (not sets or any(match_labels(tuple(m), labels) for m in sets)):
                found[labels] = inside
        return found

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        found = self._selected(tenant, [matchers], start, end)
        samples = [s for series in found.values() for s in series]
        return SeriesSet(
            LabelTable.from_labels(list(found)),
            np.cumsum([0, *(len(s) for s in found.values())], dtype=np.int64),
            np.array([t for t, _ in samples], dtype=np.int64),
            np.array([v for _, v in samples], dtype=np.float64),
        )

    def series(self, tenant: str, sets: Sequence[Matchers], start: int, end: int, limit: int = 0) -> list[Labels]:
        found = sorted(self._selected(tenant, sets, start, end))
        return found[:limit] if limit else found

    def label_names(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        return sorted({n for labels in self._selected(tenant, sets, start, end) for n, _ in labels})

    def label_values(self, tenant: str, name: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        return sorted({v for labels in self._selected(tenant, sets, start, end) if (v := labels.get(name))})

    def metadata(self, tenant: str, metric: str | None = None) -> list[MetricMetadata]:
        return [m for name, m in sorted(self.known.get(tenant, {}).items()) if metric in (None, name)]

    def stats(self) -> StorageStats:
        series = self.tenants.get("default", {})
        times = [t for samples in series.values() for t in samples]
        names: dict[str, int] = {}
        for labels in series:
            names[labels.metric] = names.get(labels.metric, 0) + 1
        return StorageStats(
            series=len(series),
            min_time=min(times, default=0),
            max_time=max(times, default=0),
            series_by_metric=sorted(names.items(), key=lambda n: -n[1]),
        )

    async def close(self) -> None:
        return None


async def on_a_thread(function: Callable[..., Any], /, *args: Any) -> Any:
    """`Run` over the loop's default threads."""
    return await asyncio.to_thread(function, *args)


@pytest.fixture
def run() -> Callable[..., Awaitable[Any]]:
    return on_a_thread


@pytest.fixture
def storage() -> NaiveStorage:
    return NaiveStorage()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


Serve = Callable[[Sequence[BaseRoute]], httpx.AsyncClient]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A function giving a client of the given routes."""
    clients: list[httpx.AsyncClient] = []

    def start(routes: Sequence[BaseRoute]) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(Starlette(routes=list(routes)))
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8009"))
        return clients[-1]

    yield start
    for client in clients:
        await client.aclose()


@pytest.fixture(scope="session")
def prometheus_schema(conformance: Path) -> Callable[[str], dict[str, Any]]:
    """A function giving one of the schemas of Prometheus' own OpenAPI description, as JSON Schema."""
    path = conformance / "prometheus_prometheus/web/api/v1/testdata/openapi_3.1_golden.yaml"
    components = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["components"]

    def schema(name: str) -> dict[str, Any]:
        assert name in components["schemas"]
        return {"$ref": f"#/components/schemas/{name}", "components": components}

    return schema
