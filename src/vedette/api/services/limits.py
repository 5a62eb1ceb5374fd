"""How often one client may ask in a minute: BotServer's table of rate limits.

A client's minute begins with its first request. What is over the limit answers 429 with `Retry-After`; every answer carries
`RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds), as in the IETF's draft of these headers. Counts are
of this process. Not here: who is who beyond the address, limits that several instances share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Handler
from vedette.api.services.shared import answer

WINDOW_S = 60.0
MOST_CLIENTS = 10_000
"""So many are remembered at once; the one that has been known longest gives way to a new one."""


@dataclass(slots=True)
class Limit:
    """`allowed` requests a minute of each client; `monotonic` is the clock's. One event loop's."""

    allowed: int
    monotonic: Callable[[], float]
    clients: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Client to when its minute ends and how many requests of it were counted."""

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


def limited(handler: Handler, limit: Limit) -> Handler:
    """`handler` for those who are within the limit, by their address; an allowance of 0 is no limit."""
    if not limit.allowed:
        return handler

    async def within(request: Request) -> Response:
        left, seconds = limit.take(request.client.host if request.client else "")
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
