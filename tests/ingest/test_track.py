"""Tracked metrics: what a client would expose after each observation is what storage holds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.configfile import parse
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.accumulate import bound_text
from vedette.ingest.settings import TrackSettings
from vedette.ingest.track import Observation, Tracked, Tracker, observation
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.matchers import match_labels
from vedette.model.samples import STALE, Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet
from vedette.storage.limits import TenantLimit

NOW = 1_700_000_000.0


class Shelf:
    """Storage enough for a tracker: append, select, metadata."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, Labels], list[tuple[int, float]]] = {}
        self.known: dict[tuple[str, str], str] = {}
        self.appends = 0
        self.failing: Exception | None = None
        self.full_of = ""
        self.reason = "series_limit"

    async def append(self, batch: SampleBatch) -> Appended:
        self.appends += 1
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing
        raw, ids = batch.buffer.tobytes(), np.arange(batch.series_count)
        for i, (a, b) in enumerate(zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)):
            labels = batch.keyspace.resolve(raw[a:b])
            assert labels is not None
            if self.full_of and self.full_of in labels.metric:
                ids[i] = -1
                continue
            rows = self.samples.setdefault((batch.keyspace.tenant, labels), [])
            assert not rows or rows[-1][0] < batch.timestamps[i], "a second value for a time"
            rows.append((int(batch.timestamps[i]), float(batch.values[i])))
        for m in batch.metadata:
            self.known[batch.keyspace.tenant, m.metric] = m.type
        lost = int((ids < 0).sum())
        return Appended(ids, samples=batch.sample_count - lost, dropped={self.reason: lost} if lost else {})

    def select(self, tenant: str, matchers: Any, start: int, end: int) -> SeriesSet:
        found = {
            labels: [s for s in rows if start <= s[0] <= end]
            for (t, labels), rows in self.samples.items()
            if t == tenant and match_labels(tuple(matchers), labels)
        }
        flat = [s for rows in found.values() for s in rows]
        offsets = np.cumsum([0, *map(len, found.values())], dtype=np.int64)
        return SeriesSet(
            LabelTable.from_labels(list(found)), offsets, np.array([t for t, _ in flat]), np.array([v for _, v in flat], float)
        )

    def metadata(self, tenant: str, metric: str | None = None) -> list[MetricMetadata]:
        return [MetricMetadata(m, kind) for (t, m), kind in self.known.items() if t == tenant and m == metric]

    def last(self, tenant: str = "default") -> dict[str, float]:
        return {str(labels): rows[-1][1] for (t, labels), rows in self.samples.items() if t == tenant}


