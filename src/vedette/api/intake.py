"""What all pushes over HTTP share: the body, gathered and unpacked under limits; key spaces; what came of several batches.

Each protocol's room reads its own bytes and answers in its own shape. Not here: remote write, whose path is hotter (`write.py`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request

from vedette.api.endpoint import Run
from vedette.api.logs_in import UNPACK
from vedette.api.params import Form
from vedette.api.problems import TooLarge, Unsupported
from vedette.api.write import SENDERS_FAULT, SERIES_RETRY_S, WriteSettings
from vedette.clock import Clock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.intake import IntakeSettings
from vedette.model.samples import Appended, KeySpace, SampleBatch
from vedette.storage.limits import SERIES_LIMIT

# A body of fewer bytes is unpacked in less time than the way to a thread and back takes.
_AT_ONCE = 512
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
        """The body, unpacked, of at most `most` bytes or as the limits say; it counts as held while it is in use.

        Raises `TooLarge`, `Unsupported`, `BadInput`, `LimitExceeded`.
        """
        limits, held = self.limits, 0
        if most is not None:
            limits = replace(limits, max_body_bytes=min(most, limits.max_body_bytes), max_decoded_bytes=min(most, limits.max_decoded_bytes))
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limits.max_body_bytes:
            raise TooLarge(limits.max_body_bytes)
        parts: list[bytes] = []
        try:
            async for part in request.stream():
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
