"""Alice owns, Bob is a team mate, Charlie must see nothing: the guard, the API of access and the login page together."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from vedette.access import directory, passwords
from vedette.access.audit import Audit
from vedette.access.directory import Directory
from vedette.access.guard import Guard, tenant_of
from vedette.access.identity import COOKIE, Identities
from vedette.access.passwords import hash_password
from vedette.access.principal import Principal
from vedette.access.sessions import Sessions
from vedette.access.settings import AccessSettings
from vedette.api import access
from vedette.api.endpoint import routes
from vedette.clock import ManualClock
from vedette.records.database import Records
from vedette.records.rows import UserRow
from vedette.web.routes import pages

ROOT = "the-key-of-the-settings"
PASSWORD = "correct horse"
BASE = "http://monitor.example"


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"{tenant_of(request)} {request.url.path}")


PATHS = (
    "/api/v1/query",
    "/api/v1/write",
    "/api/v1/silences",
    "/-/reload",
    "/api/v1/targets",
    "/api/metrics/system",
    "/es/_bulk",
    "/es/_doc",
    "/",
    "/_license",
    "/_index_template/logs",
    "/_cat/indices",
)


class House:
    """A server with the guard, users and an audit trail, and who asks it."""

    def __init__(self, records: Records, clock: ManualClock, **settings: Any) -> None:
        self.records, self.clock = records, clock
        self.identities = Identities(AccessSettings(**settings), clock)
        self.audit = Audit(clock, retention_ms=86_400_000)
        room = access.Access(self.identities, self.audit, clock)
        echoes = [Route(path, echo, methods=["GET", "POST", "DELETE"]) for path in PATHS]
        shown = pages(Sessions(self.identities)).routes
        app = Starlette(routes=[*routes(access.endpoints(room)), *echoes, *shown])
        self.guard = Guard(app, self.identities, audit=self.audit, reading_posts=frozenset(["/api/v1/query"]), login=True)

    async def open(self) -> None:
        self.audit.open(self.records)
        await self.identities.open(Directory(self.records, self.clock))

    def client(self, credential: str = "", **more: Any) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.guard), base_url=BASE, headers={**headers, **more.pop("headers", {})}, **more
        )

    async def login(self, name: str, password: str = PASSWORD) -> httpx.AsyncClient:
        browser = self.client(headers={"Accept": "text/html", "Sec-Fetch-Site": "same-origin"})
        page = await browser.get("/login")
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert csrf
        answer = await browser.post("/login", data={"username": name, "password": password, "csrf": csrf[1], "next": "/alerts?x=1"})
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"] == "/alerts?x=1"
        return browser


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes are meant to take their time, as `tests/access/test_passwords.py` sees to; here they would be most of it."""
    monkeypatch.setattr(passwords, "_N", 1 << 4)
    monkeypatch.setattr(directory, "NOBODY", passwords.NOBODY.replace(f"${1 << 15}$", f"${1 << 4}$"))


@functools.cache
def hashed() -> str:
    """The password's hash, made once."""
    return hash_password(PASSWORD)


@pytest.fixture
async def house(empty_records: Path) -> AsyncIterator[House]:
    records, clock = await Records.open(empty_records), ManualClock()
    found = House(records, clock, api_key=ROOT, jwt_secret="a-secret-of-more-than-thirty-two-bytes")
    await found.open()
    users = (("alice", "admin", "acme"), ("bob", "viewer", "acme"), ("charlie", "admin", "other"))
    await records.save([UserRow(name, tenant, role, hashed(), False, 0, 0) for name, role, tenant in users])
    assert found.identities.directory is not None
    await found.identities.directory.refresh()
    yield found
    await found.identities.close()
    await records.close()


