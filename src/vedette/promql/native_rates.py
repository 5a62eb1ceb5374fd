"""Rates and changes of native histograms in many windows at a time.

The samples of a window may differ in which buckets they have and in their schema, which is brought down to the coarsest. Windows in
which custom bounds change are `native_reconciled.py`'s; where zero buckets differ they are left to those who take one window after
another, whose results these are to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import native as kernel
from vedette.model.histogram_arithmetic import is_reset
from vedette.model.histograms import COUNT, GAUGE
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_layouts import distinct
from vedette.promql.native_pool import Natives, Pool
from vedette.promql.values import Bools, Floats, Ints

Flags = NDArray[np.uint8]

_CELLS_AT_ONCE = 4 << 20
_NONE: Ints = np.zeros(0, dtype=np.int64)
_HOW = {"rate": 0, "increase": 1, "delta": 2, "irate": 3, "idelta": 4}
_ANCHORED = {"increase": 5, "rate": 6, "delta": 7}
OF_ENDS = frozenset(("delta", "idelta"))
"""What looks at the first and the last sample of a window alone."""


class Spans(NamedTuple):
    """Windows over samples: window w has the samples `lo[w]:hi[w]`, ends at `ends[w]` (ms) and stands in `rows[w]`."""

    lo: Ints
    hi: Ints
    ends: Ints
    rows: Ints

    def some(self, which: Ints | Bools) -> Spans:
        """Some of them."""
        return Spans(*(column[which] for column in self))


class Samples(NamedTuple):
    """Rows of samples: where each begins, their times (int64 ms), and the histograms among them."""

    offsets: Ints
    times: Ints
    natives: Natives


def followers(samples: Samples) -> Ints:
    """The samples that have another one before them in their row, where both are histograms."""
    there = samples.natives.index >= 0
    follows = np.zeros(len(there), dtype=np.bool_)
    follows[1:] = there[1:] & there[:-1]
    follows[samples.offsets[:-1][samples.offsets[:-1] < len(there)]] = False
    return np.flatnonzero(follows)


def resets(natives: Natives, places: Ints) -> Flags:
    """1 for each of `places` at which the counter was reset since the place before; there are histograms in both. uint8 of all places."""
    index, pool = natives.index, natives.pool
    out = np.zeros(len(index), dtype=np.uint8)
    table = pool.table
    kernel.resets(places, index, pool.layout, pool.starts, pool.cells, pool.hints, table.shapes, (table.summable[0], table.thresholds), out)
    for place in places[out[places] == 2].tolist():
        out[place] = is_reset(pool.sample(int(index[place])), pool.sample(int(index[place - 1])))
    return out


class _Pass(NamedTuple):
    """Windows whose samples all are brought to one layout each: `union[w]`, and each window's `track`, a row at one schema."""

    spans: Spans
    at: Ints
    """Which of the windows that were asked for these are."""
    track: Ints
    union: Ints


