"""Which reads of a query may be answered from rollups, and by what column of them.

A read may where all its windows begin and end with stretches of a tier: the first step, the distance of the steps and the range are
multiples of it. Windows are open at their start and closed at their end, and so are stretches. Then the least of the stretches' least
values is the window's, to the bit, and so on; so is a counter's rate, where it is known
how many samples there were. Sums and averages come out the same but for rounding, and are read from rollups only where the samples are
gone. Not here: what rollups hold (`storage/rollup.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vedette.promql.nodes import Call, Node, Range, Selector
from vedette.promql.values import Grid
from vedette.storage.interface import Coarse
from vedette.storage.rollup import TIERS

EXACT = {
    "min_over_time": "min",
    "max_over_time": "max",
    "count_over_time": "count",
    "last_over_time": "last",
    "ts_of_last_over_time": "last",
    "present_over_time": "last",
    "absent_over_time": "last",
    "first_over_time": "counter",
    "ts_of_first_over_time": "counter",
    "rate": "counter",
    "increase": "counter",
    "delta": "counter",
    "resets": "counter",
}
"""Functions of windows to the column from which they are exact."""

NEARLY = {"sum_over_time": "sum", "avg_over_time": "sum"}
"""Those that are not, but better than nothing where the samples are gone: the same but for rounding."""

WEIGHTED = frozenset(("rate", "increase", "delta", "avg_over_time"))
"""Those that must be told how many samples there were."""


@dataclass(frozen=True, slots=True)
class Column:
    """What of a tier serves a read, as `Coarse` says it."""

    name: str
    exact: bool = True
    weighted: bool = False


def columns_of(nodes: Iterable[Node]) -> dict[int, Column]:
    """Of all nodes of a tree: the columns for the selectors and range selectors (by id) that a tier could serve, whatever the steps."""
    found: dict[int, Column] = {}
    ranges: set[int] = set()
    for node in nodes:
        if isinstance(node, Range):
            ranges.add(id(node.selector))
        elif isinstance(node, Selector) and not (node.smoothed or node.anchored):
            found[id(node)] = Column("last")
        elif isinstance(node, Call) and len(node.args) == 1 and isinstance(over := node.args[0], Range):
            name = node.func.name
            if not (over.selector.smoothed or over.selector.anchored) and name in EXACT | NEARLY:
                found[id(over)] = Column(EXACT.get(name) or NEARLY[name], name in EXACT, name in WEIGHTED)
    return {key: column for key, column in found.items() if key not in ranges}


def coarse_of(column: Column | None, ends: Grid, span: int) -> Coarse | None:
    """What storage is told of a read whose windows of `span` ms (0: instants) end at `ends`; None where no tier's stretches fit."""
    if column is None:
        return None
    for width in sorted(TIERS.values(), reverse=True):
        if ends.start % width == 0 and ends.step % width == 0 and span % width == 0:
            return Coarse(width, column.name, column.exact, column.weighted)
    return None
