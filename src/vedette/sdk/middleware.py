"""ASGI middleware that counts and times requests: `app.add_middleware(MetricsMiddleware)`, or `MetricsMiddleware(app)`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from vedette.sdk.monitor import MetricsMonitor

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))


class MetricsMiddleware:
    """Wraps an ASGI application. Requests are told apart by their route's template, where the framework says it, else by `other`.

    `monitor` is the process' `metrics_monitor` if None; `service` becomes the label of that name.
    """

    def __init__(self, app: App, *, service: str = "", monitor: MetricsMonitor | None = None) -> None:
        self._app, self._service, self._monitor = app, service, monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; only HTTP is measured. An exception counts as a 500 and goes on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._ours().record_request(_endpoint(scope), time.perf_counter() - began, method=method, status=status, service=self._service)

    def _ours(self) -> MetricsMonitor:
        if self._monitor is None:
            from vedette.sdk import metrics_monitor

            self._monitor = metrics_monitor
        return self._monitor


def _endpoint(scope: Scope) -> str:
    route = scope.get("route")
    return str(getattr(route, "path", "")) or "other"
