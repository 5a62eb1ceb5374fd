"""What a request is known by: its own id, and the trace it belongs to (W3C Trace Context). Not here: spans (`api.tracing`).

A context variable carries it along with the request's task, to log lines and to requests that this one sends on. Tasks that a request
starts and that outlive it (a scrape loop, after a reload) inherit the variable, so the end of the request is marked in what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, MutableMapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z", re.ASCII)


@dataclass(slots=True)
class Trace:
    """One request's ids, in lower-case hexadecimal; `trace_id` and `span_id` are empty where it belongs to no trace.

    `tenant` is whose it is, empty as long as nobody has asked. `gone` waits until its client has gone, once its body has been read.
    """

    request_id: str
    trace_id: str = ""
    span_id: str = ""
    sampled: bool = False
    over: bool = False
    tenant: str = ""
    gone: Callable[[], Coroutine[Any, Any, None]] | None = None

    @property
    def traceparent(self) -> str:
        """What a request sent on carries; empty without a trace."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}" if self.trace_id and self.span_id else ""


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def parse_traceparent(text: str) -> tuple[str, str, bool] | None:
    """(trace id, the sender's span id, whether it is sampled); None for what is no `traceparent`, which counts as absent."""
    found = _TRACEPARENT.match(text)
    if found is None or (text.startswith("00-") and found[4]):
        return None
    return found[1], found[2], bool(int(found[3], 16) & 1)


def current() -> Trace | None:
    """The request that this task works for, None where there is none or it was answered."""
    trace = _current.get()
    return None if trace is None or trace.over else trace


def enter(trace: Trace) -> Token[Trace | None]:
    """Make `trace` the current one."""
    return _current.set(trace)


def leave(trace: Trace, token: Token[Trace | None]) -> None:
    """The request is answered."""
    trace.over, trace.gone = True, None
    _current.reset(token)


def noted(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the ids of the request that a line is about."""
    trace = current()
    if trace is not None:
        event.setdefault("request_id", trace.request_id)
        if trace.trace_id:
            event.setdefault("trace_id", trace.trace_id)
    return event
