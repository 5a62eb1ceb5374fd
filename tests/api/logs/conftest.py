"""The operations on logs over a store of their own, as an application and behind a socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from vedette.api import logs, logs_elastic, logs_in, logs_loki, logs_loki_tail
from vedette.api.endpoint import routes
from vedette.api.services import botlogs
from vedette.api.services.settings import ServicesSettings
from vedette.clock import ManualClock
from vedette.logs.settings import LogSettings
from vedette.logs.store import LogStore

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'vedette[logs]'")

NOW = 1_705_312_800  # 2024-01-15T10:00:00Z
JSON = {"content-type": "application/json"}


def tenant_of(scope: Mapping[str, Any]) -> str:
    return str(dict(scope["headers"]).get(b"x-scope-orgid", b"default").decode())


async def run(function: Callable[..., Any], /, *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    made = LogStore(tmp_path / "logs", LogSettings(max_line=10_000, max_body=1_000_000), ManualClock(NOW))
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def app(store: LogStore) -> Starlette:
    backend = logs.LogBackend(store, run, ManualClock(NOW), tenant_of)
    operations = [
        *logs_in.endpoints(backend),
        *logs_elastic.endpoints(backend),
        *logs.endpoints(backend, cors_origin=".*"),
        *logs_loki.endpoints(backend, cors_origin=".*"),
        *botlogs.endpoints(backend, ServicesSettings(logs_per_minute=30)),
    ]
    return Starlette(routes=[*routes(operations), logs_elastic.elastic_root(backend), *logs_loki_tail.routes(backend)])


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as made:
        yield made


@pytest.fixture
async def url(app: Starlette, free_port: Callable[[], int]) -> AsyncIterator[str]:
    """The same application behind a real socket, for real clients."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_config=None, lifespan="off", ws="websockets-sansio", timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task


LINES = """\
{"timestamp": "2024-01-15T09:59:55Z", "level": "error", "service": "database", "message": "Connection timeout", "metadata": {"timeout_ms": 5000}}
{"timestamp": "2024-01-15T10:00:00Z", "level": "info", "service": "web_server", "message": "Request processed successfully", "metadata": {"request_id": "req_123", "user_id": "user_456", "duration_ms": 150}}
"""  # noqa: E501 - lines as they are sent


async def sent(client: httpx.AsyncClient, body: str = LINES, **headers: str) -> None:
    answer = await client.post("/api/v1/logs", content=body, headers=headers)
    assert answer.status_code == 200, answer.text


async def found(client: httpx.AsyncClient, query: str = "", **headers: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/api/v1/logs?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]["logs"]
    return rows


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
