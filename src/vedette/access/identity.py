"""Who a request's credential proves: the key of the settings, a managed key, a token, a password or a browser's session.

What was proved is remembered for a short while, by a digest of the credential, so that a client in its steady state costs
microseconds. Not here: what they may do (`permits.py`), what a refusal looks like (`guard.py`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import structlog

from vedette.access.attempts import Attempts
from vedette.access.directory import PREFIX, REFRESH_S, Directory
from vedette.access.principal import ANY_TENANT, Principal
from vedette.access.settings import AccessSettings
from vedette.access.tokens import ISSUER, Tokens
from vedette.clock import Clock
from vedette.errors import VedetteError

COOKIE = "vedette_session"
_NAME_IN_URL = frozenset(("/write", "/query", "/influx/write", "/influx/query"))
_REMEMBERED = 4096
_REMEMBER_S = 5.0
"""How long a proof is remembered: so soon at the latest a revoked key or a removed user is out."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request carries to prove who sent it. `by_browser`: one may have added it by itself, for any page."""

    kind: str
    text: str
    by_browser: bool = True
    name: str = ""


def credential_of(headers: Mapping[bytes, bytes]) -> Credential | None:
    """The credential among a request's headers (lower-case names), None where there is none; the first of those that stand there."""
    given = headers.get(b"x-api-key", headers.get(b"dd-api-key"))
    if given is not None:
        return Credential("bearer", given.decode("latin-1"), by_browser=False)
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return Credential("bearer", value.strip().decode("latin-1"), by_browser=False)
    if scheme.lower() in (b"basic",):
        try:
            name, _, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        except binascii.Error:
            return Credential("basic", "")
        return Credential("basic", password.decode("utf-8", "replace"), name=name.decode("utf-8", "replace"))
    if scheme.lower() == b"token":
        # InfluxDB's clients say so: a key, or a name and a password as one.
        key, colon, secret = value.strip().decode("utf-8", "replace").partition(":")
        return Credential("basic", secret, name=key, by_browser=False) if colon else Credential("bearer", key, by_browser=False)
    cookie = headers.get(b"cookie")
    if cookie is not None:
        for part in cookie.decode("latin-1").split(";"):
            name_text, _, value_text = part.strip().partition("=")
            if name_text == COOKIE and value_text:
                return Credential("session", value_text)
    return None


def credential_in_url(path: str, query: bytes) -> Credential | None:
    """The credential in a URL, where a protocol that writes has it there: InfluxDB 1's `u` and `p`, Datadog's `api_key`."""
    if path.startswith("/datadog/") and b"api_key=" in query:
        key = dict(parse_qsl(query.decode("latin-1"))).get("api_key", "")
        return Credential("bearer", key, by_browser=False)
    if path in _NAME_IN_URL and b"p=" in query:
        asked = dict(parse_qsl(query.decode("latin-1")))
        if "p" in asked:
            return Credential("basic", asked["p"], name=asked.get("u", ""), by_browser=False)
    return None


def _mark(credential: Credential) -> bytes:
    return hashlib.sha256(f"{credential.kind}\0{credential.name}\0{credential.text}".encode()).digest()


