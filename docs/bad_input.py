"""Write `docs/bad-input.md`: each endpoint's answers to bad input, as the running application gives them.

`python docs/bad_input.py [--check]` puts the server together in a directory of its own, with a clock that stands still, and
asks each operation of its OpenAPI description, on the main listener and on each service's own: without what it needs, with
values that are none, with bodies that are broken, by those who may not. `--check` compares instead of writing; the exit
status is 1 where the page tells something else. No socket is opened. Not here: how many requests a second are refused.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jwt

from vedette.access.permits import HEALTH_PATHS
from vedette.api.services.dialects import DIALECTS
from vedette.app import House
from vedette.clock import ManualClock
from vedette.settings import Settings, resolve

PAGE = Path(__file__).resolve().parent / "bad-input.md"
SECRET = "a-secret-of-more-than-thirty-two-bytes"  # noqa: S105 - of a server that nobody reaches
OPEN = (*sorted(HEALTH_PATHS), "/api/v1/auth/token", "/openapi.json")
"""Where nobody is asked who they are."""
STREAMS = ("/api/v1/logs/tail", "/api/v1/live")
ROOT = "root-key"
"""The key of who may do everything."""
NEVER = 4_000_000_000
"""When a good token ends, in Unix seconds."""

FILLED = {"query": "up", "match[]": "up", "metric": "up", "step": "60", "name": "up", "service": "shop", "fingerprint": "00",
          "grouping": "c2hvcA"}  # fmt: skip
"""What stands for a parameter that must be there."""


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A token of alice, who is an admin, unless `claims` say otherwise."""
    return jwt.encode({"sub": "alice", "role": "admin", "exp": NEVER, **claims}, secret, algorithm=algorithm)


def bad_tokens() -> dict[str, str]:
    """Tokens that no server may take, by what is wrong with them."""
    return {
        "expired": signed(exp=1_600_000_000),
        "forged": signed("another-secret-of-more-than-thirty-two-bytes"),
        "alg none": jwt.encode({"sub": "alice", "role": "admin", "exp": NEVER}, "", algorithm="none"),
        "wrong audience": signed(aud="somebody-else"),
        "no expiry": jwt.encode({"sub": "alice", "role": "admin"}, SECRET, algorithm="HS256"),
        "no token": "x.y.z",
    }


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path of an OpenAPI description; `query` are the parameters of the URL or the form."""

    method: str
    path: str
    tag: str
    query: Sequence[Mapping[str, Any]]
    segments: Sequence[str]
    body: Mapping[str, Any]

    def filled(self, **segments: str) -> str:
        """The path with something in its parameters."""
        return re.sub(r"\{(\w+)\}", lambda m: quote(segments.get(m[1]) or FILLED.get(m[1], "nothing"), safe=""), self.path)


def operations(description: Mapping[str, Any]) -> list[Operation]:
    """All operations of an OpenAPI description, in its order."""
    found = []
    for path, methods in description["paths"].items():
        for method, about in methods.items():
            given = about.get("parameters", [])
            query = [p for p in given if p["in"] == "query"]
            segments = [p["name"] for p in given if p["in"] == "path"]
            body = about.get("requestBody", {}).get("content", {})
            form = body.get("application/x-www-form-urlencoded", {}).get("schema")
            if form is not None:
                needed = form.get("required", ())
                query = [{"name": n, "schema": s, "required": n in needed} for n, s in form["properties"].items()]
                body = {}
            found.append(Operation(method.upper(), path, about["tags"][0], query, segments, body))
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a stream's body is not waited for."""

    status: int
    kind: str
    body: bytes
    allow: str = ""
    """The methods that there are, where another was asked."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One bad request: `what` is wrong with it, in Markdown; `token` None sends no credential."""

    what: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    token: str | None = ""
    shown: bool = False
    """Whether to tell of it even where it is not refused."""
    only: int = 0
    """With which status alone it tells something: with another it is the endpoint's answer to what else is wrong. 0: with any."""
    name: str = ""
    value: str = ""
    """Of a parameter's value: two that are refused in the same words share a row."""
    method: str = ""
    """Instead of the operation's own."""


