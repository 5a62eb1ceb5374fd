"""Alice and Bob share a tenant, Charlie has another: on every endpoint that the server describes, by every method it has.

Everything that can be put into a server is put in by Alice, through each way in. Charlie, an admin where he belongs, then asks for all
of it by its own names and ids, and tries to change it; what he is told must hold nothing of hers, and hers must be as it was.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from tests.e2e import patient
from websockets.sync.client import connect

SECRET = "a-secret-of-more-than-thirty-two-bytes"
MARK = "acme_metric"
HIDDEN = "hidden-of-acme"
"""What Alice puts in as a value; nobody asks for it by this name."""
DATABASES = ("sqlite", "postgresql")

pytestmark = pytest.mark.timeout(600)


@dataclass
class Person:
    """Somebody who asks the server."""

    name: str
    role: str
    tenant: str
    client: httpx.Client = field(init=False)

    def meet(self, url: str) -> None:
        """Get a token and a client."""
        claims = {"sub": self.name, "role": self.role, "tenant_id": self.tenant, "exp": int(time.time()) + 600}
        headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=patient.SECONDS)

    def ok(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """A request that must succeed."""
        answer = self.client.request(method, path, **arguments)
        assert answer.status_code < 300, (self.name, method, path, answer.status_code, answer.text[:300])
        return answer


@dataclass
class Scene:
    """A server, three people, and what Alice has there: `ids` by the names of path parameters."""

    server: Any
    alice: Person
    bob: Person
    charlie: Person
    ids: dict[str, dict[str, str]]

    def path(self, template: str) -> str:
        """The path to what Alice has of this kind."""
        known = next((ids for prefix, ids in self.ids.items() if template.startswith(prefix)), {})
        return re.sub(r"\{(\w+)\}", lambda m: quote(known.get(m[1], MARK), safe=""), template)


@pytest.fixture(scope="module", params=DATABASES)
def scene(request: pytest.FixtureRequest, module_launch: Any, tools: Any) -> Iterator[Scene]:
    env = {"JWT_SECRET": SECRET, "API_KEY": "root-key", "VEDETTE_HOST_ENABLED": "false", "VEDETTE_STORAGE_ADMIN_API": "true"}
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").new_database()
        env["DATABASE_URL"] = url.replace("postgresql://", "postgresql+asyncpg://")
    server = module_launch.vedette(env=tools.environment(**env), data=module_launch.folder / request.param)
    people = Person("alice", "admin", "acme"), Person("bob", "viewer", "acme"), Person("charlie", "admin", "other")
    for person in people:
        person.meet(server.url)
    alice, bob, charlie = people
    yield Scene(server, alice, bob, charlie, _put_in(server, alice, tools))
    for person in people:
        person.client.close()


def _put_in(server: Any, alice: Person, tools: Any) -> dict[str, dict[str, str]]:
    """Something of Alice's through each way in; the ids of what has one."""
    for name in ("acme", "other"):
        made = server.post("/api/v1/access/tenants", json={"name": name}, headers={"Authorization": "Bearer root-key"})
        assert made.status_code == 201, made.text
    now = time.time()
    labels = {"service": MARK, "job": MARK, "instance": HIDDEN}
    body = tools.write_body([({"__name__": MARK, **labels}, [(int(now * 1000), 42.0)])])
    alice.ok("POST", "/api/v1/write", content=body, headers=tools.write_headers)
    alice.ok("POST", "/metrics/track", json={"name": MARK, "value": 1, "type": "gauge", "service": MARK, "labels": {"by": HIDDEN}})
    alice.ok("POST", "/api/v1/monitoring/metrics", json={"service_name": MARK, "metric_name": f"{MARK}_{HIDDEN}", "value": 1})
    for path, text in (("/api/v1/otlp/v1/metrics", _otlp_metrics(now)), ("/v1/logs", _otlp_logs(now))):
        alice.ok("POST", path, json=text)
    alice.ok("POST", "/write", params={"db": HIDDEN}, content=f"{MARK},instance={HIDDEN} influx=1")
    line = {"metric": {"__name__": f"{MARK}_line", "instance": HIDDEN}, "values": [1], "timestamps": [int(now * 1000)]}
    alice.ok("POST", "/api/v1/import", content=json.dumps(line))
    alice.ok("POST", "/api/v1/import/csv", params={"format": f"1:metric:{MARK}_csv,2:label:instance"}, content=f"1,{HIDDEN}")
    alice.ok("POST", "/api/v1/import/prometheus", content=f'{MARK}_text{{instance="{HIDDEN}"}} 1\n')
    alice.ok("POST", "/api/put", json={"metric": f"{MARK}_tsdb", "value": 1, "tags": {"instance": HIDDEN}})
    alice.ok("POST", "/datadog/api/v1/series", json={"series": [{"metric": f"{MARK}_dog", "points": [[now, 1]], "host": HIDDEN}]})
    alice.ok("PUT", f"/metrics/job/{MARK}", content=f'{MARK}_pushed{{by="{HIDDEN}"}} 1\n')
    alice.ok("POST", "/api/v1/logs", json={"message": HIDDEN, "level": "error", "service": MARK})
    stream = {"stream": {"service": MARK}, "values": [[str(int(now * 1e9)), HIDDEN]]}
    alice.ok("POST", "/loki/api/v1/push", json={"streams": [stream]})
    lines = f'{{"index": {{"_index": "{MARK}"}}}}\n{{"message": "{HIDDEN}", "service": "{MARK}"}}\n'
    alice.ok("POST", "/_bulk", content=lines, headers={"Content-Type": "application/x-ndjson"})
    alice.ok("POST", "/api/v2/alerts", json=[{"labels": {"alertname": MARK, "instance": HIDDEN}, "annotations": {"summary": HIDDEN}}])
    silence = alice.ok("POST", "/api/v1/alerts/silence", json={"matcher": {"a": MARK}, "duration_minutes": 5, "comment": HIDDEN}).json()
    rule = {"name": "g", "interval": "1s", "rules": [{"alert": f"{MARK}Fires", "expr": f"{MARK} > 1", "annotations": {"s": HIDDEN}}]}
    alice.ok("PUT", f"/api/v1/rules/managed/{MARK}/g", json=rule)
    about = {"name": MARK, "type": "threshold", "metric": MARK, "condition": "greater_than", "threshold": 90, "severity": HIDDEN}
    alice.ok("POST", "/api/v1/monitoring/alerts/configure", json=about)
    alice.ok("POST", "/api/v1/access/users", json={"name": f"{MARK}-user", "password": "correct horse", "role": "viewer"})
    key = alice.ok("POST", "/api/v1/access/keys", json={"name": HIDDEN, "role": "viewer"}).json()["data"]["id"]

    def fires() -> Any:
        return [a for a in alice.ok("GET", "/api/v2/alerts").json() if a["labels"]["alertname"] == MARK]

    (alert,) = tools.eventually(fires, "Alice's alert stands")
    alice.ok("POST", f"/api/v1/alerts/{alert['fingerprint']}/acknowledge", json={"note": HIDDEN})
    group = {"namespace": MARK, "group": "g"}
    return {
        "/api/v1/alerts/silence/": {"id": silence["id"]},
        "/api/v2/silence/": {"id": silence["id"]},
        # A group that he pushes by the name of hers is his own, and what he then reads of it is his.
        "/metrics/job": {"grouping": "somebody"},
        "/pushgateway/metrics/job": {"grouping": "somebody"},
        "/api/v1/rules/managed/": group,
        "/config/v1/rules/": group,
        "/api/v1/access/users/": {"name": f"{MARK}-user"},
        "/api/v1/access/keys/": {"id": key},
        "/api/v1/alerts/{fingerprint}": {"fingerprint": alert["fingerprint"]},
        "/api/v1/monitoring/alerts/{fingerprint}": {"fingerprint": alert["fingerprint"]},
        "/api/v1/label/": {"name": "instance"},
        "/loki/api/v1/label/": {"name": "service"},
    }


