"""What holds on every endpoint, made from the server's own description: who gets in, which times are read, what is shown of odd text,
what no body does.

What the description says, and what stands for a parameter that must be there, is `docs/bad_input.py`'s.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.e2e import patient

from vedette.web.routes import FORMER_PAGES

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
BAD = ("never", "2026-13-01T00:00:00Z", "2026-01-15T25:00:00Z", "yesterday", "12:00", "NaN", "Inf", "1e30")
ODD = "\u202e<script>alert(1)</script>\x1b[31m\x00\u00fc\U0001f631"
BOMBS = {
    "brackets": b"[" * 100_000,
    "braces": b'{"name":' * 50_000,
    "a deep value": b'{"name":"x","value":1,"labels":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
    "keys twice": b'{"name":"x","name":"y","value":1,"value":2}',
    "lone surrogates": b'{"name":"\\ud800","value":1,"service":"\\ud800","message":"\\udfff","username":"\\ud800","password":"\\ud800"}',
    "NUL": b'{"name":"a\\u0000","value":1,"service":"\\u0000","message":"\\u0000","matcher":{"\\u0000":"\\u0000"},"duration_minutes":1}',
    "no UTF-8": b'{"name":"\xff\xfe"}',
    "UTF-16": '{"name":"x","value":1}'.encode("utf-16"),
    "too great a number": b'{"name":"x","value":1e999,"service_name":"s","metric_name":"m","duration_minutes":1e308}',
    "a long name": b'{"name":"' + b"x" * 100_000 + b'","value":1,"title":"t"}',
    "YAML's laughs": b"a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nrules: [*c,*c,*c,*c,*c]",
    "null": b"null",
}
"""Bodies that no operation may fall over."""
PACKED = {"gzip that ends early": gzip.compress(bytes(10_000))[:-10], "a gzip bomb": gzip.compress(bytes(64 << 20), 1)}
QUERIES = ("a=%00", "%ff=%fe", "a=%ed%a0%80", "limit=" + "9" * 400, "limit=-1", "limit=1.5", "step=1e-300", "start=1e18&end=1e19&step=1")
SEGMENTS = ("%00", "%ff", "%ed%a0%80", "x" * 5_000, "%F0%9F%98%80", "..%2f..")

pytestmark = pytest.mark.timeout(600)


def _token(bad_input: Any, **claims: Any) -> str:
    return str(bad_input.signed(**{"exp": int(time.time()) + 600, **claims}))


@pytest.fixture(scope="module")
def server(module_launch: Any, tools: Any, bad_input: Any) -> Any:
    return module_launch.vedette(env=tools.environment(JWT_SECRET=bad_input.SECRET, VEDETTE_HOST_ENABLED="false"))


@pytest.fixture(scope="module")
def alice(server: Any, bad_input: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {_token(bad_input)}"}, timeout=patient.SECONDS) as client:
        assert client.post("/metrics/track", json={"name": "up", "value": 1, "service": "shop"}).status_code == 200
        yield client


@pytest.fixture(scope="module")
def operations(alice: httpx.Client, bad_input: Any) -> list[Any]:
    """What the server says that it serves."""
    found: list[Any] = bad_input.operations(alice.get("/openapi.json").json())
    assert len(found) > 100
    return found


def test_a_token_that_is_no_good_gets_401_and_no_reason(server: Any, operations: Any, bad_input: Any) -> None:
    bad = bad_input.bad_tokens()
    assert {"expired", "forged", "alg none", "wrong audience"} <= set(bad)
    bodies = set()
    with httpx.Client(base_url=server.url, timeout=patient.SECONDS) as client:
        for operation in operations:
            path = operation.filled()
            if path in bad_input.OPEN:
                continue
            for what, token in bad.items():
                answer = client.request(operation.method, path, headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == 401, (what, operation.method, path, answer.status_code, answer.text[:200])
                bodies.add(answer.text)
    assert bodies == {json.dumps({"status": "error", "errorType": "unauthorized", "error": "unauthorized"}, separators=(",", ":"))}


def _asking(operations: Any, bad_input: Any) -> Iterator[tuple[str, dict[str, str], str]]:
    """(path, the parameters that it must have, a parameter that is a time) of each reading operation."""
    for operation in operations:
        path = operation.filled()
        if operation.method == "GET" and not path.startswith("/loki/"):  # Loki's are nanoseconds
            needed = {p["name"]: bad_input.FILLED.get(p["name"], "2026-01-15T10:00:00Z") for p in operation.query if p.get("required")}
            for param in operation.query:
                if param["name"] in bad_input.TIMES:
                    yield path, needed, param["name"]


def _said(answer: httpx.Response) -> str:
    streams = answer.headers.get("content-type", "").startswith("text/event-stream")
    return "" if streams else answer.read().decode("utf-8", "replace")


def test_every_form_of_a_time_is_read(alice: httpx.Client, operations: Any, bad_input: Any) -> None:
    asked = list(_asking(operations, bad_input))
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


def test_what_is_no_time_is_named(alice: httpx.Client, operations: Any, bad_input: Any) -> None:
    wrong = []
    for path, needed, name in _asking(operations, bad_input):
        for text in BAD:
            with alice.stream("GET", path, params={**needed, name: text}) as answer:
                said = _said(answer)
                if answer.status_code not in (400, 422, 429) or (answer.status_code != 429 and name not in said):
                    wrong.append((path, name, text, answer.status_code, said[:150]))
    assert not wrong, "\n".join(map(str, wrong))


def test_odd_text_is_shown_safely(alice: httpx.Client, operations: Any) -> None:
    for operation in operations:
        if operation.method != "GET":
            continue
        path = operation.filled()
        for param in operation.query:
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


def _not_well(answer: httpx.Response) -> bool:
    """Whether an answer is a fault of the server's: what is refused for its size, its rate or its shape is none."""
    return answer.status_code >= 500


