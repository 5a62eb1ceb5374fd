"""InfluxDB's way in: `/write` (1.x) and `/api/v2/write` (2.x), and what clients ask before they write: `/ping`, `/query`.

Answers 204 once every sample is durable. Lines that cannot be read, and samples that are not stored, are told with 400 as a partial
write, in Influx' JSON; the others of the request are stored, so that a sender that repeats after other statuses loses nothing. Not
here: the lines (`wire/influx.py`), reading back: queries are PromQL's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.intake import RETRY_S, Intake, Stored, extra_labels
from vedette.api.params import form_of, query_of
from vedette.api.problems import UNEXPECTED, TooLarge, problem, retry_after
from vedette.clock import now_ms
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.wire.influx import PRECISIONS, Naming, Text, influx_keyspace
from vedette.wire.told import Told

VERSION = "1.8.10"
"""What clients are told that they talk to: the last of the version that line protocol and `/query` are of."""
HEADERS = {"X-Influxdb-Version": VERSION, "X-Influxdb-Build": "Vedette"}
LEFT_OUT = "X-Vedette-Strings-Left-Out"

# A body of fewer bytes is read within half a millisecond.
_AT_ONCE = 64 << 10
_CODES = {400: "invalid", 401: "unauthorized", 404: "not found", 413: "request too large", 415: "invalid", 429: "too many requests"}
_STATEMENT = re.compile(r"(?:[^;\"']|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')+", re.DOTALL)
_ACCEPTED = re.compile(r"(?:create|drop|alter)\s+(?:database|retention\s+policy)\b", re.IGNORECASE)
_DATABASES = re.compile(r"show\s+databases\s*\Z", re.IGNORECASE)
_DAY_MS = 86_400_000

Values = Callable[[str, str, int, int], Sequence[str]]
"""(tenant, label, start, end): the values of a label."""


@dataclass(slots=True)
class Influx:
    """The operations. `values` gives a label's values."""

    intake: Intake
    values: Values
    _warm: bool = False

    async def write(self, request: Request, *, version: int = 1) -> Response:
        """Store the lines of a body."""
        intake, settings = self.intake, self.intake.settings()
        asked = query_of(request)
        precision = asked.text("precision")
        if precision not in PRECISIONS:
            raise BadInput(f"invalid precision {precision!r}", hint="expected one of ns, us, ms, s")
        more = dict(extra_labels(asked))
        database = asked.text("db") or asked.text("bucket")
        if database and settings.influx_db_label:
            more.setdefault(settings.influx_db_label, database)
        naming = Naming(settings.influx_separator, settings.names, tuple(sorted(more.items())))
        tenant = intake.tenant_of(request.scope)
        keyspace = intake.space(tenant, naming, partial(influx_keyspace, tenant, naming))
        stored = Stored()
        async with intake.body(request) as body:
            text = Text(body, keyspace, now_ms(intake.clock), precision=precision)
            # What has never run may have to be compiled first: seconds that the loop has not.
            at_once = self._warm and len(body) < _AT_ONCE
            try:
                while not text.finished:
                    batch = text.read() if at_once else await intake.run(text.read)
                    self._warm = True
                    if batch.sample_count:
                        stored.add(await intake.append(batch))
            finally:
                intake.unread["influx"] += text.told.faulty
                intake.left_out["influx"] += text.told.strings
        return _answer(text.told, stored, version)

    async def query(self, request: Request) -> Response:
        """What clients ask of databases before they write: there are none to create, and those that exist are values of a label."""
        form = await form_of(request)
        statements = [s.strip() for s in _STATEMENT.findall(form.text("q")) if s.strip()]
        if not statements:
            raise BadInput('missing required parameter "q"')
        results: list[dict[str, Any]] = []
        for number, statement in enumerate(statements):
            result: dict[str, Any] = {"statement_id": number}
            if _DATABASES.match(statement):
                names = await self._databases(request.scope)
                result["series"] = [{"name": "databases", "columns": ["name"], "values": [[name] for name in names]}]
            elif not _ACCEPTED.match(statement):
                shown = statement if len(statement) <= 100 else statement[:100] + "…"
                raise BadInput(f"error parsing query: {shown}", hint="what is stored is read with PromQL, at /api/v1/query")
            results.append(result)
        return _json(200, {"results": results})

    async def _databases(self, scope: Mapping[str, Any]) -> Sequence[str]:
        label = self.intake.settings().influx_db_label
        if not label:
            return []
        now = now_ms(self.intake.clock)
        return await self.intake.run(self.values, self.intake.tenant_of(scope), label, now - _DAY_MS, now)

    async def ping(self, request: Request) -> Response:
        """Whether somebody is there, and who."""
        if query_of(request).text("verbose").lower() in ("true", "1"):
            return _json(200, {"version": VERSION})
        return Response(status_code=204, headers=HEADERS)


