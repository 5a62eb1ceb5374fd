"""Logins of browsers: a name and a password, or an API key, for a session's cookie. Not here: the page (`web.login`)."""

from __future__ import annotations

import asyncio

from vedette.access.identity import Credential, Identities
from vedette.access.principal import Principal
from vedette.errors import LimitExceeded


async def proven(identities: Identities, name: str, password: str, *, address: str) -> Principal | None:
    """Whom a name and a password prove, or without a name an API key.

    Raises `LimitExceeded` for an address that guessed too often, or while the server is starting.
    """
    directory = identities.directory
    if directory is None:
        raise LimitExceeded("the server is starting", retry_after=1.0)
    identities.attempts.begin(address, name)
    found, judged = None, False
    try:
        if name:
            found = await asyncio.to_thread(directory.check_password, name, password)
        else:
            found = await identities.identify(Credential("bearer", password), address=address)
        judged = True
    finally:
        if found is not None or not judged:
            identities.attempts.forgive(address, name)
    return found


class Sessions:
    """Begins and ends sessions."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    @property
    def lifetime_s(self) -> int:
        """How long a session lasts, in seconds."""
        return self._identities.settings.session_lifetime // 1000

    async def begin(self, name: str, password: str, address: str) -> str | None:
        """The secret of a new session, None where nobody is proven. Raises `LimitExceeded`, as `proven` does."""
        who = await proven(self._identities, name, password, address=address)
        # A token is good for as long as it says; a session made of it would outlive it.
        if who is None or who.kind == "token" or self._identities.directory is None:
            return None
        secret, _ = await self._identities.directory.begin(self._identities.holder(who), self._identities.settings.session_lifetime)
        return secret

    async def end(self, secret: str) -> None:
        """End a session; one that is unknown has ended."""
        if self._identities.directory is not None:
            await self._identities.directory.end(secret)
