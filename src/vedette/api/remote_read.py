"""`POST /api/v1/read`: Prometheus' remote read, raw samples of the series that matchers select."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
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
MOST_SAMPLES = 20_000_000
"""In one answer that is no stream: 350 MB, put together in memory."""
MOST_HELD = 8_000_000
"""Of a stream's samples, how many are read before it begins; each further query is asked when it is sent."""


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
        if request.accepted[0] == remote_read.SAMPLES:
            found = (self._found(tenant, query, external) for query in request.queries)
            return Response(remote_read.render(_limited(found), external), media_type="application/x-protobuf", headers=_HEADERS)
        # What cannot be read is mostly told by the status; the rest is made while it is sent, on worker threads.
        held: list[SeriesSet] = []
        while len(held) < len(request.queries) and sum(one.sample_count for one in held) < MOST_HELD:
            held.append(self._found(tenant, request.queries[len(held)], external))
        rest = (self._found(tenant, query, external) for query in request.queries[len(held) :])
        stream = remote_read.frames(itertools.chain(_let_go(held), rest), external)
        return StreamingResponse(self._each(_pieces(stream)), media_type=_STREAM)

    async def _each(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Each piece made on a worker thread, while the one before is sent."""
        while (piece := await self.run(next, pieces, None)) is not None:
            yield piece

    def _found(self, tenant: str, query: remote_read.ReadQuery, external: Mapping[str, str]) -> SeriesSet:
        # A reader that knows this server by its external labels asks for them; the series here do not have them.
        matchers = [m for m in query.matchers if not (m.op == "=" and external.get(m.name) == m.value)]
        return self.storage.select(tenant, matchers, query.start, query.end)


def _let_go(held: list[SeriesSet]) -> Iterator[SeriesSet]:
    """What was held, each no longer than until the next one is taken."""
    held.reverse()
    while held:
        yield held.pop()


def _limited(found: Iterator[SeriesSet]) -> Iterator[SeriesSet]:
    """What was found. Raises `BadInput` where it is more than an answer may hold, in Prometheus' words."""
    samples = 0
    for one in found:
        samples += one.sample_count
        if samples > MOST_SAMPLES:
            raise BadInput(f"exceeded sample limit ({MOST_SAMPLES})", hint="accept STREAMED_XOR_CHUNKS, or ask for less at once")
        yield one


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