class Identities:
    """Knows who somebody is. `open` gives it the directory once the records are open; `close` ends its watching.

    `refused` counts credentials that proved nobody, by kind. One event loop's.
    """

    def __init__(self, settings: AccessSettings, clock: Clock) -> None:
        self.settings = settings
        self.tokens = Tokens(settings, clock)
        self.attempts = Attempts(clock)
        self.directory: Directory | None = None
        self.refused: dict[str, int] = {}
        self._clock = clock
        self._key = hashlib.sha256(settings.api_key.encode()).digest() if settings.api_key else None
        self._known: dict[bytes, tuple[Principal, float]] = {}
        self._proving: dict[bytes, asyncio.Future[tuple[Principal | None, float]]] = {}
        self._watching: asyncio.Task[None] | None = None

    def apply(self, settings: AccessSettings) -> None:
        """Put other settings in force: who is known by what they no longer say is not known any more. Sessions and keys stay."""
        if settings == self.settings:
            return
        self.settings = settings
        self.tokens = Tokens(settings, self._clock)
        self._key = hashlib.sha256(settings.api_key.encode()).digest() if settings.api_key else None
        self.forget()

    async def open(self, directory: Directory) -> None:
        """Use a directory, and look for what other processes change in it."""
        await directory.refresh()
        self.directory = directory
        self._watching = asyncio.create_task(self._watch(directory), name="access directory")

    async def _watch(self, directory: Directory) -> None:
        while True:
            await self._clock.sleep(REFRESH_S)
            try:
                await directory.refresh()
            except VedetteError as error:
                _log.warning("users and keys cannot be read; those known stay", reason=str(error))

    async def close(self) -> None:
        """Stop looking."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    @property
    def required(self) -> bool:
        """Whether everybody is asked who they are."""
        return self.settings.authenticated or (self.directory is not None and self.directory.anyone)

    async def identify(self, credential: Credential | None, *, address: str) -> Principal | None:
        """Whom a credential proves, None for nobody. Raises `LimitExceeded` for an address that guessed too often."""
        if credential is None:
            return None
        if credential.kind == "session":
            return self._counted(self._of_session(credential.text), "session")
        mark = _mark(credential)
        if (remembered := self._remembered(mark)) is not None:
            return remembered
        known = self._known
        found, until = await self._proved(credential, address, mark)
        if found is None:
            self._known.pop(mark, None)
            return self._counted(None, credential.kind)
        # Into what was remembered when it was asked: where all was forgotten meanwhile (a key was revoked), nobody looks there again.
        if len(known) >= _REMEMBERED:
            del known[next(iter(known))]
        known[mark] = (found, min(until, self._clock.now() + _REMEMBER_S))
        return found

    def known(self, credential: Credential) -> Principal | None:
        """Whom a credential proves, where that is known without looking; None says nothing."""
        return None if credential.kind == "session" else self._remembered(_mark(credential))

    def _remembered(self, mark: bytes) -> Principal | None:
        remembered = self._known.get(mark)
        return remembered[0] if remembered is not None and remembered[1] > self._clock.now() else None

    def holder(self, who: Principal) -> str:
        """What a session of theirs is kept under: a user's name, or what only their key gives (names have no colon)."""
        if who.kind == "key" and self._key is not None:
            return f"key::{self._key.hex()[:32]}"
        return f"key:{who.key_id}" if who.key_id else who.name

    def _of_session(self, secret: str) -> Principal | None:
        row = self.directory.session(secret) if self.directory else None
        if row is None or self.directory is None:
            return None
        kind, colon, identity = row.user_name.partition(":")
        if not colon:
            found = self.directory.user(kind, "session")
        elif identity.startswith(":"):
            same = self._key is not None and identity == f":{self._key.hex()[:32]}"
            found = Principal("API_KEY", "admin", ANY_TENANT) if same else None
        else:
            found = self.directory.key_by_id(identity)
        return dataclasses.replace(found, kind="session", csrf=row.csrf) if found else None

    def forget(self) -> None:
        """Remember no proof: after a change of who may do what. Those under way are not remembered either."""
        self._known = {}

    def _counted(self, found: Principal | None, kind: str) -> Principal | None:
        if found is None:
            self.refused[kind] = self.refused.get(kind, 0) + 1
        return found

    async def _proved(self, credential: Credential, address: str, mark: bytes) -> tuple[Principal | None, float]:
        """What `_prove` gives; a page's requests that come together with one password are one attempt, and cost one."""
        if credential.kind != "basic":
            return await self._prove(credential, address)
        proving = self._proving.get(mark)
        if proving is None:
            proving = self._proving[mark] = asyncio.ensure_future(self._prove(credential, address))
            proving.add_done_callback(lambda _: self._proving.pop(mark, None))
        return await asyncio.shield(proving)

    async def _prove(self, credential: Credential, address: str) -> tuple[Principal | None, float]:
        """(whom it proves, until when that may be remembered)."""
        text, ever = credential.text, float("inf")
        if self._key is not None and hmac.compare_digest(hashlib.sha256(text.encode("latin-1", "replace")).digest(), self._key):
            return Principal("API_KEY", "admin", ANY_TENANT, kind="key"), ever
        if text.startswith(PREFIX):
            return (await self.directory.key(text) if self.directory else None), ever
        if credential.kind == "basic" and credential.name and self.directory is not None:
            self.attempts.begin(address, credential.name)
            found = await asyncio.to_thread(self.directory.check_password, credential.name, text)
            if found is None:
                return None, ever
            self.attempts.forgive(address, credential.name)
            return dataclasses.replace(found, kind="password"), ever
        verified = await self.tokens.verify(text) if text.count(".") == 2 else None
        if verified is None:
            return None, ever
        found, expires, issuer = verified
        return self._still(found, issuer), expires

    def _still(self, found: Principal, issuer: str) -> Principal | None:
        """A token's principal as the directory knows them now: one of ours for a user who is gone or disabled is no good."""
        if self.directory is None or issuer != (self.settings.jwt_issuer or ISSUER) or found.name not in self.directory.users:
            return found
        now = self.directory.user(found.name, "token")
        return dataclasses.replace(now, scopes=found.scopes) if now else None