def _answer(told: Told, stored: Stored, version: int) -> Response:
    """204, or a partial write with what was left out and where."""
    headers = {LEFT_OUT: str(told.strings)} if told.strings else {}
    lost = stored.why_dropped
    if not told.faulty and not lost:
        return Response(status_code=204, headers=HEADERS | headers)
    parts = []
    if told.faulty:
        shown = [f"unable to parse '{fault.text}': {fault.problem} (line {fault.line}, column {fault.column})" for fault in told.faults]
        more = f"and {told.faulty - len(shown)} more lines" if told.faulty > len(shown) else ""
        parts += [*shown, *([more] if more else [])]
    parts += [lost] if lost else []
    message = "partial write: " + "\n".join(parts) + f" dropped={told.faulty + stored.lost}"
    if told.faults and not told.lines and not lost:
        # Nothing at all was written.
        message = "\n".join(parts)
    about = [
        {"error_message": fault.problem, "line_number": fault.line, "column": fault.column, "original_line": fault.text}
        for fault in told.faults
    ]
    status, wait = (429, retry_after(RETRY_S)) if stored.beyond else (400, {})
    line = {"line": told.faults[0].line} if told.faults else {}
    return _refusal(status, message, version, headers | wait, line | ({"data": about} if about else {}))


def _refusal(status: int, message: str, version: int, headers: Mapping[str, str], more: Mapping[str, Any] | None = None) -> Response:
    body: dict[str, Any] = {"error": message}
    if version == 2:
        code = _CODES.get(status, "unavailable" if status == 503 else "internal error")
        body = {"code": code, "message": message}
    # A header holds printable ASCII; the body has the words as they are.
    first = "".join(c if " " <= c <= "~" else "?" for c in message.partition("\n")[0][:300])
    return _json(status, body | dict(more or {}), {**headers, "X-Influxdb-Error": first})


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body) + b"\n", status, media_type="application/json", headers=HEADERS | dict(headers or {}))


def refuse(error: VedetteError, version: int) -> Response:
    """A refusal in the shape of a version. Senders repeat after 429 and 503."""
    found = problem(error)
    if isinstance(error, LimitExceeded) and not isinstance(error, TooLarge) and found.status != 429:
        return _refusal(503, str(error), version, retry_after(error.retry_after or 5.0))
    return _refusal(found.status, found.message, version, found.headers)


class _Asked(Route):
    """A route that is there only for who asks something: without `q` the path is a page's."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        if scope["type"] == "http" and b"q=" not in scope.get("query_string", b""):
            return Match.NONE, {}
        return super().matches(scope)


def _handler(operation: Callable[[Request], Any], version: int) -> Any:
    return answering(operation, lambda error: refuse(error, version), lambda: _refusal(500, UNEXPECTED, version, {}))


def routes(room: Influx) -> list[BaseRoute]:
    """`GET /query?q=…`, which without a question is a page; for before the pages."""
    return [_Asked("/query", _handler(room.query, 1), methods=["GET"], name="influx:query")]


def endpoints(room: Influx) -> list[Endpoint]:
    """The operations of this room."""
    body = {"content": {"text/plain": {"schema": {"type": "string"}}}, "required": True}
    precision = Param("precision", "text", "The unit of timestamps: ns (default), us, ms or s.")
    extra = Param("extra_label", "texts", "A label for all samples: name=value.")
    database = Param("db", "text", "The database: the value of the label `db`.")
    bucket = Param("bucket", "text", "The bucket: the value of the label `db`.")
    organisation = Param("org", "text", "Taken and not looked at.")
    write1, write2 = _handler(room.write, 1), _handler(partial(room.write, version=2), 2)
    question = Param("q", "text", "CREATE DATABASE and the like (nothing needs to be), SHOW DATABASES.", required=True)
    found = []
    for prefix in ("", "/influx"):
        found += [
            Endpoint(
                f"{prefix}/write", write1, "Write samples (InfluxDB 1)", ("POST",), (database, precision, extra), "write", body,
                extra={"status": 204},
            ),
            Endpoint(
                f"{prefix}/api/v2/write", write2, "Write samples (InfluxDB 2)", ("POST",), (bucket, organisation, precision, extra),
                "write", body, extra={"status": 204},
            ),
            Endpoint(
                f"{prefix}/query", _handler(room.query, 1), "What InfluxDB's clients ask before they write",
                ("GET", "POST") if prefix else ("POST",), (question,), "write",
            ),
            Endpoint(f"{prefix}/ping", _handler(room.ping, 1), "Whether somebody is there (InfluxDB)", tag="write", extra={"status": 204}),
        ]  # fmt: skip
    return found
