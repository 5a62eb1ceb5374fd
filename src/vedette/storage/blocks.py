"""Which blocks there are: loaded at start, added by flushes, replaced by larger ones, deleted. Damaged ones are set aside and reported.

Not here: what is in a block (`block.py`), which are merged and when (`compaction.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import structlog

from vedette.errors import Corrupt
from vedette.storage.block import Block
from vedette.storage.block_writer import TEMPORARY
from vedette.storage.disk import Disk
from vedette.storage.page_cache import PageCache

log = structlog.get_logger(__name__)


class Blocks:
    """The blocks of a directory, in the order in which their samples were stored."""

    def __init__(self, directory: Path, disk: Disk, *, page_cache: int) -> None:
        self.directory = directory
        self.disk = disk
        self.cache = PageCache(page_cache)
        self.damaged = 0
        self._lock = threading.Lock()
        self._blocks: tuple[Block, ...] = ()
        self._last = 0
        self._strays: list[Path] = []
        self._rubbish: list[Path] = []
        self.files = threading.Lock()
        """Held while files of blocks go away, and by whoever needs them all to stay."""

    def load(self) -> None:
        """Find the blocks; what a crash left half written, or had no time to delete after it was replaced, is deleted."""
        found = []
        for path in sorted(self.directory.iterdir()):
            if path.name.startswith(TEMPORARY):
                self.disk.remove_tree(path)
            elif path.is_dir():
                try:
                    found.append(Block(path, self.cache))
                except Corrupt as damage:
                    self.report(damage)
                    # Its number is taken: another block of that number could be one that a third one says it replaces.
                    self._last = max(self._last, int(path.name[:8]) if path.name[:8].isdecimal() else 0)
        self._last = max([self._last, *(b.meta.sequence for b in found)])
        replaced = {sequence for b in found for sequence in b.meta.replaces}
        with self._lock:
            self._blocks = tuple(sorted(found, key=lambda b: b.meta.order))
        self.remove([b for b in found if b.meta.sequence in replaced])

    def report(self, damage: Corrupt) -> None:
        """Count and log damage; what it stands in is left out of answers."""
        self.damaged += 1
        log.error("damaged data is left out", path=str(damage.path), offset=damage.offset, problem=str(damage))

    @property
    def all(self) -> Sequence[Block]:
        """The blocks, oldest stored first; a snapshot."""
        return self._blocks

    @property
    def last_sequence(self) -> int:
        """The sequence number of the block that was begun last."""
        return self._last

    def take_sequence(self) -> int:
        """The sequence number of a block that is to be written. Raises `OSError` where what should be gone cannot be deleted."""
        self.sweep()
        with self._lock:
            self._last += 1
            return self._last

    @property
    def wal_scopes(self) -> set[int]:
        """The scopes of the log that are in blocks whole."""
        return {scope for b in self._blocks for scope in b.meta.wal_scopes}

    def open(self, path: Path) -> Block:
        """A block that was just written, which is discarded where it cannot be opened (too many files). Raises `Corrupt`."""
        try:
            return Block(path, self.cache)
        except Corrupt:
            self.discard(path)
            raise

    def discard(self, path: Path) -> None:
        """Have a block's directory, of which nobody answers, deleted before anything else is written."""
        self._strays.append(path)

    def add(self, block: Block) -> None:
        """Answer from `block` too."""
        with self._lock:
            self._blocks = (*self._blocks, block)

    def replace(self, gone: Sequence[Block], by: Block | None) -> None:
        """Answer from `by` (from nothing, where it is None) instead of `gone`, all at once, and delete those."""
        with self._lock:
            kept = [b for b in self._blocks if b not in gone]
            self._blocks = tuple(sorted([*kept, by] if by is not None else kept, key=lambda b: b.meta.order))
        self._delete(gone)

    def remove(self, gone: Sequence[Block]) -> None:
        """Answer without these from now on, and delete them; whoever reads one finishes undisturbed."""
        self.replace(gone, None)

    def _delete(self, gone: Sequence[Block]) -> None:
        for block in gone:
            block.doom()
        self._strays += [block.path for block in gone]
        self.sweep()

    def sweep(self) -> None:
        """Delete what should be gone. Raises `OSError`; what is left then is tried again before the next block is written.

        A start would answer from it again, perhaps after the deletions that hold for it were forgotten.
        """
        with self.files:
            for path in self._strays:
                if path.exists():
                    # Renamed first: a crash half way must not leave a block that is half there.
                    self.disk.rename(path, _doomed(path))
            if self._strays:
                self.disk.sync_directory(self.directory)
            self._rubbish += map(_doomed, self._strays)
            self._strays.clear()
            while self._rubbish:
                if self._rubbish[-1].exists():
                    self.disk.remove_tree(self._rubbish[-1])
                self._rubbish.pop()


def _doomed(path: Path) -> Path:
    return path.with_name(TEMPORARY + path.name)