def _otlp_metrics(now: float) -> dict[str, Any]:
    point = {"timeUnixNano": str(int(now * 1e9)), "asDouble": 1.0, "attributes": [{"key": "by", "value": {"stringValue": HIDDEN}}]}
    metric = {"name": f"{MARK}_otlp", "gauge": {"dataPoints": [point]}}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


def _otlp_logs(now: float) -> dict[str, Any]:
    record = {"timeUnixNano": str(int(now * 1e9)), "severityText": "ERROR", "body": {"stringValue": HIDDEN}}
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}


def _question(path: str) -> dict[str, Any]:
    """Parameters that find what Alice put in, where it is theirs who ask."""
    now = time.time()
    if path == "/api/v1/rules":
        return {}  # there `match[]` asks for rules by their labels
    if path.startswith("/loki/"):
        return {"query": f'{{service="{MARK}"}}', "match[]": f'{{service="{MARK}"}}'}
    return {
        "query": MARK,
        "match[]": f'{{__name__=~"{MARK}.*"}}',
        "service": MARK,
        "metric": MARK,
        "filter": f'alertname=~"{MARK}.*"' if "silence" not in path else f'a="{MARK}"',
        "start": now - 60,
        "end": now + 60,
        "step": 5,
        "limit": 1000,
    }


