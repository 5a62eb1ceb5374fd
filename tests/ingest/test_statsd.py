"""StatsD over sockets: what is sent adds up, and is written every interval as Prometheus expects it of a scrape."""

from __future__ import annotations

import asyncio
import math
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.door import Door
from vedette.ingest.mapping import HistogramOptions, QuantileRule, Rule, SummaryOptions
from vedette.ingest.socket_settings import StatsdSettings
from vedette.ingest.statsd import Statsd
from vedette.model.matchers import Matcher
from vedette.model.samples import Appended, SampleBatch, is_stale
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

START = 1_700_000_000
OPEN = {"tcp": "127.0.0.1:0", "udp": "127.0.0.1:0"}


class Place:
    """A storage, and a room that counts for it as settings say; time stands still until `write`."""

    def __init__(self, engine: Engine, clock: ManualClock, base: Path) -> None:
        self.engine = engine
        self.clock = clock
        self.refusals = 0
        self.door = Door(engine, clock)
        self.base = base
        self.room = self.new()

    def new(self) -> Statsd:
        return Statsd(self.append, self.clock, run=self.run, base=self.base, insecure=False)

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(function, *args)

    async def append(self, batch: SampleBatch) -> Appended:
        if self.refusals:
            self.refusals -= 1
            raise LimitExceeded("full", retry_after=1.0)
        return await self.door.append(batch)

    def stored(self, tenant: str = "default") -> dict[str, list[tuple[float, float | str]]]:
        """Each series' samples: (seconds since the start, value)."""
        found = self.engine.select(tenant, [Matcher("__name__", "=~", ".+")], 0, 4_000_000_000_000)
        series = {}
        for i in range(len(found)):
            span = slice(found.offsets[i], found.offsets[i + 1])
            values: list[float | str] = [
                "stale" if s else v for s, v in zip(is_stale(found.values[span]), found.values[span].tolist(), strict=True)
            ]
            series[str(found.labels.row(i))] = list(
                zip([(t - 1000 * START) / 1000 for t in found.timestamps[span].tolist()], values, strict=True)
            )
        return series

    def last(self) -> dict[str, float | str]:
        return {name: samples[-1][1] for name, samples in self.stored().items()}

    async def send(self, *lines: str) -> None:
        await self.room.take("\n".join(lines).encode() + b"\n")

    async def write(self, seconds: float = 10) -> None:
        # The room's own loop sleeps on the same clock and is not what is tested here.
        self.clock._now += seconds
        await self.room.write()

    async def listen(self, **given: Any) -> None:
        await self.room.apply(StatsdSettings(**{**OPEN, **given}))


async def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    clock = ManualClock(START)
    engine = Engine(StorageSettings(data=tmp_path / "data"), clock)
    engine.lock()
    await engine.start()
    made = Place(engine, clock, tmp_path)
    yield made
    await made.room.close()
    await engine.close()


async def test_a_counter_begins_with_a_zero_and_only_rises(place: Place) -> None:
    await place.listen()
    await place.send("app.requests:3|c", "app.requests:2|c|@0.5")
    await place.write()
    await place.send("app.requests:1|c")
    await place.write()
    await place.write()
    assert place.stored() == {"app_requests": [(0.001, 0.0), (10.0, 7.0), (20.0, 8.0), (30.0, 8.0)]}
    assert [m.type for m in place.engine.metadata("default", "app_requests")] == ["counter"]


async def test_a_gauge_is_set_and_changed(place: Place) -> None:
    await place.listen()
    await place.send("queue:10|g", "queue:+5|g", "queue:-2.5|g")
    await place.write()
    await place.send("queue:3|g")
    await place.write()
    assert place.stored() == {"queue": [(10.0, 12.5), (20.0, 3.0)]}


async def test_a_set_counts_what_differs_in_an_interval(place: Place) -> None:
    await place.listen(max_members=3)
    await place.send("users:ann|s", "users:bob|s", "users:ann|s")
    await place.write()
    await place.send(*(f"users:{i}|s" for i in range(9)))
    await place.write()
    await place.write()
    assert place.stored() == {"users": [(10.0, 2.0), (20.0, 3.0), (30.0, 0.0)]}