async def token(house: House, name: str) -> str:
    answer = await house.client().post("/api/v1/auth/token", json={"username": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "bearer"
    assert answer.json()["expires_in"] == 3600
    text: str = answer.json()["access_token"]
    return text


class TestWhoMayDoWhat:
    @pytest.mark.parametrize(
        ("name", "method", "path", "status"),
        [
            ("bob", "GET", "/api/v1/query", 200),
            ("bob", "POST", "/api/v1/query", 200),
            ("bob", "POST", "/api/v1/write", 403),
            ("bob", "POST", "/es/_bulk", 403),
            ("bob", "POST", "/api/v1/silences", 403),
            ("bob", "DELETE", "/api/v1/silences", 403),
            ("bob", "POST", "/-/reload", 403),
            ("bob", "GET", "/api/v1/access/users", 403),
            ("bob", "GET", "/api/v1/audit", 403),
            ("bob", "GET", "/api/metrics/system", 403),
            ("alice", "POST", "/api/v1/write", 200),
            ("alice", "POST", "/api/v1/silences", 200),
            ("alice", "GET", "/api/metrics/system", 200),
            ("alice", "GET", "/api/v1/access/users", 200),
            ("alice", "POST", "/-/reload", 404),
            ("alice", "GET", "/api/v1/targets", 404),
            ("alice", "GET", "/api/v1/access/tenants", 404),
        ],
    )
    async def test_by_role_and_tenant(self, house: House, name: str, method: str, path: str, status: int) -> None:
        client = house.client(await token(house, name))
        assert (await client.request(method, path)).status_code == status

    async def test_a_tenant_is_ones_own(self, house: House) -> None:
        alice = house.client(await token(house, "alice"))
        assert (await alice.get("/api/v1/query")).text.startswith("acme ")
        assert (await alice.get("/api/v1/query", headers={"X-Scope-OrgID": "acme"})).status_code == 200
        refused = await alice.get("/api/v1/query", headers={"X-Scope-OrgID": "other"})
        assert refused.status_code == 403
        assert "other" not in refused.text

    async def test_the_key_of_the_settings_is_everybodys(self, house: House) -> None:
        root = house.client(ROOT)
        assert (await root.get("/api/v1/query")).text.startswith("default ")
        assert (await root.get("/api/v1/query", headers={"X-Scope-OrgID": "other"})).text.startswith("other ")
        assert (await root.post("/-/reload")).status_code == 200
        assert [t["name"] for t in (await root.get("/api/v1/access/tenants")).json()["data"]] == ["acme", "default", "other"]

    async def test_a_key_that_only_writes(self, house: House) -> None:
        alice = house.client(await token(house, "alice"))
        refused = await alice.post("/api/v1/access/keys", json={"name": "push", "expires_in": "soon"})
        assert refused.status_code == 400
        assert 'invalid parameter "expires_in"' in refused.json()["error"]
        made = await alice.post("/api/v1/access/keys", json={"name": "push", "role": "operator", "scopes": ["write"], "expires_in": "1h"})
        assert made.status_code == 201
        assert made.headers["cache-control"] == "no-store"
        secret = made.json()["data"]["key"]
        agent = house.client(secret)
        assert (await agent.post("/api/v1/write")).text.startswith("acme ")
        assert (await agent.post("/es/_doc")).status_code == 200
        for asked_first in ("/", "/_license", "/_index_template/logs"):
            assert [(await agent.request(method, asked_first)).status_code for method in ("GET", "HEAD")] == [200, 200], asked_first
            assert (await house.client().get(asked_first)).status_code == 401, "of nobody"
        assert (await agent.get("/_cat/indices")).status_code == 403, "that tells of data"
        assert (await agent.get("/api/v1/auth/me")).status_code == 403
        assert (await agent.get("/api/v1/query")).status_code == 403
        assert (await agent.post("/api/v1/silences")).status_code == 403
        listed = (await alice.get("/api/v1/access/keys")).json()["data"]
        assert [(k["name"], k["scopes"], k["created_by"]) for k in listed] == [("push", ["write"], "alice")]
        assert secret not in str(listed)
        await alice.delete(f"/api/v1/access/keys/{listed[0]['id']}")
        assert (await agent.post("/api/v1/write")).status_code == 401, "at once"

    async def test_what_is_wrong_with_a_token_is_not_told(self, house: House) -> None:
        good = await token(house, "alice")
        for bad in ("", "x", good[:-3], good + "x", "vdt_x_y"):
            answer = await house.client(bad or "nothing").get("/api/v1/query")
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")

    async def test_a_removed_users_token_is_no_good(self, house: House) -> None:
        alice, bob = house.client(await token(house, "alice")), house.client(await token(house, "bob"))
        assert (await bob.get("/api/v1/query")).status_code == 200
        assert (await alice.patch("/api/v1/access/users/bob", json={"disabled": True})).status_code == 200
        assert (await bob.get("/api/v1/query")).status_code == 401

    async def test_basic_authentication_with_a_users_password(self, house: House) -> None:
        answer = await house.client().get("/api/v1/query", auth=("bob", PASSWORD))
        assert answer.text.startswith("acme ")
        assert (await house.client().get("/api/v1/query", auth=("bob", "wrong horse"))).status_code == 401
        assert (await house.client().get("/api/v1/query", auth=("anyone", ROOT))).text.startswith("default ")


class TestUnknownTenants:
    async def test_whoever_would_see_nothing_is_not_made(self, house: House) -> None:
        root = house.client(headers={"Authorization": f"Bearer {ROOT}"})
        for path, body in (("users", {"name": "x", "password": PASSWORD}), ("keys", {"name": "x"})):
            refused = await root.post(f"/api/v1/access/{path}", json={**body, "tenant": "nosuch"})
            assert (refused.status_code, "there is no tenant nosuch" in refused.text) == (400, True)
        assert (await root.patch("/api/v1/access/users/bob", json={"tenant": "nosuch"})).status_code == 400
        assert (await root.post("/api/v1/access/tenants", json={"name": "nosuch"})).status_code == 201
        assert (await root.post("/api/v1/access/keys", json={"name": "x", "tenant": "nosuch"})).status_code == 201
        assert (await root.post("/api/v1/access/keys", json={"name": "y", "tenant": "*"})).status_code == 201


class TestUsers:
    async def test_an_admin_sees_and_makes_their_own_tenants(self, house: House) -> None:
        alice, charlie = house.client(await token(house, "alice")), house.client(await token(house, "charlie"))
        assert [u["name"] for u in (await alice.get("/api/v1/access/users")).json()["data"]] == ["alice", "bob"]
        assert [u["name"] for u in (await charlie.get("/api/v1/access/users")).json()["data"]] == ["charlie"]
        made = await alice.post("/api/v1/access/users", json={"name": "dora", "password": PASSWORD, "role": "operator"})
        assert made.status_code == 201
        assert made.json()["data"]["tenant"] == "acme"
        assert "scrypt" not in made.text

    async def test_of_another_tenant_there_is_nothing(self, house: House) -> None:
        charlie = house.client(await token(house, "charlie"))
        assert (await charlie.patch("/api/v1/access/users/bob", json={"role": "admin"})).status_code == 404
        assert (await charlie.delete("/api/v1/access/users/bob")).status_code == 404
        mine = await house.client(await token(house, "alice")).post("/api/v1/access/keys", json={"name": "a"})
        assert (await charlie.delete(f"/api/v1/access/keys/{mine.json()['data']['id']}")).status_code == 404
        for body in ({"name": "x", "password": PASSWORD, "tenant": "acme"}, {"name": "x", "password": PASSWORD, "tenant": "*"}):
            assert (await charlie.post("/api/v1/access/users", json=body)).status_code == 400
        assert (await charlie.post("/api/v1/access/keys", json={"name": "x", "tenant": "*"})).status_code == 400
        assert (await charlie.patch("/api/v1/access/users/charlie", json={"tenant": "*"})).status_code == 400

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"name": "bob", "password": PASSWORD}, "taken"),
            ({"name": "x"}, "password"),
            ({"name": "x", "password": "short"}, "10 to 1024"),
            ({"name": "x", "password": PASSWORD, "role": "root"}, "viewer, operator, admin"),
            ({"name": "x y", "password": PASSWORD}, "not a name"),
            ({"name": 7}, "name"),
            ([], "object"),
        ],
        ids=str,
    )
    async def test_refusals_point(self, house: House, body: Any, says: str) -> None:
        answer = await house.client(await token(house, "alice")).post("/api/v1/access/users", json=body)
        assert answer.status_code == 400
        assert says in answer.json()["error"]

    async def test_ones_own_password(self, house: House) -> None:
        bob = house.client(await token(house, "bob"))
        wrong = await bob.post("/api/v1/auth/password", json={"password": "not it at all", "new_password": "a new password"})
        assert (wrong.status_code, "not your password" in wrong.text) == (400, True)
        right = await bob.post("/api/v1/auth/password", json={"password": PASSWORD, "new_password": "a new password"})
        assert right.status_code == 200
        assert (await house.client().post("/api/v1/auth/token", json={"username": "bob", "password": PASSWORD})).status_code == 401
        root = await house.client(ROOT).post("/api/v1/auth/password", json={"password": ROOT, "new_password": "a new password"})
        assert root.status_code == 400

    async def test_who_am_i(self, house: House) -> None:
        me = (await house.client(await token(house, "bob")).get("/api/v1/auth/me")).json()["data"]
        assert (me["name"], me["role"], me["tenant"], me["may"]) == ("bob", "viewer", "acme", ["read"])

    async def test_tenants_are_the_whole_servers(self, house: House) -> None:
        root = house.client(ROOT)
        assert (await root.post("/api/v1/access/tenants", json={"name": "new", "title": "New"})).status_code == 201
        assert (await root.delete("/api/v1/access/tenants/acme")).status_code == 404, "it was never made by name"
        assert (await root.delete("/api/v1/access/tenants/new")).status_code == 200


