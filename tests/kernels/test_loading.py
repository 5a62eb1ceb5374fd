"""A kernel from the cache comes without its module and without a compiler made ready, and others can still be compiled that call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

INNER = """
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
"""

FIRST = """
import numpy as np
import vedette.kernels
from inner import inner, made
print(inner(np.arange(4.0)), made(3), inner.stats.cache_misses)
"""

SECOND = """
import sys
import numpy as np
import vedette.kernels
from vedette.kernels import loading
from inner import inner, made
from numba import njit

assert inner(np.arange(4.0)) == 6.0 and made(3) == [0.0, 1.0, 2.0]
(kernel,) = inner.overloads.values()
assert sum(inner.stats.cache_hits.values()) == 1 and not inner.stats.cache_misses
assert kernel.library._shared_module is None, "the module is gone"
assert "numba.np.npyimpl" not in sys.modules, "nothing was compiled, so nothing is ready to"

@njit
def outer(values):
    return 2 * inner(values) + len(made(2))

assert outer(np.arange(4.0)) == 14.0
assert "numba.np.npyimpl" in sys.modules
# A type that it was not kept for is compiled as ever.
assert inner(np.arange(4, dtype=np.int64)) == 6.0
print("well")
"""


def _run(script: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_kernel_from_the_cache_comes_alone_and_can_be_called_by_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text(INNER)
    assert _run(FIRST, tmp_path).startswith("6.0 [0.0, 1.0, 2.0]")
    assert _run(SECOND, tmp_path) == "well\n"
