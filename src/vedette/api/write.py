"""Remote write 1.0 and 2.0: `POST /api/v1/write` and `/api/v1/push`.

The hottest path of the server, so a plain ASGI application: the body is gathered under a limit, decoded by a kernel (a
large one on a worker thread) while another request's samples are appended, appended, and acknowledged with 204 once
durable. Not here: the bytes (`wire.remote_write`, `wire.remote_write2`), what is stored (`ingest`, `storage`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Run
from vedette.api.problems import UNEXPECTED, TooLarge, retry_after, write
from vedette.errors import LimitExceeded, VedetteError
from vedette.model.samples import Appended, KeySpace, SampleBatch
from vedette.storage.limits import REASONS, SERIES_LIMIT
from vedette.wire import remote_write, remote_write2

_PROTOCOLS = {"prometheus.WriteRequest": 1, "io.prometheus.write.v2.Request": 2}
"""What the content type may say the body is, and the version that this is."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = structlog.get_logger(__name__)

# A body of this many bytes is decoded within 3 ms (it cannot hold more than 1.4 MB), and the way to a worker thread
# and back costs 0.1 ms of CPU, a quarter of what a small request costs in all.
_AT_ONCE = 64 << 10
# What is decoded in less time than a turn of the loop takes needs no turn of its own. Of others each step has one: whoever asks for
# health meanwhile waits for the rest of a step, 0.4 ms, and not for all of a burst.
_BRIEF = 4 << 10
SENDERS_FAULT = (
    "duplicate",
    "too_old",
    "too_far_ahead",
    "bad_histogram",
    "invalid_labels",
    *(reason for reason in REASONS if reason != SERIES_LIMIT),
)
"""Drops that the sender must hear of, since they are a mistake on its side; a relabelling rule is on ours."""
SERIES_RETRY_S = 60.0
"""A tenant gets room for new series when old ones are gone, which is looked for once a minute."""


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """Limits in bytes: of one compressed body, of one decoded body, and of all bodies held at once."""

    max_body_bytes: int = 32 << 20
    max_decoded_bytes: int = 64 << 20
    max_held_bytes: int = 256 << 20


class _Gone(Exception):
    """The client closed the connection before its body was complete: there is nobody to answer."""


