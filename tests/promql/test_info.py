"""`info()`: joining labels of info metrics, in scripts of our own; Prometheus' are in `test_conformance.py`."""

from __future__ import annotations

import pytest

from vedette.promql.testscript import run_script

LOAD = """
load 1m
  requests{instance="a", job="api", path="/x"} 0 1 2 3 4 5 6 7 8
  requests{instance="b", job="api", path="/x"} 0 2 4 6 8 10 12 14 16
  orphan{instance="c", job="api"} 1 1 1 1 1 1 1 1 1
  lonely{path="/y"} 5 5 5 5 5 5 5 5 5
  target_info{instance="a", job="api", version="1", os="linux"} 1 1 1 1 stale
  target_info{instance="a", job="api", version="2", os="linux"} _ _ _ _ 1 1 1 1 1
  target_info{instance="b", job="api", version="1", os="bsd"} 1 1 1 1 1 1 1 1 1
  target_info{version="of nobody"} 1 1 1 1 1 1 1 1 1
  build_info{instance="b", job="api", commit="c0ffee"} 1 1 1 1 1 1 1 1 1
"""


@pytest.mark.parametrize(
    "evaluation",
    [
        # Labels asked for, and none but those.
        """
eval instant at 2m info(requests, {version=~".+"})
  requests{instance="a", job="api", path="/x", version="1"} 2
  requests{instance="b", job="api", path="/x", version="1"} 4
""",
        # The times of the info series go with those of the first selector.
        """
eval instant at 8m info(requests{instance="a"} offset 5m, {version=~".+"})
  requests{instance="a", job="api", path="/x", version="1"} 3
""",
        """
eval instant at 8m info(requests{instance="a"} @ 120, {version=~".+"})
  requests{instance="a", job="api", path="/x", version="1"} 2
""",
        # In a subquery the join is made at the subquery's own steps.
        """
eval instant at 8m count_over_time(info(requests{instance="a"}, {version=~".+"})[9m:1m])
  {instance="a", job="api", path="/x", version="1"} 4
  {instance="a", job="api", path="/x", version="2"} 5
""",
        # Of two that overlap the one with the newer sample counts.
        """
eval range from 3m to 5m step 1m info(rate(requests{instance="a"}[2m]), {version=~".+"})
  {instance="a", job="api", path="/x", version="1"} 0.016666666666666666 _ _
  {instance="a", job="api", path="/x", version="2"} _ 0.016666666666666666 0.016666666666666666
""",
        # Without an info series: unchanged, unless a label is required.
        """
eval instant at 2m info(orphan)
  orphan{instance="c", job="api"} 1
""",
        """
eval instant at 2m info(orphan, {version=~".+"})
""",
        # A series without identifying labels has no target, even where an info series has none either.
        """
eval instant at 2m info(lonely)
  lonely{path="/y"} 5
""",
        # Several info metrics at once.
        """
eval instant at 2m info(requests{instance="b"}, {__name__=~"(target|build)_info", version=~".*", commit=~".*"})
  requests{instance="b", job="api", path="/x", version="1", commit="c0ffee"} 4
""",
        """
eval instant at 2m sum by (os) (info(requests))
  {os="linux"} 2
  {os="bsd"} 4
""",
        """
eval instant at 2m info(nothing)
""",
        """
eval instant at 2m info(requests, {__name__="nothing"})
  requests{instance="a", job="api", path="/x"} 2
  requests{instance="b", job="api", path="/x"} 4
""",
        # Two targets of one name that differ in nothing but what they say, at one time.
        """
load 1m
  target_info{instance="a", job="api", version="3"} 1

eval instant at 0 info(requests{instance="a"})
  expect fail regex: found duplicate series for info metric: existing target_info\\{.*"[13]"\\} @ 0, new target_info\\{.*"[13]"\\} @ 0
""",
        # A label that the series has itself is no conflict; one that it lacks is.
        """
load 1m
  build_info{instance="a", job="api", os="plan9"} 1
  requests{instance="a", job="api", os="mine"} 7

eval instant at 0 info(requests{os="mine"}, {__name__=~".+_info"})
  requests{instance="a", job="api", os="mine", version="1"} 7

eval instant at 0 info(requests{instance="a", os=""}, {__name__=~".+_info"})
  expect fail msg: conflicting label: os
""",
        # Series that are told apart by the joined label alone before the name goes, and fall together behind it.
        """
load 1m
  requests{instance="a", job="api", path="/x", version="1"} 1

eval instant at 0 info(requests{instance="a"})
  expect fail msg: vector cannot contain metrics with the same labelset
""",
    ],
)
def test_info(evaluation: str) -> None:
    outcomes = run_script(LOAD + evaluation, variants=True)
    assert outcomes
    assert [(o.expr, o.problem) for o in outcomes if not o.passed] == []