async def test_timers_are_seconds_and_a_summary(place: Place) -> None:
    await place.listen()
    await place.send(*(f"call:{i}|ms" for i in range(1, 101)))
    await place.write()
    assert place.stored() == {
        'call{quantile="0.5"}': [(10.0, 0.05)],
        'call{quantile="0.9"}': [(10.0, 0.09)],
        'call{quantile="0.99"}': [(10.0, 0.099)],
        "call_sum": [(0.001, 0.0), (10.0, pytest.approx(5.05))],
        "call_count": [(0.001, 0.0), (10.0, 100.0)],
    }
    assert [m.type for m in place.engine.metadata("default", "call")] == ["summary"]


async def test_quantiles_are_of_the_last_observations_that_are_not_too_old(place: Place) -> None:
    rule = Rule("size", name="size", summary_options=SummaryOptions(quantiles=(QuantileRule(0.5), QuantileRule(1)), max_age=15_000))
    await place.listen(mappings=(rule,), max_points=50)
    await place.send(*(f"size:{i}|h" for i in range(200)))
    await place.write()
    assert place.last() == {'size{quantile="0.5"}': 174.0, 'size{quantile="1"}': 199.0, "size_sum": 19900.0, "size_count": 200.0}
    await place.write()
    last = place.last()
    assert math.isnan(float(last['size{quantile="0.5"}'])) and last["size_count"] == 200.0


async def test_observations_as_buckets(place: Place) -> None:
    rule = Rule(
        "lat.*", name="lat_seconds", labels={"of": "$1"}, observer_type="histogram", histogram_options=HistogramOptions(buckets=(0.1, 1.0))
    )
    await place.listen(mappings=(rule,))
    await place.send("lat.a:50|ms", "lat.a:100|ms|@0.5", "lat.a:700|ms", "lat.a:3000|ms")
    await place.write()
    assert place.stored() == {
        'lat_seconds_bucket{le="0.1", of="a"}': [(0.001, 0.0), (10.0, 3.0)],
        'lat_seconds_bucket{le="1", of="a"}': [(0.001, 0.0), (10.0, 4.0)],
        'lat_seconds_bucket{le="+Inf", of="a"}': [(0.001, 0.0), (10.0, 5.0)],
        'lat_seconds_sum{of="a"}': [(0.001, 0.0), (10.0, pytest.approx(3.95))],
        'lat_seconds_count{of="a"}': [(0.001, 0.0), (10.0, 5.0)],
    }


async def test_all_observations_as_buckets_where_no_rule_says_otherwise(place: Place) -> None:
    await place.listen(observer="histogram")
    await place.send("a:1|d")
    await place.write()
    assert len([name for name in place.stored() if name.startswith("a_bucket")]) == 12


async def test_tags_of_all_dialects_and_labels_of_the_listener(place: Place) -> None:
    await place.listen(labels={"job": "statsd", "env": "test"})
    await place.send("a:1|c|#env:prod,my.tag:x", "b,host=web:1|c", "c#host=web:1|c", "d[host=web]:1|c")
    await place.write()
    assert set(place.stored()) == {
        'a{env="prod", job="statsd", my_tag="x"}',
        *(f'{name}{{env="test", host="web", job="statsd"}}' for name in "bcd"),
    }


async def test_rules_of_a_kind_with_help_and_scale(place: Place) -> None:
    rules = (
        Rule("app.*.*", name="app_${2}_total", labels={"app": "$1"}, match_metric_type="counter", help="Counted."),
        Rule("app.*.*", name="app_${2}_bytes", labels={"app": "$1"}, match_metric_type="gauge", scale=1024),
        Rule("app.*.*", name="app_${2}_seconds", labels={"app": "$1"}, match_metric_type="timer"),
        Rule("noise.*", action="drop"),
    )
    await place.listen(mappings=rules)
    await place.send("app.shop.orders:1|c", "app.shop.cache:2|g", "app.shop.pay:500|ms", "noise.x:1|c")
    await place.send("app.shop.orders:1|c", "app.shop.cache:3|g")
    await place.write()
    last = place.last()
    assert last['app_orders_total{app="shop"}'] == 2.0
    assert last['app_cache_bytes{app="shop"}'] == 3072.0
    assert last['app_pay_seconds_sum{app="shop"}'] == 0.5
    assert not [name for name in last if "noise" in name]
    assert [m.help for m in place.engine.metadata("default", "app_orders_total")] == ["Counted."]