def _asked(person: Person, scene: Scene, operation: Any, bad_input: Any) -> httpx.Response | None:
    """The answer to one operation on what Alice has; None for a stream, which never ends."""
    path = scene.path(operation.path)
    arguments: dict[str, Any] = {"params": _question(operation.path)}
    if operation.method in ("POST", "PUT", "PATCH"):
        good: Any = bad_input.BODIES.get(operation.path)
        if good is None and "rules" in operation.path and operation.body:
            good = json.loads(bad_input.RULE % "up")
        arguments |= {"json": good} if good is not None and operation.body else {}
    with person.client.stream(operation.method, path, **arguments) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return None
        answer.read()
        return answer


def test_on_every_endpoint_charlie_finds_nothing_and_changes_nothing(scene: Scene, bad_input: Any, tools: Any) -> None:
    operations = bad_input.operations(scene.alice.ok("GET", "/openapi.json").json())
    assert len(operations) > 100
    seen, statuses = set(), dict[tuple[str, str], int]()
    for operation in operations:
        if operation.method == "GET":
            found = _asked(scene.bob, scene, operation, bad_input)
            if found is not None and HIDDEN in found.text:
                seen.add(operation.path)
    before = _whole(scene.alice)
    for operation in operations:
        answer = _asked(scene.charlie, scene, operation, bad_input)
        if answer is None:
            continue
        statuses[operation.method, operation.path] = answer.status_code
        assert answer.status_code < 500, (operation.method, operation.path, answer.status_code, answer.text[:300])
        assert HIDDEN not in answer.text, (operation.method, operation.path, answer.text[:500])
        assert HIDDEN not in str(answer.headers), (operation.method, operation.path)
    assert _whole(scene.alice) == before, "what he asked to be deleted, changed or silenced was not hers"
    expected = {"/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/label/{name}/values", "/metrics", "/metrics/series"}
    expected |= {"/federate", "/api/v1/export", "/api/v1/rules", "/api/v1/rules/managed", "/config/v1/rules", "/api/v1/rules/export"}
    expected |= {"/api/v2/alerts", "/api/v2/silences", "/api/v1/alerts/silence", "/api/v1/alerts/silence/{id}", "/api/v2/silence/{id}"}
    expected |= {"/api/v1/alerts/{fingerprint}/acknowledge", "/api/v1/alerts/history"}
    expected |= {"/api/v1/logs", "/api/v1/monitoring/logs", "/loki/api/v1/query_range", "/api/v1/errors", "/api/v1/monitoring/metrics"}
    assert expected <= seen, f"Bob, her team mate, sees it; not at {expected - seen}"
    ids = ("id", "namespace", "group", "fingerprint")
    named = [(m, p) for m, p in statuses if any(f"{{{i}}}" in p for i in ids) and m in ("GET", "DELETE") and "_template" not in p]
    assert len(named) > 10
    # A group of rules that he puts under her names is his own, so what he then reads there is his.
    lenient = {(m, p) for m, p in named if "rules" in p}
    assert {(m, p): statuses[m, p] for m, p in named if (m, p) not in lenient and statuses[m, p] != 404} == {}


