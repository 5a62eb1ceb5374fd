"""Mail against a small SMTP server on a real socket: STARTTLS, TLS from the start, authentication, what the server refuses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from email import message_from_string
from email.message import EmailMessage
from email.policy import default as policy
from pathlib import Path
from typing import Any

import pytest
import yaml

from vedette.errors import BadInput, Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.addresses import split_smarthost
from vedette.notify.channels.table import channels_of
from vedette.notify.config import parse
from vedette.notify.notice import Notice, Receipt
from vedette.notify.template import Templates

NOW = 1_700_000_000_000
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl (Debian package openssl)")


@dataclass
class Mail:
    """One message as it came in."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    secured: bool
    user: str


@dataclass
class Smarthost:
    """An SMTP server. `refuse` maps a command to the answer it gives instead of its own."""

    port: int = 0
    tls: ssl.SSLContext | None = None
    mails: list[Mail] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    auth: str = "PLAIN LOGIN"
    implicit: bool = False

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.converse(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secured, user, sender, recipients = self.implicit, "", "", []

        def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())

        async def line() -> str:
            return (await reader.readuntil(b"\n")).decode().rstrip("\r\n")

        say("220 test ESMTP")
        while True:
            command = await line()
            verb = command.split(" ")[0].upper()
            if verb in self.refuse:
                if not self.refuse[verb]:
                    await reader.read()  # never answers
                    return
                say(self.refuse[verb])
            elif verb == "EHLO":
                offers = ["8BITMIME", *(["STARTTLS"] if self.tls and not secured else []), *([f"AUTH {self.auth}"] if self.auth else [])]
                writer.write(b"".join(f"250{'-' if i < len(offers) else ' '}{o}\r\n".encode() for i, o in enumerate(["test", *offers])))
            elif verb == "STARTTLS":
                say("220 go on")
                await writer.drain()
                await writer.start_tls(self.tls)  # type: ignore[arg-type]
                secured = True
            elif command.upper().startswith("AUTH PLAIN"):
                _, name, password = base64.b64decode(command.split(" ")[2]).decode().split("\0")
                user = name if password == "pass word" else ""
                say("235 welcome" if user else "535 5.7.8 who?")
            elif command.upper().startswith("AUTH CRAM-MD5"):
                challenge = b"<1896@test>"
                say("334 " + base64.b64encode(challenge).decode())
                name, digest = base64.b64decode(await line()).decode().split(" ")
                user = name if digest == hmac.new(b"shared", challenge, hashlib.md5).hexdigest() else ""
                say("235 welcome" if user else "535 5.7.8 who?")
            elif verb == "MAIL":
                sender = command.split("<")[1].split(">")[0]
                say("250 ok")
            elif verb == "RCPT":
                recipients.append(command.split("<")[1].split(">")[0])
                say("250 ok")
            elif verb == "DATA":
                say("354 send it")
                lines = []
                while (text := await line()) != ".":
                    lines.append(text[1:] if text.startswith(".") else text)
                parsed = message_from_string("\n".join(lines), policy=policy)  # type: ignore[arg-type]
                self.mails.append(Mail(sender, recipients, parsed, secured, user))
                say("250 queued as 7")
            else:
                say("502 what?")
            await writer.drain()


@pytest.fixture
async def smarthost(request: pytest.FixtureRequest) -> AsyncIterator[Smarthost]:
    made = Smarthost()
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def secured(smarthost: Smarthost, certificate: tuple[Path, Path]) -> Smarthost:
    """The server with STARTTLS."""
    smarthost.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    smarthost.tls.load_cert_chain(*certificate)
    return smarthost


def notice(summary: str = "a is down", **labels: str) -> Notice:
    alert = Alert(Labels.of(alertname="Down", **labels), NOW - 5000, NOW + 1000, Labels.of(summary=summary), "http://g/")
    return Notice("team", '{}:{alertname="Down"}', Labels.of(alertname="Down"), [alert], NOW, "http://vedette:8009", "attempt1")


async def send(smarthost: Smarthost, told: Notice | None = None, *, seconds: float = 60, **settings: Any) -> Receipt:
    email = {"to": "Team <team@example.org>, boss@example.org", "smarthost": f"127.0.0.1:{smarthost.port}", **settings}
    text = {"global": {"smtp_from": "Vedette <vedette@example.org>"}, "route": {"receiver": "team"}}
    config = parse(yaml.safe_dump({**text, "receivers": [{"name": "team", "email_configs": [email]}]}))
    (made,) = channels_of(config.receivers[0], config.global_, lambda _c: pytest.fail("mail needs no HTTP"), Templates.load())
    left: list[int] = []

    async def leaving() -> None:
        left.append(len(smarthost.mails))

    try:
        receipt = await made.deliver(told or notice(), seconds=seconds, leaving=leaving)
    finally:
        await made.close()
    assert left == [0], "noted before the message went"
    return receipt


async def test_a_mail_in_text_and_html(smarthost: Smarthost) -> None:
    receipt = await send(smarthost, notice("<b> & ü " + "long " * 300), require_tls=False)
    assert receipt.detail == "250 queued as 7"
    (mail,) = smarthost.mails
    assert (mail.sender, mail.recipients) == ("vedette@example.org", ["team@example.org", "boss@example.org"])
    message = mail.message
    assert (message["Subject"], message["From"]) == ("[FIRING:1] Down", "Vedette <vedette@example.org>")
    assert message["To"] == "Team <team@example.org>, boss@example.org"
    assert message["Message-ID"] == "<attempt1@example.org>"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert "summary = <b> & ü long" in text.get_content()
    assert "&lt;b&gt; &amp; ü long" in html.get_content()
    assert html.get_content_type() == "text/html"


