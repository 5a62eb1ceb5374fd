"""A kernel from the cache comes without its module and without a compiler made ready, and others can still be compiled that call it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO

from vedette.kernels import loading

INNER = """
import numpy as np
from numba import njit

@njit(cache=True)
def inner(values):
    total = 0.0
    for value in values:
        total += value
    return total

@njit(cache=True)
def made(count):
    return [float(i) for i in range(count)]

@njit(cache=True)
def filled(count):
    return np.ones(count).sum()
"""

FIRST = """
import numpy as np
import vedette.kernels
from inner import filled, inner, made
print(inner(np.arange(4.0)), made(3), filled(3), inner.stats.cache_misses)
"""

SECOND = """
import sys
import numpy as np
import vedette.kernels
from vedette.kernels import loading
from inner import filled, inner, made
from numba import njit
from numba.core.environment import Environment

assert inner(np.arange(4.0)) == 6.0 and made(3) == [0.0, 1.0, 2.0]
(kernel,) = inner.overloads.values()
assert sum(inner.stats.cache_hits.values()) == 1 and not inner.stats.cache_misses
assert kernel.library._shared_module is None, "the module is gone"
assert kernel.type_annotation == "", "and so is the listing of its types"
try:
    filled(-1)
except ValueError as error:
    assert "negative dimensions" in str(error), error
else:
    raise AssertionError("what Numba's own function raises, a constant of its environment, is lost")
# `np.ones` and `sum` are functions of these, and their environments came with the kernel.
assert "numba.np.arrayobj" in {of.globals["__name__"] for of in Environment._memo.values()}
for name in ("numba.np.npyimpl", "numba.np.arrayobj", "numba.np.arraymath"):
    assert name not in sys.modules, f"nothing was compiled, so nothing is ready to: {name}"

from outer import outer

assert outer(np.arange(4.0)) == 17.0
assert "numba.np.npyimpl" in sys.modules
# A type that it was not kept for is compiled as ever.
assert inner(np.arange(4, dtype=np.int64)) == 6.0
print("well")
"""


OUTER = """
from inner import filled, inner, made
from numba import njit

@njit(cache=True)
def outer(values):
    return 2 * inner(values) + len(made(2)) + filled(len(values) - 1)
"""

THIRD = """
import sys
import numpy as np
import vedette.kernels
from outer import outer

# Kept by a process that had the environments of what it calls from the cache itself.
assert outer(np.arange(4.0)) == 17.0
assert sum(outer.stats.cache_hits.values()) == 1 and not outer.stats.cache_misses
assert "numba.np.arrayobj" not in sys.modules
try:
    outer(np.arange(0.0))
except ValueError as error:
    print(error)
"""


def _run(script: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_kernel_from_the_cache_comes_alone_and_can_be_called_by_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text(INNER)
    (tmp_path / "outer.py").write_text(OUTER)
    assert _run(FIRST, tmp_path).startswith("6.0 [0.0, 1.0, 2.0] 3.0")
    assert _run(SECOND, tmp_path) == "well\n"
    assert _run(THIRD, tmp_path) == "negative dimensions not allowed\n"


def test_names_that_an_object_defines() -> None:
    def section(kind: int, place: int, length: int, names: int = 0) -> bytes:
        return struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, place, length, names, 0, 0, 0)

    texts = b"\0kernel\0outside\0other\0"
    symbols = b"".join(struct.pack("<IBBHQQ", name, 0, 0, where, 0, 0) for name, where in ((0, 0), (1, 4), (8, 0), (16, 5)))
    at = 64 + len(texts) + len(symbols)
    header = b"\x7fELF\x02\x01" + bytes(34) + struct.pack("<Q", at) + bytes(10) + struct.pack("<HHH", 64, 3, 0)
    body = texts + symbols + section(0, 0, 0) + section(3, 64, len(texts)) + section(2, 64 + len(texts), len(symbols), 1)
    assert loading.elf_symbols(header + body) == {"kernel", "other"}, "what is only called is defined elsewhere"
    assert loading.elf_symbols(b"\xcf\xfa\xed\xfe" + bytes(100)) is None
    assert loading.elf_symbols(b"\x7fELF\x01\x01" + bytes(100)) is None, "of 32 bits"


def test_what_is_put_aside_comes_back(tmp_path: Path) -> None:
    """Each of them, in any order, and without a file as well: on a disk that is full, and one that is full now."""
    contents = [bytes([number]) * 5000 + os.urandom(100) for number in range(5)]
    files: list[IO[bytes]] = []

    def made() -> IO[bytes]:
        files.append((tmp_path / "aside").open("w+b"))
        return files[-1]

    def refused() -> IO[bytes]:
        raise OSError(28, "No space left on device")

    aside = loading.Aside(made)
    back = [aside.put(content) for content in contents]
    assert [bring() for bring in reversed(back)] == contents[::-1] and [bring() for bring in back] == contents
    (file,) = files
    assert 500 < (tmp_path / "aside").stat().st_size < 1000, "packed"
    assert [bring() for bring in map(loading.Aside(refused).put, contents)] == contents
    file.close()
    with (tmp_path / "aside").open("rb") as read_only:
        assert [bring() for bring in map(loading.Aside(lambda: read_only).put, contents)] == contents


def test_of_what_is_put_aside_nothing_stays_in_memory(tmp_path: Path) -> None:
    with (tmp_path / "aside").open("w+b") as file:
        bring = loading.Aside(lambda: file).put(os.urandom(100_000))
        held = [cell.cell_contents for cell in bring.__closure__ or ()]
        assert not any(isinstance(one, bytes) for one in held)
        assert len(bring()) == 100_000
