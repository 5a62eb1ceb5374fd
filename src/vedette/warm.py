"""Every kernel compiled, or read from its cache, before anyone waits for it.

A kernel is compiled at its first call, so each is called once by the way data really goes: a small batch through each
wire format, into a storage of its own in a temporary directory, and out through queries that reach the kernels of
PromQL. What is missing here costs its first user a second, nothing worse.

On a new machine all of them take a core one to two minutes. So there are three lanes that need nothing of each other, each for a
thread: what they come across is compiled by processes side by side (`kernels/compiling.py`). First in each stands what a new user
needs first, and until that is ready, so is not the server: its first answers would take as long.

Where all are kept, only those of writes and of queries are loaded ahead, which may be called where nobody else can have their turn
meanwhile: the others are loaded by whoever is the first to need one, in some milliseconds, and take their megabytes from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vedette.clock import Clock, ManualClock, SystemClock, now_ms
from vedette.errors import VedetteError
from vedette.kernels import block, chaining, compiling, groups, kept, shortest, streamed
from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.matchers import Matcher
from vedette.model.samples import MetricMetadata, SampleBatch, canonical
from vedette.model.tenants import DEFAULT_TENANT
from vedette.promql.decimals import Decimals, Heads
from vedette.promql.engine import Engine as Promql
from vedette.promql.piecewise import PiecewiseSlabs, Scratch
from vedette.promql.result import QueryResult
from vedette.promql.settings import PromqlSettings
from vedette.promql.values import Grid
from vedette.storage import heap
from vedette.storage.engine import Engine as Storage
from vedette.storage.head import Generation
from vedette.storage.index import PackedPostings, Postings
from vedette.storage.interface import Steps
from vedette.storage.series import KeyTable
from vedette.storage.settings import StorageSettings
from vedette.wire import exposition, influx, remote_write, remote_write2
from vedette.wire.exposition_table import render_table

FIRST_QUERIES = (
    # What the pages of the browser and a new user ask.
    "warm",
    "rate(warm[5m])",
    "sum by (id) (rate(warm[5m]))",
    "sum(warm)",
    "warm * 2 + 1",
    "warm / warm",
    "warm > 1",
    "histogram_quantile(0.9, sum by (le) (rate(warm_bucket[5m])))",
)
QUERIES = (
    # What pages and users ask next.
    "topk(1, warm)",
    "avg_over_time(warm[5m])",
    "increase(warm[5m])",
    "warm + on (id) group_left warm",
    "warm / on () group_left sum(warm)",
    'warm{id="1"}',
    "warm and warm unless warm or warm",
    "warm > 1 or warm",
    *(f"{op} by (id) (warm)" for op in ("sum", "avg", "min", "max", "count", "group", "stddev")),
    "quantile(0.5, warm)",
    'count_values("v", warm)',
    *(f"{fn}(warm[5m])" for fn in ("irate", "delta", "idelta", "changes", "resets")),
    *(f"{fn}_over_time(warm[5m])" for fn in ("sum", "min", "max", "count", "last", "stddev", "present")),
    "quantile_over_time(0.5, warm[5m])",
    'label_replace(warm, "a", "$1", "id", "(.*)")',
    "max_over_time(rate(warm[1m])[5m:1m])",
    "sum(warm offset 1m)",
    "absent(cold)",
    "sort(warm)",
    "hour()",
    "clamp_max(abs(warm), 3)",
    "deriv(warm[5m])",
)
NATIVE_QUERIES = (
    "native",
    "histogram_quantile(0.9, sum(rate(native[5m])))",
    "histogram_fraction(0, 1, native * 2)",
    "histogram_stddev(sum_over_time(native[5m]))",
)
ROLLED_UP_QUERIES = ("rate(warm[1h])", "max_over_time(warm[1h])")

WRITES = 3
"""How many steps of the first lane writes need."""
FIRST = (WRITES + 3, 3 + len(FIRST_QUERIES), 0)
"""How many steps of each lane a new user needs first."""
STEPS = (FIRST[0] + 5 + len(NATIVE_QUERIES), FIRST[1] + len(QUERIES) + 11, 5)
"""How many steps each lane has."""
LOADED = (FIRST[0], FIRST[1] + len(QUERIES), 0)
"""How many steps of each lane are taken where all kernels are kept."""

_SERIES = [Labels.of(__name__="warm", id=str(i)) for i in range(3)] + [
    Labels.of(__name__="warm_bucket", le=le) for le in ("1", "2", "+Inf")
]
_ONE = [Matcher("__name__", "=", "warm")]

Step = tuple[str, Callable[[], None]]
"""What it is, and a call that compiles it."""


class _Store:
    """A storage in a temporary directory, with an engine, for one lane."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        clock = SystemClock()
        self.now = now_ms(clock)
        self.place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vedette-warm-")))
        self.storage = Storage(StorageSettings(data=self.place), clock)
        self.engine = Promql(self.storage, PromqlSettings(), clock)
        stack.callback(self.engine.close)
        self.runner = stack.enter_context(asyncio.Runner())
        self._stack = stack

    def start(self) -> None:
        """Open it, to be closed with the lane."""
        self.runner.run(self.storage.start())
        self._stack.callback(lambda: self.runner.run(self.storage.close()))

    def append(self, batch: SampleBatch) -> None:
        """Store samples."""
        self.runner.run(self.storage.append(batch))

    def fill(self) -> None:
        """A minute of each series."""
        batch = SampleBatch.of(canonical(DEFAULT_TENANT), _SERIES, [0] * len(_SERIES), [0.0] * len(_SERIES))
        times = [self.now - 60_000 + i * 15_000 for i in range(4)] * len(_SERIES)
        batch.offsets = np.arange(len(_SERIES) + 1, dtype=np.int64) * 4
        batch.timestamps, batch.values = np.array(times), np.arange(float(len(times)))
        self.append(batch)

    def ask(self, query: str) -> Callable[[], None]:
        """A call that asks at once and over a range, and renders."""

        def asked() -> None:
            with contextlib.suppress(VedetteError):
                self.engine.instant(DEFAULT_TENANT, query, self.now).json()
                found = self.engine.range(DEFAULT_TENANT, query, self.now - 300_000, self.now, 60_000)
                found.measured()  # as large answers are before they are sent
                found.json()

        return asked

    def compute(self, queries: Iterable[str]) -> None:
        """Ask at once and over a range, and render nothing."""
        for query in queries:
            self.engine.instant(DEFAULT_TENANT, query, self.now)
            self.engine.range(DEFAULT_TENANT, query, self.now - 300_000, self.now, 60_000)

    def divide(self, *, keep: bool = True) -> None:
        """Have samples read in pieces, as those of many series are; of blocks as chains, to `keep` them, or from pages."""
        pieces = self.storage.in_pieces(DEFAULT_TENANT, _ONE, self.now - 300_000, self.now, least=0, keep=keep)
        if pieces is not None:
            n, steps = len(pieces.labels), Steps(self.now, 0, 1, 300_000)
            room = np.empty((2, int(pieces.upto[-1])), dtype=np.int64)
            pieces.rows(0, n).read(steps, *room)
            params, into = (np.zeros(1), np.zeros(1), np.zeros(1, dtype=np.int64)), (np.empty((n, 1)), np.empty((n, 1), dtype=np.bool_))
            PiecewiseSlabs(pieces, Scratch()).streamed(streamed.LAST_VALUE, 0, n, steps, params, into, lambda: None)