class TestGuessing:
    async def test_a_password_is_guessed_five_times_a_minute(self, house: House) -> None:
        client = house.client()
        wrong = {"username": "alice", "password": "wrong wrong wrong"}
        answers = [(await client.post("/api/v1/auth/token", json=wrong)).status_code for _ in range(6)]
        assert answers == [401] * 5 + [429]
        limited = await client.post("/api/v1/auth/token", json={"username": "alice", "password": PASSWORD})
        assert limited.status_code == 429, "even the right one, now"
        assert limited.json()["errorType"] == "too_many_attempts"
        assert int(limited.headers["retry-after"]) > 0
        assert (await client.post("/api/v1/auth/token", json={"username": "bob", "password": PASSWORD})).status_code == 200
        await house.clock.advance(60)
        assert (await client.post("/api/v1/auth/token", json={"username": "alice", "password": PASSWORD})).status_code == 200

    async def test_guesses_at_once_are_no_more_than_one_after_the_other(self, house: House) -> None:
        client = house.client()
        asked = (client.post("/api/v1/auth/token", json={"username": "alice", "password": f"wrong {n} wrong"}) for n in range(30))
        assert sorted(a.status_code for a in await asyncio.gather(*asked)) == [401] * 5 + [429] * 25
        asked = (house.client().get("/api/v1/query", auth=("bob", f"wrong {n} wrong")) for n in range(30))
        assert sorted(a.status_code for a in await asyncio.gather(*asked)) == [401] * 5 + [429] * 25

    async def test_a_page_that_asks_much_at_once_is_no_guesser(self, house: House) -> None:
        asked = (house.client().get("/api/v1/query", auth=("alice", PASSWORD)) for _ in range(40))
        assert {a.status_code for a in await asyncio.gather(*asked)} == {200}
        for _ in range(10):
            assert (await house.client().post("/api/v1/auth/token", json={"username": "alice", "password": PASSWORD})).status_code == 200

    async def test_by_basic_authentication_too(self, house: House) -> None:
        answers = [(await house.client().get("/api/v1/query", auth=("alice", f"wrong {n} wrong"))).status_code for n in range(6)]
        assert answers == [401] * 5 + [429]


