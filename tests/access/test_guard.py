"""The guard before every route: keys, tenants, pages from elsewhere, rebound names."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from vedette.access.guard import Guard, is_loopback, may_listen, tenant_of
from vedette.access.identity import Identities
from vedette.access.settings import AccessSettings
from vedette.clock import ManualClock
from vedette.configfile import compose, parse, shown
from vedette.errors import BadInput, Unreachable

KEY = "s3cret-key"


async def whoami(request: Request) -> PlainTextResponse:
    return PlainTextResponse(tenant_of(request.scope))


async def live(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def guarded(*, insecure: bool = False, **settings: Any) -> Guard:
    paths = ("/", "/-/healthy", "/-/ready", "/health", "/-/reload", "/api/v1/query", "/write", "/influx/query", "/datadog/api/v1/series")
    routes = [Route(p, whoami, methods=["GET", "POST", "DELETE", "OPTIONS"]) for p in paths]
    app = Starlette(routes=[*routes, WebSocketRoute("/ws", live)])
    return Guard(app, Identities(AccessSettings(**settings), ManualClock()), insecure=insecure, reading_posts=frozenset(["/api/v1/query"]))


def client(*, base_url: str = "http://127.0.0.1:8009", **settings: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(guarded(**settings)), base_url=base_url)


async def test_a_database_that_does_not_answer_is_no_guess_of_the_callers() -> None:
    class Gone(Identities):
        async def identify(self, credential: Any, *, address: str) -> Any:
            raise Unreachable("records at PostgreSQL cannot be used: gone", retry_after=5.0)

    app = Starlette(routes=[Route("/health", whoami)])
    guard = Guard(app, Gone(AccessSettings(api_key=KEY), ManualClock()), insecure=False, reading_posts=frozenset())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://127.0.0.1:8009") as asking:
        answer = await asking.get("/api/v1/query", headers={"Authorization": "Bearer vdt_x"})
    assert (answer.status_code, answer.headers["retry-after"]) == (500, "5")
    assert answer.json()["errorType"] == "internal"


async def test_other_settings_in_force_without_a_restart() -> None:
    identities = Identities(AccessSettings(api_key=KEY, hosts=("old.example",), jwt_secret="x" * 32), ManualClock())
    guard = Guard(Starlette(routes=[Route("/api/v1/query", whoami)]), identities, reading_posts=frozenset())
    token = identities.tokens.issue("alice", role="admin", tenant="acme")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://127.0.0.1:8009") as asking:

        async def status(credential: str, host: str = "127.0.0.1") -> int:
            headers = {"Host": host} | ({"Authorization": f"Bearer {credential}"} if credential else {})
            return (await asking.get("/api/v1/query", headers=headers)).status_code

        assert [await status(c) for c in (KEY, token, "other")] == [200, 200, 401]
        identities.apply(AccessSettings(api_key="other", jwt_secret="y" * 32))
        assert [await status(c) for c in (KEY, token, "other")] == [401, 401, 200], "what was remembered is forgotten"
        identities.apply(AccessSettings(hosts=("new.example",)))
        assert [await status("", host) for host in ("old.example", "new.example", "localhost")] == [403, 200, 200]


async def connect(headers: dict[str, str]) -> list[str]:
    """The types of the messages that a WebSocket client of these headers gets."""
    sent: list[str] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    raw = [(n.lower().encode(), v.encode()) for n, v in headers.items()]
    await guarded()({"type": "websocket", "path": "/ws", "headers": raw, "query_string": b""}, receive, send)
    return sent


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()}


class TestKey:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": f"Bearer {KEY}"},
            {"authorization": f"bearer  {KEY}"},
            {"X-API-Key": KEY},
            basic(KEY),
            {"Authorization": f"Token {KEY}"},
            {"Authorization": f"Token anyone:{KEY}"},
            {"DD-API-KEY": KEY},
        ],
    )
    async def test_each_way_of_carrying_it(self, headers: dict[str, str]) -> None:
        assert (await client(api_key=KEY).get("/", headers=headers)).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": KEY},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Bearer {KEY}x"},
            {"X-API-Key": ""},
            {"X-API-Key": "wrong", "Authorization": f"Bearer {KEY}"},
            {"Authorization": "Basic !!!"},
            {"Authorization": "Basic " + base64.b64encode(KEY.encode()).decode()},
            basic("wrong"),
            {"Authorization": "Token wrong"},
            {"Authorization": f"Token {KEY}:wrong"},
            {"DD-API-KEY": "wrong"},
        ],
    )
    async def test_anything_else_is_turned_away_without_a_reason(self, headers: dict[str, str]) -> None:
        answer = await client(api_key=KEY).get("/", headers=headers)
        assert answer.status_code == 401
        assert answer.json() == {"status": "error", "errorType": "unauthorized", "error": "unauthorized"}
        assert "www-authenticate" in answer.headers

    @pytest.mark.parametrize(
        ("url", "status"),
        [
            (f"/write?db=a&u=anyone&p={KEY}", 200), ("/write?u=anyone&p=wrong", 401), ("/write?u=anyone&p=", 401), (f"/write?u={KEY}", 401),
            (f"/influx/query?p={KEY}&q=x", 200), (f"/?p={KEY}&u=anyone", 401), (f"/datadog/api/v1/series?api_key={KEY}", 200),
            ("/datadog/api/v1/series?api_key=wrong", 401), (f"/write?api_key={KEY}", 401),
        ],
    )  # fmt: skip
    async def test_in_the_url_where_a_protocol_that_writes_has_it_there(self, url: str, status: int) -> None:
        assert (await client(api_key=KEY).post(url)).status_code == status

    @pytest.mark.parametrize("path", ["/-/healthy", "/-/ready", "/health"])
    async def test_health_needs_none(self, path: str) -> None:
        assert (await client(api_key=KEY).get(path)).status_code == 200

    async def test_health_is_matched_whole(self) -> None:
        assert (await client(api_key=KEY).get("/health/../")).status_code == 401
        assert (await client(api_key=KEY).get("/health/")).status_code == 401

    async def test_a_preflight_needs_none(self) -> None:
        assert (await client(api_key=KEY).options("/")).status_code == 200

    async def test_any_host_name_will_do_with_a_key(self) -> None:
        c = client(api_key=KEY, base_url="http://monitoring.example.com")
        assert (await c.get("/", headers={"X-API-Key": KEY})).status_code == 200


class TestTenant:
    async def test_without_a_key_the_header_is_not_believed(self) -> None:
        assert (await client().get("/", headers={"X-Scope-OrgID": "alice"})).text == "default"

    async def test_with_a_key_it_is(self) -> None:
        c = client(api_key=KEY)
        assert (await c.get("/", headers={"X-API-Key": KEY, "X-Scope-OrgID": "alice"})).text == "alice"
        assert (await c.get("/", headers={"X-API-Key": KEY})).text == "default"

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x" * 151])
    async def test_not_a_name(self, name: str) -> None:
        assert (await client(api_key=KEY).get("/", headers={"X-API-Key": KEY, "X-Scope-OrgID": name})).status_code == 400

    async def test_a_wrong_key_is_told_nothing_of_its_tenant(self) -> None:
        assert (await client(api_key=KEY).get("/", headers={"X-API-Key": "wrong", "X-Scope-OrgID": "a/b"})).status_code == 401


class TestElsewhere:
    """A page that the user happens to look at must not act on the server beside it."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:3000"},
            {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8009"},
        ],
    )
    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    async def test_may_change_nothing(self, method: str, headers: dict[str, str]) -> None:
        answer = await client().request(method, "/-/reload", headers=headers)
        assert answer.status_code == 403
        assert answer.json()["errorType"] == "forbidden"

    @pytest.mark.parametrize(
        "headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://127.0.0.1:8009"}]
    )
    async def test_our_own_page_and_programs_may(self, headers: dict[str, str]) -> None:
        assert (await client().post("/-/reload", headers=headers)).status_code == 200

    async def test_reading_is_not_the_guards_to_refuse(self) -> None:
        c = client()
        assert (await c.get("/", headers={"Origin": "https://grafana.example"})).status_code == 200
        assert (await c.post("/api/v1/query", headers={"Origin": "https://grafana.example"})).status_code == 200

    async def test_a_key_that_a_browser_remembers_is_no_proof_of_intent(self) -> None:
        c = client(api_key=KEY)
        assert (await c.post("/-/reload", headers={**basic(KEY), "Origin": "https://evil.example"})).status_code == 403
        assert (await c.post("/-/reload", headers={"X-API-Key": KEY, "Origin": "https://app.example"})).status_code == 200

    async def test_websockets_are_guarded_like_changes(self) -> None:
        ours = await connect({"Origin": "http://127.0.0.1:8009", "Host": "127.0.0.1:8009"})
        assert ours == ["websocket.accept", "websocket.send", "websocket.close"]
        assert await connect({"Origin": "https://evil.example", "Host": "127.0.0.1:8009"}) == ["websocket.close"]

    async def test_a_handshake_is_refused_with_its_status_where_the_server_can(self) -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/ws", "headers": [(b"accept", b"text/html")], "query_string": b""}
        scope["extensions"] = {"websocket.http.response": {}}
        await guarded(api_key=KEY)(scope, receive, send)
        assert [m["type"] for m in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
        assert sent[0]["status"] == 401
        assert b"unauthorized" in sent[1]["body"]


class TestHost:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1:8009", "localhost", "LOCALHOST:8009", "x.localhost:1", "[::1]:8009", "127.5.5.5", "192.168.1.4:8009"]
    )
    async def test_our_names(self, host: str) -> None:
        assert (await client().get("/", headers={"Host": host})).status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8009", "localhost.evil.example", "127.0.0.1.evil.example", "", "[evil]"]
    )
    async def test_a_rebound_name(self, host: str) -> None:
        answer = await client().get("/", headers={"Host": host})
        assert answer.status_code == 403
        assert "Host" in answer.json()["error"]

    async def test_a_configured_name(self) -> None:
        assert (await client(hosts=("Monitor.Example",)).get("/", headers={"Host": "monitor.example:8009"})).status_code == 200

    async def test_insecure_answers_to_any(self) -> None:
        assert (await client(insecure=True).get("/", headers={"Host": "vedette"})).status_code == 200