class Server:
    """One listener's application, asked without a socket; each question comes from an address and a user of its own."""

    def __init__(self, app: Any, *, asked: int = 0) -> None:
        self.app = app
        self.asked = asked

    async def ask(self, method: str, ask: Ask) -> Answer:
        """One request and its answer."""
        self.asked += 1
        # Of its own, so that no limit of requests a minute is reached.
        token = ask.token
        if token == "":
            token = ROOT if ask.path.startswith("/api/v1/access/") else signed(sub=f"alice{self.asked}")
        headers = {"host": "127.0.0.1:8009", "content-length": str(len(ask.body)), **{k.lower(): v for k, v in ask.headers.items()}}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": ask.path,
            "raw_path": ask.path.encode(),
            "query_string": urlencode(ask.query).encode(),
            "root_path": "",
            "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()],
            "client": (f"10.{self.asked >> 16}.{self.asked >> 8 & 255}.{self.asked & 255}", 40000),
            "server": ("127.0.0.1", 8009),
            "state": {},
        }
        return await _call(self.app, scope, ask.body)

    async def description(self) -> list[Operation]:
        """What the listener says that it serves."""
        answer = await self.ask("GET", Ask("", "/openapi.json"))
        return operations(json.loads(answer.body))


async def _call(app: Any, scope: dict[str, Any], body: bytes) -> Answer:
    sent = [{"type": "http.request", "body": body, "more_body": False}]
    begun: dict[str, Any] = {}
    parts: list[bytes] = []
    done = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not sent:
            await done.wait()
            return {"type": "http.disconnect"}
        return sent.pop()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            begun.update(message)
            if _kind(message) == "text/event-stream":
                done.set()
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                done.set()

    serving = asyncio.ensure_future(app(scope, receive, send))
    waiting = asyncio.ensure_future(done.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    if _kind(begun) == "text/event-stream":
        serving.cancel()
    waiting.cancel()
    await asyncio.gather(serving, waiting, return_exceptions=True)
    return Answer(begun["status"], _kind(begun), b"".join(parts), _header(begun, b"allow"))


def _kind(message: Mapping[str, Any]) -> str:
    return _header(message, b"content-type").partition(";")[0]


def _header(message: Mapping[str, Any], name: bytes) -> str:
    headers = {k.lower(): v for k, v in message.get("headers", ())}
    return str(headers.get(name, b"").decode("latin-1"))


_PROM_RANGE = {"start": "2023-11-14T21:00:00Z", "end": "2023-11-14T22:00:00Z"}

VALUES: dict[str, tuple[str, ...]] = {
    "time": ("never", "2026-13-01T00:00:00Z", "NaN", "Inf", "1e30"),
    "duration": ("soon", "-1", "NaN", "1e30"),
    "integer": ("many", "-1", "1.5", "99999999999999999999"),
    "boolean": ("perhaps",),
    "query": ("", "sum(up"),
    "match[]": ("{", "{}"),
    "filter": ("(",),
    "format": ("xml",),
    "state": ("nowhere",),
    "type": ("nothing",),
    "level": ("loud",),
    "min_level": ("loud",),
    "regex": ("(",),
    "field": ("nothing",),
    "order": ("sideways",),
    "direction": ("sideways",),
    "cursor": ("nowhere",),
    "kind": ("nothing",),
    "outcome": ("nothing",),
    "period": ("soon", "0s"),
    "resolution": ("soon", "0s"),
    "step": ("soon", "0", "-1"),
    "group_next_token": ("nothing",),
    "precision": ("d",),
    "extra_label": ("zone",),
    "q": ("", "SELECT 1"),
}
"""Bad values of a parameter, by its name, otherwise by its kind."""
TIMES = ("start", "end", "time", "start_date", "end_date", "start_time", "end_time")
SPANS = ("last", "timeout", "lookback_delta", "since")
LIVE = {"metric": ("sum(up",)}
LOGQL = {"query": ("", "{", "up"), "match[]": ("{",), "targetLabels": ()}

BODIES: dict[str, dict[str, Any]] = {
    "/metrics/track": {"name": "up", "value": 1, "type": "gauge", "labels": {"a": "b"}, "service": "shop", "tenant_id": "t"},
    "/api/v1/monitoring/metrics": {"service_name": "s", "metric_name": "m", "value": 1, "recorded_at": "2023-11-14T22:00:00Z"},
    "/api/v1/alerts/silence": {"matcher": {"service": "shop"}, "duration_minutes": 60, "created_by": "admin", "comment": "Looking"},
    "/api/v1/silences/preview": {"filter": ['service="db"']},
    "/api/v2/silences": {
        "matchers": [{"name": "a", "value": "b", "isRegex": False}],
        "startsAt": "2023-11-14T22:00:00Z",
        "endsAt": "2023-11-15T22:00:00Z",
        "createdBy": "admin",
        "comment": "Looking",
    },
    "/api/v1/monitoring/alerts/configure": {
        "name": "high",
        "type": "threshold",
        "metric": "cpu.usage_percent",
        "condition": "greater_than",
        "threshold": 90,
        "duration_seconds": 300,
        "severity": "warning",
        "notify": {"email": ["admin@example.com"]},
    },
    "/api/v1/auth/token": {"username": "alice", "password": "correct horse"},
    "/api/v1/auth/password": {"password": "correct horse", "new_password": "battery staple"},
    "/api/v1/access/users": {"name": "bob", "password": "correct horse", "role": "viewer", "tenant": "default", "disabled": False},
    "/api/v1/access/users/{name}": {"password": "correct horse", "role": "viewer", "tenant": "default", "disabled": False},
    "/api/v1/access/keys": {"name": "push", "role": "viewer", "scopes": ["read"], "expires_in": "1d"},
    "/api/v1/access/tenants": {"name": "acme", "title": "Acme"},
    "/api/v1/alerts/{fingerprint}/acknowledge": {"author": "alice", "note": "mine", "duration": "2h", "expires_at": "2024-01-01T00:00:00Z"},
    "/api/v1/monitoring/alerts/{fingerprint}/acknowledge": {"acknowledged_by": "alice", "notes": "mine"},
    "/api/v1/receivers/{name}/test": {"labels": {"a": "b"}, "annotations": {"a": "b"}},
    "/api/v1/templates/preview": {"template": "{{ .Status }}", "html": False},
}
BODIES["/api/v1/monitoring/alerts/configure/{name}"] = BODIES["/api/v1/monitoring/alerts/configure"]
"""What each endpoint takes: each key is left out in turn, and is given what it cannot be."""

RULE = '{"name": "g", "rules": [{"alert": "A", "expr": "%s"}]}'
RULES = (RULE % "sum(up", '{"name": "g", "rules": [{"alert": "A", "exprs": "up"}]}', '{"rules": []}', "name: [")
ALERT = '[{"labels": {"alertname": "A"}, "startsAt": "%s"}]'
IMPORTED = ('{"metric": {}, "values": [1], "timestamps": [1]}', '{"metric": {"__name__": "up"}, "values": [1], "timestamps": []}')
SEGMENTS = {"grouping": ("", "shop/instance", "shop/a-b/c", "shop/a@base64/!")}
"""Values of a path's parts that are none."""
PUSHED = ("up one", "up 1 1700000000000", "up 1\nup 2\n")
OTLP = ('{"resourceMetrics": 7}',)
RAW: dict[str, tuple[str, ...]] = {
    "/metrics/track": (
        '{"name": "up", "value": "NaN"}',
        '{"name": "", "value": 1}',
        '{"name": "up", "value": 1, "type": "meter"}',
        '{"name": "up", "value": 1, "labels": {"": "b"}}',
    ),
    "/metrics/track/batch": ('[{"name": "up"}]', '[{"name": "up", "value": 1, "type": "meter"}, 7]'),
    "/api/v1/monitoring/metrics": (
        '[{"service_name": "s", "metric_name": "m"}]',
        '{"service_name": "s", "metric_name": "m", "value": 1, "recorded_at": "never"}',
        '{"service_name": "", "metric_name": "m", "value": 1}',
    ),
    "/api/v1/alerts/silence": (
        '{"matcher": {}, "duration_minutes": 60}',
        '{"matcher": {"service": "shop"}, "duration_minutes": 0}',
        '{"matcher": {"service": "shop"}, "duration_minutes": 1e12}',
    ),
    "/api/v1/silences/preview": ('{"filter": ["("]}', '{"matchers": []}'),
    "/api/v2/alerts": (ALERT % "never", '[{"labels": {}}]', '[{"labels": {"": "x"}}]', '[{"annotations": {"a": "b"}}]'),
    "/api/v2/silences": (
        '{"matchers": [], "startsAt": "2023-11-14T22:00:00Z", "endsAt": "2023-11-15T22:00:00Z", "createdBy": "a", "comment": "c"}',
        '{"matchers": [{"name": "a", "value": "b", "isRegex": false}], "startsAt": "2023-11-15T22:00:00Z", '
        '"endsAt": "2023-11-14T23:00:00Z", "createdBy": "a", "comment": "c"}',
        '{"matchers": [{"name": "a", "value": "(", "isRegex": true}], "startsAt": "2023-11-14T22:00:00Z", '
        '"endsAt": "2023-11-15T22:00:00Z", "createdBy": "a", "comment": "c"}',
    ),
    "/api/v1/monitoring/alerts/configure": (
        '{"name": "high", "metric": "cpu.usage_percnt", "condition": "greater_than", "threshold": 90}',
        '{"name": "high", "metric": "cpu.usage_percent", "condition": "larger", "threshold": 90}',
    ),
    "/api/v1/access/users": ('{"name": "bob", "password": "short"}', '{"name": "bob", "password": "correct horse", "role": "king"}'),
    "/api/v1/access/keys": ('{"name": "push", "role": "king"}', '{"name": "push", "expires_in": "soon"}', '{"name": "p", "scopes": ["x"]}'),
    "/api/v1/access/tenants": ('{"name": "a/b"}',),
    "/api/v1/templates/preview": ('{"template": "{{ .Status"}', '{"template": "{{ nothing 1 }}"}'),
    "/api/v1/rules/managed": RULES,
    "/api/v1/rules/managed/{namespace}": RULES,
    "/api/v1/rules/managed/{namespace}/{group}": RULES,
    "/config/v1/rules/{namespace}": RULES,
    "/api/v1/rules/validate": RULES,
    "/api/v1/rules/backtest": RULES,
    "/api/v1/logs": ('{"level": "error"}', '{"message": "x", "timestamp": "never"}'),
    "/loki/api/v1/push": ('{"streams": 7}', '{"streams": [{"stream": {}, "values": [["x", "line"]]}]}'),
    "/_bulk": ('{"index": {}}\n', '{"nothing": {}}\n{}\n'),
    "/{index}/_bulk": ('{"index": {}}\n', '{"nothing": {}}\n{}\n'),
    **dict.fromkeys((f"{prefix}/api/v1/import" for prefix in ("", "/prometheus")), IMPORTED),
    **dict.fromkeys((f"{prefix}/api/v1/import/prometheus" for prefix in ("", "/prometheus")), ('up{a="b" 1', "up one")),
    **dict.fromkeys(("/api/put", "/opentsdb/api/put"), ('{"metric": "a"}', '[{"metric": "a", "value": "x"}]')),
    "/datadog/api/v1/series": ('{"series": [{"metric": "a"}]}', '{"series": [{"metric": "", "points": [[1, 1]]}]}'),
    "/datadog/api/v2/series": ('{"series": [{"metric": "a", "points": [[1, 1]]}]}',),
    "/write": ("cpu", "cpu value=", "cpu value=1x", "cpu value=1 soon"),
    "/influx/write": ("cpu",),
    "/api/v2/write": ("cpu", "cpu,host= ,=a value=1"),
    "/influx/api/v2/write": ("cpu",),
    "/api/v1/otlp/v1/metrics": OTLP,
    "/v1/metrics": OTLP,
    **dict.fromkeys((f"{root}/metrics/{job}/{{grouping}}" for root in ("", "/pushgateway") for job in ("job", "job@base64")), PUSHED),
    "/v1/logs": ('{"resourceLogs": 7}',),
    "/api/v1/otlp/v1/logs": ('{"resourceLogs": 7}',),
}
"""Bodies of the right form that cannot be accepted; what an endpoint takes as it is stands in none of its rows."""


def asks(operation: Operation, existing: Mapping[str, str]) -> Iterator[Ask]:
    """All that is asked of one operation; `existing` has paths to what there is, by the path in the description."""
    path = operation.filled()
    needed = {p["name"]: _good(p["name"], path) for p in operation.query if p.get("required")}
    if path not in OPEN:
        yield Ask("no credential", path, needed, token=None)
        for what, token in bad_tokens().items():
            yield Ask(f"a token: {what}", path, needed, token=token)
        for role in ("viewer", "operator"):
            yield Ask(f"the role `{role}`", path, needed, token=signed(role=role), only=403)
    for param in operation.query:
        yield from _of_parameter(operation, param, needed)
    yield from _of_ranges(operation, needed)
    for name in operation.segments:
        yield Ask(f"an unknown `{name}`", path, needed, only=404)
        for value in SEGMENTS.get(name, ()):
            yield Ask(f"`{name}` of `{value}`", operation.path.replace(f"{{{name}}}", value), needed, name=name, value=value)
    if operation.path in existing:
        path = existing[operation.path]
        good, kind = json.dumps(BODIES.get(operation.path, {})).encode(), {"content-type": "application/json"}
        yield Ask("what is another tenant's", path, needed, good, kind, token=signed(tenant_id="other"), shown=True)
    if operation.body:
        yield from _of_body(operation, path, needed)
    yield Ask("another method", path, method="TRACE")


def _good(name: str, path: str) -> str:
    if path.startswith("/loki/"):
        return '{service="shop"}'
    return _PROM_RANGE.get(name) or FILLED.get(name, "nothing")


def _of_parameter(operation: Operation, param: Mapping[str, Any], needed: Mapping[str, str]) -> Iterator[Ask]:
    name, path = param["name"], operation.filled()
    if param.get("required"):
        yield Ask(f"no `{name}`", path, {k: v for k, v in needed.items() if k != name}, shown=True)
    own = LOGQL if path.startswith("/loki/") else LIVE if path in STREAMS else {}
    kind = _kind_of(name, param["schema"])
    for value in own.get(name) or VALUES.get(name) or VALUES.get(kind, ()):
        body, headers = _good_body(operation)
        query = {**needed, name: value}
        yield Ask(f"`{name}={value}`", path, query, body, headers, shown=kind != "text", name=name, value=value)


def _good_body(operation: Operation) -> tuple[bytes, Mapping[str, str]]:
    """A body that is no reason to refuse a request, where it is the parameters that are bad."""
    if not operation.body or "rules" not in operation.path:
        return b"", {}
    return (RULE % "up").encode(), {"content-type": "application/json"}


def _kind_of(name: str, schema: Mapping[str, Any]) -> str:
    if name in TIMES:
        return "time"
    if name in SPANS:
        return "duration"
    if "oneOf" in schema:
        return "duration"
    kind = schema.get("type", "text")
    return kind if kind in ("integer", "boolean") else "text"


def _of_ranges(operation: Operation, needed: Mapping[str, str]) -> Iterator[Ask]:
    names = {p["name"] for p in operation.query}
    for start, end in (("start", "end"), ("start_date", "end_date"), ("start_time", "end_time")):
        if {start, end} <= names:
            turned = {start: "2023-11-14T22:00:00Z", end: "2023-11-14T21:00:00Z"}
            yield Ask(f"`{end}` before `{start}`", operation.filled(), {**needed, **turned}, shown=True)
            if "step" in names:
                wide = {start: "2022-11-14T22:00:00Z", end: "2023-11-14T21:00:00Z", "step": "1"}
                yield Ask("more points than are answered", operation.filled(), {**needed, **wide})


def _of_body(operation: Operation, path: str, needed: Mapping[str, str]) -> Iterator[Ask]:
    media = list(operation.body)
    text = next((m for m in media if m != "application/x-protobuf"), None)
    if text is not None:
        kind = {"content-type": text}
        yield Ask("no body", path, needed, b"", kind)
        for body in ("{", "7", '"\ud800"'.encode("utf-8", "surrogatepass").decode("latin-1"), *RAW.get(operation.path, ())):
            what = "a body that is no UTF-8" if body.startswith('"') else _cell(body.strip())
            yield Ask(what, path, needed, body.encode("latin-1"), kind)
        good = BODIES.get(operation.path, {})
        for name, value in good.items():
            less = {k: v for k, v in good.items() if k != name}
            yield Ask(f"no `{name}`", path, needed, json.dumps(less).encode(), kind)
            wrong = 7 if isinstance(value, dict) else {"no": 1}
            yield Ask(f"`{name}` of a wrong type", path, needed, json.dumps({**good, name: wrong}).encode(), kind)
    if "application/x-protobuf" in media:
        kind = {"content-type": "application/x-protobuf"}
        if operation.path in ("/api/v1/write", "/api/v1/push", "/api/v1/read"):
            kind["content-encoding"] = "snappy"
        yield Ask("a protobuf that is none", path, needed, b"\xff" * 40, kind)
        yield Ask("a protobuf that ends early", path, needed, b"\x02\x04\x0a\x7f", kind)
    first = {"content-type": media[0]}
    yield Ask("a `Content-Type` of `image/png`", path, needed, b"x", {"content-type": "image/png"})
    for coding in ("compress", "gzip"):
        what = f"a `Content-Encoding` of `{coding}`" + (" of what is none" if coding == "gzip" else "")
        yield Ask(what, path, needed, b"x" * 40, {**first, "content-encoding": coding}, value=coding)
    yield Ask("a body of a TiB", path, needed, b"x", {**first, "content-length": str(1 << 40)})


Row = tuple[str, int, str, str]
"""What was wrong, the status, the type or place, the message."""


def told(answer: Answer) -> tuple[str, str]:
    """(the type or the place, the message) of an answer, whichever dialect it is in."""
    if answer.kind == "application/x-protobuf" and answer.status >= 300:
        # google.rpc.Status: its field 2, a text of less than 128 bytes, and nothing behind it.
        start = answer.body.index(b"\x12")
        assert answer.body[start + 1] == len(answer.body) - start - 2, answer.body
        return "", answer.body[start + 2 :].decode()
    try:
        body = json.loads(answer.body)
    except ValueError:
        return "", answer.body.decode("utf-8", "replace").strip() if answer.status >= 300 else ""
    if answer.status < 300:
        failed = body.get("errors") if isinstance(body, dict) else None
        failed = failed or (
            body["data"].get("errors") if failed is None and isinstance(body, dict) and isinstance(body.get("data"), dict) else None
        )
        return "", json.dumps(failed) if isinstance(failed, list) and failed else ""
    if isinstance(body, str):
        return "", body
    if isinstance(body.get("detail"), list):
        first = body["detail"][0]
        return ".".join(map(str, first["loc"])), first["msg"]
    if isinstance(body.get("error"), dict):
        return str(body["error"].get("type", "")), str(body["error"].get("reason", ""))
    message = next((body[name] for name in ("error", "detail", "message", "problem") if name in body), json.dumps(body))
    return str(body.get("errorType", body.get("code", ""))), str(message)


async def rows(server: Server, operation: Operation, existing: Mapping[str, str]) -> list[Row]:
    """What one operation answers; the questions that get the same answer, but for what it repeats of them, share a row."""
    found: dict[tuple[int, str, str], tuple[list[str], Row]] = {}
    for ask in asks(operation, existing):
        answer = await server.ask(ask.method or operation.method, ask)
        kind, message = told(answer)
        if (answer.status < 300 and not ask.shown and not message) or (ask.only and answer.status != ask.only):
            continue
        for name, path in existing.items():
            message = message.replace(path.rpartition("/")[2], "ID") if name.endswith("{id}") else message
        alike = (answer.status, _without(ask, kind), _without(ask, message))
        whats, _ = found.setdefault(alike, ([], ("", answer.status, kind, message)))
        whats.append(f"a method other than {answer.allow}" if answer.allow else ask.what)
    return [("; ".join(_together(whats)), *row[1:]) for whats, row in found.values()]


def _without(ask: Ask, text: str) -> str:
    """A message without the name and the value that it repeats."""
    text = text.replace(ask.value, "VALUE") if ask.value else text
    return re.sub(rf"\b{re.escape(ask.name)}\b", "NAME", text) if ask.name else text


def _together(whats: list[str]) -> list[str]:
    tokens = [what.removeprefix("a token: ") for what in whats if what.startswith("a token: ")]
    rest = [what for what in whats if not what.startswith("a token: ")]
    if len(tokens) == len(bad_tokens()):
        return [*rest, "a token that is expired, forged or another's"]
    return [*rest, *(f"a token: {what}" for what in tokens)]


def _cell(text: str, most: int = 200) -> str:
    shown = text if len(text) <= most else text[:most] + "…"
    shown = "".join(c if c.isprintable() else "�" for c in shown.replace("\n", " "))
    if not shown:
        return ""
    fence = "``" if "`" in shown else "`"
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}".replace("|", "\\|")