class TestBrowser:
    async def test_a_page_sends_to_the_login_and_back(self, house: House) -> None:
        browser = house.client(headers={"Accept": "text/html,application/xhtml+xml"})
        sent = await browser.get("/alerts?x=1")
        assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=/alerts%3Fx%3D1")
        page = await browser.get(sent.headers["location"])
        assert page.status_code == 200
        assert 'name="next" value="/alerts?x=1"' in page.text
        assert page.headers["cache-control"] == "no-store"
        assert "script-src" in page.headers["content-security-policy"] or "default-src 'self'" in page.headers["content-security-policy"]

    async def test_a_session_reads_and_changes(self, house: House) -> None:
        alice = await house.login("alice")
        assert (await alice.get("/alerts")).status_code == 200
        assert (await alice.get("/api/v1/query")).text.startswith("acme ")
        assert (await alice.post("/api/v1/silences")).status_code == 200

    async def test_the_cookie_is_out_of_reach(self, house: House) -> None:
        browser = house.client()
        csrf = re.search(r'name="csrf" value="([^"]+)"', (await browser.get("/login")).text)
        assert csrf
        answer = await browser.post("/login", data={"username": "alice", "password": PASSWORD, "csrf": csrf[1]})
        cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith(COOKIE))
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie

    async def test_another_pages_form_changes_nothing(self, house: House) -> None:
        alice = await house.login("alice")
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
        ):
            assert (await alice.post("/api/v1/silences", headers=headers)).status_code == 403
        del alice.headers["Sec-Fetch-Site"]
        assert (await alice.post("/api/v1/silences")).status_code == 403, "an old browser: nothing says where it came from"
        csrf = (await alice.get("/api/v1/auth/me")).json()["data"]["csrf"]
        assert (await alice.post("/api/v1/silences", headers={"X-CSRF-Token": csrf})).status_code == 200

    async def test_nobody_is_logged_in_by_another_page(self, house: House) -> None:
        browser = house.client()
        answer = await browser.post("/login", data={"username": "charlie", "password": PASSWORD, "csrf": "guessed"})
        assert answer.status_code == 403
        assert COOKIE not in browser.cookies

    async def test_logout(self, house: House) -> None:
        alice = await house.login("alice")
        assert alice.cookies.get(COOKIE)
        secret = alice.cookies[COOKIE]
        left = await alice.post("/logout")
        assert (left.status_code, left.headers["location"]) == (303, "/login")
        assert (await house.client(cookies={COOKIE: secret}).get("/api/v1/query")).status_code == 401

    async def test_it_ends_by_itself(self, house: House) -> None:
        alice = await house.login("alice")
        await house.clock.advance(12 * 3600)
        assert (await alice.get("/api/v1/query", headers={"Accept": "*/*"})).status_code == 401

    async def test_a_key_logs_in_without_a_name(self, house: House) -> None:
        root = await house.login("", ROOT)
        assert (await root.get("/api/v1/auth/me")).json()["data"]["role"] == "admin"

    async def test_wrong_is_said_on_the_page_and_safely(self, house: House) -> None:
        browser = house.client()
        csrf = re.search(r'name="csrf" value="([^"]+)"', (await browser.get("/login")).text)
        assert csrf
        answer = await browser.post("/login", data={"username": "<b>x", "password": "wrong wrong", "csrf": csrf[1]})
        assert answer.status_code == 401
        assert "Name or password is wrong." in answer.text
        assert "<b>x" not in answer.text

    @pytest.mark.parametrize(
        "next_", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/login", "/a\nb", ""]
    )
    async def test_it_leads_nowhere_else(self, house: House, next_: str) -> None:
        page = await house.client().get("/login", params={"next": next_})
        assert 'name="next" value="/"' in page.text

    async def test_the_background_is_not_prompted(self, house: House) -> None:
        page = await house.client().get("/api/v1/query", headers={"Sec-Fetch-Mode": "cors"})
        assert page.headers["www-authenticate"].startswith("Bearer")
        assert (await house.client().get("/api/v1/query")).headers["www-authenticate"].startswith("Basic")


