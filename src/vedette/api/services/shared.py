"""What the five dialects have in common: parameters and times as their documents read them, refusals, who a series is of.

A refusal is `{"detail": [{"loc": ["query", "start_date"], "msg": …, "type": …}]}`. Times come in as ISO 8601 (naive ones
are UTC) or as Unix times and go out as `2025-02-20T12:00:00Z`. Not here: any endpoint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Run, answering
from vedette.api.params import Form
from vedette.api.problems import UNEXPECTED, detail
from vedette.clock import Clock
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.labels import METRIC_NAME, Labels, quote
from vedette.model.matchers import Matcher, by_metric
from vedette.model.samples import MetricMetadata
from vedette.model.times import iso_ns
from vedette.storage.interface import Storage
from vedette.wire.loglines import unix_time

if TYPE_CHECKING:
    from vedette.promql.engine import Engine

SERVICE_LABELS = ("service", "job", "source_service")
"""Where a series says whose it is: scraped series have a job, tracked ones the first of these that their labels leave free."""

OWN_JOB = "vedette"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"-?\d{1,19}(?:\.\d*)?\Z", re.ASCII)

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"detail": {}},
    "required": ["detail"],
}


@dataclass(frozen=True, slots=True)
class Backend:
    """What the dialects read from. `run` runs a blocking function on a query thread; `ready` is immediate."""

    storage: Storage
    promql: Engine
    run: Run
    clock: Clock
    tenant_of: Callable[[Mapping[str, Any]], str]
    ready: Callable[[], bool]

    def handled(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """`handler` with its errors in the documents' shape, and 503 until storage holds the truth."""

        async def when_ready(request: Request) -> Response:
            if not self.ready():
                raise LimitExceeded("the server is starting or stopping", retry_after=1.0)
            return await handler(request)

        return answering(when_ready, refused, broken)

    def number(self, tenant: str, expr: str, at_ms: int) -> float | None:
        """The value of the one series that an expression finds at a time; None for none and for no finite number. Blocks."""
        rows = self.promql.instant(tenant, expr, at_ms).rows()
        assert len(rows) <= 1, f"{expr} finds {len(rows)} series"
        return finite(float(rows[0][2][-1])) if rows else None


def finite(value: float) -> float | None:
    """`value`, None where it is no finite number, which JSON could not say."""
    return value if math.isfinite(value) else None


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON; NaN and the infinities are null."""
    return Response(orjson.dumps(body), status, media_type="application/json", headers=dict(headers or {}))


def refused(error: VedetteError) -> Response:
    """An error in the documents' shape."""
    return detail(error)


def broken() -> Response:
    """A fault of ours, or storage that cannot be read: 500."""
    return answer({"detail": UNEXPECTED}, 500)


def parse_when(text: str) -> int:
    """Milliseconds of a time in ISO 8601 (every form; UTC where it names no zone) or of a Unix time. Raises `BadInput`.

    A Unix time's size tells its unit: seconds, milliseconds (from 1e11 on), microseconds or nanoseconds.
    """
    if _NUMBER.match(text) and len(text) != 8:  # eight digits are a date: 20250220
        whole, point, _ = text.partition(".")
        try:
            return round(unix_time(float(text) if point else int(whole)) / 1_000_000)
        except BadInput:
            pass  # beyond what can be stored: told below, as anything else that is no time
    elif (ns := iso_ns(text)) is not None:
        return ns // 1_000_000
    raise BadInput(f"not a time: {text[:100]!r}", hint="expected ISO 8601, such as 2025-02-20T12:00:00Z, or a Unix time")


def when_of(form: Form, name: str) -> int | None:
    """An optional time parameter in ms. Raises `BadInput` that names the parameter."""
    text = form.text(name)
    if not text:
        return None
    try:
        return parse_when(text)
    except BadInput as error:
        raise BadInput(error.problem, where=f"query.{name}", hint=error.hint) from None


def count_of(form: Form, name: str, default: int, *, low: int = 1, high: int) -> int:
    """An optional whole number from `low` to `high`. Raises `BadInput` that names the parameter."""
    text = form.text(name)
    if not text:
        return default
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not low <= int(text) <= high:
        raise BadInput(f"not in range: {text[:40]!r}", where=f"query.{name}", hint=f"expected a whole number from {low} to {high}")
    return int(text)


def flag_of(form: Form, name: str) -> bool:
    """An optional truth value, false where it is absent. Raises `BadInput` that names the parameter."""
    text = form.text(name).lower()
    if text not in ("", "0", "1", "true", "false"):
        raise BadInput(f"not a truth value: {text[:40]!r}", where=f"query.{name}", hint="expected true or false")
    return text in ("1", "true")


def choice_of(form: Form, name: str, default: str, choices: Iterable[str]) -> str:
    """An optional parameter that is one of some words. Raises `BadInput` that names the parameter."""
    text = form.text(name) or default
    if text not in choices:
        raise BadInput(f"not known: {text[:40]!r}", where=f"query.{name}", hint="expected one of " + ", ".join(choices))
    return text


def shown_time(ms: int) -> str:
    """A time in ms as the documents write it, with the fraction where it has one: `2025-02-20T12:00:00Z`."""
    seconds, fraction = divmod(ms, 1000)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:03d}".rstrip("0") + "Z" if fraction else text + "Z"


def service_of(labels: Labels) -> str:
    """Whose a series is: the first of `SERVICE_LABELS` that it has, else empty."""
    return next((value for name in SERVICE_LABELS if (value := labels.get(name))), "")


def matcher_sets(metric: str = "", service: str = "") -> list[list[Matcher]]:
    """Matchers of disjoint sets of series that together are those of a metric (all, where empty) and a service (likewise).

    A service's series are those that name it in any of `SERVICE_LABELS`.
    """
    base = [by_metric(metric)] if metric else [Matcher(METRIC_NAME, "!=", "")]
    if not service:
        return [base]
    found = []
    for i, name in enumerate(SERVICE_LABELS):
        before = [Matcher(other, "!=", service) for other in SERVICE_LABELS[:i]]
        found.append([*base, Matcher(name, "=", service), *before])
    return found


def selectors(metric: str, service: str = "") -> list[str]:
    """PromQL selectors of the same sets."""
    return ["{" + ",".join(f"{m.name}{m.op}{quote(m.value)}" for m in matchers) + "}" for matchers in matcher_sets(metric, service)]


def any_of(metric: str, service: str, shape: str) -> str:
    """`shape`, in which `%s` stands for a selector, for each set of series, joined by `or`."""
    return " or ".join(shape.replace("%s", selector) for selector in selectors(metric, service))


class Kinds:
    """What metrics are, from their metadata and, where they have none, from their names."""

    def __init__(self, metadata: Sequence[MetricMetadata]) -> None:
        self._known = {m.metric: m.type for m in metadata}

    def of(self, metric: str) -> str:
        """counter, gauge, histogram, summary or unknown; the parts of a histogram and a summary are of its kind."""
        kind = self._known.get(metric, "unknown")
        if kind != "unknown":
            return kind
        for suffix in ("_bucket", "_sum", "_count"):
            family = self._known.get(metric.removesuffix(suffix), "")
            if metric.endswith(suffix) and family in ("histogram", "summary"):
                return family
        return "counter" if metric.endswith("_total") else "unknown"

    def rising(self, metric: str) -> bool:
        """Whether a stored series of this name only goes up, resets aside."""
        kind = self.of(metric)
        return kind == "counter" or (kind in ("histogram", "summary") and metric.endswith(("_bucket", "_sum", "_count")))
