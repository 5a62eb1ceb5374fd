"""VictoriaMetrics' ways in and out over HTTP; and that the real one and Vedette make the same samples of the same bytes."""

from __future__ import annotations

import gzip
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from vedette.api import intake
from vedette.api.datadog import Datadog
from vedette.api.datadog import endpoints as datadog_endpoints
from vedette.api.endpoint import routes
from vedette.api.export import Exporting
from vedette.api.export import endpoints as export_endpoints
from vedette.api.imports import Imports, endpoints
from vedette.api.influx import Influx
from vedette.api.influx import endpoints as influx_endpoints
from vedette.api.intake import Intake
from vedette.api.prometheus import matchers_of
from vedette.api.write import WriteSettings
from vedette.clock import ManualClock
from vedette.errors import BadInput
from vedette.ingest.door import Door
from vedette.ingest.intake import IntakeSettings
from vedette.storage.engine import Engine
from vedette.storage.limits import Limits, LimitsSettings, TenantLimits
from vedette.storage.settings import StorageSettings
from vedette.wire import series_lines

NOW = 1_700_000_000
NOW_MS = NOW * 1000


class Server:
    """A storage, the ways in and the way out."""

    def __init__(self, data: Path, run: Any, *, limits: TenantLimits | None = None) -> None:
        clock = ManualClock(NOW)
        held = Limits(LimitsSettings(default=limits or TenantLimits()), window=3_600_000)
        self.engine = Engine(StorageSettings(data=data, retention=0), clock, limits=held)
        self.intake = Intake(Door(self.engine, clock, limits=held).append, run, clock, lambda scope: "default",
                             lambda: IntakeSettings(influx_db_label="db"))  # fmt: skip
        self.export = Exporting(self.engine, run, matchers_of, lambda scope: "default")
        values = lambda tenant, label, start, end: self.engine.label_values(tenant, label, [[]], start, end)  # noqa: E731
        self.endpoints = [
            *endpoints(Imports(self.intake)),
            *export_endpoints(self.export),
            *influx_endpoints(Influx(self.intake, values)),
            *datadog_endpoints(Datadog(self.intake)),
        ]


@pytest.fixture
async def server(tmp_path: Path, run: Any) -> AsyncIterator[Server]:
    made = Server(tmp_path / "data", run)
    await made.engine.start()
    yield made
    await made.engine.close()


@pytest.fixture
def client(server: Server, serve: Any) -> httpx.AsyncClient:
    made: httpx.AsyncClient = serve(routes(server.endpoints))
    return made


def lines(text: str) -> dict[str, dict[int, float | str | None]]:
    """(time, value) of each series of JSON lines."""
    found: dict[str, dict[int, float | str | None]] = {}
    for line in map(json.loads, text.splitlines()):
        samples = found.setdefault(json.dumps(line["metric"], sort_keys=True), {})
        samples.update(zip(line["timestamps"], line["values"], strict=True))
    return found


LINES = (
    f'{{"metric":{{"__name__":"up","job":"node"}},"values":[1,0,61.5],"timestamps":[{NOW_MS - 2000},{NOW_MS - 1000},{NOW_MS}]}}\n'
    f'{{"metric":{{"__name__":"dots.in","a-b":"é\\"x"}},"values":[-1e-9],"timestamps":[{NOW_MS}]}}\n'
)