class RemoteWrite:
    """The ASGI application. `append` returns once a batch is durable."""

    def __init__(
        self,
        append: Callable[[SampleBatch], Awaitable[Appended]],
        *,
        run: Run,
        tenant_of: Callable[[Mapping[str, Any]], str],
        settings: WriteSettings,
    ) -> None:
        self._append = append
        self._run = run
        self._tenant_of = tenant_of
        self._settings = settings
        self._versions: dict[tuple[int, str], _Version] = {}
        self._held = 0
        # Until a body was decoded on a thread, the kernel may still have to be compiled: seconds that the loop has not.
        self._warm: set[int] = set()
        # Of bodies that come together one is decoded, then whatever else is ready has its turn, then the next.
        self._decoding = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self._answer(scope, receive)
        except _Gone:
            return
        except VedetteError as error:
            response = write(error)
            # Version 2.0 wants to be told of nothing, too.
            response.headers.update(_written(0, 0, 0))
        except Exception:  # noqa: BLE001 - the edge of a request: the sender must get an answer, and repeats on a 500; counted as one
            _log.exception("remote write failed", path=scope["path"])
            response = Response(f"{UNEXPECTED}\n", 500, media_type="text/plain")
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        version = _asked_for(headers)
        if isinstance(version, str):
            return Response(version + "\n", 415, media_type="text/plain")
        held = 0
        parts: list[bytes] = []
        limit, all_limit = self._settings.max_body_bytes, self._settings.max_held_bytes
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise TooLarge(limit)
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                part, more = message.get("body", b""), message.get("more_body", False)
                held += len(part)
                self._held += len(part)
                if held > limit:
                    raise TooLarge(limit)
                if self._held > all_limit:
                    raise LimitExceeded(f"more than {all_limit} bytes of requests are in work", retry_after=1.0)
                parts.append(part)
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            batch = await self._batch(body, self._version(version, self._tenant_of(scope)))
            batch.partial = True
            return _acknowledged(batch, await self._append(batch))
        finally:
            self._held -= held

    async def _batch(self, body: bytes, version: _Version) -> SampleBatch:
        if version.number in self._warm and len(body) <= _AT_ONCE:
            if len(body) <= _BRIEF:
                return self._parse(body, version)
            async with self._decoding:
                # Before, and not after: what came in together with this has its turn first.
                await asyncio.sleep(0)
                data = remote_write.decompress(body, max_bytes=self._settings.max_decoded_bytes)
                await asyncio.sleep(0)
                return version.decode(data, version.keyspace, max_bytes=self._settings.max_decoded_bytes)
        batch = await self._run(self._parse, body, version)
        self._warm.add(version.number)
        return batch

    def _parse(self, body: bytes, version: _Version) -> SampleBatch:
        data = remote_write.decompress(body, max_bytes=self._settings.max_decoded_bytes)
        return version.decode(data, version.keyspace, max_bytes=self._settings.max_decoded_bytes)

    def _version(self, number: int, tenant: str) -> _Version:
        """One for each tenant, for the server's life: its keys are what makes the steady state fast."""
        found = self._versions.get((number, tenant))
        if found is None:
            if number == 1:
                found = _Version(1, remote_write.decode, remote_write.remote_write_keyspace(tenant))
            else:
                found = _Version(2, remote_write2.decode, remote_write2.remote_write2_keyspace(tenant))
            self._versions[number, tenant] = found
        return found


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of the protocol, for one tenant."""

    number: int
    decode: Callable[..., SampleBatch]
    keyspace: KeySpace


def _asked_for(headers: dict[bytes, bytes]) -> int | str:
    """The version of remote write that a request is, or why it is none. One that says nothing is taken to be 1.0, as Prometheus does."""
    kind = headers.get(b"content-type", b"application/x-protobuf").decode("latin-1")
    media, *parameters = (part.strip() for part in kind.split(";"))
    if media.lower() != "application/x-protobuf":
        return f"unsupported content type {kind!r}: expected application/x-protobuf"
    version = 1
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "proto":
            known = _PROTOCOLS.get(value.strip().strip('"'))
            if known is None:
                return f"unsupported protocol {value!r}: expected proto={' or proto='.join(_PROTOCOLS)}"
            version = known
    encoding = headers.get(b"content-encoding", b"snappy").decode("latin-1")
    if encoding.lower() != "snappy":
        return f"unsupported content encoding {encoding!r}: expected snappy"
    return version


def _written(samples: int, histograms: int, exemplars: int) -> dict[str, str]:
    """The headers that say what was stored."""
    counts = {"Samples": samples, "Histograms": histograms, "Exemplars": exemplars}
    return {f"X-Prometheus-Remote-Write-{what}-Written": str(count) for what, count in counts.items()}


def _acknowledged(batch: SampleBatch, appended: Appended) -> Response:
    """204 with what was written; 400 where samples were refused for their times or labels, as Prometheus answers, the rest being stored."""
    written = _written(appended.samples - appended.histograms, appended.histograms, appended.exemplars)
    problem = appended.problem or batch.problem
    if not appended.dropped and not problem:
        return Response(status_code=204, headers=written)
    beyond = appended.dropped.get(SERIES_LIMIT, 0)
    if beyond:
        text = f"{beyond} samples not stored: their tenant has as many series as it may (limits: max_series); the others are stored\n"
        return Response(text, 429, media_type="text/plain", headers=written | retry_after(SERIES_RETRY_S))
    faults = {reason: n for reason in SENDERS_FAULT if (n := appended.dropped.get(reason, 0))}
    if not faults and not problem:
        return Response(status_code=204, headers=written)
    named = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in faults.items()) or "a series that is not valid has none"
    first = f"; {problem}" if problem else ""
    text = f"samples not stored: {named}; the others of this request are stored{first}\n"
    return Response(text, 400, media_type="text/plain", headers=written)


def endpoints(
    append: Callable[[SampleBatch], Awaitable[Appended]],
    *,
    run: Run,
    tenant_of: Callable[[Mapping[str, Any]], str],
    settings: WriteSettings | None = None,
) -> list[Endpoint]:
    """The operations of this room. `run` should have threads of its own, or long queries hold writes up."""
    receiver = RemoteWrite(append, run=run, tenant_of=tenant_of, settings=settings or WriteSettings())
    body = {"content": {"application/x-protobuf": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
    return [
        Endpoint(path, receiver, "Write samples (remote write 1.0 and 2.0)", ("POST",), tag="write", body=body, media="text/plain")
        for path in ("/api/v1/write", "/api/v1/push")
    ]
