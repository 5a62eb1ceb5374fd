"""`POST /api/v1/read`: Prometheus' remote read, raw samples of the series that matchers select."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Run, answering
from vedette.api.ops import refused
from vedette.api.params import body_of
from vedette.api.problems import UNEXPECTED, problem
from vedette.errors import LimitExceeded, VedetteError
from vedette.model.labels import Labels
from vedette.model.series import SeriesSet
from vedette.storage.interface import Storage
from vedette.wire import remote_read

PATH = "/api/v1/read"
_HEADERS = {"Content-Encoding": "snappy"}


@dataclass(frozen=True, slots=True)
class RemoteRead:
    """The operation. Until `ready`, it answers 503: what storage holds while its log is replayed is not yet the truth."""

    storage: Storage
    run: Run
    tenant_of: Callable[[Mapping[str, Any]], str]
    external_labels: Callable[[], Labels]
    ready: Callable[[], bool] = lambda: True

    async def read(self, request: Request) -> Response:
        """The samples of the queries of a request."""
        if not self.ready():
            raise LimitExceeded("the server is starting or stopping", retry_after=1.0)
        body = await body_of(request, remote_read.MAX_BYTES)
        answer = await self.run(self._answer, self.tenant_of(request.scope), body)
        return Response(answer, media_type="application/x-protobuf", headers=_HEADERS)

    def _answer(self, tenant: str, body: bytes) -> bytes:
        """The answer's bytes. Runs on a worker thread."""
        external = self.external_labels().as_dict()
        return remote_read.render([self._found(tenant, query, external) for query in remote_read.parse(body)], external)

    def _found(self, tenant: str, query: remote_read.ReadQuery, external: Mapping[str, str]) -> SeriesSet:
        # A reader that knows this server by its external labels asks for them; the series here do not have them.
        matchers = [m for m in query.matchers if not (m.op == "=" and external.get(m.name) == m.value)]
        return self.storage.select(tenant, matchers, query.start, query.end)


def endpoints(reading: RemoteRead) -> list[Endpoint]:
    """The operation of this room."""

    def refuse(error: VedetteError) -> Response:
        found = problem(error)
        return Response(f"{error}\n", found.status, media_type="text/plain") if found.status < 500 else refused(error)

    handler = answering(reading.read, refuse, lambda: Response(UNEXPECTED + "\n", 500, media_type="text/plain"))
    body = {"content": {"application/x-protobuf": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
    return [Endpoint(PATH, handler, "Raw samples (remote read)", ("POST",), tag="query", body=body, media="application/x-protobuf")]
