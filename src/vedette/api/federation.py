"""`GET /federate`: the last values of selected series as exposition text, for another Prometheus (or Vedette) to scrape.

As Prometheus federates: samples of the last five minutes with their own times, external labels where a series has none of that
name, `instance=""` where nobody says which. Native histograms have no text, and stay out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import finishing
from vedette.api.endpoint import Endpoint, Param, Run, answering
from vedette.api.ops import refused
from vedette.api.params import form_of, matcher_sets
from vedette.api.problems import UNEXPECTED, problem
from vedette.clock import Clock, now_ms
from vedette.errors import LimitExceeded, VedetteError
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_label_name, is_legacy_metric_name, quote
from vedette.model.matchers import Matcher
from vedette.storage.interface import Storage
from vedette.wire.exposition import TEXT_TYPE, format_value

_LOOKBACK_MS = 300_000


@dataclass(frozen=True, slots=True)
class Federation:
    """The operation. Until `ready`, it answers 503: what storage holds while its log is replayed is not yet the truth."""

    storage: Storage
    run: Run
    clock: Clock
    parse_selector: Callable[[str], Sequence[Matcher]]
    tenant_of: Callable[[Mapping[str, Any]], str]
    external_labels: Callable[[], Labels]
    ready: Callable[[], bool] = lambda: True

    async def federated(self, request: Request) -> Response:
        """The last values of the series that any `match[]` selects."""
        if not self.ready():
            raise LimitExceeded("the server is starting or stopping", retry_after=1.0)
        sets = matcher_sets(await form_of(request), self.parse_selector)
        body = await self.run(self._body, self.tenant_of(request.scope), sets)
        return Response(body, media_type=TEXT_TYPE)

    def _body(self, tenant: str, sets: Sequence[Sequence[Matcher]]) -> bytes:
        """The answer's bytes. Runs on a worker thread."""
        now = now_ms(self.clock)
        found: dict[Labels, tuple[float, int]] = {}
        for matchers in sets:
            series = self.storage.select(tenant, matchers, now - _LOOKBACK_MS, now)
            rows, last = series.latest()
            for row, at in zip(rows.tolist(), last.tolist(), strict=True):
                found[series.labels.row(row)] = (float(series.values[at]), int(series.timestamps[at]))
        external = {"instance": "", **dict(self.external_labels())}
        lines: list[str] = []
        family = ""
        for labels in sorted((s for s in found if s.metric), key=lambda s: (s.metric, s)):
            if labels.metric != family:
                family = labels.metric
                lines.append(f"# TYPE {family if is_legacy_metric_name(family) else quote(family)} untyped")
            value, time = found[labels]
            lines.append(f"{_series(labels, external)} {format_value(value)} {time}")
        return "".join(f"{line}\n" for line in lines).encode()


def _series(labels: Labels, external: Mapping[str, str]) -> str:
    own = labels.as_dict()
    added = {name: value for name, value in sorted(external.items()) if name not in own}
    metric = own.pop(METRIC_NAME)
    plain = is_legacy_metric_name(metric)
    pairs = [f"{n if is_legacy_label_name(n) else quote(n)}={quote(v)}" for n, v in {**own, **added}.items()]
    return f"{metric if plain else ''}{{{','.join(pairs if plain else [quote(metric), *pairs])}}}"


def endpoints(federation: Federation, *, cors_origin: str = ".*") -> list[Endpoint]:
    """The operation of this room."""

    def refuse(error: VedetteError) -> Response:
        found = problem(error)
        return Response(f"{error}\n", found.status, media_type="text/plain") if found.status < 500 else refused(error)

    handler = answering(federation.federated, refuse, lambda: Response(UNEXPECTED + "\n", 500, media_type="text/plain"))
    params = (Param("match[]", "texts", "Which series."),)
    shown = finishing(handler, federation.run, cors_origin)
    return [Endpoint("/federate", shown, "Latest values for another server to scrape", params=params, tag="operations", media="text/plain")]
