"""LogQL run over the store: lines with their labels, and the series of metric queries.

Counting without aggregation below it, and numbers of a label that the store can read itself, are done there, over columns; any other
pipeline goes line by line. Not here: reading (`parser.py`), HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson

from vedette.errors import BadInput, LimitExceeded
from vedette.logs.database import LogRow
from vedette.logs.logql import vectors, windows
from vedette.logs.logql.nodes import Aggregated, Binary, Grouping, Metric, Number, Pipeline, Ranged, Replaced, Unwrap, Vector, leaves
from vedette.logs.logql.points import ABSENT, absent
from vedette.logs.logql.pushed import Pushed, column_of, pushed
from vedette.logs.logql.stages import DETAILS, ERROR, STREAM, Line, condition, number_of, program, run
from vedette.logs.logql.tokens import bytes_of, duration_of
from vedette.logs.logql.vectors import Key, Series
from vedette.logs.query import MAX_TIME, MIN_TIME, LogQuery, Reader
from vedette.logs.store import LogStore

_MOST_SPANS = 200_000
_MOST_SAMPLES = 5_000_000
_MOST_SERIES = 50_000
_LONGEST = 10 * 365 * 86_400 * 10**9
_COUNTS = ("count_over_time", "rate", "bytes_over_time", "bytes_rate")
# Functions that a sum, a least or a greatest over series makes of all their samples at once.
_MERGED = {"sum": ("sum_over_time", "rate", *_COUNTS), "min": ("min_over_time",), "max": ("max_over_time",)}
_WANTED = {"": "a number", "bytes": "a size"}
_Samples = dict[Key, tuple[windows.Ints, windows.Floats]]


@dataclass(frozen=True, slots=True)
class Steps:
    """Points in time in ns: `count` of them, `step` apart, the first at `start`."""

    start: int
    step: int
    count: int

    @property
    def times(self) -> list[float]:
        """Unix seconds."""
        return [(self.start + i * self.step) / 1e9 for i in range(self.count)]


async def lines(store: LogStore, tenant: str, asked: Pipeline, query: LogQuery) -> list[Line]:
    """The first lines that a log query gives; of `query` the times, the order and the limit count. Raises `BadInput`, `LimitExceeded`."""
    part = pushed(asked, unread=True)
    limits = {"start": query.start, "end": query.end, "limit": query.limit, "newest_first": query.newest_first, "total": False}
    wanted = replace(part.query, **limits, since_seq=query.since_seq)  # type: ignore[arg-type]  # the fields' own types
    if part.whole:
        page = await store.search(tenant, wanted)
        steps = program(asked.stages, filters=False)
        found = [_line(row) for row in page.rows]
        for line in found:
            run(steps, line)
        return found
    steps = program(asked.stages)

    def work(batches: Iterator[list[LogRow]]) -> list[Line]:
        kept = (line for rows in batches for line in map(_line, rows) if run(steps, line))
        return list(itertools.islice(kept, query.limit))

    return await store.lines_through(tenant, wanted, work)


def _line(row: LogRow) -> Line:
    return Line(row.time, row.seq, row.level, row.service, row.message, fields=orjson.loads(row.fields))


async def evaluate(store: LogStore, tenant: str, asked: Metric, steps: Steps) -> Series | float:
    """The series, or the number, that a metric query gives. Raises `BadInput`, `LimitExceeded`."""
    named = tuple(dict.fromkeys(n for node in leaves(asked) for n in _named(node)))
    return await _Run(store, tenant, steps, named).of(asked)


def _named(node: Metric) -> tuple[str, ...]:
    match node:
        case Aggregated():
            return node.grouping.labels
        case Ranged():
            return node.grouping.labels if node.grouping else ()
        case Binary():
            return (*node.labels, *node.included)
        case Replaced():
            return (node.source,)
    return ()


@dataclass(frozen=True, slots=True)
class _Run:
    store: LogStore
    tenant: str
    steps: Steps
    named: tuple[str, ...]
    """Labels that anything in the query names: fields are labels of series only where somebody asks for them."""

    async def of(self, node: Metric, above: Aggregated | None = None) -> Series | float:
        match node:
            case Number():
                return node.value
            case Vector():
                return {(): np.full(self.steps.count, node.value)}
            case Ranged():
                return await self.ranged(node, above)
            case Aggregated():
                return vectors.aggregate(node, await self.series(node.of, node), self.steps.count)
            case Replaced():
                return await asyncio.to_thread(vectors.replaced, node, await self.series(node.of))
            case Binary():
                return await self.binary(node)

    async def series(self, node: Metric, above: Aggregated | None = None) -> Series:
        found = await self.of(node, above)
        if isinstance(found, float):
            raise BadInput("a number has no series", hint="expected a metric query, or vector(1)")
        return found

    async def binary(self, node: Binary) -> Series | float:
        left, right = await self.of(node.left), await self.of(node.right)
        if isinstance(left, float) and isinstance(right, float):
            return vectors.scalars(node, left, right)
        if isinstance(left, float):
            assert isinstance(right, dict)
            return vectors.with_scalar(node, right, left, scalar_left=True)
        if isinstance(right, float):
            return vectors.with_scalar(node, left, right, scalar_left=False)
        return vectors.binary(node, left, right)

    # -- functions of ranges -----------------------------------------------------------------------------------------------

    async def ranged(self, node: Ranged, above: Aggregated | None) -> Series:
        if max(node.range_ns, abs(node.offset_ns)) > _LONGEST:
            raise BadInput("a range or an offset of more than ten years")
        first = self.steps.start - node.offset_ns
        begin, end = first - node.range_ns, first + (self.steps.count - 1) * self.steps.step
        if begin <= MIN_TIME or end + node.range_ns >= MAX_TIME:
            raise BadInput("a time before 1678 or after 2262")
        part = pushed(node.pipeline)
        labels = self._labels(node, part, above)
        query = replace(part.query, start=begin + 1, end=end + 1, total=False)
        part = replace(part, query=query)
        if node.unwrap is None and labels is not None and node.op != "absent_over_time":
            counted = await self._counted(node, part, labels, begin=begin, end=end)
            if counted is not None:
                return counted
        ends = np.array([first + i * self.steps.step for i in range(self.steps.count)], np.int64)
        if labels is not None and node.unwrap is not None and not node.unwrap.conversion and not node.unwrap.after:
            samples = await self._read(node.unwrap, part, labels)
        else:
            samples = await self._walked(node, part)
        if node.op == "absent_over_time":
            return _absent(node, samples, ends)
        out: Series = {}
        for key, (times, values) in samples.items():
            found = windows.over(node.op, times, values, ends=ends, range_ns=node.range_ns, parameter=node.parameter)
            if not absent(found).all():
                out[key] = found
        return out

    def _labels(self, node: Ranged, part: Pushed, above: Aggregated | None) -> tuple[str, ...] | None:
        """By which labels the store is to group, None where it cannot do the pipeline, or not tell its series apart."""
        if not part.whole:
            return None
        merged = above is not None and node.op in _MERGED.get(above.op, ())
        grouping = node.grouping or (above.grouping if merged and above is not None else None)
        if grouping is not None and not grouping.without:
            names: tuple[str, ...] = grouping.labels
        elif part.parser or any(n.endswith("_extracted") for n in self.named):
            return None  # each label that a parser finds makes a series of its own
        elif grouping is not None:
            names = tuple(n for n in self._own() if n not in {"service_name" if n == "service" else n for n in grouping.labels})
        else:
            names = self._own()
        return None if any(n.endswith("_extracted") or n.startswith("__") for n in names) else names

    def _own(self) -> tuple[str, ...]:
        return (*STREAM, *(n for n in self.named if n not in STREAM))

    async def _counted(self, node: Ranged, part: Pushed, labels: Sequence[str], *, begin: int, end: int) -> Series | None:
        """Lines or bytes counted by the store in narrow spans; windows are differences of running sums. None for too many spans."""
        steps = self.steps
        width = math.gcd(node.range_ns, steps.step) if steps.count > 1 else node.range_ns
        spans = (end - begin) // width
        if spans > _MOST_SPANS:
            return None
        columns = [(column_of(n) or n, part.parser) for n in labels]
        found = await self.store.windows(self.tenant, part.query, begin=begin, width=width, labels=columns)
        per = node.range_ns // width
        ahead = per + np.arange(steps.count) * (steps.step // width)
        out: Series = {}
        for texts, counts in found.items():
            running = np.zeros(spans + 1)
            for span, (count, size) in counts.items():
                running[span] = size if node.op.startswith("bytes") else count
            running = np.cumsum(running)
            values = running[ahead] - running[ahead - per]
            if node.op.endswith("rate"):
                values /= node.range_ns / 1e9
            if (values > 0).any():
                out[_key(labels, columns, texts)] = np.where(values > 0, values, ABSENT)
        return out

    async def _read(self, unwrap: Unwrap, part: Pushed, labels: Sequence[str]) -> _Samples:
        columns = [(column_of(n) or n, part.parser) for n in labels]
        found = await self.store.samples(self.tenant, part.query, value=(unwrap.label, part.parser), labels=columns)
        if found.misread:
            raise _not_extracted(unwrap, found.misread)
        return {_key(labels, columns, texts): samples for texts, samples in found.by.items()}

    async def _walked(self, node: Ranged, part: Pushed) -> _Samples:
        """Samples line by line."""
        steps = program(node.pipeline.stages, unread=False)
        value = _value_of(node)
        named, unwrapped = set(self.named), node.unwrap.label if node.unwrap else ""
        grouping = node.grouping

        def work(batches: Iterator[list[LogRow]]) -> _Samples:
            found: dict[Key, tuple[list[int], list[float]]] = {}
            count = 0
            for row in itertools.chain.from_iterable(batches):
                line = _line(row)
                if not run(steps, line) or (number := value(line)) is None:
                    continue
                times, values = found.setdefault(_series(line, named, unwrapped, grouping), ([], []))
                times.append(line.time)
                values.append(number)
                count += 1
                if count > _MOST_SAMPLES or len(found) > _MOST_SERIES:
                    raise LimitExceeded(f"more than {_MOST_SAMPLES:,} samples, or {_MOST_SERIES:,} series: ask for a shorter time")
            return {key: (np.array(t, np.int64), np.array(v)) for key, (t, v) in found.items()}

        return await self.store.lines_through(self.tenant, replace(part.query, newest_first=False), work)


def _key(labels: Sequence[str], columns: Sequence[tuple[str, Reader]], texts: Sequence[str]) -> Key:
    found = ((n, text or ("unknown_service" if c == "service" else "")) for n, (c, _), text in zip(labels, columns, texts, strict=True))
    return tuple(sorted((n, v) for n, v in found if v))


def _series(line: Line, named: set[str], unwrapped: str, grouping: Grouping | None) -> Key:
    labels = {n: v for n, v in line.labels.items() if n != unwrapped and (n in STREAM or n in line.touched or n in named)}
    for alias in named & {"service", "detected_level"}:
        labels[alias] = line.get(alias)
    for name in {ERROR, DETAILS} - named:
        labels.pop(name, None)
    key = tuple(sorted((n, v) for n, v in labels.items() if v))
    return key if grouping is None else vectors.grouped(key, grouping)


def _value_of(node: Ranged) -> Callable[[Line], float | None]:
    """The sample that a line is, None where it is none."""
    unwrap = node.unwrap
    if unwrap is None:
        if node.op.startswith("bytes"):
            return lambda line: float(len(line.text.encode("utf-8", "replace")))
        return lambda line: 1.0
    read = {"": number_of, "bytes": bytes_of}.get(unwrap.conversion, duration_of)
    after = [condition(stage.condition, unread=False) for stage in unwrap.after]

    def value(line: Line) -> float | None:
        text = line.get(unwrap.label)
        if not text:
            return None
        found = read(text)
        if found is None:
            line.failed("SampleExtractionErr", f"not {_WANTED.get(unwrap.conversion, 'a duration')}: {text[:60]!r}")
        if not run(after, line):
            return None
        if found is None:
            raise _not_extracted(unwrap, text)
        return found

    return value


def _not_extracted(unwrap: Unwrap, text: str) -> BadInput:
    wanted = _WANTED.get(unwrap.conversion, "a duration")
    return BadInput(
        f"pipeline error: 'SampleExtractionErr': label {unwrap.label} is not {wanted}: {text[:60]!r}",
        hint='a label filter skips such lines: | __error__=""',
    )


def _absent(node: Ranged, samples: _Samples, ends: windows.Ints) -> Series:
    present = np.zeros(len(ends), np.bool_)
    for times, _ in samples.values():
        present |= np.searchsorted(times, ends, side="right") > np.searchsorted(times, ends - node.range_ns, side="right")
    key = tuple(sorted((m.name, m.value) for m in node.pipeline.matchers if m.op == "=" and m.value))
    return {} if present.all() else {key: np.where(present, ABSENT, 1.0)}
