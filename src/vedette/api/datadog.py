"""Datadog's way in: `/datadog/api/v1/series`, `/datadog/api/v2/series`, and what its agent asks and sends besides.

Answers 202 once every point is durable. Series that cannot be read, and points that are not stored, are told with 400; the others are
stored. Not here: the series (`wire/datadog.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.intake import RETRY_S, Intake, Stored, extra_labels
from vedette.api.params import expect_json, media_type, query_of
from vedette.api.problems import UNEXPECTED, TooLarge, problem, retry_after
from vedette.clock import now_ms
from vedette.errors import LimitExceeded, VedetteError
from vedette.model.samples import canonical
from vedette.wire import datadog

_MOST_BYTES = 16 << 20
"""Of a body: each of its points is an object for a moment."""
_PROTOBUF = "application/x-protobuf"
_PASSED_OVER = ("/datadog/api/v1/check_run", "/datadog/api/v1/metadata", "/datadog/intake")


@dataclass(slots=True)
class Datadog:
    """The operations."""

    intake: Intake

    async def series(self, request: Request, *, version: int) -> Response:
        """Store the points of series."""
        packed = version == 2 and media_type(request) == _PROTOBUF
        if not packed:
            expect_json(request, expected="application/json" if version == 1 else f"application/json or {_PROTOBUF}")
        intake, asked = self.intake, query_of(request)
        tenant, stored = intake.tenant_of(request.scope), Stored()
        keyspace = intake.space(tenant, "labels", partial(canonical, tenant))
        read = datadog.parse_protobuf if packed else partial(datadog.parse, version=version)
        parse = partial(read, names=intake.settings().names, more=extra_labels(asked))
        async with intake.body(request, most=_MOST_BYTES) as body:
            found = await intake.run(parse, body, keyspace, now_ms(intake.clock))
            intake.unread["datadog"] += found.failed
            if len(found.rows):
                stored.add(await intake.append(found.rows.batch()))
        if not found.failed and not stored.why_dropped:
            return _json(202, {"status": "ok"} if version == 1 else {"errors": []})
        more = [f"and {found.failed - len(found.bad)} more"] if found.failed > len(found.bad) else []
        told = [*found.bad, *more, *([stored.why_dropped] if stored.why_dropped else [])]
        return _json(429, {"errors": told}, retry_after(RETRY_S)) if stored.beyond else _json(400, {"errors": told})

    async def validate(self, request: Request) -> Response:
        """Whoever gets here has a key that is good."""
        return _json(200, {"valid": True})

    async def pass_over(self, request: Request) -> Response:
        """What an agent sends besides samples: taken, counted, and not kept."""
        async with self.intake.body(request, most=_MOST_BYTES):
            self.intake.left_out["datadog"] += 1
        return _json(202, {"status": "ok"})


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json", headers=headers)


def refuse(error: VedetteError) -> Response:
    """A refusal in Datadog's shape; its agent repeats after 5xx and 429."""
    found = problem(error)
    if isinstance(error, LimitExceeded) and not isinstance(error, TooLarge) and found.status != 429:
        return _json(503, {"errors": [str(error)]}, retry_after(error.retry_after or 5.0))
    return _json(found.status, {"errors": [found.message]}, dict(found.headers))


def endpoints(room: Datadog) -> list[Endpoint]:
    """The operations of this room."""
    body: dict[str, Any] = {"content": {"application/json": {}}, "required": True}
    either = {"content": {"application/json": {}, _PROTOBUF: {"schema": {"type": "string", "format": "binary"}}}, "required": True}
    extra = Param("extra_label", "texts", "A label for all points: name=value.")

    def broken() -> Response:
        return _json(500, {"errors": [UNEXPECTED]})

    validate, pass_over = answering(room.validate, refuse, broken), answering(room.pass_over, refuse, broken)
    return [
        *(
            Endpoint(
                f"/datadog/api/v{version}/series", answering(partial(room.series, version=version), refuse, broken),
                f"Write series (Datadog {version})", ("POST",), (extra,), "write", body if version == 1 else either, extra={"status": 202},
            )
            for version in (1, 2)
        ),
        Endpoint("/datadog/api/v1/validate", validate, "Whether the key is good (Datadog)", tag="write"),
        *(
            Endpoint(path, pass_over, "Taken and not kept (Datadog)", ("POST",), (), "write", body, extra={"status": 202})
            for path in _PASSED_OVER
        ),
    ]  # fmt: skip
