"""A query's answer: as Prometheus' JSON, as columns for rules, as rows for people and tests."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels import render, shortest
from vedette.kernels.digits import NUMBER_BYTES, SPARE
from vedette.kernels.dump import TEXT_NAN
from vedette.model.histograms import Histogram
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable, remembered
from vedette.model.series import SeriesSet
from vedette.promql import labelsets
from vedette.promql.decimals import Decimals
from vedette.promql.format import json_float
from vedette.promql.native_pool import Natives
from vedette.promql.native_render import JsonHistograms
from vedette.promql.recurring import Recurring
from vedette.promql.statistics import Statistics
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix, Scalar, Value, Windows

ResultType = Literal["scalar", "string", "vector", "matrix"]

_FEW_ROWS = 24
_FEW_TEXTS = 4
"""Values of an instant that are written one by one."""
_NAN = np.array(TEXT_NAN).view(np.float64)[()]
_CHUNK_POINTS, _CHUNK_ROWS = 1 << 16, 4096
_PIECE_BYTES = 1 << 20
"""Of a large answer."""
_AHEAD = 3
"""Pieces of a large answer that are made at a time: two threads make them, and one is being sent."""
_MEASURED_POINTS = 1 << 22
"""Points of an answer of raw samples whose size is told before it is written: their numbers, as `_Numbers`, are held meanwhile."""
_ROW_BYTES = 40
_FRAME = (b'{"metric":{', b'},"values":[', b'},"value":', b"]}", b"}")
# Writable, as kernels are compiled for; nobody writes.
_FRAME_TEXT = np.frombuffer(bytearray(b"".join(_FRAME) + bytes(SPARE)), dtype=np.uint8)
_FRAME_OFFSETS = np.array(tuple(itertools.accumulate(map(len, _FRAME), initial=0)), dtype=np.int64)
# What a result has as long as nothing was put in. Nobody writes into these either.
_NO_INTS, _FROM_ZERO, _NO_FLOATS = np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(0)
_FRAME_BYTES = tuple(len(_FRAME[0] + _FRAME[middle] + _FRAME[middle + 2]) for middle in (1, 2))
"""What stands around the labels and the points of a row of a matrix, and of a vector."""


class QueryResult:
    """What a query gave, and at what cost (`statistics`).

    `type` is Prometheus' result type; warnings and infos are whole messages with positions.
    """

    def __init__(
        self,
        value: Value | Decimals,
        grid: Grid,
        *,
        range_query: bool,
        warnings: list[str],
        infos: list[str],
        recurring: Recurring | None = None,
    ) -> None:
        """`recurring` knows the order of label sets that came before."""
        self._grid = grid
        self.warnings = warnings
        self.infos = infos
        self.statistics = Statistics()
        self.pool: ThreadPoolExecutor | None = None
        """Where large answers are written side by side; None: one piece after another."""
        self._buffers: list[NDArray[np.uint8]] = []
        self._outline: _Outline | None = None
        self._recurring: Recurring | None = None
        self._decimals: Decimals | None = None
        """The points of a large answer, until somebody wants all of them as columns."""
        self._text = ""
        self._labels: LabelTable | None = None
        self._order: Ints = _NO_INTS
        self._offsets: Ints = _FROM_ZERO
        self._times: Ints = _NO_INTS
        self._floats: Floats = _NO_FLOATS
        self._histograms: Natives | None = None
        self.type: ResultType
        if isinstance(value, str):
            self.type, self._text = "string", value
        elif isinstance(value, Scalar) and not range_query:
            self.type, self._floats = "scalar", value.values
        elif isinstance(value, Windows):
            self.type = "matrix"
            self._take_windows(value)
        else:
            self.type = "matrix" if range_query else "vector"
            self._recurring = recurring
            order = labelsets.sorted_rows if recurring is None else recurring.order
            if isinstance(value, Decimals):
                self._take_decimals(value, order)
            else:
                assert isinstance(value, Matrix)
                self._take_matrix(value, order)

    def _take_decimals(self, found: Decimals, order: Callable[[LabelTable], Ints]) -> None:
        self._decimals, self._labels = found, found.labels
        # Rows that are absent throughout are left out of the order: of another table all that is kept would have to be made anew.
        rows = order(found.labels) if self.type == "matrix" else np.arange(len(found), dtype=np.int64)
        self._order = rows if found.counts.all() else rows[found.counts[rows] > 0]
        self._offsets = np.zeros(len(self._order) + 1, dtype=np.int64)
        np.cumsum(found.counts[self._order], out=self._offsets[1:])

    def _take_matrix(self, matrix: Matrix, order: Callable[[LabelTable], Ints]) -> None:
        found = matrix.found()
        self._labels = found.labels
        self._order = order(found.labels) if self.type == "matrix" else np.arange(len(found), dtype=np.int64)
        self._take_cells(np.ascontiguousarray(found.values), np.ascontiguousarray(found.present))
        if found.histograms is not None and found.native.any():
            self._histograms = found.histograms.at(self._order).at(found.present[self._order])

    def _take_cells(self, values: Floats, present: Bools) -> None:
        """The values of a matrix where they are `present`, row by row in the order of the result."""
        total = int(np.count_nonzero(present))
        self._offsets = np.empty(len(self._order) + 1, dtype=np.int64)
        self._times, self._floats = np.empty(total, dtype=np.int64), np.empty(total)
        render.flatten(values, present, self._order, self._grid.start, self._grid.step, self._offsets, self._times, self._floats)

    def _take_windows(self, over: Windows) -> None:
        end = over.first
        rows: list[int] = []
        parts: list[tuple[int, int]] = []
        for row in labelsets.sorted_rows(over.labels).tolist():
            lo, hi = int(over.offsets[row]), int(over.offsets[row + 1])
            times = over.timestamps[lo:hi]
            a, b = (int(np.searchsorted(times, t, side="right")) for t in (end - over.range, end))
            if b > a:
                rows.append(row)
                parts.append((lo + a, lo + b))
        self._labels = over.labels
        self._order = np.array(rows, dtype=np.int64)
        self._offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([b - a for a, b in parts], out=self._offsets[1:])
        if parts:
            self._times = np.concatenate([over.timestamps[a:b] for a, b in parts])
            self._floats = np.concatenate([over.values[a:b] for a, b in parts])
            if over.natives is not None:
                self._histograms = Natives(np.concatenate([over.natives.index[a:b] for a, b in parts]), over.natives.pool)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def times(self) -> Ints:
        """The query's steps: int64[n], ms."""
        return self._grid.times

    @property
    def points(self) -> int:
        """How many values the result holds."""
        return len(self._floats) if self._decimals is None else int(self._offsets[-1])

    def _as_columns(self) -> None:
        """Have all points in `_times` and `_floats`."""
        if self._decimals is not None:
            self._times, self._floats = self._decimals.columns(self._order, self._grid)
            self._decimals = self._outline = None

    def vector(self) -> tuple[LabelTable, Floats, int]:
        """The labels, the values (float64[n]) and the time (ms) of an instant query's vector; a scalar is one row without labels.

        Native histograms are left out: they have no one value (`histogram_rows` has them).
        """
        if self.type == "scalar":
            nothing = np.zeros(0, dtype=np.int32)
            table = LabelTable.from_labels([]) if self._labels is None else self._labels
            return LabelTable(table.symbols, np.zeros(2, dtype=np.int64), nothing, nothing), self._floats, self._grid.start
        assert self.type == "vector" and self._labels is not None, "only a vector or scalar result has columns"
        self._as_columns()
        if self._histograms is not None:
            floats = np.flatnonzero(~self._histograms.mask)
            return self._labels.take(floats), self._floats[floats], self._grid.start
        return self._labels, self._floats, self._grid.start

    def series(self, limit: int = 0) -> SeriesSet:
        """The same as columns, the first `limit` series (0: all); a scalar is one series without labels. Native histograms are left out.

        A NaN is the usual one: which of many it is means nothing in a result. Raises `BadInput` for a string.
        """
        if self.type == "string":
            raise BadInput("a string is no table")
        if self._labels is None:
            labels = LabelTable.from_labels([Labels()])
            return SeriesSet(labels, np.array([0, 1], dtype=np.int64), np.array([self._grid.start], dtype=np.int64), self._floats)
        self._as_columns()
        count = min(limit, len(self)) if limit else len(self)
        offsets = self._offsets[: count + 1]
        times, floats = self._times[: offsets[-1]], self._floats[: offsets[-1]]
        if self._histograms is not None:
            kept = ~self._histograms.mask[: offsets[-1]]
            before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept, dtype=np.int64)])
            offsets, times, floats = before[offsets], times[kept], floats[kept]
        floats = np.where(np.isnan(floats), _NAN, floats)
        return SeriesSet(self._labels.take(self._order[:count]), offsets, times, floats)

    def rows(self) -> list[tuple[Labels, Ints, Floats]]:
        """Each series with its times (int64 ms) and values (float64); a scalar has no labels, a string is not a row.

        Native histograms are left out, and so are series that have nothing else.
        """
        if self.type == "scalar":
            return [(Labels(), np.array([self._grid.start], dtype=np.int64), self._floats)]
        if self._labels is None:
            return []
        self._as_columns()
        bounds = self._offsets.tolist()
        if self._histograms is not None:
            kept = ~self._histograms.mask
            return [
                (self._labels.row(row), self._times[lo:hi][kept[lo:hi]], self._floats[lo:hi][kept[lo:hi]])
                for row, lo, hi in zip(self._order.tolist(), bounds, bounds[1:], strict=False)
                if kept[lo:hi].any()
            ]
        return [
            (self._labels.row(row), self._times[lo:hi], self._floats[lo:hi])
            for row, lo, hi in zip(self._order.tolist(), bounds, bounds[1:], strict=False)
        ]

    def histogram_rows(self) -> list[tuple[Labels, Ints, list[Histogram]]]:
        """Each series that has native histograms, with their times (int64 ms) and the histograms."""
        if self._histograms is None or self._labels is None:
            return []
        bounds = self._offsets.tolist()
        native, objects = self._histograms.mask, self._histograms.objects
        return [
            (self._labels.row(row), self._times[lo:hi][native[lo:hi]], objects[lo:hi][native[lo:hi]].tolist())
            for row, lo, hi in zip(self._order.tolist(), bounds, bounds[1:], strict=False)
            if native[lo:hi].any()
        ]

    @property
    def text(self) -> str:
        """The value of a string result."""
        return self._text

    def json(self, limit: int = 0) -> bytes:
        """The `data` object of Prometheus' answer; at most `limit` series unless 0."""
        return b"".join(self.parts(limit))

    def parts(self, limit: int = 0) -> Sequence[bytes | memoryview]:
        """`json` in parts that follow one another, as they were written: whoever puts something around them copies them once."""
        rows = len(self._order)
        if limit or self._histograms is not None or self._decimals is not None or self.points > _CHUNK_POINTS or self._grid.start < 0:
            return tuple(self.pieces(limit))
        if self.type == "scalar":
            value = json_float(float(self._floats[0])).encode()
            return (b'{"resultType":"scalar","result":[%b,"%b"]}' % (_seconds(self._grid.start), value),)
        if not 0 < rows <= _CHUNK_ROWS:
            return tuple(self.pieces(limit))
        texts = self._texts_of(rows)
        if self.type == "vector" and rows <= _FEW_TEXTS:
            return self._few(texts)
        return self._whole(texts)

    def _whole(self, texts: Texts) -> Sequence[bytes | memoryview]:
        """The same of all series as one chunk, by fewer steps: of some points these take longer than to write them."""
        numbers = self._numbers_of(self._times, self._floats)
        buffer = np.empty(self._text_bytes(texts) + len(texts.rows) * _ROW_BYTES + len(self._floats) * render.POINT_BYTES, dtype=np.uint8)
        size = self._rendered(texts, texts.rows, self._offsets, numbers, buffer)
        return self._head, b"[", buffer[: size - 1].data, b"]}"

    def _text_bytes(self, texts: Texts) -> int:
        """The most bytes that the labels of all rows take."""
        return int(texts.sizes[texts.rows].sum())

    def _few(self, texts: Texts) -> Sequence[bytes]:
        """The same of a few values at one time: to call a kernel takes longer than to write them."""
        when, pool, ends = _seconds(self._grid.start), texts.pool, texts.pool_offsets
        pairs = zip(texts.rows.tolist(), self._floats.tolist(), strict=True)
        rows = [
            b'{"metric":{%b},"value":[%b,"%b"]}' % (pool[ends[row] : ends[row + 1]].tobytes(), when, json_float(value).encode())
            for row, value in pairs
        ]
        return self._head, b"[", b",".join(rows), b"]}"

    @property
    def _head(self) -> bytes:
        return b'{"resultType":"' + self.type.encode() + b'","result":'

    def pieces(self, limit: int = 0) -> Iterator[bytes | memoryview]:
        """`json` piece by piece, of a megabyte or two each, the next ones being made while one is taken."""
        head = self._head
        if self.type == "string":
            yield head + b"[" + _time(self._grid.start) + b"," + orjson.dumps(self._text) + b"]}"
        elif self.type == "scalar":
            yield head + _points(np.array([self._grid.start]), self._floats) + b"}"
        else:
            count = len(self._order) if limit <= 0 else min(limit, len(self._order))
            yield head + b"["
            if self._histograms is None:
                yield from self._chunks(count)
            else:
                yield from self._mixed(count)
            yield b"]}"

    def _mixed(self, count: int) -> Iterator[bytes]:
        """The first `count` series, of which some have native histograms, with what separates them, in pieces."""
        assert self._histograms is not None
        natives = self._histograms
        table = natives.pool.table
        json_of = JsonHistograms(natives.pool)
        widths = np.where(natives.mask, table.widths[natives.pool.layout[natives.index]] if len(natives.pool) else 0, 1)
        work = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(widths)])[self._offsets]
        lo = 0
        while lo < count:
            hi = min(count, max(lo + 1, int(np.searchsorted(work, work[lo] + _CHUNK_POINTS, side="right")) - 1))
            a, b = int(self._offsets[lo]), int(self._offsets[hi])
            there = a + np.flatnonzero(natives.mask[a:b])
            text, ends = json_of.points(natives.index[there], self._times[there])
            cuts = np.searchsorted(there, self._offsets[lo : hi + 1])
            bounds = np.concatenate([np.zeros(1, dtype=np.int64), ends])[cuts].tolist()
            rows = [self._mixed_row(i, text[bounds[i - lo] : bounds[i - lo + 1]]) for i in range(lo, hi)]
            yield b",".join(rows) if hi == count else b",".join(rows) + b","
            lo = hi

    def _mixed_row(self, i: int, points: memoryview) -> bytes:
        """The i-th series, of whose native histograms `points` is the text."""
        assert self._labels is not None and self._histograms is not None
        lo, hi = int(self._offsets[i]), int(self._offsets[i + 1])
        single = self.type == "vector"
        text = b'{"metric":' + orjson.dumps(self._labels.row(int(self._order[i])).as_dict())
        # Whatever points there are, a comma follows the last one.
        if not self._histograms.mask[lo:hi].all():
            pairs = zip(self._times[lo:hi].tolist(), self._floats[lo:hi].tolist(), self._histograms.mask[lo:hi].tolist(), strict=True)
            floats = b"".join(b"[" + _time(time) + f',"{json_float(value)}"],'.encode() for time, value, native in pairs if not native)
            text += b',"value":' + floats[:-1] if single else b',"values":[' + floats[:-1] + b"]"
        if len(points):
            text += b',"histogram":' + points[:-1] if single else b',"histograms":[' + points[:-1] + b"]"
        return text + b"}"

    def measured(self, limit: int = 0) -> int | None:
        """How many bytes `pieces` has, before any of it is written; None where that would take as long as to write it.

        What was found out on the way is kept for `pieces`.
        """
        if self._labels is None or self._histograms is not None or not self.points:
            return None
        if self._decimals is None and self.points > _MEASURED_POINTS:
            return None
        count = len(self._order) if limit <= 0 else min(limit, len(self._order))
        outline = self._outlined(count) if self._decimals is not None else self._measured_rows(count)
        self._outline = outline
        # The last of all is followed by no comma.
        return len(self._head) + 1 + int(sum(outline.sizes)) - 1 + len(b"]}")

    def _outlined(self, count: int) -> _Outline:
        """Of decimals, whose sizes are known."""
        assert self._decimals is not None, "asked only where there are"
        texts = self._texts_of(count)
        upto = self._row_sizes(texts, self._decimals.sizes[self._order[:count]])
        cuts = [0]
        while cuts[-1] < count:
            hi = int(np.searchsorted(upto, upto[cuts[-1]] + _PIECE_BYTES, side="right")) - 1
            cuts.append(min(count, max(hi, cuts[-1] + 1)))
        return _Outline(count, texts, list(itertools.pairwise(cuts)), [], np.diff(upto[cuts]).tolist())

    def _measured_rows(self, count: int) -> _Outline:
        parts, each = self._parts(count), map if self.pool is None else self.pool.map
        texts = self._texts_of(count)
        numbers = list(each(self._numbers, parts))
        points = np.empty(count, dtype=np.int64)

        def measure(part: tuple[int, int], numbers: _Numbers) -> None:
            lo, hi = part
            render.measure_rows(self._offsets[lo : hi + 1] - int(self._offsets[lo]), *numbers, points[lo:hi])

        list(each(measure, parts, numbers))
        upto = self._row_sizes(texts, points)
        return _Outline(count, texts, parts, numbers, [int(upto[hi] - upto[lo]) for lo, hi in parts])

    def _row_sizes(self, texts: Texts, points: Ints) -> Ints:
        """How many bytes the rows up to each one have, where their points have so many: int64[n + 1]."""
        rows = texts.rows[: len(points)]
        labels = texts.sizes[rows] - (np.diff(texts.offsets)[rows] > 0)
        upto = np.zeros(len(points) + 1, dtype=np.int64)
        np.cumsum(points + labels + _FRAME_BYTES[self.type == "vector"] + 1, out=upto[1:])
        return upto

    def _texts_of(self, count: int) -> Texts:
        assert self._labels is not None, "of vectors and matrices"
        table = self._labels
        if count <= _FEW_ROWS:
            return few_texts(table, self._order[:count])
        if self._recurring is None:
            return _texts(table, self._order)
        return self._recurring.made(table, "texts", lambda: _texts(table, self._order), _texts_size)._replace(rows=self._order)

    def _parts(self, count: int) -> list[tuple[int, int]]:
        """The first and the last row (that it has no more) of each piece of the first `count`."""
        parts: list[tuple[int, int]] = []
        lo = 0
        while lo < count:
            hi = int(np.searchsorted(self._offsets, self._offsets[lo] + _CHUNK_POINTS, side="right")) - 1
            hi = min(max(hi, lo + 1), count, lo + _CHUNK_ROWS)
            parts.append((lo, hi))
            lo = hi
        return parts

    def _chunks(self, count: int) -> Iterator[bytes | memoryview]:
        """The first `count` series, with what separates them, in pieces."""
        if not count:
            return
        outline, self._outline = self._outline, None
        if outline is None or outline.size != count:
            written = self._decimals is not None
            outline = self._outlined(count) if written else _Outline(count, self._texts_of(count), self._parts(count), [], [])
        parts, decimals = outline.parts, self._decimals

        def chunk(number: int) -> bytes | memoryview:
            lo, hi = parts[number]
            if not outline.sizes:
                return self.chunk(outline.texts, lo, hi, last=hi == count)
            # Its own room, which goes as it is to whoever sends it.
            room = np.empty(outline.sizes[number] + NUMBER_BYTES + SPARE, dtype=np.uint8)
            if decimals is None:
                size = self._write(outline.texts, lo, hi, outline.numbers[number], room)
            else:
                size = self._write_decimals(outline.texts, lo, hi, decimals, room)
            assert size == outline.sizes[number], "as long as was told"
            return room[: size - 1 if hi == count else size].data

        if self.pool is None or len(parts) == 1:
            yield from map(chunk, range(len(parts)))
            return
        ahead: deque[Future[bytes | memoryview]] = deque()
        for number in range(len(parts)):
            ahead.append(self.pool.submit(chunk, number))
            if len(ahead) == _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _numbers(self, part: tuple[int, int]) -> _Numbers:
        a, b = self._offsets[list(part)].tolist()
        return self._numbers_of(np.ascontiguousarray(self._times[a:b]), np.ascontiguousarray(self._floats[a:b]))

    def _numbers_of(self, times: Ints, floats: Floats) -> _Numbers:
        whole, places = np.empty(len(floats), dtype=np.int64), np.empty(len(floats), dtype=np.int16)
        shortest.decimals(floats, whole, places)
        return _Numbers(times, whole, places)

    def chunk(self, texts: Texts, lo: int, hi: int, *, last: bool) -> bytes:
        """The series [lo, hi), whose labels are in `texts`; but for the `last` ones, a comma follows."""
        most = int(texts.sizes[texts.rows[lo:hi]].sum()) + (hi - lo) * _ROW_BYTES
        most += int(self._offsets[hi] - self._offsets[lo]) * render.POINT_BYTES
        # Fresh memory costs more than what is written into it: a buffer goes from piece to piece.
        buffer = self._buffers.pop() if self._buffers else np.empty(0, dtype=np.uint8)
        if len(buffer) < most:
            buffer = np.empty(most, dtype=np.uint8)
        size = self._write(texts, lo, hi, self._numbers((lo, hi)), buffer)
        text = buffer[: size - 1 if last else size].tobytes()
        if not last:
            self._buffers.append(buffer)
        return text

    def _write(self, texts: Texts, lo: int, hi: int, numbers: _Numbers, room: NDArray[np.uint8]) -> int:
        """Write the series [lo, hi), each followed by a comma; answers how many bytes that were."""
        return self._rendered(texts, texts.rows[lo:hi], self._offsets[lo : hi + 1] - int(self._offsets[lo]), numbers, room)

    def _rendered(self, texts: Texts, rows: Ints, offsets: Ints, numbers: _Numbers, room: NDArray[np.uint8]) -> int:
        """The same of the series whose labels are the `rows` of `texts` and whose points lie at `offsets` (int64[n + 1]) of `numbers`."""
        return render.render_rows(
            rows, texts.offsets, texts.names, texts.values, texts.pool, texts.pool_offsets, _FRAME_TEXT, _FRAME_OFFSETS,
            offsets, *numbers, self.type == "vector", room,
        )  # fmt: skip

    def _write_decimals(self, texts: Texts, lo: int, hi: int, found: Decimals, room: NDArray[np.uint8]) -> int:
        """As `_write`, of decimals."""
        return render.render_grid(
            texts.rows[lo:hi], texts.offsets, texts.names, texts.values, texts.pool, texts.pool_offsets, _FRAME_TEXT, _FRAME_OFFSETS,
            self._order[lo:hi], found.heads.text, found.heads.sizes, found.whole, found.places, self.type == "vector", room,
        )  # fmt: skip


