"""What holds on every endpoint, made from the server's own description: who gets in, which times are read, what is shown of odd text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

SECRET = "a-secret-of-more-than-thirty-two-bytes"
OPEN = ("/-/healthy", "/-/ready", "/health", "/api/v1/monitoring/health", "/api/v1/auth/token", "/openapi.json")
TIMES = ("start", "end", "time", "start_date", "end_date", "start_time", "end_time")
GOOD = (
    "2026-01-15T10:00:00Z",
    "2026-01-15T10:00:00",
    "2026-01-15T10:00:00.123456+02:00",
    "2026-01-15 10:00:00",
    "2026-01-15",
    "20260115T100000Z",
    "2026-W03-4T10:00",
    "1768471200",
    "1768471200.123",
)
BAD = ("never", "2026-13-01T00:00:00Z", "2026-01-15T25:00:00Z", "yesterday", "12:00")
ODD = "\u202e<script>alert(1)</script>\x1b[31m\x00\u00fc\U0001f631"
FILLED = {"query": "up", "match[]": "up", "metric": "up", "step": "60", "name": "up", "service": "shop", "fingerprint": "00"}

pytestmark = pytest.mark.timeout(180)


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    made = {"sub": "alice", "role": "admin", "exp": int(time.time()) + 600, **claims}
    return jwt.encode(made, secret, algorithm=algorithm)


@pytest.fixture(scope="module")
def server(module_launch: Any) -> Any:
    import os

    return module_launch.vedette(env={**os.environ, "JWT_SECRET": SECRET, "VEDETTE_HOST_ENABLED": "false"})


@pytest.fixture(scope="module")
def alice(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {signed()}"}, timeout=30) as client:
        assert client.post("/metrics/track", json={"name": "up", "value": 1, "service": "shop"}).status_code == 200
        yield client


@pytest.fixture(scope="module")
def operations(alice: httpx.Client) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(method, path with something in its parameters, parameters of the query) of each operation."""
    paths = alice.get("/openapi.json").json()["paths"]
    found = []
    for path, methods in paths.items():
        filled = re.sub(r"\{(\w+)(?::path)?\}", lambda m: FILLED.get(m[1], "nothing"), path)
        for method, about in methods.items():
            params = [p for p in about.get("parameters", []) if p["in"] == "query"]
            found.append((method.upper(), filled, params))
    assert len(found) > 100
    return found


def test_a_token_that_is_no_good_gets_401_and_no_reason(server: Any, operations: Any) -> None:
    bad = {
        "expired": signed(exp=int(time.time()) - 10),
        "forged": signed("another-secret-of-more-than-thirty-two-bytes"),
        "alg none": jwt.encode({"sub": "alice", "role": "admin", "exp": int(time.time()) + 600}, None, algorithm="none"),
        "wrong audience": signed(aud="somebody-else"),
        "no expiry": jwt.encode({"sub": "alice", "role": "admin"}, SECRET, algorithm="HS256"),
        "no token": "x.y.z",
    }
    bodies = set()
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for method, path, _ in operations:
            if path in OPEN:
                continue
            for what, token in bad.items():
                answer = client.request(method, path, headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == 401, (what, method, path, answer.status_code, answer.text[:200])
                bodies.add(answer.text)
    assert bodies == {json.dumps({"status": "error", "errorType": "unauthorized", "error": "unauthorized"}, separators=(",", ":"))}


def _asking(operations: Any) -> Iterator[tuple[str, dict[str, str], str]]:
    """(path, the parameters that it must have, a parameter that is a time) of each reading operation."""
    for method, path, params in operations:
        if method == "GET" and not path.startswith("/loki/"):  # Loki's are nanoseconds
            needed = {p["name"]: FILLED.get(p["name"], "2026-01-15T10:00:00Z") for p in params if p.get("required")}
            for param in params:
                if param["name"] in TIMES:
                    yield path, needed, param["name"]


def _said(answer: httpx.Response) -> str:
    streams = answer.headers.get("content-type", "").startswith("text/event-stream")
    return "" if streams else answer.read().decode("utf-8", "replace")


def test_every_form_of_a_time_is_read(alice: httpx.Client, operations: Any) -> None:
    asked = list(_asking(operations))
    assert len(asked) > 20
    wrong = []
    for path, needed, name in asked:
        other = {"start": "end", "start_date": "end_date", "start_time": "end_time"}.get(name)
        for text in GOOD:
            # Beside it what the other end needs to lie behind it, and what makes a range short.
            more = {other: "2026-01-16T10:00:00Z"} if other in needed else {}
            more |= {"start": "2026-01-14T10:00:00Z"} if name == "end" and "start" in needed else {}
            with alice.stream("GET", path, params={**needed, **more, name: text}) as answer:
                said = _said(answer)
                if answer.status_code in (400, 422) and name in said:
                    wrong.append((path, name, text, said[:150]))
    assert not wrong, "\n".join(map(str, wrong))


def test_what_is_no_time_is_named(alice: httpx.Client, operations: Any) -> None:
    wrong = []
    for path, needed, name in _asking(operations):
        for text in BAD:
            with alice.stream("GET", path, params={**needed, name: text}) as answer:
                said = _said(answer)
                if answer.status_code not in (400, 422, 429) or (answer.status_code != 429 and name not in said):
                    wrong.append((path, name, text, answer.status_code, said[:150]))
    assert not wrong, "\n".join(map(str, wrong))


def test_odd_text_is_shown_safely(alice: httpx.Client, operations: Any) -> None:
    for method, path, params in operations:
        if method != "GET":
            continue
        for param in params:
            with alice.stream("GET", path, params={param["name"]: ODD}) as answer:
                assert answer.status_code < 500, (path, param["name"])
                kind = answer.headers.get("content-type", "")
                if kind.startswith("text/event-stream"):
                    continue
                body = answer.read()
            if kind.startswith("application/json"):
                json.loads(body)
            assert not kind.startswith("text/html"), "a browser would run what is in it"
            assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", body) or kind.startswith("application/x-"), (
                path,
                param["name"],
                body[:200],
            )
