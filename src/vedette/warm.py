"""Every kernel compiled, or read from its cache, before anyone waits for it.

A kernel is compiled at its first call, so each is called once by the way data really goes: a small batch through each
wire format, into a storage of its own in a temporary directory, and out through queries that reach the kernels of
PromQL. What is missing here costs its first user a second, nothing worse.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np

from vedette.clock import ManualClock, SystemClock, now_ms
from vedette.errors import VedetteError
from vedette.kernels import block, groups, streamed
from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import MetricMetadata, SampleBatch, canonical
from vedette.model.tenants import DEFAULT_TENANT
from vedette.promql.engine import Engine as Promql
from vedette.promql.piecewise import PiecewiseSlabs, Scratch
from vedette.promql.settings import PromqlSettings
from vedette.storage import heap
from vedette.storage.engine import Engine as Storage
from vedette.storage.index import PackedPostings, Postings
from vedette.storage.interface import Steps
from vedette.storage.series import KeyTable
from vedette.storage.settings import StorageSettings
from vedette.wire import exposition, influx, remote_write, remote_write2
from vedette.wire.exposition_table import render_table

QUERIES = (
    # First what is asked for most: on a new machine compiling takes a minute, and who asks meanwhile waits for what he needs.
    "warm",
    "rate(warm[5m])",
    "sum by (id) (rate(warm[5m]))",
    "warm > 1",
    "histogram_quantile(0.9, sum by (le) (rate(warm_bucket[5m])))",
    "warm * 2 + 1",
    "warm + on (id) group_left warm",
    "warm / on () group_left sum(warm)",
    'warm{id="1"}',
    "warm and warm unless warm or warm",
    "warm > 1 or warm",
    *(f"{op} by (id) (warm)" for op in ("sum", "avg", "min", "max", "count", "group", "stddev")),
    "topk(1, warm)",
    "quantile(0.5, warm)",
    'count_values("v", warm)',
    *(f"{fn}(warm[5m])" for fn in ("irate", "increase", "delta", "idelta", "deriv", "changes", "resets")),
    *(f"{fn}_over_time(warm[5m])" for fn in ("avg", "sum", "min", "max", "count", "last", "stddev", "present")),
    "quantile_over_time(0.5, warm[5m])",
    'label_replace(warm, "a", "$1", "id", "(.*)")',
    "max_over_time(rate(warm[1m])[5m:1m])",
    "sum(warm offset 1m)",
    "absent(cold)",
    "sort(warm)",
    "hour()",
    "clamp_max(abs(warm), 3)",
)


NATIVE_QUERIES = (
    "native",
    "histogram_quantile(0.9, sum(rate(native[5m])))",
    "histogram_fraction(0, 1, native * 2)",
    "histogram_stddev(sum_over_time(native[5m]))",
)
ROLLED_UP_QUERIES = ("rate(warm[1h])", "max_over_time(warm[1h])")
STEPS = len(QUERIES) + len(NATIVE_QUERIES) + 18
INGEST_STEPS = 2


def steps() -> Generator[tuple[str, Callable[[], None]], None, None]:
    """(what it is, a call that compiles it), in an order in which each can build on those before it."""
    clock = SystemClock()
    now = now_ms(clock)
    series = [Labels.of(__name__="warm", id=str(i)) for i in range(3)]
    series += [Labels.of(__name__="warm_bucket", le=le) for le in ("1", "2", "+Inf")]
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vedette-warm-")))
        storage = Storage(StorageSettings(data=place), clock)
        engine = Promql(storage, PromqlSettings(), clock)
        stack.callback(engine.close)
        runner = stack.enter_context(asyncio.Runner())

        def remote() -> None:
            offsets = [4 * i for i in range(len(series) + 1)]
            times = [now - 60_000 + i * 15_000 for i in range(4)] * len(series)
            values = [float(i) for i in range(len(times))]
            body = remote_write.render(series, offsets, times, values, metadata=[MetricMetadata("warm", "counter", "A counter.")])
            runner.run(storage.append(remote_write.parse(body, remote_write.remote_write_keyspace(DEFAULT_TENANT))))

        def scrape() -> None:
            text = b'# TYPE scraped counter\nscraped{id="1"} 1.5\nscraped{id="2"} 2e3\n'
            runner.run(storage.append(exposition.parse(text, exposition.exposition_keyspace(DEFAULT_TENANT), now).batch))

        def lines() -> None:
            text = influx.Text(b"lines,id=1 a=1.5,b=2i\n", influx.influx_keyspace(DEFAULT_TENANT, influx.Naming()), now)
            runner.run(storage.append(text.read()))

        def native() -> None:
            few, more = (Layout(0, 0.001, (), np.arange(n, dtype=np.int32), NO_BUCKETS) for n in (2, 3))
            # A bucket that comes later makes rates move cells.
            samples = [Histogram(few, np.array([4.0 + i, 5.0, 1.0, 1.0 + i, 2.0])) for i in range(2)]
            samples += [Histogram(more, np.array([7.0 + i, 5.0, 1.0, 1.0 + i, 2.0, 3.0])) for i in range(2, 4)]
            times = [now - 60_000 + i * 15_000 for i in range(4)]
            body = remote_write2.render([Labels.of(__name__="native")], [0, 4], times, samples)
            runner.run(storage.append(remote_write2.parse(body, remote_write2.remote_write2_keyspace(DEFAULT_TENANT))))

        def expose() -> None:
            found = storage.select(DEFAULT_TENANT, [Matcher("__name__", "=", "warm")], now - 300_000, now)
            render_table([], [], found.labels, np.arange(len(found.labels)), found.values[found.offsets[1:] - 1])

        def divide() -> None:
            pieces = storage.in_pieces(DEFAULT_TENANT, [Matcher("__name__", "=", "warm")], now - 300_000, now, least=0)
            if pieces is not None:
                n, steps = len(pieces.labels), Steps(now, 0, 1, 300_000)
                room = np.empty((2, int(pieces.upto[-1])), dtype=np.int64)
                pieces.rows(0, n).read(steps, *room)
                params, into = (np.zeros(1), np.zeros(1), np.zeros(1, dtype=np.int64)), (np.empty((n, 1)), np.empty((n, 1), dtype=np.bool_))
                PiecewiseSlabs(pieces, Scratch()).streamed(streamed.LAST_VALUE, 0, n, steps, params, into, lambda: None)

        def ask(query: str) -> Callable[[], None]:
            def asked() -> None:
                with contextlib.suppress(VedetteError):
                    engine.instant(DEFAULT_TENANT, query, now).json()
                    found = engine.range(DEFAULT_TENANT, query, now - 300_000, now, 60_000)
                    found.measured()  # as large answers are before they are sent
                    found.json()

            return asked

        yield "storage", lambda: runner.run(storage.start())
        stack.callback(lambda: runner.run(storage.close()))
        yield "remote write", remote
        yield "scrape", scrape
        yield "InfluxDB's lines", lines
        yield "a growing table of series", lambda: KeyTable(8).reserve(8)
        yield "postings of many series", _pack
        for query in QUERIES:
            yield query, ask(query)
        yield "exposition", expose
        yield "samples in pieces", divide
        # Only sums of a million values are made in two halves.
        yield "halves of sums", lambda: groups.merge(groups.SUM, *(np.zeros((1, 1)) for _ in range(6)))
        yield "remote write 2.0, native histograms", native
        for query in NATIVE_QUERIES:
            yield query, ask(query)
        yield "blocks", lambda: runner.run(storage.flush())
        yield "series from blocks", ask("warm")
        only = [Matcher("id", "=", "1")]
        yield "deletion", lambda: runner.run(storage.delete(DEFAULT_TENANT, [only], now - 60_000, now - 45_000))
        yield "series from blocks after it", ask("warm")
        yield "merging", lambda: runner.run(storage.compact(clean=True))
        yield "samples of blocks in pieces", divide
        # Only of blocks that overlap.
        yield "rows in order", _untangle
        yield "rollups", lambda: runner.run(_roll_up(place / "rollups"))


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


def in_two(stopped: Callable[[], bool]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two calls for a thread, one after the other: what writes need, then all the rest.

    Each asks before every step whether it is `stopped`: compiling all takes longer than a server has for its end.
    """
    remaining = steps()

    def take(most: int | None) -> None:
        for _, step in itertools.islice(remaining, most):
            if stopped():
                break
            step()
        if stopped():
            remaining.close()

    def take_rest() -> None:
        take(None)
        # What loaded the kernels is in no one's way any more.
        heap.give_back()
        heap.let_code_go()

    return lambda: take(INGEST_STEPS), take_rest
