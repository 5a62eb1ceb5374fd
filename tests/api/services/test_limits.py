"""BotServer's rate limits: counted by address, told in headers, over after a minute."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from vedette.api.endpoint import routes
from vedette.api.services.limits import MOST_CLIENTS, Limit
from vedette.api.services.settings import ServicesSettings
from vedette.errors import BadInput

BASE = "/api/v1/monitoring"


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


def test_clients_are_counted_apart_and_not_remembered_without_end() -> None:
    now = [0.0]
    limit = Limit(1, lambda: now[0])
    assert [limit.take("a")[0], limit.take("a")[0], limit.take("a")[0], limit.take("b")[0]] == [0, -1, -1, 0]
    for i in range(MOST_CLIENTS + 10):
        limit.take(str(i))
    assert len(limit.clients) == MOST_CLIENTS
    now[0] = 60.0
    assert limit.take("a") == (0, 60.0)
