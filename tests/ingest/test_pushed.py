"""Pushed groups: kept, checked against one another, written like scrapes, ended with stale markers, there again after a crash."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.clock import ManualClock, now_ms
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.door import Door
from vedette.ingest.pushed import Pushed
from vedette.ingest.pushgroups import Family, Group, Inconsistent, grouping, loaded, parsed
from vedette.ingest.socket_settings import PushedSettings
from vedette.model.histograms import CUSTOM_SCHEMA, NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import Appended, MetricMetadata, SampleBatch, is_stale
from vedette.records.database import Records
from vedette.storage.engine import Engine
from vedette.storage.limits import Limits, LimitsSettings, TenantLimit, TenantLimits
from vedette.storage.settings import StorageSettings

sys.path.insert(0, str(Path(__file__).parent.parent / "wire"))
from protos import messages

START = 1_700_000_000
JOB = Labels.of(job="backup")


class Place:
    """A storage and records, and a room between them."""

    def __init__(self, engine: Engine, records: Records, clock: ManualClock, limits: Limits) -> None:
        self.engine = engine
        self.records = records
        self.clock = clock
        self.refusals = 0
        self.settings = PushedSettings(max_groups=3)
        self.door = Door(engine, clock, limits=limits)
        self.limits = limits
        self.room = Pushed(self.append, clock, lambda: self.settings)

    async def append(self, batch: SampleBatch) -> Appended:
        if self.refusals:
            self.refusals -= 1
            raise LimitExceeded("full", retry_after=1.0)
        return await self.door.append(batch)

    async def push(self, text: str, key: Labels = JOB, *, replace: bool = True, tenant: str = "default") -> None:
        self.clock._now += 1
        try:
            families: Any = parsed(text.encode(), "text", key, now_ms(self.clock))
        except Inconsistent as error:
            families = error  # the room is told, so that the group notes it
        await self.room.push(tenant, key, families, replace=replace)

    async def delete(self, *keys: Labels) -> None:
        self.clock._now += 1
        await self.room.delete("default", list(keys) or None)

    async def write(self, seconds: float = 15) -> None:
        # The room's own loop sleeps on the same clock and is not what is tested here.
        self.clock._now += seconds
        await self.room.write()

    def stored(self, tenant: str = "default", *, times: bool = False) -> dict[str, list[tuple[float, float | str]]]:
        """Each series' samples: (seconds since the start, value); without when pushes came, unless `times`."""
        found = self.engine.select(tenant, [Matcher("__name__", "=~" if times else "!~", "push_.*")], 0, 4_000_000_000_000)
        series = {}
        for i in range(len(found)):
            span = slice(found.offsets[i], found.offsets[i + 1])
            ends = is_stale(found.values[span])
            values: list[float | str] = ["stale" if s else v for s, v in zip(ends, found.values[span].tolist(), strict=True)]
            stamps = [(t - 1000 * START) / 1000 for t in found.timestamps[span].tolist()]
            series[str(found.labels.row(i))] = list(zip(stamps, values, strict=True))
        return series


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    clock = ManualClock(START)
    limits = Limits(LimitsSettings())
    engine = Engine(StorageSettings(data=tmp_path / "data"), clock, limits=limits)
    engine.lock()
    await engine.start()
    records = await Records.open(tmp_path / "records.db")
    made = Place(engine, records, clock, limits)
    await made.room.open(records)
    yield made
    await made.room.close()
    await made.records.close()
    await engine.close()


async def test_a_push_is_stored_at_once_and_again_every_interval(place: Place) -> None:
    await place.push('# TYPE done counter\ndone{what="files"} 3\n')
    await place.write()
    await place.write()
    assert place.stored() == {'done{job="backup", what="files"}': [(1.0, 3.0), (16.0, 3.0), (31.0, 3.0)]}
    assert place.stored(times=True) == {
        'push_time_seconds{job="backup"}': [(t, START + 1.0) for t in (1.0, 16.0, 31.0)],
        'push_failure_time_seconds{job="backup"}': [(t, 0.0) for t in (1.0, 16.0, 31.0)],
    }
    assert [m.type for m in place.engine.metadata("default", "done")] == ["counter"]


