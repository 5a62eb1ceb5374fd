"""From a syntax tree to a list of operations in the order to run them, and the reads they need.

Every operation runs on a grid of steps: the query's own, a subquery's, or the first step alone where nothing below depends
on the step (`@`), whose result is then spread. Equal selectors are evaluated once, and selectors with the same matchers
are read from storage once, unless they lie too far apart in time. Nothing here recurses: queries may nest deeply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from vedette.model.labels import METRIC_NAME
from vedette.model.matchers import Matcher
from vedette.promql.coarse import Column, coarse_of, columns_of
from vedette.promql.durations import has_expression
from vedette.promql.nodes import TRIMS, Aggregate, At, Binary, Call, Node, Number, Paren, Range, Selector, Subquery, Text, unwrapped, walk
from vedette.promql.values import Grid
from vedette.storage.interface import Coarse

_PLANS_KEPT = 16


@dataclass(slots=True)
class Fetch:
    """One read: matchers and the inclusive range of time, in ms; `coarse` says what of rollups would do as well."""

    matchers: tuple[Matcher, ...]
    start: int
    end: int
    coarse: Coarse | None = None


def read_once(fetches: list[Fetch], wanted: Fetch) -> int:
    """Which of `fetches` reads what is wanted: one of the same series that lies near and is made longer, or a new one at the end."""
    start, end = wanted.start, wanted.end
    for i, known in enumerate(fetches):
        if known.matchers != wanted.matchers or known.coarse != wanted.coarse:
            continue
        low, high = min(start, known.start), max(end, known.end)
        # One longer read beats two, unless most of it would lie between them.
        if high - low <= 1.25 * (end - start + known.end - known.start) + 60_000:
            fetches[i] = replace(known, start=low, end=high)
            return i
    fetches.append(wanted)
    return len(fetches) - 1


class Operation(NamedTuple):
    """One step of the plan: a node on a grid, fed by earlier operations; `fetch` is the read of a selector.

    `spread` says that this is no node of its own, but the one below, given for one step, spread over the grid; `timed` that
    a selector is wanted for its samples' times: the argument of `timestamp`; `begun` for their start timestamps.
    `counts_only` says that of a selector's native histograms nothing but counts and sums matters, `bucketless` that nothing in between
    looks at their buckets either.
    """

    node: Node
    grid: Grid
    inputs: tuple[int, ...]
    fetch: int = -1
    spread: bool = False
    timed: bool = False
    counts_only: bool = False
    begun: bool = False
    bucketless: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """`operations` in the order to run them, which of them gives the result, and the reads (`fetches`) they refer to."""

    operations: list[Operation]
    fetches: list[Fetch]
    result: int

    def later(self, ms: int) -> Plan:
        """The same plan for a query that begins `ms` later (earlier, below 0)."""
        operations = [o._replace(grid=Grid(o.grid.start + ms, o.grid.step, o.grid.n)) for o in self.operations]
        return Plan(operations, [Fetch(f.matchers, f.start + ms, f.end + ms, f.coarse) for f in self.fetches], self.result)

    @property
    def most_steps(self) -> int:
        """Steps of the operation that has most of them: a subquery's may be far more than the query's."""
        return max((operation.grid.n for operation in self.operations), default=0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What `start()`, `end()`, `step()` (0 for an instant query) and the defaults mean in this query, in ms."""

    start: int
    end: int
    lookback: int
    subquery_step: int
    step: int = 0


def resolved(at: At, bounds: Bounds) -> int | None:
    """The time an `@` modifier stands for, None without one."""
    if at == "start":
        return bounds.start
    return bounds.end if at == "end" else at


def window_grid(node: Selector | Subquery, grid: Grid, bounds: Bounds) -> Grid:
    """Where the windows (or the instants) of a selector end, for each step of `grid`; a step of 0 where `@` pins them."""
    at = resolved(node.at, bounds)
    if at is None:
        return Grid(grid.start - node.offset, grid.step, grid.n)
    return Grid(at - node.offset, 0, grid.n)


