"""Files of samples in, and on from where an import was interrupted: what an export wrote, and what `promtool tsdb dump` prints.

A file is read piece by piece; after each piece that is stored durably its end is noted. A piece may be stored twice (a crash between
the two): the same sample twice is one sample. Not here: how files are read (`wire/dump.py`, `parquet.py`), where samples go (`Store`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.errors import BadInput, LimitExceeded
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import Histogram, Histograms
from vedette.model.labels import METRIC_NAME
from vedette.model.matchers import Matcher
from vedette.model.samples import Appended, KeySpace, SampleBatch
from vedette.model.series import SeriesSet
from vedette.storage import parquet
from vedette.storage.export import SUFFIXES, Format
from vedette.wire.dump import CsvReader, Run, TextReader

_PIECE = 4 << 20
_ALSO: dict[str, Format] = {".openmetrics": "openmetrics", ".txt": "prometheus", ".dump": "prometheus"}


@dataclass(slots=True)
class Stored:
    """What became of a piece, or of all: samples stored, those that were there before, and those that were not stored, by reason."""

    samples: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    known: int = 0

    def add(self, other: Stored) -> None:
        """Count these, too."""
        self.samples += other.samples
        self.known += other.known
        self.dropped.update(other.dropped)


Store = Callable[[Run], Awaitable[Stored]]
"""Stores samples; they are durable when it returns. Raises `LimitExceeded` (with `retry_after`) where it must be tried again."""


def batch_of(run: Run, keyspace: KeySpace) -> SampleBatch:
    """Samples as storage takes them; `keyspace` is a canonical one."""
    count = len(run.labels)
    batch = SampleBatch.of(keyspace, run.labels, np.zeros(count, np.int64), np.zeros(count), metadata=run.metadata)
    batch.offsets, batch.timestamps, batch.values, batch.histograms = run.offsets, run.times, run.values, run.histograms
    return batch


def stored_of(appended: Appended) -> Stored:
    """What storage says of a batch."""
    return Stored(appended.samples, Counter(appended.dropped))


_BY_NAME = 64
"""From how many series of one metric on all of the metric is read, not one after the other."""

Select = Callable[[Sequence[Matcher], int, int], SeriesSet]


def without_known(run: Run, select: Select) -> tuple[Run, int]:
    """The samples that are not stored yet, and how many are: the same ones, of the same series at the same time.

    So that a file that is imported again leaves no second copy in another block. Raises as `select`.
    """
    keep = np.ones(len(run.times), dtype=np.bool_)
    by_metric: dict[str, list[int]] = {}
    for i, labels in enumerate(run.labels):
        if run.offsets[i + 1] > run.offsets[i]:
            by_metric.setdefault(labels.metric, []).append(i)
    for metric, rows in by_metric.items():
        for some in [rows] if len(rows) >= _BY_NAME else [[row] for row in rows]:
            matchers = [Matcher(n, "=", v) for n, v in run.labels[some[0]]] if len(some) == 1 else [Matcher(METRIC_NAME, "=", metric)]
            stamps = np.concatenate([run.times[run.offsets[i] : run.offsets[i + 1]] for i in some])
            found = select(matchers, int(stamps.min()), int(stamps.max()))
            places = {found.labels.row(j): j for j in range(len(found))} if found.sample_count else {}
            for i in some:
                if (j := places.get(run.labels[i])) is not None:
                    _mark_known(run, i, found, j, keep)
    if keep.all():
        return run, 0
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)])
    native = run.histograms
    if native is not None:
        which = np.flatnonzero(keep[native.at])
        native = native.take(which, before[native.at[which]]) if len(which) else None
    fresh = replace(run, offsets=before[run.offsets], times=run.times[keep], values=run.values[keep], histograms=native)
    return fresh, int(len(keep) - before[-1])


def _mark_known(run: Run, i: int, found: SeriesSet, j: int, keep: NDArray[np.bool_]) -> None:
    """Take from `keep` the samples of series `i` that series `j` of `found` has, to the bit."""
    lo, hi = int(run.offsets[i]), int(run.offsets[i + 1])
    a, b = int(found.offsets[j]), int(found.offsets[j + 1])
    if a == b:
        return
    at = np.minimum(np.searchsorted(found.timestamps[a:b], run.times[lo:hi]) + a, b - 1)
    same = found.timestamps[at] == run.times[lo:hi]
    same &= found.values[at].view(np.int64) == run.values[lo:hi].view(np.int64)
    if run.histograms is None and found.histograms is None:
        keep[lo:hi] &= ~same
        return
    places = np.flatnonzero(same)
    for place, there in zip(places.tolist(), at[places].tolist(), strict=True):
        # So far a histogram is known by its sum.
        mine, known = (_histogram(h, p) for h, p in ((run.histograms, lo + place), (found.histograms, there)))
        same[place] = (mine is None) == (known is None) and (mine is None or known is None or equal(mine, known))
    keep[lo:hi] &= ~same


def _histogram(histograms: Histograms | None, place: int) -> Histogram | None:
    if histograms is None:
        return None
    j = int(np.searchsorted(histograms.at, place))
    return histograms.sample(j) if j < len(histograms) and histograms.at[j] == place else None


def files_of(paths: Sequence[Path], form: Format | None) -> list[tuple[Path, Format]]:
    """The files, those of directories in order of their names, each with its format. Raises `BadInput`."""
    found: list[tuple[Path, Format]] = []
    by_suffix = {suffix: kind for kind, suffix in SUFFIXES.items()} | _ALSO
    for path in paths:
        if path.is_dir():
            inside = sorted((f for f in path.iterdir() if f.suffix in by_suffix), key=_by_number)
            if not inside:
                raise BadInput("no files of samples in it", where=str(path), hint="expected " + ", ".join(sorted(by_suffix)))
            found += [(f, form or by_suffix[f.suffix]) for f in inside]
        elif not path.is_file():
            raise BadInput("no such file", where=str(path))
        elif (kind := form or by_suffix.get(path.suffix) or _sniffed(path)) is None:
            raise BadInput("its format is not known", where=str(path), hint="name it with --format")
        else:
            found.append((path, kind))
    return found


def _by_number(path: Path) -> tuple[int, str]:
    start = path.name.partition("_")[0]
    return (int(start), path.name) if start.lstrip("-").isdigit() else (0, path.name)


def _sniffed(path: Path) -> Format | None:
    """By the last line of a file without a telling name: OpenMetrics says where it ends."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return "openmetrics" if file.read().rstrip().endswith(b"# EOF") else None


