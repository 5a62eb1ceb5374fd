"""A short way to the operations that are asked most: by their exact path, past the search through all routes.

Not here: what the operations do. Whatever has no short way goes the long one, to the routes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import cast

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from vedette.api.endpoint import Endpoint, Handler


class Direct:
    """An ASGI application: `inner`, save for those of `endpoints` that are shared or unfailing, whose handlers it calls itself.

    Of several endpoints with one path and method the first counts, as among routes. Such a handler answers all of its errors, or
    has none, so that nothing need stand around it.
    """

    def __init__(self, inner: ASGIApp, endpoints: Sequence[Endpoint]) -> None:
        self._inner = inner
        first: dict[tuple[str, str], Endpoint] = {}
        for endpoint in endpoints:
            for method in endpoint.methods:
                first.setdefault((endpoint.path, method), endpoint)
        self._handlers: dict[tuple[str, str], Handler] = {
            at: cast(Handler, e.handler)
            for at, e in first.items()
            if (e.shared or e.unfailing) and "{" not in e.path and inspect.iscoroutinefunction(e.handler)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        handler = self._handlers.get((scope["path"], scope["method"])) if scope["type"] == "http" and not scope.get("root_path") else None
        if handler is None:
            await self._inner(scope, receive, send)
            return
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)
