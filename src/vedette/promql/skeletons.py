"""Texts that differ from one that was read in nothing but what stands between quotes, as a dashboard's do when its variable changes.

Such a text need not be read: its shape (`direct.py`) is that of the other, with other values in its matchers. What it is has been
told by its skeleton, the text without what its strings hold. Only where each string is the value of a matcher, and nothing
hides where strings begin and end. Not here: shapes, and texts that go another way: those are read.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from vedette.errors import BadInput
from vedette.model.matchers import Matcher
from vedette.promql.direct import Shape

LONGEST = 2000
"""Characters of the longest text of which the skeleton is kept."""
_KEPT = 256
_HIDDEN = re.compile("[\\\\'`#\ud800-\udfff]")
"""Escapes, other quotes, comments: where these are, the next `"` may mean anything."""


def split(text: str) -> tuple[str, list[str]] | None:
    """The skeleton of a text and what its strings hold; None where that cannot be told by a glance, or there are none."""
    parts = text.split('"')
    strings = parts[1::2]
    if len(parts) % 2 == 0 or not strings or len(text) > LONGEST or _HIDDEN.search(text):
        return None
    if "\n" in text and any("\n" in s for s in strings):
        return None
    return '"'.join(parts[::2]), strings


@dataclass(frozen=True, slots=True)
class _Known:
    """A shape whose text has `strings`, that of a leaf's matcher by `places` (-1: it is none), each ending at `ends`."""

    shape: Shape
    strings: list[str]
    ends: list[int]
    places: tuple[tuple[int, ...], ...]


class _Moved:
    """Where in a text with other `strings` stands what stands at some place of a known one; found out when it is asked, which is seldom."""

    __slots__ = ("_known", "_strings")

    def __init__(self, known: _Known, strings: list[str]) -> None:
        self._known = known
        self._strings = strings

    def __call__(self, at: int) -> int:
        before = bisect_right(self._known.ends, at)
        pairs = zip(self._strings[:before], self._known.strings[:before], strict=True)
        return at + sum(len(new) - len(old) for new, old in pairs)


class Skeletons:
    """The skeletons that were met of late. Each method is atomic as far as other threads see; two that learn at once both count."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def learn(self, shape: Shape) -> None:
        """Keep the skeleton of a shape's text, where its strings are its matchers' values."""
        found = split(shape.expr)
        if found is None:
            return
        skeleton, strings = found
        places: list[tuple[int, ...]] = []
        values: list[str] = []
        for leaf in shape.leaves:
            matchers = leaf.selector.matchers
            written = len(matchers) - bool(leaf.selector.name)  # the name before the braces comes last, and without quotes
            places.append((*range(len(values), len(values) + written), *[-1] * (len(matchers) - written)))
            values += [m.value for m in matchers[:written]]
        if values != strings:
            return  # some are labels, or names of labels
        upto = accumulate((len(part) + 1 for part in shape.expr.split('"')), initial=0)
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[skeleton] = _Known(shape, strings, list(upto)[2::2], tuple(places))

    def filled(self, text: str) -> Shape | None:
        """The shape of a text that was never read, as reading it would give; None where it has to be read, which then tells of faults."""
        found = split(text)
        known = None if found is None else self._known.get(found[0])
        if found is None or known is None:
            return None
        strings = found[1]
        try:
            selected = tuple(_filled(one, places, strings) for one, places in zip(known.shape.selected, known.places, strict=True))
        except BadInput:
            return None
        if not all(map(_selects, selected)):
            return None
        alike = known.shape
        moved = _Moved(known, strings)
        return Shape(text, alike.root, alike.leaves, selected, alike.columns, alike.anew, moved)


def _selects(matchers: tuple[Matcher, ...]) -> bool:
    """Whether a series without labels does not pass."""
    last = matchers[-1]  # mostly a name
    return (last.op == "=" and last.value != "") or not all(m.matches_empty for m in matchers)


def _filled(matchers: tuple[Matcher, ...], places: tuple[int, ...], strings: list[str]) -> tuple[Matcher, ...]:
    """Some matchers with their values from `strings`. Raises `BadInput` for a bad regular expression."""
    pairs = zip(matchers, places, strict=True)
    return tuple([m if at < 0 or m.value == strings[at] else Matcher(m.name, m.op, strings[at]) for m, at in pairs])