class TestTrail:
    async def test_changes_are_noted_and_refusals_and_nothing_else(self, house: House) -> None:
        alice, bob = house.client(await token(house, "alice")), house.client(await token(house, "bob"))
        await alice.get("/api/v1/query")
        await alice.post("/api/v1/write")
        await alice.post("/api/v1/silences")
        await bob.delete("/api/v1/silences")
        await house.client(await token(house, "charlie")).post("/api/v1/silences")
        found = (await alice.get("/api/v1/audit")).json()["data"]["entries"]
        assert [(e["actor"], e["method"], e["path"], e["status"]) for e in found] == [
            ("bob", "DELETE", "/api/v1/silences", 403),
            ("alice", "POST", "/api/v1/silences", 200),
        ]
        assert {e["known_by"] for e in found} == {"token"}
        assert found[0]["address"] == "127.0.0.1"

    async def test_pages(self, house: House) -> None:
        alice = house.client(await token(house, "alice"))
        for _ in range(5):
            await alice.post("/api/v1/silences")
        first = (await alice.get("/api/v1/audit", params={"limit": 3})).json()["data"]
        second = (await alice.get("/api/v1/audit", params={"limit": 3, "before": first["next"]})).json()["data"]
        numbers = [e["seq"] for e in first["entries"] + second["entries"]]
        assert len(set(numbers)) == 5
        assert numbers == sorted(numbers, reverse=True)
        assert second["next"] is None
        assert (await alice.get("/api/v1/audit", params={"actor": "bob"})).json()["data"]["entries"] == []
        for bad in ({"before": "x"}, {"before": "-1"}, {"start": "2", "end": "1"}, {"limit": "-1"}):
            assert (await alice.get("/api/v1/audit", params=bad)).status_code == 400, bad

    async def test_servers_that_share_a_database_write_one_trail(self, house: House) -> None:
        trails = [Audit(house.clock, retention_ms=86_400_000, number=n) for n in (0, 7, 4095)]
        for trail in trails:
            trail.open(house.records)
        alice = Principal("alice", "admin")
        for n in range(20):
            for i, trail in enumerate(trails):
                await trail.note(alice, tenant="shared", method="POST", path=f"/{i}/{n}", status=200, address="")
        found = await trails[0].page("shared", limit=100)
        assert sorted(row.path for row in found) == sorted(f"/{i}/{n}" for i in range(3) for n in range(20))

    async def test_it_goes_on_after_a_restart(self, house: House) -> None:
        await house.client(await token(house, "alice")).post("/api/v1/silences")
        later = House(house.records, house.clock, api_key=ROOT, jwt_secret="a-secret-of-more-than-thirty-two-bytes")
        await later.open()
        alice = later.client(await token(later, "alice"))
        await alice.post("/api/v1/silences")
        after, before = (e["seq"] for e in (await alice.get("/api/v1/audit")).json()["data"]["entries"])
        assert after > before
        await later.identities.close()


