"""What is made in a directory is there whole or not at all."""

from __future__ import annotations

import asyncio
import shutil
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
