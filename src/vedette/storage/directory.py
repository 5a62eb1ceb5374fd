"""The data directory: one process at a time, and writable. Not here: what lies in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from vedette.errors import BadInput
from vedette.storage.disk import Disk

RESTORING = "restoring"
"""The file that stands in a directory until all of a snapshot is restored there, and names the snapshot."""


class DirectoryLock:
    """Holds the directory for this process until `release` or its end, however that comes."""

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path
        self._disk = disk or Disk()
        self._fd = -1

    def take(self, *, restoring: bool = False) -> None:
        """Make the directory and lock it. Raises `BadInput`, one line, where another process holds it or it cannot be written.

        So, too, unless `restoring`, where only a part of a snapshot was restored there.
        """
        if not restoring and (self.path / RESTORING).exists():
            raise BadInput(
                "a snapshot was not restored completely here",
                where=str(self.path),
                hint=f"run `vedette storage restore` again; {RESTORING} says of what",
            )
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
                if not (self.path / name).is_dir():
                    self._disk.mkdir(self.path / name)
            # What is synced in a directory is lost all the same where the directory is not known to its own.
            self._disk.sync_directory(self.path)
            self._disk.sync_directory(self.path.resolve().parent)
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
