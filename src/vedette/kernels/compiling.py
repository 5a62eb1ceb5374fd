"""Kernels are compiled in processes of their own, two or more at once, and loaded from where Numba keeps them.

Numba compiles one kernel at a time in a process, mostly holding the interpreter: a new machine's first minute would be one core's
work, and whoever needs one kernel would wait for all that are compiled before it. So a server has `Compilers` while it makes its
kernels ready: what is compiled `ahead` of use goes to one set of processes, what somebody waits for to another, which is never
behind the first. Where no process can be started, or nothing can be kept on disk, the kernel is compiled here, as ever.

Processes that compile at the same time (two servers may, too) take turns at each kernel: who comes second loads it. Not here: what the
processes do (`compiler.py`), which kernels are wanted (`warm.py`), how one is loaded (`loading.py`).
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba.core.caching
import numba.core.config
import numba.core.dispatcher
import structlog

from vedette.errors import LimitExceeded

# Numba is not typed.
_config: Any = numba.core.config
_cache_class: Any = numba.core.caching.Cache
_dispatcher: Any = numba.core.dispatcher.Dispatcher
_compile: Any = _dispatcher.compile
_log = structlog.get_logger(__name__)

REQUEST = struct.Struct("<I")
"""What is asked of a compiler: the length of a pickle of (module, name, types of the arguments)."""
KEPT, NOT_KEPT, FAILED = b"k", b"n", b"f"
"""What it answers: whether the kernel can be loaded now, or there is no disk to keep it, or it is none for such arguments."""

_AT_ONCE = 2  # kernels that somebody waits for, each in a process of its own
_MOST = 4  # processes that compile ahead
_EACH = 256 << 20  # what a process that compiles takes, and the server beside them


class _Thread(threading.local):
    """What this thread is about."""

    def __init__(self) -> None:
        self.depth = 0  # kernels being compiled in it, one within the other
        self.turns: list[tuple[int, int]] = []  # of the innermost: (file, byte)


_thread = _Thread()
_ahead: contextvars.ContextVar[bool] = contextvars.ContextVar("ahead", default=False)


@contextlib.contextmanager
def ahead() -> Iterator[None]:
    """For what is compiled meanwhile, in this context, nobody waits yet."""
    token = _ahead.set(True)
    try:
        yield
    finally:
        _ahead.reset(token)


class _Compiler:
    """One process. Not for two threads at once."""

    def __init__(self) -> None:
        env = dict(os.environ)
        if _config.CACHE_DIR:
            env["NUMBA_CACHE_DIR"] = _config.CACHE_DIR
        # -P: what lies in the working directory is not imported. A session of its own: Ctrl-C is for the server, which ends it.
        command = [sys.executable, "-P", "-m", "vedette.kernels.compiler"]
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a module of ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
        )

    def compile(self, request: bytes) -> bytes:
        """What it answers, nothing where the process has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(REQUEST.pack(len(request)) + request)
            self._process.stdin.flush()
            return self._process.stdout.read(1)
        except (OSError, ValueError):
            # It ended, or was ended by `end` just now.
            return b""

    def holds(self) -> int:
        """Bytes of memory that it has, 0 where the system does not tell: with each kernel they become more."""
        try:
            return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return 0

    def end(self) -> None:
        """Whatever it compiles: files are renamed in whole. Whoever waits in `compile` is told that it has ended."""
        self._process.kill()
        self._process.wait()

    def let_go(self) -> None:
        """Close the pipes, once nobody waits any more."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


class _Lane:
    """Up to `most` compilers, started when they are needed; for threads. One that holds more bytes than `upto` makes way for a new one."""

    def __init__(self, most: int, *, upto: int = sys.maxsize) -> None:
        self._most, self._upto = most, upto
        self._changed = threading.Condition()
        self._idle: list[_Compiler] = []
        self._all: list[_Compiler] = []
        self._closed = self._resting = False

    def compile(self, request: bytes) -> bytes:
        """What it answers, nothing where its process has ended. Raises `OSError` where none can be started."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._idle or len(self._all) < self._most)
            if self._closed:
                return b""
            if self._idle:
                compiler = self._idle.pop()
            else:
                compiler = _Compiler()
                self._all.append(compiler)
        answer = compiler.compile(request)
        small = compiler.holds() <= self._upto
        with self._changed:
            if stays := bool(answer) and small and not self._closed and not self._resting:
                self._idle.append(compiler)
            else:
                self._all.remove(compiler)
            self._changed.notify()
        if not stays:
            compiler.end()
            compiler.let_go()
        return answer

    def rest(self) -> None:
        """Keep no process that nobody asks anything."""
        with self._changed:
            self._resting = True
            for compiler in self._idle:
                self._all.remove(compiler)
                compiler.end()
                compiler.let_go()
            self._idle.clear()

    def close(self) -> None:
        """End all; who waits for one is told that it has ended."""
        self.rest()
        with self._changed:
            self._closed = True
            for compiler in self._all:
                compiler.end()
            self._changed.notify_all()


