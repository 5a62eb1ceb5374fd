"""/metrics: own and collected values in one text that a scraper reads without complaint."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from vedette.api.endpoint import routes
from vedette.api.exposition import Metrics, endpoints
from vedette.api.prometheus import matchers_of
from vedette.clock import ManualClock
from vedette.collect.own import SCRAPER
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.storage.interface import Estimate
from vedette.wire.exposition_table import AT_ONCE

OWN = b"""# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
"""
NOW_MS = 1_700_000_000_000


@pytest.fixture
def client(storage: Any, clock: ManualClock, run: Any, serve: Any) -> httpx.AsyncClient:
    metrics = Metrics(lambda: OWN, "vedette", storage, run, clock, matchers_of, lambda scope: "default")
    made: httpx.AsyncClient = serve(routes(endpoints(metrics)))
    return made


@pytest.fixture
def collected(storage: Any) -> None:
    storage.put(Labels.of(__name__="hits_total", path="/a b"), (NOW_MS - 60_000, 1.0), (NOW_MS - 1000, 2.0))
    storage.put(Labels.of(__name__="process_cpu_seconds_total", job="node"), (NOW_MS - 1000, 7.0))
    storage.put(Labels.of(__name__="process_cpu_seconds_total", job="vedette"), (NOW_MS - 1000, 1.4))
    storage.put(Labels.of(__name__="gone"), (NOW_MS - 1000, STALE))
    storage.put(Labels.of(__name__="old"), (NOW_MS - 400_000, 1.0))
    storage.put(Labels.of(__name__="hits_total", exported_job="x", job="self"), (NOW_MS - 1000, 2.0))
    storage.put(Labels.of(__name__="secret"), (NOW_MS - 1000, 1.0), tenant="other")
    storage.about("hits_total", "counter", "Hits.\nMany.")


async def test_own_and_collected_are_one_text(client: httpx.AsyncClient, collected: None) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.text == (
        "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n"
        "# TYPE process_cpu_seconds_total counter\n"
        "process_cpu_seconds_total 1.5\n"
        'process_cpu_seconds_total{job="node"} 7\n'
        "# HELP hits_total Hits.\\nMany.\n"
        "# TYPE hits_total counter\n"
        'hits_total{path="/a b"} 2\n'
    )


async def test_promtool_reads_it(client: httpx.AsyncClient, collected: None, debian_binary: Callable[[str], str]) -> None:
    text = (await client.get("/metrics")).content
    checked = subprocess.run([debian_binary("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert checked.returncode == 0, checked.stderr


async def test_selected_series_only(client: httpx.AsyncClient, collected: None) -> None:
    answer = await client.get("/metrics", params={"match[]": ['{job="self"}', '{job="vedette"}', 'process_cpu_seconds_total{job=~".+"}']})
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert sorted(lines) == [
        'hits_total{exported_job="x",job="self"} 2',
        'process_cpu_seconds_total{job="node"} 7',
        'process_cpu_seconds_total{job="vedette"} 1.4',
    ]


async def test_json(client: httpx.AsyncClient, collected: None) -> None:
    body = (await client.get("/metrics", params={"format": "json"})).json()
    assert {"name": "hits_total", "type": "counter", "labels": {"path": "/a b"}, "value": 2.0} in body["metrics"]
    assert len(body["metrics"]) == 3


ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


async def test_openmetrics_by_parameter_and_by_accept(client: httpx.AsyncClient, storage: Any, collected: None) -> None:
    storage.put(Labels.of(__name__="clash"), (NOW_MS - 1000, 1.0))
    storage.put(Labels.of(__name__="clash_total"), (NOW_MS - 1000, 2.0))
    storage.put(Labels.of(__name__="odd"), (NOW_MS - 1000, 3.0))
    storage.about("clash", "gauge", "")
    storage.about("clash_total", "counter", 'Says "no".')
    storage.about("odd", "unknown", "")
    answer = await client.get("/metrics", params={"format": "openmetrics"})
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert '# HELP hits Hits.\\nMany.\n# TYPE hits counter\nhits_total{path="/a b"} 2\n' in answer.text
    assert '# HELP clash_total Says \\"no\\".\n# TYPE clash_total unknown\nclash_total 2\n' in answer.text
    assert "# TYPE odd unknown\n" in answer.text
    assert answer.text.endswith("\n# EOF\n")
    asked = await client.get("/metrics", headers={"accept": ACCEPT})
    assert asked.content == answer.content
    plain = await client.get("/metrics", headers={"accept": "application/openmetrics-text;q=0.4,text/plain, x;q=z, text/plain;q=nan"})
    assert plain.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("params", [{"format": "xml"}, {"match[]": "{"}, {"match[]": '{a=~".*"}'}])
async def test_bad_parameters(client: httpx.AsyncClient, params: dict[str, str]) -> None:
    answer = await client.get("/metrics", params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")


async def test_scraping_what_was_written_back_does_not_grow(client: httpx.AsyncClient, storage: Any, collected: None) -> None:
    """A scraper adds its own job and keeps ours as exported_job; what it writes back must not be exposed again."""
    before = (await client.get("/metrics")).text.count("\n")
    for labels in list(storage.tenants["default"]):
        if "job" in labels.as_dict():
            back = labels.with_({"exported_job": labels.get("job"), "job": "self"})
            storage.put(back, (NOW_MS - 500, 1.0))
    assert (await client.get("/metrics")).text.count("\n") == before


async def test_names_beyond_the_old_ones_only_for_who_knows_them(client: httpx.AsyncClient, storage: Any) -> None:
    storage.put(Labels.of({"__name__": "my.metric", "host.name": "a.b"}), (NOW_MS - 1000, 2.0))
    storage.about("my.metric", "gauge", "Mine.")

    async def lines(path: str, **headers: str) -> tuple[str, str]:
        answer = await client.get(path, headers=headers)
        return answer.headers["content-type"], next(line for line in answer.text.splitlines() if line.endswith(" 2"))

    for path in ("/metrics?match[]={__name__=~'my.*'}", "/metrics?match[]={__name__=~'my.*'}&match[]=up"):
        assert (await lines(path))[1] == 'my_metric{host_name="a.b"} 2'
        utf8 = await lines(path, accept="text/plain;version=1.0.0;escaping=allow-utf-8")
        assert utf8 == ("text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8", '{"my.metric","host.name"="a.b"} 2')
        assert (await lines(path, accept="text/plain;escaping=values"))[1] == 'U__my_2e_metric{U__host_2e_name="a.b"} 2'
    assert "# TYPE my_metric gauge" in (await client.get("/metrics")).text
    shown = (await client.get("/metrics?format=json&match[]={__name__=~'my.*'}", headers={"accept": "text/plain;escaping=dots"})).json()
    assert shown["metrics"][0]["name"] == "my.metric"


async def test_of_the_servers_own_figures_another_tenant_sees_no_third_ones(storage: Any, clock: ManualClock, run: Any, serve: Any) -> None:
    own = OWN + b'vedette_tenant_series{tenant="acme"} 5\nvedette_tenant_series{tenant="charlie"} 7\n'
    for tenant, seen in (("charlie", {"charlie"}), ("default", {"acme", "charlie"})):
        metrics = Metrics(lambda: own, "vedette", storage, run, clock, matchers_of, lambda scope, tenant=tenant: tenant)
        text = (await serve(routes(endpoints(metrics))).get("/metrics")).text
        assert {name for name in ("acme", "charlie") if name in text} == seen
        assert "process_cpu_seconds_total 1.5" in text


async def test_many_series_are_sent_in_pieces(client: httpx.AsyncClient, storage: Any) -> None:
    count = AT_ONCE + 10
    for i in range(count):
        storage.put(Labels.of(__name__="many", number=str(i)), (NOW_MS - 1000, float(i)))
    storage.about("many", "gauge", "Many.")
    answer = await client.get("/metrics", headers={"accept-encoding": "identity"})
    assert (answer.status_code, "content-length" in answer.headers) == (200, False)
    lines = answer.text.splitlines()
    assert "process_cpu_seconds_total 1.5" in lines
    assert set(lines) >= {f'many{{number="{i}"}} {i}' for i in range(count)}
    assert lines.count("# TYPE many gauge") == 1
    packed = await client.get("/metrics", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == answer.text
    assert (await client.get("/metrics", params={"format": "openmetrics"})).text.endswith(
        f'many{{number="{count - 1}"}} {count - 1}\n# EOF\n'
    )


class Estimated:
    """A storage that says how large an answer will be, and notes what is read."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def estimate(self, tenant: str, matchers: Any, start: int, end: int, coarse: Any = None) -> Estimate:
        found = self._inner.select(tenant, matchers, start, end)
        return Estimate(len(found), found.sample_count)

    def select(self, tenant: str, matchers: Any, start: int, end: int) -> Any:
        self.read.append(",".join(map(str, matchers)))
        return self._inner.select(tenant, matchers, start, end)