async def test_put_replaces_a_group_and_post_families(place: Place) -> None:
    await place.push("a 1\nb 1\n")
    await place.push("b 2\nc 2\n", replace=False)
    assert {name: samples[-1][1] for name, samples in place.stored().items()} == {
        'a{job="backup"}': 1.0,
        'b{job="backup"}': 2.0,
        'c{job="backup"}': 2.0,
    }
    await place.push("c 3\n")
    await place.write()
    assert {name: samples[-1] for name, samples in place.stored().items()} == {
        'a{job="backup"}': (3.0, "stale"),
        'b{job="backup"}': (3.0, "stale"),
        'c{job="backup"}': (18.0, 3.0),
    }


async def test_post_puts_a_whole_family_in_the_place_of_one(place: Place) -> None:
    await place.push('a{x="1"} 1\na{x="2"} 1\n')
    await place.push('a{x="2"} 2\n', replace=False)
    assert place.stored()['a{job="backup", x="1"}'][-1][1] == "stale"


async def test_a_histogram_is_one_family(place: Place) -> None:
    text = '# TYPE t histogram\nt_bucket{le="1"} 1\nt_bucket{le="+Inf"} 2\nt_sum 5\nt_count 2\n'
    await place.push(text)
    (group,) = place.room.groups("default")
    assert list(group.families) == ["t"] and len(group.families["t"].rows) == 4
    await place.push("# TYPE other gauge\nother 1\n", replace=False)
    assert len(place.room.groups("default")[0].rows()) == 4 + 1 + 2


async def test_deleting_ends_all_series_and_is_not_undone_by_the_interval(place: Place) -> None:
    other = Labels.of(job="backup", instance="b")
    await place.push("a 1\n")
    await place.push("a 1\n", other)
    await place.delete(JOB, Labels.of(job="never"))
    await place.write()
    assert place.stored()['a{job="backup"}'][-1] == (3.0, "stale")
    assert place.stored()['a{instance="b", job="backup"}'][-1] == (18.0, 1.0)
    assert place.stored(times=True)['push_time_seconds{job="backup"}'][-1] == (3.0, "stale")
    await place.delete()
    await place.write()
    assert {samples[-1][1] for samples in place.stored().values()} == {"stale"}
    assert place.room.count == 0


async def test_a_group_that_comes_back_goes_on(place: Place) -> None:
    await place.push("a 1\n")
    await place.delete(JOB)
    await place.push("a 2\n")
    assert place.stored()['a{job="backup"}'] == [(1.0, 1.0), (2.0, "stale"), (3.0, 2.0)]


async def test_grouping_labels_win_over_a_metrics_own(place: Place) -> None:
    await place.push('a{job="mine",instance="x",z=""} 1\n', Labels.of(job="theirs", instance="y"))
    assert set(place.stored()) == {'a{instance="y", job="theirs"}'}


async def test_all_is_there_again_after_a_crash(place: Place, tmp_path: Path) -> None:
    await place.push('# HELP a What.\n# TYPE a gauge\na{x="1"} NaN\na{x="2"} +Inf\nb 0.1\n')
    await place.push("c 1\n", tenant="acme")
    before = [(group.labels, group.kept(), group.pushed_at) for group in place.room.groups("default")]
    await place.records.close()  # nothing of the room is told
    place.records = await Records.open(tmp_path / "records.db")
    place.room = Pushed(place.append, place.clock, lambda: place.settings)
    await place.room.open(place.records)
    assert [(group.labels, group.kept(), group.pushed_at) for group in place.room.groups("default")] == before
    await place.write()
    assert place.stored()['b{job="backup"}'] == [(1.0, 0.1), (17.0, 0.1)]
    assert place.stored("acme")['c{job="backup"}'][-1] == (17.0, 1.0)
    with pytest.raises(Inconsistent):
        await place.push("# TYPE a counter\na 1\n", Labels.of(job="other"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('# TYPE a counter\na{x="2"} 1\n', r'collected metric "a" \{instance="i", job="backup", x="2"\} is not a GAUGE'),
        ('a{x="1"} 1\na{x="1"} 2\n', 'collected metric "a" .* was collected before with the same name and label values'),
        ("b 1 1700000000000\n", "pushed metrics must not have timestamps"),
    ],
)
async def test_what_is_inconsistent_changes_nothing_and_is_noted(place: Place, text: str, problem: str) -> None:
    await place.push('# TYPE a gauge\na{x="1"} 1\n')
    key = Labels.of(job="backup", instance="i")
    await place.push("other 1\n", key)
    with pytest.raises(Inconsistent, match=f"pushed metrics are invalid or inconsistent with existing metrics: {problem}"):
        await place.push(text, key)
    group = next(g for g in place.room.groups("default") if g.labels == key)
    assert list(group.families) == ["other"] and group.failed_at > group.pushed_at
    assert place.stored(times=True)['push_failure_time_seconds{instance="i", job="backup"}'][-1][1] == group.failed_at / 1000
    assert place.room.counts.refused == 1


