"""Follows files: new lines go to the log store, through rotation and truncation, from where the last run ended.

The place in each file is kept by the file's identity (device, inode, checksum of its first bytes), so a file that was
renamed goes on where it was, and one that took its name begins at its start. Places are written after the lines are
durable: after a crash the last lines may come twice, never not at all. Not here: what the lines say (`wire.plainlines`).
"""

from __future__ import annotations

import asyncio
import glob
import os
import stat
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import structlog

from vedette.clock import Clock
from vedette.errors import LimitExceeded, VedetteError
from vedette.logs.settings import TailSettings
from vedette.model.logs import LogBatch
from vedette.model.matchers import compile_regex
from vedette.storage.disk import Disk
from vedette.wire import plainlines

log = structlog.get_logger(__name__)

Append = Callable[[str, LogBatch], Awaitable[None]]

_POLL_S = 0.5
_READ = 1 << 20
_HEAD = 256
# A line that belongs to the next ones is held back so long, if none come.
_HELD_S = 2.0
# A program goes on writing to a file that was renamed until it opens the new one: so long after its last growth it is done.
_GONE_S = 5.0
_MOST_FILES = 1_000


@dataclass(slots=True)
class _File:
    """One open file. `place` is how far its lines are stored, `size` how large it was when last looked at."""

    path: str
    fd: int
    identity: str
    place: int = 0
    size: int = -1
    gone: bool = False
    """It lost its name: what is left is read, then it is closed."""
    since: float = 0.0
    """When it last grew, on the monotonic clock."""


@dataclass(slots=True)
class TailCounts:
    """Since the start."""

    lines: int = 0
    failures: int = 0
    """Files that could not be read."""
    unreadable: set[str] = field(default_factory=set)