class TestListening:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "a.localhost"])
    def test_loopback_is_free(self, host: str) -> None:
        assert is_loopback(host)
        may_listen(host, authenticated=False, insecure=False)

    @pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "monitor.example", "localhost.example"])
    def test_elsewhere_needs_authentication_or_insistence(self, host: str) -> None:
        with pytest.raises(BadInput, match=r"API_KEY.*--insecure"):
            may_listen(host, authenticated=False, insecure=False)
        may_listen(host, authenticated=True, insecure=False)
        may_listen(host, authenticated=False, insecure=True)


def test_the_key_is_never_printed() -> None:
    assert shown(compose(f"api_key: {KEY}"), AccessSettings) == {"api_key": "<secret>"}


def test_a_bad_origin_expression_is_pointed_at() -> None:
    with pytest.raises(BadInput, match=r"<text>:1:14: cors_origin: bad regular expression"):
        parse('cors_origin: "("', AccessSettings)
    assert parse("hosts: [a, b]", AccessSettings).hosts == ("a", "b")


def test_whose_pages_may_read() -> None:
    assert AccessSettings().reading_origins == ""
    assert AccessSettings(api_key=KEY).reading_origins == ".*"
    assert AccessSettings(api_key=KEY, cors_origin="https://grafana").reading_origins == "https://grafana"
    assert AccessSettings(cors_origin=".*").reading_origins == ".*"


@pytest.mark.parametrize(
    ("server", "settings", "status"),
    [
        (("127.0.0.1", 8009), {}, 200),
        (("::1", 8009), {}, 200),
        (("::ffff:127.0.0.1", 8009), {}, 200),
        (("/run/vedette.sock", None), {}, 200),
        (None, {}, 200),
        (("192.168.1.5", 8009), {}, 403),
        (("2001:db8::1", 8009), {}, 403),
        (("192.168.1.5", 8009), {"insecure": True}, 200),
        (("192.168.1.5", 8009), {"api_key": KEY}, 401),
    ],
)
async def test_without_authentication_only_loopback_is_served_whoever_listens(server: Any, settings: dict[str, Any], status: int) -> None:
    """Uvicorn, say, may have been told to listen on every address."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"192.168.1.5:8009")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b"", "server": server}
    await guarded(**settings)(scope, receive, send)
    assert sent[0]["status"] == status
