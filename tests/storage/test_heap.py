"""What is freed goes back to the system, and so does code that only the start needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vedette.storage import heap

glibc = pytest.mark.skipif(heap._libc() is None, reason="the C library is not glibc")

SMAPS = """\
7f0000000000-7f0000010000 r-xp 00001000 fe:00 42                         /lib/python 3.11/libbig.so
Size:                 64 kB
Rss:                  48 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
7f0000010000-7f0000011000 r--p 00011000 fe:00 42                         /lib/python 3.11/libbig.so
Rss:                   4 kB
Anonymous:             4 kB
7f0000011000-7f0000012000 rw-p 00012000 fe:00 42                         /lib/python 3.11/libbig.so
Rss:                   4 kB
Anonymous:             0 kB
7f0000020000-7f0000030000 r--p 00000000 fe:00 43                         /usr/lib/libc.so.6
Rss:                   8 kB
Anonymous:             0 kB
7f0000030000-7f0000040000 r-xp 00000000 fe:00 43                         /usr/lib/libc.so.6
Rss:                   0 kB
Anonymous:             0 kB
7f0000040000-7f0000050000 r--p 00000000 fe:00 44                         /data/blocks/1/index
Rss:                  64 kB
Anonymous:             0 kB
7f0000050000-7f0000060000 r-xs 00000000 fe:00 45                         /usr/lib/libshared.so
Rss:                  64 kB
Anonymous:             0 kB
7f0000060000-7f0000070000 rw-p 00000000 00:00 0\x20
Rss:                  64 kB
Anonymous:            64 kB
7f0000070000-7f0000080000 r-xp 00000000 00:00 0                          [vdso]
Rss:                   4 kB
Anonymous:             0 kB
"""


def resident() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


@glibc
def test_what_is_free_between_what_is_held_is_given_back() -> None:
    held = [bytearray(b"x" * 60_000) for _ in range(2000)]
    # Every tenth stays, so that the C library cannot shrink its heap by itself.
    kept = held[::10]
    held.clear()
    before = resident()
    heap.give_back()
    assert resident() < before - (50 << 20)
    assert all(piece == b"x" * 60_000 for piece in kept)


def test_only_what_can_be_read_again_from_a_library_is_let_go() -> None:
    """Not what a relocation wrote, what can be written, what is no library's, what is not there anyway."""
    assert list(heap._code(SMAPS)) == [(0x7F0000000000, 0x7F0000010000, 48 << 10), (0x7F0000020000, 0x7F0000030000, 8 << 10)]


def test_one_library_is_found_by_its_name() -> None:
    assert list(heap._code(SMAPS, "libbig")) == [(0x7F0000000000, 0x7F0000010000, 48 << 10)]
    assert list(heap._code(SMAPS, "lib/")) == [] and list(heap._code(SMAPS, "big")) == []


SERVER = """
import os, re
import llvmlite.binding, numpy as np
from vedette.kernels.hashing import hash_regions
from vedette.storage import heap

def resident(what):
    return int(re.search(rf"{what}:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10

def hashed():
    ends = np.array([3, 5], dtype=np.int64)
    return hash_regions(np.arange(5, dtype=np.uint8), ends - 2, ends, np.uint64(0)).tolist()

before, files = hashed(), resident("RssFile")
said = heap.let_code_go()
print(files, said, resident("RssFile"))
assert hashed() == before
assert llvmlite.binding.parse_assembly("define i32 @f() { ret i32 1 }").get_function("f").name == "f"
compiler = heap.Library("libllvmlite")
llvmlite.binding.parse_assembly("define i32 @g() { ret i32 1 }").get_function("g")
looked_at = resident("RssFile")
compiler.let_go()
print(looked_at, resident("RssFile"))
assert llvmlite.binding.parse_assembly("define i32 @f() { ret i32 1 }").get_function("f").name == "f"
"""


def _run(script: str, **more: str) -> list[int]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**kept, **more}, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@glibc
def test_what_is_let_go_is_no_longer_resident_and_works_as_before() -> None:
    before, said, after, looked_at, left = _run(SERVER)
    assert said > 20 << 20, "the compiler alone is more than that"
    assert after < before - said // 2
    assert left < looked_at - (1 << 20), "the compiler by itself, once more"


FREED = """
import os, re, sys
import numpy as np
from vedette.storage import heap

def resident():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10

heap.economise(os.environ)
# Freeing one makes glibc take this size, and all below it, from the heap from then on.
del (first := [np.ones(3 << 20)])[:]
small = []
before = resident()
for _ in range(8):
    large = np.ones(2 << 20)
    small.append(np.ones(1000))
    del large
print(before, resident())
"""


@glibc
def test_what_is_freed_in_large_pieces_is_the_systems_again() -> None:
    before, after = _run(FREED)
    assert after - before < 8 << 20


@glibc
def test_the_operators_own_settings_stay() -> None:
    told: list[tuple[int, int]] = []

    class Told:
        def mallopt(self, number: int, value: int) -> int:
            told.append((number, value))
            return 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heap, "_libc", lambda: Told())
        heap.economise({"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"})
        assert told == []
        heap.economise({"MALLOC_ARENA_MAX": "4", "MALLOC_TRIM_THRESHOLD_": "1"})
        assert told == [(heap._MMAP_THRESHOLD, heap.LARGE)]
        heap.economise({})
        assert len(told) == 4


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heap._libc.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert heap._libc() is None
    heap.economise({})
    heap.give_back()
    assert heap.let_code_go() == 0
    heap.Library("libllvmlite").let_go()
    assert heap.free() is None
    heap._libc.cache_clear()