def ways_in() -> Generator[Step, None, None]:
    """What comes in, how answers are written, and native histograms."""
    with contextlib.ExitStack() as stack:
        store = _Store(stack)
        read: list[SampleBatch] = []

        def remote() -> None:
            offsets = [4 * i for i in range(len(_SERIES) + 1)]
            times = [store.now - 60_000 + i * 15_000 for i in range(4)] * len(_SERIES)
            values = [float(i) for i in range(len(times))]
            body = remote_write.render(_SERIES, offsets, times, values, metadata=[MetricMetadata("warm", "counter", "A counter.")])
            read.append(remote_write.parse(body, remote_write.remote_write_keyspace(DEFAULT_TENANT)))

        def scrape() -> None:
            text = b'# TYPE scraped counter\nscraped{id="1"} 1.5\nscraped{id="2"} 2e3\n'
            read.append(exposition.parse(text, exposition.exposition_keyspace(DEFAULT_TENANT), store.now).batch)

        def lines() -> None:
            text = influx.Text(b"lines,id=1 a=1.5,b=2i\n", influx.influx_keyspace(DEFAULT_TENANT, influx.Naming()), store.now)
            store.append(text.read())

        def came_in() -> None:
            store.append(read[0])

        def scraped() -> None:
            for batch in read:
                store.append(batch)

        def native() -> None:
            few, more = (Layout(0, 0.001, (), np.arange(n, dtype=np.int32), NO_BUCKETS) for n in (2, 3))
            # A bucket that comes later makes rates move cells.
            samples = [Histogram(few, np.array([4.0 + i, 5.0, 1.0, 1.0 + i, 2.0])) for i in range(2)]
            samples += [Histogram(more, np.array([7.0 + i, 5.0, 1.0, 1.0 + i, 2.0, 3.0])) for i in range(2, 4)]
            times = [store.now - 60_000 + i * 15_000 for i in range(4)]
            body = remote_write2.render([Labels.of(__name__="native")], [0, 4], times, samples)
            store.append(remote_write2.parse(body, remote_write2.remote_write2_keyspace(DEFAULT_TENANT)))

        def expose() -> None:
            found = store.storage.select(DEFAULT_TENANT, _ONE, store.now - 300_000, store.now)
            render_table([], [], found.labels, np.arange(len(found.labels)), found.values[found.offsets[1:] - 1])

        yield "remote write", remote
        yield "storage", store.start
        yield "samples that came in", came_in
        yield "scrape", scrape
        yield "answers", store.ask("vector(1)")
        # The second lane comes from the other end.
        yield "first queries, from the last one on", lambda: store.compute(reversed(FIRST_QUERIES))
        yield "samples that were scraped", scraped
        yield "InfluxDB's lines", lines
        yield "exposition", expose
        yield "remote write 2.0, native histograms", native
        for query in NATIVE_QUERIES:
            yield query, store.ask(query)
        yield "rollups", lambda: store.runner.run(_roll_up(store.place / "rollups"))


