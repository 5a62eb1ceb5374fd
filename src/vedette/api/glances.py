"""Queries that are answered at once (`at_once.py`): those of few samples, at hand for the engine, and those known to take no time.

Not here: all others (`queries.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette.api.answers import enveloped
from vedette.api.params import fields_of, parse_span, parse_time
from vedette.api.turns import Turns
from vedette.clock import Clock, now_ms

if TYPE_CHECKING:
    from vedette.promql.engine import Engine

_OF_RANGE = frozenset(("query", "start", "end", "step"))
_OF_INSTANT = (frozenset(("query", "time")), frozenset(("query",)))


DECLINED = "vedette.declined"
"""Noted in the scope of a request whose query was found to be none that is over at once, so that nobody looks again."""


@dataclass(frozen=True, slots=True)
class Glances:
    """What `Queries` answers, where that needs no thread and nobody waits for their turn."""

    engine: Engine
    turns: Turns
    clock: Clock
    tenant_of: Callable[[Mapping[str, Any]], str]
    busy: Callable[[], bool] = lambda: False
    """Whether even a short query would have to wait for another."""
    warm: Callable[[], bool] = lambda: True
    """Whether the kernels are compiled that a query may call."""
    short: Callable[[str, str, int, int, int], bytes | None] = lambda *_: None
    """Answers queries that the engine cannot at once, and that are known to be over in a moment: `Queries.short`."""

    def instant(self, scope: MutableMapping[str, Any], headers: Mapping[bytes, bytes], body: bytes) -> bytes | None:
        """The body of the answer to `/api/v1/query`, None where `Queries.instant` has to be asked. Raises `BadInput` as it does."""
        fields = fields_of(scope, headers, body)
        if fields is None or fields.keys() not in _OF_INSTANT:
            return None
        when = parse_time(fields["time"]) if fields.get("time") else now_ms(self.clock)
        return self._answer(scope, fields["query"], when, when, 0)

    def range(self, scope: MutableMapping[str, Any], headers: Mapping[bytes, bytes], body: bytes) -> bytes | None:
        """The body of the answer to `/api/v1/query_range`, as `instant`."""
        fields = fields_of(scope, headers, body)
        if fields is None or fields.keys() != _OF_RANGE:
            return None
        start, end, step = parse_time(fields["start"]), parse_time(fields["end"]), parse_span(fields["step"])
        return self._answer(scope, fields["query"], start, end, step) if step > 0 and end >= start else None

    def _answer(self, scope: MutableMapping[str, Any], text: str, start: int, end: int, step: int) -> bytes | None:
        tenant = self.tenant_of(scope)
        if not self.warm() or not self.turns.free(tenant):
            return None
        result = self.engine.quick(tenant, text, start, end, step)
        if result is None and self.engine.known(text):
            scope[DECLINED] = True
            return self.short(tenant, text, start, end, step)
        if result is None and not self.busy():
            # A dashboard whose variable has another value asks what nobody asked before, of as few series.
            result = self.engine.first_glance(tenant, text, start, end, step)
        return None if result is None else enveloped(*result.parts(), warnings=result.warnings, infos=result.infos)
