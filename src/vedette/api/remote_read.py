"""`POST /api/v1/read`: Prometheus' remote read, raw samples of the series that matchers select."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vedette.api.endpoint import Endpoint, Run, answering
from vedette.api.ops import refused
from vedette.api.params import body_of
from vedette.api.problems import UNEXPECTED, problem
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.labels import Labels
from vedette.model.series import SeriesSet
from vedette.storage.interface import Storage
from vedette.wire import remote_read

PATH = "/api/v1/read"
_HEADERS = {"Content-Encoding": "snappy"}
_STREAM = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
_PIECE = 1 << 16


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
        return await self.run(self._answer, self.tenant_of(request.scope), body)

    def _answer(self, tenant: str, body: bytes) -> Response:
        """The answer, of the first type that the reader takes and that there is. Runs on a worker thread."""
        external = self.external_labels().as_dict()
        request = remote_read.parse(body)
        found = [self._found(tenant, query, external) for query in request.queries]
        kind = request.accepted[0]
        if kind == remote_read.CHUNKS and any(one.histograms is not None for one in found):
            if remote_read.SAMPLES not in request.accepted:
                raise BadInput("native histograms cannot be sent as XOR chunks", hint="accept SAMPLES, too")
            kind = remote_read.SAMPLES
        if kind == remote_read.SAMPLES:
            return Response(remote_read.render(found, external), media_type="application/x-protobuf", headers=_HEADERS)
        # Made while it is sent, on worker threads: what was selected is in memory once.
        return StreamingResponse(_pieces(remote_read.frames(found, external)), media_type=_STREAM)

    def _found(self, tenant: str, query: remote_read.ReadQuery, external: Mapping[str, str]) -> SeriesSet:
        # A reader that knows this server by its external labels asks for them; the series here do not have them.
        matchers = [m for m in query.matchers if not (m.op == "=" and external.get(m.name) == m.value)]
        return self.storage.select(tenant, matchers, query.start, query.end)


def _pieces(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Frames together, so that each is not a write of its own."""
    held: list[bytes] = []
    size = 0
    for frame in frames:
        held.append(frame)
        size += len(frame)
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def endpoints(reading: RemoteRead) -> list[Endpoint]:
    """The operation of this room."""

    def refuse(error: VedetteError) -> Response:
        found = problem(error)
        return Response(f"{error}\n", found.status, media_type="text/plain") if found.status < 500 else refused(error)

    handler = answering(reading.read, refuse, lambda: Response(UNEXPECTED + "\n", 500, media_type="text/plain"))
    body = {"content": {"application/x-protobuf": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
    return [Endpoint(PATH, handler, "Raw samples (remote read)", ("POST",), tag="query", body=body, media="application/x-protobuf")]
