"""The data directory: one process at a time, and writable; files in it replaced whole. Not here: what lies in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from vedette.errors import BadInput


class DirectoryLock:
    """Holds the directory for this process until `release` or its end, however that comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def take(self) -> None:
        """Make the directory and lock it. Raises `BadInput`, one line, where another process holds it or it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise BadInput(
                f"the data directory is locked by another process (pid {holder})",
                where=str(self.path),
                hint="stop it or use another --data",
            ) from None
        try:
            os.ftruncate(fd, 0)
            # Really written, since permissions alone do not say so: root may write anywhere but to a read-only disk.
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            os.fsync(fd)
            for name in ("wal", "blocks"):
                (self.path / name).mkdir(exist_ok=True)
        except OSError as error:
            os.close(fd)
            raise self._unwritable(error) from None
        self._fd = fd

    def _unwritable(self, error: OSError) -> BadInput:
        return BadInput(f"the data directory is not writable: {error.strerror}", where=str(self.path), hint="see --data")

    @property
    def held(self) -> bool:
        """Whether this process has the directory."""
        return self._fd >= 0

    def release(self) -> None:
        """Let others have it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def sync_directory(path: Path) -> None:
    """Make the directory's entries durable: without it a crash may forget a file that was made or renamed."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, content: bytes) -> None:
    """Put a file's new content in place, durably and all at once. Raises `OSError`."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
