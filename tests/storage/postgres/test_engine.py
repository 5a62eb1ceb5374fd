"""What PostgreSQL adds to the contract: outages, partitions, who may write, what anybody's SQL sees."""

from __future__ import annotations

import asyncio
import sys
import time

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.model.histograms import CUSTOM_SCHEMA, Histogram, Layout
from vedette.model.matchers import Matcher
from vedette.model.samples import STALE, SampleBatch, canonical
from vedette.storage.backends import open_backend
from vedette.storage.limits import Limits, LimitsSettings, TenantLimits
from vedette.storage.postgres import engine as module
from vedette.storage.postgres.engine import Postgres
from vedette.storage.settings import StorageSettings

DAY = 86_400_000
EVER = (-(1 << 62), 1 << 62)


def settings(tmp_path, url, **more) -> StorageSettings:
    return StorageSettings(data=tmp_path / "data", backend="postgres", url=url, **more)


async def eventually(check, seconds=20.0):
    """Poll `check` until it is true."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


async def test_nothing_acknowledged_is_lost_while_the_server_goes_and_comes(new_postgres_server, tmp_path, clock, tools, keyspace):
    server = new_postgres_server()
    url = server.new_database()
    storage = Postgres(settings(tmp_path, url), clock)
    storage.lock()
    await storage.start()
    rows = [tools.metric("m", i=str(i)) for i in range(20)]
    acknowledged: list[int] = []
    refused: list[LimitExceeded] = []
    going = True

    async def write() -> None:
        k = 0
        while going:
            k += 1
            try:
                await storage.append(SampleBatch.of(keyspace, rows, [tools.now + k] * 20, [float(k)] * 20))
                acknowledged.append(k)
            except LimitExceeded as error:
                refused.append(error)
                await asyncio.sleep(0.01)

    writing = asyncio.create_task(write())
    for mode in ("immediate", "fast"):
        before, refusals = len(acknowledged), len(refused)
        await eventually(lambda before=before: len(acknowledged) > before + 20)
        await asyncio.to_thread(server.stop, mode)
        await eventually(lambda refusals=refusals: len(refused) > refusals)
        assert "PostgreSQL" in storage.problem
        with pytest.raises(LimitExceeded, match="PostgreSQL"):
            await asyncio.to_thread(storage.select, "default", [], *EVER)
        assert storage.stats().samples_appended > 0, "figures are old, not gone"
        await asyncio.to_thread(server.start)
        after = len(acknowledged)
        await eventually(lambda after=after: len(acknowledged) > after + 20)
        assert storage.problem == ""
    going = False
    await writing
    assert all(error.retry_after for error in refused)
    found = await asyncio.to_thread(storage.select, "default", [], *EVER)
    assert len(found) == 20
    for i in range(20):
        times = found.timestamps[found.offsets[i] : found.offsets[i + 1]] - tools.now
        assert len(set(times.tolist())) == len(times)
        assert set(acknowledged) <= set(times.tolist())
    await storage.close()


async def test_a_start_waits_for_a_server_that_is_not_up_yet(new_postgres_server, tmp_path, clock, tools, keyspace):
    server = new_postgres_server()
    url = server.new_database()
    server.stop()
    storage = Postgres(settings(tmp_path, url), clock)
    starting = asyncio.create_task(storage.start())
    await eventually(lambda: "PostgreSQL" in storage.problem)
    assert not starting.done()
    await asyncio.to_thread(server.start)
    await starting
    assert storage.problem == ""
    assert (await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0]))).samples == 1
    await storage.close()


async def test_a_start_that_is_given_up_leaves_nothing_running(tmp_path, clock, free_port):
    storage = Postgres(settings(tmp_path, f"postgresql://postgres@127.0.0.1:{free_port()}/x"), clock)
    starting = asyncio.create_task(storage.start())
    await eventually(lambda: "PostgreSQL" in storage.problem)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await storage.close()
    assert not [t for t in __import__("threading").enumerate() if t.name == "storage-postgres"]


async def test_each_day_has_its_partition_and_goes_with_it(open_postgres, tools, keyspace, postgres_server, postgres_url):
    clock = ManualClock(tools.now / 1000)
    storage = await open_postgres(clock_=clock, retention=3 * DAY)
    old, new = tools.metric("old"), tools.metric("new")
    appended = await storage.append(
        tools.batch([(old, [(tools.now - 2 * DAY, 1.0)]), (new, [(tools.now - DAY, 2.0), (tools.now, 3.0)])], keyspace)
    )
    assert appended.samples == 3
    assert storage.stats().blocks == 3
    appended = await storage.append(SampleBatch.of(keyspace, [old], [tools.now - 4 * DAY], [1.0]))
    assert (appended.samples, appended.dropped) == (0, {"too_old": 1})
    await clock.advance(2 * DAY / 1000)
    await storage.retire()
    assert storage.series("default", [[]], *EVER) == [new]
    assert postgres_server.sql(postgres_url, "SELECT labels ->> '__name__' FROM vedette_series") == ["new"]
    tables = "SELECT count(*) FROM pg_class WHERE relname ~ '^vedette_samples_[bd][0-9]+$'"
    assert postgres_server.sql(postgres_url, tables) == ["2"]
    # What was deleted is known no more, neither by name nor by id.
    again = await storage.append(SampleBatch.of(keyspace, [old], [clock.now() * 1000], [9.0]))
    assert (again.samples, again.new_series) == (1, 1)
    assert storage.select("default", [Matcher("__name__", "=", "old")], *EVER).values.tolist() == [9.0]


async def test_samples_by_the_id_of_a_series_that_is_gone_are_dropped(open_postgres, tools, keyspace):
    clock = ManualClock(tools.now / 1000)
    storage = await open_postgres(clock_=clock, retention=DAY)
    ids = (await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0]))).ids
    await clock.advance(3 * DAY / 1000)
    await storage.retire()
    now = int(clock.now() * 1000)
    appended = await storage.append(SampleBatch.by_id(keyspace, ids, np.array([now]), np.array([STALE])))
    assert (appended.samples, appended.dropped) == (0, {"relabelled": 1})


async def test_one_server_at_a_time_writes_to_a_database(open_postgres, tmp_path, clock, tools, keyspace, postgres_url, monkeypatch):
    first = await open_postgres()
    second = Postgres(StorageSettings(data=tmp_path / "other", backend="postgres", url=postgres_url), clock)
    with monkeypatch.context() as impatient:
        impatient.setattr(module, "_LOCK_PATIENCE_S", 0.0)
        with pytest.raises(BadInput, match="another Vedette writes to this database"):
            await second.start()
    await second.close()
    await first.close()
    # The lock is let go of when the server has noticed that the first one left: a moment later, on a busy machine.
    third = Postgres(StorageSettings(data=tmp_path / "other", backend="postgres", url=postgres_url), clock)
    await third.start()
    assert (await third.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0]))).samples == 1
    await third.close()


async def test_a_restart_finds_everything(open_postgres, tools, keyspace):
    first = await open_postgres()
    rows = [tools.metric("m", i=str(i)) for i in range(5)]
    await first.append(SampleBatch.of(keyspace, rows, [tools.now] * 5, [1.0] * 5))
    before = tools.contents(first)
    await first.close()
    second = await open_postgres()
    assert tools.contents(second) == before
    appended = await second.append(SampleBatch.of(keyspace, rows, [tools.now] * 5, [1.0] * 4 + [2.0]))
    assert (appended.samples, appended.new_series, appended.dropped) == (4, 0, {"duplicate": 1})


async def test_many_writers_at_once_share_transactions_and_none_waits_in_vain(open_postgres, tools):
    storage = await open_postgres()
    spaces = [canonical() for _ in range(8)]

    async def write(w: int) -> int:
        rows = [tools.metric("m", i=str(i)) for i in range(10)]  # the same series from all of them
        done = [await storage.append(SampleBatch.of(spaces[w], rows, [tools.now + k] * 10, [float(w)] * 10)) for k in range(20)]
        return sum(a.samples for a in done)

    stored = await asyncio.gather(*(write(w) for w in range(8)))
    assert sum(stored) == 200, "of eight values for one time the first counts"
    found = storage.select("default", [], *EVER)
    assert np.diff(found.offsets).tolist() == [20] * 10
    assert storage.counters()["groups_committed"] < 160


async def test_a_cancelled_sender_takes_nobody_along(open_postgres, tools, keyspace):
    storage = await open_postgres()
    first = asyncio.create_task(storage.append(SampleBatch.of(keyspace, [tools.metric("a")], [tools.now], [1.0])))
    second = asyncio.create_task(storage.append(SampleBatch.of(keyspace, [tools.metric("b")], [tools.now], [1.0])))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).samples == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_regular_expressions_are_re2s_and_not_the_databases(open_postgres, tools, keyspace):
    storage = await open_postgres()
    rows = [tools.metric("m", v=v) for v in ("a.b", "axb", "line\nbreak", "Ä", "[x]", "%", "")]
    await storage.append(SampleBatch.of(keyspace, rows, [tools.now] * 7, [1.0] * 7))

    def values(op, pattern):
        return {row.get("v") for row in storage.series("default", [[Matcher("v", op, pattern)]], *EVER)}

    assert values("=~", r"a\.b") == {"a.b"}
    assert values("=~", "line.break") == {"line\nbreak"}
    assert values("=~", r"\p{Lu}|\[x\]|%") == {"Ä", "[x]", "%"}
    assert values("!~", "a.b|.*break") == {"Ä", "[x]", "%", ""}
    assert values("=", "%") == {"%"}
    assert values("=", "no\0such") == set()
    assert len(values("!=", "no\0such")) == 7
    assert storage.series("default", [[Matcher("no\0name", "=~", ".+")]], *EVER) == []
    assert storage.label_values("default", "no\0name", [], *EVER) == []


async def test_a_character_that_the_database_has_not_refuses_the_batch(open_postgres, tools, keyspace):
    storage = await open_postgres()
    rows = [tools.metric("m", ok="yes"), tools.metric("m", bad="a\0b")]
    with pytest.raises(BadInput, match="NUL"):
        await storage.append(SampleBatch.of(keyspace, rows, [tools.now] * 2, [1.0] * 2))
    assert len(storage.select("default", [], *EVER)) == 0
    long = tools.metric("m", long="x" * 10_000, **{"weird name": "\u2028'\"\\"})
    await storage.append(SampleBatch.of(keyspace, [long], [tools.now], [1.0]))
    assert storage.series("default", [[Matcher("weird name", "=", "\u2028'\"\\")]], *EVER) == [long]


def histogram(*counts: float, bounds=(1.0, 2.0), hint=1) -> Histogram:
    layout = Layout(CUSTOM_SCHEMA, 0.0, bounds, np.arange(len(counts), dtype=np.int32), np.zeros(0, np.int32))
    return Histogram(layout, np.array([sum(counts), 42.5, 0.0, *counts]), hint)


async def test_native_histograms_are_kept_with_their_samples(open_postgres, tools, keyspace):
    storage = await open_postgres()
    given = [histogram(1, 2, 3), histogram(2, 2, 4, hint=2)]
    exponential = Layout(3, 0.5, (), np.array([-4, 7], np.int32), np.array([2], np.int32))
    given.append(Histogram(exponential, np.array([9.0, -3.5, 1.0, 2.0, 3.0, 3.0]), 0))
    for k, one in enumerate(given):
        batch = SampleBatch.of(keyspace, [tools.metric("h"), tools.metric("f")], [tools.now + k] * 2, [one, 1.0])
        assert (await storage.append(batch)).samples == 2
    # Another histogram at the same time is a duplicate, and leaves the first one alone.
    other = Histogram(given[0].layout, given[0].cells + 1, 0)
    dropped = await storage.append(SampleBatch.of(keyspace, [tools.metric("h")], [tools.now], [other]))
    assert dropped.dropped == {"duplicate": 1}
    # So is a float that is as its sum, and a histogram at the time of a float; what is sent again is fine.
    as_float = Histogram(given[0].layout, np.array([6.0, 1.0, 0.0, 1.0, 2.0, 3.0]), 0)
    mixed = SampleBatch.of(keyspace, [tools.metric("h"), tools.metric("f")], [tools.now] * 2, [42.5, as_float])
    assert (await storage.append(mixed)).dropped == {"duplicate": 2}
    again = SampleBatch.of(keyspace, [tools.metric("h"), tools.metric("f")], [tools.now] * 2, [given[0], 1.0])
    assert ((repeated := await storage.append(again)).samples, repeated.dropped) == (2, {})

    def check(backend: Postgres) -> None:
        found = backend.select("default", [Matcher("__name__", "=", "h")], *EVER)
        assert found.histograms is not None
        assert found.histograms.at.tolist() == [0, 1, 2]
        for j, one in enumerate(given):
            read = found.histograms.sample(j)
            assert read.layout.same(one.layout)
            assert (read.hint, read.cells.tolist()) == (one.hint, one.cells.tolist())
        assert backend.select("default", [Matcher("__name__", "=", "f")], *EVER).histograms is None

    check(storage)
    await storage.close()
    check(await open_postgres())


async def test_deleted_samples_are_gone(open_postgres, tools, keyspace):
    storage = await open_postgres()
    rows = [(tools.metric(name), [(tools.now + k, float(k)) for k in range(4)]) for name in ("a", "b")]
    await storage.append(tools.batch(rows, keyspace))
    await storage.delete("default", [[Matcher("__name__", "=", "a")]], tools.now + 1, tools.now + 2)
    await storage.delete("default", [], *EVER)
    await storage.delete("other", [[]], *EVER)
    await storage.compact(clean=True)
    assert storage.select("default", [Matcher("__name__", "=", "a")], *EVER).values.tolist() == [0.0, 3.0]
    assert storage.select("default", [Matcher("__name__", "=", "b")], *EVER).sample_count == 4
    with pytest.raises(BadInput, match="pg_dump"):
        await storage.snapshot()


async def test_anybodys_sql_sees_samples_with_ids_of_their_own(open_postgres, tools, keyspace, postgres_server, postgres_url):
    storage = await open_postgres()
    for k in range(3):
        await storage.append(
            SampleBatch.of(keyspace, [tools.metric("m", host="a"), tools.metric("m", host="b")], [tools.now + k] * 2, [k, -k])
        )
    await storage.close()
    storage = await open_postgres()
    await storage.append(SampleBatch.of(keyspace, [tools.metric("m", host="a")], [tools.now + 9], [9.0]))
    query = """SELECT s.id, labels ->> 'host', to_timestamp(ts / 1000.0) AT TIME ZONE 'UTC', value
               FROM vedette_samples s JOIN vedette_series v ON v.id = s.series_id WHERE labels @> '{"host": "a"}' ORDER BY ts"""
    rows = [row.split("|") for row in postgres_server.sql(postgres_url, query)]
    assert [(row[1], row[3]) for row in rows] == [("a", "0"), ("a", "1"), ("a", "2"), ("a", "9")]
    assert rows[0][2] == "2023-11-14 22:13:20"
    ids = [int(i) for i in postgres_server.sql(postgres_url, "SELECT id FROM vedette_samples")]
    assert len(set(ids)) == 7
    assert min(ids) > 0 and max(ids) < 1 << 53
    found = storage.select("default", [Matcher("host", "=", "a")], *EVER)
    times = found.timestamps
    told = storage.row_ids("default", found.labels.take(np.zeros(len(times), dtype=np.int64)), times)
    assert told.tolist() == [int(row[0]) for row in rows]
    assert storage.row_ids("default", found.labels, np.array([tools.now - 1])).tolist() == [0]
    assert storage.row_ids("other", found.labels, times[:1]).tolist() == [0]
    assert len(storage.row_ids("default", found.labels.take(np.zeros(0, dtype=np.int64)), times[:0])) == 0


async def test_a_tenants_limits_hold_here_too(tmp_path, clock, tools, keyspace, postgres_url):
    limits = Limits(LimitsSettings(default=TenantLimits(max_series=2, max_label_value_length=5)))
    storage = Postgres(settings(tmp_path, postgres_url), clock, limits=limits)
    await storage.start()
    rows = [tools.metric("m", v="long" * 3), *(tools.metric("m", v=str(i)) for i in range(4))]
    for _ in range(2):
        appended = await storage.append(SampleBatch.of(keyspace, rows, [tools.now] * 5, [1.0] * 5))
        assert (appended.samples, appended.dropped) == (2, {"label_value_too_long": 1, "series_limit": 2})
    assert storage.tenant_series() == {"default": 2}
    await storage.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "lacks the database"),
        ("mysql://root:sesame@localhost/x", "a database of the kind 'mysql'"),
        ("sqlite:///x.db", "lacks the database"),
        ("postgresql://me:sesame@localhost:port/x", "not a URL"),
        ("postgresql://me:sesame@localhost", "without a database"),
    ],
)
def test_a_bad_url_is_refused_before_anything_is_touched(tmp_path, clock, url, problem):
    with pytest.raises(BadInput, match=problem) as refused:
        open_backend(settings(tmp_path, url), clock, retention=[], limits=Limits())
    assert refused.value.where == "storage.url"
    assert "sesame" not in str(refused.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("more", [{"retention_size": 1 << 30}, {"retention_by_selector": {"{a='b'}": DAY}}])
def test_settings_of_the_embedded_engine_are_refused(tmp_path, clock, more):
    with pytest.raises(BadInput, match="cannot do this"):
        open_backend(settings(tmp_path, "postgres://localhost/x", **more), clock, retention=[], limits=Limits())


def test_a_url_without_its_backend_is_refused(tmp_path, clock):
    with pytest.raises(BadInput, match=r"storage\.url"):
        open_backend(StorageSettings(data=tmp_path, url="postgresql://localhost/x"), clock, retention=[], limits=Limits())


def test_without_the_driver_the_refusal_says_what_to_install(tmp_path, clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(BadInput, match=r"pip install 'vedette\[postgres\]'"):
        Postgres(settings(tmp_path, "postgresql://localhost/x"), clock)


async def test_a_database_that_is_not_there_and_a_wrong_password_are_refused_at_once(tmp_path, clock, postgres_server, postgres_url):
    missing = postgres_url.rpartition("/")[0] + "/nowhere"
    with pytest.raises(BadInput, match="nowhere") as refused:
        await Postgres(settings(tmp_path, missing), clock).start()
    assert "sesame" not in str(refused.value)


async def test_a_schema_of_a_newer_version_is_refused(open_postgres, postgres_server, postgres_url, tmp_path, clock):
    await (await open_postgres()).close()
    postgres_server.sql(postgres_url, "INSERT INTO vedette_storage_version VALUES (99)")
    with pytest.raises(BadInput, match="version 99"):
        await Postgres(settings(tmp_path / "more", postgres_url), clock).start()


async def test_what_is_not_running_says_so(tmp_path, clock, tools, keyspace, postgres_url):
    storage = Postgres(settings(tmp_path, postgres_url), clock)
    with pytest.raises(LimitExceeded, match="not running"):
        storage.select("default", [], *EVER)
    with pytest.raises(LimitExceeded, match="not running"):
        await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0]))
    assert storage.stats().series == 0
    await storage.close()


async def test_figures_are_counted_seldom_and_kept(open_postgres, tools, keyspace):
    clock = ManualClock(tools.now / 1000)
    storage = await open_postgres(clock_=clock)
    await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0]))
    assert storage.stats().series == 1
    await storage.append(SampleBatch.of(keyspace, [tools.metric("n")], [tools.now], [1.0]))
    # What this process wrote since is added; the rest waits for the next count.
    stats = storage.stats()
    assert (stats.series, stats.samples_appended, [*stats.series_by_metric]) == (2, 2, [("m", 1)])
    await clock.advance(20)
    assert [*storage.stats().series_by_metric] == [("m", 1), ("n", 1)]
    assert storage.stats().series == 2
    assert storage.stats().block_bytes > 0


class TestLate:
    """What comes late is judged as the embedded engine judges it."""

    HOUR = 3_600_000

    async def send(self, storage, tools, keyspace, *ages, name="m", at=0.0):
        """Samples of these ages in hours, one after the other in one batch; (stored, dropped)."""
        rows = [(tools.metric(name), [(tools.now - int(age * self.HOUR), at + age)]) for age in ages]
        appended = await storage.append(tools.batch(rows, keyspace))
        return appended.samples, appended.dropped.get("too_old", 0)

    async def test_each_sample_counts_for_those_after_it(self, open_postgres, tools, keyspace):
        storage = await open_postgres()
        assert await self.send(storage, tools, keyspace, 5, 9, 4.5, 2, 3.5, 1) == (4, 2), "9 is late to 5, 3.5 to 2"
        assert await self.send(storage, tools, keyspace, 2.5, 1.5) == (1, 1)

    async def test_after_a_restart_the_database_is_asked(self, open_postgres, tools, keyspace):
        storage = await open_postgres()
        assert await self.send(storage, tools, keyspace, 30, 3) == (2, 0)
        await storage.close()
        storage = await open_postgres()
        assert await self.send(storage, tools, keyspace, 20, 4.5) == (0, 2)
        assert await self.send(storage, tools, keyspace, 3.5, 2) == (2, 0)
        await storage.close()
        storage = await open_postgres()
        assert await self.send(storage, tools, keyspace, 0, 2, 0.5, at=0.1) == (2, 1), "a new one says what the others are behind"

    async def test_old_samples_go_into_a_series_in_order(self, open_postgres, tools, keyspace):
        storage = await open_postgres(retention=100 * DAY)
        for age in range(500, 0, -50):
            assert await self.send(storage, tools, keyspace, age) == (1, 0)

    async def test_a_tenant_has_a_window_of_its_own(self, tmp_path, clock, postgres_url, tools, keyspace):
        limits = Limits(LimitsSettings(tenants={"default": TenantLimits(out_of_order_window=10 * self.HOUR)}), window=self.HOUR)
        storage = Postgres(settings(tmp_path, postgres_url), clock, limits=limits)
        await storage.start()
        try:
            assert await self.send(storage, tools, keyspace, 0, 9, 11) == (2, 1)
        finally:
            await storage.close()