async def test_a_known_line_and_a_known_form_count_like_new_ones(place: Place) -> None:
    await place.listen()
    lines = ["a:1|c|@0.1", "t:5|ms", "t:6|ms", "g:1|g", "g:+1|g", "a:1:2|c|@0.1", "t:1:2|ms", "b:1|c:2|c", "a:-1|c|@0.1", "t:x|ms"]
    await place.send(*lines)
    await place.send(*lines)
    await place.write()
    last = place.last()
    assert (last["a"], last["b"], last["g"], last["t_count"]) == (80.0, 6.0, 2.0, 8.0)
    assert last["t_sum"] == pytest.approx(0.028)
    assert place.room.counts.lines == 16
    assert place.room.counts.dropped == {"negative_counter": 2, "bad_value": 2}


async def test_one_name_has_one_type(place: Place) -> None:
    await place.listen()
    await place.send("a:1|c", "a:1|g", "a:1|ms", "a:1|c", "t:1|ms", "t:1|h|#x:y")
    await place.write()
    assert place.last()["a"] == 2.0
    assert place.room.counts.dropped == {"type": 2}
    assert 't_count{x="y"}' in place.last()


async def test_two_names_that_become_one_add_up(place: Place) -> None:
    await place.listen()
    await place.send("a.b:1|c", "a_b:2|c", "a-b:3|c")
    await place.write()
    assert place.last() == {"a_b": 6.0}


async def test_a_series_that_gets_nothing_ends_and_begins_anew(place: Place) -> None:
    await place.listen(ttl=15_000)
    await place.send("a:1|c", "b:1|c")
    await place.write()
    await place.send("b:1|c")
    await place.write()
    assert place.stored()["a"] == [(0.001, 0.0), (10.0, 1.0), (20.0, "stale")]
    assert place.room.series == 1
    await place.send("a:4|c")
    await place.write()
    assert place.stored()["a"][3:] == [(20.001, 0.0), (30.0, 4.0)]


async def test_what_lives_shorter_than_an_interval_is_written_once(place: Place) -> None:
    await place.listen(mappings=(Rule("short", name="short", ttl=1),))
    await place.send("short:1|g")
    for _ in range(4):  # it ends once, not at every interval
        await place.write()
    assert place.stored() == {"short": [(10.0, 1.0), (20.0, "stale")]}


async def test_no_more_metrics_than_there_may_be(place: Place) -> None:
    await place.listen(max_series=2, ttl=15_000)
    await place.send("a:1|c", "b:1|c", "c:1|c", "a:1|c")
    await place.write()
    assert place.last() == {"a": 2.0, "b": 1.0}
    assert place.room.counts.dropped == {"max_series": 1}
    await place.write(20)
    await place.send("c:1|c")
    await place.write()
    assert place.last()["c"] == 1.0


async def test_what_cannot_be_written_is_written_the_next_time(place: Place) -> None:
    await place.listen()
    await place.send("a:1|c")
    place.refusals = 1
    with pytest.raises(LimitExceeded):
        await place.write()
    await place.send("a:1|c")
    await place.write()
    assert place.stored() == {"a": [(0.001, 0.0), (20.0, 2.0)]}


async def test_a_set_that_cannot_be_written_goes_on_counting(place: Place) -> None:
    await place.listen()
    await place.send("users:ann|s", "users:bob|s")
    place.refusals = 1
    with pytest.raises(LimitExceeded):
        await place.write()
    await place.send("users:bob|s", "users:cid|s")
    await place.write()
    assert place.stored() == {"users": [(20.0, 3.0)]}
    await place.write()
    assert place.stored() == {"users": [(20.0, 3.0), (30.0, 0.0)]}


@pytest.mark.parametrize("text", ["-1", " -1", "\t-1", " 1", "1 ", "1_0", "nan", "inf", "0x1", ""])
async def test_what_is_no_number_of_a_counter_is_none_of_a_known_one_either(place: Place, text: str) -> None:
    await place.listen()
    await place.send("a:5|c", "a:6|c")
    assert place.room.counts.lines == 2
    await place.send(f"a:{text}|c")
    assert place.room.counts.lines == 2
    await place.write()
    assert place.last() == {"a": 11.0}


async def test_the_loop_writes_each_interval_and_survives_a_refusal(place: Place) -> None:
    await place.listen(interval=5_000)
    await place.send("a:1|g")
    place.refusals = 1
    await place.clock.advance(5)
    deadline = time.monotonic() + 30
    while not place.room.failures:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await place.clock.advance(5)
    while "a" not in place.stored():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert place.stored()["a"][0][1] == 1.0