def _whole(alice: Person) -> dict[str, Any]:
    """What Alice has, as she sees it."""
    question = {"query": f'count by (__name__) ({{__name__=~"{MARK}.*"}})', "time": str(time.time())}
    metrics = alice.ok("GET", "/api/v1/query", params=question).json()["data"]["result"]
    rules = alice.ok("GET", "/api/v1/rules/managed").json()
    return {
        "metrics": sorted((m["metric"]["__name__"], m["value"][1]) for m in metrics),
        "silences": [(s["id"], s["status"]["state"], s["comment"]) for s in alice.ok("GET", "/api/v2/silences").json()],
        "alerts": sorted(a["fingerprint"] for a in alice.ok("GET", "/api/v2/alerts").json()),
        "rules": json.dumps(rules, sort_keys=True).count(HIDDEN),
        "configured": [a["name"] for a in alice.ok("GET", "/api/v1/monitoring/alerts/configure").json()["alerts"]],
        "users": [u["name"] for u in alice.ok("GET", "/api/v1/access/users").json()["data"]],
        "keys": [(k["id"], k["revoked_at"]) for k in alice.ok("GET", "/api/v1/access/keys").json()["data"]],
        "lines": alice.ok("GET", "/api/v1/logs", params={"service": MARK}).json()["data"]["total"],
        "acknowledged": [e["kind"] for e in alice.ok("GET", "/api/v1/alerts/history", params={"kind": "acknowledged"}).json()["events"]],
    }


def test_an_id_of_hers_is_to_him_like_one_that_does_not_exist(scene: Scene) -> None:
    silence, alert = scene.ids["/api/v2/silence/"]["id"], scene.ids["/api/v1/alerts/{fingerprint}"]["fingerprint"]
    for method, path, body in (
        ("GET", f"/api/v2/silence/{silence}", None),
        ("DELETE", f"/api/v2/silence/{silence}", None),
        ("GET", f"/api/v1/alerts/silence/{silence}", None),
        ("DELETE", f"/api/v1/alerts/silence/{silence}", None),
        ("POST", f"/api/v1/alerts/{alert}/acknowledge", {}),
        ("DELETE", f"/api/v1/alerts/{alert}/acknowledge", None),
        ("POST", f"/api/v1/monitoring/alerts/{alert}/acknowledge", {"acknowledged_by": "charlie"}),
        ("DELETE", f"/api/v1/access/keys/{scene.ids['/api/v1/access/keys/']['id']}", None),
        ("DELETE", f"/api/v1/access/users/{MARK}-user", None),
        ("PATCH", f"/api/v1/access/users/{MARK}-user", {"role": "admin"}),
        ("DELETE", "/api/v1/access/tenants/acme", None),
        ("GET", f"/api/v1/metrics/{MARK}", None),
    ):
        arguments: dict[str, Any] = {} if body is None else {"json": body}
        unknown = path.replace(alert, "0" * 16) if "acknowledge" in path else re.sub(r"[^/]+$", "none-such", path)
        hers = scene.charlie.client.request(method, path, **arguments)
        none = scene.charlie.client.request(method, unknown, **arguments)
        assert hers.status_code == none.status_code == 404, (method, path, hers.status_code, none.status_code, hers.text)
    assert scene.alice.ok("GET", f"/api/v2/silence/{silence}").json()["status"]["state"] == "active"


