"""`GET /federate`: the last values of selected series as an exposition, for another Prometheus (or Vedette) to scrape.

As Prometheus federates: samples of the last five minutes with their own times, external labels where a series has none of that
name, `instance=""` where nobody says which. In text, OpenMetrics or protobuf, as the scraper prefers; native histograms come in protobuf
alone, since there is no text for them. UTF-8 names are for those who say that they know them (`escaping=allow-utf-8`), as at `/metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import finishing
from vedette.api.endpoint import Endpoint, Param, Run, answering
from vedette.api.exposition import spelling
from vedette.api.ops import refused
from vedette.api.params import form_of, selected
from vedette.api.problems import UNEXPECTED, problem
from vedette.clock import Clock, now_ms
from vedette.errors import LimitExceeded, VedetteError
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_label_name, is_legacy_metric_name, quote
from vedette.model.matchers import Matcher
from vedette.model.ordering import in_order
from vedette.model.samples import is_stale
from vedette.model.series import SeriesSet
from vedette.storage.interface import Storage
from vedette.wire.escaping import Spell, as_it_is
from vedette.wire.exposition import OPENMETRICS_TYPE, TEXT_TYPE, format_value
from vedette.wire.exposition_proto import MEDIA_TYPE, Latest, render

_LOOKBACK_MS = 300_000
_FAMILY = "io.prometheus.client.MetricFamily"
PROTOBUF_TYPE = f"{MEDIA_TYPE}; proto={_FAMILY}; encoding=delimited"
"""The media type of protobuf expositions."""


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
        """The last values of the series that any `match[]` selects: none by `{}`, and by `{a=""}` all without `a`, as in Prometheus."""
        if not self.ready():
            raise LimitExceeded("the server is starting or stopping", retry_after=1.0)
        sets = await selected(await form_of(request), self.parse_selector, self.run, everything=True)
        media = preferred(request.headers.get("accept", ""))
        spell, shown = spelling(request, media)
        body = await self.run(self._body, self.tenant_of(request.scope), sets, media, spell)
        return Response(body, media_type=shown)

    def _body(self, tenant: str, sets: Sequence[Sequence[Matcher]], media: str, spell: Spell) -> bytes:
        """The answer's bytes, with names as `spell` gives them. Runs on a worker thread."""
        now = now_ms(self.clock)
        found: dict[Labels, Latest] = {}
        for matchers in filter(None, sets):
            series = self.storage.select(tenant, matchers, now - _LOOKBACK_MS, now)
            rows, last = series.latest()
            for row, at in zip(rows.tolist(), last.tolist(), strict=True):
                found[series.labels.row(row)] = Latest(float(series.values[at]), int(series.timestamps[at]))
            if media == PROTOBUF_TYPE:
                found.update(_histograms(series))
        external = {"instance": "", **dict(self.external_labels())}
        # Two names may be spelt as one: of two series that are one then, one is told, since no scraper takes both.
        found = {_spelt(labels, spell): latest for labels, latest in found.items()}
        ordered = in_order((s for s in found if s.metric), key=lambda s: (s.metric, s))
        if media == PROTOBUF_TYPE:
            return render([(_with(labels, external), found[labels]) for labels in ordered])
        openmetrics = media == OPENMETRICS_TYPE
        lines: list[str] = []
        family = ""
        for labels in ordered:
            if labels.metric != family:
                family = labels.metric
                kind = "unknown" if openmetrics else "untyped"
                lines.append(f"# TYPE {family if is_legacy_metric_name(family) else quote(family)} {kind}")
            latest = found[labels]
            assert isinstance(latest.value, float), "there is no text for others"
            time = f"{latest.time / 1000:.3f}" if openmetrics else str(latest.time)
            lines.append(f"{_series(labels, external)} {format_value(latest.value)} {time}")
        return "".join(f"{line}\n" for line in [*lines, *(("# EOF",) if openmetrics else ())]).encode()


def _histograms(series: SeriesSet) -> Iterator[tuple[Labels, Latest]]:
    """The series whose last sample is a native histogram, with it."""
    if series.histograms is None:
        return
    lasts = {int(end) - 1: row for row, end in enumerate(series.offsets[1:]) if end > series.offsets[row]}
    for j, at in enumerate(series.histograms.at.tolist()):
        if at in lasts and not is_stale(series.values[at : at + 1])[0]:
            yield series.labels.row(lasts[at]), Latest(series.histograms.sample(j), int(series.timestamps[at]))


def preferred(accept: str) -> str:
    """The media type of the answer that an `Accept` likes best; of equals the first, and text where nothing is named that there is."""
    best, quality = TEXT_TYPE, 0.0
    for offer in accept.split(","):
        media, *params = (part.strip() for part in offer.split(";"))
        given = dict(p.replace(" ", "").partition("=")[::2] for p in params)
        if media == MEDIA_TYPE and given.get("encoding", "delimited") == "delimited" and given.get("proto", _FAMILY) == _FAMILY:
            found = PROTOBUF_TYPE
        elif media == "application/openmetrics-text":
            found = OPENMETRICS_TYPE
        elif media in ("text/plain", "*/*"):
            found = TEXT_TYPE
        else:
            continue
        try:
            weight = float(given.get("q", "1"))
        except ValueError:
            continue  # what cannot be read asks for nothing
        if weight > quality:
            best, quality = found, weight
    return best


def _with(labels: Labels, external: Mapping[str, str]) -> Labels:
    """A series' labels and those of the external ones that it has none of; an empty one is told, as in text."""
    own = labels.as_dict()
    return Labels(sorted({**external, **own}.items()))


def _spelt(labels: Labels, spell: Spell) -> Labels:
    if spell is as_it_is or (is_legacy_metric_name(labels.metric) and all(is_legacy_label_name(n) for n, _ in labels)):
        return labels
    return Labels.of({spell(n): spell(v) if n == METRIC_NAME else v for n, v in labels})


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