async def test_sockets(place: Place) -> None:
    await place.listen()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(100):
            sender.sendto(b"a:1|c\nb:2|c\n", ("127.0.0.1", place.room.ports[1]))
    _, writer = await asyncio.open_connection("127.0.0.1", place.room.ports[0])
    for piece in (b"a:1", b"|c\nc:7|", b"g"):
        writer.write(piece)
        await writer.drain()
    writer.close()
    deadline = time.monotonic() + 30
    while place.room.counts.lines < 202:
        assert time.monotonic() < deadline, place.room.counts
        await asyncio.sleep(0.01)
    await place.write()
    assert place.last() == {"a": 101.0, "b": 200.0, "c": 7.0}


async def test_lines_that_are_none_and_too_long_ones(place: Place) -> None:
    await place.listen(max_line=30)
    await place.send("a:1|c", "", "b", "c:1|q", "d:1|c|#" + "x" * 50, "_e{1,1}:a|b", "e:1|c|#__name__:x")
    await place.write()
    assert place.last() == {"a": 1.0}
    assert place.room.counts.dropped == {"malformed_line": 1, "unknown_type": 1, "too_long": 1, "event": 1, "bad_tag": 1}


async def test_what_was_counted_last_is_written_at_the_end_and_counts_begin_anew(place: Place) -> None:
    await place.listen()
    await place.send("a:5|c")
    place.clock._now += 3
    await place.room.close()
    place.clock._now += 2
    place.room = place.new()
    await place.listen()
    await place.send("a:1|c")
    await place.write()
    assert place.stored() == {"a": [(0.001, 0.0), (3.0, 5.0), (5.001, 0.0), (15.0, 1.0)]}


async def test_other_settings_keep_what_was_counted(place: Place) -> None:
    await place.listen()
    await place.send("a:5|c")
    await place.listen(ttl=60_000)
    await place.send("a:1|c")
    await place.write()
    assert place.last() == {"a": 6.0}
    await place.listen(tenant="acme")
    await place.send("a:1|c")
    await place.write()
    assert place.stored()["a"][-1][1] == "stale"
    assert place.stored("acme")["a"][-1][1] == 1.0


async def test_other_rules_leave_connections_as_they_are(place: Place) -> None:
    await place.listen()
    _, writer = await asyncio.open_connection("127.0.0.1", place.room.ports[0])
    writer.write(b"a.b:1|c\n")
    await _until(lambda: place.room.counts.lines == 1)
    await place.listen(mappings=(Rule("a.*", name="mapped", labels={"of": "$1"}),))
    writer.write(b"a.b:1|c\n")
    await _until(lambda: place.room.counts.lines == 2)
    await place.write()
    assert place.last() == {"a_b": 1.0, 'mapped{of="b"}': 1.0}
    writer.close()


async def test_a_change_that_cannot_be_written_for_leaves_what_was_in_force(place: Place) -> None:
    await place.listen()
    await place.send("a:1|c")
    place.refusals = 1
    with pytest.raises(LimitExceeded):
        await place.listen(tenant="acme")
    _, writer = await asyncio.open_connection("127.0.0.1", place.room.ports[0])
    writer.write(b"a:2|c\n")
    await _until(lambda: place.room.counts.lines == 2)
    await place.write()
    assert (place.last(), place.stored("acme")) == ({"a": 3.0}, {})
    writer.close()


@pytest.mark.parametrize("line", ["a:1|c|#t:x|c:%s", "a:%s|s"])
async def test_long_lines_that_differ_take_no_memory(place: Place, line: str) -> None:
    await place.listen()
    await place.send(line % ("0" * 10_000))
    lines = [line % f"{i:010000}" for i in range(1, 300)]
    tracemalloc.start()
    await place.send(*lines)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert place.room.counts.lines == 300
    assert held < 500_000
    await place.write()
    assert list(place.last().values()) == [300.0]


async def test_an_address_that_is_taken_is_one_line_and_what_was_stays(place: Place) -> None:
    await place.listen(udp="")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BadInput, match=f"statsd.tcp: cannot listen on {busy}"):
            await place.listen(tcp=busy, udp="")
    assert len(place.room.ports) == 1
