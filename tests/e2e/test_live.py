"""Live values over real sockets: a thousand who watch, one who never reads, and what is refused."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from tests.e2e import patient
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


@pytest.fixture(scope="module")
def server(module_launch: Any, tools: Any) -> Any:
    return module_launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false", VEDETTE_SERVICES_LIVE_INTERVAL="200ms"))


def put(server: Any, name: str, value: float) -> None:
    body = {"name": name, "type": "gauge", "value": value, "service": "s"}
    assert server.post("/metrics/track", json=body).status_code in (200, 201)


def at(server: Any, path: str) -> str:
    return str(server.url.replace("http://", "ws://") + path)


async def value_of(socket: ClientConnection, wanted: float) -> None:
    async with asyncio.timeout(120):
        while (json.loads(await socket.recv())).get("value") != wanted:
            pass


@pytest.mark.timeout(600)
async def test_a_thousand_watch(server: Any) -> None:
    put(server, "live_a", 1.0)
    url = at(server, "/api/v1/monitoring/ws/metrics?metric=live_a")
    sockets: list[ClientConnection] = []
    try:
        for _ in range(10):
            sockets += await asyncio.gather(*(connect(url, open_timeout=60, compression=None) for _ in range(100)))
        await asyncio.gather(*(value_of(s, 1.0) for s in sockets))
        await asyncio.to_thread(put, server, "live_a", 2.0)
        await asyncio.gather(*(value_of(s, 2.0) for s in sockets))
        clients = await asyncio.to_thread(server.get, "/metrics")
        assert "vedette_live_clients 1000" in clients.text
        # Health answers beside them.
        assert (await asyncio.to_thread(server.get, "/health")).status_code == 200
    finally:
        await asyncio.gather(*(s.close() for s in sockets))


async def test_one_who_never_reads_holds_up_nobody(server: Any) -> None:
    put(server, "live_b", 0.0)
    url = at(server, "/ws/metrics?metric=live_b")
    async with connect(url, max_queue=1) as deaf, connect(url) as other:
        for i in range(1, 5):
            await asyncio.to_thread(put, server, "live_b", float(i))
            await value_of(other, float(i))
        assert deaf.state.name == "OPEN"


async def test_without_a_metric_it_is_the_usual_ones(server: Any) -> None:
    async with connect(at(server, "/ws/metrics")) as socket:
        assert socket.state.name == "OPEN"


@pytest.mark.parametrize(
    ("question", "says"), [("metric=sum(", "parse error"), ("metric=" + "&metric=".join(map(str, range(20))), "1 to 16")]
)
async def test_refused_with_the_reason(server: Any, question: str, says: str) -> None:
    async with connect(at(server, f"/ws/metrics?{question}")) as socket:
        assert says in json.loads(await socket.recv())["error"]
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_a_page_from_elsewhere_does_not_get_in(server: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(at(server, "/ws/metrics"), origin="https://evil.example")  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403


async def test_without_a_credential_the_handshake_is_a_401(launch: Any, tools: Any) -> None:
    guarded = launch.vedette(env=tools.environment(API_KEY="k1", VEDETTE_HOST_ENABLED="false"))
    for headers in ({}, {"Authorization": "Bearer another"}):
        with pytest.raises(InvalidStatus) as refused:
            await connect(at(guarded, "/ws/metrics?metric=up"), additional_headers=headers)
        assert refused.value.response.status_code == 401
    async with connect(at(guarded, "/ws/metrics?metric=up"), additional_headers={"Authorization": "Bearer k1"}) as socket:
        assert socket.state.name == "OPEN"


def test_events(server: Any) -> None:
    put(server, "live_c", 1.0)
    with httpx.stream("GET", server.url + "/api/v1/live", params={"metric": "live_c"}, timeout=patient.SECONDS) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        first = next(line for line in lines if line.startswith("data: "))
        assert json.loads(first[6:])["value"] == 1.0
        put(server, "live_c", 2.0)
        second = next(line for line in lines if line.startswith("data: "))
        assert json.loads(second[6:])["value"] == 2.0
    assert server.get("/api/v1/live", metric="sum(").status_code == 400


def test_whoever_comes_back_gets_what_came_meanwhile(server: Any) -> None:
    def read(headers: dict[str, str], upto: float) -> list[tuple[int, float]]:
        found, number = [], 0
        with httpx.stream(
            "GET", server.url + "/api/v1/live", params={"metric": "live_d"}, headers=headers, timeout=patient.SECONDS
        ) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "retry: 2000"
            for line in lines:
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("data: "):
                    found.append((number, json.loads(line[6:])["value"]))
                    if found[-1][1] == upto:
                        return found
        raise AssertionError("the stream ended")

    put(server, "live_d", 1.0)
    ((last, _),) = read({}, 1.0)
    put(server, "live_d", 2.0)
    ((second, _),) = read({"Last-Event-ID": str(last)}, 2.0)
    assert second > last
    assert [value for _, value in read({"Last-Event-ID": "no number"}, 2.0)] == [2.0], "taken as if absent"


async def test_the_server_stops_although_they_watch(launch: Any, tools: Any) -> None:
    server = launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    async with connect(at(server, "/ws/metrics?metric=up")) as socket:
        began = time.monotonic()
        server.popen.terminate()
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(20):
                while True:
                    await socket.recv()
        assert await asyncio.to_thread(server.popen.wait, 20) == 0
        assert time.monotonic() - began < 60


def test_a_slip_in_the_name_is_told(server: Any) -> None:
    put(server, "live_spelling", 1.0)
    with httpx.stream("GET", server.url + "/api/v1/live", params={"metric": "live_speling"}, timeout=patient.SECONDS) as answer:
        told = json.loads(next(line for line in answer.iter_lines() if line.startswith("data: "))[6:])
    assert (told["type"], told["metric"]) == ("no_data", "live_speling")
    assert "live_spelling" in told["did_you_mean"]
