"""A Pushgateway's API: `PUT`, `POST` and `DELETE` of `/metrics/job/…`, and below `/pushgateway` all of it.

So client libraries push to this server's address, or to `…/pushgateway` where whatever comes before has a `/metrics` of its own. A push
is durable when it is answered, and queries see it at once. Not here: what may be pushed and what becomes of it (`ingest`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import success
from vedette.api.endpoint import Endpoint, Handler, answering
from vedette.api.intake import Intake
from vedette.api.problems import UNEXPECTED, prometheus, prometheus_body, write
from vedette.clock import now_ms
from vedette.errors import NotFound
from vedette.ingest.pushed import Pushed
from vedette.ingest.pushgroups import Family, Group, Inconsistent, classic, grouping, parsed, told
from vedette.ingest.socket_settings import PushedSettings
from vedette.model.labels import METRIC_NAME, Labels
from vedette.wire.exposition import TEXT_TYPE, format_value, render

ROOT = "/pushgateway"
_PROTOBUF = "application/vnd.google.protobuf"


@dataclass(slots=True)
class Pushgateway:
    """The operations. `settings` are those in force."""

    pushed: Pushed
    intake: Intake
    settings: Callable[[], PushedSettings]

    def push(self, *, encoded: bool) -> Handler:
        """PUT puts a group in the place of what it was, POST families in the place of those of the same names."""

        async def pushing(request: Request) -> Response:
            tenant, key = self.intake.tenant_of(request.scope), grouping(request.path_params["grouping"], encoded=encoded)
            found = await self._read(request, key)
            await self.pushed.push(tenant, key, found, replace=request.method == "PUT")
            return Response(status_code=200)

        return pushing

    def delete(self, *, encoded: bool) -> Handler:
        """Forget a group, whether it is there or not."""

        async def deleting(request: Request) -> Response:
            key = grouping(request.path_params["grouping"], encoded=encoded)
            await self.pushed.delete(self.intake.tenant_of(request.scope), [key])
            return Response(status_code=202)

        return deleting

    async def _read(self, request: Request, key: Labels) -> Mapping[str, Family] | Inconsistent:
        media, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
        kind = "openmetrics" if media == "application/openmetrics-text" else "text"
        if media == _PROTOBUF and "encoding=delimited" in parameters:
            kind = "protobuf"
        intake = self.intake
        async with intake.body(request, most=self.settings().max_body) as body:
            try:
                return await intake.run(parsed, body, kind, key, now_ms(intake.clock))
            except Inconsistent as error:
                return error

    async def metrics(self, request: Request) -> Response:
        """All groups, as exposition text."""
        groups = self.pushed.groups(self.intake.tenant_of(request.scope))
        return Response(await self.intake.run(_exposed, groups), media_type=TEXT_TYPE)

    async def listed(self, request: Request) -> Response:
        """All groups, as a Pushgateway's API tells them."""
        groups = self.pushed.groups(self.intake.tenant_of(request.scope))
        return success(await self.intake.run(lambda: [_told(group) for group in groups]))

    async def wipe(self, request: Request) -> Response:
        """Delete all groups of whoever asks."""
        if not self.settings().admin_api:
            raise NotFound("the admin API is off: set pushed.admin_api")
        await self.pushed.delete(self.intake.tenant_of(request.scope))
        return Response(status_code=202)


def _exposed(groups: list[Group]) -> bytes:
    metadata, series, values = told(groups)
    return render(series, values, metadata=metadata)


def _told(group: Group) -> dict[str, Any]:
    families = {f.about.metric: _family(f) for f in (*group.families.values(), *group.times())}
    return {"labels": dict(group.labels), "last_push_successful": group.pushed_at >= group.failed_at, **families}


def _family(family: Family) -> dict[str, Any]:
    kind = "UNTYPED" if family.about.type == "unknown" else family.about.type.upper()
    stamp = datetime.fromtimestamp(family.pushed_at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time_stamp": stamp, "type": kind, "help": family.about.help, "metrics": _metrics(family)}


def _metrics(family: Family) -> list[dict[str, Any]]:
    part, many = {"histogram": ("le", "buckets"), "summary": ("quantile", "quantiles")}.get(family.about.type, ("", ""))
    found: dict[Labels, dict[str, Any]] = {}
    for labels, value in classic(family):
        own = labels.without(METRIC_NAME, part)
        one = found.setdefault(own, {"labels": dict(own)})
        if not part:
            one["value"] = format_value(value)
        elif labels.metric.endswith(("_sum", "_count")) and labels.metric != family.about.metric:
            one[labels.metric.rpartition("_")[2]] = format_value(value)
        else:
            one.setdefault(many, {})[labels.get(part)] = format_value(value)
    return list(found.values())


def _broken() -> Response:
    return Response(f"{UNEXPECTED}\n", 500, media_type="text/plain")


def _broken_json() -> Response:
    return prometheus_body(500, "internal", UNEXPECTED)


def endpoints(room: Pushgateway) -> list[Endpoint]:
    """The operations of this room."""
    binary: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    body = {"content": {"text/plain": binary, _PROTOBUF: binary, "application/openmetrics-text": binary}, "required": True}
    found = []
    for root in ("", ROOT):
        for job, encoded in (("job", False), ("job@base64", True)):
            path = f"{root}/metrics/{job}/{{grouping:path}}"
            push, delete = (answering(h, write, _broken) for h in (room.push(encoded=encoded), room.delete(encoded=encoded)))
            about = "Push a group of metrics"
            found.append(Endpoint(path, push, about, ("PUT", "POST"), tag="write", body=body, media="text/plain"))
            accepted = {"status": 202}
            found.append(Endpoint(path, delete, "Delete a group of metrics", ("DELETE",), tag="write", media="text/plain", extra=accepted))
    wipe = answering(room.wipe, prometheus, _broken_json)
    return [
        *found,
        Endpoint(f"{ROOT}/metrics", answering(room.metrics, write, _broken), "All pushed groups as text", tag="write", media="text/plain"),
        Endpoint(f"{ROOT}/api/v1/metrics", answering(room.listed, prometheus, _broken_json), "All pushed groups", tag="write"),
        Endpoint(
            f"{ROOT}/api/v1/admin/wipe", wipe, "Delete all pushed groups", ("PUT",), tag="admin", media="text/plain", extra={"status": 202}
        ),
    ]