def memory_limit(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process and those it starts may hold: the machine's, or what a control group above it has (of version 2 or 1)."""
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:
        return least
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (mounted / "memory", "memory.limit_in_bytes") if controllers else (mounted, "memory.max")
        place = top / path.lstrip("/")
        # In a container the path may be the host's: its own group is what is mounted at the top.
        for folder in (place, *place.parents):
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                least = min(least, int((folder / name).read_text()))
            if folder == top:
                break
    return least


def shares(cores: int, memory: int) -> tuple[int, int]:
    """How many processes compile ahead, and how many others what somebody waits for: none of these where memory has room for one in all.

    One more would have the system end it, or the server.
    """
    room = memory // _EACH - 1
    if room <= 1:
        return 1, 0
    at_once = min(_AT_ONCE, room // 2)
    return min(cores, _MOST, room - at_once), at_once


class Compilers:
    """Processes that compile for this one.

    As many as cores and memory allow, or `processes` ahead; none is started before it is needed.
    At most one `Compilers` serves a process at a time: the last one opened.
    """

    def __init__(self, processes: int | None = None) -> None:
        at_once = _AT_ONCE
        if processes is None:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            processes, at_once = shares(cores, memory_limit())
        self._ahead = _Lane(processes, upto=sys.maxsize if at_once else _EACH)
        self._demanded = _Lane(at_once) if at_once else self._ahead
        self._refused = self._ended = False  # no process can help; all ends
        self._telling = False
        self._loaded: Callable[[], object] | None = None
        self._turn = threading.Lock()
        self._under_way: dict[bytes, threading.Event] = {}
        self.needed = threading.Event()
        """Set once a kernel is asked for that was not kept."""

    def open(self) -> None:
        """Serve this process from now on."""
        _Serving.now = self

    def leave(self) -> None:
        """Serve this process no more; after `close`, and what is needed for the end."""
        if _Serving.now is self:
            _Serving.now = None

    def tell(self) -> None:
        """From now on the log names what somebody waits for: before a server is ready, everybody waits."""
        self._telling = True

    def rest(self, loaded: Callable[[], object] | None = None) -> None:
        """All is compiled that was to be: from now on a process is there as long as somebody waits for it.

        `loaded` is called each time a kernel was loaded or compiled all the same, on the thread that needed it.
        """
        self._loaded = loaded
        self._ahead.rest()
        self._demanded.rest()

    def close(self) -> None:
        """Compile nothing ahead any more. What is needed all the same, to write down what is held say, still is."""
        self._ended = True
        self._ahead.close()
        self._demanded.rest()

    def loaded(self) -> None:
        """A kernel that was called was not there, and is now."""
        if self._loaded is not None:
            self._loaded()

    def compile(self, kernel: Any, types: tuple[Any, ...]) -> None:
        """Have the kernel compiled for arguments of these types where that is to be. It is loaded then, or else compiled here.

        Raises `LimitExceeded` where all ends, and nobody waits for it.
        """
        if self._refused or (request := _request(kernel, types)) is None:
            return
        self.needed.set()
        with self._turn:
            if other := self._under_way.get(request):
                done = other
            else:
                done = self._under_way[request] = threading.Event()
        if other:
            # A process would only wait for the one that compiles it.
            other.wait()
            return
        try:
            self._compile(request, kernel.py_func.__qualname__)
        finally:
            with self._turn:
                del self._under_way[request]
            done.set()

    def _compile(self, request: bytes, name: str) -> None:
        is_ahead, started = _ahead.get(), time.monotonic()
        try:
            answer = (self._ahead if is_ahead else self._demanded).compile(request)
        except OSError as error:
            _log.warning("no process can be started to compile kernels, which are compiled here", reason=str(error))
            self._refused = True
            return
        if self._ended:
            if is_ahead:
                raise LimitExceeded("the server is ending and compiles nothing ahead any more")
        elif not answer:
            _log.warning("a process that compiled has ended: the kernel is compiled here", kernel=name)
        elif answer == NOT_KEPT:
            self._refused = True
        elif answer == KEPT and not is_ahead and self._telling:
            _log.info("a kernel was compiled while somebody waited", kernel=name, seconds=round(time.monotonic() - started, 1))


class _Serving:
    """Numba's hook has no place for it: whose compilers this process has."""

    now: Compilers | None = None


def on_disk(kernel: Any, types: tuple[Any, ...]) -> bool:
    """Whether a process can load the kernel for arguments of these types; True as well where nothing of it is ever kept."""
    cache = kernel._cache
    if not isinstance(cache, _cache_class):
        return True
    try:
        return cache._index_key(types, kernel.targetctx.codegen()) in cache._cache_file._load_index()
    except (OSError, EOFError, pickle.PickleError):
        return False


def _request(kernel: Any, types: tuple[Any, ...]) -> bytes | None:
    """None where it needs no compiling, or another process could not find it."""
    module, name = kernel.py_func.__module__, kernel.py_func.__qualname__
    if types in kernel.overloads or getattr(sys.modules.get(module), name, None) is not kernel or on_disk(kernel, types):
        return None
    return pickle.dumps((module, name, types))


def compile_kernel(kernel: Any, signature: Any) -> Any:
    """`Dispatcher.compile`, elsewhere where that can be, and never by two processes at once."""
    serving = _Serving.now
    if serving is not None and not _thread.depth and type(signature) is tuple:
        # Before Numba's lock is taken, which everybody else's loading waits for.
        serving.compile(kernel, signature)
    outer, _thread.turns = _thread.turns, []
    _thread.depth += 1
    try:
        return _compile(kernel, signature)
    finally:
        _thread.depth -= 1
        for file, at in _thread.turns:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, at)
        _thread.turns = outer
        if serving is not None and not _thread.depth:
            serving.loaded()


_files: dict[Path, int] = {}


def in_turn(load: Callable[..., Any]) -> Callable[..., Any]:
    """`load` of Numba's cache, which takes the kernel's turn where it is not kept: until it is compiled, other processes wait and load it.

    Kernels that call each other do so in one direction, so no two processes wait for one another. Where the system refuses, it is
    compiled twice at worst.
    """

    def loaded(cache: Any, signature: Any, target_context: Any) -> Any:
        kernel = load(cache, signature, target_context)
        if kernel is not None or not _thread.depth:
            return kernel
        folder = Path(cache.cache_path)
        at = zlib.crc32(cache._cache_file._index_name.encode())
        try:
            if folder not in _files:
                # Open for good: closing any of its files would let a process lose all its turns.
                _files[folder] = os.open(folder / "compiling.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.lockf(_files[folder], fcntl.LOCK_EX, 1, at)
        except OSError:
            return None
        _thread.turns.append((_files[folder], at))
        return load(cache, signature, target_context)

    return loaded