def _time(ms: int) -> bytes:
    out = np.empty(32, dtype=np.uint8)
    return out[: render.write_time(out, 0, ms)].tobytes()


def _seconds(ms: int) -> bytes:
    """The same of a time that is not before 1970, without a kernel."""
    seconds, rest = divmod(ms, 1000)
    return b"%d.%03d" % (seconds, rest) if rest else b"%d" % seconds


def _points(times: Ints, floats: Floats) -> bytes:
    """One point as `[t,"v"]`."""
    table = LabelTable.from_labels([Labels()])
    one = QueryResult("", Grid(int(times[0]), 1, 1), range_query=False, warnings=[], infos=[])
    one.type, one._labels, one._order = "vector", table, np.zeros(1, dtype=np.int64)
    one._offsets, one._times, one._floats = np.array([0, 1], dtype=np.int64), times.astype(np.int64), floats
    return b"".join(one._chunks(1)).removeprefix(b'{"metric":{},"value":').removesuffix(b"}")


def label_sets_json(table: LabelTable, limit: int = 0) -> bytes:
    """A JSON list of a table's label sets, in their order, the first `limit` of them (0: all)."""
    rows = labelsets.sorted_rows(table)
    rows = rows[:limit] if limit else rows
    if not len(rows):
        return b"[]"
    texts = _texts(table, rows)
    frame, frame_offsets = _spared(b"{}"), np.array([0, 1, 1, 1, 2, 2], dtype=np.int64)
    nothing, no_places = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int16)
    parts = []
    for lo in range(0, len(rows), _CHUNK_ROWS):
        some = rows[lo : lo + _CHUNK_ROWS]
        buffer = np.empty(int(texts.sizes[some].sum()) + len(some) * _ROW_BYTES, dtype=np.uint8)
        size = render.render_rows(
            some, texts.offsets, texts.names, texts.values, texts.pool, texts.pool_offsets, frame, frame_offsets,
            np.zeros(len(some) + 1, dtype=np.int64), nothing, nothing, no_places, False, buffer,
        )  # fmt: skip
        parts.append(buffer[: size - 1].tobytes())
    return b"[" + b",".join(parts) + b"]"


