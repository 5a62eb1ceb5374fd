"""A batch put together of series whose labels are at hand: what imports and JSON protocols come to. Not here: reading those."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels.hashing import hash_regions
from vedette.model.labels import Labels
from vedette.model.samples import KeySpace, SampleBatch


class Rows:
    """Series and their samples, for a canonical key space."""

    def __init__(self, keyspace: KeySpace) -> None:
        self._keyspace = keyspace
        self._keys: list[bytes] = []
        self._offsets = array("q", [0])
        self._times, self._values = array("q"), array("d")

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._values)

    def add(self, labels: Labels, times: Iterable[int], values: Iterable[float]) -> None:
        """The samples of a series, as many times as values (ms). Raises `BadInput` for a time beyond int64, having added nothing."""
        self.add_key(labels.encode(), times, values)

    def add_key(self, key: bytes, times: Iterable[int], values: Iterable[float]) -> None:
        """As `add`, of labels as they are encoded."""
        before = len(self._times)
        try:
            self._times.extend(times)
        except OverflowError:
            del self._times[before:]
            raise BadInput("timestamp out of range") from None
        self._values.extend(values)
        assert len(self._times) == len(self._values), "a time for each value"
        self._keys.append(key)
        self._offsets.append(len(self._values))

    def batch(self) -> SampleBatch:
        """All that was added; a series that is not valid keeps only itself out."""
        ends = np.cumsum([len(key) for key in self._keys], dtype=np.int64) if self._keys else np.zeros(0, dtype=np.int64)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]) if self._keys else ends
        # A bytearray, since kernels would be compiled a second time for an array that is read-only.
        buffer: NDArray[np.uint8] = np.frombuffer(bytearray().join(self._keys), dtype=np.uint8)
        return SampleBatch(
            keyspace=self._keyspace,
            buffer=buffer,
            key_start=starts,
            key_end=ends,
            hashes=hash_regions(buffer, starts, ends, np.uint64(self._keyspace.id)),
            offsets=np.array(self._offsets, dtype=np.int64),
            timestamps=np.array(self._times, dtype=np.int64),
            values=np.array(self._values, dtype=np.float64),
            partial=True,
        )