def queries() -> Generator[Step, None, None]:
    """PromQL over samples in memory, and over blocks."""
    with contextlib.ExitStack() as stack:
        store = _Store(stack)
        yield "storage of queries", store.start
        yield "samples", store.fill
        # Not written yet: the first lane compiles meanwhile how answers are.
        yield "first queries", lambda: store.compute(FIRST_QUERIES)
        for query in (*FIRST_QUERIES, *QUERIES):
            yield query, store.ask(query)
        # Only sums of a million values are made in two halves.
        yield "halves of sums", lambda: groups.merge(groups.SUM, *(np.zeros((1, 1)) for _ in range(6)))
        yield "postings of many series", _pack
        yield "blocks", lambda: store.runner.run(store.storage.flush())
        yield "series from blocks", store.ask("warm")
        only = [Matcher("id", "=", "1")]
        yield "deletion", lambda: store.runner.run(store.storage.delete(DEFAULT_TENANT, [only], store.now - 60_000, store.now - 45_000))
        yield "series from blocks after it", store.ask("warm")
        yield "merging", lambda: store.runner.run(store.storage.compact(clean=True))
        yield "samples of blocks in pieces", lambda: store.divide(keep=False)
        yield "samples of blocks in chains", store.divide
        # Only of so many that two threads read them.
        yield "chains behind others", _join
        # Only of blocks that overlap.
        yield "rows in order", _untangle


