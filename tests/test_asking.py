"""How other rooms ask queries: by tenant, on the threads they are given, with answers as each of them takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vedette.asking import Asking, History
from vedette.clock import ManualClock
from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.promql.engine import Engine
from vedette.promql.settings import PromqlSettings
from vedette.promql.standing import Standing
from vedette.storage.engine import Engine as Storage
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000_000
ROWS = [Labels.of(__name__="m", i=str(i)) for i in range(3)]


@pytest.fixture
async def asking(tmp_path: Path) -> Any:
    clock = ManualClock(NOW / 1000)
    storage = Storage(StorageSettings(data=tmp_path), clock)
    engine = Engine(storage, PromqlSettings(), clock)
    await storage.start()
    await storage.append(SampleBatch.of(canonical("team"), ROWS, [NOW] * 3, [0.0, 1.0, 2.0]))
    threads: list[str] = []

    async def run(function: Any, *args: Any) -> Any:
        threads.append(function.__name__)
        return function(*args)

    yield Asking(engine, storage, run, clock), threads
    engine.close()
    await storage.close()


async def test_each_tenant_is_asked_of_its_own_and_nothing_runs_on_the_loop(asking: Any) -> None:
    questions, ran = asking
    assert list(await questions.metrics("team")) == ["m"]
    assert list(await questions.metrics("default")) == []
    found = (await questions.evaluate("team", "sum(m)", NOW)).rows()
    assert [float(values[-1]) for _, _, values in found] == [3.0]
    assert list((await questions.evaluate("default", "sum(m)", NOW)).rows()) == []
    assert len(await questions.ask("team", [Standing("m > 0"), Standing("m > 5")], NOW)) == 2
    # Plots are of the rules that come from files: the default tenant's.
    assert list(await questions.plotted("m", NOW - 60_000, NOW, 60_000)) == []
    assert len(ran) == 7, ran


async def test_backtests_read_ranges_and_moments(asking: Any) -> None:
    history = History(asking[0].engine, "team")
    assert history.instant("sum(m)", NOW) == [(Labels.of(), 3.0)]
    assert history.instant("1 + 1", NOW) == [(Labels.of(), 2.0)]
    assert len(list(history.range("m", NOW - 60_000, NOW, 60_000).rows())) == 3
    with pytest.raises(BadInput, match="no vector or scalar"):
        history.instant("m[5m]", NOW)
