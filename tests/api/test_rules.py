"""Rules over HTTP: the native API and the ruler's dialect, over the same groups; who may, who did, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from vedette.api import ruler, rules
from vedette.api.endpoint import routes
from vedette.clock import ManualClock
from vedette.errors import NotFound
from vedette.records.database import Records
from vedette.rules.files import parse
from vedette.rules.managed import Defaults, ManagedRules

WEB = {"name": "web", "interval": "30s", "rules": [{"alert": "Down", "expr": "up==0", "for": "5m"}]}
PATH = "/api/v1/rules/managed"


@pytest.fixture
async def client(empty_records: Path, serve: Any) -> AsyncIterator[httpx.AsyncClient]:
    records = await Records.open(empty_records)

    async def changed() -> None:
        pass

    async def admit(_: Any) -> None:
        pass

    made = ManagedRules(records, ManualClock(), changed, admit=admit)

    def rules_of(scope: Any) -> ManagedRules:
        if scope["headers"] and any(name == b"x-scope-orgid" for name, _ in scope["headers"]):
            raise NotFound("this tenant has no rules")
        return made

    yield serve(routes([*rules.endpoints(rules.RuleEditing(rules_of, Defaults)), *ruler.endpoints(ruler.Ruler(rules_of))]))
    await records.close()


async def test_a_group_over_its_life(client: httpx.AsyncClient) -> None:
    made = await client.post(PATH, json=WEB, params={"author": "ann"})
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    body = made.json()
    assert {k: body[k] for k in ("namespace", "name", "version", "author", "file", "group")} == {
        "namespace": "default",
        "name": "web",
        "version": 1,
        "author": "ann",
        "file": "api:default",
        "group": WEB,
    }
    assert body["rules"] == [{"kind": "alerting", "name": "Down", "expr": "up == 0"}]
    assert (await client.get(f"{PATH}/default/web")).json() == body
    assert (await client.get(PATH)).json() == {"groups": [body]}
    assert (await client.get(PATH, params={"namespace": "other"})).json() == {"groups": []}
    changed = await client.put(f"{PATH}/default/web", json={**WEB, "interval": "1m"}, headers={"If-Match": '"1"', "X-Author": "bob"})
    assert (changed.status_code, changed.json()["version"], changed.json()["author"]) == (200, 2, "bob")
    gone = await client.delete(f"{PATH}/default/web", params={"version": 2})
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await client.get(f"{PATH}/default/web")).status_code == 404
    kept = (await client.get(f"{PATH}/default/web/versions")).json()["versions"]
    assert [(v["version"], v["author"], v["deleted"]) for v in kept] == [(3, "anonymous", True), (2, "bob", False), (1, "ann", False)]
    assert kept[2]["group"] == WEB


async def test_changes_to_an_older_version_conflict(client: httpx.AsyncClient) -> None:
    await client.post(PATH, json=WEB)
    for answer in (
        await client.post(PATH, json=WEB | {"limit": 1}),
        await client.put(f"{PATH}/default/web", json=WEB | {"limit": 1}, headers={"If-Match": '"7"'}),
        await client.put(f"{PATH}/default/web", json=WEB | {"limit": 1}, params={"version": 0}),
        await client.delete(f"{PATH}/default/web", headers={"If-Match": "9"}),
    ):
        assert answer.status_code == 409
        assert "has version 1" in answer.json()["detail"]
    assert (await client.put(f"{PATH}/default/web", json=WEB | {"limit": 1}, headers={"If-Match": "*"})).json()["version"] == 2


async def test_who_is_known_is_the_author_whatever_they_say(serve: Any, client: httpx.AsyncClient) -> None:
    class Known:
        kind, name, changes = "token", "alice", True

        def may(self, need: str) -> bool:
            return self.changes

    app = client._transport.app  # type: ignore[attr-defined]  # the application behind the client

    async def admitted(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "vedette.principal": Known()}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(admitted), base_url="http://x") as known:
        told = {**WEB, "notify": {"webhook": "https://hooks.example.com/secret"}}
        made = (await known.post(PATH, json=told, params={"author": "mallory"})).json()
        assert (made["author"], made["group"]) == ("alice", told)
        Known.changes = False
        for path in (f"{PATH}/default/web", f"{PATH}/default/web/versions"):
            assert "hooks.example.com/<secret>" in (await known.get(path)).text


async def test_mistakes(client: httpx.AsyncClient) -> None:
    bad = await client.post(PATH, content=b"name: web\nrules:\n- alert: A\n  expr: 'up =='\n")
    assert bad.status_code == 422
    assert bad.json()["detail"] == [
        {
            "loc": ["body", "rules", 0, "expr"],
            "msg": "line 4, column 9: could not parse expression: 1:6: parse error: unexpected end of input",
            "type": "value_error",
        }
    ]
    other = await client.put(f"{PATH}/default/api", json=WEB)
    assert other.json()["detail"] == [{"loc": ["body", "name"], "msg": "not the name in the path (expected 'api')", "type": "value_error"}]
    assert (await client.put(f"{PATH}/default/web", json=WEB, params={"version": "x"})).status_code == 422
    assert (await client.delete(f"{PATH}/default/web")).status_code == 404
    assert (await client.get(f"{PATH}/default/web/versions")).status_code == 404
    assert (await client.post(PATH, content=b"x" * (rules.MAX_BODY_BYTES + 1))).status_code == 413
    assert (await client.get(PATH, headers={"X-Scope-OrgID": "other"})).status_code == 404


async def test_validate_tells_every_mistake_and_makes_nothing(client: httpx.AsyncClient) -> None:
    path = "/api/v1/rules/validate"
    assert (await client.post(path, json=WEB)).json() == {
        "valid": True,
        "errors": [],
        "rules": [{"group": "web", "kind": "alerting", "name": "Down", "expr": "up == 0"}],
    }
    file = {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "up =="}, {"record": "b", "expr": "x", "for": "5m"}]}]}
    told = (await client.post(path, json=file)).json()
    assert (told["valid"], [e["where"].rpartition(" ")[2] for e in told["errors"]]) == (
        False,
        ["groups[0].rules[0].expr", "groups[0].rules[1].for"],
    )
    assert (await client.post(path, content=b"{")).json()["valid"] is False
    assert (await client.get(PATH)).json() == {"groups": []}


async def test_export_is_a_rule_file(client: httpx.AsyncClient) -> None:
    await client.post(f"{PATH}/team", json=WEB)
    text = await client.get("/api/v1/rules/export")
    assert text.headers["content-type"].startswith("application/yaml")
    assert [g.name for g in parse(text.text, name="rules.yml")] == ["web"]


async def test_the_rulers_dialect(client: httpx.AsyncClient) -> None:
    base = "/config/v1/rules"
    assert yaml.safe_load((await client.get(base)).text) == {}
    put = await client.post(f"{base}/my%20team", content=yaml.safe_dump(WEB), headers={"Content-Type": "application/yaml"})
    assert (put.status_code, put.json()) == (202, {"status": "success", "data": None, "errorType": "", "error": ""})
    assert yaml.safe_load((await client.get(base)).text) == {"my team": [WEB]}
    assert yaml.safe_load((await client.get(f"{base}/my%20team")).text) == {"my team": [WEB]}
    assert yaml.safe_load((await client.get(f"{base}/my%20team/web")).text) == WEB
    bad = await client.post(f"{base}/a", content=b"name: x\nrules: [{alert: a}]\n")
    assert (bad.status_code, bad.text) == (400, "group:2:9: rules[0].expr: field 'expr' must be set in rule\n")
    assert (await client.get(f"{base}/nothing")).status_code == 404
    assert (await client.get(f"{base}/my%20team/nothing")).status_code == 404
    assert (await client.delete(f"{base}/my%20team/web")).status_code == 202
    assert (await client.delete(f"{base}/my%20team/web")).status_code == 404
    assert (await client.delete(f"{base}/my%20team")).status_code == 404
    await client.post(f"{base}/a", content=yaml.safe_dump(WEB))
    assert (await client.delete(f"{base}/a")).status_code == 202
