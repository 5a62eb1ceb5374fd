"""Health, readiness and reload."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from vedette.api.endpoint import routes
from vedette.api.ops import Operations, endpoints
from vedette.clock import ManualClock
from vedette.errors import BadInput


class Server:
    """What the operations are told."""

    ready = False
    compiling: tuple[int, int, float] | None = None
    reloads = 0
    bad: Exception | None = None

    async def reload(self) -> None:
        self.reloads += 1
        if self.bad is not None:
            raise self.bad


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server, clock: ManualClock, serve: Any) -> httpx.AsyncClient:
    operations = Operations(
        ready=lambda: server.ready,
        reload=server.reload,
        dependencies=lambda: {"storage": "ok"},
        clock=clock,
        started=clock.now() - 90.5,
        version="1.2.3",
        commit="abc1234",
        compiling=lambda: server.compiling,
    )
    made: httpx.AsyncClient = serve(routes(endpoints(operations)))
    return made


async def test_healthy_from_the_first_moment_ready_when_replayed(client: httpx.AsyncClient, server: Server) -> None:
    assert (await client.get("/-/healthy")).status_code == 200
    assert (await client.get("/-/ready")).status_code == 503
    server.ready = True
    assert (await client.get("/-/ready")).status_code == 200
    assert (await client.head("/-/healthy")).status_code == 200


async def test_health_in_detail(client: httpx.AsyncClient, server: Server) -> None:
    starting = await client.get("/health")
    assert (starting.status_code, starting.json()["status"]) == (200, "starting")
    server.ready = True
    assert (await client.get("/health")).json() == {
        "status": "healthy",
        "service": "vedette",
        "version": "1.2.3",
        "commit": "abc1234",
        "uptime_seconds": 90,
        "timestamp": "2023-11-14T22:13:20Z",
        "dependencies": {"storage": "ok"},
    }


async def test_what_is_waited_for_on_a_new_machine(client: httpx.AsyncClient, server: Server) -> None:
    assert "replayed" in (await client.get("/-/ready")).text
    server.compiling = (3, 75, 41.23)
    waiting = await client.get("/-/ready")
    assert (waiting.status_code, waiting.text) == (
        503, "Vedette is starting: kernels are compiled for this machine, 3 of 75; about 41 s until all are.\n",
    )  # fmt: skip
    assert (await client.get("/health")).json()["kernels"] == {"compiled": 3, "of": 75, "seconds_left": 41.2}
    # It may be ready before all are.
    server.ready = True
    assert (await client.get("/-/ready")).status_code == 200
    assert (await client.get("/health")).json()["status"] == "healthy"
    server.compiling = None
    assert "kernels" not in (await client.get("/health")).json()


async def test_reload(client: httpx.AsyncClient, server: Server) -> None:
    assert (await client.get("/-/reload")).status_code == 405
    assert (await client.post("/-/reload")).status_code == 200
    assert (await client.put("/-/reload")).status_code == 200
    assert server.reloads == 2


async def test_a_bad_configuration_says_why(client: httpx.AsyncClient, server: Server) -> None:
    server.bad = BadInput("unknown key", where="vedette.yml:3:1: glbal", hint="did you mean global?")
    answer = await client.post("/-/reload")
    assert answer.status_code == 500
    assert answer.text == "failed to reload config: vedette.yml:3:1: glbal: unknown key (did you mean global?)\n"


async def test_a_fault_in_reloading(client: httpx.AsyncClient, server: Server) -> None:
    server.bad = RuntimeError("insides")
    answer = await client.post("/-/reload")
    assert (answer.status_code, "insides" in answer.text) == (500, False)
