"""The public keys of a token issuer, from a file or a URL, as RFC 7517 writes them. Not here: what a token says.

Keys are fetched when a token names one that is not known, at most once in `PATIENCE_S`, so that strangers' tokens cannot make
us ask all the time, and again once they are `AGE_S` old, so that one which its issuer withdrew is soon no good; those known stay
good while the issuer cannot be reached.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from vedette.clock import Clock
from vedette.errors import BadInput, VedetteError
from vedette.net.client import HttpClient

if TYPE_CHECKING:
    from jwt import PyJWK

PATIENCE_S = 30.0
AGE_S = 300.0
_TIMEOUT_S = 10.0
_MOST_BYTES = 1 << 20

_log = structlog.get_logger(__name__)


class KeySet:
    """The keys of one issuer. `where` is a URL or a path, written by the operator."""

    def __init__(self, where: str, clock: Clock) -> None:
        self._where, self._clock = where, clock
        self._keys: list[PyJWK] = []
        self._asked = self._had = float("-inf")
        self._turn = asyncio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key of that id (of the only one, where a token names none) for an algorithm."""
        found = self._known(kid, algorithm)
        # One asks whether an old key is still good; whoever comes meanwhile does not wait for the issuer.
        if found is None or (self._clock.monotonic() - self._had >= AGE_S and not self._turn.locked()):
            async with self._turn:
                found = self._known(kid, algorithm)
                old = self._clock.monotonic() - self._had >= AGE_S
                if (found is None or old) and self._clock.monotonic() - self._asked >= PATIENCE_S:
                    self._asked = self._clock.monotonic()
                    await self._refresh()
                    found = self._known(kid, algorithm)
        return found

    def _known(self, kid: str | None, algorithm: str) -> PyJWK | None:
        fitting = [key for key in self._keys if key.algorithm_name == algorithm and (kid is None or key.key_id == kid)]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self) -> None:
        try:
            self._keys = parse(await self._read(), where=self._where)
            self._had = self._clock.monotonic()
        except VedetteError as error:
            _log.warning("the keys of a token issuer cannot be had; those known stay", reason=str(error))

    async def _read(self) -> bytes:
        if not self._where.startswith(("http://", "https://")):
            try:
                return await asyncio.to_thread(Path(self._where).read_bytes)
            except OSError as error:
                raise BadInput(f"cannot be read: {error.strerror}", where=self._where) from None
        client = HttpClient()
        try:
            answer = await client.get(self._where, timeout=_TIMEOUT_S, max_bytes=_MOST_BYTES)
            answer.check()
            return answer.body
        finally:
            await client.close()


def parse(body: bytes, *, where: str) -> list[PyJWK]:
    """The signing keys of a key set; kinds that are not known are left out, and symmetric ones, which are no public keys.

    Raises `BadInput` for what is no key set.
    """
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"not JSON: {error}", where=where) from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise BadInput("not a key set: expected an object with a list `keys`", where=where)
    keys = []
    for entry in document["keys"]:
        if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        try:
            keys.append(PyJWK(entry))
        except (PyJWTError, ValueError, TypeError, KeyError) as error:
            if "cryptography" in str(error):
                raise BadInput("public keys need the package cryptography", where=where, hint="pip install 'vedette[jwks]'") from None
            _log.info("a key of the set is not used", where=where, kid=entry.get("kid"), reason=str(error))
    return keys
