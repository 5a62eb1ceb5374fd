"""What is answered at once is what the application answers, byte for byte; and it is asked for whatever else there is."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from vedette.access.guard import Guard, tenant_of
from vedette.access.identity import Identities
from vedette.access.settings import AccessSettings
from vedette.api import ops, prometheus, queries
from vedette.api.at_once import AtOnce
from vedette.api.direct import Direct
from vedette.api.endpoint import routes
from vedette.api.glances import DECLINED, Glances
from vedette.api.prometheus import READING_POSTS, PrometheusApiSettings, Sources
from vedette.api.settings import TracingSettings
from vedette.api.status import Reloaded, StatusInfo
from vedette.api.tracing import Tracing
from vedette.api.turns import Turns
from vedette.cli.connection import Connection
from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.promql import engine as engine_module
from vedette.promql.engine import Engine
from vedette.promql.errors import TooManySamples
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings
from vedette.selfmetrics import HttpMetrics
from vedette.storage.engine import Engine as Storage
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000
KEY = "k" * 40


@dataclass
class Server:
    """One server that answers at once where it can, and one of the same rooms that never does."""

    quick: int
    slow: int
    app: AtOnce
    metrics: CollectorRegistry
    identities: Identities
    state: dict[str, Any]


async def said(port: int, *parts: bytes) -> bytes:
    """All that is answered to `parts`, the last of which ends the connection, but for the date."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return re.sub(rb"\r\ndate: [^\r]*", b"", answer)