async def run(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


def tracker(shelf: Shelf, clock: ManualClock, **settings: Any) -> Tracker:
    return Tracker(shelf, shelf.append, run=run, clock=clock, settings=TrackSettings(**settings))  # type: ignore[arg-type]


def seen(name: str, kind: str, value: float, **labels: str) -> Observation:
    return observation(name, kind, value, labels=labels)


class TestObservation:
    def test_labels_come_together(self) -> None:
        got = observation("hits", "counter", 1, labels={"path": "/"}, service="shop", tenant_id="t1")
        assert got.labels == Labels.of(__name__="hits", path="/", service="shop", tenant_id="t1")

    @pytest.mark.parametrize(
        ("labels", "expected"),
        [
            ({"service": "gateway"}, {"service": "gateway", "job": "shop"}),
            ({"service": "shop"}, {"service": "shop"}),
            ({"service": "gateway", "job": "shop"}, {"service": "gateway", "job": "shop"}),
            ({"service": "gateway", "job": "x"}, {"service": "gateway", "job": "x", "source_service": "shop"}),
        ],
    )
    def test_a_service_named_twice_keeps_both_names(self, labels: Mapping[str, str], expected: Mapping[str, str]) -> None:
        assert observation("hits", "gauge", 1, labels=labels, service="shop").labels.without("__name__") == Labels.of(expected)

    @pytest.mark.parametrize(
        ("fields", "where"),
        [
            ({"name": ""}, "name"),
            ({"name": "x" * 5000}, "name"),
            ({"kind": "meter"}, "type"),
            ({"value": math.nan}, "value"),
            ({"value": -math.inf}, "value"),
            ({"kind": "counter", "value": -1.0}, "value"),
            ({"labels": {"": "x"}}, "labels."),
            ({"labels": {"__name__": "x"}}, "labels.__name__"),
            ({"kind": "histogram", "labels": {"le": "1"}}, "labels.le"),
            ({"kind": "summary", "labels": {"quantile": "1"}}, "labels.quantile"),
            ({"labels": {"a": "x" * 5000}}, "labels.a"),
            ({"labels": {f"l{i}": "x" for i in range(65)}}, "labels"),
            ({"labels": {"tenant_id": "a"}, "tenant_id": "b"}, "tenant_id"),
            ({"labels": {"service": "a", "job": "b", "source_service": "c"}, "service": "d"}, "service"),
        ],
    )
    def test_bad_fields_are_pointed_at(self, fields: dict[str, Any], where: str) -> None:
        given = {"name": "x", "kind": "gauge", "value": 1.0, "labels": {}, **fields}
        name, kind, value = given.pop("name"), given.pop("kind"), given.pop("value")
        with pytest.raises(BadInput) as caught:
            observation(name, kind, value, **given)
        assert caught.value.where == where


class TestKinds:
    async def test_a_counter_adds_up(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        for value in (1, 2.5, 0):
            assert await track.track("default", [seen("hits_total", "counter", value, path="/")]) == [None]
        assert [v for _, v in shelf.samples["default", Labels.of(__name__="hits_total", path="/")]] == [0, 1, 3.5, 3.5]
        assert shelf.known["default", "hits_total"] == "counter"

    async def test_a_gauge_is_set(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        await track.track("default", [seen("heat", "gauge", 20), seen("heat", "gauge", -3)])
        assert shelf.last() == {"heat": -3}

    async def test_a_histogram_counts_into_its_buckets(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock, buckets=[0.1, 1.0, 10.0])
        await track.track("default", [seen("took", "histogram", v) for v in (0.05, 0.1, 0.5, 5, 99)])
        assert shelf.last() == {
            'took_bucket{le="0.1"}': 2,
            'took_bucket{le="1"}': 3,
            'took_bucket{le="10"}': 4,
            'took_bucket{le="+Inf"}': 5,
            "took_sum": pytest.approx(104.65),
            "took_count": 5,
        }

    async def test_the_documents_buckets_are_the_default(self, shelf: Shelf, clock: ManualClock) -> None:
        await tracker(shelf, clock).track("default", [seen("took", "histogram", 0.042)])
        bounds = [labels.get("le") for _, labels in shelf.samples if labels.metric == "took_bucket"]
        assert bounds == ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"]

    async def test_buckets_of_one_metric(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock, metric_buckets={"size": [100.0]})
        await track.track("default", [seen("size", "histogram", 7)])
        assert 'size_bucket{le="100"}' in shelf.last()
        assert len(shelf.samples) == 4

    async def test_a_summary_tells_quantiles_of_its_last_observations(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock, max_points=100)
        await track.track("default", [seen("took", "summary", v) for v in range(1000)])
        last = shelf.last()
        assert (last["took_count"], last["took_sum"]) == (1000, 499_500)
        recent = np.arange(900, 1000)
        for quantile in (0.5, 0.9, 0.95, 0.99):
            assert last[f'took{{quantile="{quantile}"}}'] == pytest.approx(np.quantile(recent, quantile))

    async def test_one_metric_has_one_type(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        first, second = await track.track("default", [seen("x", "counter", 1), seen("x", "gauge", 1)])
        assert first is None
        assert isinstance(second, BadInput)
        assert "x is a counter" in str(second)
        (later,) = await tracker(shelf, clock).track("default", [seen("x", "gauge", 1)])
        assert isinstance(later, BadInput), "the type is remembered by storage"
        assert track.dropped == {"type": 1}


class TestBirth:
    """What only rises begins at zero, a minute before it is first seen: else its first rise would never be counted."""

    async def test_of_every_kind(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock, buckets=[1.0])
        kinds = ("counter", "gauge", "histogram", "summary")
        await track.track("default", [seen(kind, kind, 5) for kind in kinds])
        await track.track("default", [seen(kind, kind, 5) for kind in kinds])
        now, rows = int(NOW * 1000), {str(labels): samples for (_, labels), samples in shelf.samples.items()}
        assert rows["counter"] == [(now - 60_000, 0), (now, 5), (now + 1, 10)]
        assert rows["gauge"] == [(now, 5), (now + 1, 5)]
        assert rows["histogram_sum"] == rows["summary_sum"] == [(now - 60_000, 0), (now, 5), (now + 1, 10)]
        assert rows["histogram_count"] == rows["summary_count"] == [(now - 60_000, 0), (now, 1), (now + 1, 2)]
        assert rows['histogram_bucket{le="1"}'] == [(now - 60_000, 0), (now, 0), (now + 1, 0)]
        assert rows['summary{quantile="0.5"}'] == [(now, 5), (now + 1, 5)]

    async def test_is_not_repeated_after_a_restart(self, shelf: Shelf, clock: ManualClock) -> None:
        for _ in range(2):
            track = tracker(shelf, clock, buckets=[1.0])
            await track.track("default", [seen("hits", "counter", 1), seen("took", "histogram", 1), seen("size", "summary", 1)])
            await clock.advance(600)
        for name in ("hits", "took_count", "size_count"):
            assert [v for _, v in shelf.samples["default", Labels.of(__name__=name)]] == [0, 1, 2]

    async def test_waits_for_the_append_that_succeeds(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        shelf.failing = LimitExceeded("the disk is full", retry_after=1)
        with pytest.raises(LimitExceeded):
            await track.track("default", [seen("hits", "counter", 1)])
        shelf.failing = None
        await track.track("default", [seen("hits", "counter", 1)])
        assert [v for _, v in shelf.samples["default", Labels.of(__name__="hits")]] == [0, 1]


class TestRestart:
    async def test_a_counter_goes_on(self, shelf: Shelf, clock: ManualClock) -> None:
        await tracker(shelf, clock).track("default", [seen("hits", "counter", 5, a="1"), seen("hits", "counter", 7, a="1", b="2")])
        await clock.advance(3 * 86_400)
        await tracker(shelf, clock).track("default", [seen("hits", "counter", 1, a="1")])
        assert shelf.last() == {'hits{a="1"}': 6, 'hits{a="1", b="2"}': 7}

    async def test_a_stale_marker_is_no_value(self, shelf: Shelf, clock: ManualClock) -> None:
        await tracker(shelf, clock).track("default", [seen("hits", "counter", 5)])
        shelf.samples["default", Labels.of(__name__="hits")].append((int(NOW * 1000) + 500, STALE))
        await clock.advance(1)
        await tracker(shelf, clock).track("default", [seen("hits", "counter", 1)])
        assert shelf.last() == {"hits": 6}

    async def test_a_histogram_goes_on(self, shelf: Shelf, clock: ManualClock) -> None:
        await tracker(shelf, clock, buckets=[1.0, 2.0]).track("default", [seen("took", "histogram", v) for v in (0.5, 1.5, 9)])
        await clock.advance(60)
        await tracker(shelf, clock, buckets=[1.0, 2.0]).track("default", [seen("took", "histogram", 1.5)])
        last = shelf.last()
        assert [last[f'took_bucket{{le="{le}"}}'] for le in ("1", "2", "+Inf")] == [1, 3, 4]
        assert (last["took_sum"], last["took_count"]) == (12.5, 4)

    async def test_a_histogram_of_other_buckets_begins_anew(self, shelf: Shelf, clock: ManualClock) -> None:
        await tracker(shelf, clock, buckets=[1.0, 2.0]).track("default", [seen("took", "histogram", 0.5)])
        await clock.advance(60)
        await tracker(shelf, clock, buckets=[1.0, 3.0]).track("default", [seen("took", "histogram", 2.5)])
        last = shelf.last()
        assert [last[f'took_bucket{{le="{le}"}}'] for le in ("1", "3", "+Inf")] == [0, 1, 1]
        assert last["took_count"] == 1

    async def test_a_summary_keeps_its_sum(self, shelf: Shelf, clock: ManualClock) -> None:
        await tracker(shelf, clock).track("default", [seen("took", "summary", v) for v in (1, 2)])
        await clock.advance(60)
        await tracker(shelf, clock).track("default", [seen("took", "summary", 10)])
        last = shelf.last()
        assert (last["took_sum"], last["took_count"], last['took{quantile="0.5"}']) == (13, 3, 10)


class TestTogether:
    async def test_requests_that_wait_share_an_append(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        await asyncio.gather(*(track.track("default", [seen("hits", "counter", 1)]) for _ in range(50)))
        assert shelf.last() == {"hits": 50}
        assert shelf.appends <= 3
        assert track.collected == 50

    async def test_a_failed_append_leaves_no_trace(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        await track.track("default", [seen("hits", "counter", 1), seen("took", "histogram", 1)])
        shelf.failing = LimitExceeded("the disk is full", retry_after=1)
        outcomes = await asyncio.gather(
            *(track.track("default", [seen("hits", "counter", 10), seen("took", "histogram", 1)]) for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(o, LimitExceeded) for o in outcomes)
        shelf.failing = None
        await track.track("default", [seen("hits", "counter", 100), seen("took", "histogram", 1)])
        assert (shelf.last()["hits"], shelf.last()["took_count"]) == (101, 2)
        assert (track.collected, track.series) == (4, 2)

    async def test_what_the_tenants_limits_keep_out_is_told_and_not_remembered(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        shelf.full_of = "new"
        taken, refused = await track.track("default", [seen("old", "counter", 1), seen("new", "counter", 1)])
        assert taken is None
        assert isinstance(refused, TenantLimit)
        assert refused.retry_after
        assert (track.collected, track.dropped, track.series) == (1, {"series_limit": 1}, 1)
        shelf.reason = "label_value_too_long"
        (refused,) = await track.track("default", [seen("new", "counter", 1)])
        assert isinstance(refused, BadInput)
        assert "label value too long" in str(refused)
        shelf.full_of = ""
        assert await track.track("default", [seen("new", "counter", 1)]) == [None]
        assert shelf.last()["new"] == 1

    async def test_a_fault_reaches_its_request_and_holds_up_no_other(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        shelf.failing = RuntimeError("broken")
        outcomes = await asyncio.gather(*(track.track("default", [seen("hits", "counter", 1)]) for _ in range(2)), return_exceptions=True)
        assert all(isinstance(o, Exception) for o in outcomes)
        shelf.failing = None
        assert await track.track("default", [seen("hits", "counter", 1)]) == [None]
        assert shelf.last() == {"hits": 1}

    async def test_tenants_are_strangers(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        for tenant, value in (("alice", 1), ("bob", 10), ("alice", 1)):
            await track.track(tenant, [seen("hits", "counter", value)])
        assert (shelf.last("alice"), shelf.last("bob")) == ({"hits": 2}, {"hits": 10})
        assert await track.track("carol", [seen("hits", "gauge", 1)]) == [None], "types are each tenant's own"

    async def test_each_tenants_counts_are_its_own(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        await track.track("alice", [seen("hits", "counter", 1, n="1"), seen("hits", "counter", 1, n="2"), seen("hits", "gauge", 1)])
        await track.track("bob", [seen("hits", "counter", 1)])
        assert (track.of("alice"), track.of("bob")) == (Tracked(2, 1, 2, 1, 2), Tracked(1, 0, 1, 1, 1))
        assert track.of("carol") == Tracked(0, 0, 0, 0, 0)
        assert (track.collected, track.dropped, track.series) == (3, {"type": 1}, 3)


class TestLimit:
    async def test_beyond_it_new_series_are_refused_and_old_ones_go_on(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock, max_series=2)
        outcomes = await track.track("default", [seen("x", "counter", 1, n=str(i % 3)) for i in range(6)])
        assert [o is None for o in outcomes] == [True, True, False, True, True, False]
        assert isinstance(outcomes[2], LimitExceeded)
        assert (track.series, track.dropped) == (2, {"series_limit": 2})

    async def test_what_was_idle_for_a_day_makes_room_and_is_not_forgotten(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock, max_series=2)
        await track.track("default", [seen("x", "counter", 1, n="0"), seen("x", "counter", 1, n="1")])
        await clock.advance(25 * 3600)
        outcomes = await track.track("default", [seen("x", "counter", 1, n="1"), seen("x", "counter", 1, n="2")])
        assert outcomes == [None, None]
        await clock.advance(25 * 3600)
        assert await track.track("default", [seen("x", "counter", 1, n="0")]) == [None]
        assert shelf.last() == {'x{n="0"}': 2, 'x{n="1"}': 2, 'x{n="2"}': 1}


class TestRefresh:
    async def test_idle_values_are_written_again_until_they_were_idle_for_a_day(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock)
        await track.track("default", [seen("hits", "counter", 3)])
        rows = shelf.samples["default", Labels.of(__name__="hits")]
        await clock.advance(12 * 3600)
        await track.refresh()
        assert [v for _, v in rows] == [0, 3, 3]
        await clock.advance(13 * 3600)
        await track.refresh()
        assert len(rows) == 3

    async def test_on_the_clock(self, shelf: Shelf, clock: ManualClock) -> None:
        async def here(function: Callable[..., Any], *args: Any) -> Any:
            return function(*args)  # a thread's answer would come at no turn of this clock

        track = Tracker(shelf, shelf.append, run=here, clock=clock, settings=TrackSettings())  # type: ignore[arg-type]
        track.start()
        await track.track("default", [seen("hits", "counter", 3)])
        await clock.advance(180)
        times = [t for t, _ in shelf.samples["default", Labels.of(__name__="hits")]]
        assert times == [int(NOW * 1000) + s * 1000 for s in (-60, 0, 60, 120, 180)]
        shelf.failing = LimitExceeded("the disk is full", retry_after=1)
        await clock.advance(60)
        shelf.failing = RuntimeError("broken")
        await clock.advance(60)
        assert track.failures == 2
        shelf.failing = None
        await clock.advance(60)
        assert len(shelf.samples["default", Labels.of(__name__="hits")]) == 6
        await track.close()
        await clock.advance(600)
        assert len(shelf.samples["default", Labels.of(__name__="hits")]) == 6

    async def test_never(self, shelf: Shelf, clock: ManualClock) -> None:
        track = tracker(shelf, clock, collection_interval=0)
        track.start()
        await track.track("default", [seen("hits", "counter", 3)])
        await clock.advance(3600)
        await track.close()
        assert shelf.appends == 1


class TestSettings:
    def test_from_a_file(self) -> None:
        got = parse("max_series: 5\nbuckets: [1, 2.5]\nmetric_buckets: {size: [10, 20]}", TrackSettings)
        assert (got.max_series, got.buckets, got.metric_buckets) == (5, [1.0, 2.5], {"size": [10.0, 20.0]})

    @pytest.mark.parametrize(
        "text",
        [
            "buckets: [2, 1]",
            "buckets: []",
            "buckets: [1, 1]",
            "metric_buckets: {a: [.inf]}",
            "max_series: 0",
            "batch_size: 0",
            "timeout: 0s",
        ],
    )
    def test_bad_ones_are_pointed_at(self, text: str) -> None:
        with pytest.raises(BadInput, match=rf"<text>:1:\d+: {text.split(':')[0]}"):
            parse(text, TrackSettings)


@pytest.mark.parametrize(("bound", "text"), [(0.005, "0.005"), (1.0, "1"), (2.5, "2.5"), (1e16, "1e+16"), (math.inf, "+Inf")])
def test_bounds_as_prometheus_writes_them(bound: float, text: str) -> None:
    assert bound_text(bound) == text
