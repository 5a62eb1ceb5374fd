"""A disk that loses power: it writes down all that is done to it, and shows what may be left of it at any moment.

What is left is the worst that POSIX allows: of a file, what was synced, and any of the sectors written since; of a directory,
what was synced, and the first few of its changes since.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

from vedette.storage.disk import Disk

SECTOR = 512


@dataclass
class _File:
    durable: bytes = b""
    pending: list = field(default_factory=list)
    """Changes since the last sync: (offset, bytes), or a length to cut it off at."""
    size: int = 0


@dataclass
class _Directory:
    durable: dict = field(default_factory=dict)
    pending: list = field(default_factory=list)
    """Changes since the last sync: functions of the entries."""

    def now(self) -> dict:
        entries = dict(self.durable)
        for change in self.pending:
            change(entries)
        return entries


class LossyDisk(Disk):
    """Does everything for real below `root`, and keeps a journal of it; `len(disk.journal)` names a moment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal: list[tuple] = []
        self._lock = threading.Lock()
        self._open: dict[int, int] = {}
        self._files = 0

    def _note(self, *event) -> None:
        with self._lock:
            self.journal.append(event)

    def create(self, path):
        fd = super().create(path)
        self._files += 1
        self._open[fd] = self._files
        self._note("create", path, self._files)
        return fd

    def write(self, fd, data):
        done = super().write(fd, data)
        self._note("write", self._open[fd], bytes(data[:done]))
        return done

    def truncate(self, fd, size):
        super().truncate(fd, size)
        self._note("truncate", self._open[fd], size)

    def sync(self, fd):
        # Not for real: it would only cost time.
        self._note("sync", self._open[fd])

    def close(self, fd):
        del self._open[fd]
        super().close(fd)

    def mkdir(self, path):
        super().mkdir(path)
        self._note("mkdir", path)

    def rename(self, old, new):
        super().rename(old, new)
        self._note("rename", old, new)

    def link(self, old, new):
        super().link(old, new)
        self._note("link", old, new)

    def unlink(self, path):
        super().unlink(path)
        self._note("unlink", path)

    def sync_directory(self, path):
        self._note("sync_directory", path)

    def remove_tree(self, path):
        for file in list(path.iterdir()):
            if file.is_dir():
                self.remove_tree(file)
            else:
                self.unlink(file)
        path.rmdir()
        self._note("unlink", path)

    def left(self, moment: int, rng: random.Random, target: Path) -> None:
        """Write to `target` what may be left of `root` where power is lost after `moment` events."""
        _Replayed(self.root, self.journal[:moment]).left(rng, target)


class _Replayed:
    def __init__(self, root: Path, journal) -> None:
        self.root = root
        self.tree = _Directory()
        self.files: dict[int, _File] = {}
        for kind, *arguments in journal:
            getattr(self, kind)(*arguments)

    def _directory(self, path: Path) -> _Directory | None:
        """None above `root`, which is taken to be there."""
        if path != self.root and self.root not in path.parents:
            return None
        found = self.tree
        for name in path.relative_to(self.root).parts:
            found = found.now()[name]
        return found

    def _change(self, path: Path, change) -> None:
        directory = self._directory(path.parent)
        assert directory is not None
        directory.pending.append(change)

    def create(self, path: Path, number: int) -> None:
        file = self.files[number] = _File()
        self._change(path, lambda entries: entries.__setitem__(path.name, file))

    def write(self, number: int, data: bytes) -> None:
        file = self.files[number]
        file.pending.append((file.size, data))
        file.size += len(data)

    def truncate(self, number: int, size: int) -> None:
        file = self.files[number]
        file.pending.append(size)
        file.size = size

    def sync(self, number: int) -> None:
        file = self.files[number]
        file.durable, file.pending = _content(file, None), []

    def mkdir(self, path: Path) -> None:
        made = _Directory()
        self._change(path, lambda entries: entries.__setitem__(path.name, made))

    def rename(self, old: Path, new: Path) -> None:
        assert old.parent == new.parent, "a rename between directories is two changes"
        self._change(old, lambda entries: entries.__setitem__(new.name, entries.pop(old.name)))

    def link(self, old: Path, new: Path) -> None:
        directory = self._directory(old.parent)
        assert directory is not None
        node = directory.now()[old.name]
        self._change(new, lambda entries: entries.__setitem__(new.name, node))

    def unlink(self, path: Path) -> None:
        self._change(path, lambda entries: entries.pop(path.name))

    def sync_directory(self, path: Path) -> None:
        directory = self._directory(path)
        if directory is not None:
            directory.durable, directory.pending = directory.now(), []

    def left(self, rng: random.Random, target: Path) -> None:
        self._write(self.tree, rng, target)

    def _write(self, directory: _Directory, rng: random.Random, target: Path) -> None:
        target.mkdir()
        entries = dict(directory.durable)
        for change in directory.pending[: rng.randint(0, len(directory.pending))]:
            change(entries)
        for name, node in entries.items():
            if isinstance(node, _Directory):
                self._write(node, rng, target / name)
            else:
                (target / name).write_bytes(_content(node, rng))


def _content(file: _File, rng: random.Random | None) -> bytes:
    """What is in a file: all of it, or with `rng` what was synced and some of the rest."""
    content = bytearray(file.durable)
    for change in file.pending:
        if isinstance(change, int):
            if rng is None or rng.random() < 0.5:
                del content[change:]
            continue
        offset, data = change
        fate = 1.0 if rng is None else rng.random()
        if fate < 0.3:
            continue
        for lo in range(0, len(data), SECTOR) if fate < 0.6 else ():
            if rng.random() < 0.5:
                _put(content, offset + lo, data[lo : lo + SECTOR])
        if fate >= 0.6:
            _put(content, offset, data)
    return bytes(content)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
