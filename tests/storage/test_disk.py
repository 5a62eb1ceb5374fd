"""What is made in a directory is there whole or not at all."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vedette.storage.disk import Disk


def test_what_is_made_stays(tmp_path: Path) -> None:
    with Disk().making(tmp_path / "new"):
        (tmp_path / "new" / "part").write_bytes(b"x")
    assert (tmp_path / "new" / "part").read_bytes() == b"x"


@pytest.mark.parametrize(
    "fault", [OSError(28, "No space left on device"), ValueError("ours"), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_of_what_fails_nothing_is_left_and_the_fault_is_told(tmp_path: Path, fault: BaseException) -> None:
    with pytest.raises(type(fault)) as raised, Disk().making(tmp_path / "new"):
        (tmp_path / "new" / "sub").mkdir()
        (tmp_path / "new" / "sub" / "part").write_bytes(b"x")
        raise fault
    assert raised.value is fault
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_deleted_either_the_first_fault_is_the_one_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refused)
    with pytest.raises(OSError, match="No space left") as raised, Disk().making(tmp_path / "new"):
        raise OSError(28, "No space left on device")
    assert raised.value.errno == 28 and (tmp_path / "new").is_dir()


def test_what_is_there_already_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "old").write_bytes(b"kept")
    with pytest.raises(FileExistsError), Disk().making(tmp_path / "new"):
        raise AssertionError("not reached")
    assert (tmp_path / "new" / "old").read_bytes() == b"kept"


def test_one_may_take_it_away_within_by_another_name(tmp_path: Path) -> None:
    """As blocks and snapshots do: written aside, and renamed in as the last step."""
    with Disk().making(tmp_path / "aside"):
        (tmp_path / "aside").rename(tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


class Traced(Disk):
    """A disk that notes what is done to it, in order; it takes at most three bytes at a time."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def create(self, path: Path) -> int:
        self.done.append(f"create {path.name}")
        return super().create(path)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        return super().write(fd, data[:3])

    def sync(self, fd: int) -> None:
        self.done.append("sync")
        super().sync(fd)

    def close(self, fd: int) -> None:
        self.done.append("close")
        super().close(fd)

    def rename(self, old: Path, new: Path) -> None:
        self.done.append(f"rename {old.name} {new.name}")
        super().rename(old, new)

    def sync_directory(self, path: Path) -> None:
        self.done.append(f"sync {path.name}/")
        super().sync_directory(path)


def test_a_file_is_replaced_whole_and_its_directory_synced_last(tmp_path: Path) -> None:
    """Any other order may leave half a file, or none, behind a power cut."""
    disk, path = Traced(), tmp_path / "meta"
    path.write_bytes(b"old")
    disk.replace_file(path, b"what is new")
    assert path.read_bytes() == b"what is new"
    assert disk.done == ["create meta.tmp", "sync", "close", "rename meta.tmp meta", f"sync {tmp_path.name}/"]
    assert [p.name for p in tmp_path.iterdir()] == ["meta"]


def test_a_file_that_cannot_be_written_is_closed_and_not_synced(tmp_path: Path) -> None:
    disk = Traced()

    def write(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        disk.fill(tmp_path / "part", write)
    assert disk.done == ["create part", "close"]


def test_a_sync_asks_the_system_and_a_closed_file_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def noted(name: str, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(fd: int) -> None:
            asked.append(name)
            real(fd)

        return call

    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    disk = Disk()
    fd = disk.create(tmp_path / "file")
    disk.sync(fd)
    disk.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    disk.sync_directory(tmp_path)
    assert asked == ["fdatasync", "fsync"]


def test_what_is_written_behind_a_cut_stands_there(tmp_path: Path) -> None:
    disk = Disk()
    fd = disk.create(tmp_path / "log")
    disk.write_pieces(fd, [b"kept", b"torn", b"torn"])
    disk.truncate(fd, 4)
    assert (tmp_path / "log").read_bytes() == b"kept"
    disk.write_all(fd, b"new")
    disk.close(fd)
    assert (tmp_path / "log").read_bytes() == b"keptnew"


def test_names_come_and_go(tmp_path: Path) -> None:
    disk, first, second = Disk(), tmp_path / "first", tmp_path / "second"
    disk.write_file(first, b"x" * 100_000)
    disk.link(first, second)
    disk.unlink(first)
    assert not first.exists() and second.read_bytes() == b"x" * 100_000
    disk.write_file(second, b"shorter")
    assert second.read_bytes() == b"shorter"
