"""Whether all kernels are kept is told by a stamp, and whatever changes makes it another one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vedette.kernels import groups, kept


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A package of two files."""
    folder = tmp_path / "package"
    (folder / "room").mkdir(parents=True)
    (folder / "a.py").write_text("a = 1\n")
    (folder / "room" / "b.py").write_text("b = 1\n")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where kernels are kept."""
    folder = tmp_path / "kept"
    folder.mkdir()
    for name in ("f-1.py311.nbi", "f-1.py311.1.nbc", "f.pyc"):
        (folder / name).write_text(name)
    return folder


def kernel(place: Path, processor: str = "this") -> Any:
    """One that is kept there, compiled for a processor."""
    codegen = SimpleNamespace(magic_tuple=lambda: ("triple", processor, "+features"))
    return SimpleNamespace(_cache=SimpleNamespace(cache_path=str(place)), targetctx=SimpleNamespace(codegen=lambda: codegen))


def test_all_are_kept_once_it_was_noted(place: Path, sources: Path) -> None:
    assert not kept.all_kept(kernel(place), sources)
    kept.note(kernel(place), sources)
    assert kept.all_kept(kernel(place), sources)
    assert not kept.all_kept(kernel(place, "another"), sources), "of this processor nothing is"
    assert sorted(path.name for path in place.iterdir()) == [kept.NAME, "f-1.py311.1.nbc", "f-1.py311.nbi", "f.pyc"], "no half file"
    # Who compiled them at the making of an image is another user than who runs the server.
    assert (place / kept.NAME).stat().st_mode & 0o044 == 0o666 & ~_umask() & 0o044


def _umask() -> int:
    os.umask(found := os.umask(0o022))
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda place, sources: (place / "f-1.py311.1.nbc").unlink(),
        lambda place, sources: (place / "f-1.py311.nbi").unlink(),
        lambda place, sources: (place / "f-1.py311.nbi").write_text("one more kind of arguments"),
        lambda place, sources: (place / "g-1.py311.nbi").touch(),
        lambda place, sources: (sources / "room" / "b.py").write_text("b = 22\n"),
        lambda place, sources: os.utime(sources / "a.py", ns=(1, 1)),
        lambda place, sources: (sources / "room" / "c.py").touch(),
        lambda place, sources: (sources / "a.py").unlink(),
        lambda place, sources: (place / kept.NAME).write_bytes(b"\xff"),
        lambda place, sources: (place / kept.NAME).unlink(),
    ],
)
def test_what_changes_makes_it_untold(place: Path, sources: Path, change: Callable[[Path, Path], object]) -> None:
    kept.note(kernel(place), sources)
    change(place, sources)
    assert not kept.all_kept(kernel(place), sources)
    kept.note(kernel(place), sources)
    assert kept.all_kept(kernel(place), sources)


def test_what_is_no_kernel_and_no_source_changes_nothing(place: Path, sources: Path) -> None:
    kept.note(kernel(place), sources)
    (place / "f.pyc").unlink()
    (place / "compiling.lock").touch()
    (sources / "page.js").touch()
    assert kept.all_kept(kernel(place), sources)


def test_where_nothing_can_be_written_it_is_not_told_and_nobody_is_stopped(place: Path, sources: Path) -> None:
    (place / kept.NAME).mkdir()
    kept.note(kernel(place), sources)
    assert not kept.all_kept(kernel(place), sources)
    assert [path.name for path in place.iterdir() if path.name.startswith(f"{kept.NAME}.")] == []
    kept.note(kernel(place / "none"), sources)
    assert not kept.all_kept(kernel(place / "none"), sources)


def test_kernels_of_the_house_are_asked_the_same_way() -> None:
    folder = Path(groups.merge._cache.cache_path)  # type: ignore[attr-defined]
    assert len(kept._stamp(groups.merge, folder, kept.PACKAGE)) == 32
    assert (kept.PACKAGE / "warm.py").exists()
