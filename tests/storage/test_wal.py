"""The writing end of the log: which file is synced when, and what a failed sync leaves owed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.storage import wal
from vedette.storage.disk import Disk


class Noting(Disk):
    """A disk that notes what happens to each file, by its name, in order."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.notes: list[str] = []
        self.failing = False

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self.names[fd] = path.name
        self.notes.append(f"create {path.name}")
        return fd

    def sync(self, fd: int) -> None:
        if self.failing:
            raise OSError(5, "Input/output error")
        self.notes.append(f"sync {self.names[fd]}")
        super().sync(fd)

    def close(self, fd: int) -> None:
        self.notes.append(f"close {self.names[fd]}")
        super().close(fd)


@pytest.fixture
def disk() -> Noting:
    return Noting()


def opened(tmp_path: Path, disk: Disk, *, keep_unsynced: bool = True) -> wal.Wal:
    (tmp_path / "wal").mkdir()
    made = wal.Wal(tmp_path / "wal", disk, segment_size=256, keep_unsynced=keep_unsynced)
    made.begin_scope()
    return made


def some(byte: bytes, size: int = 240) -> bytes:
    return wal.record(7, 0, byte * size)


def stored(tmp_path: Path) -> list[bytes]:
    """The segments' bytes, in order."""
    return [segment.path.read_bytes() for segment in wal.segments(tmp_path / "wal")]


def test_a_full_segment_is_synced_and_closed_before_the_next_begins(tmp_path: Path, disk: Noting) -> None:
    """Where `sync` is an interval, nothing else would ever sync what was written to it since the last time."""
    log = opened(tmp_path, disk)
    log.append([some(b"a")])
    log.append([some(b"b")])
    assert disk.notes == ["create 00000001.wal", "sync 00000001.wal", "close 00000001.wal", "create 00000002.wal"]
    log.close()
    assert disk.notes[4:] == ["sync 00000002.wal", "close 00000002.wal"]
    first, second = stored(tmp_path)
    assert b"a" * 240 in first
    assert b"b" * 240 in second


def test_a_new_scope_begins_in_a_segment_of_its_own(tmp_path: Path, disk: Noting) -> None:
    log = opened(tmp_path, disk)
    log.append([some(b"a", 120)])
    before = log.scope
    log.begin_scope()
    assert log.scope != before
    assert disk.notes[1:] == ["sync 00000001.wal", "close 00000001.wal"]
    log.append([some(b"b", 120)])
    log.close()
    scopes = [wal.scope_of(segment) for segment in wal.segments(tmp_path / "wal")]
    assert scopes == [before, log.scope]


def test_what_a_failed_sync_may_have_lost_is_written_to_another_segment(tmp_path: Path, disk: Noting) -> None:
    log = opened(tmp_path, disk)
    log.append([some(b"a")])
    disk.failing = True
    with pytest.raises(OSError, match="Input/output"):
        log.append([some(b"b")])
    assert log.owed
    assert disk.notes[-1] == "close 00000001.wal"
    disk.failing = False
    log.settle()
    log.sync()
    assert not log.owed
    log.close()
    _, second = stored(tmp_path)
    assert b"a" * 240 in second, "it is there again, whatever became of the first"
    assert b"b" * 240 in second


def test_what_nobody_is_to_sync_is_not_kept(tmp_path: Path, disk: Noting) -> None:
    log = opened(tmp_path, disk, keep_unsynced=False)
    log.append([some(b"a")])
    disk.failing = True
    with pytest.raises(OSError, match="Input/output"):
        log.sync()
    assert not log.owed
    disk.failing = False
    log.close()