def test_no_body_is_a_fault_of_the_servers(server: Any, alice: httpx.Client, operations: Any) -> None:
    wrong, asked = [], 0
    for operation in operations:
        kinds = [kind for kind in operation.body if kind != "application/x-protobuf"]
        if operation.method not in ("POST", "PUT", "PATCH") or not kinds or operation.path == "/-/quit":
            continue
        packed = {what: (body, {"Content-Encoding": "gzip"}) for what, body in PACKED.items()}
        for what, (body, headers) in ({w: (b, {}) for w, b in BOMBS.items()} | packed).items():
            answer = alice.request(operation.method, operation.filled(), content=body, headers={"Content-Type": kinds[0], **headers})
            asked += 1
            if _not_well(answer):
                wrong.append((operation.method, operation.path, what, answer.status_code, answer.text[:150]))
    assert asked > 200
    assert not wrong, "\n".join(map(str, wrong))
    assert "Traceback" not in server.logged()


def test_no_url_is_a_fault_of_the_servers(server: Any, alice: httpx.Client, operations: Any) -> None:
    wrong = []
    for operation in operations:
        if operation.method not in ("GET", "DELETE") or operation.path.endswith(("/live", "/tail")):
            continue
        urls = [f"{operation.filled()}?{query}" for query in QUERIES] if operation.query else []
        urls += [re.sub(r"\{\w+\}", segment, operation.path) for segment in SEGMENTS if operation.segments]
        for url in urls:
            answer = alice.request(operation.method, url)
            if _not_well(answer):
                wrong.append((operation.method, url[:200], answer.status_code, answer.text[:150]))
    assert not wrong, "\n".join(map(str, wrong))
    assert "Traceback" not in server.logged()


def test_every_path_says_what_it_takes(alice: httpx.Client, operations: Any) -> None:
    by_path: dict[str, set[str]] = {}
    for operation in operations:
        by_path.setdefault(operation.filled(), set()).add(operation.method)
    for path, methods in by_path.items():
        asked = alice.options(path)
        assert asked.status_code == 204, path
        refused = alice.request("TRACE", path)
        assert refused.status_code == 405, path
        allowed = set(refused.headers["allow"].split(", "))
        assert methods <= allowed, path
        assert "OPTIONS" in allowed
        # A page of the UI, which the description does not list, may share its path with an operation.
        assert ("HEAD" in allowed) == ("GET" in methods or path in FORMER_PAGES), path