def subquery_grid(node: Subquery, grid: Grid, bounds: Bounds) -> Grid:
    """The steps at which a subquery's expression is evaluated: multiples of its step within all windows together."""
    ends = window_grid(node, grid, bounds)
    step = node.step or bounds.subquery_step
    before = ends.start - node.range
    start = before // step * step + step
    return Grid(start, step, max(0, (ends.last - start) // step + 1) if grid.n else 0)


def given_matchers(call: Call) -> tuple[Matcher, ...]:
    """The matchers of the second argument of `info()`; none without one."""
    if len(call.args) < 2:
        return ()
    given = call.args[1]
    assert isinstance(given, Selector), "the type check lets only selectors pass"
    return given.matchers


def info_names(call: Call) -> tuple[Matcher, ...]:
    """The matchers of the names of a call's info metrics: `target_info` where it names none, any `…_info` where it only excludes some."""
    found = tuple(m for m in given_matchers(call) if m.name == METRIC_NAME)
    if not found:
        return (Matcher(METRIC_NAME, "=", "target_info"),)
    return found if any(m.op in ("=", "=~") for m in found) else (*found, Matcher(METRIC_NAME, "=~", ".+_info"))


def info_selector(call: Call) -> Selector:
    """The selector of the info series that a call of `info()` needs, pinned and shifted as the call's first selector is."""
    matchers = (*info_names(call), *(m for m in given_matchers(call) if m.name != METRIC_NAME))
    first = min((n for n in walk(call.args[0]) if isinstance(n, Selector)), key=lambda n: n.start, default=None)
    if first is None:
        return Selector(name="", matchers=matchers, start=call.start, end=call.end)
    return Selector(name="", matchers=matchers, offset=first.offset, at=first.at, start=call.start, end=call.end)


def _invariant(nodes: Sequence[Node]) -> set[int]:
    """The nodes (by id) whose value does not depend on the step, of all of a tree, children before parents."""
    found: set[int] = set()
    for node in nodes:
        if isinstance(node, (Selector, Subquery)):
            same = node.at is not None
        elif isinstance(node, Call) and node.func.name in Call.UNSAFE_AT:
            same = False
        else:
            same = found.issuperset(map(id, node.children))
        if same:
            found.add(id(node))
    return found


_OF_COUNTS = frozenset(("histogram_count", "histogram_sum", "histogram_avg"))
_NO_NODES: Mapping[int, bool] = {}
_OF_BUCKETS = frozenset(("histogram_quantile", "histogram_quantiles", "histogram_fraction"))


_HEADS_ALONE = frozenset(
    (
        "rate", "increase", "delta", "irate", "idelta", "sum_over_time", "avg_over_time", "first_over_time", "last_over_time",
        "sum", "avg", "+", "-", "*", "/",
    )
)  # fmt: skip
"""What makes counts and sums of counts and sums, and nothing of what they are in buckets."""


def _counts_only(root: Node) -> dict[int, bool]:
    """The selectors (by id) of whose native histograms only counts and sums are looked at, and whether nothing in between sees buckets.

    Prometheus then reads no buckets, and tells counter resets between the samples it reads: a difference that shows in warnings. A
    subquery in between hides that.
    """
    found: dict[int, bool] = {}
    stack: list[tuple[Node, bool, bool]] = [(root, False, False)]
    while stack:
        node, only, heads = stack.pop()
        if isinstance(node, Selector) and only:
            found[id(node)] = heads and not (node.anchored or node.smoothed)
        elif isinstance(node, Call) and node.func.name in _OF_COUNTS | _OF_BUCKETS:
            only = heads = node.func.name in _OF_COUNTS
        elif isinstance(node, Subquery) or (isinstance(node, Binary) and node.op in TRIMS):
            only = False
        elif isinstance(node, (Call, Aggregate, Binary)):
            heads = heads and (node.func.name if isinstance(node, Call) else node.op) in _HEADS_ALONE
        stack.extend((c, only, heads) for c in node.children)
    return found


@dataclass(frozen=True, slots=True)
class Prepared:
    """A syntax tree and what is known of it whenever it is asked: nodes are named by their ids.

    Which do not depend on the step (`invariant`), of which selectors times are wanted (`timed`) or start timestamps (`begun`), the
    selectors of info series by their calls (`info`), selectors of counts alone; and whether there are durations written as expressions.
    """

    root: Node
    invariant: frozenset[int]
    timed: frozenset[int]
    begun: frozenset[int]
    info: Mapping[int, Selector]
    counts_only: Mapping[int, bool]
    columns: Mapping[int, Column]
    """The selectors that rollups could serve (`coarse.columns_of`)."""
    durations: bool
    pinned: bool
    """Whether a plan depends on when the query begins, and not only on its steps: by `@`, or a subquery, whose steps are aligned."""
    plans: dict[tuple[int, int, int], tuple[int, Plan]] = field(default_factory=dict, compare=False, repr=False)
    """Plans of a tree that is not pinned, by steps, their distance and lookback, each with the start that it was made for."""

    @classmethod
    def of(cls, root: Node) -> Prepared:
        """Look through the tree once."""
        nodes = list(walk(root))
        calls = [n for n in nodes if isinstance(n, Call)]
        info = {id(n): info_selector(n) for n in calls if n.func.name == "info"}
        # Of the info series, the times of samples are wanted: the newest one counts.
        timed = {id(unwrapped(c.args[0])) for c in calls if c.func.name == "timestamp"} | set(map(id, info.values()))
        begun = frozenset(id(unwrapped(c.args[0])) for c in calls if c.func.name == "start_timestamp")
        counts_only = _counts_only(root) if any(c.func.name in _OF_COUNTS for c in calls) else _NO_NODES
        columns = {key: column for key, column in columns_of(nodes).items() if key not in begun}  # a tier has no start timestamps
        pinned = any(isinstance(n, Subquery) or (isinstance(n, Selector) and n.at is not None) for n in nodes)
        durations = any(map(has_expression, nodes))
        return cls(root, frozenset(_invariant(nodes)), frozenset(timed), begun, info, counts_only, columns, durations, pinned)


class _Planner:
    def __init__(self, prepared: Prepared, bounds: Bounds, rolled_up: Callable[[int, int], bool]) -> None:
        self.bounds = bounds
        self.columns, self.rolled_up = prepared.columns, rolled_up
        self.invariant, self.timed, self.begun = prepared.invariant, prepared.timed, prepared.begun
        self.info, self.counts_only = prepared.info, prepared.counts_only
        self.operations: list[Operation] = []
        self.fetches: list[Fetch] = []
        self.done: dict[tuple[int, Grid], int] = {}
        self.keys: dict[int, int] = {}
        self.alike: dict[tuple[object, ...], int] = {}

    def key(self, node: Node) -> int:
        # Annotations name a position, so only what cannot annotate is shared between equal nodes.
        if not isinstance(node, (Selector, Range)):
            return id(node)
        known = self.keys.get(id(node))
        if known is None:
            s = node.selector if isinstance(node, Range) else node
            range_ = node.range if isinstance(node, Range) else 0
            hints = (id(node) in self.timed, id(node) in self.begun, self.counts_only.get(id(s)), self.columns.get(id(node)))
            alike = (s.matchers, s.offset, s.at, s.anchored, s.smoothed, range_, *hints)
            # Below 0, where no id is.
            known = self.keys[id(node)] = self.alike.setdefault(alike, -1 - len(self.alike))
        return known

    def plan(self, root: Node, grid: Grid) -> Plan:
        whole = grid
        stack: list[tuple[Node, Grid]] = [(root, grid)]
        while stack:
            node, grid = stack[-1]
            if (self.key(node), grid) in self.done:
                stack.pop()
                continue
            needs = self.needs(node, grid)
            missing = [n for n in needs if (self.key(n[0]), n[1]) not in self.done]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            self.add(node, grid, tuple(self.done[(self.key(n), g)] for n, g in needs))
        return Plan(self.operations, self.fetches, self.done[(self.key(root), whole)])

    def spreads(self, node: Node, grid: Grid) -> bool:
        return grid.n > 1 and id(node) in self.invariant and node.type in ("vector", "scalar") and not isinstance(node, (Number, Text))

    def needs(self, node: Node, grid: Grid) -> list[tuple[Node, Grid]]:
        if self.spreads(node, grid):
            return [(node, grid.first)]
        if isinstance(node, Range):
            return []
        if isinstance(node, Subquery):
            return [(node.expr, subquery_grid(node, grid, self.bounds))]
        if isinstance(node, Call) and id(node) in self.info:
            return [(node.args[0], grid), (self.info[id(node)], grid)]
        return [(c, grid) for c in node.children]

    def add(self, node: Node, grid: Grid, inputs: tuple[int, ...]) -> None:
        key = (self.key(node), grid)
        if self.spreads(node, grid):
            operation = Operation(node, grid, inputs, spread=True)
        elif isinstance(node, Paren):
            self.done[key] = inputs[0]
            return
        else:
            selector = node.selector if isinstance(node, Range) else node
            operation = Operation(
                node,
                grid,
                inputs,
                fetch=self.fetch(node, grid),
                timed=id(node) in self.timed,
                counts_only=id(selector) in self.counts_only,
                begun=id(node) in self.begun,
                bucketless=self.counts_only.get(id(selector), False),
            )
        self.done[key] = len(self.operations)
        self.operations.append(operation)

    def fetch(self, node: Node, grid: Grid) -> int:
        if not isinstance(node, (Selector, Range)):
            return -1
        selector = node.selector if isinstance(node, Range) else node
        ends = window_grid(selector, grid, self.bounds)
        back = node.range if isinstance(node, Range) else self.bounds.lookback
        start, end = ends.start - back + 1, max(ends.last, ends.start)
        if (selector.anchored or selector.smoothed) and isinstance(node, Range):
            start -= self.bounds.lookback
        if selector.smoothed:
            end += self.bounds.lookback
        coarse = coarse_of(self.columns.get(id(node)), ends, node.range if isinstance(node, Range) else 0)
        if coarse is not None and not self.rolled_up(start, end):
            coarse = None
        return read_once(self.fetches, Fetch(selector.matchers, start, end, coarse))


def make_plan(prepared: Prepared, grid: Grid, bounds: Bounds, *, rolled_up: Callable[[int, int], bool] = lambda start, end: False) -> Plan:
    """The plan of a query on `grid`; `rolled_up` says whether there are rollups of a range of time, ms."""
    if prepared.pinned:
        return _Planner(prepared, bounds, rolled_up).plan(prepared.root, grid)
    # A dashboard asks the same again and again, a little later.
    key = grid.n, grid.step, bounds.lookback
    if (kept := prepared.plans.get(key)) is not None:
        plan = kept[1].later(grid.start - kept[0])
        if not (prepared.columns and any(rolled_up(f.start, f.end) for f in plan.fetches)):
            return plan
    plan = _Planner(prepared, bounds, rolled_up).plan(prepared.root, grid)
    if all(f.coarse is None for f in plan.fetches):
        if len(prepared.plans) >= _PLANS_KEPT:
            prepared.plans.clear()
        prepared.plans[key] = grid.start, plan
    return plan
