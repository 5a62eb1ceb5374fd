"""Go's sort, step by step over a list, with any comparison: what sorts of kernels must do, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
GO_1_22, GO_1_19 = (13, 7, 17), (13, 17, 5)
"""The shifts of its random numbers, which changed."""
WORD = (1 << 64) - 1


def go_sorted(items: list[T], less: Callable[[T, T], bool], shifts: tuple[int, int, int] = GO_1_22) -> list[T]:
    """The items as `sort.Sort` of Go leaves them."""
    line = list(items)
    Sort(line, less, shifts).part(0, len(line), len(line).bit_length())
    return line


class Sort:
    def __init__(self, line: list[T], less: Callable[[T, T], bool], shifts: tuple[int, int, int]) -> None:
        self.line, self.shifts = line, shifts
        self.less = lambda i, j: less(line[i], line[j])

    def swap(self, i: int, j: int) -> None:
        self.line[i], self.line[j] = self.line[j], self.line[i]

    def part(self, a: int, b: int, limit: int) -> None:
        balanced = parted = True
        while True:
            n = b - a
            if n <= 12:
                for i in range(a + 1, b):
                    self.sink(i, a)
                return
            if limit == 0:
                self.heap(a, b)
                return
            if not balanced:
                self.shake(a, n)
                limit -= 1
            pivot, swaps = self.pivot(a, n)
            if swaps == 12:
                self.line[a:b] = self.line[a:b][::-1]
                pivot = b - 1 - (pivot - a)
            if balanced and parted and swaps in (0, 12) and self.nearly(a, b):
                return
            if a > 0 and not self.less(a - 1, pivot):
                a = self.split(a, b, pivot, lambda i, first: not self.less(first, i))[0]
                continue
            end, parted = self.split(a, b, pivot, self.less)
            middle = end - 1
            self.swap(a, middle)
            balanced = min(middle - a, b - middle) >= n // 8
            if middle - a < b - middle:
                self.part(a, middle, limit)
                a = middle + 1
            else:
                self.part(middle + 1, b, limit)
                b = middle

    def sink(self, i: int, least: int) -> None:
        while i > least and self.less(i, i - 1):
            self.swap(i, i - 1)
            i -= 1

    def heap(self, a: int, b: int) -> None:
        def down(root: int, end: int) -> None:
            while (child := 2 * root + 1) < end:
                child += child + 1 < end and self.less(a + child, a + child + 1)
                if not self.less(a + root, a + child):
                    return
                self.swap(a + root, a + child)
                root = child

        for root in reversed(range((b - a - 1) // 2 + 1)):
            down(root, b - a)
        for end in reversed(range(b - a)):
            self.swap(a, a + end)
            down(0, end)

    def shake(self, a: int, n: int) -> None:
        random, (x, y, z) = n, self.shifts
        for i in range(3):
            random ^= random << x & WORD
            random ^= random >> y
            random ^= random << z & WORD
            other = random & ((1 << n.bit_length()) - 1)
            self.swap(a + n // 4 * 2 - 1 + i, a + (other - n if other >= n else other))

    def pivot(self, a: int, n: int) -> tuple[int, int]:
        swaps = 0

        def median(*three: int) -> int:
            nonlocal swaps
            places = list(three)
            for i in (0, 1, 0):
                if self.less(places[i + 1], places[i]):
                    places[i], places[i + 1] = places[i + 1], places[i]
                    swaps += 1
            return places[1]

        quarters = [a + n // 4 * i for i in (1, 2, 3)]
        if n >= 50:
            quarters = [median(i - 1, i, i + 1) for i in quarters]
        return median(*quarters), swaps

    def nearly(self, a: int, b: int) -> bool:
        i = a + 1
        for _ in range(5):
            while i < b and not self.less(i, i - 1):
                i += 1
            if i == b or b - a < 50:
                return i == b
            self.swap(i, i - 1)
            if i - a >= 2:
                self.sink(i - 1, 0)
            j = i + 1
            while b - i >= 2 and j < b and self.less(j, j - 1):
                self.swap(j, j - 1)
                j += 1
        return False

    def split(self, a: int, b: int, pivot: int, before: Callable[[int, int], bool]) -> tuple[int, bool]:
        """What is `before` the pivot, which goes to `a`, and then the rest: where that begins, and whether all was so already."""
        self.swap(a, pivot)
        i, j, once = a + 1, b - 1, True
        while True:
            while i <= j and before(i, a):
                i += 1
            while i <= j and not before(j, a):
                j -= 1
            if i > j:
                return i, once
            self.swap(i, j)
            i, j, once = i + 1, j - 1, False