def pieces(path: Path, form: Format, start: int) -> Iterator[tuple[Run, int]]:
    """The samples of a file from `start` (a byte, for Parquet a row) on, each piece with where the next one begins.

    Raises `BadInput` for what cannot be read, with file and line, and `OSError`.
    """
    if form == "parquet":
        yield from parquet.read(path, start=start)
        return
    reader = CsvReader(str(path)) if form == "csv" else TextReader(str(path), openmetrics=form == "openmetrics")
    at = 0
    for piece in _lines(path, quotes=form == "csv"):
        at += len(piece)
        if at <= start:
            reader.skip(piece)
        else:
            yield reader.read(piece), at


def _lines(path: Path, *, quotes: bool) -> Iterator[bytes]:
    """Whole lines, as many as make a piece; with `quotes` none ends within a quoted cell. The same pieces each time."""
    with path.open("rb") as file:
        rest = b""
        while data := file.read(_PIECE):
            data = rest + data
            cut = data.rfind(b"\n") + 1
            while quotes and cut and data.count(b'"', 0, cut) % 2:
                cut = data.rfind(b"\n", 0, cut - 1) + 1
            rest = data[cut:]
            if cut:
                yield data[:cut]
        if rest:
            yield rest


class Notes:
    """How far an import has come, in a file beside what is imported; None where it cannot be kept."""

    def __init__(self, path: Path, target: str) -> None:
        self._path = path
        self._target = target
        self._all: dict[str, dict[str, int]] = {}
        self.problem = ""
        try:
            found = orjson.loads(path.read_bytes())
            self._all = found["files"] if found["target"] == target else {}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.problem = f"{path}: {error}"

    def start(self, file: Path) -> int:
        """Where to go on with a file: 0 unless it was begun and has not changed since."""
        note = self._all.get(str(file.resolve()), {})
        status = file.stat()
        return note["at"] if note and (note["size"], note["changed"]) == (status.st_size, status.st_mtime_ns) else 0

    def note(self, file: Path, at: int) -> None:
        """What lies before `at` is stored."""
        status = file.stat()
        self._all[str(file.resolve())] = {"at": at, "size": status.st_size, "changed": status.st_mtime_ns}
        temporary = self._path.with_name(self._path.name + ".tmp")
        try:
            temporary.write_bytes(orjson.dumps({"target": self._target, "files": self._all}))
            temporary.rename(self._path)
        except OSError as error:
            # The import goes on: after an interruption it begins again, which stores nothing twice.
            self.problem = f"{self._path}: {error.strerror}"

    def finish(self) -> None:
        """All is stored."""
        self._path.unlink(missing_ok=True)


async def run(files: Sequence[tuple[Path, Format]], store: Store, notes: Notes, *, progress: Callable[[Path, int, Stored], None]) -> Stored:
    """Import files, one after another; `progress` is told of each piece with the place in its file. Raises as `pieces` and `store`."""
    total = Stored()
    for path, form in files:
        for found, at in pieces(path, form, notes.start(path)):
            nameless = next((labels for labels in found.labels if not labels.metric), None)
            if nameless is not None:
                raise BadInput(f"a series without a name: {nameless}", where=str(path))
            stored = await _patiently(store, found)
            notes.note(path, at)
            total.add(stored)
            progress(path, at, stored)
    notes.finish()
    return total


async def _patiently(store: Store, found: Run) -> Stored:
    while True:
        try:
            return await store(found)
        except LimitExceeded as error:
            if error.retry_after is None:
                raise
            await asyncio.sleep(error.retry_after)
