"""Plans that are kept: a later query of the same shape gets the plan that would be made for it."""

from __future__ import annotations

import pytest

from vedette.promql.parse import parse
from vedette.promql.plan import Bounds, Plan, Prepared, make_plan
from vedette.promql.settings import Features
from vedette.promql.values import Grid

START = 1_700_000_000_123
EXPRESSIONS = (
    'm{a="b"}',
    "rate(m[5m])",
    "sum by (a) (rate(m[5m])) / on (a) group_left () m offset 1h",
    "m + m offset 5m - m offset -1d",
    "topk(3, m) or vector(1) or vector(time())",
    "timestamp(m) - timestamp(m)",
    "histogram_quantile(0.9, sum by (le) (rate(m_bucket[5m])))",
    "m @ 1700000000 + m",
    "rate(m[5m] @ end())",
    "max_over_time(rate(m[1m])[10m:15s])",
    "max_over_time(m[1h])",
    "info(m)",
)


def planned(prepared: Prepared, start: int, n: int = 10, step: int = 15_000, *, lookback: int = 300_000, rolled: bool = False) -> Plan:
    bounds = Bounds(start, start + step * (n - 1), lookback, 60_000, step)
    return make_plan(prepared, Grid(start, step, n), bounds, rolled_up=lambda lo, hi: rolled)


def shown(plan: Plan) -> object:
    """A plan without its nodes, which two trees of one text do not share."""
    operations = [(type(o.node), o.node.start, o.grid, o.inputs, o.fetch, o.spread, o.timed, o.counts_only) for o in plan.operations]
    return operations, plan.fetches, plan.result


def fresh(expression: str) -> Prepared:
    return Prepared.of(parse(expression, Features(experimental_functions=True)))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_later_plan_is_the_one_that_would_be_made(expression: str) -> None:
    prepared = fresh(expression)
    for later in (0, 1, 15_000, 86_400_000, -7_000):
        assert shown(planned(prepared, START + later)) == shown(planned(fresh(expression), START + later))
    for n, step, lookback in ((1, 15_000, 300_000), (10, 1000, 300_000), (10, 15_000, 60_000)):
        for start in (START + 5, START + 9):
            again, anew = (planned(tree, start, n, step, lookback=lookback) for tree in (prepared, fresh(expression)))
            assert shown(again) == shown(anew)


def test_where_rollups_may_serve_the_plan_is_made_anew() -> None:
    prepared, aligned, hour = fresh("max_over_time(m[1h])"), 1_700_000_000_000 // 3_600_000 * 3_600_000, 3_600_000
    assert planned(prepared, START, step=hour).fetches[0].coarse is None
    assert planned(prepared, aligned, step=hour, rolled=True).fetches[0].coarse is not None
    assert planned(prepared, START, step=hour, rolled=True).fetches[0].coarse is None
    assert planned(prepared, aligned, step=hour).fetches[0].coarse is None, "none of that time"


def test_few_shapes_are_kept() -> None:
    prepared = fresh("m")
    for n in range(1, 100):
        planned(prepared, START, n=n)
    assert 0 < len(prepared.plans) < 50
    pinned = fresh("m @ 5")
    planned(pinned, START)
    assert not pinned.plans
