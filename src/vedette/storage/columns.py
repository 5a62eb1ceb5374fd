"""Growing arrays: what an append-only table keeps its columns in."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


class Column(Generic[T]):
    """An append-only one-dimensional array that grows by half.

    `view()` stays valid and unchanged however much is appended later: growth makes a new array and leaves the old
    one to its readers. One writer; readers take views under the writer's lock.
    """

    __slots__ = ("_array", "_size")

    def __init__(self, dtype: type[T], capacity: int = 1024) -> None:
        self._array: NDArray[T] = np.empty(capacity, dtype=dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._array.nbytes

    def view(self) -> NDArray[T]:
        """What has been appended."""
        return self._array[: self._size]

    def extend(self, items: NDArray[T]) -> None:
        """Append `items`, of the column's dtype."""
        size = self._size + len(items)
        if size > len(self._array):
            grown = np.empty(max(size, len(self._array) * 3 // 2), dtype=self._array.dtype)
            grown[: self._size] = self._array[: self._size]
            self._array = grown
        self._array[self._size : size] = items
        self._size = size
