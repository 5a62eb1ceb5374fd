"""Exemplars outlive the process: after a restart, after `kill -9`, after damage; and their log stays bounded."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vedette.errors import BadInput
from vedette.ingest.exemplars import Exemplars
from vedette.model.exemplars import Exemplar
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.disk import Disk

ALL = [[Matcher("__name__", "!=", "")]]
EVER = (-(1 << 62), 1 << 62)
SPACES = {tenant: canonical(tenant) for tenant in ("default", "other")}


def series(i: int) -> Labels:
    return Labels.of(__name__="m", i=str(i), text='ä"\\\n')


def batch(*exemplars: Exemplar, rows: int = 3, tenant: str = "default") -> SampleBatch:
    made = SampleBatch.of(SPACES[tenant], [series(i) for i in range(rows)], [0] * rows, [1.0] * rows)
    made.exemplars = exemplars
    return made


def mark(row: int, time: int, trace: str = "t", value: float = 1.0) -> Exemplar:
    return Exemplar(row, Labels.of(trace_id=trace, span="é"), value, time)


def held(store: Exemplars, tenant: str = "default") -> list[tuple[str, list[tuple[int, str, float]]]]:
    found = store.select(tenant, ALL, *EVER)
    return [(labels.get("i"), [(e.timestamp, e.labels.get("trace_id"), e.value) for e in own]) for labels, own in found]


async def opened(path: Path, most: int = 100, disk: Disk | None = None) -> Exemplars:
    store = Exemplars(most, path / "exemplars", disk=disk)
    await store.start()
    return store


async def test_they_are_there_after_a_restart_and_go_on_where_they_were(tmp_path):
    store = await opened(tmp_path)
    assert await store.keep(batch(mark(0, 10, "a"), mark(1, 20, "b", float("inf"))), [0, 1, 2]) == 2
    assert await store.keep(batch(mark(0, 30, "c", -0.5)), [0, 1, 2]) == 1
    assert await store.keep(batch(mark(2, 5, "mine"), tenant="other"), [0, 1, 2]) == 1
    before = held(store), held(store, "other")
    await store.close()
    store = await opened(tmp_path)
    assert (held(store), held(store, "other")) == before
    assert before == ([("0", [(10, "a", 1.0), (30, "c", -0.5)]), ("1", [(20, "b", float("inf"))])], [("2", [(5, "mine", 1.0)])])
    assert (len(store), store.series, store.appended, dict(store.dropped)) == (4, 3, 0, {})
    assert await store.keep(batch(mark(0, 30, "c", -0.5)), [0, 1, 2]) == 0, "scraped again: known"
    assert await store.keep(batch(mark(0, 29, "late")), [0, 1, 2]) == 0
    assert dict(store.dropped) == {"out_of_order": 1}
    await store.close()


async def test_only_the_newest_are_read_back_and_the_log_stays_bounded(tmp_path):
    store = await opened(tmp_path, most=10)
    long = "x" * 110
    for at in range(0, 300, 3):
        await store.keep(batch(*(mark(row, at + row, long) for row in range(3))), [0, 1, 2])
    times = [t for _, own in held(store) for t, _, _ in own]
    assert sorted(times) == list(range(290, 300))
    await store.close()
    store = await opened(tmp_path, most=10)
    assert sorted(t for _, own in held(store) for t, _, _ in own) == list(range(290, 300))
    assert store._in_log < 10 + 3, "what is older than all that is kept is out of the log"
    await store.close()
    store = await opened(tmp_path, most=4)
    assert len(store) == 4
    await store.close()


async def test_none_are_kept_where_none_are_wanted(tmp_path):
    store = await opened(tmp_path, most=0)
    await store.keep(batch(mark(0, 10)), [0, 1, 2])
    assert held(store) == []
    await store.close()
    store = await opened(tmp_path, most=0)
    assert held(store) == []
    await store.close()


async def test_those_of_rows_that_were_dropped_are_not_logged(tmp_path):
    store = await opened(tmp_path)
    assert await store.keep(batch(mark(0, 10), mark(1, 10)), [-1, 0, 1]) == 1
    await store.close()
    store = await opened(tmp_path)
    assert [i for i, _ in held(store)] == ["1"]
    await store.close()


class FullDisk(Disk):
    full = False

    def write(self, fd, data):
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(fd, data)


async def test_what_a_full_disk_did_not_take_is_not_said_to_be_kept(tmp_path):
    disk = FullDisk()
    store = await opened(tmp_path, disk=disk)
    assert await store.keep(batch(mark(0, 10, "a")), [0, 1, 2]) == 1
    disk.full = True
    assert await store.keep(batch(mark(0, 20, "b")), [0, 1, 2]) == 0
    assert store.dropped["not_logged"] == 1
    disk.full = False
    assert await store.keep(batch(mark(0, 30, "c")), [0, 1, 2]) == 1
    assert held(store) == [("0", [(10, "a", 1.0), (20, "b", 1.0), (30, "c", 1.0)])]
    await store.close()
    store = await opened(tmp_path)
    assert {"a", "c"} <= {trace for _, own in held(store) for _, trace, _ in own}
    await store.close()


async def test_damage_costs_what_it_hit_alone(tmp_path):
    store = await opened(tmp_path)
    for at in (10, 20, 30):
        await store.keep(batch(mark(0, at, f"trace-{at}")), [0, 1, 2])
    await store.close()
    (segment,) = (tmp_path / "exemplars").glob("*.wal")
    data = bytearray(segment.read_bytes())
    data[data.index(b"trace-20")] ^= 1
    segment.write_bytes(data)
    store = await opened(tmp_path)
    assert held(store) == [("0", [(10, "trace-10", 1.0), (30, "trace-30", 1.0)])]
    await store.close()


async def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "exemplars").write_text("a file")
    with pytest.raises(BadInput, match="exemplars cannot be read"):
        await opened(tmp_path)


CHILD = """
import asyncio, logging, sys
from pathlib import Path
import structlog
from vedette.ingest.exemplars import Exemplars
from vedette.model.exemplars import Exemplar
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

