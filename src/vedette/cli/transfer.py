"""`vedette storage export` and `import`: samples out of a directory or a server into files, and the way back.

Without a server the directory itself is read and written; with `--url` a server is asked (`/api/v1/export`) and written to (remote
write, which any Prometheus-compatible receiver takes). Both go on where they were interrupted. Not here: how (`storage/export.py`,
`storage/importing.py`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import ExitStack, aclosing, closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vedette.api.params import parse_time, rfc3339
from vedette.cli.keys import check_known
from vedette.clock import SystemClock
from vedette.errors import BadInput, LimitExceeded, NotFound, Undeliverable
from vedette.model.histograms import Histogram
from vedette.model.samples import canonical
from vedette.promql.parse import parse_selector
from vedette.storage import export as exporting
from vedette.storage import importing
from vedette.storage.engine import Engine
from vedette.storage.export import Fetch, Format, Wanted, Written
from vedette.storage.importing import Stored
from vedette.storage.limits import Limits, LimitsSettings, TenantLimits
from vedette.storage.settings import StorageSettings
from vedette.wire import remote_write
from vedette.wire.dump import Run

_MOST = 4_000_000
"""Samples that are held at once while exporting."""

_REQUEST = 20_000
"""Samples in one request of remote write."""

_PATIENCE = 120.0
"""Seconds that one request is put off at most: a limit on series may never let it in."""

_EVER = 1 << 60
_UNLIMITED = TenantLimits(
    max_series=0, max_labels=0, max_label_name_length=0, max_label_value_length=0, samples_per_second=0, out_of_order_window=_EVER
)


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[samples]:,} samples"))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True)


def run_export(
    directory: Path,
    *,
    form: Format,
    match: str,
    start: str | None,
    end: str | None,
    tenant: str,
    data: Path,
    url: str | None,
    api_key: str | None,
) -> None:
    """Export into `directory`, or go on with it. Prints what was written."""
    if form == "parquet":
        from vedette.storage.parquet import duckdb

        duckdb()  # said at once, not after the log was read
    parse_selector(match)
    if url is not None:
        with _client(url, tenant, api_key) as client:
            head = _answered(client.get("/api/v1/status/tsdb")).json()["data"]["headStats"]
            _export(directory, _remote(client, form, match), form, match, (start, end), tenant, url, (head["minTime"], head["maxTime"]))
        return
    if not (data / "blocks").is_dir():
        raise NotFound(f"{data}: no data directory (there is no blocks/ in it); see --data")
    engine = Engine(StorageSettings(data=data, retention=0, select_samples=_MOST), SystemClock())
    try:
        engine.load()
        stats = engine.stats()
        ends = (stats.min_time, stats.max_time)
        _export(directory, _local(engine, form, match, tenant), form, match, (start, end), tenant, str(data.resolve()), ends)
    finally:
        asyncio.run(engine.close())


def _export(
    directory: Path,
    fetch: Fetch,
    form: Format,
    match: str,
    given: tuple[str | None, str | None],
    tenant: str,
    source: str,
    ends: tuple[int, int],
) -> None:
    console = Console(stderr=True, highlight=False)
    known = exporting.begun(directory)
    # What an export was begun with stays: `now` is another time when it goes on.
    start = parse_time(given[0]) if given[0] is not None else known.start if known else ends[0]
    end = parse_time(given[1]) if given[1] is not None else known.end if known else ends[1]
    if end < start:
        raise BadInput("the end is before the start", where="--end")
    made = exporting.Export(directory, Wanted(form, tenant, match, start, end, source))
    samples = left_out = 0
    metrics: set[str] = set()
    with _bar(console) as bar:
        missing = sum(hi - lo + 1 for lo, hi in made.gaps())
        if not missing:
            print(f"{directory}: complete already, up to {rfc3339(end / 1000)}; name another directory, or --end, for what came since")
            return
        task = bar.add_task("exporting", total=end - start + 1, completed=end - start + 1 - missing, samples=0)
        for span, written in made.run(fetch):
            samples, left_out = samples + written.samples, left_out + written.left_out
            metrics.update(written.metrics)
            bar.update(task, advance=span, samples=samples)
    print(f"{directory}: {samples:,} samples exported, {len(made.done())} files")
    if left_out:
        named = ", ".join(sorted(metrics)[:20]) + (" and others" if len(metrics) > 20 else "")
        why = f"{left_out:,} native histograms were left out, of {named}: {form} has no form for them, parquet has"
        console.print(why, style="yellow", markup=False)


def _local(engine: Engine, form: Format, match: str, tenant: str) -> Fetch:
    matchers = parse_selector(match).matchers

    def fetch(start: int, end: int, path: Path) -> Written:
        found = engine.select(tenant, matchers, start, end)
        return exporting.write(found, path, form, metadata=engine.metadata(tenant))

    return fetch


def _client(url: str, tenant: str, api_key: str | None) -> httpx.Client:
    """A client for a server. Raises `BadInput` where that is a Vedette that takes this caller's samples for another tenant's."""
    headers = {"X-Scope-OrgID": tenant} if tenant != "default" else {}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    try:
        client = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=600)
    except httpx.InvalidURL as error:
        raise BadInput(f"not a URL: {url!r}: {error}", where="--url") from None
    if tenant != "default":
        with ExitStack() as undo:
            undo.callback(client.close)
            _check_tenant(client, tenant)
            undo.pop_all()
    return client


def _check_tenant(client: httpx.Client, tenant: str) -> None:
    try:
        answer = client.get("/api/v1/auth/me")
        mine = answer.json()["data"]["tenant"] if answer.is_success else tenant
    except httpx.TransportError as error:
        raise Undeliverable(f"{client.base_url} does not answer: {error}", reason="refused", retryable=True) from None
    except (ValueError, KeyError, TypeError):
        return  # no Vedette
    if mine != tenant:
        hint = "a key of that tenant or of an admin says so (--api-key); a server without users and keys has the one tenant"
        raise BadInput(f"{str(client.base_url).rstrip('/')} takes you for tenant {mine!r}, not {tenant!r}", where="--tenant", hint=hint)


def _answered(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    check_known(answer)
    answer.read()
    if answer.status_code in (429, 503):
        wait = answer.headers.get("retry-after", "5")
        raise LimitExceeded(answer.text.strip(), retry_after=float(wait) if wait.isdigit() else 5.0)
    if answer.status_code == 422:
        raise LimitExceeded(answer.text.strip())
    raise Undeliverable(f"{answer.url} answered {answer.status_code}: {answer.text.strip()[:500]}", reason="status", retryable=False)


def _remote(client: httpx.Client, form: Format, match: str) -> Fetch:
    def fetch(start: int, end: int, path: Path) -> Written:
        params = {"match[]": match, "start": f"{start / 1000:.3f}", "end": f"{end / 1000:.3f}", "format": form}
        with client.stream("GET", "/api/v1/export", params=params) as answer, path.open("wb") as file:
            _answered(answer)
            for piece in answer.iter_bytes():
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        named = [unquote(name) for name in answer.headers.get("x-vedette-left-out-metrics", "").split(",") if name]
        written = Written(int(answer.headers["x-vedette-samples"]), int(answer.headers["x-vedette-left-out"]), named)
        if written.samples == 0:
            path.unlink()
        return written

    return fetch


def run_import(paths: Sequence[Path], *, form: Format | None, tenant: str, data: Path, url: str | None, api_key: str | None) -> int:
    """Import files and directories of files. Prints what was stored; answers the exit status: 1 where something was not."""
    files = importing.files_of(paths, form)
    console = Console(stderr=True, highlight=False)
    notes = importing.Notes(files[0][0].parent / ".vedette-import.json", f"{url or data.resolve()} {tenant}")
    with _bar(console) as bar:
        total = sum(path.stat().st_size for path, _ in files)
        task = bar.add_task("importing", total=total, samples=0)
        so_far = Stored()
        before: dict[Path, int] = {}

        def progress(path: Path, at: int, stored: Stored) -> None:
            so_far.add(stored)
            before[path] = at
            ended = sum(min(p.stat().st_size, a) for p, a in before.items())
            bar.update(task, completed=ended, samples=so_far.samples)

        if url:
            work = _into_server(files, _client(url, tenant, api_key), notes, progress, console)
        else:
            work = _into_directory(files, data, tenant, notes, progress)
        found = asyncio.run(work)
    if notes.problem:
        console.print(f"[yellow]how far the import came could not be noted: {notes.problem}[/yellow]")
    print(f"{url or data}: {found.samples:,} samples imported from {len(files)} files")
    if found.known:
        print(f"{found.known:,} samples were there already")
    for reason, count in sorted(found.dropped.items()):
        print(f"{count:,} samples not stored: {reason.replace('_', ' ')}")
    return 1 if found.dropped else 0


async def _into_directory(files: Any, data: Path, tenant: str, notes: importing.Notes, progress: Any) -> Stored:
    settings = StorageSettings(data=data, retention=0, out_of_order_window=_EVER)
    engine = Engine(settings, SystemClock(), limits=Limits(LimitsSettings(_UNLIMITED), window=_EVER))
    keyspace = canonical(tenant)

    async def store(run: Run) -> Stored:
        known = 0
        if not empty:
            run, known = await asyncio.to_thread(importing.without_known, run, partial(engine.select, tenant))
        found = importing.stored_of(await engine.append(importing.batch_of(run, keyspace))) if len(run.times) else Stored()
        found.known = known
        return found

    await engine.start()
    # Of what this import brings, files of an export are no samples of each other; only what was there before needs a look.
    empty = engine.estimate(tenant, None, 0, 0).series == 0
    async with aclosing(_Closing(engine)):
        found = await importing.run(files, store, notes, progress=progress)
        await engine.flush()
    return found


class _Closing:
    """An engine with the name that `aclosing` asks for."""

    def __init__(self, engine: Engine) -> None:
        self.aclose = engine.close


async def _into_server(files: Any, server: httpx.Client, notes: importing.Notes, progress: Any, console: Console) -> Stored:
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
    url = str(server.base_url).rstrip("/")
    with closing(server) as client:
        path = "" if server.base_url.path.strip("/") else "/api/v1/write"
        told: set[str] = set()

        async def store(run: Run) -> Stored:
            total = Stored()
            for body, samples in _bodies(run):
                waited = 0.0
                while True:
                    try:
                        answer = await asyncio.to_thread(client.post, path, content=body, headers=headers)
                        total.add(_told(answer, samples))
                        break
                    except LimitExceeded as error:
                        pause = 5.0 if error.retry_after is None else error.retry_after
                        waited += pause
                        if waited > _PATIENCE:
                            raise Undeliverable(
                                f"{url} takes no more: {error} (run it again to go on)", reason="limit", retryable=True
                            ) from None
                        if str(error) not in told:
                            told.add(str(error))
                            console.print(f"waiting for {url}: {error}", style="yellow", markup=False)
                        await asyncio.sleep(pause)
                    except httpx.TransportError as error:
                        raise Undeliverable(f"{url} does not answer: {error}", reason="refused", retryable=True) from None
            return total

        return await importing.run(files, store, notes, progress=progress)


def _told(answer: httpx.Response, samples: int) -> Stored:
    """What became of a request's samples, by the answer to it."""
    if answer.status_code == 400:
        written = answer.headers.get("x-prometheus-remote-write-samples-written", "")
        stored = int(written) if written.isdigit() else 0
        refused = Stored(stored)
        refused.dropped[answer.text.strip()[:300] or "refused"] = samples - stored
        return refused
    _answered(answer)
    return Stored(samples)


def _bodies(run: Run) -> Sequence[tuple[bytes, int]]:
    """Requests of at most so many samples: a series may be in several, in order of time."""
    out, at, total = [], 0, len(run.times)
    values: list[float | Histogram] = run.values.tolist()
    if run.histograms is not None:
        for j, place in enumerate(run.histograms.at.tolist()):
            values[place] = run.histograms.sample(j)
    while at < total:
        end = min(at + _REQUEST, total)
        first, last = np.searchsorted(run.offsets, [at, end - 1], side="right") - 1
        cuts = np.clip(run.offsets[first : last + 2], at, end)
        out.append((remote_write.render(run.labels[first : last + 1], cuts - at, run.times[at:end], values[at:end]), end - at))
        at = end
    return out