async def test_a_series_is_of_one_group(place: Place) -> None:
    await place.push('a{instance="i"} 1\n')
    with pytest.raises(Inconsistent, match="was collected before"):
        await place.push("a 2\n", Labels.of(job="backup", instance="i"))
    # It has no group of its own but for the failure that it notes; a type may change where no other group has the family.
    await place.push("# TYPE b gauge\nb 1\n")
    await place.push("# TYPE b counter\nb 1\n")


async def test_a_refused_first_push_makes_a_group_that_only_failed(place: Place) -> None:
    with pytest.raises(Inconsistent):
        await place.room.push("default", JOB, Inconsistent("pushed metrics must not have timestamps"), replace=True)
    (group,) = place.room.groups("default")
    assert (group.families, group.pushed_at) == ({}, 0) and group.failed_at


async def test_no_more_groups_than_there_may_be(place: Place) -> None:
    for i in range(3):
        await place.push("a 1\n", Labels.of(job=f"j{i}"))
    with pytest.raises(TenantLimit, match=r"more than 3 groups \(pushed.max_groups\)"):
        await place.push("a 1\n", Labels.of(job="j3"))
    await place.push("a 2\n", Labels.of(job="j2"))
    await place.push("a 1\n", Labels.of(job="j0"), tenant="acme")


async def test_a_storage_that_is_full_says_so_and_the_interval_makes_up_for_it(place: Place) -> None:
    await place.push("a 1\nb 1\n")
    place.refusals = 1
    with pytest.raises(LimitExceeded):
        await place.push("a 2\n")
    await place.write()
    assert place.stored()['a{job="backup"}'][-1][1] == 2.0
    assert place.stored()['b{job="backup"}'][-1][1] == "stale"


async def test_a_tenants_limit_is_told(place: Place) -> None:
    place.limits.replace(LimitsSettings(default=TenantLimits(max_label_value_length=30)))
    with pytest.raises(TenantLimit, match="samples of it are not stored: 1 label value too long"):
        await place.push(f'a{{x="{"y" * 40}"}} 1\nb 1\n')
    assert set(place.stored()) == {'b{job="backup"}'}


async def test_a_tenant_that_may_not_write_now_does_not_hold_up_the_others(place: Place) -> None:
    await place.push("a 1\n", tenant="loud")
    await place.push("a 1\n", tenant="quiet")
    place.limits.replace(LimitsSettings(tenants={"loud": TenantLimits(samples_per_second=1)}))
    place.limits.count("loud", 1_000, place.clock.monotonic())  # what it may for the next minutes
    with pytest.raises(TenantLimit):
        await place.write(1)
    assert len(place.stored("quiet")['a{job="backup"}']) == 2
    assert len(place.stored("loud")['a{job="backup"}']) == 1


