"""Federation: the text that Prometheus' own handler answers, from the same samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from vedette.api.endpoint import routes
from vedette.api.federation import PROTOBUF_TYPE, Federation, endpoints, preferred
from vedette.api.prometheus import any_matchers_of
from vedette.clock import ManualClock
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, Histogram, Layout, bare
from vedette.model.labels import Labels
from vedette.model.samples import STALE, SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings
from vedette.wire.exposition import OPENMETRICS_TYPE, TEXT_TYPE, check_openmetrics, exposition_keyspace
from vedette.wire.exposition_proto import Wanted, parse

NOW_MS = 1_700_000_000_000


@pytest.fixture
def federate(storage: Any, run: Any, serve: Any, clock: ManualClock) -> Callable[..., Any]:
    external: dict[str, str] = {}
    ready = [True]
    federation = Federation(
        storage,
        run,
        clock,
        parse_selector=any_matchers_of,
        tenant_of=lambda scope: "default",
        external_labels=lambda: Labels.of(external),
        ready=lambda: ready[0],
    )
    client: httpx.AsyncClient = serve(routes(endpoints(federation)))

    async def ask(*selectors: str, up: bool = True, accept: str = "*/*", **labels: str) -> httpx.Response:
        external.update(labels)
        ready[0] = up
        return await client.get("/federate", params=[("match[]", s) for s in selectors], headers={"Accept": accept})

    return ask


async def test_the_last_samples_are_text_with_their_times(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m2", foo="b"), (NOW_MS - 1000, 1.5), (NOW_MS - 500, 2.5))
    storage.put(Labels.of(__name__="m1", foo="x", instance="i"), (NOW_MS - 299_000, 10000))
    storage.put(Labels.of(__name__="m1", foo="a"), (NOW_MS, float("inf")))
    storage.put(Labels.of(__name__="old"), (NOW_MS - 300_001, 1))
    storage.put(Labels.of(__name__="gone"), (NOW_MS - 1000, 1), (NOW_MS, STALE))
    answer = await federate('{__name__=~".+"}')
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text == (
        "# TYPE m1 untyped\n"
        f'm1{{foo="a",instance=""}} +Inf {NOW_MS}\n'
        f'm1{{foo="x",instance="i"}} 10000 {NOW_MS - 299_000}\n'
        "# TYPE m2 untyped\n"
        f'm2{{foo="b",instance=""}} 2.5 {NOW_MS - 500}\n'
    )


async def test_external_labels_are_added_where_a_series_has_none(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m", zone="mine"), (NOW_MS, 1))
    answer = await federate("m", zone="outer", instance="here", foo='b"r')
    assert answer.text == f'# TYPE m untyped\nm{{zone="mine",foo="b\\"r",instance="here"}} 1 {NOW_MS}\n'


@pytest.mark.parametrize(
    ("escaping", "text"),
    [
        ("allow-utf-8", '# TYPE "a b" untyped\n{"a b","c.d"="e",instance=""}'),
        ("underscores", '# TYPE a_b untyped\na_b{c_d="e",instance=""}'),
        ("dots", '# TYPE a__b untyped\na__b{c_dot_d="e",instance=""}'),
        ("values", '# TYPE U__a_20_b untyped\nU__a_20_b{U__c_2e_d="e",instance=""}'),
    ],
)
async def test_names_are_spelt_as_the_scraper_asks(federate: Any, storage: Any, escaping: str, text: str) -> None:
    storage.put(Labels.of({"__name__": "a b", "c.d": "e"}), (NOW_MS, 1))
    answer = await federate('{"a b"}', accept=f"text/plain;version=0.0.4;escaping={escaping}")
    assert answer.text == f"{text} 1 {NOW_MS}\n"
    assert answer.headers["content-type"].endswith(f"; escaping={escaping}")


async def test_who_says_nothing_of_utf8_gets_none_and_no_series_twice(federate: Any, storage: Any) -> None:
    for metric in ("a b", "a.b", "a_b"):
        storage.put(Labels.of({"__name__": metric}), (NOW_MS, 1))
    answer = await federate('{__name__=~"a.b"}')
    assert answer.text == f'# TYPE a_b untyped\na_b{{instance=""}} 1 {NOW_MS}\n'
    assert "escaping" not in answer.headers["content-type"]


async def test_a_series_that_two_selectors_select_comes_once(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m"), (NOW_MS, 1))
    assert (await federate("m", '{__name__="m"}')).text.count("m{") == 1


async def test_nothing_selected_is_nothing(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m"), (NOW_MS, 1))
    assert ((await federate()).status_code, (await federate()).text) == (200, "")
    assert (await federate("none")).text == ""


async def test_a_selector_without_a_matcher_selects_nothing(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m"), (NOW_MS, 1))
    answer = await federate("{}")
    assert (answer.status_code, answer.text) == (200, "")


async def test_what_lacks_a_label_may_be_all_there_is(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m", job="a"), (NOW_MS, 1))
    storage.put(Labels.of(__name__="n", a="b"), (NOW_MS, 2))
    for selector in ('{a=""}', '{a!~".+"}'):
        answer = await federate(selector)
        assert answer.status_code == 200
        assert [line.partition("{")[0] for line in answer.text.splitlines() if line[0] != "#"] == ["m"]
    assert (await federate('{a=~".*"}')).text.count("# TYPE") == 2


@pytest.mark.parametrize(("selector", "told"), [("m{", "parse error"), ("sum(m)", "parse error"), ("", "parse error")])
async def test_bad_selectors_are_refused(federate: Any, selector: str, told: str) -> None:
    answer = await federate(selector)
    assert answer.status_code == 400
    assert told in answer.text


async def test_a_server_that_starts_says_so(federate: Any) -> None:
    assert (await federate("m", up=False)).status_code == 503


PROTO = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("application/json", TEXT_TYPE),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS_TYPE),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.5", TEXT_TYPE),
        (f"{PROTO},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", PROTOBUF_TYPE),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text,text/plain;q=0.1", TEXT_TYPE),
        ("application/vnd.google.protobuf;proto=some.Other;encoding=delimited", TEXT_TYPE),
        ("application/openmetrics-text;q=high", TEXT_TYPE),
    ],
)
def test_the_format_is_what_the_scraper_likes_best(accept: str, wanted: str) -> None:
    assert preferred(accept) == wanted


async def test_openmetrics_is_held_to_its_specification(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m1", foo="x"), (NOW_MS - 1500, 2.5))
    storage.put(Labels.of(__name__="m2"), (NOW_MS, 1))
    answer = await federate('{__name__=~".+"}', accept="application/openmetrics-text")
    assert answer.headers["content-type"] == OPENMETRICS_TYPE
    assert answer.text == (
        '# TYPE m1 unknown\nm1{foo="x",instance=""} 2.5 1699999998.500\n# TYPE m2 unknown\nm2{instance=""} 1 1700000000.000\n# EOF\n'
    )
    check_openmetrics(answer.content)
    check_openmetrics((await federate("none", accept="application/openmetrics-text")).content)


async def test_protobuf_has_native_histograms_too(tmp_path: Path, run: Any, serve: Any, clock: ManualClock) -> None:
    engine = Engine(StorageSettings(data=tmp_path / "data"), clock)
    await engine.start()
    indices = np.array([-3, -2, 5], dtype=np.int32)
    exponential = Histogram(Layout(3, 0.001, (), indices, np.array([7], dtype=np.int32)), np.array([7.5, -2.25, 0.5, 1, 2, 3, 1]))
    samples = {
        Labels.of(__name__="f", job="x"): 1.5,
        Labels.of(__name__="h", job="x"): exponential,
        Labels.of(__name__="g"): exponential.hinted(GAUGE),
        Labels.of(__name__="empty"): Histogram(bare(0), np.zeros(3)),
    }
    bounds = Layout(CUSTOM_SCHEMA, 0.0, (0.5, 1.0), np.array([0, 2], dtype=np.int32), NO_BUCKETS)
    custom = {Labels.of(__name__="c"): Histogram(bounds, np.array([5.0, 4.5, 0, 2, 3]))}
    everything = samples | custom
    space = canonical()
    await engine.append(SampleBatch.of(space, [Labels.of(__name__="f", job="x")], [NOW_MS - 9000], [exponential]))
    await engine.append(SampleBatch.of(space, list(everything), [NOW_MS - 5] * len(everything), list(everything.values())))
    await engine.append(SampleBatch.of(space, [Labels.of(__name__="gone")] * 2, [NOW_MS - 9, NOW_MS - 8], [exponential, STALE]))
    federation = Federation(
        engine, run, clock, parse_selector=any_matchers_of, tenant_of=lambda scope: "default",
        external_labels=lambda: Labels.of(instance="i"),
    )  # fmt: skip
    client = serve(routes(endpoints(federation)))
    answer = await client.get("/federate", params={"match[]": '{__name__!=""}'}, headers={"Accept": PROTO})
    assert answer.headers["content-type"] == PROTOBUF_TYPE
    batch = parse(answer.content, exposition_keyspace("default"), 0, wanted=Wanted(native=True)).batch
    keys = [batch.buffer[lo:hi].tobytes() for lo, hi in zip(batch.key_start, batch.key_end, strict=True)]
    labels = [batch.keyspace.resolve(key) for key in keys]
    assert batch.histograms is not None
    native = {labels[at]: batch.histograms.sample(j) for j, at in enumerate(batch.histograms.at.tolist())}
    wanted = {series.with_({"instance": "i"}): value for series, value in samples.items()}
    assert all(equal(native[series], value) for series, value in wanted.items() if isinstance(value, Histogram))
    assert sorted(native) == sorted(series for series, value in wanted.items() if isinstance(value, Histogram))
    floats = {str(series): float(v) for series, v in zip(labels, batch.values, strict=True) if series not in native}
    assert floats == {
        'f{instance="i", job="x"}': 1.5,
        'c_bucket{instance="i", le="0.5"}': 2.0,
        'c_bucket{instance="i", le="1.0"}': 2.0,
        'c_bucket{instance="i", le="+Inf"}': 5.0,
        'c_sum{instance="i"}': 4.5,
        'c_count{instance="i"}': 5.0,
    }
    assert set(batch.timestamps.tolist()) == {NOW_MS - 5}
    assert native[Labels.of(__name__="g", instance="i")].hint == GAUGE
    text = await client.get("/federate", params={"match[]": '{__name__!=""}'})
    assert text.text.count("\n") == 2, "in text there is the float alone"
    await engine.close()
