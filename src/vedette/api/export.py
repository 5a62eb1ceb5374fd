"""`/api/v1/export`: the samples of series as they are stored, as a file.

What `vedette storage export --url` asks, a stretch of time after another; curl may, too. Not here: the formats (`wire/dump.py`,
`storage/parquet.py`), splitting what is too much (`storage/export.py`).
"""

from __future__ import annotations

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
from vedette.api.params import MAX_TIME, MIN_TIME, form_of, parameter, time_of
from vedette.api.problems import UNEXPECTED, prometheus, prometheus_body
from vedette.errors import BadInput, LimitExceeded
from vedette.model.matchers import Matcher
from vedette.model.series import SeriesSet
from vedette.storage import parquet
from vedette.storage.export import Format, written_of
from vedette.storage.interface import Storage
from vedette.wire import dump

MOST_SAMPLES = 4_000_000
"""In one answer: 64 MB in memory."""

SAMPLES, LEFT_OUT, LEFT_OUT_METRICS = "x-vedette-samples", "x-vedette-left-out", "x-vedette-left-out-metrics"
"""How many samples the file has, how many native histograms it has no form for, and of which metrics these are (percent-encoded)."""

MOST_NAMED = 20


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
        texts, kind = form.texts("match[]"), form.text("format") or "prometheus"
        if not texts:
            raise BadInput("no match[] parameter provided")
        if kind not in get_args(Format):
            raise BadInput(f'invalid parameter "format": {kind!r}', hint="expected one of " + ", ".join(get_args(Format)))
        sets = [parameter("match[]", partial(self.parse_selector, text)) for text in texts]
        if len(sets) > 1:
            raise BadInput("more than one match[]", hint="a series must not stand in a file twice; use a regular expression")
        start, end = time_of(form, "start", MIN_TIME), time_of(form, "end", MAX_TIME)
        if end < start:
            raise BadInput('invalid parameter "end": end timestamp must not be before start time')
        tenant = self.tenant_of(request.scope)
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
        Param("format", "text", "`parquet`, `csv`, `openmetrics` or `prometheus` (default)."),
    )
    handler = answering(exporting.export, prometheus, lambda: prometheus_body(500, "internal", UNEXPECTED))
    return [Endpoint("/api/v1/export", handler, "Samples as they are stored, as a file", ("GET", "POST"), params, tag="query", media="*/*")]
