"""`/api/v1/rules/backtest`: a rule over stored history: each firing, and each notification that would have gone out.

Routes, groups, inhibition, time intervals and silences are those in force; nothing is sent or kept. With `Accept:
application/x-ndjson` the answer is lines, of which all but the last tell how far it is. Not here: the steps (`rules/backtest.py`),
the rehearsal of notifications (`notify/rehearsal.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vedette import configfile
from vedette.api.answers import JSON
from vedette.api.endpoint import Endpoint, Param, Run, answering
from vedette.api.params import asked, parse_span, parse_time, query_of, rfc3339, yaml_of
from vedette.api.problems import UNEXPECTED
from vedette.api.rules import MAX_BODY_BYTES, YAML, refused
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.config import Config
from vedette.notify.rehearsal import Muted, Rehearsal, Told, rehearse
from vedette.notify.silence import Silence
from vedette.rules import backtest
from vedette.rules.files import Group, parse, parse_group
from vedette.rules.managed import Defaults

log = structlog.get_logger(__name__)

PATH = "/api/v1/rules/backtest"
NDJSON = "application/x-ndjson"
MAX_ROWS = 10_000
"""So many firings of a rule, and so many notifications, are answered at the most; the rest is counted."""
_DAY = 86_400_000
_PROGRESS_S = 0.2


@dataclass(frozen=True, slots=True)
class Situation:
    """What a backtest is run in: the notifications' configuration and silences, and how alerts leave the server."""

    config: Config | None
    silences: Sequence[Silence]
    external_labels: Labels
    external_url: str
    outgoing: Callable[[Sequence[Alert]], Sequence[Alert]]


class Busy:
    """One backtest at a time: each takes a whole core."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def taken(self) -> Any:
        """Raises `LimitExceeded` while another one runs."""
        if not self._lock.acquire(blocking=False):
            raise LimitExceeded("another backtest is under way", retry_after=5.0)
        try:
            yield
        finally:
            self._lock.release()


@dataclass(frozen=True, slots=True)
class Backtesting:
    """The operation over the history of whoever asks. `queries_of` and `situation_of` take a request's scope."""

    queries_of: Callable[[Mapping[str, Any]], backtest.Queries]
    situation_of: Callable[[Mapping[str, Any]], Situation]
    defaults: Callable[[], Defaults]
    run: Run
    clock: Clock
    busy: Busy

    async def post(self, request: Request) -> Response:
        """Run a rule, a group or a rule file."""
        groups = groups_of(await yaml_of(request, MAX_BODY_BYTES), self.defaults())
        start, end = self._range(request)
        queries, situation = self.queries_of(request), self.situation_of(request)
        if NDJSON not in request.headers.get("accept", ""):
            found = await self.run(self._all, groups, queries, situation, (start, end), lambda *_: None)
            return Response(orjson.dumps(found), media_type=JSON)
        return StreamingResponse(self._lines(groups, queries, situation, (start, end)), media_type=NDJSON)

    def _range(self, request: Request) -> tuple[int, int]:
        given = query_of(request)
        end = asked(given, "end", parse_time, now_ms(self.clock))
        if given.text("start") and given.text("since"):
            raise BadInput("only one of start and since", where="query.since")
        start = asked(given, "start", parse_time, end - asked(given, "since", parse_span, _DAY))
        if start >= end:
            raise BadInput("the start is not before the end", where="query.start")
        return start, end

    def _all(
        self, groups: Sequence[Group], queries: backtest.Queries, situation: Situation, span: tuple[int, int], progress: backtest.Progress
    ) -> dict[str, Any]:
        with self.busy.taken():
            runs = backtest.run(
                groups,
                queries,
                *span,
                external_labels=situation.external_labels,
                external_url=situation.external_url,
                progress=progress,
            )
            far = span[1] + 10 * _DAY
            alerts = [
                Alert(firing.labels, at, firing.ended_at, firing.annotations)
                for run in runs
                for at, firing in backtest.standing(run, far=far)
            ]
            told = rehearse(situation.config, situation.outgoing(alerts), situation.silences, until=span[1])
        return shown(runs, told, span, configured=situation.config is not None)

    async def _lines(
        self, groups: Sequence[Group], queries: backtest.Queries, situation: Situation, span: tuple[int, int]
    ) -> AsyncIterator[bytes]:
        state: dict[str, Any] = {"done": 0, "total": 0, "rule": ""}
        left = threading.Event()

        def progress(done: int, total: int, rule: str) -> None:
            if left.is_set():
                raise LimitExceeded("whoever asked has left")
            state.update(done=done, total=total, rule=rule)

        work = asyncio.ensure_future(self.run(self._all, groups, queries, situation, span, progress))
        try:
            while not work.done():
                await asyncio.wait([work], timeout=_PROGRESS_S)
                yield orjson.dumps({"progress": state}) + b"\n"
            try:
                yield orjson.dumps({"result": work.result()}) + b"\n"
            except VedetteError as error:
                yield orjson.dumps({"error": str(error)}) + b"\n"
            except Exception:
                # The edge of a request whose status is out already: the client is told in its last line.
                log.exception("backtest failed")
                yield orjson.dumps({"error": UNEXPECTED}) + b"\n"
        finally:
            left.set()


