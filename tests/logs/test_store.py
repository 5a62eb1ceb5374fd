"""Lines in, questions out: the same answers from memory, from segments, from both, and after a restart."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from tests.logs.conftest import NOW, SECOND, Opened, lines

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.logs import store as store_module
from vedette.logs.query import FieldFilter, LineFilter, LogQuery, Place
from vedette.logs.record import KIND
from vedette.logs.settings import LogSettings
from vedette.logs.store import LogStore
from vedette.model.logs import LogBatch, LogBuilder, Text, joined, level_of
from vedette.storage.disk import Disk
from vedette.storage.wal import record


async def messages(store: LogStore, tenant: str = "acme", **query: object) -> list[str]:
    return [row.message for row in (await store.search(tenant, LogQuery(**query))).rows]  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "segments", "both"])
async def filled(request: pytest.FixtureRequest, opened: Opened) -> LogStore:
    """Six lines, in memory, in segments, or half and half."""
    store: LogStore = await opened()
    await store.append("acme", lines("Connection refused", level="error", service="db", fields={"code": 7, "peer": {"host": "a.b"}}))
    await store.append("acme", lines("GET /ok 200", "GET /bad 404", at=NOW + SECOND, fields={"trace.id": "abc-1"}))
    if request.param == "both":
        store.flush()
    await store.append("acme", lines("100% of «Größe» used\n\tby \x00 and \x1b[31m", at=NOW + 3 * SECOND, level="warn", service="disk"))
    await store.append("acme", lines("panic: connection lost", at=NOW + 4 * SECOND, level="fatal", service="db"))
    await store.append("acme", lines("tail_end", at=NOW + 4 * SECOND, level="debug", service="web", fields={"n": None, "ok": True}))
    if request.param == "segments":
        store.flush()
    return store


ALL = [
    "tail_end",
    "panic: connection lost",
    "100% of «Größe» used\n\tby \x00 and \x1b[31m",
    "GET /bad 404",
    "GET /ok 200",
    "Connection refused",
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"newest_first": False}, [5, 4, 3, 2, 1, 0]),
        ({"levels": ("error", "fatal")}, [1, 5]),
        ({"services": ("db",)}, [1, 5]),
        ({"services": ("db", "disk"), "levels": ("warn", "error")}, [2, 5]),
        ({"start": NOW + SECOND, "end": NOW + 3 * SECOND}, [3, 4]),
        ({"lines": (LineFilter("contains", "CONNECTION"),)}, [1, 5]),
        ({"lines": (LineFilter("contains", "CONNECTION", heed_case=True),)}, []),
        ({"lines": (LineFilter("contains", "größe» USED\n"),)}, [2]),
        ({"lines": (LineFilter("contains", "\x1b[31M"),)}, [2]),
        ({"lines": (LineFilter("contains", " 404"),)}, [3]),
        ({"lines": (LineFilter("contains", "%"),)}, [2]),
        ({"lines": (LineFilter("contains", "_"),)}, [0]),
        ({"lines": (LineFilter("contains", "connection", negated=True),)}, [0, 2, 3, 4]),
        ({"lines": (LineFilter("regex", r"^GET /\w+ [45]"),)}, [3]),
        ({"lines": (LineFilter("regex", "(?i)^CONN|lost$"),)}, [1, 5]),
        ({"lines": (LineFilter("contains", "get"), LineFilter("contains", "200", negated=True))}, [3]),
        ({"fields": (FieldFilter("code", "=", "7"),)}, [5]),
        ({"fields": (FieldFilter("code", "=~", "[6-8]"),)}, [5]),
        ({"fields": (FieldFilter("peer.host", "=", "a.b"),)}, [5]),
        ({"fields": (FieldFilter("trace.id", "=", "abc-1"),)}, [3, 4]),
        ({"fields": (FieldFilter("trace.id", "!=", "abc-1"),)}, [0, 1, 2, 5]),
        ({"fields": (FieldFilter("ok", "=", "true"),)}, [0]),
        ({"fields": (FieldFilter("n", "=", ""), FieldFilter("ok", "!~", "f.*"), FieldFilter("ok", "!=", ""))}, [0]),
    ],
)
async def test_what_is_asked_for(filled: LogStore, query: dict[str, object], found: list[int]) -> None:
    page = await filled.search("acme", LogQuery(**query))  # type: ignore[arg-type]
    assert [row.message for row in page.rows] == [ALL[i] for i in found]
    assert (page.total, page.more) == (len(found), False)


async def test_pages_hold_every_line_once_also_those_of_one_time(filled: LogStore) -> None:
    for newest_first in (True, False):
        seen: list[str] = []
        after: Place | None = None
        for _ in range(6):
            page = await filled.search("acme", LogQuery(limit=1, after=after, newest_first=newest_first))
            assert page.total == 6 - len(seen)
            seen += [row.message for row in page.rows]
            after = page.rows[-1].place
            assert page.more == (len(seen) < 6)
        assert seen == (ALL if newest_first else ALL[::-1])


async def test_a_line_comes_back_whole(filled: LogStore) -> None:
    row = (await filled.search("acme", LogQuery(levels=("error",)))).rows[0]
    assert (row.time, row.level, row.service, row.fields) == (NOW, "error", "db", '{"code": 7, "peer": {"host": "a.b"}}')


async def test_counts(filled: LogStore) -> None:
    assert await filled.services("acme", LogQuery()) == {"db": 2, "web": 3, "disk": 1}
    spans = await filled.counts_by_level("acme", LogQuery(), 2 * SECOND)
    assert spans == {
        (NOW, "error"): 1, (NOW, "info"): 1, (NOW + 2 * SECOND, "info"): 1, (NOW + 2 * SECOND, "warn"): 1,
        (NOW + 4 * SECOND, "fatal"): 1, (NOW + 4 * SECOND, "debug"): 1,
    }  # fmt: skip


async def test_tenants_see_only_their_own(opened: Opened) -> None:
    store = await opened()
    for tenant in ("alice", "bob's (*)", ".hidden"):
        await store.append(tenant, lines(f"of {tenant}"))
    for flushed in (False, True):
        if flushed:
            store.flush()
        for tenant in ("alice", "bob's (*)", ".hidden"):
            assert await messages(store, tenant) == [f"of {tenant}"]
        assert await messages(store, "charlie") == []


async def test_a_restart_forgets_nothing_and_doubles_nothing(opened: Opened) -> None:
    store = await opened()
    await store.append("acme", lines("one", "two"))
    store.flush()
    await store.append("acme", lines("three", at=NOW + 5 * SECOND))
    await store.close()
    for _ in range(2):
        store = await opened()
        assert await messages(store) == ["three", "two", "one"]
        await store.close()


async def test_lines_gather_until_there_are_enough(opened: Opened) -> None:
    clock = ManualClock()
    store = await opened(clock, flush_lines=10, flush_interval=60_000)
    await store.append("acme", lines(*"abcd"))
    await clock.advance(86_401)
    await until(lambda: store.sizes()["segments"] == 1)
    assert store.sizes()["memory_lines"] == 0
    await store.append("acme", lines(*"efghijklmnopq"))
    await until(lambda: store.sizes()["segment_lines"] == 17)
    assert len(await messages(store)) == 17


async def test_few_lines_stay_in_memory_for_long(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_WORTH_A_SEGMENT", 3)
    clock = ManualClock()
    store = await opened(clock, flush_interval=60_000, retention=48 * 3_600_000)
    await store.append("acme", lines("few"))
    await store.append("acme", lines("more"))
    await clock.advance(61)
    store._housekeeping()
    assert store.sizes()["memory_lines"] == 2 and not store._memory.frozen, "DuckDB is not opened for two lines"
    assert await messages(store) == ["more", "few"]
    await clock.advance(7_200)
    await until(lambda: store.sizes()["segments"] == 1)
    await store.append("acme", lines("and", "a few", "more"))
    await clock.advance(61)
    await until(lambda: store.sizes()["segments"] == 2)
    assert store.sizes()["memory_lines"] == 0
    await store.append("acme", lines("last"))
    await clock.advance(7_000)
    store._housekeeping()
    assert store.sizes()["memory_lines"] == 1 and not store._memory.frozen, "since it became a segment last it has not been so long"
    await store.close()


async def until(true: object, seconds: float = 20.0) -> None:
    import asyncio
    import time

    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_small_segments_are_merged(opened: Opened, tmp_path: Path) -> None:
    clock = ManualClock()
    store = await opened(clock, flush_lines=2, retention=0)
    expected = []
    for i in range(12):
        await store.append("acme", lines(f"{i} first", f"{i} second", at=NOW + i * SECOND))
        expected += [f"{i} first", f"{i} second"]
        await until(lambda i=i: store.sizes()["segment_lines"] == 2 * i + 2)
    await until(lambda: store.sizes()["segments"] < 8)
    assert sorted(await messages(store, limit=100)) == sorted(expected)
    await until(lambda: len(list((tmp_path / "logs").rglob("*.parquet"))) == store.sizes()["segments"])
    await store.close()
    store = await opened()
    assert sorted(await messages(store, limit=100)) == sorted(expected)


async def test_what_is_too_old_or_too_much_is_deleted_whole(opened: Opened, tmp_path: Path) -> None:
    clock = ManualClock(NOW / SECOND)
    store = await opened(clock, retention=3_600_000, flush_interval=1_000)
    await store.append("acme", lines("old", at=NOW - 7200 * SECOND))
    store.flush()
    await store.append("acme", lines("new"))
    await clock.advance(2)
    await until(lambda: store.counts.segments_deleted == 1)
    assert await messages(store) == ["new"]
    store.flush()  # or there may be no file yet
    await store.close()
    clock = ManualClock(NOW / SECOND)
    store = await opened(clock, retention_size=1, flush_interval=1_000)
    await clock.advance(2)
    await until(lambda: not list((tmp_path / "logs").rglob("*.parquet")))
    assert await messages(store) == []


async def test_a_damaged_segment_is_set_aside_and_the_rest_answers(opened: Opened, tmp_path: Path) -> None:
    store = await opened()
    await store.append("acme", lines("lost"))
    store.flush()
    (first,) = (tmp_path / "logs").rglob("*.parquet")
    await store.append("acme", lines("kept", at=NOW + SECOND))
    store.flush()
    data = bytearray(first.read_bytes())
    data[-40:] = bytes(40)
    first.write_bytes(data)
    assert await messages(store) == ["kept"]
    assert store.counts.corrupt == 1
    assert sorted(p.suffix for p in first.parent.iterdir() if p.stem == first.stem) == [".corrupt", ".trigrams"]


async def test_silent_damage_is_found_after_a_start(opened: Opened, tmp_path: Path) -> None:
    store = await opened()
    await store.append("acme", lines(*(f"line {i}" for i in range(1000))))
    store.flush()
    await store.close()
    (path,) = (tmp_path / "logs").rglob("*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    store = await opened()
    await until(lambda: store.counts.corrupt == 1)
    assert await messages(store) == []


async def test_a_torn_end_of_the_log_is_no_damage_and_a_hole_is(opened: Opened, tmp_path: Path) -> None:
    store = await opened()
    for message in ("one", "two", "three"):
        await store.append("acme", lines(message))
    (log,) = (tmp_path / "logs" / "wal").iterdir()
    whole = log.read_bytes()
    await store.close()
    for path in (tmp_path / "logs").rglob("*.parquet"):
        path.unlink()
    log.write_bytes(whole[:-5])
    store = await opened()
    assert await messages(store) == ["two", "one"]
    assert store.counts.corrupt == 0
    await store.close()
    for path in (tmp_path / "logs").rglob("*.parquet"):
        path.unlink()
    hole = bytearray(whole)
    hole[60] ^= 0xFF
    log.write_bytes(hole)
    store = await opened()
    assert await messages(store) == ["three", "two"]
    assert store.counts.corrupt == 1


async def test_what_the_log_holds_that_cannot_be_read_is_told_and_the_rest_is_kept(opened: Opened, tmp_path: Path) -> None:
    store = await opened()
    await store.append("acme", lines("one"))
    (log,) = (tmp_path / "logs" / "wal").iterdir()
    whole = log.read_bytes()
    await store.close()
    # A whole record, by its checksum, of what no version of ours has written.
    log.write_bytes(whole + bytes(record(KIND, 0, b"no lines")))
    store = await opened()
    assert (await messages(store), store.counts.corrupt) == (["one"], 1)
    await store.append("acme", lines("two", at=NOW + SECOND))
    await store.close()
    # And a file that is none of the log's: those beside it are read.
    log.write_bytes(b"?" + whole[1:])
    store = await opened()
    assert (await messages(store), store.counts.corrupt) == (["two"], 1)
    await store.append("acme", lines("three", at=NOW + 2 * SECOND))
    assert await messages(store) == ["three", "two"], "and more can be written"


async def test_left_over_files_of_a_crash_are_cleared(opened: Opened, tmp_path: Path) -> None:
    store = await opened()
    await store.append("acme", lines("one"))
    store.flush()
    (first,) = (tmp_path / "logs").rglob("*.parquet")
    copy = first.read_bytes()
    await store.append("acme", lines("two"))
    store.flush()
    await store.close()
    half = first.with_name("00000000000000ff.tmp")
    half.write_bytes(b"PAR1")
    # As if the merge of both had been renamed in, and the power lost before its parts were deleted.
    wide = first.with_name(first.name.replace("-0000000000000001-", "-0000000000000002-", 1))
    wide.write_bytes(copy)
    store = await opened()
    assert not half.exists() and wide.exists()
    assert await messages(store) == ["one"]


async def test_a_query_has_its_time(opened: Opened) -> None:
    store = await opened(query_timeout=1)
    await store.append("acme", lines(*["aaaaaaaaaaaaaaaaaaaaaaaaaaaaab" * 100] * 20_000))
    with pytest.raises(LimitExceeded, match=r"longer than 0\.001 s"):
        await store.search("acme", LogQuery(lines=(LineFilter("regex", "(a|b|ab)*c(a|b)*d"),)))


async def test_more_than_can_wait_is_refused(opened: Opened) -> None:
    store = await opened(flush_bytes=1, flush_interval=10**9)
    store._not_before = float("inf")  # no segment can be written
    await store.append("acme", lines("one"))
    with pytest.raises(LimitExceeded, match="wait in memory"):
        await store.append("acme", lines("two"))
    assert await messages(store) == ["one"]


def test_a_bad_question_is_refused_in_our_words() -> None:
    with pytest.raises(BadInput, match="not a level: 'loud'"):
        LogQuery(levels=("loud",))
    with pytest.raises(BadInput, match=r"regex: bad regular expression '\(a'"):
        LogQuery(lines=(LineFilter("regex", "(a"),))
    with pytest.raises(BadInput, match="field x: bad regular expression"):
        LogQuery(fields=(FieldFilter("x", "=~", "[z-a]"),))


async def test_nothing_that_is_asked_becomes_sql(filled: LogStore) -> None:
    hostile = "' or 1=1; drop table recent; --"
    for query in (
        {"services": (hostile,)},
        {"lines": (LineFilter("contains", hostile),)},
        {"fields": (FieldFilter(hostile, "=", hostile),)},
        {"fields": (FieldFilter("a/b~c.d", "=~", ".+"),)},
    ):
        assert await messages(filled, **query) == []
    assert len(await messages(filled)) == 6


async def test_errors_are_grouped_by_what_they_have_in_common(filled: LogStore) -> None:
    await filled.append("acme", lines("Connection refused", level="error", service="db", at=NOW + 50 * SECOND))
    await filled.append("acme", lines("job 17 of 'x' raised KeyError: 0xdeadbeef", "job 18 of 'y' raised KeyError: 0x1", level="error"))
    found = await filled.errors("acme", LogQuery(), 10 * SECOND)
    totals: dict[tuple[object, object], int] = {}
    for pattern, kind, _service, _span, n, first, last, _message in found:
        assert first <= last
        totals[pattern, kind] = totals.get((pattern, kind), 0) + n
    assert totals == {
        ("Connection refused", ""): 2,
        ("panic: connection lost", ""): 1,
        ("job # of <…> raised KeyError: #", "KeyError"): 2,
    }


def test_levels_by_many_names() -> None:
    assert [level_of(n) for n in ("INFO", "Warning", "crit", "ERR", "trace", " Notice ", "what", "")] == [3, 4, 6, 5, 1, 3, 0, 0]


def test_text_that_is_no_text_becomes_question_marks() -> None:
    assert Text.of(["a\ud800b", "é"]).strings() == ["a?b", "é"]
    assert len(Text.of([])) == 0


def test_batches_join_with_their_services() -> None:
    both = joined([lines("a", service="x"), lines("b", service="y"), lines("c", service="x")])
    assert [both.services[c] for c in both.service_codes] == ["x", "y", "x"]
    assert both.messages.strings() == ["a", "b", "c"]


def test_a_line_that_is_too_long_is_named() -> None:
    builder = LogBuilder(max_bytes=10)
    builder.add(1, 3, "s", "short")
    builder.add(1, 3, "s", "much too long")
    with pytest.raises(BadInput, match="line 2: message: 13 bytes, at most 10"):
        builder.build()
    assert isinstance(lines("x"), LogBatch)


class FullDisk(Disk):
    """A disk that is full as long as `full` says: it takes no byte more, or none of segments."""

    full = ""

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if self.full == "log":
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(fd, data)

    def rename(self, old: Path, new: Path) -> None:
        if self.full == "segments":
            raise OSError(errno.ENOSPC, "No space left on device")
        super().rename(old, new)


async def test_a_full_disk_refuses_and_recovers_by_itself(tmp_path: Path) -> None:
    disk, clock = FullDisk(), ManualClock()
    store = LogStore(tmp_path / "logs", LogSettings(), clock, disk=disk)
    await store.start()
    await store.append("acme", lines("before"))
    disk.full = "log"
    with pytest.raises(LimitExceeded, match="No space left on device"):
        await store.append("acme", lines("refused", at=NOW + SECOND))
    assert "cannot be written" in store.problem
    disk.full = "segments"
    await store.append("acme", lines("after", at=NOW + 2 * SECOND))
    assert store.problem == ""
    await clock.advance(86_401)
    await until(lambda: store.counts.failures == 1)
    assert "segments of log lines cannot be written" in store.problem
    assert (await messages(store))[0] == "after"
    disk.full = ""
    await clock.advance(11)
    await until(lambda: store.sizes()["segments"] == 1)
    assert store.problem == ""
    # The refused line was owed to the log, and is there: its sender was told to send it again, so it may come twice.
    assert await messages(store) == ["after", "refused", "before"]
    await store.close()


async def test_much_in_memory_becomes_a_segment_at_the_end_and_little_stays_in_the_log(opened: Opened, tmp_path: Path) -> None:
    store = await opened()
    await store.append("acme", lines("little"))
    await store.close()
    assert not list((tmp_path / "logs").rglob("*.parquet"))
    store = await opened()
    await store.append("acme", lines(*["much"] * 10_000))
    await store.close()
    assert len(list((tmp_path / "logs").rglob("*.parquet"))) == 1
    store = await opened()
    assert (await store.search("acme", LogQuery())).total == 10_001


async def test_a_short_page_of_many_segments_is_the_right_one(opened: Opened) -> None:
    store = await opened()
    for i in (3, 0, 4, 1, 2):
        await store.append("acme", lines(*(f"{i} line {n}" for n in range(3)), at=NOW + 10 * i * SECOND))
        store.flush()
    assert await messages(store, limit=4) == ["4 line 2", "4 line 1", "4 line 0", "3 line 2"]
    assert await messages(store, limit=4, newest_first=False) == ["0 line 0", "0 line 1", "0 line 2", "1 line 0"]
    page = await store.search("acme", LogQuery(lines=(LineFilter("contains", "2 LINE"),), limit=1))
    assert (page.rows[0].message, page.total, page.more) == ("2 line 2", 3, True)
