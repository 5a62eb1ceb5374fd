"""Series out into a directory of files, one for each stretch of time, and on from where an export was interrupted.

`export.json` says what is exported; a stretch is done once its file has its name, which it gets when it is whole and synced. Not
here: what stands in a file (`wire/dump.py`, `parquet.py`), where samples come from (the caller's `fetch`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import orjson

from vedette.errors import BadInput, LimitExceeded
from vedette.model.samples import MetricMetadata
from vedette.model.series import SeriesSet
from vedette.storage import parquet
from vedette.wire import dump

Format = Literal["parquet", "csv", "openmetrics", "prometheus"]
SUFFIXES: dict[Format, str] = {"parquet": ".parquet", "csv": ".csv", "openmetrics": ".om", "prometheus": ".prom"}
_DAY = 86_400_000
_TEMPORARY = ".part"
_CELLS = 20_000_000
"""Buckets of native histograms in one file."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is exported: a tenant's series that pass `match` (a selector as text), in [start, end] (ms), from where."""

    format: Format
    tenant: str
    match: str
    start: int
    end: int
    source: str


@dataclass(slots=True)
class Written:
    """What came of a stretch: 0 samples where it has none and no file was made; `left_out` have no room in the format."""

    samples: int = 0
    left_out: int = 0
    metrics: Sequence[str] = ()
    """Those of which something was left out."""


Fetch = Callable[[int, int, Path], Written]
"""Writes the samples of [start, end] to a file and syncs it. Raises `LimitExceeded` where they are too many for one file."""


def begun(directory: Path) -> Wanted | None:
    """What is being exported into a directory, None where nothing is. Raises `BadInput`."""
    path = directory / "export.json"
    if not path.exists():
        return None
    try:
        return Wanted(**orjson.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise BadInput(f"cannot be read: {error}", where=str(path)) from None


class Export:
    """One export into `directory`."""

    def __init__(self, directory: Path, wanted: Wanted) -> None:
        """Begin it, or go on with it. Raises `BadInput` where another one lies there, `OSError`."""
        self.directory = directory
        self.wanted = wanted
        path = directory / "export.json"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if (found := begun(directory)) is not None:
                self._same(found)
            elif any(directory.iterdir()):
                raise BadInput("not empty", where=str(directory), hint="export into a directory of its own")
            else:
                _synced(path, orjson.dumps(asdict(wanted), option=orjson.OPT_INDENT_2))
        except FileExistsError:
            raise BadInput("not a directory", where=str(directory)) from None

    def _same(self, found: Wanted) -> None:
        if found != self.wanted:
            other = ", ".join(f"{k} {v!r}" for k, v in asdict(found).items() if v != asdict(self.wanted)[k])
            hint = "go on with that one, or name another directory"
            raise BadInput(f"another export lies there ({other})", where=str(self.directory), hint=hint)

    def done(self) -> list[tuple[int, int]]:
        """The stretches that have their file, in order."""
        pattern = re.compile(r"(-?\d+)_(-?\d+)" + re.escape(SUFFIXES[self.wanted.format]))
        return sorted((int(m[1]), int(m[2])) for f in self.directory.iterdir() if (m := pattern.fullmatch(f.name)))

    def gaps(self) -> list[tuple[int, int]]:
        """What is still to be exported, in order."""
        at, found = self.wanted.start, []
        for lo, hi in self.done():
            if lo > at:
                found.append((at, lo - 1))
            at = max(at, hi + 1)
        return [*found, (at, self.wanted.end)] if at <= self.wanted.end else found

    def run(self, fetch: Fetch) -> Iterator[tuple[int, Written]]:
        """Export what is missing: (ms of time, what came of them), one stretch after another, a day at most."""
        for rest in self.directory.glob(f"*{_TEMPORARY}"):
            rest.unlink()
        span = _DAY
        for gap, last in self.gaps():
            start = gap
            while start <= last:
                end = min(last, (start // span + 1) * span - 1)
                path = self.directory / f"{start}_{end}{SUFFIXES[self.wanted.format]}"
                temporary = path.with_name(path.name + _TEMPORARY)
                try:
                    written = fetch(start, end, temporary)
                except LimitExceeded as error:
                    if error.retry_after is not None or span == 1:
                        raise
                    span = max(1, span // 2)  # for those that follow, too: they are alike
                    continue
                if written.samples:
                    temporary.rename(path)
                    _sync_directory(self.directory)
                yield end - start + 1, written
                start = end + 1


def write(series: SeriesSet, path: Path, form: Format, *, metadata: list[MetricMetadata]) -> Written:
    """Write a file of these samples, synced, unless there are none. Raises `OSError`, and `LimitExceeded` for too many buckets."""
    written = written_of(series, form)
    if written.samples == 0:
        return written
    if form == "parquet":
        parquet.write(series, path)
    else:
        with path.open("wb") as file:
            for piece in dump.render(series, form, metadata=metadata):
                file.write(piece)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return written


def written_of(series: SeriesSet, form: Format) -> Written:
    """What a file of these samples has, and has not. Raises `LimitExceeded` where native histograms are too many for one."""
    count = dump.histogram_count(series)
    if form == "parquet":
        if series.histograms is not None and len(series.histograms.cells) > _CELLS:
            raise LimitExceeded(f"native histograms of more than {_CELLS} buckets at once; narrow the range or the matchers")
        return Written(series.sample_count)
    return Written(series.sample_count - count, count, dump.histogram_metrics(series))


def _synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
