"""Mail over SMTP: text and HTML, with STARTTLS or TLS from the start, and authentication.

Credentials never travel in the clear, except to this machine itself. Sending runs on a thread, in two parts, so that `leaving`
can be awaited between them: up to the recipients nobody knows anything yet.
"""

from __future__ import annotations

import asyncio
import hashlib
import smtplib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from email.utils import formatdate, getaddresses

from vedette.errors import BadInput, Undeliverable
from vedette.net.config import TlsConfig, read_secret
from vedette.notify.addresses import LOOPBACK, split_smarthost
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice, Receipt
from vedette.notify.picture import HEIGHT, WIDTH
from vedette.notify.receivers import EmailConfig, UnservedEmail
from vedette.notify.template import Templates, Words

TIMEOUT_S = 30.0
_IMPLICIT_TLS_PORT = 465


@dataclass(frozen=True, slots=True)
class Account:
    """How the smarthost is spoken to."""

    host: str
    port: int
    hello: str
    username: str
    password: str
    secret: str
    implicit_tls: bool
    require_tls: bool
    tls: TlsConfig


NO_SERVER = "no mail server is configured: set EMAIL_SERVER, or smtp_smarthost in alertmanager.yml"


class Email:
    """One mail address (or several, by commas) of one receiver."""

    kind = "email"

    def __init__(
        self,
        config: EmailConfig,
        fallback: GlobalConfig,
        templates: Templates,
        picture: Callable[[Notice], Awaitable[bytes | None]] | None = None,
    ) -> None:
        self.send_resolved = config.send_resolved
        self._config, self._global, self._templates = config, fallback, templates
        self._picture = picture

    async def deliver(self, notice: Notice, *, seconds: float, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        """As `notice.Channel` promises."""
        picture = await self._picture(notice) if self._picture is not None and self._config.html else None
        message, sender, recipients = await asyncio.to_thread(lambda: self._message(notice, self._templates.over(notice), picture))
        account = await asyncio.to_thread(self._account)
        limit = min(seconds, TIMEOUT_S)
        session = _Session(account, limit)
        try:
            async with asyncio.timeout(limit):
                await asyncio.to_thread(session.open, sender, recipients)
                await leaving()
                answer = await asyncio.to_thread(session.send, message)
        except TimeoutError:
            raise Undeliverable(f"no answer from {account.host} within {limit:g}s", reason="timeout", retryable=True) from None
        finally:
            session.close()
        return Receipt(answer)

    def _account(self) -> Account:
        """The receiver's own settings over the global ones; files are read now."""
        own, outer = self._config, self._global

        def either(name: str) -> str:
            value = str(getattr(own, name)) or _file(getattr(own, f"{name}_file"))
            return value or str(getattr(outer, f"smtp_{name}")) or _file(getattr(outer, f"smtp_{name}_file"))

        if isinstance(own, UnservedEmail):
            raise Undeliverable(NO_SERVER, reason="address", retryable=False)
        host, port = split_smarthost(own.smarthost or outer.smtp_smarthost)
        forced = own.force_implicit_tls if own.force_implicit_tls is not None else outer.smtp_force_implicit_tls
        return Account(
            host=host,
            port=port,
            hello=own.hello or outer.smtp_hello or "localhost",
            username=either("auth_username"),
            password=either("auth_password"),
            secret=either("auth_secret"),
            implicit_tls=forced if forced is not None else port == _IMPLICIT_TLS_PORT,
            require_tls=outer.smtp_require_tls if own.require_tls is None else own.require_tls,
            tls=own.tls_config or outer.smtp_tls_config or TlsConfig(),
        )

    def _message(self, notice: Notice, words: Words, picture: bytes | None) -> tuple[bytes, str, list[str]]:
        """The message as it goes over the wire, its sender and its recipients."""
        config = self._config
        sender, to = words.text(config.from_ or self._global.smtp_from), words.text(config.to)
        message = EmailMessage(POLICY)
        given = {"Subject": '{{ template "email.default.subject" . }}', "From": sender, "To": to}
        given |= {name.title(): value for name, value in config.headers.items()}
        for name, value in given.items():
            # A line break in an alert's label must not become a header of its own.
            message[name] = " ".join(words.text(value).split())
        message["Date"] = formatdate(notice.now / 1000, usegmt=True)
        host = _address(sender).partition("@")[2] or "localhost"
        # The same for every try of one notification, so that a mail told twice shows once.
        message["Message-ID"] = f"<{notice.attempt}@{host}>"
        if config.threading.enabled:
            # A message that never was: mail programs put all that answer it into one conversation.
            answered = f"<{_conversation(notice, daily=config.threading.thread_by_date == 'daily')}@{host}>"
            message["References"] = message["In-Reply-To"] = answered
        message["Auto-Submitted"] = "auto-generated"
        text, html = words.text(config.text), words.html(config.html)
        message.set_content(text or "(no text)", cte="quoted-printable")
        if html and picture is not None:
            name = f"plot.{notice.attempt}@{host}"
            message.add_alternative(_with_plot(html, name), subtype="html", cte="quoted-printable")
            _, twin = message.iter_parts()
            assert isinstance(twin, EmailMessage)
            # Inline and named by its Content-ID: mail programs show it where it stands, without asking anybody for it.
            twin.add_related(picture, "image", "png", cid=f"<{name}>", filename="plot.png", disposition="inline")
        elif html:
            message.add_alternative(html, subtype="html", cte="quoted-printable")
        recipients = [a for a in (_address(r) for r in to.split(",")) if a]
        if not recipients:
            raise BadInput(f"no address to send a mail to: {to!r}", where="to")
        return message.as_bytes(), _address(sender), recipients

    async def close(self) -> None:
        """Nothing is kept between two mails."""


def _conversation(notice: Notice, *, daily: bool) -> str:
    """What names a group's conversation, all of it or that of the day (UTC)."""
    day = f"{datetime.fromtimestamp(notice.now / 1000, UTC):%Y-%m-%d}" if daily else ""
    return hashlib.sha256(f"{notice.group_key}\0{notice.receiver}\0{day}".encode()).hexdigest()[:32]


def _with_plot(html: str, name: str) -> str:
    """The HTML with the picture of that Content-ID at its end, or where it says `cid:plot` itself."""
    if "cid:plot" in html:
        return html.replace("cid:plot", f"cid:{name}")
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    image = f'<p style="text-align:center"><img src="cid:{name}" alt="The expression of the alert over time" {size}></p>'
    before, end, after = html.rpartition("</body>")
    return before + image + end + after if end else html + image


def _file(path: str) -> str:
    return read_secret(path) if path else ""


def _address(text: str) -> str:
    """The bare address of `Name <address>`."""
    found = getaddresses([text])
    address = found[0][1] if found else ""
    try:
        return Address(addr_spec=address).addr_spec if address else ""
    except (ValueError, IndexError):
        raise BadInput(f"not a mail address: {text!r}") from None


class _Session:
    """One connection to a smarthost. Every method blocks."""

    def __init__(self, account: Account, seconds: float) -> None:
        self._account, self._seconds = account, seconds
        self._smtp: smtplib.SMTP | None = None

    def open(self, sender: str, recipients: list[str]) -> None:
        """Connect, secure, authenticate, name sender and recipients. Raises `Undeliverable`."""
        try:
            self._open(sender, recipients)
        except (OSError, smtplib.SMTPException) as error:
            raise _undeliverable(error, self._account.host) from None

    def _open(self, sender: str, recipients: list[str]) -> None:
        account = self._account
        if account.implicit_tls:
            context = account.tls.context()
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                account.host, account.port, local_hostname=account.hello, timeout=self._seconds, context=context
            )
        else:
            smtp = smtplib.SMTP(account.host, account.port, local_hostname=account.hello, timeout=self._seconds)
        self._smtp = smtp
        smtp.ehlo_or_helo_if_needed()
        secured = account.implicit_tls
        if not secured and account.require_tls:
            if not smtp.has_extn("starttls"):
                raise Undeliverable(f"{account.host} offers no STARTTLS, which require_tls asks for", reason="tls", retryable=False)
            smtp.starttls(context=account.tls.context())
            smtp.ehlo()
            secured = True
        if account.username:
            self._log_in(smtp, secured=secured)
        _expect(smtp.mail(sender))
        for recipient in recipients:
            _expect(smtp.rcpt(recipient))

    def _log_in(self, smtp: smtplib.SMTP, *, secured: bool) -> None:
        account = self._account
        smtp.user, smtp.password = account.username, account.password or account.secret
        offered = smtp.esmtp_features.get("auth", "").upper().split()
        if account.secret and "CRAM-MD5" in offered:
            smtp.auth("CRAM-MD5", smtp.auth_cram_md5)
            return
        if not secured and account.host not in LOOPBACK:
            raise Undeliverable("a password is not sent without TLS", reason="credentials", retryable=False)
        if "PLAIN" in offered:
            smtp.auth("PLAIN", smtp.auth_plain)
        elif "LOGIN" in offered:
            smtp.auth("LOGIN", smtp.auth_login)
        else:
            raise Undeliverable(f"{account.host} offers no way to authenticate that is known here", reason="credentials", retryable=False)

    def send(self, message: bytes) -> str:
        """The message itself; what the server said. Raises `Undeliverable`."""
        assert self._smtp is not None, "open comes first"
        try:
            code, said = self._smtp.data(message)
            _expect((code, said))
            return f"{code} {said.decode('utf-8', 'replace')[:200]}"
        except (OSError, smtplib.SMTPException) as error:
            raise _undeliverable(error, self._account.host) from None

    def close(self) -> None:
        """Hang up, at once: there is nothing left to say."""
        if self._smtp is not None:
            self._smtp.close()


def _expect(answer: tuple[int, bytes]) -> None:
    code, said = answer
    if not 200 <= code < 300:
        raise smtplib.SMTPResponseException(code, said)


def _undeliverable(error: Exception, host: str) -> Undeliverable:
    """What went wrong, by its reason. Codes from 400 to 499 ask to try again, from 500 on not to."""
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
        reason = "credentials" if isinstance(error, smtplib.SMTPAuthenticationError) else "status"
        return Undeliverable(f"{host} answered {error.smtp_code} {said[:200]}", reason=reason, retryable=400 <= error.smtp_code < 500)
    if isinstance(error, ssl.SSLError):
        return Undeliverable(f"TLS with {host} failed: {error}", reason="tls", retryable=False)
    if isinstance(error, TimeoutError):
        return Undeliverable(f"no answer from {host}", reason="timeout", retryable=True)
    if isinstance(error, socket.gaierror):
        return Undeliverable(f"the host name {host} cannot be resolved", reason="dns", retryable=True)
    if isinstance(error, smtplib.SMTPException):
        return Undeliverable(f"{host}: {error}", reason="protocol", retryable=True)
    return Undeliverable(f"{host} cannot be reached: {error}", reason="refused", retryable=True)
