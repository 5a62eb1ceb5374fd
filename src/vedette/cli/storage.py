"""`vedette storage …`: snapshots, restoring, verifying, and what is in a data directory.

What needs no server works on the directory itself; where a server holds it, a snapshot is asked of that over HTTP, and so
are the largest metrics. Not here: what is done to the files (`storage`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vedette.cli.keys import check_known
from vedette.errors import BadInput, Corrupt, NotFound, Undeliverable
from vedette.model.durations import parse_duration
from vedette.records.copy import copy_records, verify_records

STATE = "vedette.db"
By = Literal["metric", "label", "pair"]


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _exists(data: Path) -> Path:
    if not (data / "blocks").is_dir():
        raise NotFound(f"{data}: no data directory (there is no blocks/ in it); see --data")
    return data


def snapshot(data: Path, *, url: str | None, api_key: str | None) -> None:
    """Take a snapshot of a directory that nobody holds, or (`url`) have a server take one. Prints where it is."""
    if url is not None:
        answer = _request(url, "POST", "/api/v1/admin/tsdb/snapshot", {}, api_key)
        print(f"snapshots/{answer['data']['name']} in the server's data directory")
        return
    from vedette.logs import copies
    from vedette.storage import offline, snapshots, wal
    from vedette.storage.directory import DirectoryLock
    from vedette.storage.disk import Disk

    lock = DirectoryLock(_exists(data))
    lock.take()
    try:
        name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ") + f"-{time.time_ns() & 0xFFFFFFFF:08x}"
        segments = [s.path for s in wal.segments(data / "wal")]
        blocks, rollups = offline.block_paths(data), offline.block_paths(data, "rollups")

        def beside(into: Path) -> None:
            copy_records(data / STATE, into / STATE)
            copies.copy(data / "logs", into / "logs", disk=Disk())
            snapshots.copy_records_of(data / "exemplars", into / "exemplars", disk=Disk())

        made = snapshots.take(data, name, blocks, disk=Disk(), segments=segments, rollups=rollups, beside=beside)
    finally:
        lock.release()
    print(made)


def restore(source: Path, data: Path) -> None:
    """Copy a snapshot to an empty directory and read all of it once. Raises `Corrupt` for the first damage."""
    from vedette.storage import snapshots
    from vedette.storage.directory import DirectoryLock

    console = Console(stderr=True, highlight=False)

    def records() -> None:
        if (source / STATE).exists() and not (data / STATE).exists():
            part = data / f"{STATE}.part"
            part.unlink(missing_ok=True)
            copy_records(source / STATE, part)
            part.rename(data / STATE)

    if not (source / "blocks").is_dir():
        raise BadInput("not a snapshot", where=str(source), hint="a directory that holds blocks/")
    lock = DirectoryLock(data)
    lock.take(restoring=True)
    try:
        total = sum(f.stat().st_size for f in snapshots.files_of(source))
        with _bar(console) as bar:
            task = bar.add_task("copying", total=total)
            snapshots.restore(source, data, progress=lambda _, size: bar.advance(task, size), beside=records)
        found = _verified(console, data)
    finally:
        lock.release()
    if found:
        raise found[0]
    print(f"{data}: {total:,} bytes restored, all whole")


def verify(data: Path) -> int:
    """Read every page and every record; print what is damaged, one a line. Answers the exit status: 1 where anything is."""
    from vedette.storage.directory import DirectoryLock

    console = Console(stderr=True, highlight=False)
    lock = DirectoryLock(_exists(data))
    lock.take()
    try:
        found = _verified(console, data)
    finally:
        lock.release()
    for damage in found:
        print(damage)
    print(f"{data}: {len(found)} damaged places" if found else f"{data}: all whole")
    return 1 if found else 0


def _verified(console: Console, data: Path) -> list[Corrupt]:
    from vedette.logs import copies
    from vedette.storage import offline, snapshots

    found: list[Corrupt] = []
    with _bar(console) as bar:
        task = bar.add_task("reading", total=sum(f.stat().st_size for f in snapshots.files_of(data)))
        for _, size, damage in itertools.chain(offline.verify(data), copies.verify(data / "logs")):
            found += damage
            bar.advance(task, size)
    return found + verify_records(data / STATE)


def stats(data: Path) -> None:
    """A table of the blocks and the size of the log; also of a directory in use."""
    from vedette.storage import offline, wal

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("block", "level", "from", "to", "series", "samples", "bytes", "bytes/sample"):
        table.add_column(name, justify="left" if name in ("from", "to") else "right")
    samples = size = count = 0
    damage: list[str] = []
    for path, meta, nbytes in offline.metas(_exists(data)):
        count, size = count + 1, size + nbytes
        if isinstance(meta, Corrupt):
            table.add_row(path.name[:8], "[red]damaged[/red]")
            damage.append(str(meta.args[0]))
            continue
        samples += meta.samples
        figures = (f"{meta.series:,}", f"{meta.samples:,}", f"{nbytes:,}", f"{nbytes / max(1, meta.samples):.2f}")
        table.add_row(str(meta.sequence), str(meta.level), _when(meta.min_time), _when(meta.max_time), *figures)
    console = Console(highlight=False)
    if count:
        console.print(table)
    for problem in damage:  # whole, however long its path is
        console.print(problem, style="red", markup=False, soft_wrap=True)
    rolled_up = offline.block_paths(data, "rollups")
    if rolled_up:
        console.print(f"{len(rolled_up)} days of rollups: {sum(f.stat().st_size for day in rolled_up for f in day.iterdir()):,} bytes")
    log = sum(s.size for s in wal.segments(data / "wal"))
    console.print(f"{count} blocks: {samples:,} samples in {size:,} bytes ({size / max(1, samples):.2f} a sample); log: {log:,} bytes")


def _when(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(time_ms)


_TITLES: dict[By, tuple[str, str, str]] = {
    "metric": ("metric", "series", "seriesCountByMetricName"),
    "label": ("label", "values", "labelValueCountByLabelName"),
    "pair": ("label and value", "series", "seriesCountByLabelValuePair"),
}


def top(data: Path, *, by: By, limit: int, last: str, growth: bool, url: str | None, api_key: str | None) -> None:
    """What has the most series, or (`growth`) new ones: in a directory, over its last `last`; or (`url`) in a server's memory."""
    name, unit, key = _TITLES[by]
    rows: Sequence[tuple[str, int]]
    if url is not None:
        answer = _request(url, "GET", "/api/v1/status/tsdb", {"limit": str(limit), "growth": str(growth).lower()}, api_key)["data"]
        answer = answer["growth"] | {"headStats": answer["growth"]} if growth else answer
        total, rows = answer["headStats"]["numSeries"], [(row["name"], row["value"]) for row in answer[key]]
    else:
        from vedette.storage import offline

        ends = [meta.max_time for _, meta, _ in offline.metas(_exists(data)) if not isinstance(meta, Corrupt)]
        total, all_, grown = offline.figures(data, since=max(ends, default=0) - parse_duration(last), top=limit)
        figures = grown if growth else all_
        total = grown.series if growth else total
        rows = {"metric": figures.series_by_metric, "label": figures.values_by_label, "pair": figures.series_by_pair}[by]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in (name, f"new {unit}" if growth else unit, "of all"):
        table.add_column(title, justify="left" if title == name else "right", overflow="fold")
    for text, count in rows:
        table.add_row(text, f"{count:,}", f"{count / max(1, total):.1%}" if unit == "series" else "")
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f"{total:,} series that are new in the last hour" if growth else f"{total:,} series")


def _request(url: str, method: str, path: str, params: dict[str, str], api_key: str | None) -> Any:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        answer = httpx.request(method, url.rstrip("/") + path, params=params, headers=headers, timeout=600)
    except httpx.InvalidURL as error:
        raise BadInput(f"not a URL: {url!r}: {error}", where="--url") from None
    except httpx.TransportError as error:
        problem = f"{url} does not answer: {error}; is `vedette serve` running there?"
        raise Undeliverable(problem, reason="refused", retryable=True) from None
    check_known(answer)
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if not answer.is_success:
        problem = f"{url} answered {answer.status_code}: {body.get('error', answer.reason_phrase)}"
        if body.get("error") == "admin APIs disabled":
            problem += " (set vedette.storage.admin_api, or stop the server and name its directory with --data)"
        raise Undeliverable(problem, reason="status", retryable=False)
    return body
