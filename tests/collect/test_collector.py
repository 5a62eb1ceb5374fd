"""The collector over real HTTP on loopback, at the pace of a manual clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vedette import configfile
from vedette.clock import ManualClock
from vedette.collect.collector import Collector
from vedette.collect.config import CollectConfig, InternalTarget, ScrapeConfigFile
from vedette.collect.own import SCRAPER
from vedette.model.labels import Labels

Until = Callable[..., Awaitable[None]]


def config(text: str, **names: Any) -> CollectConfig:
    return CollectConfig.of(scrape_configs=configfile.parse(text % names if names else text, ScrapeConfigFile).scrape_configs)


ONE = """
scrape_configs:
  - job_name: one
    scrape_interval: 10s
    static_configs:
      - targets: ["%(address)s"]
        labels: {env: test}
"""


class Run:
    """A collector on a manual clock, and `tick`: let an interval go by and wait until it is stored."""

    def __init__(self, memory: Any, until: Until) -> None:
        self.clock = ManualClock()
        self.memory = memory
        self.collector = Collector(memory.append, self.clock)
        self._until = until

    async def tick(self, seconds: float = 10.0) -> None:
        before = {id(loop): loop.scrapes for loop in self.collector._loops()}
        await self.clock.advance(seconds)
        await self._until(lambda: all(loop.scrapes > before[id(loop)] for loop in self.collector._loops()), 15)
        await self.clock.advance(0)


@pytest.fixture
async def run(memory: Any, until: Until) -> Any:
    made = Run(memory, until)
    yield made
    await made.collector.close()


async def test_scrapes_a_target_and_reports_on_it(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = '# TYPE a counter\na{x="1"} 1\nb 2.5\n'
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    await run.tick()
    assert memory.of("a") == [1.0, 1.0]
    assert next(iter(s for s in memory.samples if s.metric == "a")) == Labels.of(
        __name__="a", x="1", job="one", env="test", instance=site.address
    )
    assert memory.of("up") == [1.0, 1.0]
    assert memory.of("scrape_samples_scraped") == [2.0, 2.0]
    assert memory.of("scrape_samples_post_metric_relabeling") == [2.0, 2.0]
    assert memory.of("scrape_series_added") == [2.0, 0.0]
    assert memory.metadata == {"a": "counter"}
    stamps = [t for t, _ in memory.samples[Labels.of(__name__="up", job="one", env="test", instance=site.address)]]
    assert stamps[1] - stamps[0] == 10_000
    (state,) = run.collector.targets()
    assert (state.health, state.last_error, state.samples, state.pool) == ("up", "", 2, "one")
    assert state.url == f"http://{site.address}/metrics"
    assert site.connections == 1, "the connection is kept"


async def test_a_series_that_vanishes_turns_stale(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = "a 1\nb 2\n"
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    site.pages["/metrics"] = "a 1\n"
    await run.tick()
    await run.tick()
    site.pages["/metrics"] = "a 1\nb 3\n"
    await run.tick()
    assert memory.of("b") == [2.0, "stale", 3.0]
    assert memory.of("a") == [1.0, 1.0, 1.0, 1.0]
    assert memory.of("scrape_series_added") == [2.0, 0.0, 0.0, 1.0]


async def test_a_failed_scrape_turns_all_stale_and_says_why(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = "a 1\n"
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    site.pages["/metrics"] = 'a{x="1} 1\n'
    await run.tick()
    (state,) = run.collector.targets()
    assert state.health == "down"
    assert "line 1, column 5: label value lacks its closing quote" in state.last_error
    site.pages["/metrics"] = "a 2\n"
    await run.tick()
    assert memory.of("a") == [1.0, "stale", 2.0]
    assert memory.of("up") == [1.0, 0.0, 1.0]


async def test_samples_with_their_own_time_are_not_tracked(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = "a 1 1699999999000\n"
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    site.pages["/metrics"] = ""
    await run.tick()
    assert memory.of("a") == [1.0]
    assert next(v for s, v in memory.samples.items() if s.metric == "a") == [(1_699_999_999_000, 1.0)]


async def test_samples_far_ahead_of_our_clock_are_left_out(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = "a 1 1700000900000\nb 2 1700000300000\nc 3\n"
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    assert (memory.of("a"), memory.of("b"), memory.of("c")) == ([], [2.0], [3.0])
    assert memory.of("up") == [1.0]
    assert memory.of("scrape_samples_scraped") == [3.0]


async def test_a_target_that_goes_away_turns_stale_and_others_go_on(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = "a 1\n"
    two = ONE.replace('["%(address)s"]', '["%(address)s", "%(other)s"]')
    other = f"localhost:{site.port}"
    await run.collector.apply(config(two, address=site.address, other=other))
    await run.tick()
    state = next(s for s in run.collector.targets() if s.labels.get("instance") == site.address)
    await run.collector.apply(config(ONE, address=site.address))
    assert memory.of("a", instance=other) == [1.0, "stale"]
    assert memory.of("up", instance=other) == [1.0, "stale"]
    assert run.collector.targets() == [state], "the one that stays is not disturbed"
    await run.tick()
    assert memory.of("a", instance=site.address) == [1.0, 1.0]
    resolved = memory.resolved
    await run.tick()
    assert memory.resolved == resolved, "the steady state resolves nothing"


async def test_a_changed_job_hands_its_series_over(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = "a 1\nb 1\n"
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    drops = ONE + "    metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]\n"
    await run.collector.apply(config(drops, address=site.address))
    assert memory.of("a") == [1.0]
    await run.tick()
    assert memory.of("a") == [1.0, 1.0]
    assert memory.of("b") == [1.0, "stale"]
    assert memory.of("up") == [1.0, 1.0]
    assert memory.of("scrape_samples_post_metric_relabeling") == [2.0, 1.0]


async def test_a_scrape_says_whose_it_is(run: Run, site: Any, memory: Any) -> None:
    """So a server that scrapes itself can tell."""
    site.pages["/metrics"] = "a 1\n"
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    assert [headers[SCRAPER] for _, _, headers, _ in site.requests] == [run.collector.mark]
    assert Collector(memory.append, run.clock).mark != run.collector.mark


async def test_closing_is_a_shutdown_and_leaves_no_stale_markers(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = "a 1\n"
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    await run.collector.close()
    assert memory.of("a") == [1.0]


async def test_internal_targets_are_read_without_http(run: Run, memory: Any) -> None:
    await run.collector.apply(CollectConfig(internal=(InternalTarget("vedette", "me", lambda: b"own 1\n", 5000),)))
    await run.tick(0)
    assert memory.of("own", job="vedette", instance="me") == [1.0]
    assert memory.of("up", job="vedette") == [1.0]
    (state,) = run.collector.targets()
    await run.collector.apply(CollectConfig(internal=(InternalTarget("vedette", "me", lambda: b"own 2\n", 5000),)))
    assert run.collector.targets()[0] is state, "a reload does not disturb it"
    await run.collector.apply(CollectConfig())
    assert memory.of("own") == [1.0, "stale"]


async def test_an_internal_target_has_a_rate_a_second_after_the_start(run: Run, memory: Any) -> None:
    """Else who asks how busy the machine is would hear nothing for up to an interval."""
    seconds = iter(range(100))
    await run.collector.apply(CollectConfig(internal=(InternalTarget("vedette", "me", lambda: b"own %d\n" % next(seconds), 60_000),)))
    await run.tick(0)
    assert memory.of("own") == [0.0]
    await run.tick(1)
    assert memory.of("own") == [0.0, 1.0]
    await run.tick(59)  # its place in the interval came, once
    assert memory.of("own") == [0.0, 1.0, 2.0]
    await run.tick(60)
    assert memory.of("own") == [0.0, 1.0, 2.0, 3.0]
    stamps = [at for labels, samples in memory.samples.items() if labels.metric == "own" for at, _ in samples]
    assert stamps[1] - stamps[0] == 1000 and stamps[3] - stamps[2] == 60_000


@pytest.mark.parametrize("interval_ms", [100, 1000])
async def test_where_the_next_scrape_is_near_no_other_comes_before_it(run: Run, memory: Any, interval_ms: int) -> None:
    await run.collector.apply(CollectConfig(internal=(InternalTarget("vedette", "me", lambda: b"own 1\n", interval_ms),)))
    await run.tick(0)
    before = len(memory.of("own"))
    assert before <= 1
    await run.tick(interval_ms / 1000)
    assert len(memory.of("own")) == before + 1


async def test_an_internal_target_that_breaks_is_down(run: Run, memory: Any) -> None:
    def broken() -> bytes:
        raise ValueError("a collector of ours")

    await run.collector.apply(CollectConfig(internal=(InternalTarget("vedette", "me", broken, 5000),)))
    await run.tick(0)
    assert run.collector.targets()[0].last_error == "internal error: a collector of ours"
    assert memory.of("up", job="vedette") == [0.0]
    assert run.collector.failures == 1


async def test_what_the_storage_refuses_is_owed(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = "a 1\n"
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    memory.full = True
    await run.tick()
    assert run.collector.targets()[0].last_error == "the disk is full"
    assert run.collector.failures == 1
    memory.full = False
    site.pages["/metrics"] = ""
    await run.tick()
    assert memory.of("a") == [1.0, "stale"], "the marker that could not be stored came later"
    assert memory.of("up") == [1.0, 1.0]


async def test_limits_fail_the_scrape_whole(run: Run, site: Any, memory: Any) -> None:
    site.pages["/metrics"] = "a 1\nb 2\nc 3\n"
    await run.collector.apply(config(ONE + "    sample_limit: 2\n", address=site.address))
    await run.tick()
    (state,) = run.collector.targets()
    assert state.last_error == "sample_limit exceeded (3 samples, limit 2)"
    assert memory.of("a") == []
    drops = "    sample_limit: 2\n    metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]\n"
    await run.collector.apply(config(ONE + drops, address=site.address))
    await run.tick()
    assert memory.of("a") == [1.0]
    assert memory.of("up") == [0.0, 1.0]
    await run.collector.apply(config(ONE + "    label_value_length_limit: 3\n", address=site.address))
    await run.tick()
    assert "label_value_length_limit exceeded (metric: a" in run.collector.targets()[0].last_error
    assert memory.of("a") == [1.0, "stale"]


async def test_several_targets_are_spread_over_the_interval(run: Run, site: Any) -> None:
    many = ", ".join(f'"127.0.0.{i}:{site.port}"' for i in range(1, 33))
    await run.collector.apply(config(ONE.replace('"%(address)s"', many)))
    waits = sorted(loop.first_wait() for loop in run.collector._loops())
    assert waits[0] >= 0 and waits[-1] < 10
    assert max(b - a for a, b in itertools.pairwise(waits)) < 3, "no crowd and no gap"


async def test_loops_leave_out_what_they_missed() -> None:
    clock = ManualClock()
    scraped: list[float] = []

    async def slow() -> Any:
        scraped.append(clock.now())
        await clock.sleep(25)
        from vedette.collect.fetch import Fetched

        return Fetched(b"")

    from vedette.collect.scrape import ScrapeLoop, ScrapeSettings
    from vedette.collect.series import SeriesRules
    from vedette.collect.targets import Target
    from vedette.model.samples import Appended, canonical

    async def append(batch: Any) -> Appended:
        import numpy as np

        return Appended(ids=np.arange(batch.series_count))

    labels = Labels.of(job="j", instance="i")
    target = Target(labels, "http://i/metrics", 10_000, 10_000, labels)
    loop = ScrapeLoop("j", target, SeriesRules(labels), ScrapeSettings(), fetch=slow, append=append, clock=clock, report_keys=canonical())
    loop._warm = True
    first = loop.first_wait()
    task = asyncio.create_task(loop.run())
    await clock.advance(100)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    starts = [round(t - 1_700_000_000.0 - first, 3) for t in scraped]
    assert starts[:4] == [0.0, 25.0, 50.0, 75.0], "one begins when the last has ended, and none is made up for"


async def test_created_lines_are_starts_where_those_are_wanted(memory: Any, until: Until, site: Any) -> None:
    batches: list[Any] = []

    async def append(batch: Any) -> Any:
        batches.append(batch)
        return await memory.append(batch)

    run = Run(memory, until)
    run.collector = Collector(append, run.clock, starts=True)
    site.kind = "application/openmetrics-text; version=1.0.0"
    site.pages["/metrics"] = "# TYPE a counter\na_total 1\na_created 17\n# EOF\n"
    await run.collector.apply(config(ONE, address=site.address))
    await run.tick()
    assert memory.of("a_total") == [1.0]
    assert memory.of("a_created") == []
    assert [b.starts.tolist() for b in batches if b.starts is not None] == [[17_000]]
    await run.collector.close()