def groups_of(text: bytes, defaults: Defaults) -> list[Group]:
    """The groups of a rule file, of one group's document, or of one rule alone. Raises `BadInput`."""
    node = configfile.compose(text, name="body")
    plain = configfile.plain(node) if node is not None else None
    if not isinstance(plain, dict):
        raise BadInput("expected a rule, a group, or a rule file", where="body")
    more: dict[str, Any] = {"interval_ms": defaults.interval_ms, "query_offset_ms": defaults.query_offset_ms, "features": defaults.features}
    if "groups" in plain:
        groups = parse(text, name="body", **more)
    elif "rules" in plain:
        groups = [parse_group(text, name="body", file="api:backtest", **more)]
    else:
        interval = {"interval": plain.pop("interval")} if "interval" in plain else {}
        groups = [parse_group(orjson.dumps({"name": "backtest", **interval, "rules": [plain]}), name="body", file="api:backtest", **more)]
    if not any(rule.kind == "alerting" for group in groups for rule in group.rules):
        raise BadInput("no alerting rule", where="body", hint="recording rules are read as they are stored, not run")
    return groups


def shown(runs: Sequence[backtest.RuleRun], told: Rehearsal, span: tuple[int, int], *, configured: bool) -> dict[str, Any]:
    """The answer. Times are RFC 3339, null for what did not happen."""
    return {
        "start": _time(span[0]),
        "end": _time(span[1]),
        "rules": [_rule(run) for run in runs],
        "configured": configured,
        "notifications": [_told(t) for t in told.told[:MAX_ROWS]],
        "notification_count": len(told.told),
        "muted": [_muted(m) for m in told.muted[:MAX_ROWS]],
        "muted_count": len(told.muted),
    }


def _rule(run: backtest.RuleRun) -> dict[str, Any]:
    fired = [f for f in run.firings if f.fired_at]
    return {
        "group": run.group.name,
        "name": run.rule.name,
        "expr": run.rule.shown,
        **({"analysis": str(run.rule.analysis)} if run.rule.analysis is not None else {}),
        "interval_seconds": run.group.interval_ms / 1000,
        "evaluations": run.evaluations,
        "failures": run.failures,
        "errors": [{"at": _time(at), "error": text} for at, text in run.errors],
        "fired": len(fired),
        "pending_only": len(run.firings) - len(fired),
        "firings": [_firing(f) for f in sorted(fired, key=lambda f: f.fired_at)[:MAX_ROWS]],
    }


def _firing(firing: backtest.Firing) -> dict[str, Any]:
    return {
        "labels": dict(firing.labels),
        "annotations": dict(firing.annotations),
        "value": firing.value,
        "pending_at": _time(firing.pending_at),
        "fired_at": _time(firing.fired_at),
        "resolved_at": _time(firing.ended_at) if firing.ended_at else None,
    }


def _told(told: Told) -> dict[str, Any]:
    return {
        "at": _time(told.at),
        "receiver": told.receiver,
        "channel": told.channel,
        "status": told.status,
        "why": told.why,
        "group_key": told.group_key,
        "group_labels": dict(told.group_labels),
        "alerts": [{"labels": dict(a.labels), "status": a.status(told.at)} for a in told.alerts],
    }


def _muted(muted: Muted) -> dict[str, Any]:
    return {"at": _time(muted.at), "receiver": muted.receiver, "labels": dict(muted.labels), "stage": muted.stage, "reason": muted.reason}


def _time(ms: int) -> str:
    return rfc3339(ms / 1000)


def endpoints(room: Backtesting) -> list[Endpoint]:
    """The operation of this room."""
    handler = answering(room.post, refused, lambda: Response(orjson.dumps({"detail": UNEXPECTED}), 500, media_type=JSON))
    body = {"content": {kind: {"schema": {"type": "object"}} for kind in (YAML, JSON)}, "required": True}
    params = (
        Param("since", "duration", "How far back from the end; 1d if absent."),
        Param("start", "time", "The start, in place of `since`."),
        Param("end", "time", "The end; now if absent."),
    )
    return [Endpoint(PATH, handler, "Run a rule over history", ("POST",), params, tag="rules", body=body)]