async def main(path, first):
    store = Exemplars(100_000, Path(path))
    await store.start()
    space = canonical()
    async def send(lane):
        for time in range(first, 1 << 40):
            batch = SampleBatch.of(space, [Labels.of(__name__="m", i=str(lane))], [0], [1.0])
            batch.exemplars = [Exemplar(0, Labels.of(trace_id=str(time)), float(time), time)]
            assert await store.keep(batch, [0]) == 1
            print(lane, time, flush=True)
    await asyncio.gather(*(send(lane) for lane in range(3)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_what_was_acknowledged_survives_a_kill(tmp_path):
    acknowledged: set[tuple[str, int]] = set()
    first = 1
    for wanted in (20, 50, 90):
        child = await asyncio.to_thread(
            subprocess.Popen, [sys.executable, "-c", CHILD, str(tmp_path / "exemplars"), str(first)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        lines = [await asyncio.to_thread(child.stdout.readline) for _ in range(wanted)]
        os.kill(child.pid, signal.SIGKILL)
        rest = await asyncio.to_thread(child.stdout.read)
        child.stdout.close()
        await asyncio.to_thread(child.wait)
        for line in [*lines, *rest.splitlines(keepends=True)]:
            if line.endswith("\n"):
                lane, time = line.split()
                acknowledged.add((lane, int(time)))
        store = await opened(tmp_path, most=100_000)
        there = {(i, t) for i, own in held(store) for t, _, _ in own}
        assert acknowledged <= there
        assert all(len(own) == len({t for t, _, _ in own}) for _, own in held(store)), "each of them once"
        first = max(t for _, t in there) + 1
        await store.close()
    assert len(acknowledged) >= 160
