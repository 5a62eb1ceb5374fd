"""How little memory the process keeps beyond what is held on purpose: freed memory and code that only the start needed go back.

The C library keeps what is freed for the next ones, in an arena for each thread, and raises by itself the size from which on it
asks the system for memory of their own: after a few large queries that is half a gigabyte that nothing is in. And a compiler
of a hundred megabytes is read to load kernels, and not looked at again. Not here: what is held on purpose.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""The numbers of `mallopt(3)`."""

LARGE = 4 << 20
"""From this size on memory is the system's own again as soon as it is freed: what is smaller comes quicker from what was freed before."""

_SETTINGS = {
    # Two, since more threads than there are cores do not allocate at once, and no arena uses what another one has free.
    "MALLOC_ARENA_MAX": (_ARENA_MAX, 2),
    "MALLOC_MMAP_THRESHOLD_": (_MMAP_THRESHOLD, LARGE),
    # More than LARGE, so that no memory that comes and goes by the megabyte is the system's in between: handing it over and
    # clearing it again was three quarters of the processor time of a list of 49 MB.
    "MALLOC_TRIM_THRESHOLD_": (_TRIM_THRESHOLD, 4 * LARGE),
}
"""What glibc reads from the environment, and what it is told where that says nothing."""


@functools.cache
def _libc() -> Any:
    """glibc, None where the C library is another."""
    found = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return found if hasattr(found, "malloc_trim") else None


def economise(environment: Mapping[str, str]) -> None:
    """Have the C library keep little of what is freed, save where the operator's `environment` says how; before threads begin."""
    if (libc := _libc()) is None or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return
    for name, (number, value) in _SETTINGS.items():
        if name not in environment:
            libc.mallopt(number, value)


class _Counts(ctypes.Structure):
    """`struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def free() -> int | None:
    """How many bytes the C library has that nothing is in, given back or not; None where it does not tell, as before glibc 2.33."""
    if not hasattr(libc := _libc(), "mallinfo2"):
        return None
    libc.mallinfo2.restype = _Counts
    return int(libc.mallinfo2().fordblks)


def give_back() -> None:
    """Give free memory back; takes milliseconds, and holds up no other thread of Python meanwhile."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


def let_code_go() -> int:
    """Let go of the pages of shared libraries that are mapped but can be read again; answers how many bytes that was.

    They stay in the system's page cache: what is still needed comes back at its first use, a few microseconds a page.
    """
    return sum(resident for first, last, resident in _mapped() if _let_go(first, last))


class Library:
    """One library whose code is needed now and then, for a moment; its file's name begins with `name`.

    Where it is mapped, and has been looked at, is found out once, in some 20 ms.
    """

    def __init__(self, name: str) -> None:
        self._places = [(first, last) for first, last, _ in _mapped(name)]

    def let_go(self) -> None:
        """As `let_code_go`, of this library; takes a fraction of a millisecond."""
        for first, last in self._places:
            _let_go(first, last)


def _mapped(name: str = "") -> Iterator[tuple[int, int, int]]:
    """`_code` of this process; of nothing where memory cannot be given back."""
    return iter(()) if _libc() is None else _code(Path("/proc/self/smaps").read_text("utf-8", "surrogateescape"), name)


def _let_go(first: int, last: int) -> bool:
    libc = _libc()
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return bool(libc.madvise(first, last - first, mmap.MADV_DONTNEED) == 0)


def _code(smaps: str, name: str = "") -> Iterator[tuple[int, int, int]]:
    """(first address, last, resident bytes) of each mapping of a library's file that nobody can write, nor has written to.

    Of one whose file's name begins with `name`.
    """
    first = last = resident = 0
    library = False
    for line in smaps.splitlines():
        key, _, rest = line.partition(" ")
        if not key.endswith(":"):
            fields = rest.split(None, 4)
            first, last = (int(part, 16) for part in key.split("-"))
            # What a relocation wrote before it was closed to writing (`r--p`) is private memory: it tells as `Anonymous`.
            library = len(fields) == 5 and fields[0][1] == "-" and fields[0][3] == "p" and _is_library(fields[4], name)
        elif key == "Rss:":
            resident = int(rest.split()[0]) << 10
        elif key == "Anonymous:" and library and resident and int(rest.split()[0]) == 0:
            yield first, last, resident


def _is_library(path: str, name: str) -> bool:
    file = path.rpartition("/")[2]
    return path.startswith("/") and file.startswith(name) and (file.endswith(".so") or ".so." in file)