def table(found: Sequence[Row]) -> list[str]:
    """One endpoint's answers as a Markdown table."""
    lines = ["| bad input | status | type or place | message |", "|---|---:|---|---|"]
    for what, status, kind, message in found:
        said = _cell(message) or ("not refused" if status < 300 else "")
        lines.append(f"| {what.replace('|', chr(92) + '|')} | {status} | {_cell(kind)} | {said} |")
    return lines


async def page(data: Path) -> str:
    """The whole page; `data` is an empty directory."""

    def read() -> Settings:
        given = {"JWT_SECRET": SECRET, "API_KEY": ROOT, "VEDETTE_HOST_ENABLED": "false"}
        return resolve(environment=given, dotenv=None, flags={("storage", "data"): data, ("storage", "admin_api"): True})

    house = House(read(), clock=ManualClock(), read=read)
    house.lock()
    await house.start()
    try:
        lines, seen, existing = [INTRODUCTION], dict[str, list[str]](), dict[str, str]()
        for listener in (None, *DIALECTS):
            server = Server(house.asgi(listener), asked=len(lines))
            existing = existing if listener else await _made(server)
            lines += await _listener(server, listener, seen, existing)
    finally:
        await house.close()
    return "\n".join(lines).replace(str(data), "DATA") + "\n"