async def test_without_anything_configured_the_first_user_closes_the_door(tmp_path: Path) -> None:
    records, clock = await Records.open(tmp_path / "vedette.db"), ManualClock()
    house = House(records, clock)
    await house.open()
    local = httpx.AsyncClient(transport=httpx.ASGITransport(house.guard), base_url="http://127.0.0.1")
    assert (await local.get("/api/v1/query")).text.startswith("default ")
    assert (await local.get("/api/v1/auth/me")).json()["data"]["kind"] == "open"
    # `vedette user add`, in another process:
    await Directory(records, clock).put_user("alice", password=PASSWORD, role="admin")
    await clock.advance(5)
    async with asyncio.timeout(20):
        while (await local.get("/api/v1/query")).status_code != 401:
            await asyncio.sleep(0.01)
    await house.identities.close()
    await records.close()


async def test_before_the_records_are_open_nobody_can_log_in_but_the_key_works(tmp_path: Path) -> None:
    records = await Records.open(tmp_path / "vedette.db")
    house = House(records, ManualClock(), api_key=ROOT)
    assert (await house.client(ROOT).get("/api/v1/query")).status_code == 200
    answer = await house.client().post("/api/v1/auth/token", json={"username": "alice", "password": PASSWORD})
    assert answer.status_code == 503
    await records.close()
