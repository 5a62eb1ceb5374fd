"""The tree of `vedette query --explain`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vedette.cli.explain import show, size
from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.promql.engine import Engine
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings


def printed(expr: str) -> list[str]:
    storage = MemoryStorage()
    for i in range(3):
        storage.add(Labels.of(__name__="m", i=str(i)), 0, 1.0)
    engine = Engine(storage, PromqlSettings(), ManualClock())
    try:
        statistics = engine.range("t", expr, 0, 120_000, 60_000).statistics
    finally:
        engine.close()
    out = io.StringIO()
    timings = {"execTotalTime": 0.0125, "execQueueTime": 0.001}
    samples = {"samplesRead": 3, "peakSamples": 12, "totalQueryableSamples": 9}
    show(Console(file=out, width=3000), {"explain": statistics.explained(), "stats": {"timings": timings, "samples": samples}})
    return out.getvalue().splitlines()


def test_each_operation_stands_above_those_that_feed_it() -> None:
    assert printed('sum by (i) (m) / ignoring (i) group_left () count(m{i!="[x]"})') == [
        "/  3 rows, 3 steps, 81 B, 0.00 ms",
        "├── sum by (i)  3 rows, 3 steps, 81 B, 0.00 ms",
        "│   └── m  3 rows, 3 steps, streamed, read 3 samples of 3 series in 0.00 ms",
        "└── count  1 rows, 3 steps, 27 B, 0.00 ms",
        '    └── m{i!="[x]"}  3 rows, 3 steps, streamed, read 3 samples of 3 series in 0.00 ms',
        "12.5 ms, of which 1.0 ms in the queue; 3 samples read, 12 held at most, 9 seen",
    ]


def test_what_feeds_several_stands_once() -> None:
    lines = printed("m + m")
    assert lines[1].startswith("├── m  3 rows")
    assert lines[2] == "└── m (above)"


def test_deep_queries_are_shown() -> None:
    assert sum("unary -" in line for line in printed("-(" * 300 + "m" + ")" * 300)) == 300


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (1 << 42, "4096.0 GiB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
