"""Decoded pages of blocks, for the next who reads them. Not here: what a page holds (`block.py`, `histogram_pages.py`)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

_ASKED = 4096
"""Pages that are remembered for having been asked for."""


class PageCache:
    """Decoded pages, the least recently used let go when they are more than `limit` bytes together. Thread-safe.

    A key is (which block and kind of page, number), or that of chains (`chained.py`); whoever puts a page knows what it gets back.
    Pages are shared: nobody changes one.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._pages: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._asked: OrderedDict[Hashable, None] = OrderedDict()
        self.nbytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable) -> Any:
        """A page, None where it is not held."""
        with self._lock:
            held = self._pages.get(key)
            if held is None:
                self.misses += 1
                return None
            self.hits += 1
            self._pages.move_to_end(key)
            return held[0]

    def peek(self, key: Hashable) -> Any:
        """As `get`, for whoever may not `put` what is not held: that is no miss."""
        with self._lock:
            held = self._pages.get(key)
            if held is None:
                return None
            self.hits += 1
            self._pages.move_to_end(key)
        return held[0]

    def asked(self, key: Hashable) -> bool:
        """Whether it was asked before, of late, for a page that it does not hold: what is read once drives out nothing."""
        with self._lock:
            if key in self._asked:
                del self._asked[key]
                return True
            self._asked[key] = None
            if len(self._asked) > _ASKED:
                self._asked.popitem(last=False)
            return False

    def put(self, key: Hashable, page: Any, size: int) -> None:
        """Hold a page of `size` bytes, save where it alone is more than the limit."""
        if size > self.limit:
            return
        with self._lock:
            _, before = self._pages.pop(key, (None, 0))
            self._pages[key] = page, size
            self.nbytes += size - before
            while self.nbytes > self.limit:
                _, (_, old) = self._pages.popitem(last=False)
                self.nbytes -= old
