"""BotServer's rate limits: counted by address, told in headers, over after a minute."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from vedette.access.principal import Principal
from vedette.api.endpoint import routes
from vedette.api.services.limits import MOST_CLIENTS, REST_S, Limit, RedisCounts
from vedette.api.services.settings import ServicesSettings
from vedette.clock import ManualClock
from vedette.errors import BadInput

BASE = "/api/v1/monitoring"
PATIENCE_S = 30.0
"""For a Redis that answers: as long as a slow machine needs."""


class RedisServer:
    """Debian's Redis on one port, that may be stopped and started."""

    def __init__(self, binary: str, port: int, folder: Path) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._port = port
        self._command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            assert time.monotonic() < deadline, "redis-server did not start"

    def stop(self) -> None:
        """End it, with all that it counted."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def test_the_documents_limits_are_the_defaults() -> None:
    assert (ServicesSettings().metrics_per_minute, ServicesSettings().alerts_per_minute) == (60, 10)
    with pytest.raises(BadInput, match="at least 0"):
        ServicesSettings(alerts_per_minute=-1)


async def test_the_sixty_first_question_of_a_minute_is_refused(strict: Any, serve: Any) -> None:
    client: httpx.AsyncClient = serve(routes(strict.dialects.own["botserver"]))
    paths = ["/metrics", "/metrics/grafana", "/metrics/prometheus"]
    for i in range(60):
        answer = await client.get(BASE + paths[i % 3])
        assert answer.status_code == 200
        assert answer.headers["ratelimit-limit"] == "60"
        assert answer.headers["ratelimit-remaining"] == str(59 - i)
    await strict.clock.advance(20)
    refused = await client.get(f"{BASE}/metrics")
    assert refused.status_code == 429
    assert refused.json() == {"detail": "more than 60 requests a minute"}
    assert (refused.headers["retry-after"], refused.headers["ratelimit-reset"], refused.headers["ratelimit-remaining"]) == ("40", "40", "0")
    await strict.clock.advance(40)
    assert (await client.get(f"{BASE}/metrics")).headers["ratelimit-remaining"] == "59"


async def test_alerts_have_ten_and_health_has_no_limit(strict: Any, serve: Any) -> None:
    client: httpx.AsyncClient = serve(routes(strict.dialects.union))
    assert [(await client.get(f"{BASE}/alerts")).status_code for _ in range(11)] == [200] * 10 + [429]
    for path in ("/health", "/health/detailed", "/status", "/metrics?limit=1"):
        answers = [await client.get(BASE + path) for _ in range(12)]
        assert {a.status_code for a in answers} == {200}
        assert "ratelimit-limit" not in answers[0].headers, path


async def test_all_below_alerts_counts_as_one_and_by_user(strict: Any, serve: Any) -> None:
    def known(name: str) -> Any:
        app = Starlette(routes=routes(strict.dialects.own["botserver"]))

        async def asked(scope: Any, receive: Any, send: Any) -> None:
            scope["vedette.principal"] = Principal(name, "admin", kind="token")
            await app(scope, receive, send)

        return httpx.AsyncClient(transport=httpx.ASGITransport(app=asked), base_url="http://test")

    alice, bob = known("alice"), known("bob")
    paths = ("/alerts", "/alerts/configure")
    assert [(await alice.get(BASE + paths[i % 2])).status_code for i in range(11)] == [200] * 10 + [429]
    assert (await alice.get(f"{BASE}/alerts/configure")).status_code == 429
    assert (await bob.get(f"{BASE}/alerts/configure")).headers["ratelimit-remaining"] == "9", "from the same address, but another user"
    await alice.aclose()
    await bob.aclose()


def test_clients_are_counted_apart_and_not_remembered_without_end() -> None:
    now = [0.0]
    limit = Limit(1, lambda: now[0])
    assert [limit.take("a")[0], limit.take("a")[0], limit.take("a")[0], limit.take("b")[0]] == [0, -1, -1, 0]
    for i in range(MOST_CLIENTS + 10):
        limit.take(str(i))
    assert len(limit.clients) == MOST_CLIENTS
    now[0] = 60.0
    assert limit.take("a") == (0, 60.0)


class TestWhoIsCounted:
    """The document counts metrics by address, logs and alerts by user."""

    def request(self, name: str, address: str) -> dict[str, Any]:
        who = Principal(name, "viewer", "acme", kind="token")
        return {"client": (address, 1), **({"vedette.principal": who} if name else {})}

    def test_by_user_or_by_address(self) -> None:
        by_user, by_address = Limit(1, lambda: 0.0, by="user"), Limit(1, lambda: 0.0)
        alice, bob, nobody = self.request("alice", "10.0.0.1"), self.request("bob", "10.0.0.1"), self.request("", "10.0.0.2")
        assert [by_user.client_of(r) for r in (alice, bob, nobody)] == ["user:acme:alice", "user:acme:bob", "10.0.0.2"]
        assert [by_address.client_of(r) for r in (alice, bob, nobody)] == ["10.0.0.1", "10.0.0.1", "10.0.0.2"]


class TestTogether:
    """Several instances count in one Redis."""

    @pytest.fixture
    def redis(self, debian_binary: Any, free_port: Any, tmp_path: Path) -> Iterator[RedisServer]:
        server = RedisServer(debian_binary("redis-server"), free_port(), tmp_path)
        server.start()
        yield server
        server.stop()

    async def test_two_instances_count_as_one(self, redis: RedisServer) -> None:
        counts = [RedisCounts(redis.url, timeout_s=PATIENCE_S) for _ in range(2)]
        one, two = (Limit(3, lambda: 0.0, name="alerts", shared=c) for c in counts)
        left = [(await limit.taken("alice"))[0] for limit in (one, two, one, two, one)]
        assert left == [2, 1, 0, -1, -1]
        assert (await one.taken("bob"))[0] == 2
        assert 0 < (await two.taken("alice"))[1] <= 60
        assert (await Limit(3, lambda: 0.0, name="logs", shared=counts[0]).taken("alice"))[0] == 2, "another limit"
        for count in counts:
            await count.close()

    async def test_it_may_go_and_come_back(self, redis: RedisServer) -> None:
        clock = ManualClock()
        counts = [RedisCounts(redis.url, timeout_s=PATIENCE_S, monotonic=clock.monotonic) for _ in range(2)]
        one, two = (Limit(3, clock.monotonic, name="alerts", shared=c) for c in counts)
        assert [(await limit.taken("alice"))[0] for limit in (one, two)] == [2, 1]
        redis.stop()
        assert [(await limit.taken("alice"))[0] for limit in (one, one, two)] == [2, 1, 2], "each counts its own, and refuses nobody"
        redis.start()
        assert (await one.taken("alice"))[0] == 0, "it is left alone for a while"
        await clock.advance(REST_S)
        assert [(await limit.taken("alice"))[0] for limit in (one, two, one, two)] == [2, 1, 0, -1], "and asked again"
        for count in counts:
            await count.close()

    async def test_one_that_never_answers_is_not_waited_for_each_time(self) -> None:
        clock = ManualClock()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            counts = RedisCounts(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout_s=0.01, monotonic=clock.monotonic)
            assert await counts.count("alice") is None
            await counts.close()
            counts._redis = None  # type: ignore[assignment]  # whoever asked it now would fail
            assert await counts.count("alice") is None
            await clock.advance(REST_S)
            with pytest.raises(AttributeError):
                await counts.count("alice")

    async def test_without_it_each_counts_its_own(self, free_port: Any) -> None:
        counts = RedisCounts(f"redis://127.0.0.1:{free_port()}/0")
        limit = Limit(1, lambda: 0.0, shared=counts)
        assert [(await limit.taken("alice"))[0] for _ in range(3)] == [0, -1, -1]
        await counts.close()

    def test_an_address_that_is_none(self) -> None:
        with pytest.raises(BadInput, match="redis_url"):
            RedisCounts("localhost:6379")
