"""Request ids and spans: what is answered, what goes to the collector, what happens where that is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from starlette.responses import Response

from vedette.api.settings import TracingSettings
from vedette.api.tracing import _MOST_WAITING, Tracing
from vedette.clock import ManualClock
from vedette.net.client import HttpClient
from vedette.net.trace import Trace, current

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Collecting:
    """A server that keeps what it is posted, and answers `status`."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
            self.headers.append(headers)
            self.bodies.append(orjson.loads(await reader.readexactly(int(headers["content-length"]))))
            writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
            await writer.drain()
            writer.close()
            return

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [s for body in self.bodies for r in body["resourceSpans"] for scope in r["scopeSpans"] for s in scope["spans"]]


@pytest.fixture
async def collector() -> Any:
    made = Collecting()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces"  # type: ignore[attr-defined]
    yield made
    server.close()


def clients(clock: ManualClock, **settings: Any) -> tuple[Tracing, httpx.AsyncClient, list[Any]]:
    """Tracing around an application that answers the status in its path and notes what it is known by."""
    tracing, seen = Tracing(TracingSettings(**settings), clock, version="1.0"), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current())
        if scope["path"] == "/broken":
            raise RuntimeError("broken")
        await Response("{}", int(scope["path"][1:]))(scope, receive, send)

    around = tracing.around(app, lambda path: path if path != "/404" else "other")
    return tracing, httpx.AsyncClient(transport=httpx.ASGITransport(around, raise_app_exceptions=False), base_url="http://t"), seen


async def test_every_answer_has_a_request_id(clock: ManualClock) -> None:
    _, client, seen = clients(clock)
    first, second = await client.get("/200"), await client.get("/200")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert [trace.request_id for trace in seen] == [first.headers["x-request-id"], second.headers["x-request-id"]]
    assert (await client.get("/200", headers={"X-Request-ID": "req-456"})).headers["x-request-id"] == "req-456"
    assert "traceparent" not in first.headers, "tracing is off"


@pytest.mark.parametrize("given", ["", "x" * 129, "with space", "caf\u00e9".encode(), "tab\tin it"])
async def test_an_id_that_would_not_do_is_replaced(given: Any, clock: ManualClock) -> None:
    _, client, _ = clients(clock)
    answered = (await client.get("/200", headers={"X-Request-ID": given})).headers["x-request-id"]
    assert answered != given
    assert answered.isascii()


async def test_without_tracing_the_callers_trace_still_names_the_lines(clock: ManualClock) -> None:
    _, client, seen = clients(clock)
    await client.get("/200", headers={"traceparent": PARENT})
    assert (seen[0].trace_id, seen[0].traceparent) == (TRACE, "")


async def test_a_trace_goes_on_or_begins(clock: ManualClock) -> None:
    _, client, seen = clients(clock, enabled=True)
    on = await client.get("/200", headers={"traceparent": PARENT})
    assert on.headers["x-trace-id"] == TRACE
    assert on.headers["traceparent"] == seen[0].traceparent != PARENT
    own = await client.get("/200", headers={"traceparent": "nonsense"})
    assert len(own.headers["x-trace-id"]) == 32
    assert own.headers["x-trace-id"] != TRACE


async def test_spans_reach_the_collector(clock: ManualClock, collector: Any) -> None:
    settings = {"enabled": True, "endpoint": collector.url, "headers": {"X-Key": "secret"}, "service": "watch"}
    tracing, client, _ = clients(clock, **settings)
    tracing.start()
    for path in ("/200", "/404", "/503", "/broken"):
        await client.get(path, headers={"traceparent": PARENT, "X-Request-ID": f"r{path}"})
    await tracing.close()
    spans = collector.spans
    assert [(s["name"], s["traceId"], s["parentSpanId"], s["kind"]) for s in spans] == [
        (f"GET {name}", TRACE, SPAN, 2) for name in ("/200", "other", "/503", "/broken")
    ]
    assert [s["status"] for s in spans] == [{}, {}, {"code": 2}, {"code": 2}]
    attributes = {a["key"]: a["value"] for a in spans[1]["attributes"]}
    assert attributes["http.response.status_code"] == {"intValue": "404"}
    assert (attributes["url.path"], attributes["vedette.request_id"]) == ({"stringValue": "/404"}, {"stringValue": "r/404"})
    assert len({s["spanId"] for s in spans}) == 4
    assert all(int(s["endTimeUnixNano"]) >= int(s["startTimeUnixNano"]) == int(clock.now() * 1e9) for s in spans)
    resource = collector.bodies[0]["resourceSpans"][0]["resource"]["attributes"]
    assert {"key": "service.name", "value": {"stringValue": "watch"}} in resource
    assert collector.headers[0]["x-key"] == "secret"
    assert (tracing.counts.sent, tracing.counts.dropped) == (4, 0)


async def test_what_the_caller_does_not_sample_is_not_sent(clock: ManualClock, collector: Any) -> None:
    tracing, client, _ = clients(clock, enabled=True, endpoint=collector.url, sample=0.0)
    tracing.start()
    await client.get("/200", headers={"traceparent": PARENT[:-1] + "0"})
    await client.get("/200")
    await client.get("/200", headers={"traceparent": PARENT})
    await tracing.close()
    assert [s["traceId"] for s in collector.spans] == [TRACE]


async def test_a_collector_that_refuses_costs_spans_and_nothing_else(clock: ManualClock, collector: Any) -> None:
    collector.status = 500
    tracing, client, _ = clients(clock, enabled=True, endpoint=collector.url)
    tracing.start()
    assert (await client.get("/200")).status_code == 200
    await tracing.close()
    assert (tracing.counts.sent, tracing.counts.dropped) == (0, 1)


async def test_a_full_queue_drops_what_comes(clock: ManualClock, collector: Any) -> None:
    tracing, client, _ = clients(clock, enabled=True, endpoint=collector.url)
    tracing.start()
    for span in range(_MOST_WAITING):
        tracing._spans.append({"name": str(span)})
    assert (await client.get("/200")).status_code == 200
    assert tracing.counts.dropped == 1
    tracing._spans.clear()
    await tracing.close()


async def test_a_request_sent_on_carries_the_trace(clock: ManualClock, collector: Any) -> None:
    tracing = Tracing(TracingSettings(enabled=True), clock, version="1.0")
    outgoing = HttpClient()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await outgoing.post_json(collector.url, {}, timeout=60)
        await Response("{}")(scope, receive, send)

    around = tracing.around(app, str)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(around), base_url="http://t") as client:
        answer = await client.get("/", headers={"traceparent": PARENT})
    await outgoing.post_json(collector.url, {}, timeout=60)
    await outgoing.close()
    assert collector.headers[0]["traceparent"] == answer.headers["traceparent"]
    assert "traceparent" not in collector.headers[1], "nobody asked for this one"


async def test_a_request_knows_when_its_client_has_gone(clock: ManualClock) -> None:
    messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    seen: list[Trace] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        trace = current()
        assert trace is not None and trace.gone is not None
        await trace.gone()
        assert messages == []
        seen.append(trace)

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError("nothing is answered")

    tracing = Tracing(TracingSettings(), clock, version="1")
    await tracing.around(inner, lambda path: path)({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
    (trace,) = seen
    assert trace.gone is None, "what outlives the request holds nothing of its connection"
