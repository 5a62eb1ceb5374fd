"""`GET /metrics`: Vedette's own metrics, and the latest value of every collected series, as exposition text or JSON.

Whoever scrapes this and writes what it scraped back into Vedette must not make it grow at each turn. So series that
came from such a text (scraping marks them with `exported_job` or `exported_instance`) stay out, unless `match[]` asks
for them; and to its own scrape (`own.SCRAPER`) a server tells of itself alone, for all else it stores already. Of very
many series some families are read at a time, so that memory never holds them all. Not here: aggregates.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import Pieces, finishing
from vedette.api.endpoint import Endpoint, Param, Run, answering
from vedette.api.ops import refused
from vedette.api.params import form_of, selected
from vedette.api.problems import UNEXPECTED, problem
from vedette.clock import Clock, now_ms
from vedette.collect.own import SCRAPER
from vedette.errors import BadInput, VedetteError
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import MetricMetadata
from vedette.model.series import SeriesSet
from vedette.model.tenants import DEFAULT_TENANT
from vedette.storage.interface import Estimating, Storage
from vedette.wire import exposition
from vedette.wire.escaping import SCHEMES, Spell, asked_for
from vedette.wire.exposition import family_of
from vedette.wire.exposition_table import AT_ONCE, table_pieces

_LOOKBACK_MS = 300_000
FORMATS = {"prometheus": exposition.TEXT_TYPE, "openmetrics": exposition.OPENMETRICS_TYPE, "json": "application/json"}
"""What `format` may say, and the media types of the answers."""
_MARKS = ("exported_job", "exported_instance")
_REQUESTS = ("botserver_requests_total", "botserver_request_duration_seconds")
"""Families that tell of an application. Collected under a second job they would make a second one, with alerts of its own."""
_SLAB_BYTES = 32 << 20
"""About as much is read at a time."""
_SERIES_BYTES, _SAMPLE_BYTES = 200, 16
"""About what is held of a series that is read, its labels and what of its text, and of each of its samples."""


@dataclass(frozen=True, slots=True)
class _Given:
    """The series that are not read, one for one with their values; and what is known of all metrics."""

    labels: list[Labels]
    values: list[float]
    metadata: list[MetricMetadata]


@dataclass(frozen=True, slots=True)
class _Slab:
    """What is read at a time, and those of the series given that stand with it."""

    matchers: Sequence[Matcher]
    labels: list[Labels]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The operation. `own` gives Vedette's metrics as exposition text 0.0.4; `own_job` is the job they are also collected under.

    `mark` is what the server's own scrapes say. `run_list` runs what reads all series (`run`, if absent): its own scrape waits for none.
    """

    own: Callable[[], bytes]
    own_job: str
    storage: Storage
    run: Run
    clock: Clock
    parse_selector: Callable[[str], Sequence[Matcher]]
    tenant_of: Callable[[Mapping[str, Any]], str]
    mark: str = ""
    run_list: Run | None = None

    async def exposed(self, request: Request) -> Response:
        """The latest values."""
        form = await form_of(request)
        shape = form.text("format") or _preferred(request.headers.get("accept", ""))
        if shape not in FORMATS:
            raise BadInput(f"format: {shape!r} is not a format", hint="expected one of " + ", ".join(FORMATS))
        sets = await selected(form, self.parse_selector, self.run)
        spell, media = spelling(request, FORMATS[shape])
        tenant = self.tenant_of(request.scope)
        if self.mark and not sets and request.headers.get(SCRAPER) == self.mark:
            return Response(await self.run(self._to_itself, tenant, shape, spell), media_type=media)
        run = self.run if self.run_list is None else self.run_list
        body = await run(self._body, tenant, sets, shape, spell)
        if isinstance(body, bytes):
            return Response(body, media_type=media)
        pieces, size = body
        return Pieces(pieces, run, size=size, media_type=media)

    def _body(self, tenant: str, sets: Sequence[Sequence[Matcher]], shape: str, spell: Spell) -> bytes | tuple[Iterator[bytes], int]:
        """The answer's bytes; of many series the pieces that they are made in, and about how many bytes. Runs on a worker thread."""
        if shape == "openmetrics":
            text = self._body(tenant, sets, "prometheus", spell)
            return exposition.as_openmetrics(text if isinstance(text, bytes) else b"".join(text[0]))
        now = now_ms(self.clock)
        labels: list[Labels] = []
        values: list[float] = []
        metadata: list[MetricMetadata] = []
        if not sets:
            given = self._own(tenant, now)
            labels, values, metadata = given.labels, given.values, given.metadata
        if shape == "prometheus" and len(sets) <= 1:
            return self._text(tenant, sets, now, _Given(labels, values, metadata), spell)
        seen = set(labels)
        for matchers in sets or [[Matcher(METRIC_NAME, "!=", "")]]:
            found = self.storage.select(tenant, matchers, now - _LOOKBACK_MS, now)
            rows, latest = _latest(found, lacking=() if sets else _MARKS)
            for row, value in zip(rows.tolist(), latest.tolist(), strict=True):
                series = found.labels.row(row)
                if series not in seen and (sets or series.get("job") != self.own_job):
                    seen.add(series)
                    labels.append(series)
                    values.append(value)
        metadata += self.storage.metadata(tenant)
        if shape == "json":
            return _json(labels, values, metadata)
        return exposition.render(labels, values, metadata=metadata, spell=spell)

    def _own(self, tenant: str, now: int) -> _Given:
        """What the server tells of itself, as `tenant` may see it."""
        own = exposition.parse(self.own(), exposition.exposition_keyspace(tenant), now).batch
        raw, labels, values = own.buffer.tobytes(), list[Labels](), list[float]()
        for a, b, value in zip(own.key_start.tolist(), own.key_end.tolist(), own.values.tolist(), strict=True):
            series = exposition.parse_series(raw[a:b])
            # How many series another tenant has, and that there is one, is not this one's to know.
            if tenant == DEFAULT_TENANT or series.get("tenant") in (None, "", tenant):
                labels.append(series)
                values.append(value)
        return _Given(labels, values, list(own.metadata))

    def _to_itself(self, tenant: str, shape: str, spell: Spell) -> bytes:
        """The answer to the server's own scrape."""
        own = self._own(tenant, now_ms(self.clock))
        known = {one.metric: one for one in own.metadata}
        keep = [family_of(series.metric, known) not in _REQUESTS for series in own.labels]
        labels, values = list(itertools.compress(own.labels, keep)), list(itertools.compress(own.values, keep))
        if shape == "json":
            return _json(labels, values, own.metadata)
        text = exposition.render(labels, values, metadata=own.metadata, spell=spell)
        return exposition.as_openmetrics(text) if shape == "openmetrics" else text

    def _text(
        self, tenant: str, sets: Sequence[Sequence[Matcher]], now: int, given: _Given, spell: Spell
    ) -> bytes | tuple[Iterator[bytes], int]:
        """The text of the series given and of one read, whose series are not looked at one by one. See `_body`."""
        given.metadata.extend(self.storage.metadata(tenant))
        matchers = sets[0] if sets else [Matcher(METRIC_NAME, "!=", "")]
        slabs, series = self._slabs(tenant, matchers, now, given)
        if len(slabs) > 1:
            pieces: Iterator[bytes] = itertools.chain.from_iterable(
                self._slab(tenant, slab, now, given, spell, bool(sets))[1] for slab in slabs
            )
        else:
            series, pieces = self._slab(tenant, slabs[0], now, given, spell, bool(sets))
        # The first one here: whatever is wrong shows before an answer begins.
        first = next(pieces, b"")
        if series <= AT_ONCE:
            return first + b"".join(pieces)
        return itertools.chain([first], pieces), len(first) * -(-series // AT_ONCE)

    def _slabs(self, tenant: str, matchers: Sequence[Matcher], now: int, given: _Given) -> tuple[list[_Slab], int]:
        """What is read after one another, each about as much as memory should hold at once, no family in two; and about how many series.

        Families are taken to be of about one size; one is never parted.
        """
        whole = _Slab(matchers, given.labels, given.values)
        if not isinstance(self.storage, Estimating):
            return [whole], 0
        size = self.storage.estimate(tenant, matchers, now - _LOOKBACK_MS, now)
        count = -(-(size.series * _SERIES_BYTES + size.samples * _SAMPLE_BYTES) // _SLAB_BYTES)
        if count <= 1:
            return [whole], size.series
        known, families = {m.metric: m for m in given.metadata}, dict[str, list[str]]()
        for name in self.storage.label_values(tenant, METRIC_NAME, [matchers], now - _LOOKBACK_MS, now):
            families.setdefault(family_of(name, known), []).append(name)
        own: dict[str, list[int]] = {}
        for at, labels in enumerate(given.labels):
            own.setdefault(family_of(labels.metric, known), []).append(at)
        each = -(-len(families) // count) or 1
        # Families of which nothing was collected come first.
        alone, slabs = [at for family, places in own.items() if family not in families for at in places], []
        ordered = list(families.items())
        for some in (ordered[i : i + each] for i in range(0, len(ordered), each)):
            places = alone + [at for family, _ in some for at in own.get(family, ())]
            names = "|".join(re.escape(name) for _, names in some for name in names)
            also = [*matchers, Matcher(METRIC_NAME, "=~", names)]
            slabs.append(_Slab(also, [given.labels[at] for at in places], [given.values[at] for at in places]))
            alone = []
        return slabs or [whole], size.series

    def _slab(self, tenant: str, slab: _Slab, now: int, given: _Given, spell: Spell, selected: bool) -> tuple[int, Iterator[bytes]]:
        """How many series are read, and the pieces of the text of a slab."""
        found = self.storage.select(tenant, slab.matchers, now - _LOOKBACK_MS, now)
        rows, latest = _latest(found, lacking=() if selected else _MARKS)
        if not selected:
            job = found.labels.symbols.find(self.own_job)
            keep = (found.labels.column("job")[rows] != job) | (job < 0)
            # Of a series of our own that is also collected, our own value is the newer.
            own = {found.labels.symbols.find(series.metric) for series in given.labels} - {-1}
            metrics = found.labels.column(METRIC_NAME)[rows]
            known = set(given.labels)
            for at in np.flatnonzero(np.isin(metrics, list(own))).tolist():
                keep[at] &= found.labels.row(int(rows[at])) not in known
            rows, latest = rows[keep], latest[keep]
        named = found.labels.column(METRIC_NAME)[rows] >= 0
        rows, latest = rows[named], latest[named]
        # What was read of samples is let go here, before the text is made.
        return len(rows), table_pieces(slab.labels, slab.values, found.labels, rows, latest, metadata=given.metadata, spell=spell)


def spelling(request: Request, media: str) -> tuple[Spell, str]:
    """How names are written for whoever asks, and the media type of the answer: UTF-8 names only for those who say that they know them."""
    scheme = asked_for(request.headers.get("accept", ""))
    return SCHEMES[scheme or "underscores"], f"{media}; escaping={scheme}" if scheme and media != FORMATS["json"] else media


def _preferred(accept: str) -> str:
    """The format that a scraper's `Accept` likes best: OpenMetrics only where it is named and preferred to text."""
    quality = {"text/plain": 0.0, "application/openmetrics-text": 0.0}
    for offer in accept.split(","):
        media, *params = (part.strip() for part in offer.split(";"))
        given = next((p.removeprefix("q=") for p in params if p.startswith("q=")), "1")
        try:
            if media in quality:
                quality[media] = max(quality[media], float(given))
        except ValueError:
            continue  # what cannot be read asks for nothing
    return "openmetrics" if quality["application/openmetrics-text"] > quality["text/plain"] else "prometheus"


def _latest(found: SeriesSet, *, lacking: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows that have a last sample and none of the labels `lacking`; and those samples. Native histograms have no text."""
    rows, last = found.latest()
    keep = np.ones(len(rows), dtype=np.bool_)
    for name in lacking:
        keep &= found.labels.column(name)[rows] < 0
    return rows[keep], found.values[last[keep]]


def _json(labels: Sequence[Labels], values: Sequence[float], metadata: Sequence[MetricMetadata]) -> bytes:
    kinds = {m.metric: m.type for m in metadata}
    entries = [
        {
            "name": series.metric,
            "type": kinds.get(series.metric, "unknown"),
            "labels": series.without(METRIC_NAME).as_dict(),
            "value": value,
        }
        for series, value in zip(labels, values, strict=True)
    ]
    return orjson.dumps({"metrics": entries})  # a value that JSON has no number for is null


def endpoints(metrics: Metrics, *, cors_origin: str = ".*") -> list[Endpoint]:
    """The operations of this room."""

    def refuse(error: VedetteError) -> Response:
        found = problem(error)
        return Response(f"{error}\n", found.status, media_type="text/plain") if found.status < 500 else refused(error)

    handler = answering(metrics.exposed, refuse, lambda: Response(UNEXPECTED + "\n", 500, media_type="text/plain"))
    params = (
        Param("match[]", "texts", "Only collected series that any of these selects."),
        Param("format", "text", "prometheus (text), openmetrics or json; absent: what `Accept` prefers of the first two."),
    )
    shown = finishing(handler, metrics.run, cors_origin)
    return [Endpoint("/metrics", shown, "Latest values", params=params, tag="operations", media="text/plain", shared=True)]