async def test_the_loop_writes_and_survives_a_refusal(place: Place) -> None:
    await place.push("a 1\n")
    place.room.start()
    place.refusals = 1
    await place.clock.advance(15)
    deadline = time.monotonic() + 30
    while not place.room.failures:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await place.clock.advance(15)
    while len(place.stored()['a{job="backup"}']) < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_before_the_records_are_open(place: Place) -> None:
    room = Pushed(place.append, place.clock, lambda: place.settings)
    with pytest.raises(LimitExceeded, match="the server is starting"):
        await room.push("default", JOB, {}, replace=True)


@pytest.mark.parametrize(
    ("path", "encoded", "expected"),
    [
        ("backup", False, {"job": "backup"}),
        ("backup/", False, {"job": "backup"}),
        ("backup/instance/db1:9090", False, {"job": "backup", "instance": "db1:9090"}),
        ("backup/a/1/b/2", False, {"job": "backup", "a": "1", "b": "2"}),
        ("a/job/b", False, {"job": "a"}),
        ("ZGlyZWN0b3J5LWNsZWFuZXI/path@base64/L3Zhci90bXA", True, {"job": "directory-cleaner", "path": "/var/tmp"}),
        ("backup/first_label@base64/=/x/y", False, {"job": "backup", "x": "y"}),
        ("zqDPgc6_zrzOt864zrXPjc-C", True, {"job": "Προμηθεύς"}),
    ],
)
def test_the_grouping_key_of_a_path(path: str, encoded: bool, expected: dict[str, str]) -> None:
    assert grouping(path, encoded=encoded).as_dict() == expected


