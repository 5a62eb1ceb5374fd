"""What a block says of itself: its `meta.json`, checked, and its symbols. Not here: its rows (`block.py`), writing (`block_writer.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.errors import Corrupt
from vedette.storage.block_writer import FORMATS, checksum_of


@dataclass(frozen=True, slots=True)
class Meta:
    """What `meta.json` says; times in ms, inclusive. `order`, `replaces`: see `block_writer.Origin`."""

    min_time: int
    max_time: int
    series: int
    samples: int
    tenants: tuple[str, ...]
    wal_scopes: tuple[int, ...]
    sequence: int
    level: int
    order: int
    replaces: tuple[int, ...] = ()
    histograms: int = 0
    format: int = 1


def read_meta(path: Path) -> Meta:
    """A block directory's `meta.json`. Raises `Corrupt`."""
    file = path / "meta.json"
    try:
        found = orjson.loads(file.read_bytes())
        if (version := found["format"]) not in FORMATS:
            raise Corrupt(f"block format {version!r}, which this version does not know", path=file, offset=0)
        # Blocks of earlier versions have none.
        if (checksum := found.pop("checksum", None)) is not None and checksum != checksum_of(found):
            raise Corrupt("does not match its checksum", path=file, offset=0)
        lists = {name: tuple(found.get(name, ())) for name in ("tenants", "wal_scopes", "replaces")}
        return Meta(**({"order": found["sequence"]} | found | lists))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"cannot be read: {error}", path=file, offset=0) from error


class Texts:
    """A block's own symbols: sorted texts, end to end."""

    def __init__(self, offsets: NDArray[np.int64], texts: NDArray[np.uint8]) -> None:
        self._offsets = offsets
        self._texts = texts
        self._known: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def raw(self, symbol: int) -> bytes:
        """A symbol's text as it is stored."""
        return self._texts[self._offsets[symbol] : self._offsets[symbol + 1]].tobytes()

    def text(self, symbol: int) -> str:
        """A symbol's text."""
        text = self._known.get(symbol)
        if text is None:
            text = self._known[symbol] = self.raw(symbol).decode("utf-8")
        return text

    def find(self, text: str) -> int:
        """The symbol of a text, -1 where the block has none."""
        wanted = text.encode("utf-8", "surrogatepass")
        lo, hi = 0, len(self)
        while lo < hi:
            mid = (lo + hi) // 2
            if self.raw(mid) < wanted:
                lo = mid + 1
            else:
                hi = mid
        return lo if lo < len(self) and self.raw(lo) == wanted else -1
