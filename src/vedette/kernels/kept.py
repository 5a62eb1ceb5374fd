"""Whether all kernels that are compiled ahead are kept already, told without reading any of them.

Once all are, a stamp lies beside them: of the sources whose calls decide which kernels there are, of the compiler and the processor, and of
the files that are kept. Whatever is changed, added or deleted makes it another one, and all are gone through again. Not here: where they
lie (`kernels/__init__.py`), which they are (`warm.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba

PACKAGE = Path(__file__).parents[1]
NAME = "all-kernels.stamp"


def all_kept(kernel: Any, sources: Path = PACKAGE) -> bool:
    """Whether everything that was kept beside `kernel` when it was `note`d as all there is lies there still, for sources as they are."""
    try:
        folder = Path(kernel._cache.cache_path)
        return (folder / NAME).read_text("ascii") == _stamp(kernel, folder, sources)
    except (OSError, UnicodeDecodeError):
        return False


def note(kernel: Any, sources: Path = PACKAGE) -> None:
    """All are kept now. Where it cannot be written down, the next start goes through all of them again."""
    folder = Path(kernel._cache.cache_path)
    half = folder / f"{NAME}.{os.getpid()}"
    with contextlib.suppress(OSError):
        try:
            half.write_text(_stamp(kernel, folder, sources), "ascii")
            half.replace(folder / NAME)
        except OSError:
            half.unlink(missing_ok=True)


def _stamp(kernel: Any, folder: Path, sources: Path) -> str:
    found = [repr((numba.__version__, llvmlite.__version__, kernel.targetctx.codegen().magic_tuple()))]
    found += sorted(_sources(str(sources)))
    with os.scandir(folder) as files:
        # An index grows when another kind of arguments is compiled, and says itself which source it belongs to.
        found += sorted(
            f"{file.name} {file.stat().st_size if file.name.endswith('.nbi') else ''}" for file in files if _is_kernel(file.name)
        )
    return hashlib.blake2b("\n".join(found).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _is_kernel(name: str) -> bool:
    return name.endswith((".nbi", ".nbc"))


def _sources(folder: str) -> Iterator[str]:
    """Of each Python file of a package its path, and when it was changed, as Numba asks."""
    with os.scandir(folder) as files:
        for file in files:
            if file.is_dir():
                yield from _sources(file.path)
            elif file.name.endswith(".py"):
                told = file.stat()
                yield f"{file.path} {told.st_mtime_ns} {told.st_size}"