@pytest.mark.parametrize(
    ("path", "encoded", "problem"),
    [
        ("", False, "job name is required"),
        ("=", True, "job name is required"),
        ("a/b", False, 'odd number of components in label string "/b"'),
        ("a/b/c/d", False, 'odd number of components in label string "/b/c/d"'),
        ("a/b-c/d", False, 'improper label name "b-c"'),
        ("a/__name__/d", False, 'improper label name "__name__"'),
        ("a/@base64/d", False, 'improper label name ""'),
        ("!", True, 'invalid base64 encoding in job name "!"'),
        ("a/b@base64/!", False, 'invalid base64 encoding for label b="!"'),
        ("a/b@base64/_w", False, 'invalid base64 encoding for label b="_w"'),
    ],
)
def test_a_path_that_is_no_grouping_key(path: str, encoded: bool, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        grouping(path, encoded=encoded)
    assert str(caught.value).startswith(problem)


@given(st.text(max_size=60), st.booleans())
def test_any_path_is_a_key_or_refused(path: str, encoded: bool) -> None:
    try:
        found = grouping(path, encoded=encoded)
    except BadInput:
        return
    assert found.get("job")


def test_what_cannot_be_read_is_told_as_a_pushgateway_does() -> None:
    with pytest.raises(BadInput, match="text format parsing error in line 2, column 3: not a number"):
        parsed(b"a 1\nb x\n", "text", JOB, 0)
    with pytest.raises(BadInput, match="protobuf exposition"):
        parsed(b"\xff\xff", "protobuf", JOB, 0)


def test_openmetrics_and_an_empty_body() -> None:
    found = parsed(b'# TYPE a counter\na_total 1 # {trace_id="x"} 1\n# EOF\n', "openmetrics", JOB, 5)
    assert [labels.metric for family in found.values() for labels, _ in family.rows] == ["a_total"]
    assert parsed(b"", "text", JOB, 5) == {}


def test_a_group_says_itself_when_it_was_pushed() -> None:
    assert parsed(b"push_time_seconds 1\nx 2\n", "text", JOB, 5).keys() == {"x"}


def test_a_group_is_read_back_as_it_was_kept() -> None:
    text = '# HELP "ü.x" "quoted"\\nlines\n# TYPE "ü.x" gauge\n{"ü.x",y="z\\""} 1e300\nnan NaN\nsmall 5e-324\n'
    group = Group(JOB, parsed(text.encode(), "text", JOB, 7), 8, 9)
    again = loaded('{"job":"backup"}', group.kept(), 8, 9)
    assert again.kept() == group.kept()
    assert [labels for labels, _ in again.rows()] == [labels for labels, _ in group.rows()]
    assert again.metadata() == group.metadata()


def _native(*, classic: bool = False, floats: bool = False) -> bytes:
    """An exposition of one native histogram: three observations in [1, 2], one of zero; a sum of 4.5."""
    kinds = messages("io.prometheus.client")
    family = kinds["MetricFamily"](name="took_seconds", help="How long.", type=4)
    one = family.metric.add()
    one.label.add(name="job", value="mine")
    one.label.add(name="what", value="files")
    histogram = one.histogram
    histogram.sample_sum, histogram.schema, histogram.zero_threshold = 4.5, 0, 0.001
    histogram.positive_span.add(offset=1, length=1)
    if floats:
        histogram.sample_count_float, histogram.zero_count_float = 4.0, 1.0
        histogram.positive_count.append(3.0)
    else:
        histogram.sample_count, histogram.zero_count = 4, 1
        histogram.positive_delta.append(3)
    if classic:
        histogram.bucket.add(cumulative_count=1, upper_bound=0.5)
    message = family.SerializeToString()
    return bytes([len(message)]) + message


async def _push_native(place: Place, body: bytes, key: Labels = JOB) -> None:
    place.clock._now += 1
    await place.room.push("default", key, parsed(body, "protobuf", key, now_ms(place.clock)), replace=True)


def _histograms(place: Place) -> list[tuple[float, Histogram]]:
    found = place.engine.select("default", [Matcher("__name__", "=", "took_seconds")], 0, 4_000_000_000_000)
    assert found.histograms is not None
    assert [str(found.labels.row(i)) for i in range(len(found))] == ['took_seconds{job="backup", what="files"}']
    stamps = found.timestamps[found.histograms.at]
    return [((t - 1000 * START) / 1000, found.histograms.sample(j)) for j, t in enumerate(stamps.tolist())]


@pytest.mark.parametrize("floats", [False, True])
async def test_a_native_histogram_is_stored_as_one_also_after_a_crash(place: Place, floats: bool) -> None:
    await _push_native(place, _native(floats=floats))
    await place.write()
    place.room = Pushed(place.append, place.clock, lambda: place.settings)
    await place.room.open(place.records)
    await place.write()
    found = _histograms(place)
    assert [at for at, _ in found] == [1.0, 16.0, 31.0]
    for _, one in found:
        assert (one.count, one.sum, one.zero_count, one.positive.tolist()) == (4.0, 4.5, 1.0, [3.0])
        assert (one.layout.schema, one.layout.threshold, one.layout.positive.tolist()) == (0, 0.001, [1])
    assert set(place.stored()) == {'took_seconds{job="backup", what="files"}'}


async def test_a_histogram_of_both_forms_is_kept_in_both_and_ends_in_both(place: Place) -> None:
    await _push_native(place, _native(classic=True))
    assert len(_histograms(place)) == 1
    classic = {name: samples[-1][1] for name, samples in place.stored().items() if not name.startswith("took_seconds{")}
    assert classic == {
        'took_seconds_bucket{job="backup", le="0.5", what="files"}': 1.0,
        'took_seconds_bucket{job="backup", le="+Inf", what="files"}': 4.0,
        'took_seconds_sum{job="backup", what="files"}': 4.5,
        'took_seconds_count{job="backup", what="files"}': 4.0,
    }
    await place.delete()
    assert {samples[-1][1] for samples in place.stored().values()} == {"stale"}


def test_what_is_kept_of_a_native_histogram_is_what_it_was() -> None:
    layout = Layout(CUSTOM_SCHEMA, 0.0, (0.1, 5.0), np.array([0, 2], dtype=np.int32), NO_BUCKETS)
    value = Histogram(layout, np.array([3.0, math.nan, 0.0, 1.0, 2.0]), 3)
    family = Family(MetricMetadata("h", "histogram"), ((Labels.of(__name__="h", job="backup"), value),), 5)
    again = loaded('{"job":"backup"}', Group(JOB, {"h": family}).kept(), 7, 0).families["h"].rows[0][1]
    assert isinstance(again, Histogram)
    assert again.layout.same(layout) and again.hint == 3
    assert again.cells.tobytes() == value.cells.tobytes()
