"""XScore's monitoring: `GET /api/metrics`, `/api/metrics/system` and `/api/metrics/application`.

Its Prometheus endpoint is the server's `/metrics`, on the port of its own listener (`PROMETHEUS_PORT`). Sizes are bytes,
times seconds, usage per cent. Not here: its alerts (`rules.defaults`), callbacks in the monitored process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint
from vedette.api.services import machine
from vedette.api.services.own import OwnRequests
from vedette.api.services.shared import Backend, answer, shown_time
from vedette.clock import now_ms


@dataclass(frozen=True, slots=True)
class XScore:
    """The operations. `started` in Unix seconds."""

    backend: Backend
    processor: machine.Processor
    requests: OwnRequests
    started: float

    async def everything(self, request: Request) -> Response:
        """System and application."""
        system = await self.backend.run(self._system)
        return answer({"timestamp": self._now(), "system": system, "application": self._application()})

    async def system(self, request: Request) -> Response:
        """The machine."""
        return answer({"timestamp": self._now(), **await self.backend.run(self._system)})

    async def application(self, request: Request) -> Response:
        """Requests by endpoint."""
        return answer({"timestamp": self._now(), **self._application()})

    def _now(self) -> str:
        return shown_time(now_ms(self.backend.clock))

    def _system(self) -> dict[str, Any]:
        memory, disk = machine.memory(), machine.disk(Path("/"))
        return {
            "cpu": {"usage_percent": self.processor.percent(), **machine.processors()},
            "memory": {"total": memory.total, "available": memory.free, "used": memory.used, "usage_percent": memory.percent},
            "disk": {"total": disk.total, "used": disk.used, "free": disk.free, "usage_percent": disk.percent},
        }

    def _application(self) -> dict[str, Any]:
        each = self.requests.by_path()
        total = self.requests.total()
        return {
            "uptime_seconds": int(self.backend.clock.now() - self.started),
            "request_counts": {path: a.requests for path, a in each.items()},
            "response_times": {path: a.average_seconds for path, a in each.items()},
            "error_counts": {path: a.errors for path, a in each.items()},
            "total_requests": total.requests,
            "total_errors": total.errors,
            "error_rate": total.errors / total.requests if total.requests else 0.0,
        }


def endpoints(service: XScore) -> list[Endpoint]:
    """The operations of this dialect."""
    handled, tag = service.backend.handled, "xscore"
    return [
        Endpoint("/api/metrics", handled(service.everything), "System and application metrics", tag=tag),
        Endpoint("/api/metrics/system", handled(service.system), "This machine", tag=tag),
        Endpoint("/api/metrics/application", handled(service.application), "Requests by endpoint", tag=tag),
    ]
