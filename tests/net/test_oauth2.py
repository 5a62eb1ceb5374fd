"""OAuth 2.0 on loopback: tokens are fetched once, kept as long as they live, and renewed; every refusal is said."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest

from vedette import configfile
from vedette.errors import Undeliverable
from vedette.net.answers import Answer
from vedette.net.client import HttpClient
from vedette.net.config import HttpConfig, OAuth2
from vedette.net.oauth2 import Tokens

URL = "http://issuer/token"


def answer(status: int = 200, **body: Any) -> Answer:
    return Answer(status, {}, json.dumps(body).encode(), URL)  # type: ignore[arg-type]  # headers are not looked at


class Issuer:
    """A server of tokens: `says` makes the answer to each request."""

    def __init__(self, says: Callable[[int, dict[str, list[str]], dict[str, str]], Answer], **config: Any) -> None:
        self.asked: list[tuple[dict[str, list[str]], dict[str, str]]] = []
        self.now, self._says = 0.0, says
        given = {"client_id": "me", "client_secret": "s p", "token_url": URL, **config}
        self.tokens = Tokens(OAuth2(**given), self.post, lambda: self.now)

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        assert url == URL
        await asyncio.sleep(0)
        form = parse_qs(body.decode())
        self.asked.append((form, headers))
        return self._says(len(self.asked), form, headers)


async def test_a_token_is_asked_for_by_the_clients_credentials_and_kept_until_it_nearly_expires() -> None:
    issuer = Issuer(
        lambda n, _form, _headers: answer(access_token=f"t{n}", token_type="bearer", expires_in=100),
        scopes=("read", "write"),
        endpoint_params={"audience": "metrics"},
    )
    assert await issuer.tokens.header() == "Bearer t1"
    form, headers = issuer.asked[0]
    assert form == {"grant_type": ["client_credentials"], "scope": ["read write"], "audience": ["metrics"]}
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"me:s+p"
    issuer.now = 89.9
    assert await issuer.tokens.header() == "Bearer t1"
    issuer.now = 90.0
    assert await issuer.tokens.header() == "Bearer t2"


async def test_a_token_without_an_end_is_kept_until_it_is_refused() -> None:
    issuer = Issuer(lambda n, _form, _headers: answer(access_token=f"t{n}", token_type="MAC"))
    assert await issuer.tokens.header() == "MAC t1"
    issuer.now = 1e9
    assert await issuer.tokens.header() == "MAC t1"
    issuer.tokens.refused()
    assert await issuer.tokens.header() == "MAC t2"


async def test_those_who_come_together_share_one_token() -> None:
    issuer = Issuer(lambda n, _form, _headers: answer(access_token=f"t{n}"))
    assert await asyncio.gather(*(issuer.tokens.header() for _ in range(5))) == ["Bearer t1"] * 5
    assert len(issuer.asked) == 1


async def test_a_server_that_wants_the_secret_in_the_form_gets_it_there_and_at_once_the_next_time() -> None:
    issuer = Issuer(
        lambda n, form, _headers: answer(access_token=f"t{n}") if "client_secret" in form else answer(401, error="invalid_client")
    )
    assert await issuer.tokens.header() == "Bearer t2"
    assert "Authorization" in issuer.asked[0][1] and "Authorization" not in issuer.asked[1][1]
    assert issuer.asked[1][0]["client_secret"] == ["s p"]
    issuer.tokens.refused()
    assert await issuer.tokens.header() == "Bearer t3"


@pytest.mark.parametrize(
    ("given", "says", "retryable"),
    [
        (answer(401, error="invalid_client"), "401.*invalid_client", False),
        (answer(503), "503", True),
        (answer(429), "429", True),
        (answer(access="x"), "no access_token", True),
        (Answer(200, {}, b"<html>", URL), "no access_token", True),  # type: ignore[arg-type]  # headers are not looked at
        (Answer(200, {}, b"[1]", URL), "no access_token", True),  # type: ignore[arg-type]  # headers are not looked at
        (answer(access_token="a\r\nX: y"), "no token that a header could hold", True),
        (answer(access_token=7, token_type="x"), "no token that a header could hold", True),
        (answer(access_token="a", expires_in="soon"), "no access_token", True),
    ],
)
async def test_an_answer_without_a_token_is_a_named_failure(given: Answer, says: str, retryable: bool) -> None:
    issuer = Issuer(lambda _n, _form, _headers: given)
    with pytest.raises(Undeliverable, match=says) as caught:
        await issuer.tokens.header()
    assert caught.value.reason == "credentials" and caught.value.retryable is retryable


async def test_the_secret_may_stand_in_a_file_that_is_read_for_each_token(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("one\n")
    issuer = Issuer(lambda n, _form, _headers: answer(access_token=f"t{n}"), client_secret="", client_secret_file=str(tmp_path / "secret"))
    await issuer.tokens.header()
    (tmp_path / "secret").write_text("two\n")
    issuer.tokens.refused()
    await issuer.tokens.header()
    assert [base64.b64decode(h["Authorization"][6:]) for _, h in issuer.asked] == [b"me:one", b"me:two"]


async def test_a_client_carries_the_token_home_and_nowhere_else() -> None:
    seen: list[tuple[str, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        lines = {n.lower(): v for n, v in (line.split(": ", 1) for line in head.split("\r\n")[1:-2])}
        await reader.readexactly(int(lines.get("content-length", "0")))
        seen.append((path, lines.get("authorization", "")))
        body, status, more = b"{}", "200 OK", ""
        if path == "/token":
            body = json.dumps({"access_token": f"t{sum(p == '/token' for p, _ in seen)}", "expires_in": 3600}).encode()
        elif path == "/away":
            status, more = "302 Found", f"Location: http://localhost:{port}/elsewhere\r\n"
        elif path == "/shut":
            status = "401 Unauthorized"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    home = f"http://127.0.0.1:{port}"
    config = configfile.parse(f"{{oauth2: {{client_id: me, client_secret: s, token_url: '{home}/token'}}}}", HttpConfig)
    client = HttpClient(config)
    for path in ("/a", "/b", "/away", "/shut", "/c"):
        await client.get(home + path, timeout=60)
    await client.close()
    server.close()
    basic = "Basic " + base64.b64encode(b"me:s").decode()
    assert seen == [
        ("/token", basic),
        ("/a", "Bearer t1"),
        ("/b", "Bearer t1"),
        ("/away", "Bearer t1"),
        ("/elsewhere", ""),
        ("/shut", "Bearer t1"),
        ("/token", basic),
        ("/c", "Bearer t2"),
    ]


def test_files_are_found_beside_the_configuration_and_secrets_are_not_printed(tmp_path: Any) -> None:
    text = "{oauth2: {client_id: me, client_secret_file: s, token_url: 'http://x/', tls_config: {ca_file: ca}}}"
    found = configfile.parse(text, HttpConfig).under(tmp_path).oauth2
    assert found is not None
    assert (found.client_secret_file, found.tls_config.ca_file) == (str(tmp_path / "s"), str(tmp_path / "ca"))
    shown = str(
        configfile.shown(configfile.compose("{oauth2: {client_id: me, client_secret: hidden, token_url: 'http://x/'}}"), HttpConfig)
    )
    assert "hidden" not in shown and "me" in shown
