"""Kernels compiled by other processes: what is asked of them, and what is done where they cannot."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import types

from vedette.errors import LimitExceeded
from vedette.kernels import compiling, loading
from vedette.kernels.compiling import Compilers

# A machine that does much else takes its time to start a process.
pytestmark = pytest.mark.timeout(300)

SOURCE = """
from numba import njit
import vedette.kernels

@njit(cache=True)
def halved(x):
    return x / 2

@njit(cache=True)
def quartered(x):
    return halved(x) / 2

@njit(cache=True)
def doubled(x):
    return x + x

@njit
def kept_nowhere(x):
    return x

def inner():
    @njit(cache=True)
    def found_by_nobody(x):
        return x
    return found_by_nobody
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of kernels that nobody has compiled yet, which other processes find, too."""
    name = f"kernels_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setattr(compiling._config, "CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)]))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(name)
    del sys.modules[name]


@pytest.fixture
def compilers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compilers]:
    monkeypatch.setattr(compiling._Serving, "now", None)
    found = Compilers(1)
    found.open()
    yield found
    found.close()
    found.leave()
    assert compiling._Serving.now is None


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged: where that goes is a matter of whoever configured it first."""
    found: list[str] = []
    say = lambda text, **_: found.append(text)  # noqa: E731 - it is two methods
    monkeypatch.setattr(compiling, "_log", SimpleNamespace(warning=say, info=say))
    return found


def hits(kernel: Any) -> tuple[int, int]:
    """How many were loaded, and how many compiled, in this process."""
    stats = kernel.stats
    return sum(stats.cache_hits.values()), sum(stats.cache_misses.values())


def test_what_is_compiled_elsewhere_is_loaded_here(own: ModuleType, compilers: Compilers, told: list[str]) -> None:
    assert not compilers.needed.is_set()
    assert own.quartered(8.0) == 2.0
    assert hits(own.quartered) == (1, 0) and compilers.needed.is_set()
    with compiling.ahead():
        assert own.doubled(np.int64(4)) == 8
    assert hits(own.doubled) == (1, 0)
    assert told == []
    # For each kind of argument one, and each once.
    compilers.tell()
    assert own.doubled(1.5) == 3.0 and own.doubled(2.5) == 5.0
    assert hits(own.doubled) == (2, 0) and told == ["a kernel was compiled while somebody waited"]

    # What a process cannot compile fails here, where it is told, and spoils nothing else.
    with pytest.raises(Exception, match=r"None|none"):
        own.halved(None)
    assert not compilers._refused

    # All there is is done: a process comes when it is needed, and goes.
    compilers.rest()
    assert not compilers._demanded._all and not compilers._ahead._all
    assert own.halved(np.float32(3)) == 1.5 and hits(own.halved)[0] == 1
    assert not compilers._demanded._all

    # Whoever wants to know is told of each that comes all the same, and once.
    came: list[int] = []
    compilers.rest(lambda: came.append(len(own.halved.overloads)))
    assert own.halved(np.int64(3)) == 1.5 and came == [len(own.halved.overloads)]
    assert own.halved(np.int64(5)) == 2.5 and len(came) == 1

    # Somebody ends it, for want of memory say.
    compilers._demanded._resting = False
    assert own.halved(np.int32(3)) == 1.5
    compilers._demanded._idle[0]._process.kill()
    compilers._demanded._idle[0]._process.wait()
    assert own.halved(np.int16(3)) == 1.5 and hits(own.halved) == (3, 2), "compiled here (and the None that could not be)"
    assert not compilers._demanded._all


def test_what_no_other_process_could_find_or_keep_is_compiled_here(own: ModuleType, compilers: Compilers) -> None:
    assert own.kept_nowhere(1) == 1
    assert own.inner()(1) == 1
    assert not compilers.needed.is_set()


