"""How often one client may ask in a minute: BotServer's table of rate limits, by address or by user.

A client's minute begins with its first request. What is over the limit answers 429 with `Retry-After`; every answer carries
`RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds), as in the IETF's draft of these headers. Counts are
of this process, or of all that share a Redis; where that does not answer, of this process again. Not here: who is who.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import structlog
from starlette.requests import Request
from starlette.responses import Response

from vedette.access.principal import principal_of
from vedette.api.endpoint import Handler
from vedette.api.services.shared import answer
from vedette.errors import BadInput

WINDOW_S = 60.0
MOST_CLIENTS = 10_000
"""So many are remembered at once; the one that has been known longest gives way to a new one."""

By = Literal["address", "user"]

REST_S = 1.0
_TIMEOUT_S = 0.25
_log = structlog.get_logger(__name__)


class Shared(Protocol):
    """Counts that several instances share."""

    async def count(self, key: str) -> tuple[int, float] | None:
        """(requests of this key in its minute, this one included; seconds to the minute's end), None where it cannot be had."""
        ...


class RedisCounts:
    """Counts in a Redis or Valkey: one key a client and limit, which ends by itself."""

    def __init__(self, url: str, *, timeout_s: float = _TIMEOUT_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        """A server that does not answer in `timeout_s` is left alone for `REST_S`: no request waits for it meanwhile."""
        self._monotonic = monotonic
        self._rests_until = float("-inf")
        try:
            from redis.asyncio import Redis
        except ImportError:
            raise BadInput(
                "counting together needs the package redis", where="access.redis_url", hint="pip install 'vedette[redis]'"
            ) from None
        try:
            self._redis = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        except ValueError as error:
            raise BadInput(str(error), where="access.redis_url", hint="expected redis://HOST:PORT/0") from None
        self._well = True

    async def count(self, key: str) -> tuple[int, float] | None:
        """As `Shared.count`; a server that does not answer is logged once, until it does again."""
        from redis.exceptions import RedisError

        if self._monotonic() < self._rests_until:
            return None
        name = f"vedette:limit:{key}"
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(name, 0, px=int(WINDOW_S * 1000), nx=True)
                pipe.incr(name)
                pipe.pttl(name)
                _, used, left = await pipe.execute()
        except (RedisError, OSError) as error:
            if self._well:
                _log.warning("rate limits are counted here only: Redis does not answer", reason=str(error))
            self._well, self._rests_until = False, self._monotonic() + REST_S
            return None
        self._well = True
        return int(used), max(0.0, left / 1000)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()


@dataclass(slots=True)
class Limit:
    """`allowed` requests a minute of each client; `monotonic` is the clock's. One event loop's."""

    allowed: int
    monotonic: Callable[[], float]
    clients: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Client to when its minute ends and how many requests of it were counted."""
    by: By = "address"
    name: str = ""
    shared: Shared | None = None

    def take(self, client: str) -> tuple[int, float]:
        """(how many more are allowed, in how many seconds the count begins anew); -1 more for a request that is over the limit."""
        now = self.monotonic()
        ends, used = self.clients.get(client, (0.0, 0))
        if now >= ends:
            self.clients.pop(client, None)
            if len(self.clients) >= MOST_CLIENTS:
                del self.clients[next(iter(self.clients))]
            ends, used = now + WINDOW_S, 0
        used = min(used + 1, self.allowed + 1)
        self.clients[client] = (ends, used)
        return self.allowed - used, ends - now

    async def taken(self, client: str) -> tuple[int, float]:
        """As `take`, counted with all instances where they share a count."""
        counted = await self.shared.count(f"{self.name}:{client}") if self.shared is not None else None
        if counted is None:
            return self.take(client)
        used, seconds = counted
        return max(-1, self.allowed - used), seconds

    def client_of(self, request: Request | Mapping[str, Any]) -> str:
        """Who is counted: a user where the limit is theirs and it is known who asks, an address otherwise."""
        who, client = principal_of(request), request.get("client")
        if self.by == "user" and who.kind != "open":
            return f"user:{who.tenant}:{who.name}"
        return str(client[0]) if client else ""


def limited(handler: Handler, limit: Limit) -> Handler:
    """`handler` for those who are within the limit; an allowance of 0 is no limit."""
    if not limit.allowed:
        return handler

    async def within(request: Request) -> Response:
        left, seconds = await limit.taken(limit.client_of(request))
        reset = str(max(1, math.ceil(seconds)))
        if left < 0:
            response = answer({"detail": f"more than {limit.allowed} requests a minute"}, 429, {"Retry-After": reset})
        else:
            response = await handler(request)
        response.headers["RateLimit-Limit"] = str(limit.allowed)
        response.headers["RateLimit-Remaining"] = str(max(0, left))
        response.headers["RateLimit-Reset"] = reset
        return response

    return within