class _Numbers(NamedTuple):
    """The points of some rows as `render.render_rows` takes them."""

    times: Ints
    whole: Ints
    places: NDArray[np.int16]


class _Outline(NamedTuple):
    """How the first `size` rows of an answer are written: the rows of each piece; its numbers and how many bytes it has, where known."""

    size: int
    texts: Texts
    parts: list[tuple[int, int]]
    numbers: list[_Numbers]
    sizes: list[int]


class Texts(NamedTuple):
    """The labels of rows as JSON, as `render.render_rows` takes them; `rows` are the rows.

    `sizes` are the bytes of each, and of a comma behind it where there are any.
    """

    rows: Ints
    sizes: Ints
    offsets: Ints
    names: NDArray[np.int32]
    values: NDArray[np.int32]
    pool: NDArray[np.uint8]
    pool_offsets: Ints


@remembered
def _texts(table: LabelTable, rows: Ints) -> Texts:
    """Each text once, however many labels have it."""
    distinct, inverse = labelsets.marked(np.concatenate([table.names, table.values]))
    # Half as wide as they come, so that those of twice as many series can be kept from one query to the next.
    both = inverse.astype(np.int32)
    names, values = both[: len(table.names)], both[len(table.names) :]
    pool, ends = _pool([orjson.dumps(table.symbols.text(s)) for s in distinct.tolist()])
    sizes = np.diff(ends)
    upto = np.zeros(len(names) + 1, dtype=np.int64)
    np.cumsum(sizes[names] + sizes[values] + 2, out=upto[1:])
    return Texts(rows, upto[table.offsets[1:]] - upto[table.offsets[:-1]], table.offsets, names, values, pool, ends)