class FileTail:
    """Follows the files of `settings` for one tenant; places are kept in `places`."""

    def __init__(self, settings: Sequence[TailSettings], append: Append, clock: Clock, *, places: Path, tenant: str, max_line: int) -> None:
        """Raises `BadInput` for a `multiline` that is no regular expression."""
        self.counts = TailCounts()
        self._starts = [compile_regex(f".*(?:{s.multiline}).*", where="logs.files: multiline") if s.multiline else None for s in settings]
        self._settings = settings
        self._append = append
        self._clock = clock
        self._places_file = places
        self._tenant = tenant
        self._max_line = max_line
        self._files: dict[tuple[int, str], _File] = {}
        # By identity: the place, how many first bytes were looked at, and their checksum.
        self._places: dict[str, tuple[int, int, int]] = {}
        self._known_before = False
        self._saved = b""
        self._disk = Disk()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read where the last run ended, and begin."""
        await asyncio.to_thread(self._load)
        self._task = asyncio.create_task(self._run(), name="file-tail")

    def _load(self) -> None:
        try:
            found: Any = orjson.loads(self._places_file.read_bytes())
            self._places = {str(k): (int(v[0]), int(v[1]), int(v[2])) for k, v in found["places"].items()}
            self._known_before = True
        except FileNotFoundError:
            pass
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            log.warning("the places in followed files are not known; they are read as if for the first time", reason=str(error))

    async def close(self) -> None:
        """Store what is complete, keep the places, let go of the files."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for file in self._files.values():
            os.close(file.fd)
        self._files.clear()

    async def _run(self) -> None:
        while True:
            try:
                more = await self.poll()
            except OSError as error:
                # A full disk, mostly: the places are kept the next time, and until then a restart reads some lines again.
                log.error("following files failed", reason=str(error))
                self.counts.failures += 1
                more = False
            if not more:
                await self._clock.sleep(_POLL_S)

    async def poll(self) -> bool:
        """Read what there is; whether some file has more than was read. Raises `OSError` where the places cannot be kept."""
        await asyncio.to_thread(self._find)
        more = False
        for key, file in list(self._files.items()):
            try:
                more = await self._follow(key, file) or more
            except Exception as error:  # noqa: BLE001 - the edge of the loop: one file's fault must not end the following of all others
                self._unreadable(file.path, error)
            else:
                self.counts.unreadable.discard(file.path)
        await asyncio.to_thread(self._save)
        self._known_before = True
        return more

    async def _follow(self, key: tuple[int, str], file: _File) -> bool:
        """Store what one file has; whether it has more than was read. What is not stored is read again."""
        lines, place, full = await asyncio.to_thread(self._lines, key[0], file)
        if lines:
            await self._store(self._settings[key[0]], file, lines)
        file.place = place
        if file.gone and not full and self._quiet(file, _GONE_S):
            os.close(file.fd)
            del self._files[key]
            self._places.pop(file.identity, None)
        else:
            self._places[file.identity] = (file.place, *_head(file.fd, min(file.place, _HEAD)))
        return full

    def _unreadable(self, path: str, error: Exception) -> None:
        """Count and tell that a file or directory cannot be read, once until it can."""
        if path not in self.counts.unreadable:
            self.counts.unreadable.add(path)
            self.counts.failures += 1
            fault = not isinstance(error, OSError | VedetteError)
            log.warning("a file cannot be followed", path=path, reason=str(error) or type(error).__name__, exc_info=fault)

    async def _store(self, settings: TailSettings, file: _File, lines: list[bytes]) -> None:
        service = settings.service or Path(file.path).name.partition(".")[0]
        now = int(self._clock.now() * 1e6) * 1000
        fields = {"file": file.path}
        batch = await asyncio.to_thread(
            lambda: plainlines.parse(lines, now_ns=now, max_line=self._max_line, service=service, fields=fields)
        )
        while True:
            try:
                await self._append(self._tenant, batch)
            except LimitExceeded:
                await self._clock.sleep(1.0)  # the lines are safe where they are, in the file
            else:
                self.counts.lines += len(batch)
                return

    def _find(self) -> None:
        """Open what appeared, notice what was renamed or cut off."""
        named: dict[tuple[int, str], str] = {}
        for number, settings in enumerate(self._settings):
            for path in sorted(glob.glob(settings.path, recursive=True))[:_MOST_FILES]:  # noqa: PTH207 - a pattern may be absolute
                identity = self._identity(path)
                if identity is not None:
                    named[number, identity] = path
        for key, file in self._files.items():
            file.gone = key not in named
        for key, path in named.items():
            if key not in self._files:
                self._open(key, path)
        if not self._known_before:
            return
        # Renamed while nobody looked: the rest of what is known is in the same directory under another name.
        for number, settings in enumerate(self._settings):
            self._open_renamed(number, Path(settings.path).parent)

    def _open_renamed(self, number: int, directory: Path) -> None:
        open_now = {file.identity for file in self._files.values()}
        missing = {i for i in self._places if i not in open_now}
        if not missing or glob.has_magic(str(directory)) or not directory.is_dir():
            return
        try:
            entries = list(os.scandir(directory))
        except OSError as error:  # a directory may let its files be read, and not be listed
            self._unreadable(str(directory), error)
            return
        for entry in entries:
            if entry.is_file() and (identity := self._identity(entry.path)) in missing:
                assert identity is not None
                self._open((number, identity), entry.path)
                if (number, identity) in self._files:
                    self._files[number, identity].gone = True

    def _identity(self, path: str) -> str | None:
        try:
            found = os.stat(path)  # noqa: PTH116 - called for each file twice a second
        except OSError:
            return None
        return f"{found.st_dev}:{found.st_ino}" if stat.S_ISREG(found.st_mode) else None

    def _open(self, key: tuple[int, str], path: str) -> None:
        settings = self._settings[key[0]]
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self._unreadable(path, error)
            return
        self.counts.unreadable.discard(path)
        size = os.fstat(fd).st_size
        known = self._places.get(key[1])
        if known is None:
            place = 0 if self._known_before or settings.from_start else size
        else:
            # An inode is soon given again once its file is deleted: another beginning is another file.
            place = known[0] if known[0] <= size and _head(fd, known[1]) == known[1:] else 0
        self._files[key] = _File(path, fd, key[1], place, since=self._clock.monotonic())

    def _lines(self, number: int, file: _File) -> tuple[list[bytes], int, bool]:
        """(complete lines from `place` on, the place after them, whether there is more to read)."""
        size = os.fstat(file.fd).st_size
        if size < file.place:
            log.info("a followed file was cut off; it is read from its start", path=file.path)
            file.place = 0
        data = os.pread(file.fd, max(_READ, 2 * self._max_line), file.place)
        now = self._clock.monotonic()
        if size != file.size:
            file.size, file.since = size, now
        done = file.gone and self._quiet(file, _GONE_S)
        over = done or self._quiet(file, _HELD_S)
        full = file.place + len(data) < size
        end = data.rfind(b"\n") + 1
        if (done and not full) or (full and not end):
            end = len(data)  # the last line of a file that is done may lack its newline; one longer than is read is cut
        lines = data[:end].removesuffix(b"\n").split(b"\n") if end else []
        starts = self._starts[number]
        if starts is None:
            return lines, file.place + end, full
        kept, size = self._joined(lines, starts, final=over and not full)
        return kept, file.place + min(size, end), full and bool(kept)

    def _joined(self, lines: list[bytes], starts: Callable[[str], bool], *, final: bool) -> tuple[list[bytes], int]:
        """(lines that go on with the one before together, their bytes); the last is held back until it is known to be whole."""
        events: list[list[bytes]] = []
        for line in lines:
            if not events or starts(line[: self._max_line].decode("utf-8", "replace")):
                events.append([line])
            else:
                events[-1].append(line)
        kept = events if final else events[:-1]
        if len(events) == 1 and sum(map(len, events[0])) > self._max_line:
            kept = events
        size = sum(len(line) + 1 for event in kept for line in event)
        return [b"\n".join(event) for event in kept], size

    def _quiet(self, file: _File, seconds: float) -> bool:
        return self._clock.monotonic() - file.since >= seconds

    def _save(self) -> None:
        data = orjson.dumps({"places": self._places})
        if data != self._saved:
            self._disk.replace_file(self._places_file, data)
            self._saved = data


def _head(fd: int, size: int) -> tuple[int, int]:
    """(how many of the first bytes are there, at most `size`; their checksum)."""
    data = os.pread(fd, size, 0)
    return len(data), zlib.crc32(data)
