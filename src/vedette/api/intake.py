"""What all pushes over HTTP share: the body, gathered and unpacked under limits; key spaces; what came of several batches.

Each protocol's room reads its own bytes and answers in its own shape. Not here: remote write, whose path is hotter (`write.py`).
"""

from __future__ import annotations

import zlib
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request

from vedette.api.endpoint import Run
from vedette.api.logs_in import UNPACK
from vedette.api.params import Form, stream_of
from vedette.api.problems import TooLarge, Unsupported
from vedette.api.write import SENDERS_FAULT, SERIES_RETRY_S, WriteSettings
from vedette.clock import Clock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.intake import IntakeSettings
from vedette.model.samples import Appended, KeySpace, SampleBatch
from vedette.storage.limits import SERIES_LIMIT

# A body of fewer bytes is unpacked in less time than the way to a thread and back takes.
_AT_ONCE = 512
_PIECE = 4 << 20
# As much as is unpacked in a millisecond or two.
_STEP = 1 << 20
_MOST_SPACES = 256
_MOST_EXTRA = 32


@dataclass(slots=True)
class Intake:
    """What the rooms are given. `append` returns once a batch is durable; `settings` gives those in force.

    `unread` counts what could not be read, `left_out` what has no sample (strings, say), by protocol.
    """

    append: Callable[[SampleBatch], Awaitable[Appended]]
    run: Run
    clock: Clock
    tenant_of: Callable[[Mapping[str, Any]], str]
    settings: Callable[[], IntakeSettings] = IntakeSettings
    limits: WriteSettings = field(default_factory=WriteSettings)
    unread: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    _spaces: OrderedDict[Hashable, KeySpace] = field(default_factory=OrderedDict)
    _held: int = 0

    @asynccontextmanager
    async def body(self, request: Request, *, most: int | None = None) -> AsyncIterator[bytes]:
        """The body, unpacked, of at most `most` bytes (as the limits say where that is None); it counts as held while it is in use.

        Raises `TooLarge`, `Unsupported`, `BadInput`, `LimitExceeded`.
        """
        limits, held = self.limits, 0
        if most is not None:
            limits = replace(limits, max_body_bytes=most, max_decoded_bytes=most)
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limits.max_body_bytes:
            raise TooLarge(limits.max_body_bytes)
        parts: list[bytes] = []
        try:
            async for part in stream_of(request):
                held += len(part)
                self._hold(len(part))
                if held > limits.max_body_bytes:
                    raise TooLarge(limits.max_body_bytes)
                parts.append(part)
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            coding = request.headers.get("content-encoding", "").strip().lower()
            unpack = UNPACK.get(coding)
            if unpack is None and coding not in ("", "identity"):
                raise Unsupported(f"unsupported content encoding {coding!r}", hint="expected gzip, deflate, zstd or none")
            if unpack is not None:
                at_once, unpacked = len(body) < _AT_ONCE, limits.max_decoded_bytes
                body = unpack(body, unpacked) if at_once else await self.run(unpack, body, unpacked)
                held += len(body)
                self._hold(len(body))
            yield body
        finally:
            self._held -= held

    async def lines(self, request: Request, *, most_line: int) -> AsyncGenerator[bytes, None]:
        """A body of any size, in pieces of whole lines, each held while it is in use.

        Raises as `body`, and `BadInput` for a line over `most_line` bytes. To be closed where it is not read to its end.
        """
        coding = request.headers.get("content-encoding", "").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            async with self.body(request) as body:
                yield body
            return
        parts: list[bytes] = []
        held = 0
        try:
            async for part in _unpacked(stream_of(request), packed=coding not in ("", "identity")):
                parts.append(part)
                held += len(part)
                self._hold(len(part))
                if held < _PIECE:
                    continue
                whole, feed, rest = b"".join(parts).rpartition(b"\n")
                if len(rest) > most_line:
                    raise BadInput(f"a line is longer than {most_line} bytes")
                parts = [rest]
                if feed:
                    yield whole + feed
                    self._held -= held - len(rest)
                    held = len(rest)
            if held:
                yield b"".join(parts)
        finally:
            self._held -= held

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > self.limits.max_held_bytes:
            raise LimitExceeded(f"more than {self.limits.max_held_bytes} bytes of requests are in work", retry_after=1.0)

    def space(self, tenant: str, kind: Hashable, made: Callable[[], KeySpace]) -> KeySpace:
        """The key space of a tenant for keys of a `kind`: its keys are what makes the steady state fast. Long unused ones are closed."""
        spaces = self._spaces
        found = spaces.get((tenant, kind))
        if found is None:
            found = spaces[tenant, kind] = made()
            if len(spaces) > _MOST_SPACES:
                spaces.popitem(last=False)[1].close()
        else:
            spaces.move_to_end((tenant, kind))
        return found


async def _unpacked(parts: AsyncIterator[bytes], *, packed: bool) -> AsyncIterator[bytes]:
    """The parts, or what they are of gzip or zlib, none of more than a piece."""
    unpack = zlib.decompressobj(47) if packed else None
    begun = False
    async for part in parts:
        if unpack is None:
            yield part
            continue
        left, more = part, False
        while left or more:
            if unpack.eof:
                unpack = zlib.decompressobj(47)
            begun = True
            try:
                out = unpack.decompress(left, _STEP)
            except zlib.error:
                raise BadInput("not a gzip body", hint="the Content-Encoding says that it is") from None
            yield out
            left = unpack.unconsumed_tail or unpack.unused_data
            # There may be more of what is read already.
            more = len(out) == _STEP and not unpack.eof
    if unpack is not None and begun and not unpack.eof:
        raise BadInput("the gzip body ends early")


@dataclass(slots=True)
class Stored:
    """What came of the batches of one request."""

    samples: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Samples not stored for what their sender did, by reason."""
    beyond: int = 0
    """Samples not stored since their tenant has as many series as it may."""
    problem: str = ""

    def add(self, appended: Appended) -> None:
        """Count what became of a batch."""
        self.samples += appended.samples
        self.beyond += appended.dropped.get(SERIES_LIMIT, 0)
        self.dropped.update({reason: n for reason, n in appended.dropped.items() if n and reason in SENDERS_FAULT})
        self.problem = self.problem or appended.problem

    @property
    def why_dropped(self) -> str:
        """What was not stored and why, empty where nothing was left out."""
        parts = [f"{n} {reason.replace('_', ' ')}" for reason, n in self.dropped.items()]
        if self.beyond:
            parts.append(f"{self.beyond} beyond as many series as the tenant may have (limits: max_series)")
        told = "samples not stored: " + ", ".join(parts) if parts else ""
        return f"{told}; {self.problem}" if told and self.problem else told or self.problem

    @property
    def lost(self) -> int:
        """How many samples were left out."""
        return self.dropped.total() + self.beyond


RETRY_S = SERIES_RETRY_S
"""When a tenant that has as many series as it may should try again."""


def extra_labels(form: Form) -> tuple[tuple[str, str], ...]:
    """The labels that `extra_label=name=value` adds, as VictoriaMetrics has it. Raises `BadInput`."""
    found: dict[str, str] = {}
    for text in form.texts("extra_label"):
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise BadInput(f'invalid parameter "extra_label": {text!r}', hint="expected name=value")
        found[name] = value
    if len(found) > _MOST_EXTRA:
        raise BadInput(f'invalid parameter "extra_label": more than {_MOST_EXTRA} of them')
    return tuple(sorted(found.items()))