def test_without_processes_kernels_are_compiled_here(
    own: ModuleType, compilers: Compilers, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert own.doubled(2) == 4 and hits(own.doubled) == (0, 1)
    assert own.halved(2) == 1
    assert told == ["no process can be started to compile kernels, which are compiled here"], "once"


def test_what_cannot_be_kept_is_not_compiled_twice_each_time(
    own: ModuleType, compilers: Compilers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(compiling._Lane, "compile", lambda self, request: asked.append(request) or compiling.NOT_KEPT)
    assert own.doubled(2) == 4 and own.halved(2) == 1
    assert len(asked) == 1


def test_of_two_threads_that_need_a_kernel_one_asks(own: ModuleType, compilers: Compilers, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = [], threading.Event()

    def answer(lane: object, request: bytes) -> bytes:
        asked.append(request)
        assert go_on.wait(60)
        return compiling.FAILED

    monkeypatch.setattr(compiling._Lane, "compile", answer)
    threads = [threading.Thread(target=own.doubled, args=(2,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while not asked or not next(iter(compilers._under_way.values()))._cond._waiters:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(asked) == 1 and own.doubled.stats.cache_misses.total() == 1 and not compilers._under_way


def test_at_the_end_nothing_more_is_compiled_ahead(own: ModuleType, compilers: Compilers) -> None:
    compilers.close()
    with compiling.ahead(), pytest.raises(LimitExceeded, match="ending"):
        own.doubled(2)
    assert own.doubled(2) == 4 and hits(own.doubled)[0] == 1, "somebody needs it: what is held is written down by kernels, too"
    assert not compilers._demanded._all


def test_who_waits_is_told_of_the_end(own: ModuleType, compilers: Compilers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one process is busy, another thread waits for it: both are free at once."""
    monkeypatch.setattr(compiling, "sys", type("sys", (), {"executable": "/bin/cat", "modules": sys.modules}))
    monkeypatch.setattr(compiling.subprocess, "Popen", _silent)
    told: list[str] = []

    def ask(kernel: Any) -> None:
        with compiling.ahead():
            try:
                kernel(2)
            except LimitExceeded as error:
                told.append(str(error))

    threads = [threading.Thread(target=ask, args=(kernel,)) for kernel in (own.doubled, own.halved)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while not compilers._ahead._all:
        assert time.monotonic() < deadline
    compilers.close()
    for thread in threads:
        thread.join()
    assert len(told) == 2


def _silent(command: list[str], **options: Any) -> Any:
    """A process that never answers."""
    return _POPEN([sys.executable, "-c", "import sys; sys.stdin.buffer.read()"], **options)


_POPEN = subprocess.Popen

IN_ANOTHER = """
import importlib, json, sys
kernels = importlib.import_module(sys.argv[1])
print("begun", flush=True)
sys.stdin.readline()
kernels.quartered(8.0)
print(json.dumps([sum(k.stats.cache_misses.values()) for k in (kernels.halved, kernels.quartered)]), flush=True)
"""


def test_two_processes_compile_a_kernel_once(own: ModuleType) -> None:
    run = [sys.executable, "-c", IN_ANOTHER, own.__name__]
    both = [subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for each in both:
        assert each.stdout is not None and each.stdout.readline() == "begun\n"
    for each in both:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    missed = [json.loads(each.communicate()[0]) for each in both]
    assert sorted(missed) == [[0, 0], [1, 1]], "who is second waits, and loads"
    assert own.quartered(8.0) == 2.0 and hits(own.quartered) == (1, 0)


def test_a_turn_is_over_when_compiling_fails(own: ModuleType) -> None:
    with pytest.raises(Exception, match=r"None|none"):
        own.quartered(None)
    assert compiling._thread.depth == 0 and compiling._thread.turns == []
    folder = own.quartered._cache.cache_path
    code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    subprocess.run([sys.executable, "-c", code, str(Path(folder) / "compiling.lock")], check=True)


def test_where_no_turns_can_be_taken_kernels_are_compiled_all_the_same(own: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(compiling.fcntl, "lockf", refused)
    assert own.doubled(3) == 6


@pytest.mark.parametrize(("module", "seen"), [("vedette.kernels.own", types.int64), ("numba.np.own", types.literal(0))])
def test_a_constant_needs_no_kernel_of_its_own(monkeypatch: pytest.MonkeyPatch, module: str, seen: types.Type) -> None:
    """Numba's own functions do: what is inlined of them depends on it."""
    monkeypatch.setattr(loading, "_call_template", lambda kernel, args, keywords: (args, keywords))
    kernel = SimpleNamespace(py_func=SimpleNamespace(__module__=module))
    assert loading.call_template(kernel, (types.float64, types.literal(0)), {"at": types.literal(0)}) == (
        (types.float64, seen),
        {"at": seen},
    )


@pytest.mark.parametrize(
    ("cores", "mib", "expected"),
    [(1, 400, (1, 0)), (2, 512, (1, 0)), (2, 768, (1, 1)), (2, 1024, (2, 1)), (8, 1024, (2, 1)), (8, 2048, (4, 2)), (2, 24_000, (2, 2))],
)
def test_no_more_processes_compile_than_memory_has_room_for(cores: int, mib: int, expected: tuple[int, int]) -> None:
    assert compiling.shares(cores, mib << 20) == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/system.slice/vedette.service\n", {"system.slice/vedette.service/memory.max": "536870912\n"}, 512),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "268435456\n"}, 256),
        ("0::/of/the/host\n", {"memory.max": "314572800\n"}, 300),
        ("5:cpu,memory:/docker/1\n0::/\n", {"memory/docker/1/memory.limit_in_bytes": "104857600\n"}, 100),
        ("5:cpu:/docker/1\n", {"docker/1/memory.max": "104857600\n", "memory/memory.limit_in_bytes": "1"}, None),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("nonsense\n", {}, None),
        (None, {}, None),
    ],
)
def test_how_much_memory_there_is(tmp_path: Path, groups: str | None, files: dict[str, str], expected: int | None) -> None:
    named, mounted = tmp_path / "cgroup", tmp_path / "mounted"
    if groups is not None:
        named.write_text(groups)
    for name, text in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_text(text)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert compiling.memory_limit(named, mounted) == (machine if expected is None else expected << 20)


def test_in_little_memory_one_process_compiles_whatever_is_wanted(own: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling._Serving, "now", None)
    monkeypatch.setattr(compiling, "memory_limit", lambda: 512 << 20)
    compilers = Compilers()
    compilers.open()
    try:
        assert own.doubled(3.0) == 6.0
        with compiling.ahead():
            assert own.doubled(3) == 6
        assert len(compilers._ahead._all) == 1 and compilers._demanded is compilers._ahead
        # One that has grown makes way for another.
        assert 10 << 20 < compilers._ahead._all[0].holds() < compilers._ahead._upto == 256 << 20
        compilers._ahead._upto = 1 << 20
        assert own.doubled(np.float32(3)) == 6 and not compilers._ahead._all
        assert own.halved(3.0) == 1.5 and hits(own.halved)[1] == 0
    finally:
        compilers.close()
        compilers.leave()
    assert not compilers._ahead._all
