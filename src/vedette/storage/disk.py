"""Every change that the engine makes to files goes through a `Disk`, so that tests can put one in that loses power or is full.

Reading does not: what is damaged on disk, checksums find. All methods raise `OSError`. Not here: what is in the files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


class Disk:
    """The operating system's files. What is written is durable after `sync` of the file and of the directory that names it."""

    def create(self, path: Path) -> int:
        """Make an empty file, in the place of one that is there; answers a descriptor that `close` takes."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Append to a file that `create` made; answers how many bytes were taken."""
        return os.write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file off; what is written next stands there."""
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)

    def sync(self, fd: int) -> None:
        """Make a file's content and length durable."""
        os.fdatasync(fd)

    def close(self, fd: int) -> None:
        """Let go of a file."""
        os.close(fd)

    def mkdir(self, path: Path) -> None:
        """Make a directory."""
        path.mkdir()

    def rename(self, old: Path, new: Path) -> None:
        """Rename within a directory, all at once; a file may take the place of another."""
        old.rename(new)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name."""
        os.link(old, new)

    def unlink(self, path: Path) -> None:
        """Take a file's name away."""
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        """Make a directory's entries durable: without it a crash may forget a file that was made or renamed."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def write_all(self, fd: int, data: bytes | memoryview) -> None:
        """`write` until all is taken."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += self.write(fd, view[done:])

    def write_pieces(self, fd: int, pieces: Iterable[bytes | memoryview]) -> None:
        """`write_all` of one after another."""
        for piece in pieces:
            self.write_all(fd, piece)

    def write_file(self, path: Path, content: bytes) -> None:
        """Make a file with this content, durable once its directory is synced."""
        self.fill(path, lambda fd: self.write_all(fd, content))

    def fill(self, path: Path, write: Callable[[int], None]) -> None:
        """Make a file, have `write` fill it, sync it."""
        fd = self.create(path)
        try:
            write(fd)
            self.sync(fd)
        finally:
            self.close(fd)

    def replace_file(self, path: Path, content: bytes) -> None:
        """Put a file's new content in place, durably and all at once."""
        temporary = path.with_name(path.name + ".tmp")
        self.write_file(temporary, content)
        self.rename(temporary, path)
        self.sync_directory(path.parent)

    def remove_tree(self, path: Path) -> None:
        """Delete a directory of files, half of it where that fails."""
        shutil.rmtree(path)

    @contextlib.contextmanager
    def making(self, path: Path) -> Iterator[None]:
        """Make a directory, of which nothing is left where what is done within fails: it would fill the disk further with every attempt.

        Raises `OSError`; what cannot be deleted stays, and the failure is the one that counts.
        """
        self.mkdir(path)
        with contextlib.ExitStack() as undo:
            undo.callback(self._discard, path)
            yield
            undo.pop_all()

    def _discard(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            self.remove_tree(path)