def _texts_size(texts: Texts) -> int:
    return sum(array.nbytes for array in texts[1:])


@remembered
def few_texts(table: LabelTable, rows: Ints) -> Texts:
    """Each row's labels as one text: of a few rows, to find the texts that they share takes longer than to write them again."""
    texts = labelsets.pairs(table)
    pool, ends = _pool([orjson.dumps(dict(texts[row]))[1:-1] for row in rows.tolist()])
    n = len(rows)
    upto, first, none = (_UPTO, _FIRST, _NONE) if n <= _FEW_ROWS else _of_rows(n)
    return Texts(upto[:n], ends[1:] - ends[:-1] + 1, upto[: n + 1], first[:n], none[:n], pool, ends)


def _of_rows(n: int) -> tuple[Ints, NDArray[np.int32], NDArray[np.int32]]:
    """Where rows of one text each begin, which text each has, and that none has another: int64[n + 1], int32[n], int32[n]."""
    return np.arange(n + 1, dtype=np.int64), np.arange(n, dtype=np.int32), np.full(n, -1, dtype=np.int32)


_UPTO, _FIRST, _NONE = _of_rows(_FEW_ROWS)


def _pool(texts: Sequence[bytes]) -> tuple[NDArray[np.uint8], Ints]:
    """Texts end to end, and where they begin: int64[n + 1]."""
    ends = np.fromiter(itertools.accumulate(map(len, texts), initial=0), dtype=np.int64, count=len(texts) + 1)
    return _spared(b"".join(texts)), ends


def _spared(text: bytes) -> NDArray[np.uint8]:
    """A text as kernels read it: with bytes to spare, and writable, as they are compiled for."""
    return np.frombuffer(bytearray(text + bytes(SPARE)), dtype=np.uint8)