async def _made(server: Server) -> dict[str, str]:
    """Make a silence, a group of rules, a configured alert and a user: the paths to them."""
    kind = {"content-type": "application/json"}

    async def make(path: str, body: str, *, method: str = "POST") -> Answer:
        answer = await server.ask(method, Ask("", path, body=body.encode(), headers=kind))
        assert answer.status < 300, (path, answer)
        return answer

    silence = json.loads((await make("/api/v1/alerts/silence", json.dumps(BODIES["/api/v1/alerts/silence"]))).body)["id"]
    await make("/api/v1/rules/managed/shop/g", RULE % "up", method="PUT")
    about = {k: v for k, v in BODIES["/api/v1/monitoring/alerts/configure"].items() if k != "notify"}
    await make("/api/v1/monitoring/alerts/configure", json.dumps(about))
    await make("/api/v1/access/users", json.dumps(BODIES["/api/v1/access/users"]))
    return {
        "/api/v1/alerts/silence/{id}": f"/api/v1/alerts/silence/{silence}",
        "/api/v2/silence/{id}": f"/api/v2/silence/{silence}",
        "/api/v1/rules/managed/{namespace}/{group}/versions": "/api/v1/rules/managed/shop/g/versions",
        "/config/v1/rules/{namespace}/{group}": "/config/v1/rules/shop/g",
        "/api/v1/monitoring/alerts/configure/{name}": "/api/v1/monitoring/alerts/configure/high",
        "/api/v1/access/users/{name}": "/api/v1/access/users/bob",
    }


