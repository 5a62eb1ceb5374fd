"""Where compiled kernels are kept, and that they compile where they can be kept nowhere."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vedette
from vedette import kernels
from vedette.kernels import forgiving

HASH_AND_TELL = """
import numpy as np
from vedette import kernels
from vedette.kernels.hashing import hash_regions
assert "/source/" in kernels.__file__
print(kernels.PASSING)
print(len(list(kernels.PASSING.rglob("*.nbc"))) if kernels.PASSING else "")
bounds = np.array([0, 2], dtype=np.int64)
hash_regions(np.zeros(2, dtype=np.uint8), bounds[:1], bounds[1:], np.uint64(1))
print(len(list(kernels.PASSING.rglob("*.nbc"))) if kernels.PASSING else "")
"""


def _run(source: Path, home: Path) -> list[str]:
    """What the script says when it runs from a copy of the package, as a user whose home is `home`."""
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    env |= {"PYTHONPATH": str(source), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", HASH_AND_TELL], capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _copy(folder: Path) -> Path:
    package = Path(str(vedette.__file__)).parent
    shutil.copytree(package, folder / "source" / "vedette", ignore=shutil.ignore_patterns("__pycache__", "static"))
    return folder / "source"


def test_kernels_compile_where_they_can_be_kept_nowhere(tmp_path: Path) -> None:
    """A file where a folder should be cannot be written even by root, of whom a read-only installation does not protect itself."""
    source = _copy(tmp_path)
    (source / "vedette" / "kernels" / "__pycache__").touch()
    passing, before, after = _run(source, tmp_path / "source" / "vedette" / "errors.py")
    assert Path(passing).name.startswith("vedette-kernels-")
    assert (int(before), int(after) > 0) == (0, True)
    assert not Path(passing).exists(), "it is gone with its process"


def test_kernels_are_kept_for_good_where_that_is_possible(tmp_path: Path) -> None:
    source = _copy(tmp_path)
    assert _run(source, tmp_path / "home")[0] == "None"
    assert list((source / "vedette" / "kernels" / "__pycache__").glob("*.nbc"))
    assert not (tmp_path / "home").exists()


def test_what_was_compiled_elsewhere_is_taken_over(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "new" / "here"
    there.mkdir()
    for name in ("a.py311.nbi", "a.py311.1.nbc", "a.pyc"):
        (there / name).write_text(name)
    here.mkdir(parents=True)
    (here / "a.py311.nbi").write_text("newer")
    kernels.take_over(there, here)
    assert {p.name: p.read_text() for p in here.iterdir()} == {"a.py311.nbi": "newer", "a.py311.1.nbc": "a.py311.1.nbc"}
    kernels.take_over(tmp_path / "none", here)


FULL = """
import resource, sys
# As on a disk that is full: no file takes a byte.
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
import numpy as np
from vedette.kernels.hashing import hash_regions
ends = np.array([3], dtype=np.int64)
print(hash_regions(np.arange(3, dtype=np.uint8), ends - 3, ends, np.uint64(0)).shape)
"""


def test_a_full_disk_keeps_no_kernel_and_fails_no_call(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "(1, 2)" in done.stdout
    assert "a compiled kernel could not be kept" in done.stdout + done.stderr
    assert not [f for f in (tmp_path / "kept").rglob("*.nb[ic]") if f.stat().st_size]


def test_a_cache_that_cannot_be_read_is_done_without():
    def broken(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/kept/x.nbi")

    def faulty():
        raise ValueError("a fault of ours")

    assert forgiving(broken, "not read")(1, 2) is None
    with pytest.raises(ValueError, match="a fault of ours"):
        forgiving(faulty, "not read")()


def test_a_full_disk_takes_no_kernel_over_and_stops_nobody(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.nbi").write_bytes(b"kernel")
    monkeypatch.setattr(shutil, "copyfile", full)
    kernels.take_over(tmp_path / "there", tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []
    monkeypatch.undo()
    kernels.take_over(tmp_path / "there", tmp_path / "here")
    assert (tmp_path / "here" / "a.nbi").read_bytes() == b"kernel"
