"""A small world for rules: series in memory behind the real PromQL engine, real records, a clock that a test owns."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch
from vedette.promql.engine import Engine
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings
from vedette.promql.standing import Answer, Standing
from vedette.records.database import Records
from vedette.rules.engine import Rules
from vedette.rules.files import Group, parse

T0 = 1_700_000_000_000


@dataclass
class World:
    """Everything around the rules. `emitted` are the alerts they told of, batch by batch."""

    path: Path
    clock: ManualClock
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    emitted: list[list[Alert]] = field(default_factory=list)
    full: bool = False
    deaf: bool = False
    queries: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(self.storage, PromqlSettings(), self.clock)  # type: ignore[arg-type]  # the read half suffices
        self.records: Records
        self.rules: Rules

    async def ask(self, asked: Sequence[Standing], at: int) -> list[Answer]:
        self.queries += [one.expr for one in asked]
        return self.engine.instants("default", asked, at)

    async def append(self, batch: SampleBatch) -> None:
        if self.full:
            raise LimitExceeded("no space left on the device")
        for i in range(batch.series_count):
            labels = batch.keyspace.resolve(bytes(batch.buffer[batch.key_start[i] : batch.key_end[i]]))
            assert labels is not None
            native = {} if batch.histograms is None else {int(at): j for j, at in enumerate(batch.histograms.at)}
            value = batch.histograms.sample(native[i]) if batch.histograms and i in native else float(batch.values[i])
            self.storage.add(labels, int(batch.timestamps[i]), value)

    async def emit(self, alerts: Sequence[Alert]) -> None:
        if self.deaf:
            raise LimitExceeded("records cannot be used")
        self.emitted.append(list(alerts))

    async def start(self, rules: str | list[Group], **settings: Any) -> None:
        """Open the records and put rules in force, as a process does that starts."""
        self.records = await Records.open(self.path)
        settings = {"external_labels": Labels.of(dc="x"), "external_url": "http://v:1/p", **settings}
        self.rules = Rules(self.ask, self.append, self.emit, self.records, self.clock, **settings)
        await self.rules.apply(parse(rules, name="rules.yml") if isinstance(rules, str) else rules)

    async def stop(self) -> None:
        """End, as if the process did."""
        await self.rules.close()
        await self.records.close()

    def put(self, at: int, value: float, **labels: str) -> None:
        """One sample, `at` ms after T0."""
        self.storage.add(Labels.of(labels), T0 + at, value)

    async def tick(self, at: int) -> list[str]:
        """Evaluate `at` ms after T0; answers the alerts told meanwhile, as `firing {labels}`."""
        before = len(self.emitted)
        await self.rules.evaluate(T0 + at)
        told = itertools.chain.from_iterable(self.emitted[before:])
        return [f"{a.status(T0 + at)} {a.labels}" for a in told]

    def value(self, at: int, selector: str) -> dict[str, float]:
        """What a query answers, by series."""
        return {str(labels): floats[0] for labels, _, floats in self.engine.instant("default", selector, T0 + at).rows()}


@pytest.fixture
async def world(empty_records: Path) -> AsyncIterator[World]:
    made = World(empty_records, ManualClock(T0 / 1000))
    yield made
    if hasattr(made, "rules"):
        await made.stop()
    made.engine.close()


@pytest.fixture
def expanded() -> Callable[[list[str]], list[float]]:
    """`["3", "0x2"]` of the alert generator's cases as values: a value, or N further samples each `a` above the one before."""

    def expand(items: list[str]) -> list[float]:
        out: list[float] = []
        for item in items:
            step, x, count = item.partition("x")
            if not x:
                out.append(float(item))
            else:
                out += [out[-1] + float(step) * n for n in range(1, int(count) + 1)]
        return out

    return expand
