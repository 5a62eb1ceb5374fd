"""Files followed as they are written, renamed, cut off and deleted, over restarts."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from vedette.clock import ManualClock
from vedette.collect.tail import FileTail
from vedette.errors import BadInput, LimitExceeded
from vedette.logs.settings import TailSettings
from vedette.model.logs import LEVELS, LogBatch


class Follower:
    """A tail that is polled by hand, and what it stored."""

    def __init__(self, places: Path, clock: ManualClock) -> None:
        self.found: list[str] = []
        self.batches: list[LogBatch] = []
        self.places = places
        self.clock = clock
        self.refusals = 0
        self.fault: Exception | None = None
        self.tail: FileTail | None = None

    async def append(self, tenant: str, batch: LogBatch) -> None:
        if self.fault is not None and "bad" in batch.messages.strings():
            raise self.fault
        if self.refusals:
            self.refusals -= 1
            raise LimitExceeded("full", retry_after=1.0)
        self.batches.append(batch)
        self.found += batch.messages.strings()

    async def open(self, *settings: TailSettings) -> None:
        if self.tail is not None:
            await self.tail.close()
        self.tail = FileTail(settings, self.append, self.clock, places=self.places, tenant="acme", max_line=1000)
        self.tail._load()
        self.tail._task = _nothing()

    async def poll(self) -> list[str]:
        """What is new."""
        assert self.tail is not None
        before = len(self.found)
        for _ in range(50):
            if not await self.tail.poll():
                break
        return self.found[before:]


def _nothing() -> Any:
    return asyncio.get_running_loop().create_task(asyncio.sleep(0))


@pytest.fixture
async def follower(tmp_path: Path) -> AsyncIterator[Follower]:
    made = Follower(tmp_path / "places.json", ManualClock())
    yield made
    if made.tail is not None:
        await made.tail.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def write(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


async def test_new_lines_of_a_file_that_was_there(follower: Follower, log: Path) -> None:
    write(log, "old\n")
    await follower.open(TailSettings(str(log)))
    assert await follower.poll() == []
    write(log, "one\ntwo\r\nhal")
    assert await follower.poll() == ["one", "two"]
    write(log, "f\n\n")
    assert await follower.poll() == ["half", ""]
    assert await follower.poll() == []


async def test_from_the_start_and_what_lines_say(follower: Follower, log: Path) -> None:
    write(log, '2023-11-14 22:13:19,500 ERROR boom\n{"level":"warn","msg":"slow","ms":7}\n{no json}\n\xff\n'.encode("latin-1"))
    await follower.open(TailSettings(str(log), from_start=True))
    assert await follower.poll() == ["2023-11-14 22:13:19,500 ERROR boom", "slow", "{no json}", "\ufffd"]
    (batch,) = follower.batches
    assert [LEVELS[v] for v in batch.levels] == ["error", "warn", "unknown", "unknown"]
    assert batch.times[0] == 1_699_999_999_500_000_000 and batch.times[1] == 1_700_000_000_000_000_000
    assert batch.services == ("app",)
    assert orjson.loads(batch.fields.strings()[1]) == {"file": str(log), "ms": 7}


async def test_rotation_by_renaming_loses_nothing(follower: Follower, log: Path, tmp_path: Path) -> None:
    await follower.open(TailSettings(str(log), service="shop"))
    await follower.poll()
    write(log, "one\n")
    assert await follower.poll() == ["one"]
    write(log, "two\n")
    log.rename(tmp_path / "app.log.1")
    write(tmp_path / "app.log.1", "three, late")
    write(log, "four\n")
    assert sorted(await follower.poll()) == ["four", "two"]
    write(tmp_path / "app.log.1", " and\nlater")
    assert await follower.poll() == ["three, late and"]
    await follower.clock.advance(6)
    assert await follower.poll() == ["later"]
    write(log, "five\n")
    assert await follower.poll() == ["five"]


async def test_rotation_while_nobody_looked(follower: Follower, log: Path, tmp_path: Path) -> None:
    write(log, "one\n")
    await follower.open(TailSettings(str(log), from_start=True))
    assert await follower.poll() == ["one"]
    assert follower.tail is not None
    await follower.tail.close()
    write(log, "two\n")
    log.rename(tmp_path / "app.log.1")
    write(log, "three\n")
    await follower.open(TailSettings(str(log), from_start=True))
    assert sorted(await follower.poll()) == ["three", "two"]
    assert await follower.poll() == []


async def test_rotation_by_copying_and_cutting_off(follower: Follower, log: Path) -> None:
    await follower.open(TailSettings(str(log)))
    await follower.poll()
    write(log, "one, which is long\n")
    assert await follower.poll() == ["one, which is long"]
    os.truncate(log, 0)
    write(log, "two\n")
    assert await follower.poll() == ["two"]


async def test_a_restart_goes_on_where_it_was(follower: Follower, log: Path) -> None:
    await follower.open(TailSettings(str(log)))
    await follower.poll()
    write(log, "one\nhalf")
    assert await follower.poll() == ["one"]
    write(log, " whole\n")
    await follower.open(TailSettings(str(log)))
    assert await follower.poll() == ["half whole"]
    await follower.open(TailSettings(str(log)))
    assert await follower.poll() == []


async def test_another_file_by_the_same_inode_is_read_from_its_start(follower: Follower, log: Path) -> None:
    write(log, "one\n")
    await follower.open(TailSettings(str(log), from_start=True))
    assert await follower.poll() == ["one"]
    assert follower.tail is not None
    await follower.tail.close()
    log.write_bytes(b"other, and longer\n")  # the same inode, which stands for one that was given again
    await follower.open(TailSettings(str(log)))
    assert await follower.poll() == ["other, and longer"]


async def test_patterns_find_files_that_appear(follower: Follower, tmp_path: Path) -> None:
    write(tmp_path / "a.log", "there before\n")
    await follower.open(TailSettings(str(tmp_path / "*.log")))
    assert await follower.poll() == []
    write(tmp_path / "b.log", "new file\n")
    (tmp_path / "dir.log").mkdir()
    assert await follower.poll() == ["new file"]
    (tmp_path / "b.log").unlink()
    assert await follower.poll() == []
    write(tmp_path / "b.log", "new again\n")
    assert await follower.poll() == ["new again"]


async def test_lines_that_belong_together(follower: Follower, log: Path) -> None:
    await follower.open(TailSettings(str(log), multiline=r"^\d{4}-"))
    await follower.poll()
    write(log, "2024- Traceback:\n  File x\nKeyError\n2024- next\n")
    assert await follower.poll() == ["2024- Traceback:\n  File x\nKeyError"]
    assert await follower.poll() == []
    write(log, "  goes on\n")
    assert await follower.poll() == []
    await follower.clock.advance(3)
    assert await follower.poll() == ["2024- next\n  goes on"]
    write(log, "2024- a\n2024- b\n")
    assert await follower.poll() == ["2024- a"]
    log.unlink()
    await follower.clock.advance(6)
    assert await follower.poll() == ["2024- b"]


async def test_a_line_without_end_becomes_several(follower: Follower, log: Path) -> None:
    await follower.open(TailSettings(str(log)))
    await follower.poll()
    write(log, b"x" * 3_000_000 + b"\nnext\n")
    found = await follower.poll()
    assert found[-1] == "next" and all(len(line) <= 1000 for line in found[:-1])
    assert "".join(found[:-1]) == "x" * 3_000_000, "nothing of it is lost"


async def test_a_full_store_is_waited_for(follower: Follower, log: Path) -> None:
    await follower.open(TailSettings(str(log)))
    await follower.poll()
    write(log, "one\n")
    follower.refusals = 2
    polling = asyncio.create_task(follower.poll())
    while not polling.done():
        await asyncio.sleep(0.01)
        await follower.clock.advance(1)
    assert polling.result() == ["one"]


async def test_places_that_cannot_be_read_are_told_of(follower: Follower, log: Path) -> None:
    write(log, "one\n")
    follower.places.write_text("{}")
    await follower.open(TailSettings(str(log), from_start=True))
    assert await follower.poll() == ["one"]
    assert orjson.loads(follower.places.read_bytes())["places"]


@pytest.mark.parametrize("fault", [BadInput("no such line"), OSError(5, "Input/output error"), KeyError("a fault of ours")])
async def test_a_file_that_fails_holds_no_other_up_and_loses_no_line(follower: Follower, tmp_path: Path, fault: Exception) -> None:
    await follower.open(TailSettings(str(tmp_path / "*.log")))
    await follower.poll()
    write(tmp_path / "a.log", "bad\n")
    write(tmp_path / "b.log", "good\n")
    follower.fault = fault
    assert await follower.poll() == ["good"]
    assert await follower.poll() == []
    assert follower.tail is not None
    assert follower.tail.counts.unreadable == {str(tmp_path / "a.log")}
    assert follower.tail.counts.failures == 1, "told once, not twice a second"
    follower.fault = None
    write(tmp_path / "a.log", "and more\n")
    assert await follower.poll() == ["bad", "and more"]
    assert follower.tail.counts.unreadable == set()


@pytest.mark.parametrize("pattern", ["*/app.log", "gone/app.log"])
async def test_a_directory_that_is_a_pattern_or_not_there_is_not_told_of(follower: Follower, tmp_path: Path, pattern: str) -> None:
    """A file that was known is looked for under another name; there is no directory in which to look."""
    log = tmp_path / "gone" / "app.log"
    log.parent.mkdir()
    write(log, "one\n")
    await follower.open(TailSettings(str(tmp_path / pattern), from_start=True))
    assert await follower.poll() == ["one"]
    shutil.rmtree(log.parent)
    await follower.open(TailSettings(str(tmp_path / pattern), from_start=True))
    assert await follower.poll() == []
    assert follower.tail is not None
    assert follower.tail.counts.unreadable == set()


async def test_a_directory_that_cannot_be_listed_ends_nothing(follower: Follower, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await follower.open(TailSettings(str(log)))
    await follower.poll()
    write(log, "one\n")
    assert await follower.poll() == ["one"]
    log.rename(log.with_suffix(".1"))
    write(log, "two\n")

    def refused(_path: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vedette.collect.tail.os.scandir", refused)
    await follower.open(TailSettings(str(log)))
    assert await follower.poll() == ["two"]
    assert follower.tail is not None
    assert follower.tail.counts.unreadable == {str(log.parent)}


async def test_the_loop_reads_by_itself_and_outlives_a_disk_that_is_full(
    follower: Follower, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = FileTail(
        [TailSettings(str(log), from_start=True)], follower.append, follower.clock, places=tmp_path / "p", tenant="acme", max_line=100
    )

    def full(_file: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    async def found(*lines: str) -> None:
        async with asyncio.timeout(30):
            while follower.found != list(lines):
                await asyncio.sleep(0.001)
                await follower.clock.advance(1)

    write(log, "one\n")
    with monkeypatch.context() as filled:
        filled.setattr(tail._disk, "replace_file", full)
        await tail.start()
        await found("one")
        async with asyncio.timeout(30):
            while not tail.counts.failures:
                await asyncio.sleep(0.001)
    write(log, "two\n")
    await found("one", "two")
    async with asyncio.timeout(30):
        while not (tmp_path / "p").exists():
            await asyncio.sleep(0.001)
            await follower.clock.advance(1)
    await tail.close()


def test_a_bad_expression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"logs\.files: multiline: bad regular expression"):
        FileTail([TailSettings("x", multiline="(")], _refuse, ManualClock(), places=tmp_path / "p", tenant="t", max_line=10)


async def _refuse(tenant: str, batch: LogBatch) -> None:
    raise AssertionError("nothing is to be stored")
