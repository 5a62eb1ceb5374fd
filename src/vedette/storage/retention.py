"""How long which series are kept: a time for all, and others for those that a selector selects; what is older is not answered.

Not here: when blocks are deleted or written again (`compaction.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.model.matchers import Matcher
from vedette.storage.block import Block
from vedette.storage.block_meta import Meta
from vedette.storage.index import IndexView, intersection
from vedette.storage.tombstones import FOREVER, Gone


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """Series that pass all of `matchers` are kept for `keep` ms, 0 for ever."""

    matchers: tuple[Matcher, ...]
    keep: int


@dataclass(frozen=True, slots=True)
class Retention:
    """`keep` ms (0 for ever) for series that no rule takes; of several rules the first that takes a series counts."""

    keep: int
    rules: Sequence[RetentionRule] = ()

    @property
    def longest(self) -> int:
        """For how long (ms) anything is kept, 0 for ever."""
        times = [self.keep, *(rule.keep for rule in self.rules)]
        return 0 if 0 in times else max(times)

    def _classes(self, view: IndexView) -> Iterator[tuple[NDArray[np.uint32], int]]:
        left = view.all_ids
        for rule in self.rules:
            rows = intersection(view.matching(rule.matchers), left, keep=True)
            left = intersection(left, rows, keep=False)
            yield rows, rule.keep
        yield left, self.keep

    def expired(self, block: Block, now: int) -> Gone | None:
        """What of a block is too old at `now` (ms). Raises `Corrupt`."""
        meta = block.meta
        return Gone.of(
            (rows, -FOREVER, now - keep - 1)
            for tenant in meta.tenants
            if (view := block.index(tenant)) is not None
            for rows, keep in self._classes(view)
            if keep and now - keep > meta.min_time
        )

    def hidden(self, view: IndexView, rows: NDArray[np.uint32], now: int, oldest: int) -> Gone | None:
        """What of a source's `rows` must not be answered at `now` (ms) though it is still there; `oldest` is its first sample's time.

        None without rules for selectors: then whole blocks go, a minute after their time at the latest.
        """
        ends = self._ends(now)
        if not self.rules or not ends or max(ends) <= oldest:
            return None
        found, left = [], rows
        for rule in self.rules:
            mine = view.among(left, rule.matchers)
            left = intersection(left, mine, keep=False)
            found.append((mine, rule.keep))
        found.append((left, self.keep))
        return Gone.of((some, -FOREVER, now - keep - 1) for some, keep in found if keep)

    def outlived(self, block: Block, now: int) -> bool:
        """Whether the block holds series of which all is too old, and may be written again without them. Raises `Corrupt`."""
        if not self.rules or all(block.meta.max_time >= end for end in self._ends(now)):
            return False
        return any(
            len(rows) > 0 and keep > 0 and block.meta.max_time < now - keep
            for tenant in block.meta.tenants
            if (view := block.index(tenant)) is not None
            for rows, keep in self._classes(view)
        )

    def next_end(self, meta: Meta, now: int) -> int:
        """When (ms) the next retention is over for all of a block, the far future where none will be."""
        return min((meta.max_time + now - end + 1 for end in self._ends(now) if meta.max_time >= end), default=1 << 63)

    def _ends(self, now: int) -> list[int]:
        return [now - keep for keep in (self.keep, *(rule.keep for rule in self.rules)) if keep]
