"""`/api/v1/admin/tsdb/…`: deletion, cleaning and snapshots, in Prometheus' shapes and words.

Off unless a setting turns them on, as with Prometheus: what is deleted does not come back. Not here: how (`storage`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import success
from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.params import MAX_TIME, MIN_TIME, boolean_of, form_of, parameter, time_of
from vedette.api.problems import UNEXPECTED, prometheus, prometheus_body
from vedette.errors import BadInput
from vedette.model.matchers import Matcher


class Administered(Protocol):
    """A storage that can delete and be copied while it runs."""

    async def delete(self, tenant: str, sets: Sequence[Sequence[Matcher]], start: int, end: int) -> None:
        """Delete what is stored now of the series that pass any of `sets`, within [start, end] (ms)."""
        ...

    async def compact(self, *, clean: bool = False) -> None:
        """Merge what is due; `clean` frees the room of all that was deleted."""
        ...

    async def snapshot(self, *, skip_head: bool = False, beside: Callable[[Path], None] | None = None) -> str:
        """Take a snapshot; answers its name. `beside` puts what else belongs into it."""
        ...


@dataclass(frozen=True, slots=True)
class Admin:
    """The operations over one storage; `enabled` is asked at each request."""

    storage: Administered
    enabled: Callable[[], bool]
    parse_selector: Callable[[str], Sequence[Matcher]]
    tenant_of: Callable[[Mapping[str, Any]], str]
    beside: Callable[[Path], None] | None = None
    """Puts the state that is not the storage's into a snapshot."""

    async def delete_series(self, request: Request) -> Response:
        """Delete samples; 204 once that is durable."""
        form = await form_of(request)
        texts = form.texts("match[]")
        if not texts:
            raise BadInput("no match[] parameter provided")
        start, end = time_of(form, "start", MIN_TIME), time_of(form, "end", MAX_TIME)
        sets = [parameter("match[]", partial(self.parse_selector, text)) for text in texts]
        await self.storage.delete(self.tenant_of(request), sets, start, end)
        return Response(status_code=204)

    async def clean_tombstones(self, request: Request) -> Response:
        """Free the room of what was deleted; 204 once that is done."""
        await self.storage.compact(clean=True)
        return Response(status_code=204)

    async def snapshot(self, request: Request) -> Response:
        """Take a snapshot under the data directory's `snapshots`, and name it."""
        skip_head = boolean_of(await form_of(request), "skip_head")
        return success({"name": await self.storage.snapshot(skip_head=skip_head, beside=self.beside)})

    def guarded(self, operation: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """`operation`, refused while the setting is off."""

        async def asked(request: Request) -> Response:
            if not self.enabled():
                return prometheus_body(503, "unavailable", "admin APIs disabled")
            return await operation(request)

        return answering(asked, prometheus, lambda: prometheus_body(500, "internal", UNEXPECTED))


def endpoints(admin: Admin) -> list[Endpoint]:
    """The operations of this room."""
    base, methods, tag = "/api/v1/admin/tsdb", ("POST", "PUT"), "admin"
    selectors = (
        Param("match[]", "texts", "Selectors; what any of them selects is deleted.", required=True),
        Param("start", "time", "The start of the range; all times if absent."),
        Param("end", "time", "The end of the range, inclusive; all times if absent."),
    )
    head = (Param("skip_head", "boolean", "Leave out what is not in a block yet."),)
    return [
        Endpoint(f"{base}/delete_series", admin.guarded(admin.delete_series), "Delete samples", methods, selectors, tag=tag),
        Endpoint(f"{base}/clean_tombstones", admin.guarded(admin.clean_tombstones), "Free the room of what was deleted", methods, tag=tag),
        Endpoint(f"{base}/snapshot", admin.guarded(admin.snapshot), "Take a snapshot", methods, head, tag=tag),
    ]
