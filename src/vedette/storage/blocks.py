"""Which blocks there are: loaded at start, added by flushes, deleted by retention. Damaged ones are set aside and reported.

Not here: what is in a block (`block.py`); merging blocks into larger ones, for which `add` and `remove` are the seam.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import structlog

from vedette.errors import Corrupt
from vedette.storage.block import Block, PageCache
from vedette.storage.block_writer import TEMPORARY
from vedette.storage.wal import sync_directory

log = structlog.get_logger(__name__)


class Blocks:
    """The blocks of a directory, in the order in which they were written."""

    def __init__(self, directory: Path, *, page_cache: int) -> None:
        self.directory = directory
        self.cache = PageCache(page_cache)
        self.damaged = 0
        self._lock = threading.Lock()
        self._blocks: tuple[Block, ...] = ()

    def load(self) -> None:
        """Find the blocks; what a crash left half written is deleted."""
        found = []
        for path in sorted(self.directory.iterdir()):
            if path.name.startswith(TEMPORARY):
                shutil.rmtree(path)
            elif path.is_dir():
                try:
                    found.append(Block(path, self.cache))
                except Corrupt as damage:
                    self.report(damage)
        with self._lock:
            self._blocks = tuple(sorted(found, key=lambda b: b.meta.sequence))

    def report(self, damage: Corrupt) -> None:
        """Count and log damage; what it stands in is left out of answers."""
        self.damaged += 1
        log.error("damaged data is left out", path=str(damage.path), offset=damage.offset, problem=str(damage))

    @property
    def all(self) -> Sequence[Block]:
        """The blocks, oldest written first; a snapshot."""
        return self._blocks

    @property
    def next_sequence(self) -> int:
        """The sequence number of the next block to be written."""
        taken = [int(p.name[:8]) for p in self.directory.iterdir() if p.name[:8].isdecimal()]
        return max(taken, default=0) + 1

    @property
    def wal_scopes(self) -> set[int]:
        """The scopes of the log that are in blocks whole."""
        return {scope for b in self._blocks for scope in b.meta.wal_scopes}

    def add(self, block: Block) -> None:
        """Answer from `block` too."""
        with self._lock:
            self._blocks = (*self._blocks, block)

    def remove(self, gone: Sequence[Block]) -> None:
        """Answer without these from now on, and delete them; whoever reads one finishes undisturbed."""
        with self._lock:
            self._blocks = tuple(b for b in self._blocks if b not in gone)
        for block in gone:
            # Renamed first: a crash half way must not leave a block that is half there.
            doomed = block.path.with_name(TEMPORARY + block.path.name)
            block.path.rename(doomed)
            sync_directory(self.directory)
            shutil.rmtree(doomed)

    def expire(self, before: int) -> int:
        """Delete the blocks whose newest sample is older than `before` (ms); answers how many."""
        old = [b for b in self._blocks if b.meta.max_time < before]
        if old:
            self.remove(old)
        return len(old)