def pieces() -> Generator[Step, None, None]:
    """What reads so many samples that they are computed piece by piece."""
    with contextlib.ExitStack() as stack:
        store = _Store(stack)
        yield "a growing table of series", lambda: KeyTable(8).reserve(8)
        yield "storage of pieces", store.start
        yield "samples of pieces", store.fill
        yield "samples in pieces", store.divide
        yield "large answers", _answer


LANES = (ways_in, queries, pieces)

SECONDS = {
    "remote write": 3.0,
    "scrape": 6.0,
    "answers": 7.0,
    "InfluxDB's lines": 3.0,
    "exposition": 3.0,
    "remote write 2.0, native histograms": 7.0,
    "native": 5.0,
    "histogram_quantile(0.9, sum(rate(native[5m])))": 9.0,
    "samples": 11.0,
    "first queries": 12.0,
    "topk(1, warm)": 5.0,
    "quantile(0.5, warm)": 3.0,
    "irate(warm[5m])": 3.0,
    "min_over_time(warm[5m])": 3.0,
    "avg_over_time(warm[5m])": 4.0,
    "deriv(warm[5m])": 6.0,
    "blocks": 6.0,
    "series from blocks after it": 3.0,
    "samples in pieces": 15.0,
}
"""How long a core takes to compile what a step needs, about and for what it is the first to need: what is left is estimated by it."""


def _answer() -> None:
    """Write an answer as those of many values are written."""
    grid, one = Grid(0, 1, 1), np.ones((1, 1))
    heads, places, (counts, sizes) = Heads(grid), np.empty((1, 1), dtype=np.int16), np.empty((2, 1), dtype=np.int64)
    shortest.settle(one, one > 0, heads.times, one.view(np.int64), places, counts, sizes)
    table = LabelTable.from_labels([Labels.of(__name__="warm")])
    found = Decimals(table, heads, one.view(np.int64), places, counts, sizes)
    QueryResult(found, grid, range_query=True, warnings=[], infos=[]).json()


def _join() -> None:
    none = Generation.empty()
    none.reserve(0, 0)
    chaining.join(none.state, none.arena, none.units, none.state, none.arena, none.units)


def _untangle() -> None:
    times = np.ones(2, dtype=np.int64)
    block.untangle(times, times.copy(), np.array([0, 2]))


async def _roll_up(place: Path) -> None:
    """Have a day of long ago rolled up, and ask for it."""
    day, hour = 86_400_000, 3_600_000
    midnight = 20_000 * day
    clock = ManualClock(midnight / 1000)
    storage = Storage(StorageSettings(data=place, retention=0, out_of_order_window=day), clock)
    await storage.start()
    engine = Promql(storage, PromqlSettings(), clock)
    try:
        times = [midnight + hour + k * 60_000 for k in range(4)]
        batch = SampleBatch.of(canonical(DEFAULT_TENANT), [Labels.of(__name__="warm")], [0], [0.0])
        batch.offsets, batch.timestamps, batch.values = np.array([0, 4]), np.array(times), np.arange(4.0)
        await storage.append(batch)
        await storage.flush()
        await clock.advance(2 * day / 1000)
        await storage.compact()
        for query in ROLLED_UP_QUERIES:
            await asyncio.to_thread(lambda query=query: engine.range(DEFAULT_TENANT, query, midnight + hour, midnight + day, hour).json())  # type: ignore[misc]
    finally:
        engine.close()
        await storage.close()


