"""`/api/v1/export`: the samples of series as they are stored, as a file, or as VictoriaMetrics' JSON lines.

A file is what `vedette storage export --url` asks for, a stretch of time after another; curl may, too. JSON lines are of any size: what
is too much at once comes one stretch after another. Not here: the formats (`wire/dump.py`, `wire/series_lines.py`,
`storage/parquet.py`), splitting what is too much for a file (`storage/export.py`).
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import quote

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from vedette.api.endpoint import Endpoint, Param, Run, answering
from vedette.api.imports import PREFIXES
from vedette.api.params import MAX_TIME, MIN_TIME, count_of, form_of, parameter, time_of
from vedette.api.problems import UNEXPECTED, prometheus, prometheus_body
from vedette.errors import BadInput, LimitExceeded
from vedette.model.matchers import Matcher
from vedette.model.series import SeriesSet
from vedette.storage import parquet
from vedette.storage.export import Format, written_of
from vedette.storage.interface import Estimating, Storage
from vedette.wire import dump, series_lines

MOST_SAMPLES = 4_000_000
"""In one answer: 64 MB in memory."""

SAMPLES, LEFT_OUT, LEFT_OUT_METRICS = "x-vedette-samples", "x-vedette-left-out", "x-vedette-left-out-metrics"
"""How many samples the file has, how many native histograms it has no form for, and of which metrics these are (percent-encoded)."""

MOST_NAMED = 20
LINES = "jsonl"
"""What `format` is unless another is asked for: VictoriaMetrics' JSON lines."""

_MOST_ROWS = 1_000_000
_SHORTEST = 1000
"""A stretch of fewer ms is not made shorter: it has a few samples of each series, however many there are."""