@pytest.fixture
def estimated(storage: Any, clock: ManualClock, run: Any, serve: Any) -> tuple[Estimated, httpx.AsyncClient]:
    inner = Estimated(storage)
    metrics = Metrics(lambda: OWN, "vedette", inner, run, clock, matchers_of, lambda scope: "default")
    return inner, serve(routes(endpoints(metrics)))


def blocks(text: str) -> list[str]:
    """The families of a text, sorted, each with its lines in order."""
    return sorted(text.replace("# HELP", "\0# HELP").split("\0"))


@pytest.mark.parametrize("params", [{}, {"match[]": '{__name__=~".+",path!="x"}'}, {"format": "openmetrics"}])
async def test_of_very_many_series_some_families_are_read_at_a_time(
    estimated: tuple[Estimated, httpx.AsyncClient],
    client: httpx.AsyncClient,
    storage: Any,
    collected: None,
    monkeypatch: pytest.MonkeyPatch,
    params: dict[str, str],
) -> None:
    monkeypatch.setattr("vedette.api.exposition._SLAB_BYTES", 1000)
    for i in range(12):
        storage.put(Labels.of(__name__=f"m.{i % 4} x|y", number=str(i)), (NOW_MS - 1000, float(i)))
        storage.put(Labels.of(__name__="took_bucket", le=str(i)), (NOW_MS - 1000, float(i)))
    storage.put(Labels.of(__name__="took_sum"), (NOW_MS - 1000, 1.0))
    storage.put(Labels.of(__name__="took_count"), (NOW_MS - 1000, 12.0))
    described = (("took", "histogram"), ("hits_total", "counter"), ("process_cpu_seconds_total", "counter"))
    for name, kind in (*described, *((f"m.{i} x|y", "gauge") for i in range(4))):
        storage.about(name, kind, "Said.")
    counted, slabbed = estimated
    whole, parts = await client.get("/metrics", params=params), await slabbed.get("/metrics", params=params)
    assert (whole.status_code, parts.status_code) == (200, 200)
    assert parts.headers["content-type"] == whole.headers["content-type"]
    assert blocks(parts.text.removesuffix("# EOF\n")) == blocks(whole.text.removesuffix("# EOF\n"))
    assert parts.text.splitlines()[-1] == whole.text.splitlines()[-1] or params.get("format") != "openmetrics"
    assert len(counted.read) > 3
    assert sum("took_bucket" in matchers for matchers in counted.read) == 1, "a family is read as one"
    assert all("took_bucket" not in matchers or "took_sum" in matchers for matchers in counted.read)


