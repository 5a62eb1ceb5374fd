"""What targets say of their metrics: kept as long as they last said it, once for all that say the same."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from vedette.clock import ManualClock
from vedette.collect.families import Families
from vedette.collect.fetch import Fetched
from vedette.collect.scrape import ScrapeLoop, ScrapeSettings
from vedette.collect.series import SeriesRules
from vedette.collect.targets import Target
from vedette.errors import LimitExceeded, Undeliverable
from vedette.model.labels import Labels
from vedette.model.samples import Appended, MetricMetadata, SampleBatch, canonical

A, B = MetricMetadata("a_total", "counter", "All."), MetricMetadata("b", "gauge", "", "seconds")


def again(entry: MetricMetadata) -> MetricMetadata:
    """An equal object that is another."""
    return MetricMetadata(entry.metric, entry.type, entry.help, entry.unit)


def test_equal_entries_are_one_object_as_long_as_somebody_holds_it() -> None:
    families = Families()
    first = families.shared([A, B])
    second = families.shared([again(B), again(A)])
    assert second == (B, A)
    assert (second[0] is first[1], second[1] is first[0]) == (True, True)
    held = families.shared([MetricMetadata("c")])
    assert len(families) == 3
    del held
    gc.collect()
    assert len(families) == 2


def test_entries_of_one_hash_stay_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.collect.families.hash", lambda _: 1, raising=False)
    families = Families()
    assert families.shared([A, B, again(B)]) == (A, B, B)


class Scraped:
    """A loop whose target answers `body` or, where that is an exception, fails; storage raises `refusal` where there is one."""

    def __init__(self) -> None:
        self.body: bytes | Exception = b""
        self.kind: Any = "text"
        self.refusal: Exception | None = None
        self.stamp = 0
        self.loop = self.made()

    def made(self) -> ScrapeLoop:
        labels = Labels.of(job="j", instance="i")
        target = Target(labels, "http://i/metrics", 10_000, 10_000, labels)
        rules, settings = SeriesRules(labels), ScrapeSettings()
        return ScrapeLoop("j", target, rules, settings, fetch=self.fetch, append=self.append, clock=ManualClock(), report_keys=canonical())

    async def fetch(self) -> Fetched:
        if isinstance(self.body, Exception):
            raise self.body
        return Fetched(self.body, self.kind)

    async def append(self, batch: SampleBatch) -> Appended:
        import numpy as np

        if self.refusal is not None and batch.metadata:
            raise self.refusal
        return Appended(np.arange(batch.series_count), samples=batch.sample_count, dropped={})

    async def told(self, body: bytes | Exception) -> list[MetricMetadata]:
        self.body, self.stamp = body, self.stamp + 10_000
        await self.loop.scrape(self.stamp)
        return list(self.loop.state.metadata)


async def test_a_target_is_known_by_its_last_answer() -> None:
    scraped = Scraped()
    assert list(scraped.loop.state.metadata) == []
    both = b"# TYPE a_total counter\n# HELP a_total All.\na_total 1\n# HELP b some\\nhelp\nb 1\n"
    known = [A, MetricMetadata("b", "unknown", "some\nhelp")]
    assert await scraped.told(both) == known
    assert await scraped.told(both.replace(b" 1\n", b" 2\n")) == known, "unchanged lines are not read again"
    assert await scraped.told(Undeliverable("gone", retryable=True, reason="gone")) == known, "a target that is down is what it was"
    scraped.refusal = LimitExceeded("full", retry_after=1)
    assert await scraped.told(b"# TYPE a_total gauge\na_total 1\n") == known, "what is not stored is not told"
    scraped.refusal = None
    assert await scraped.told(b"# TYPE a_total gauge\na_total 1\n") == [MetricMetadata("a_total", "gauge")]
    assert await scraped.told(b"a_total 1\n") == []
    scraped.kind = "openmetrics"
    assert await scraped.told(b"# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 1\n# EOF\n") == [
        MetricMetadata("b_seconds", "gauge", "", "seconds")
    ]


async def test_a_changed_job_still_knows_what_its_target_said() -> None:
    scraped = Scraped()
    await scraped.told(b"# TYPE a_total counter\n# HELP a_total All.\na_total 1\n")
    other = scraped.made()
    other.inherit(scraped.loop)
    assert other.state.metadata == (A,)
