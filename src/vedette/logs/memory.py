"""The lines that are not in a segment yet, by tenant: those that gather, and those of which segments are being made.

Batches are merged as they come, a smaller one into its neighbour of about the same size, so that a query meets few and a
line is copied some ten times at the most. What is handed out is never changed. Not here: durability (`wal`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.model.logs import LogBatch, joined

_MOST_MERGED = 64 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines with their numbers, int64[n], ascending."""

    batch: LogBatch
    seqs: NDArray[np.int64]


class Memory:
    """One writer adds and freezes; any thread may ask for chunks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gathering: dict[str, list[Chunk]] = {}
        self._frozen: dict[str, list[Chunk]] = {}
        self.lines = 0
        self.bytes = 0
        self.through = 0
        """One more than the number of the last line taken: whoever reads now sees all that have smaller ones."""

    @property
    def frozen(self) -> bool:
        """Whether segments are being made."""
        return bool(self._frozen)

    @property
    def held_bytes(self) -> int:
        """About how much memory all lines take, those that are frozen included."""
        with self._lock:
            return self.bytes + sum(c.batch.size for chunks in self._frozen.values() for c in chunks)

    def add(self, tenant: str, first: int, batch: LogBatch) -> None:
        """Take a batch whose lines are numbered from `first`."""
        chunk = Chunk(batch, np.arange(first, first + len(batch), dtype=np.int64))
        with self._lock:
            chunks = self._gathering.setdefault(tenant, [])
            while chunks and len(chunks[-1].batch) <= 2 * len(chunk.batch) and chunks[-1].batch.size + chunk.batch.size < _MOST_MERGED:
                before = chunks.pop()
                chunk = Chunk(joined([before.batch, chunk.batch]), np.concatenate([before.seqs, chunk.seqs]))
            chunks.append(chunk)
            self.lines += len(batch)
            self.bytes += batch.size
            self.through = first + len(batch)

    def freeze(self) -> None:
        """What gathered is to become segments; new lines gather anew. Nothing may be frozen before."""
        with self._lock:
            assert not self._frozen, "one flush at a time"
            self._frozen, self._gathering = self._gathering, {}
            self.lines = self.bytes = 0

    def frozen_tenants(self) -> list[str]:
        """The tenants that segments are being made for."""
        with self._lock:
            return list(self._frozen)

    def frozen_chunks(self, tenant: str) -> list[Chunk]:
        """What a tenant's next segment is made of."""
        with self._lock:
            return list(self._frozen.get(tenant, ()))

    def forget(self, tenant: str) -> None:
        """The tenant's frozen lines are in a segment."""
        with self._lock:
            self._frozen.pop(tenant, None)

    def chunks(self, tenant: str) -> Sequence[Chunk]:
        """All of a tenant's lines, older chunks first."""
        with self._lock:
            return [*self._frozen.get(tenant, ()), *self._gathering.get(tenant, ())]
