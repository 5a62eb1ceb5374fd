"""What a job does with native histograms: limits, classic ones made native, and a scrape of them from end to end."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from vedette import configfile
from vedette.clock import ManualClock
from vedette.collect.config import CollectConfig, GlobalConfig, ScrapeConfigFile
from vedette.collect.fetch import Fetched
from vedette.collect.native import Converter, NativeSettings, finest_schema
from vedette.collect.scrape import ScrapeLoop, ScrapeSettings
from vedette.collect.series import SeriesRules
from vedette.collect.targets import Target
from vedette.errors import BadInput
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, Histogram, Histograms, Layout
from vedette.model.labels import Labels
from vedette.model.samples import canonical
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings
from vedette.wire.exposition import Exposition, exposition_keyspace, parse, parse_series

sys.path.insert(0, str(Path(__file__).parent.parent / "wire"))
from protos import messages

NOW = 1_700_000_000_000
SPACE = exposition_keyspace("t")
M = messages("io.prometheus.client")
CLASSIC = b"""# TYPE h histogram
h_bucket{a="x",le="0.5"} 4 # {trace_id="t"} 0.25
h_bucket{a="x",le="1.0"} 8
h_bucket{a="x",le="+Inf"} 10
h_sum{a="x"} 2.5
h_count{a="x"} 10
# TYPE other counter
other_total 3
# EOF
"""


def wide(buckets: int, schema: int = 8, hint: int = 0) -> Histogram:
    layout = Layout(schema, 0.0, (), np.arange(1, buckets + 1, dtype=np.int32), NO_BUCKETS)
    return Histogram(layout, np.array([buckets, 1.0, 0.0, *[1.0] * buckets]), hint)


def limited(h: Histogram, **settings) -> Histogram:
    return NativeSettings(scrape=True, **settings).limited(Histograms.of([0], [h])).sample(0)


def test_the_settings_of_a_job(tmp_path):
    file = tmp_path / "scrape.yml"
    file.write_text("scrape_configs: [{job_name: a, scrape_classic_histograms: true, native_histogram_bucket_limit: 5}, {job_name: b}]")
    given = GlobalConfig(scrape_native_histograms=True, convert_classic_histograms_to_nhcb=True)
    one, other = (NativeSettings.of(job) for job in CollectConfig.of(given, configfile.load(file, ScrapeConfigFile).scrape_configs).jobs)
    assert one == NativeSettings(scrape=True, classic_too=True, convert=True, bucket_limit=5)
    assert other == NativeSettings(scrape=True, convert=True)


def test_a_histogram_of_too_many_buckets_is_made_coarser():
    assert equal(limited(wide(100), bucket_limit=100), wide(100))
    coarse = limited(wide(100, hint=GAUGE), bucket_limit=30)
    assert (coarse.layout.schema, len(coarse.positive), coarse.hint) == (6, 25, GAUGE)
    assert coarse.count == coarse.positive.sum() == 100


def test_one_that_cannot_be_made_coarse_enough_fails_the_scrape():
    layout = Layout(-4, 0.0, (), np.arange(5, dtype=np.int32), NO_BUCKETS)
    with pytest.raises(BadInput, match=r"bucket limit exceeded \(5 buckets, limit: 3\)"):
        limited(Histogram(layout, np.ones(8)), bucket_limit=3)
    custom = Layout(CUSTOM_SCHEMA, 0.0, (1.0, 2.0), np.arange(3, dtype=np.int32), NO_BUCKETS)
    with pytest.raises(BadInput, match="limit: 2"):
        limited(Histogram(custom, np.ones(6)), bucket_limit=2)


@pytest.mark.parametrize(
    ("factor", "schema"), [(1.0, 8), (1.002, 8), (1.003, 8), (1.1, 3), (1.091, 3), (1.5, 1), (2, 0), (4, -1), (65536, -4), (1e9, -4)]
)
def test_the_finest_schema_of_a_factor(factor, schema):
    assert finest_schema(factor) == schema
    if -4 < schema < 8:
        assert 2 ** (2.0**-schema) <= factor * 1.0001


def test_a_least_factor_makes_histograms_coarser():
    assert limited(wide(64), min_factor=1.1).layout.schema == 3
    assert limited(wide(64, schema=2), min_factor=1.1).layout.schema == 2


def text(body: bytes = CLASSIC) -> Exposition:
    return parse(body, SPACE, NOW, openmetrics=True)


def rows(found: Exposition) -> dict[str, float | Histogram]:
    batch = found.batch
    native = {} if batch.histograms is None else {int(at): batch.histograms.sample(j) for j, at in enumerate(batch.histograms.at)}
    keys = [parse_series(batch.buffer[lo:hi].tobytes()) for lo, hi in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)]
    return {str(labels): native.get(i, float(batch.values[i])) for i, labels in enumerate(keys)}


@pytest.mark.parametrize("keep", [False, True])
def test_classic_histograms_become_native_ones(keep):
    found = Converter(keep, NativeSettings()).convert(text())
    got = rows(found)
    h = got.pop('h{a="x"}')
    assert isinstance(h, Histogram)
    assert h.layout.bounds == (0.5, 1.0)
    assert h.cells.tolist() == [10, 2.5, 0, 4, 4, 2]
    assert set(got) == ({"other_total"} if not keep else {"other_total", *rows(text())})
    exemplars = found.batch.exemplars
    assert [(list(rows(found))[e.row], e.value) for e in exemplars][-1] == ('h{a="x"}', 0.25)
    assert len(found.explicit) == found.batch.series_count


def test_what_is_known_of_keys_outlives_metadata_that_is_left_out():
    converter = Converter(False, NativeSettings())
    first = converter.convert(text())
    second = text()
    second.batch.metadata = ()
    again = converter.convert(second)
    assert set(rows(again)) == set(rows(first)) == {"other_total", 'h{a="x"}'}


def test_buckets_that_contradict_one_another_stay_as_they_are():
    broken = CLASSIC.replace(b'le="1.0"} 8', b'le="1.0"} 3')
    assert set(rows(Converter(False, NativeSettings()).convert(text(broken)))) == set(rows(text(broken)))


def test_the_limit_holds_for_those_that_were_made():
    with pytest.raises(BadInput, match="limit: 2"):
        Converter(False, NativeSettings(bucket_limit=2)).convert(text())


def test_a_counter_that_is_named_like_a_part_is_left_alone():
    body = CLASSIC.replace(b"# TYPE h histogram", b"# TYPE h unknown")
    assert set(rows(Converter(False, NativeSettings()).convert(text(body)))) == set(rows(text(body)))


class Scraped:
    """A loop whose target answers `body`."""

    def __init__(self, engine: Engine, clock: ManualClock, native: NativeSettings) -> None:
        self.body = Fetched(b"")
        target = Target(Labels.of(job="j", instance="i"), "http://i/metrics", 1000, 1000, Labels())

        async def fetch() -> Fetched:
            return self.body

        self.loop = ScrapeLoop(
            *("j", target, SeriesRules(target.labels), ScrapeSettings(native=native)),
            fetch=fetch, append=engine.append, clock=clock, report_keys=canonical(),
        )  # fmt: skip


def exposed(*, count: int) -> Fetched:
    h = M["Histogram"](sample_count=count, sample_sum=2.5, schema=1, zero_count=2, positive_span=[M["BucketSpan"](length=1)],
                       positive_delta=[count - 2], bucket=[M["Bucket"](cumulative_count=count, upper_bound=1)])  # fmt: skip
    raw = M["MetricFamily"](name="h", type=4, metric=[M["Metric"](histogram=h)]).SerializeToString()
    return Fetched(bytes([len(raw)]) + raw, "protobuf")


async def test_native_histograms_are_scraped_stored_and_turn_stale(tmp_path):
    clock = ManualClock(NOW / 1000)
    engine = Engine(StorageSettings(data=tmp_path), clock)
    engine.lock()
    await engine.start()
    try:
        scraped = Scraped(engine, clock, NativeSettings(scrape=True))
        scraped.body = exposed(count=5)
        await scraped.loop.scrape(NOW)
        assert scraped.loop.state.last_error == ""
        scraped.body = Fetched(b"")
        await scraped.loop.scrape(NOW + 1000)
        found = engine.select("default", [], 0, NOW + 1000)
        at = next(i for i, labels in enumerate(found.labels) if labels.metric == "h")
        lo, hi = int(found.offsets[at]), int(found.offsets[at + 1])
        assert found.timestamps[lo:hi].tolist() == [NOW, NOW + 1000]
        assert math.isnan(found.values[hi - 1])
        assert found.histograms is not None
        assert found.histograms.at.tolist() == [lo]
        assert found.histograms.sample(0).cells.tolist() == [5, 2.5, 2, 3]
        assert {labels.metric for labels in found.labels} == {"h", *(labels.metric for labels in scraped.loop._report)}
    finally:
        await engine.close()


async def test_a_bad_native_histogram_fails_the_scrape(tmp_path):
    clock = ManualClock(NOW / 1000)
    engine = Engine(StorageSettings(data=tmp_path), clock)
    engine.lock()
    await engine.start()
    try:
        scraped = Scraped(engine, clock, NativeSettings(scrape=True, bucket_limit=1))
        raw = M["Histogram"](sample_count=7, schema=1, positive_span=[M["BucketSpan"](length=1)], positive_delta=[1])
        family = M["MetricFamily"](name="h", type=4, metric=[M["Metric"](histogram=raw)]).SerializeToString()
        scraped.body = Fetched(bytes([len(family)]) + family, "protobuf")
        await scraped.loop.scrape(NOW)
        assert "1 observations found in buckets, but the Count field is 7" in scraped.loop.state.last_error
        assert scraped.loop.state.health == "down"
    finally:
        await engine.close()