def of_windows(
    ev: Evaluation, name: str, samples: Samples, spans: Spans, *, width: int, anchored: bool = False, unbroken: Ints = _NONE,
    known: Flags | None = None,
) -> tuple[Natives, Bools]:  # fmt: skip
    """The rates of windows of `width` ms that hold histograms and nothing else, and which are left to others.

    There are two at least, but in `anchored` ones, where the first is the last one from before the window, if there is one. At the
    samples `unbroken` no reset counts. `known` are the `resets`, where they are.
    """
    pool, index, total = samples.natives.pool, samples.natives.index, len(spans.lo)
    reset = known
    if reset is None:
        reset = resets(samples.natives, _NONE if name in OF_ENDS else followers(samples))
    reset[unbroken] = 0
    if name in ("irate", "idelta"):
        spans = spans._replace(lo=spans.hi - 2)
    counts = np.where(index >= 0, pool.cells[pool.starts[index] + COUNT], 0.0)
    begins = spans.lo if anchored else spans.lo + (reset[spans.lo + 1] == 1)
    layout = np.where(index >= 0, pool.layout[index].astype(np.int64), -1)
    schema, left = _schemas(samples, layout, spans._replace(lo=begins), ends_only=name in OF_ENDS and not anchored)
    if anchored:
        # Which schema comes of several depends on which of the samples are looked at.
        schemas = pool.table.schemas[layout]
        changes = np.cumsum(np.concatenate([[0], schemas[1:] != schemas[:-1]]))
        left = left | (changes[spans.hi - 1] != changes[spans.lo])
    made, parts, cells = np.full(total, -1, dtype=np.int64), [], [np.zeros(0)]
    done, held = 0, 0
    which = np.flatnonzero(~left)
    for found in _passes(samples, layout, spans.some(which), schema[which]):
        ev.check()
        starts, source = _tracks(samples, layout, found)
        widths = pool.table.widths[found.union]
        at = np.cumsum(widths) - widths
        size = int(widths.sum())
        ev.count(0, 8 * size)
        out = np.empty(size)
        _rated(
            ev,
            found.spans,
            (samples.times, starts, source, counts, reset),
            widths,
            (width, (_ANCHORED if anchored else _HOW)[name]),
            (out, at),
        )
        made[which[found.at]] = done + np.arange(len(at))
        parts.append((found.union, at + held))
        cells.append(out)
        done, held = done + len(at), held + size
    unions, starts = (np.concatenate([part[i] for part in parts]) if parts else np.zeros(0, dtype=np.int64) for i in range(2))
    whole = cells[1] if len(cells) == 2 else np.concatenate(cells)
    hints, slim = np.full(len(starts), GAUGE, dtype=np.uint8), np.ones(len(starts), dtype=np.bool_)
    return Natives(made, Pool.made(pool.table.layouts, unions, starts, whole, hints, slim)), left