@pytest.mark.parametrize("prefix", ["", "/prometheus"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_json_lines_go_in_and_come_out_again(client: httpx.AsyncClient, prefix: str, method: str) -> None:
    answer = await client.request(method, f"{prefix}/api/v1/import", content=LINES)
    assert (answer.status_code, answer.content) == (204, b"")
    out = await client.post(f"{prefix}/api/v1/export", data={"match[]": '{__name__!=""}'})
    assert out.headers["content-type"].startswith("application/stream+json")
    assert out.headers["x-vedette-samples"] == "4"
    assert lines(out.text) == lines(LINES)


async def test_labels_that_are_laid_over(client: httpx.AsyncClient) -> None:
    asked = {"extra_label": ["job=other", "zone=z"]}
    await client.post("/api/v1/import", params=asked, content=LINES.splitlines()[0])
    await client.post("/api/v1/import/prometheus", params=asked, content='foo{job="a"} 1\n')
    await client.post("/api/v1/import/csv", params={**asked, "format": "1:label:job,2:metric:load"}, content="a,1")
    out = lines((await client.get("/api/v1/export", params={"match[]": '{zone="z"}'})).text)
    names = [json.loads(series) for series in out]
    assert sorted((n["__name__"], n["job"]) for n in names) == [("foo", "other"), ("load", "other"), ("up", "other")]


async def test_lines_that_cannot_be_read_are_told_and_the_others_stored(server: Server, client: httpx.AsyncClient) -> None:
    first, second = LINES.splitlines()
    answer = await client.post("/api/v1/import", content=f"{first}\nnonsense\n{second}\n")
    assert answer.status_code == 400
    assert answer.text == (
        "1 line not read: line 2, column 1: JSON is malformed: invalid character (byte 4); the others of this request are stored\n"
    )
    assert len(lines((await client.get("/api/v1/export", params={"match[]": '{__name__!=""}'})).text)) == 2
    assert server.intake.unread["import"] == 1


async def test_csv(server: Server, client: httpx.AsyncClient) -> None:
    asked = {"format": "1:label:host,2:metric:load,3:time:unix_s"}
    answer = await client.post("/api/v1/import/csv", params=asked, content=f"a,1.5,{NOW}\nb,x,{NOW}\n")
    assert answer.status_code == 400
    assert answer.text.startswith("1 line not read: line 2, column 1: metric load: not a number: 'x'; ")
    assert server.intake.unread["csv"] == 1
    out = await client.get("/api/v1/export", params={"match[]": "load"})
    assert lines(out.text) == {'{"__name__": "load", "host": "a"}': {NOW_MS: 1.5}}


async def test_a_description_of_columns_that_is_none(client: httpx.AsyncClient) -> None:
    missing = await client.post("/api/v1/import/csv", content="a,1")
    assert (missing.status_code, missing.text.startswith('missing parameter "format"')) == (400, True)
    bad = await client.post("/api/v1/import/csv?format=1:label", content="a,1")
    assert (bad.status_code, bad.text.startswith("format, entry 1: not a column")) == (400, True)


async def test_exposition_text(server: Server, client: httpx.AsyncClient) -> None:
    body = f'# HELP foo What it is.\n# TYPE foo counter\nfoo{{a="b"}} 1\nbar 2 {NOW_MS - 1000}\n'
    assert (await client.post("/api/v1/import/prometheus", content=body)).status_code == 204
    assert (await client.post(f"/api/v1/import/prometheus?timestamp={NOW_MS - 5}", content="baz 3\n")).status_code == 204
    openmetrics = {"Content-Type": "application/openmetrics-text; version=1.0.0"}
    text = f"om 4 {NOW - 1}.5\n# EOF\n"
    assert (await client.post("/prometheus/api/v1/import/prometheus", content=text, headers=openmetrics)).status_code == 204
    out = await client.get("/api/v1/export", params={"match[]": '{__name__!=""}'})
    assert lines(out.text) == {
        '{"__name__": "foo", "a": "b"}': {NOW_MS: 1}, '{"__name__": "bar"}': {NOW_MS - 1000: 2},
        '{"__name__": "baz"}': {NOW_MS - 5: 3}, '{"__name__": "om"}': {NOW_MS - 500: 4},
    }  # fmt: skip
    assert [(m.metric, m.type, m.help) for m in server.engine.metadata("default")] == [("foo", "counter", "What it is.")]


async def test_exposition_text_that_breaks_the_syntax_is_refused_whole(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/import/prometheus", content="good 1\nbad x\n")
    assert (answer.status_code, answer.text) == (400, "line 2, column 5: not a number\n")
    assert (await client.get("/api/v1/export", params={"match[]": "good"})).status_code == 204
    stamp = await client.post("/api/v1/import/prometheus?timestamp=soon", content="good 1\n")
    assert (stamp.status_code, stamp.text) == (400, "invalid parameter \"timestamp\": 'soon' (expected Unix milliseconds)\n")


async def test_samples_that_are_not_stored_are_told(client: httpx.AsyncClient) -> None:
    await client.post("/api/v1/import", content=LINES)
    again = await client.post("/api/v1/import", content=LINES.replace("61.5", "62"))
    assert (again.status_code, again.text) == (400, "samples not stored: 1 duplicate; the others of this request are stored\n")


async def test_over_the_limit_of_series(tmp_path: Path, run: Any, serve: Any) -> None:
    server = Server(tmp_path / "data", run, limits=TenantLimits(max_series=1))
    await server.engine.start()
    answer = await serve(routes(server.endpoints)).post("/api/v1/import", content=LINES)
    await server.engine.close()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert answer.text.startswith("samples not stored: ")


async def test_packed_bodies(client: httpx.AsyncClient) -> None:
    assert (
        await client.post("/api/v1/import", content=gzip.compress(LINES.encode()), headers={"Content-Encoding": "gzip"})
    ).status_code == 204
    out = await client.get("/api/v1/export", params={"match[]": "up", "max_rows_per_line": "2"})
    assert [len(json.loads(line)["values"]) for line in out.text.splitlines()] == [2, 1]


@pytest.mark.parametrize("packed", [False, True])
async def test_json_lines_may_be_of_any_size(
    server: Server, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    server.intake.limits = WriteSettings(max_body_bytes=2000, max_decoded_bytes=2000, max_held_bytes=4000)
    monkeypatch.setattr(intake, "_PIECE", 500)
    monkeypatch.setattr(intake, "_STEP", 100)
    body = "".join(f'{{"metric":{{"__name__":"m","i":"{i}"}},"values":[{i}],"timestamps":[{NOW_MS}]}}\n' for i in range(300)) + "bad"

    async def sent() -> AsyncIterator[bytes]:
        whole = gzip.compress(body.encode()) if packed else body.encode()
        for at in range(0, len(whole), 333):
            yield whole[at : at + 333]

    headers = {"Content-Encoding": "gzip"} if packed else {}
    answer = await client.post("/api/v1/import", content=sent(), headers=headers)
    assert answer.status_code == 400
    assert answer.text.startswith("1 line not read: line 301, column 1: ")
    assert len(lines((await client.get("/api/v1/export", params={"match[]": "m"})).text)) == 300
    assert server.intake._held == 0


async def test_a_line_that_does_not_end_is_not_gathered(server: Server, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_PIECE", 100)
    monkeypatch.setattr(series_lines, "MOST_LINE", 1000)

    async def sent() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 50

    answer = await client.post("/api/v1/import", content=sent())
    assert (answer.status_code, answer.text) == (400, "a line is longer than 1000 bytes\n")
    assert server.intake._held == 0


@pytest.mark.parametrize(
    ("body", "problem"), [(b"no gzip", "not a gzip body"), (gzip.compress(b"x" * 99)[:-9], "the gzip body ends early")]
)
async def test_packed_lines_that_are_none(server: Server, client: httpx.AsyncClient, body: bytes, problem: str) -> None:
    answer = await client.post("/api/v1/import", content=body, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.text.startswith(problem)) == (400, True)
    assert server.intake._held == 0


async def test_a_client_that_goes_away_has_nothing_stored_of_what_it_began(server: Server) -> None:
    sent = [{"type": "http.request", "body": b"half a li", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return sent.pop(0)

    for read in (lambda request: server.intake.body(request), lambda request: aclosing(server.intake.lines(request, most_line=10))):
        sent[:] = [{"type": "http.request", "body": b"half a li", "more_body": True}, {"type": "http.disconnect"}]
        with pytest.raises(BadInput, match="the client went away"):
            async with read(Request({"type": "http", "headers": []}, receive)) as got:
                async for _ in got:  # a body alone does not get as far
                    pass
        assert server.intake._held == 0


@pytest.mark.parametrize("rows", ["0", "1000001", "many"])
async def test_a_number_of_rows_that_is_none(client: httpx.AsyncClient, rows: str) -> None:
    answer = await client.get("/api/v1/export", params={"match[]": "up", "max_rows_per_line": rows})
    assert answer.status_code == 400


async def test_what_is_too_much_at_once_comes_one_stretch_after_another(server: Server, client: httpx.AsyncClient) -> None:
    times = [NOW_MS - 3_000_000 + 10_000 * k for k in range(300)]
    body = "".join(json.dumps({"metric": {"__name__": "m", "i": str(i)}, "values": times, "timestamps": times}) + "\n" for i in range(3))
    assert (await client.post("/api/v1/import", content=body)).status_code == 204
    object.__setattr__(server.export, "most", 100)
    out = await client.get("/api/v1/export", params={"match[]": "m"})
    assert "x-vedette-samples" not in out.headers
    assert lines(out.text) == lines(body)
    first = [json.loads(line)["timestamps"][0] for line in out.text.splitlines()]
    assert first == sorted(first), "the earlier first, so that whoever takes them gets them in order"


@pytest.fixture
def victoria_metrics(tmp_path: Path, free_port: Callable[[], int], debian_binary: Callable[[str], str]) -> Iterator[httpx.Client]:
    """A real one, empty."""
    port = free_port()
    flags = ["-retentionPeriod=100y", "-search.latencyOffset=0s", "-search.disableCache", "-opentsdbHTTPListenAddr="]
    with (tmp_path / "vm.log").open("wb") as log:
        process = subprocess.Popen(
            [debian_binary("victoria-metrics"), f"-storageDataPath={tmp_path / 'vm'}", f"-httpListenAddr=127.0.0.1:{port}", *flags],
            stdout=log, stderr=log,
        )  # fmt: skip
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as asking:
        _until(lambda: asking.get("/health").status_code == 200)
        yield asking
    process.terminate()
    process.wait(30)


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if done():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "it did not happen within half a minute"
        time.sleep(0.05)


EVERYTHING = {"match[]": '{__name__!=""}', "start": str(NOW - 60), "end": str(NOW + 60)}


def exported(server: httpx.Client) -> bytes:
    """All that a VictoriaMetrics has; new series would show by themselves after some seconds."""
    assert server.get("/internal/force_flush").status_code == 200
    return server.get("/api/v1/export", params=EVERYTHING).content


DATADOG = {"metric": "system.load.1", "points": [[NOW, 0.5]], "host": "a", "tags": ["env:prod", "url:http://x"]}
SAME: list[tuple[str, dict[str, str], str]] = [
    ("/api/v1/import", {"extra_label": "run=1"}, LINES),
    (
        "/api/v1/import/csv", {"format": "2:metric:ask,3:metric:bid,1:label:ticker,4:time:unix_ms"},
        f"GOOG,1.23,4.56,{NOW_MS}\nMSFT,2,7,{NOW_MS}\n",
    ),
    ("/api/v1/import/prometheus", {"timestamp": str(NOW_MS)}, 'foo{a="b",c="d\\\\e"} 1.5\nbar_total 7\n'),
    (
        "/write", {"db": "telegraf", "precision": "ms"},
        f"cpu,host=a,p=C:\\dir usage=1.5,idle=98i,on=true,off=F,big=7u {NOW_MS}\nmem\\ x,a\\,b=c\\=d free=1 {NOW_MS}\n",
    ),
    ("/write", {}, f"disk,path=/ used=1e3 {NOW_MS}000000\n# a comment\n\ndisk,path=/,empty= free=-0.5 {NOW_MS}000001\n"),
    ("/datadog/api/v1/series", {}, json.dumps({"series": [DATADOG]})),
    ("/api/v2/write", {"precision": "s"}, f"net,if=eth0 rx=1,tx=2 {NOW}\r\n"),
]  # fmt: skip


async def test_victoria_metrics_makes_the_same_of_the_same_bytes(
    server: Server, client: httpx.AsyncClient, victoria_metrics: httpx.Client
) -> None:
    # Its names are as they came.
    server.intake.settings = lambda: IntakeSettings(names="utf8")
    for path, asked, body in SAME:
        ours, theirs = await client.post(path, params=asked, content=body), victoria_metrics.post(path, params=asked, content=body)
        assert ours.status_code == theirs.status_code, (path, ours.text, theirs.text)
        assert ours.is_success
    mine = lines((await client.get("/api/v1/export", params=EVERYTHING)).text)
    assert len(mine) == 19
    assert lines(exported(victoria_metrics).decode()) == mine


async def test_copies_both_ways(client: httpx.AsyncClient, victoria_metrics: httpx.Client) -> None:
    up, dots = LINES.splitlines()
    assert victoria_metrics.post("/api/v1/import", content=up).status_code == 204
    assert (await client.post("/api/v1/import", content=exported(victoria_metrics))).status_code == 204
    # With a stale marker, which some versions cannot read: all else must get there.
    stale = f'{{"metric":{{"__name__":"gone"}},"values":[3,null,4],"timestamps":[{NOW_MS - 20},{NOW_MS - 10},{NOW_MS}]}}'
    assert (await client.post("/api/v1/import", content=f"{dots}\n{stale}")).status_code == 204
    ours = (await client.get("/api/v1/export", params=EVERYTHING)).content
    assert victoria_metrics.post("/api/v1/import", content=ours).status_code == 204
    found = lines(exported(victoria_metrics).decode())
    gone = found.pop('{"__name__": "gone"}')
    assert found == lines(LINES)
    assert {time: value for time, value in gone.items() if value is not None} == {NOW_MS - 20: 3, NOW_MS: 4}