async def _listener(server: Server, name: str | None, seen: dict[str, list[str]], existing: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    same: list[str] = []
    tag = ""
    if name is not None:
        lines += [f"## The listener of `{name}`", ""]
    together: dict[tuple[str, str], list[tuple[str, list[str]]]] = {}
    for operation in await server.description():
        found = await rows(server, operation, existing)
        together.setdefault((operation.tag if name is None else "", operation.path), []).append((operation.method, table(found)))
    for (group, path), answers in sorted(together.items(), key=lambda item: item[0][0]):
        merged: dict[str, list[str]] = {}
        for method, shown in answers:
            merged.setdefault("\n".join(shown), []).append(method)
        if group != tag:
            tag = group
            lines += [f"## {TITLES[tag]}", ""]
        for text, methods in merged.items():
            title = f"{' '.join(f'`{m}`' for m in methods)} `{path}`"
            if name is None:
                seen[title] = [text]
            elif seen.get(title) == [text]:
                same.append(title)
                continue
            rows_or_none = text if text.count("\n") > 1 else "Nothing that it reads can be bad."
            lines += [f"### {title}", "", rows_or_none, ""]
    if same:
        lines += [f"As on the main listener: {', '.join(same)}.", ""]
    return lines


TITLES = {
    "query": "Queries",
    "labels": "Labels and series",
    "targets": "Targets",
    "rules": "Rules",
    "status": "Status",
    "write": "Samples in",
    "alertmanager": "Alertmanager's API",
    "alerts": "Alerts",
    "logs": "Log lines",
    "access": "Access",
    "admin": "Administration",
    "operations": "Operations",
    "track": "Access layer",
    "gamiroo": "Gamiroo",
    "botserver": "BotServer",
    "platform": "Platform",
    "xscore": "XScore",
}

INTRODUCTION = """# Bad input

What each endpoint answers to what it cannot accept. The answers are those of the program, written down by `python docs/bad_input.py`;
`tests/docs/test_bad_input.py` fails where they are others. The
description of each endpoint is in [HTTP API](http-api.md) and [Service APIs](services.md).

A row's inputs, parted by semicolons, get the same answer, but for the value that it repeats; the message is the first one's. The
type is Prometheus' `errorType` or the dialect's own, the place the `loc` of the service APIs. `not refused` is what is
answered as if there were nothing wrong, which on Prometheus' own paths is as Prometheus answers it: an `end` before the `start` finds
nothing, a `lookback_delta` that is not positive is the server's own, a negative `limit` of metadata is none. Everywhere:

| bad input | answer |
|---|---|
| no credential, one that is expired, forged or another's, where somebody is asked who they are | 401 without a reason |
| a credential that may not do this | 403 |
| another tenant's id | 404, as for one that does not exist |
| a request for a host name that is not this server's, or a change that a page from elsewhere asks for | 403 |
| more requests than [allowed a minute](services.md#botserver) | 429 with `Retry-After` |
| a body over the limit | 413, before it is read |
| a body of a media type, or in a coding, that is not taken | 415 |
| a path that is not there, or with a slash too many | 404 |
| a method that a path does not have | 405, with those it has in `Allow` |

Of a parameter that is given twice the first counts, of a key of JSON the last. `OPTIONS` is answered with 204 and `Allow`, `HEAD` as
`GET` without the body. A body that names no media type, or is called a form, as `curl -d` calls everything, is taken for JSON, save by
Alertmanager's and Elasticsearch's paths. 404 and 405 come in the shape of the API whose path it is: Prometheus' `{"status": "error",
…}`, the service APIs' `{"detail": …}` (of everything on their own listeners), Alertmanager's `{"code", "message"}` below `/api/v2/`,
plain text below `/loki/` and `/config/v1/rules`, Elasticsearch's
`{"error", "status"}` below `/_`.

The WebSockets' own are at [Live values](http-api.md#live-values).
"""


def main() -> int:
    """Write the page, or compare it; 1 where it differs."""
    with tempfile.TemporaryDirectory() as folder:
        made = asyncio.run(page(Path(folder)))
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    stands = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    for line in difflib.unified_diff(stands.splitlines(), made.splitlines(), "docs/bad-input.md", "what is answered", n=1, lineterm=""):
        sys.stderr.write(f"{line}\n")
    return int(stands != made)


if __name__ == "__main__":
    sys.exit(main())