def _pack() -> None:
    one = Postings(np.ones(1, dtype=np.uint64), np.array([0, 1]), np.zeros(1, dtype=np.uint32))
    PackedPostings.of_plain(one).firsts(0, 1)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: steps `done` of `total`, and about how many seconds are `left`."""

    done: int
    total: int
    left: float

    def __str__(self) -> str:
        return f"{self.done} of {self.total}, about {round(self.left)} s to go"


class Warming:
    """All lanes, and how far they are: `writes` and `asked` side by side, then `answers`, then `rest`, then `finish`.

    They ask before every step whether all is `stopped`: compiling takes longer than a server has for its end.
    """

    def __init__(self, compilers: compiling.Compilers, clock: Clock, stopped: Callable[[], bool]) -> None:
        self._compilers, self._clock, self._stopped = compilers, clock, stopped
        self._lanes = [lane() for lane in LANES]
        self._turns = [threading.Lock() for _ in LANES]
        self._taken = [0] * len(LANES)
        self._written = threading.Event()
        self._started = clock.now()
        self._seconds, self._told = 0.0, self._started  # of SECONDS, in the steps that were taken, and when the last of these was
        self._ended = False

    @property
    def cold(self) -> bool:
        """Whether there is anything to be compiled: on a machine where all is kept, it is a matter of a second."""
        return self._compilers.needed.is_set()

    def progress(self) -> Progress | None:
        """How far it is; None where nothing is compiled, or nothing any more."""
        if self._ended or not self.cold:
            return None
        elapsed, left = self._told - self._started, sum(SECONDS.values()) - self._seconds
        # Of the first step nothing is known yet: two cores that share the work are what most have at least.
        rate = self._seconds / elapsed if self._seconds and elapsed > 0 else 2.0
        return Progress(self.done, sum(STEPS), max(1.0, left / rate - (self._clock.now() - self._told)))

    @property
    def done(self) -> int:
        """How many steps were taken, of the sum of `STEPS`."""
        return sum(self._taken)

    def all_at_once(self) -> list[Callable[[], None]]:
        """Everything, in place of all other calls: for as many threads."""
        return [functools.partial(self._take, lane, upto) for lane, upto in enumerate(STEPS)]

    def writes(self) -> None:
        """What writes need."""
        try:
            self._take(0, WRITES)
        finally:
            self._written.set()

    def asked(self) -> None:
        """What is asked first, where it is to be compiled; `writes`, in another thread, comes to know."""
        while not self._compilers.needed.wait(0.01) and not self._written.is_set():
            pass
        if self.cold:
            self._take(1, FIRST[1])

    def answers(self) -> None:
        """The same of the way from a scrape to an answer; after `writes`."""
        if self.cold:
            self._take(0, FIRST[0])

    def rest(self) -> list[Callable[[], None]]:
        """All others: calls for as many threads."""
        if self.cold:
            return [functools.partial(self._take, lane, STEPS[lane]) for lane in (1, 2, 0)]

        def all_lanes() -> None:
            # Threads would only take the interpreter from each other.
            for lane, upto in enumerate(LOADED if kept.all_kept(groups.merge) else STEPS):
                self._take(lane, upto)

        return [all_lanes]

    def _take(self, lane: int, upto: int) -> None:
        with self._turns[lane], compiling.ahead():
            for name, step in itertools.islice(self._lanes[lane], upto - self._taken[lane]):
                if self._stopped():
                    break
                step()
                self._taken[lane] += 1
                if name in SECONDS:
                    self._seconds, self._told = self._seconds + SECONDS[name], self._clock.now()

    def finish(self) -> None:
        """All is compiled, or nothing will be any more. Waits for steps that are under way."""
        self._ended = True
        for turn, lane in zip(self._turns, self._lanes, strict=True):
            with turn:
                lane.close()
        if self.done == sum(STEPS):
            kept.note(groups.merge)
        # What loaded the kernels is in no one's way any more.
        self._compilers.rest(heap.Library("libllvmlite").let_go)
        heap.give_back()
        heap.let_code_go()