async def in_turn(port: int, *requests: bytes) -> list[bytes]:
    """What is answered to each of `requests` on one connection, of which each is sent when the one before was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers: list[bytes] = []
    for request in requests:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        size = re.search(rb"content-length: (\d+)", head)
        body = await asyncio.wait_for(reader.readexactly(int(size[1])) if size else reader.read(), 20)
        answers.append(re.sub(rb"\r\ndate: [^\r]*", b"", head) + body)
        if reader.at_eof() or b"\r\nconnection: close" in head:
            break
    writer.close()
    return answers


LAST = b"GET /api/v1/status/buildinfo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-ID: last\r\n\r\n"


def get(
    query: str, *, path: str = "query_range", method: str = "GET", headers: str = "", body: bytes = b"", id_: str = "X-Request-ID: one\r\n"
) -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} /api/v1/{path}{query} HTTP/1.1\r\nHost: localhost\r\n{id_}{headers}{length}\r\n".encode() + body


def ranged(expr: str, start: float = NOW - 600, end: float = NOW, step: str = "15") -> str:
    return f"query={quote(expr)}&start={start}&end={end}&step={step}"


Open = Callable[..., Any]


@asynccontextmanager
async def serving(place: Path, *, access: AccessSettings | None = None, tracing: bool = False, **limits: Any) -> AsyncIterator[Server]:
    clock, state = ManualClock(NOW), {"ready": True}
    storage = Storage(StorageSettings(data=place), clock)
    await storage.start()
    engine = Engine(storage, PromqlSettings(), clock)
    await storage.append(sent("default", 30))
    await storage.append(sent("team", 2))
    registry = CollectorRegistry()
    http = HttpMetrics(registry, lambda path: path)
    identities = Identities(access or AccessSettings(), clock)
    loop = asyncio.get_running_loop()
    info = StatusInfo(
        version="1",
        started=NOW,
        config=lambda: "",
        flags=dict,
        reloaded=lambda: Reloaded(True, NOW),
        retention=lambda: "30d",
        corruptions=lambda: 0,
    )
    made = prometheus.endpoints(
        engine,
        storage,
        Sources(targets=list, dropped=list, dropped_counts=dict, groups=lambda _request: []),
        run=lambda function, *args: loop.run_in_executor(None, function, *args),
        clock=clock,
        info=info,
        tenant_of=tenant_of,
        ready=lambda: state["ready"],
        settings=PrometheusApiSettings(**limits),
    )
    made += ops.endpoints(
        ops.Operations(
            ready=lambda: state["ready"], reload=asyncio.Event().wait, dependencies=dict, clock=clock, started=NOW - 90, version="1"
        )
    )
    guarded = Guard(Direct(Starlette(routes=routes(made)), made), identities, reading_posts=READING_POSTS)
    around = Tracing(TracingSettings(enabled=tracing), clock, version="1")
    whole = around.around(http.around(guarded), lambda path: path)
    app = AtOnce(whole, made, admits=guarded.admits, identified=around.identified, observe=http.observe)
    ports, servers = [], []
    for one in (app, whole):
        listening = socket.create_server(("127.0.0.1", 0))
        ports.append(int(listening.getsockname()[1]))
        config = uvicorn.Config(
            one, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False, loop="none", server_header=False
        )
        server = uvicorn.Server(config)
        servers.append((server, asyncio.create_task(server._serve([listening]))))
    yield Server(ports[0], ports[1], app, registry, identities, state)
    for server, task in servers:
        server.should_exit = True
        await task
    engine.close()
    await storage.close()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:
        yield lambda **how: stack.enter_async_context(serving(tmp_path / "data", **how))


def sent(tenant: str, series: int) -> SampleBatch:
    rows = [Labels.of(__name__="m_total", i=str(i), site='"s\u00e9"') for i in range(series)]
    batch = SampleBatch.of(canonical(tenant), rows, [0] * series, [0.0] * series)
    batch.offsets = np.arange(series + 1, dtype=np.int64) * 40
    batch.timestamps = np.tile((NOW - 600) * 1000 + np.arange(40, dtype=np.int64) * 15_000, series)
    batch.values = np.arange(40 * series, dtype=np.float64) * 0.7
    return batch


def count(server: Server, code: str = "200") -> float:
    return server.metrics.get_sample_value("vedette_http_requests_total", {"handler": "/api/v1/query_range", "code": code}) or 0.0


async def at_once(server: Server, request: bytes) -> tuple[bytes, bool]:
    """The answer, which must be that of the application, and whether it came past that."""
    asked: list[str] = []
    whole, server.app._app = server.app._app, None  # type: ignore[assignment]

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        if scope["headers"][-1] != (b"x-request-id", b"last"):
            asked.append(scope["path"])
        await whole(scope, receive, send)

    server.app._app = noted
    quick = await said(server.quick, request, LAST)
    server.app._app = whole
    assert quick == await said(server.slow, request, LAST)
    return quick, not asked


ONE = 'm_total{i="1"}'


async def test_queries_that_were_asked_before(serve: Open) -> None:
    server = await serve()
    form = "Content-Type: application/x-www-form-urlencoded\r\n"
    for expr in (
        ONE,
        f"rate({ONE}[1m])",
        "sum by (site) (m_total)",
        "avg(rate(m_total[1m]))",
        "last_over_time(m_total[1m])",
        f"-{ONE} * 8",
        "1 > sum(m_total) / 1e9",
        "sum by (site) (rate(m_total[1m])) / sum by (site) (m_total)",
        "abs(m_total) or vector(0)",
        "m_total * on (site) group_left () count by (site) (m_total)",
        "nothing_of_that_name",
    ):
        for headers in (
            "",
            "Accept-Encoding: gzip, deflate\r\n",
            "Accept-Encoding: gzip;q=0\r\n",
            "User-Agent: Grafana\r\nAccept: */*\r\n",
        ):
            instant = f"?query={quote(expr)}&time={NOW - 30}"
            await said(server.slow, get("?" + ranged(expr)), LAST)
            await said(server.slow, get(instant, path="query"), LAST)
            requests = [
                get("?" + ranged(expr), headers=headers),
                get("?" + ranged(expr, step="1m"), headers=headers),
                get("", method="POST", headers=headers + form, body=ranged(expr).encode()),
                get("?step=30s", method="POST", headers=headers + form, body=ranged(expr).removesuffix("&step=15").encode()),
                get(instant, path="query", headers=headers),
                get(f"?query={quote(expr)}&time=", path="query", headers=headers),
                get(f"?query={quote(expr)}", path="query", headers=headers),
                get("", path="query", method="POST", headers=headers + form, body=instant[1:].encode()),
            ]
            for request in requests:
                answer, quick = await at_once(server, request)
                assert quick, request
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                assert b"x-request-id: one" in answer
    assert server.app.failures == 0


NEW = (
    ONE,
    'm_total{i="2",site!="x"}',
    'rate(m_total{i=~"1|2"}[1m])',
    "sum by (site) (m_total)",
    "avg(rate(m_total{i!~'[3-9]'}[1m]))",
    f"100 * (1 - {ONE})",
    f'{ONE} - ignoring (i) m_total{{i="2"}}',
    "no_such_metric",
)


@pytest.mark.parametrize("expr", NEW)
async def test_queries_that_nobody_asked_before_where_their_series_are_soon_found(serve: Open, expr: str) -> None:
    server = await serve()
    answer, quick = await at_once(server, get("?" + ranged(expr)))
    assert quick
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (b'"values"' in answer) == (expr != "no_such_metric")


async def test_not_where_finding_out_may_take_long(serve: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await serve()
    monkeypatch.setattr(engine_module, "_FEW_SERIES", 1)
    # One of these looks through one series, two through all of a metric's, the others are looked up.
    for expr, wanted in zip(NEW, (True, True, False, True, False, True, True, True), strict=True):
        assert (await at_once(server, get("?" + ranged(expr))))[1] == wanted, expr
    assert not (await at_once(server, get("?" + ranged('{i=~"1"}'))))[1]
    # What a regular expression may cost before anything is looked for.
    for pattern in (r"\\pL|1", "(1|x{900})", "[1-9]{1,2}"):
        assert not (await at_once(server, get("?" + ranged(f'm_total{{i="1",site=~"{pattern}"}}'))))[1]
    long = "m_total{i=" + '"' + "1" * 600 + '"}'
    assert not (await at_once(server, get("?" + ranged(long))))[1]
    assert (await at_once(server, get("?" + ranged(long))))[1], "it is known by now, and has no series"
    monkeypatch.setattr(engine_module, "_SHORT_TEXT", 700)
    assert (await at_once(server, get("?" + ranged(long.replace("1", "2")))))[1]


async def test_nobody_looks_twice_whether_it_is_little(serve: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, glance = [], Engine.glance

    def looking(engine: Engine, tenant: str, expr: str, *span: int) -> object:
        looked.append(expr)
        return glance(engine, tenant, expr, *span)

    server = await serve()
    monkeypatch.setattr(Engine, "glance", looking)
    monkeypatch.setattr(engine_module, "MOST_SAMPLES", 5)
    for expr in (ONE, "abs(m_total) or vector(0)"):
        request = get("?" + ranged(expr))
        first, again = await said(server.quick, request, LAST), await said(server.quick, request, LAST)
        assert first == again
        assert looked == [expr], "the second time it was known"
        looked.clear()


async def test_a_large_answer_is_compressed(serve: Open) -> None:
    server = await serve()
    request = get("?" + ranged("m_total"), headers="Accept-Encoding: gzip\r\n")
    await said(server.slow, request, LAST)
    answer, quick = await at_once(server, request)
    assert quick
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip\r\nvary: Accept-Encoding" in head
    size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
    assert gzip.decompress(rest[:size]).startswith(b'{"status":"success","data":{"resultType":"matrix"')


OTHERS = (
    get("?" + ranged(ONE), method="OPTIONS"),
    get("?" + ranged(ONE), method="HEAD"),
    get("?" + ranged(ONE), method="PUT"),
    get("?" + ranged(ONE), headers="Origin: http://elsewhere\r\n"),
    get("?" + ranged(ONE), headers="X-Forwarded-For: 10.1.2.3\r\n"),
    get("?" + ranged(ONE), headers="Accept: a\r\nAccept: b\r\n"),
    get("?" + ranged(ONE), headers="Expect: 100-continue\r\n"),
    get("?" + ranged(ONE) + "&stats=all&limit=x"),
    get("?" + ranged(ONE) + "&limit=1"),
    get("?" + ranged(ONE) + "&timeout=5s"),
    get("?" + ranged(ONE) + "&lookback_delta=30s"),
    get("?" + ranged(ONE) + "&step=30"),
    get("?" + ranged(ONE, step="0")),
    get("?" + ranged(ONE, step="no")),
    get("?" + ranged(ONE, start=NOW + 1)),
    get("?" + ranged(ONE, step="0.001")),
    get("?" + ranged("m_total{")),
    get("?" + ranged("abs(m_total)")),
    get("?query=%ff&start=1&end=2&step=1"),
    get("?" + ranged(ONE) + "#fragment"),
    get("/?" + ranged(ONE)),
    get("", method="POST", headers="Content-Type: text/plain\r\n", body=ranged(ONE).encode()),
    get("?" + ranged(ONE), body=b"a body"),
    get(f"?query={quote(ONE)}&time=never", path="query"),
    get("", path="query"),
    b"GET http://localhost/api/v1/query_range?" + ranged(ONE).encode() + b" HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: one\r\n\r\n",
    get("?" + ranged(ONE)).replace(b"Host: localhost", b"Host: elsewhere.example"),
)


async def test_the_application_is_asked_for_anything_else(serve: Open) -> None:
    server = await serve()
    await said(server.slow, get("?" + ranged(ONE)), LAST)
    for request in OTHERS:
        _, quick = await at_once(server, request)
        assert not quick, request
    assert server.app.failures == 0


def health(path: str, headers: str = "", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: one\r\n{headers}\r\n".encode()


async def test_those_who_look_after_the_server_wait_for_nothing_else(serve: Open) -> None:
    server = await serve()
    for path, kind in (("/health", b"application/json"), ("/-/healthy", b"text/plain; charset=utf-8"), ("/-/ready", b"text/plain")):
        for headers in ("", "Accept-Encoding: gzip\r\n", "Authorization: Bearer x\r\n"):
            answer, quick = await at_once(server, health(path + "?verbose=1", headers))
            assert quick, path
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"content-type: " + kind in answer
        for request in (health(path, "Origin: http://elsewhere\r\n"), health(path, method="HEAD"), health(path, method="POST")):
            _, quick = await at_once(server, request)
            assert not quick, request
        answer, quick = await at_once(server, health(path).replace(b"localhost", b"elsewhere.example"))
        assert not quick
        assert answer.startswith(b"HTTP/1.1 403")
    server.state["ready"] = False
    answer, quick = await at_once(server, health("/-/ready"))
    assert not quick
    assert answer.startswith(b"HTTP/1.1 503")
    answer, quick = await at_once(server, health("/health"))
    assert quick
    assert b'"status":"starting"' in answer
    assert server.metrics.get_sample_value("vedette_http_requests_total", {"handler": "/health", "code": "200"}) >= 7  # type: ignore[operator]


async def test_who_looks_after_the_server_need_not_say_who_they_are(serve: Open) -> None:
    server = await serve(access=AccessSettings(api_key=KEY))
    last = LAST.replace(b"Host:", f"X-API-Key: {KEY}\r\nHost:".encode())
    for headers, expected in (("", True), ("Authorization: Bearer wrong\r\n", True), ("Cookie: vedette_session=x\r\n", False)):
        answer, quick = await at_once(server, health("/health", headers))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert quick == expected, headers
    assert (await said(server.quick, get("?" + ranged(ONE)), last)).startswith(b"HTTP/1.1 401")


async def test_in_pieces_in_rows_and_at_the_end(serve: Open) -> None:
    server = await serve()
    form = "Content-Type: application/x-www-form-urlencoded\r\n"
    post = get("", method="POST", headers=form, body=ranged(ONE).encode())
    large = get("", method="POST", headers=form, body=ranged(ONE).encode() + b"&pad=" + b"x" * Connection.HELD_BYTES)
    chunked = get("", method="POST", headers=form + "Transfer-Encoding: chunked\r\n") + b"%x\r\n%b\r\n0\r\n\r\n" % (
        len(ranged(ONE)),
        ranged(ONE).encode(),
    )
    plain, other = get("?" + ranged(ONE)), get("?" + ranged("abs(m_total)"))
    await said(server.slow, plain, LAST)
    rows = [plain, plain, post, other, plain, large, post, chunked, other, other, plain]
    whole = b"".join(rows) + LAST
    expected = await said(server.slow, whole)
    assert expected.count(b"HTTP/1.1 200 OK") == len(rows) + 1
    assert await said(server.quick, whole) == expected
    assert await said(server.quick, *rows, LAST) == expected
    small = b"".join([plain, post, other, chunked]) + LAST
    assert await said(server.quick, *(bytes([b]) for b in small)) == await said(server.slow, small)
    # The one that ends the connection, and an old client, are told so.
    for ending in (get("?" + ranged(ONE), headers="Connection: close\r\n"), plain.replace(b"HTTP/1.1", b"HTTP/1.0")):
        answer = await said(server.quick, ending)
        assert answer == await said(server.slow, ending)
        assert b"connection: close" in answer


async def test_a_request_like_the_one_before_need_not_be_read_again(serve: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await serve()
    begun = 0
    begin = Connection.on_message_begin

    def noted(self: Connection) -> None:
        nonlocal begun
        begun += 1
        begin(self)

    monkeypatch.setattr(Connection, "on_message_begin", noted)
    one, other = get("?" + ranged(ONE)), get("?" + ranged("sum(m_total)"))
    instant, unasked = get(f"?query=m_total&time={NOW}", path="query"), get("?" + ranged("m_total offset 1m"))
    post = get("", method="POST", headers="Content-Type: application/x-www-form-urlencoded\r\n", body=ranged(ONE).encode())
    await in_turn(server.slow, one, other, instant)
    gzip_ = one.replace(b"X-Request", b"Accept-Encoding: gzip\r\nX-Request")
    # How many of the requests so far were read by the parser; the first of a connection is timed, and says nothing of those after it.
    rows = [
        (one, 1), (one, 2), (other, 2), (one, 2), (instant, 2), (unasked, 2), (health("/health"), 2), (health("/-/ready"), 2),
        (one, 2), (gzip_, 3), (gzip_, 3), (one, 4), (one, 4), (post, 5), (one, 5), (one, 5), (get("?" + ranged("abs(m_total)")), 6),
        (one, 6), (get("?" + ranged(ONE) + "&limit=1"), 7), (get("?" + ranged(ONE) + "#x"), 8),
        (get("?" + ranged(ONE), path="query%5frange"), 9), (other, 9),
    ]  # fmt: skip
    begun, answers = 0, []
    reader, writer = await asyncio.open_connection("127.0.0.1", server.quick)
    for request, read in rows:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
        answers.append(re.sub(rb"\r\ndate: [^\r]*", b"", head) + body)
        assert begun == read, request
    writer.close()
    for mine, theirs in zip(answers, await in_turn(server.slow, *(request for request, _ in rows)), strict=True):
        assert re.sub(rb'"(uptime[^:]*|timestamp)":[^,}]*', b"", mine) == re.sub(rb'"(uptime[^:]*|timestamp)":[^,}]*', b"", theirs)


@pytest.mark.parametrize(
    "odd", [b" ", b"\r\nX: y", b"\n", b"\x80", b"\x00", b"\x7f", b"\t", b" HTTP/1.1\r\nA: b", b" HTTP/1.0\r\nHost: localhost"]
)
async def test_a_target_that_is_none_is_read_by_the_parser(serve: Open, odd: bytes) -> None:
    server = await serve()
    one = get("?" + ranged(ONE))
    await in_turn(server.slow, one)
    broken = one.replace(b"&step", odd + b"&step")
    quick, slow = await in_turn(server.quick, one, one, broken, one), await in_turn(server.slow, one, one, broken, one)
    assert quick == slow
    assert quick[0].startswith(b"HTTP/1.1 200")


async def test_requests_in_pieces_after_one_that_was_whole(serve: Open) -> None:
    server = await serve()
    one, other = get("?" + ranged(ONE)), get("?" + ranged("sum(m_total)"))
    await in_turn(server.slow, one, other)
    for cut in (1, 3, 4, 30, len(other) - 4, len(other) - 1):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.quick)
        for part in (one, other[:cut], other[cut:], one + other, one, b"\r\n" + other):
            writer.write(part)
            if part != other[:cut]:
                for _ in range(part.count(b"GET ") or 1):
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                    assert head.startswith(b"HTTP/1.1 200")
                    body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
                    assert body.startswith(b'{"status":"success"')
            else:
                await writer.drain()
        writer.close()


async def test_who_is_not_known_any_more_is_not_let_in_on_the_same_connection(serve: Open) -> None:
    server = await serve(access=AccessSettings(api_key=KEY))
    known = get("?" + ranged("m_total"), headers=f"Authorization: Bearer {KEY}\r\n")
    assert [a[9:12] for a in await in_turn(server.slow, known)] == [b"200"]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.quick)
    for expected in (b"200", b"200", b"401"):
        if expected == b"401":
            server.identities.apply(AccessSettings(api_key="another" * 6))
        writer.write(known)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert head[9:12] == expected
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
    writer.close()


async def test_many_that_come_together_leave_others_their_turn(serve: Open) -> None:
    server = await serve()
    plain = get("?" + ranged(ONE))
    await said(server.slow, plain, LAST)
    inner, asked = server.app._app, 0

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += scope["path"] == "/api/v1/query_range"
        await inner(scope, receive, send)

    server.app._app = noted
    answer = await said(server.quick, plain * 30 + LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == 31
    assert 0 < asked <= 30 - Connection.IN_A_ROW
    assert answer == await said(server.slow, plain * 30 + LAST)


async def test_every_request_has_an_id_and_is_counted(serve: Open) -> None:
    server = await serve()
    for number in range(4):
        before = count(server)
        answer = await said(server.quick, get("?" + ranged(ONE), id_=""), LAST)
        assert re.search(rb"x-request-id: [0-9a-f]{8}-\d+\r\n", answer)
        assert count(server) == before + 1, number
    seen = server.metrics.get_sample_value("vedette_http_request_duration_seconds_count", {"handler": "/api/v1/query_range"})
    assert seen == 4


async def test_those_who_must_say_who_they_are(serve: Open) -> None:
    server = await serve(access=AccessSettings(api_key=KEY))
    known = get("?" + ranged("m_total"), headers=f"Authorization: Bearer {KEY}\r\n")
    last = LAST.replace(b"Host:", f"X-API-Key: {KEY}\r\nHost:".encode())
    for expected in (b"200", b"200"):
        assert (await said(server.quick, known, last)).startswith(b"HTTP/1.1 " + expected)
    asked = [
        (known, True),
        (get("?" + ranged("m_total"), headers=f"X-API-Key: {KEY}\r\n"), True),
        (known.replace(b"Host:", b"X-Scope-OrgID: team\r\nHost:"), True),
        (known.replace(b"Host:", b"X-Scope-OrgID: nobody\r\nHost:"), False),
        (known.replace(b"Host:", b"X-Scope-OrgID: ../x\r\nHost:"), False),
        (get("?" + ranged("m_total")), False),
        (get("?" + ranged("m_total"), headers="Authorization: Bearer wrong\r\n"), False),
        (get("?" + ranged("m_total"), headers="Cookie: vedette_session=x\r\n"), False),
    ]
    await said(server.slow, asked[2][0], last)
    answers = []
    for request, expected in asked:
        answer, quick = await at_once(server, request)
        answers.append(answer)
        assert quick == expected, request
    assert answers[0].count(b'"i":') == 30
    assert answers[2].count(b'"i":') == 2, "each tenant sees its own"
    assert answers[3].count(b'"i":') == 0
    assert [a[9:12] for a in answers] == [b"200", b"200", b"200", b"200", b"400", b"401", b"401", b"401"]
    # Who is not known any more is not let in.
    server.identities.apply(AccessSettings(api_key="another" * 6))
    assert (await said(server.quick, known, last)).startswith(b"HTTP/1.1 401")


async def test_what_is_traced_goes_the_long_way(serve: Open) -> None:
    server = await serve(tracing=True)
    await said(server.slow, get("?" + ranged(ONE)), LAST)
    asked: list[str] = []
    inner = server.app._app

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await inner(scope, receive, send)

    server.app._app = noted
    answer = await said(server.quick, get("?" + ranged(ONE)), LAST)
    assert b"traceparent: 00-" in answer
    assert len(asked) == 2


async def test_not_before_the_server_is_ready(serve: Open) -> None:
    server = await serve()
    await said(server.slow, get("?" + ranged(ONE)), LAST)
    server.state["ready"] = False
    answer, quick = await at_once(server, get("?" + ranged(ONE)))
    assert not quick
    assert answer.startswith(b"HTTP/1.1 503")


def test_not_out_of_turn() -> None:
    engine, turns, clock = (
        Engine(MemoryStorage(), PromqlSettings(), ManualClock()),
        Turns(concurrency=1, per_tenant=1, queued=1),
        ManualClock(),
    )
    asked: list[tuple[Any, ...]] = []

    class Handy:
        def quick(self, *args: Any) -> Any:
            asked.append(args)
            kinds = {"m": "vector(1)", "small": "vector(3)"}
            return engine.instant(args[0], kinds[args[1]], args[2]) if args[1] in kinds else None

        def known(self, text: str) -> bool:
            return text == "large"

        def first_glance(self, *args: Any) -> Any:
            assert not busy
            return engine.instant(args[0], "vector(2)", args[2])

    busy: list[bool] = []
    glances = Glances(Handy(), turns, clock, lambda scope: "t", lambda: bool(busy))  # type: ignore[arg-type]
    scope = {"method": "GET", "query_string": b"query=m&start=1&end=3&step=2"}
    assert glances.range(scope, {}, b"") is not None
    assert turns.take("another")
    assert glances.range(scope, {}, b"") is None
    assert glances.instant({"method": "GET", "query_string": b"query=m"}, {}, b"") is None
    turns.give_back("another")
    assert glances.instant({"method": "GET", "query_string": b"query=m"}, {}, b"") is not None
    now = int(clock.now() * 1000)
    assert asked == [("t", "m", 1000, 3000, 2000), ("t", "m", now, now, 0)]
    assert b'"3"' in (glances.instant({"method": "GET", "query_string": b"query=small"}, {}, b"") or b"")
    new = {"method": "GET", "query_string": b"query=new"}
    assert b'"2"' in (glances.instant(new, {}, b"") or b"")
    # What is known needs nothing that another may hold.
    busy.append(True)
    cold = Glances(Handy(), turns, clock, lambda scope: "t", warm=lambda: False)  # type: ignore[arg-type]
    assert cold.range(scope, {}, b"") is None
    large: dict[str, Any] = {"method": "GET", "query_string": b"query=large"}
    assert glances.instant(large, {}, b"") is None and large[DECLINED]
    assert glances.instant(new, {}, b"") is None
    assert glances.range(scope, {}, b"") is not None
    engine.close()


async def soon_at_once(server: Server, request: bytes) -> bytes:
    """The answer once it comes past the application: what calls a kernel for the first time takes longer, and upkeep may have the lock."""
    async with asyncio.timeout(60):
        while True:
            answer, quick = await at_once(server, request)
            if quick:
                return answer


@pytest.mark.parametrize(
    "expr", ["m_total", "sum by (site) (rate(m_total[1m]))", 'max_over_time(rate(m_total{i=~"1.*"}[1m])[2m:30s])', "count(m_total > 5)"]
)
async def test_what_is_not_at_hand_but_over_in_a_moment(serve: Open, monkeypatch: pytest.MonkeyPatch, expr: str) -> None:
    monkeypatch.setattr(engine_module, "MOST_SAMPLES", -1)
    monkeypatch.setattr(queries, "_TOO_LONG_S", 60)
    server = await serve()
    instant, range_ = get(f"?query={quote(expr)}&time={NOW - 30}", path="query"), get("?" + ranged(expr))
    for request in (instant, range_, get("?" + ranged(expr), headers="Accept-Encoding: gzip\r\n")):
        assert b"200 OK" in await soon_at_once(server, request)
    later = await soon_at_once(server, get("?" + ranged(expr, start=NOW - 599, end=NOW + 1)))
    assert later != await soon_at_once(server, range_), "of the same length, a second later"
    for other in (ranged(expr, step="20"), ranged(expr, start=NOW - 300), ranged(expr) + "&limit=1", ranged(expr) + "&stats=all"):
        _, quick = await at_once(server, get("?" + other))
        assert not quick, "of another shape"
    assert server.app.failures == 0


async def test_an_error_of_what_was_over_in_a_moment_is_told_as_ever(serve: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MOST_SAMPLES", -1)
    monkeypatch.setattr(queries, "_TOO_LONG_S", 60)
    server = await serve()
    request = get("?" + ranged("m_total * 2"))
    await soon_at_once(server, request)

    def fails(*_: Any, **__: Any) -> Any:
        raise TooManySamples("query processing would load too many samples into memory in query execution")

    with monkeypatch.context() as broken:
        broken.setattr(Engine, "_evaluated", fails)
        answer, quick = await at_once(server, request)
        assert not quick and b" 422 " in answer and b"too many samples" in answer
    assert b"200 OK" in await soon_at_once(server, request)
    assert server.app.failures == 0


async def test_a_fault_of_ours_takes_the_long_way(serve: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await serve()
    await said(server.slow, get("?" + ranged(ONE)), LAST)

    def broken(*_: Any) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(server.app, "_handlers", dict.fromkeys(server.app._handlers, broken))
    answer, quick = await at_once(server, get("?" + ranged(ONE)))
    assert not quick
    assert answer.startswith(b"HTTP/1.1 200")
    assert server.app.failures == 1


async def test_a_connection_that_nobody_uses_is_closed(serve: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await serve()
    made: list[Connection] = []
    original = Connection.connection_made

    def noted(self: Connection, transport: Any) -> None:
        made.append(self)
        self.timeout_keep_alive = 0.05  # type: ignore[assignment]
        original(self, transport)

    monkeypatch.setattr(Connection, "connection_made", noted)
    await said(server.slow, get("?" + ranged(ONE)), LAST)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.quick)
    writer.write(get("?" + ranged(ONE)))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    # Read to its end, which comes by itself.
    await asyncio.wait_for(reader.read(), 20)
    writer.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_request_gets_another_answer(shared: tuple[asyncio.Runner, Server], data: st.DataObject) -> None:
    runner, server = shared
    fields = data.draw(
        st.permutations(
            [
                ("query", data.draw(st.sampled_from([ONE, "m_total", "sum(rate(m_total[1m]))", "m_total[", "1", "m_total offset 1m"]))),
                ("start", data.draw(st.sampled_from([str(NOW - 600), f"{NOW - 300}.25", "2023-11-14T22:05:00Z", "", "x", "1e9", "-1"]))),
                ("end", data.draw(st.sampled_from([str(NOW), f"{NOW}.5", "2023-11-14T22:13:20+00:00", str(NOW - 601)]))),
                ("step", data.draw(st.sampled_from(["15", "1m", "0.5", "1", "-1", "", "1h", "9e99"]))),
            ]
        )
    )
    extra = data.draw(st.sampled_from([[], [], [], [("limit", "2")], [("stats", "")], [("query", "1")], [("nonsense", "1")]]))
    form = "&".join(f"{name}={quote(value)}" for name, value in [*fields[: data.draw(st.integers(3, 4))], *extra])
    headers = data.draw(st.sampled_from(["", "Accept-Encoding: gzip\r\n", "Origin: http://a\r\n"]))
    if data.draw(st.booleans()):
        request = get("?" + form, headers=headers)
    else:
        request = get("", method="POST", headers=headers + "Content-Type: application/x-www-form-urlencoded\r\n", body=form.encode())
    for _ in range(2):
        runner.run(at_once(server, request))
    assert runner.run(in_turn(server.quick, request, request)) == runner.run(in_turn(server.slow, request, request))


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Server]]:
    """One server for many examples, in a loop of its own."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner, runner.run(stack.enter_async_context(serving(tmp_path / "data")))
        runner.run(stack.aclose())