async def test_headers_are_templates_and_cannot_be_smuggled_in(smarthost: Smarthost) -> None:
    headers = {"subject": "{{ .CommonLabels.x }}", "X-Team": "ops"}
    await send(smarthost, notice(x="one\r\nBcc: spy@example.org"), require_tls=False, headers=headers, html="")
    message = smarthost.mails[0].message
    assert message["Subject"] == "one Bcc: spy@example.org"
    assert message["X-Team"] == "ops"
    assert message["Bcc"] is None
    assert message.get_content_type() == "text/plain"


async def test_the_mails_of_a_group_are_one_conversation_or_one_each_day(smarthost: Smarthost) -> None:
    first, day = notice(), 86_400_000
    again, tomorrow = replace(first, attempt="attempt2", now=NOW + 60_000), replace(first, attempt="attempt3", now=NOW + day)
    other = replace(first, group_key='{}:{alertname="Up"}')
    mails = []
    for by_date in ("daily", "none"):
        for one in (first, again, tomorrow, other):
            await send(smarthost, one, require_tls=False, threading={"enabled": True, "thread_by_date": by_date})
            mails.append(smarthost.mails.pop())
    told = [str(m.message["References"]) for m in mails]
    assert told == [str(m.message["In-Reply-To"]) for m in mails]
    assert len({m.message["Message-ID"] for m in mails[:3]}) == 3
    daily, always = told[:4], told[4:]
    assert daily[0] == daily[1] != daily[2] and daily[3] not in daily[:3]
    assert always[0] == always[1] == always[2] != always[3]
    await send(smarthost, require_tls=False, threading={"enabled": False})
    assert smarthost.mails[-1].message["References"] is None


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"threading": {"enabled": True}}, "threading.thread_by_date must be either 'none' or 'daily'"),
        ({"threading": {"enabled": True, "thread_by_date": "weekly"}}, "threading.thread_by_date must be either 'none' or 'daily'"),
        ({"threading": {"enabled": True, "thread_by_date": "none"}, "headers": {"references": "x"}}, "'References' cannot be set"),
    ],
)
async def test_threading_that_makes_no_sense_is_refused(smarthost: Smarthost, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        await send(smarthost, **settings)


@needs_openssl
async def test_starttls_with_a_password_from_a_file(secured: Smarthost, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass word\n")
    await send(secured, auth_username="me", auth_password_file=str(tmp_path / "password"), tls_config={"ca_file": str(certificate[0])})
    assert (secured.mails[0].secured, secured.mails[0].user) == (True, "me")


@needs_openssl
async def test_tls_from_the_start(certificate: tuple[Path, Path]) -> None:
    made = Smarthost(implicit=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    await send(made, force_implicit_tls=True, tls_config={"ca_file": str(certificate[0])})
    server.close()
    assert made.mails[0].secured


@needs_openssl
async def test_a_certificate_that_nobody_vouches_for_is_refused(secured: Smarthost) -> None:
    with pytest.raises(Undeliverable) as failed:
        await send(secured)
    assert (failed.value.reason, failed.value.retryable, secured.mails) == ("tls", False, [])


async def test_a_shared_secret_answers_a_challenge(smarthost: Smarthost) -> None:
    smarthost.auth = "CRAM-MD5"
    await send(smarthost, require_tls=False, auth_username="me", auth_secret="shared")
    assert smarthost.mails[0].user == "me"


FAILURES: list[tuple[dict[str, str], dict[str, Any], str, bool, str]] = [
    # what the server answers, settings, reason, whether to try again, what is said
    ({}, {}, "tls", False, "offers no STARTTLS"),
    ({}, {"require_tls": False, "auth_username": "me", "auth_password": "wrong"}, "credentials", False, "535 5.7.8 who?"),
    ({"MAIL": "451 later"}, {"require_tls": False}, "status", True, "451 later"),
    ({"RCPT": "550 no such user"}, {"require_tls": False}, "status", False, "550 no such user"),
    ({"DATA": "452 full"}, {"require_tls": False}, "status", True, "452 full"),
    ({"EHLO": ""}, {"require_tls": False}, "timeout", True, "no answer"),
]


@pytest.mark.parametrize(("refuse", "settings", "reason", "retryable", "text"), FAILURES)
async def test_failures(
    refuse: dict[str, str], settings: dict[str, Any], reason: str, retryable: bool, text: str, smarthost: Smarthost
) -> None:
    smarthost.refuse = refuse
    with pytest.raises(Undeliverable, match=text.replace("?", r"\?")) as failed:
        await send(smarthost, seconds=0.3 if reason == "timeout" else 5, **settings)
    assert (failed.value.reason, failed.value.retryable) == (reason, retryable)
    assert smarthost.mails == []


async def test_nobody_listens(free_port: Callable[[], int]) -> None:
    with pytest.raises(Undeliverable) as failed:
        await send(Smarthost(port=free_port()), require_tls=False)
    assert (failed.value.reason, failed.value.retryable) == ("refused", True)


def test_smarthosts() -> None:
    assert split_smarthost("mail.example.org") == ("mail.example.org", 25)
    assert split_smarthost("[::1]:587") == ("::1", 587)
    with pytest.raises(BadInput):
        split_smarthost("mail:smtp")