def test_he_may_not_speak_for_her_tenant(scene: Scene, tools: Any) -> None:
    headers = {"X-Scope-OrgID": "acme"}
    body = tools.write_body([({"__name__": MARK}, [(int(time.time() * 1000), 666.0)])])
    refused = scene.charlie.client.post("/api/v1/write", content=body, headers={**tools.write_headers, **headers})
    assert refused.status_code == 403
    assert scene.charlie.client.get("/api/v1/query", params={"query": MARK}, headers=headers).status_code == 403
    for header in (b"acme|other", b"..", b"a" * 200, b"a/b", b"\xff"):
        asked = scene.charlie.client.get("/api/v1/query", params={"query": "1"}, headers=[(b"X-Scope-OrgID", header)])
        assert asked.status_code == 400, header
    posted = {"name": "mole", "password": "correct horse", "role": "viewer", "tenant": "acme"}
    assert scene.charlie.client.post("/api/v1/access/users", json=posted).status_code == 400
    assert scene.charlie.client.post("/api/v1/access/keys", json={"name": "mole", "tenant": "*"}).status_code == 400


def _until(lines: Iterator[str], word: str) -> str:
    """What a stream says up to a line that holds `word`."""
    said = []
    for line in lines:
        said.append(line)
        if word in line:
            return "\n".join(said)
    raise AssertionError("the stream ended")


def _write(person: Person, tools: Any, instance: str, value: float) -> None:
    body = tools.write_body([({"__name__": MARK, "instance": instance, "service": MARK}, [(int(time.time() * 1000), value)])])
    person.ok("POST", "/api/v1/write", content=body, headers=tools.write_headers)


def test_streams_of_events_are_of_ones_own_tenant(scene: Scene, tools: Any) -> None:
    _write(scene.charlie, tools, "mine-1", 1.0)
    with scene.charlie.client.stream("GET", "/api/v1/live", params={"metric": MARK}) as live:
        lines = live.iter_lines()
        said = _until(lines, "mine-1")
        _write(scene.alice, tools, HIDDEN, 43.0)
        _write(scene.charlie, tools, "mine-2", 2.0)
        said += _until(lines, "mine-2")
    assert HIDDEN not in said
    with scene.charlie.client.stream("GET", "/api/v1/logs/tail", params={"service": MARK}) as tail:
        lines = tail.iter_lines()
        assert tail.status_code == 200
        scene.alice.ok("POST", "/api/v1/logs", json={"message": HIDDEN, "service": MARK})
        scene.charlie.ok("POST", "/api/v1/logs", json={"message": "mine-3", "service": MARK})
        said = _until(lines, "mine-3")
    assert HIDDEN not in said


def test_web_sockets_are_of_ones_own_tenant(scene: Scene, tools: Any) -> None:
    _write(scene.charlie, tools, "mine-4", 4.0)
    url = scene.server.url.replace("http://", "ws://")

    def headers(person: Person) -> Mapping[str, str]:
        return {"Authorization": person.client.headers["Authorization"]}

    for path in ("/ws/metrics", "/api/v1/monitoring/ws/metrics"):
        with connect(f"{url}{path}?metric={MARK}", additional_headers=headers(scene.charlie)) as socket:
            assert HIDDEN not in _until(iter(lambda s=socket: str(s.recv(timeout=patient.SECONDS)), ""), "mine-4")
        with connect(f"{url}{path}?metric={MARK}", additional_headers=headers(scene.bob)) as socket:
            assert "mine-4" not in _until(iter(lambda s=socket: str(s.recv(timeout=patient.SECONDS)), ""), HIDDEN)
