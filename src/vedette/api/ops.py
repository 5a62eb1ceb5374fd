"""Running the server: health, readiness, reload, and `/metrics`.

Health answers from the first moment, while the log is still replayed, and touches nothing that could block. Not here:
the checks behind `dependencies`, what a reload does, own metrics.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, answering
from vedette.api.params import rfc3339
from vedette.api.problems import UNEXPECTED
from vedette.clock import Clock
from vedette.errors import BadInput, VedetteError


@dataclass(frozen=True, slots=True)
class Operations:
    """`ready` and `dependencies` must be immediate; `reload` raises `BadInput` for a bad configuration, keeping the old one.

    `started` is in Unix seconds; `service` is the name that `/health` gives.
    """

    ready: Callable[[], bool]
    reload: Callable[[], Awaitable[None]]
    dependencies: Callable[[], Mapping[str, str]]
    clock: Clock
    started: float
    version: str
    commit: str = ""
    service: str = "vedette"
    compiling: Callable[[], tuple[int, int, float] | None] = lambda: None
    """While kernels are compiled, on a new machine: how many steps are done, of how many, and about how many seconds are left."""

    async def healthy(self, request: Request) -> Response:
        """The process answers."""
        return _text(200, _HEALTHY)

    async def is_ready(self, request: Request) -> Response:
        """The storage is replayed and requests are served."""
        if self.ready():
            return _text(200, _READY)
        if compiling := self.compiling():
            done, steps, left = compiling
            text = f"Vedette is starting: kernels are compiled for this machine, {done} of {steps}; about {left:.0f} s until all are."
            return _text(503, text + "\n")
        return _text(503, "Vedette is starting: its log is being replayed.\n")

    async def health(self, request: Request) -> Response:
        """Health with its details; 200 while starting too, for a probe that restarts what is not healthy."""
        return Response(self.details(), media_type="application/json")

    def details(self) -> bytes:
        """What `/health` answers."""
        now = self.clock.now()
        dependencies = dict(self.dependencies())
        well = all(state == "ok" for state in dependencies.values())
        body: dict[str, object] = {
            "status": ("healthy" if well else "degraded") if self.ready() else "starting",
            "service": self.service,
            "version": self.version,
            "commit": self.commit,
            "uptime_seconds": int(now - self.started),
            "timestamp": rfc3339(int(now)),
            "dependencies": dependencies,
        }
        if compiling := self.compiling():
            body["kernels"] = {"compiled": compiling[0], "of": compiling[1], "seconds_left": round(compiling[2], 1)}
        return orjson.dumps(body)

    async def reloaded(self, request: Request) -> Response:
        """Read configuration and rules again."""
        try:
            await self.reload()
        except BadInput as error:
            return _text(500, f"failed to reload config: {error}\n")
        return _text(200, "")


_HEALTHY, _READY = "Vedette is healthy.\n", "Vedette is ready.\n"


def _text(status: int, text: str) -> Response:
    return Response(text, status, media_type="text/plain")


def refused(error: VedetteError) -> Response:
    """An error as a line of text, for these operations."""
    return _text(503, f"{error}\n")


def endpoints(operations: Operations) -> list[Endpoint]:
    """The operations of this room."""
    tag = "operations"
    reload = answering(operations.reloaded, refused, lambda: _text(500, UNEXPECTED + "\n"))
    # Probes wait for nothing else that is ready: their patience is short, and somebody is woken when it ends.
    healthy, ready = _HEALTHY.encode(), _READY.encode()
    return [
        Endpoint("/-/healthy", operations.healthy, "Liveness", tag=tag, media="text/plain", unfailing=True, at_once=lambda *_: healthy),
        Endpoint(
            "/-/ready",
            operations.is_ready,
            "Readiness",
            tag=tag,
            media="text/plain",
            unfailing=True,
            at_once=lambda *_: ready if operations.ready() else None,
        ),
        Endpoint("/health", operations.health, "Health with details", tag=tag, unfailing=True, at_once=lambda *_: operations.details()),
        Endpoint("/-/reload", reload, "Reload configuration and rules", ("POST", "PUT"), tag=tag, media="text/plain"),
    ]