@dataclass(frozen=True, slots=True)
class Exporting:
    """The operation over one storage."""

    storage: Storage
    run: Run
    parse_selector: Callable[[str], Sequence[Matcher]]
    tenant_of: Callable[[Mapping[str, Any]], str]
    most: int = MOST_SAMPLES

    async def export(self, request: Request) -> Response:
        """The samples of what any of the selectors selects; 204 where there are none."""
        form = await form_of(request)
        texts, kind = form.texts("match[]"), form.text("format") or LINES
        if not texts:
            raise BadInput("no match[] parameter provided")
        if kind not in (LINES, *get_args(Format)):
            raise BadInput(f'invalid parameter "format": {kind!r}', hint="expected one of " + ", ".join((LINES, *get_args(Format))))
        sets = [parameter("match[]", partial(self.parse_selector, text)) for text in texts]
        if len(sets) > 1:
            raise BadInput("more than one match[]", hint="a series must not stand in a file twice; use a regular expression")
        start, end = time_of(form, "start", MIN_TIME), time_of(form, "end", MAX_TIME)
        if end < start:
            raise BadInput('invalid parameter "end": end timestamp must not be before start time')
        tenant = self.tenant_of(request.scope)
        if kind == LINES:
            rows = count_of(form, "max_rows_per_line", absent=series_lines.MOST_ROWS)
            if not 1 <= rows <= _MOST_ROWS:
                raise BadInput(f'invalid parameter "max_rows_per_line": {rows}', hint=f"expected 1 to {_MOST_ROWS}")
            return await self._lines(self._stretches(tenant, sets[0], start, end), rows)
        found = await self.run(self._select, tenant, sets[0], start, end)
        written = written_of(found, cast("Format", kind))
        named = [quote(name, safe="") for name in written.metrics[:MOST_NAMED]]
        counts = {SAMPLES: str(written.samples), LEFT_OUT: str(written.left_out), LEFT_OUT_METRICS: ",".join(named)}
        if written.samples == 0:
            return Response(status_code=204, headers=counts)
        name = f'attachment; filename="export.{kind}"'
        if kind == "parquet":
            path = await self.run(_parquet, found)
            done = BackgroundTask(path.unlink)
            headers = counts | {"content-disposition": name}
            return FileResponse(path, media_type="application/vnd.apache.parquet", headers=headers, background=done)
        text: dump.TextFormat = "csv" if kind == "csv" else "openmetrics" if kind == "openmetrics" else "prometheus"
        metadata = await self.run(self.storage.metadata, tenant)
        pieces = dump.render(found, text, metadata=metadata)
        return StreamingResponse(self._each(pieces), headers=counts | {"content-disposition": name, "content-type": dump.MEDIA[text]})

    async def _lines(self, stretches: Iterator[tuple[SeriesSet, bool]], rows: int) -> Response:
        """JSON lines of one stretch after another; where all is one, with the counts that a file has."""
        first, whole = await self.run(next, stretches)
        counts: dict[str, str] = {}
        if whole:
            left_out = dump.histogram_count(first)
            named = [quote(name, safe="") for name in dump.histogram_metrics(first)[:MOST_NAMED]]
            counts = {SAMPLES: str(first.sample_count - left_out), LEFT_OUT: str(left_out), LEFT_OUT_METRICS: ",".join(named)}
            if first.sample_count == left_out:
                return Response(status_code=204, headers=counts)

        def pieces() -> Iterator[bytes]:
            for found in itertools.chain([first], (found for found, _ in stretches)):
                yield from series_lines.render(dump.without_histograms(found), most_rows=rows)

        return StreamingResponse(self._each(pieces()), headers=counts | {"content-type": series_lines.MEDIA})

    def _stretches(self, tenant: str, matchers: Sequence[Matcher], start: int, end: int) -> Iterator[tuple[SeriesSet, bool]]:
        """The samples in [start, end], the earlier first, no more than `most` at a time; and whether that is all of them."""
        waiting, whole = [(start, end)], True
        while waiting:
            lo, hi = waiting.pop()
            short = hi - lo < _SHORTEST
            if short or not isinstance(self.storage, Estimating) or self.storage.estimate(tenant, matchers, lo, hi).samples <= self.most:
                found = self.storage.select(tenant, matchers, lo, hi)
                if short or found.sample_count <= self.most:
                    yield found, whole
                    continue
            middle, whole = (lo + hi) // 2, False
            waiting += [(middle + 1, hi), (lo, middle)]

    def _select(self, tenant: str, matchers: Sequence[Matcher], start: int, end: int) -> SeriesSet:
        found = self.storage.select(tenant, matchers, start, end)
        if found.sample_count > self.most:
            raise LimitExceeded(f"{found.sample_count} samples, more than {self.most} at once; narrow the range or the matchers")
        return found

    async def _each(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Each piece made on a worker thread, while the one before is sent."""
        while (piece := await self.run(next, pieces, None)) is not None:
            yield piece


def _parquet(found: SeriesSet) -> Path:
    with tempfile.NamedTemporaryFile(prefix="vedette-", suffix=".parquet", delete=False) as file:
        path = Path(file.name)
    try:
        parquet.write(found, path)
    except BaseException:
        path.unlink()
        raise
    return path


def endpoints(exporting: Exporting) -> list[Endpoint]:
    """The operation."""
    params = (
        Param("match[]", "texts", "A selector.", required=True),
        Param("start", "time", "The start of the range; all times if absent."),
        Param("end", "time", "The end of the range, inclusive; all times if absent."),
        Param(
            "format",
            "text",
            "`jsonl` (VictoriaMetrics' JSON lines, the default), `parquet`, `csv`, `openmetrics` or `prometheus`.",
        ),
        Param("max_rows_per_line", "integer", "The most samples of a line of `jsonl`; 100,000 if absent."),
    )
    handler = answering(exporting.export, prometheus, lambda: prometheus_body(500, "internal", UNEXPECTED))
    about = "Samples as they are stored"
    return [Endpoint(f"{prefix}/api/v1/export", handler, about, ("GET", "POST"), params, tag="query", media="*/*") for prefix in PREFIXES]