async def test_of_a_few_series_all_are_read_at_once(estimated: tuple[Estimated, httpx.AsyncClient], collected: None) -> None:
    counted, client = estimated
    assert "hits_total" in (await client.get("/metrics")).text
    assert len(counted.read) == 1


REQUESTS = b"""# TYPE botserver_requests_total counter
botserver_requests_total{method="GET",status="500"} 9
# TYPE botserver_request_duration_seconds histogram
botserver_request_duration_seconds_bucket{le="+Inf"} 9
botserver_request_duration_seconds_sum 30
botserver_request_duration_seconds_count 9
"""


@pytest.fixture
def scraped_by_itself(storage: Any, clock: ManualClock, run: Any, serve: Any, collected: None) -> httpx.AsyncClient:
    metrics = Metrics(lambda: OWN + REQUESTS, "vedette", storage, run, clock, matchers_of, lambda scope: "default", mark="m1")
    made: httpx.AsyncClient = serve(routes(endpoints(metrics)))
    return made


async def test_its_own_scrape_gets_nothing_that_is_stored_already_nor_a_second_application(scraped_by_itself: httpx.AsyncClient) -> None:
    """Else all series would be stored twice, under the scraping job, too, and each default alert would fire once for each."""
    answer = await scraped_by_itself.get("/metrics", headers={SCRAPER: "m1"})
    assert (answer.status_code, answer.content) == (200, OWN)
    answer = await scraped_by_itself.get("/metrics", headers={SCRAPER: "m1"}, params={"format": "json"})
    assert [entry["name"] for entry in answer.json()["metrics"]] == ["process_cpu_seconds_total"]
    answer = await scraped_by_itself.get("/metrics", headers={SCRAPER: "m1", "accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("process_cpu_seconds_total 1.5\n# EOF\n")


@pytest.mark.parametrize("mark", ["", "m2"])
async def test_anothers_scrape_gets_all(scraped_by_itself: httpx.AsyncClient, mark: str) -> None:
    text = (await scraped_by_itself.get("/metrics", headers={SCRAPER: mark})).text
    assert 'hits_total{path="/a b"} 2' in text
    assert 'botserver_requests_total{method="GET",status="500"} 9' in text
    assert "botserver_request_duration_seconds_count 9" in text


async def test_its_own_scrape_gets_what_it_selects(scraped_by_itself: httpx.AsyncClient) -> None:
    answer = await scraped_by_itself.get("/metrics", headers={SCRAPER: "m1"}, params={"match[]": "hits_total"})
    assert 'hits_total{path="/a b"} 2' in answer.text