def _rated(
    ev: Evaluation,
    spans: Spans,
    samples: tuple[Ints, Ints, Floats, Floats, Flags],
    widths: Ints,
    how: tuple[int, int],
    out: tuple[Floats, Ints],
) -> None:
    cells, at = out

    def part(lo: int, hi: int) -> None:
        kernel.rates(spans.lo[lo:hi], spans.hi[lo:hi], spans.ends[lo:hi], *samples, widths[lo:hi], *how, cells, at[lo:hi])

    ev.in_two(part, len(at), worth=len(cells) > _CELLS_AT_ONCE // 16)


def _schemas(samples: Samples, layout: Ints, spans: Spans, *, ends_only: bool) -> tuple[Ints, Bools]:
    """The coarsest schema of each window (of its two ends alone, with `ends_only`), and the windows of unlike families."""
    table = samples.natives.pool.table
    families, schemas = np.where(layout >= 0, table.families[layout], -1), table.schemas[layout]
    last = spans.hi - 1
    if ends_only:
        return np.minimum(schemas[spans.lo], schemas[last]), families[spans.lo] != families[last]
    left = np.zeros(len(last), dtype=np.bool_)
    if table.kinds > 1:
        changes = np.cumsum(np.concatenate([[0], families[1:] != families[:-1]]))
        left = changes[last] != changes[spans.lo]
    found = np.unique(schemas[layout >= 0])
    coarsest = np.full(len(last), found[-1] if len(found) else 0, dtype=np.int64)
    for one in found[-2::-1].tolist():
        upto = np.concatenate([[0], np.cumsum(schemas == one)])
        coarsest[upto[spans.hi] > upto[spans.lo]] = one
    return coarsest, left


def _passes(samples: Samples, layout: Ints, spans: Spans, schema: Ints) -> Iterator[_Pass]:
    """The windows in passes: in one no sample stands in two layouts, and no more cells are moved than fit."""
    table = samples.natives.pool.table
    if not len(spans.lo):
        return
    family = table.families[layout[spans.hi - 1]]
    keys = (spans.rows * 128 + schema - schema.min()) * table.kinds + family
    _, track = np.unique(keys, return_inverse=True)
    track = track.reshape(-1)
    count = int(track.max()) + 1
    # What a track's windows reach over; of that, what is of its family and no coarser.
    first, end = np.full(count, len(layout), dtype=np.int64), np.zeros(count, dtype=np.int64)
    np.minimum.at(first, track, spans.lo)
    np.maximum.at(end, track, spans.hi)
    of_track = np.zeros((3, count), dtype=np.int64)
    of_track[0, track], of_track[1, track], of_track[2, track] = schema, family, spans.rows
    union, as_is = _unions(samples, layout, (first, end), of_track)
    sizes = (end - first) * table.widths[union]
    # Tracks of one row overlap: they are taken one after the other.
    rank = np.arange(count) - np.searchsorted(of_track[2], of_track[2], side="left")
    # Those whose samples need not be moved go by themselves.
    kind = 2 * rank + as_is
    order = np.argsort(kind, kind="stable")
    batch = np.zeros(count, dtype=np.int64)
    batch[order] = np.cumsum(sizes[order]) // _CELLS_AT_ONCE * (int(kind.max()) + 1) + kind[order]
    for number in np.unique(batch).tolist():
        at = np.flatnonzero(batch[track] == number)
        yield _Pass(spans.some(at), at, track[at], union[track[at]])


def _unions(samples: Samples, layout: Ints, reach: tuple[Ints, Ints], of_track: Ints) -> tuple[Ints, Bools]:
    """The layout of each track, which is the union of its samples' layouts, and whether all of these have it."""
    table = samples.natives.pool.table
    first, end = reach
    lengths = end - first
    owner = np.repeat(np.arange(len(first)), lengths)
    items = np.arange(int(lengths.sum())) + np.repeat(first - np.cumsum(lengths) + lengths, lengths)
    own = layout[items]
    good = (own >= 0) & (table.schemas[own] >= of_track[0][owner]) & (table.families[own] == of_track[1][owner])
    many = len(table.layouts)
    owners, members = np.divmod(distinct(owner[good] * many + own[good], len(first) * many), many)
    offsets = np.searchsorted(owners, np.arange(len(first) + 1))
    union = table.united(members, offsets, of_track[0])
    return union, (np.diff(offsets) == 1) & (union == members[offsets[:-1]])


def _tracks(samples: Samples, layout: Ints, found: _Pass) -> tuple[Ints, Floats]:
    """(where each sample's cells begin, the cells), in the layouts of the pass."""
    pool, index = samples.natives.pool, samples.natives.index
    table, starts = pool.table, np.where(index >= 0, pool.starts[index], 0)
    # The union that the samples of a window are brought to, by sample: windows mark where they begin and end.
    marks = np.zeros(len(layout) + 1, dtype=np.int64)
    tracks, some = np.unique(found.track, return_index=True)
    begins = np.full(int(found.track.max()) + 1, len(layout), dtype=np.int64)
    ends = np.zeros(len(begins), dtype=np.int64)
    np.minimum.at(begins, found.track, found.spans.lo)
    np.maximum.at(ends, found.track, found.spans.hi)
    unions, begins, ends = found.union[some], begins[tracks], ends[tracks]
    marks[begins] += unions + 1
    np.subtract.at(marks, ends, unions + 1)
    union = np.cumsum(marks)[:-1] - 1
    other = (union >= 0) & (layout >= 0) & (layout != union)
    if not other.any():
        return starts, pool.cells
    # A sample before a reset may be of another family, or coarser: it is not looked at.
    own = np.where(layout >= 0, layout, 0)
    good = (union >= 0) & (layout >= 0)
    good &= (table.schemas[own] >= table.schemas[union]) & (table.families[own] == table.families[union])
    items = np.flatnonzero(good)
    to = union[items]
    widths = table.widths[to]
    at = np.cumsum(widths) - widths
    cells = np.zeros(int(widths.sum()))
    kernel.moved(table.shapes, index[items], pool.layout, pool.starts, pool.cells, to, cells, at)
    starts = np.zeros(len(layout), dtype=np.int64)
    starts[items] = at
    return starts, cells
