"""The cases of the benchmark that have parts of their own: they measure what is there, and fail where something is lost."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vedette.storage.block import Block
from vedette.storage.page_cache import PageCache
from vedette.wire import remote_write

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of bench/, which is no installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"bench.{name}")


def test_every_case_has_its_place_on_the_page(bench: Any) -> None:
    order = bench("__main__").ORDER
    named = set()
    for file in (ROOT / "bench").glob("*.py"):
        named.update(re.findall(r'Outcome\(\s*"([a-z_]+)"', file.read_text(encoding="utf-8")))
        named.update(re.findall(r'_measure\("([a-z_]+)"', file.read_text(encoding="utf-8")))
    assert {"million", "native", "stalls", "select", "history", "recovery", "density_node"} <= named
    assert named <= set(order)


def test_a_select_is_measured_over_all_that_was_written(bench: Any) -> None:
    outcome = bench("storage").select(2, 30, 2)
    assert outcome.title == "Select of 6,000 samples from blocks"
    assert len(next(m for m in outcome.measurements if m.what == "samples per CPU second").runs) == 2
    assert outcome.median("bytes per sample on disk", "vedette") > 0
    assert [t.wanted for t in outcome.targets] == [100]


def test_a_month_is_written_to_blocks_a_day_each(bench: Any, tmp_path: Path) -> None:
    month, fleet = bench("month"), bench("fleet")
    requests = fleet.month(2, 2, start_ms=20_000 * fleet.DAY_MS, per_request=480)
    month.write_blocks(tmp_path / "data", requests, 12)
    blocks = sorted((tmp_path / "data" / "blocks").iterdir())
    assert [Block(path, PageCache(0)).meta.samples for path in blocks] == [2 * 5760, 2 * 5760]
    assert not (tmp_path / "data" / "lock").exists()


def test_a_server_that_is_restarted_has_what_it_had(bench: Any) -> None:
    servers, fleet, queries = bench("servers"), bench("fleet"), bench("queries")
    now = int(time.time()) * 1000 - fleet.DAY_MS // 24
    body = fleet.month(1, 1, start_ms=now, per_request=60)[0]
    with servers.running(servers.VEDETTE) as server:
        bench("remote_write").send(server, [[body]])
        process = server.process.pid
        servers.restart(server, servers.VEDETTE)
        assert server.process.pid != process
        queries.await_count(server, "sum(count_over_time(events_total[2h]))", now / 1000 + 3600, 60)


def test_a_killed_server_is_started_on_its_data_and_counted(bench: Any) -> None:
    recovery, servers = bench("recovery"), bench("servers")
    found = recovery._one_run(servers.VEDETTE, 1, 20)
    assert 0 < found["healthy"] <= found["ready"]
    assert found["rss"] > 10


def test_bodies_are_rendered_as_they_are_taken(bench: Any) -> None:
    bodies = bench("recovery")._bodies(60, 3, 1_700_000_000_000)
    assert len(list(bodies)) == 3 * 2  # 6,000 series, 5,000 a request


def test_answers_are_timed_while_samples_come_in(bench: Any) -> None:
    stalls, servers = bench("stalls"), bench("servers")
    found = stalls.one_run(servers.VEDETTE, 60, 1.0, "/health")
    for whose in ("", "floor "):
        assert 0 < found[f"{whose}p50"] <= found[f"{whose}p99"] <= found[f"{whose}p99.9"] <= found[f"{whose}most"]
    assert found["paced"] > 0 and found["capacity"] > 0


def test_a_server_is_at_rest_once_it_does_nothing_or_waiting_is_too_long(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remote_write, slept = bench("remote_write"), list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    busy_then_idle = iter([1.0, 1.5, 2.0, 2.01, 9.0])
    remote_write.at_rest(SimpleNamespace(cpu=lambda: next(busy_then_idle)))
    assert len(slept) == 3
    always_busy = itertools.count()
    remote_write.at_rest(SimpleNamespace(cpu=lambda: next(always_busy)), seconds=0.01)
    assert next(always_busy) > 1


def test_the_text_of_all_series_is_timed(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    operations, servers = bench("operations"), bench("servers")
    monkeypatch.setattr(operations, "at_rest", lambda server: None)  # a server that compiles would be waited for half a minute
    outcome = operations.exposition(2, 2, (servers.VEDETTE,))
    assert outcome.title == "Latest values of 200 series as text"
    assert outcome.median("time of the text", "vedette") > 0 and outcome.median("bytes of it", "vedette") > 0.01


def test_a_refused_write_ends_the_measurement(bench: Any) -> None:
    recovery, stalls, servers = bench("recovery"), bench("stalls"), bench("servers")
    with servers.running(servers.VEDETTE) as server:
        with pytest.raises(RuntimeError, match="refused a write: 400"):
            recovery._write(server, iter([b"not snappy"]))
        with pytest.raises(RuntimeError, match="refused a write: 400"):
            stalls._paced(server, [[b"not snappy"]], 0.1)
        began = time.monotonic()
        stalls._paced(server, [[], []], 5.0)
        assert time.monotonic() - began < 5.0, "without requests there is nothing to wait for"


def test_cpu_is_counted_finer_than_in_hundredths(bench: Any) -> None:
    clock = bench("servers")._cpu
    before, own = clock(os.getpid()), time.process_time()
    assert abs(before - own) < 0.1
    sum(range(20_000))
    assert 0 < clock(os.getpid()) - before < 1


def test_native_histograms_are_what_they_are_meant_to_be(bench: Any) -> None:
    """Counters of the buckets that are said, or of more and more of them, told apart by service, in order of time."""
    native = bench("native")
    rounds = native.bodies(5, 3, start_ms=1_700_000_000_000, per_request=2)
    assert [len(requests) for requests in rounds] == [5] * 3
    keyspace = remote_write.remote_write_keyspace("t")
    counts: dict[str, list[float]] = {}
    for step, requests in enumerate(rounds):
        for body in requests:
            batch = remote_write.parse(body, keyspace)
            assert batch.timestamps.tolist() == [1_700_000_000_000 + 10_000 * step] * batch.series_count
            for i in range(batch.series_count):
                labels = str(keyspace.resolve(batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes()))
                h = batch.histograms.sample(i)
                buckets = h.layout.positive.tolist()
                assert buckets == list(range(10, 10 + len(buckets)))
                fewest = native.FEWEST if "job_seconds" in labels else native.BUCKETS
                assert fewest <= len(buckets) <= native.BUCKETS
                assert h.count == h.cells[3:].sum()
                assert h.count * 2 ** (9 / 8) < h.sum < h.count * 2 ** (34 / 8), "the sum fits the buckets"
                counts.setdefault(labels, []).append(h.count)
    assert len(counts) == 10
    assert all(found == sorted(found) and len(found) == 3 for found in counts.values())


def test_lines_are_sent_until_the_server_has_taken_all(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    graphite, servers = bench("graphite"), bench("servers")
    monkeypatch.setattr(bench("lines"), "at_rest", lambda server: None)
    found = graphite.one_run(servers.VEDETTE, 60, 4)
    assert 0 < found["settled"] <= found["cpu"]
    assert found["new"] > 0 and found["wall"] > 0


def test_influx_lines_are_one_for_each_host_and_step(bench: Any) -> None:
    rounds = bench("influx").bodies(300, 3, 1_700_000_000)
    assert [[body.count(b"\n") + 1 for body in requests] for requests in rounds] == [[250, 50]] * 3
    line = rounds[2][0].split(b"\n")[0]
    assert line.startswith(b"cpu,arch=") and line.endswith(b" 1700000020000000000")
    assert line.count(b"=") == 20
