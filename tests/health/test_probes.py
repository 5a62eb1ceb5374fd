"""Each kind of dependency, asked for real: well, gone, hanging, talking nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vedette.errors import BadInput
from vedette.health.check import DEGRADED, HEALTHY, UNHEALTHY
from vedette.health.probes.local import port, process, unit, unit_finding
from vedette.health.probes.postgres import postgres
from vedette.health.probes.redis import figures, redis
from vedette.health.probes.web import http, llm, tcp
from vedette.health.settings import CheckSettings, HealthSettings

Pages = dict[str, tuple[int, bytes]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Pages], Awaitable[str]]]:
    """Starts HTTP servers of the given pages; None for a page is silence. Answers their URLs."""
    servers: list[asyncio.Server] = []

    async def start(pages: Pages) -> str:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split()[1].decode()
                status, body = pages.get(path, (404, b"{}"))
                if status == 0:
                    await reader.read()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body))
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


class TestHttp:
    @pytest.mark.parametrize(("status", "found"), [(200, HEALTHY), (204, HEALTHY), (404, UNHEALTHY), (503, UNHEALTHY)])
    async def test_by_status(self, serve: Any, status: int, found: str) -> None:
        finding = await http(await serve({"/": (status, b"")}) + "/", 5)
        assert finding.status == found
        assert (str(status) in finding.reason) == (found == UNHEALTHY)

    async def test_nobody_there(self, free_port: Any) -> None:
        assert (await http(f"http://127.0.0.1:{free_port()}/", 5)).status == UNHEALTHY

    async def test_one_that_hangs(self, serve: Any) -> None:
        assert "within 0.2s" in (await http(await serve({"/": (0, b"")}) + "/", 0.2)).reason

    async def test_a_password_is_not_told(self, free_port: Any) -> None:
        assert "hunter2" not in (await http(f"http://me:hunter2@127.0.0.1:{free_port()}/", 5)).reason


class TestTcp:
    async def test_somebody_and_nobody(self, serve: Any, free_port: Any) -> None:
        assert (await tcp((await serve({})).removeprefix("http://"), 5)).status == HEALTHY
        assert (await tcp(f"127.0.0.1:{free_port()}", 5)).status == UNHEALTHY

    async def test_a_name_that_is_none(self) -> None:
        assert (await tcp("nowhere.invalid:80", 5)).status == UNHEALTHY


class TestLanguageModels:
    MODELS = b'{"object": "list", "data": [{"id": "local-model", "object": "model"}]}'

    async def test_llama_cpp(self, serve: Any) -> None:
        found = await llm(await serve({"/health": (200, b'{"status": "ok"}'), "/v1/models": (200, self.MODELS)}), 5)
        assert (found.status, found.figures) == (HEALTHY, {"model_loaded": True, "model": "local-model"})

    async def test_one_that_speaks_openais_api_only(self, serve: Any) -> None:
        found = await llm(await serve({"/v1/models": (200, self.MODELS)}) + "/v1", 5)
        assert (found.status, found.figures["model_loaded"]) == (HEALTHY, True)

    async def test_while_it_loads(self, serve: Any) -> None:
        loading = {"/health": (503, b'{"error": {"message": "Loading model"}}'), "/v1/models": (503, b"{}")}
        found = await llm(await serve(loading), 5)
        assert (found.status, found.figures["model_loaded"]) == (DEGRADED, False)

    @pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"data": 7}', b'{"data": [7, {"id": 3}]}', b"\xff"])
    async def test_nonsense(self, serve: Any, body: bytes) -> None:
        found = await llm(await serve({"/health": (200, body), "/v1/models": (200, body)}), 5)
        assert (found.status, found.figures) == (HEALTHY, {"model_loaded": False})

    async def test_neither(self, serve: Any, free_port: Any) -> None:
        assert "neither /health (404)" in (await llm(await serve({}), 5)).reason
        assert (await llm(f"http://127.0.0.1:{free_port()}", 5)).status == UNHEALTHY


class TestPostgres:
    async def test_the_real_one(self, postgres_url: str) -> None:
        found = await postgres(postgres_url, 10)
        assert found.status == HEALTHY, found.reason
        assert found.figures["version"].startswith("1")
        assert found.figures["connection_pool"]["max"] > 0
        assert found.figures["uptime_seconds"] >= 0
        assert found.figures["slow_queries"] == 0

    async def test_nobody_there_and_no_password_told(self, free_port: Any) -> None:
        found = await postgres(f"postgresql+asyncpg://me:hunter2@127.0.0.1:{free_port()}/db", 5)
        assert found.status == UNHEALTHY
        assert "hunter2" not in found.reason

    async def test_a_url_that_is_none(self) -> None:
        assert (await postgres("postgresql://[", 5)).status == UNHEALTHY


class TestRedis:
    @pytest.fixture
    def server(self, debian_binary: Any, free_port: Any, tmp_path: Path) -> Iterator[str]:
        number = free_port()
        options = ("--port", str(number), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path), "--maxmemory", "64mb")
        running = subprocess.Popen([debian_binary("redis-server"), *options], stdout=subprocess.DEVNULL)
        yield f"redis://127.0.0.1:{number}/0"
        running.kill()
        running.wait()

    async def test_the_real_one(self, server: str) -> None:
        async with asyncio.timeout(20):
            while (found := await redis(server, 2)).status != HEALTHY:
                await asyncio.sleep(0.02)
        assert "hit_rate" not in found.figures, "nothing was looked for yet"
        assert (found.figures["keys_count"], found.figures["memory_limit_mb"]) == (0, 64.0)
        from redis.asyncio import Redis

        client = Redis.from_url(server)
        await client.set("a", 1)
        for key in ("a", "a", "a", "b"):
            await client.get(key)
        await client.aclose()
        later = (await redis(server, 2)).figures
        assert (later["hits"], later["misses"], later["hit_rate"], later["keys_count"]) == (3, 1, 0.75, 1)

    async def test_nobody_there(self, free_port: Any) -> None:
        assert (await redis(f"redis://:hunter2@127.0.0.1:{free_port()}/0", 2)).status == UNHEALTHY

    def test_a_server_that_tells_little(self) -> None:
        assert figures({})["memory_limit_mb"] is None


class TestThisMachine:
    async def test_a_process_by_name(self) -> None:
        sleep = shutil.which("sleep")
        assert sleep
        name = f"nap{os.getpid()}"
        # A process is called what its file is called.
        link = Path(os.environ.get("TMPDIR", "/tmp")) / name
        link.symlink_to(sleep)
        running = subprocess.Popen([str(link), "60"])
        try:
            async with asyncio.timeout(10):
                while (found := await process(name, 5)).status != HEALTHY:
                    await asyncio.sleep(0.02)
            assert found.figures["pid"] == running.pid
            assert 0 <= found.figures["uptime_seconds"] < 60
        finally:
            running.kill()
            running.wait()
            link.unlink()
        assert (await process(name, 5)).reason == f"no process {name}"

    async def test_a_port_by_number(self, serve: Any, free_port: Any) -> None:
        number = (await serve({})).rpartition(":")[2]
        found = await port(number, 5)
        assert (found.status, found.figures["port"], found.figures["pid"]) == (HEALTHY, int(number), os.getpid())
        assert (await port(str(free_port()), 5)).status == UNHEALTHY

    @pytest.mark.parametrize(
        ("text", "status", "says"),
        [
            ("LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=42\n", HEALTHY, ""),
            ("LoadState=loaded\nActiveState=activating\nSubState=start\nMainPID=0\n", DEGRADED, "activating"),
            ("LoadState=loaded\nActiveState=failed\nSubState=failed\nMainPID=0\n", UNHEALTHY, "failed"),
            ("LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\n", UNHEALTHY, "no unit x.service"),
            ("", UNHEALTHY, "systemd does not answer"),
            ("garbage", UNHEALTHY, "systemd does not answer"),
        ],
    )
    def test_a_unit(self, text: str, status: str, says: str) -> None:
        found = unit_finding("x.service", text)
        assert found.status == status
        assert says in found.reason
        assert ("pid" in found.figures) == ("42" in text)

    async def test_a_unit_where_systemd_may_be_absent(self) -> None:
        assert (await unit("surely-not-there.service", 10)).status == UNHEALTHY


@pytest.mark.parametrize(
    ("kind", "target", "says"),
    [
        ("ping", "x", "http, tcp, redis"),
        ("http", "localhost", "http://"),
        ("redis", "localhost:6379", "redis://"),
        ("tcp", "localhost", "HOST:PORT"),
        ("port", "http", "not a port"),
        ("port", "70000", "not a port"),
        ("unit", "", "nothing to ask"),
    ],
)
def test_settings_that_are_no_good(kind: str, target: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        CheckSettings(kind=kind, target=target)


def test_named_dependencies_come_first() -> None:
    settings = HealthSettings(cache_url="redis://h", checks={"web": CheckSettings(kind="http", target="http://h")})
    assert list(settings.all_checks()) == ["cache", "web"]
    with pytest.raises(BadInput, match="100 ms"):
        HealthSettings(interval=1)
