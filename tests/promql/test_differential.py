"""The fast engine against the naive one, on generated queries over generated data."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from hypothesis import given, note, settings
from hypothesis import strategies as st

from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.promql.engine import Engine
from vedette.promql.errors import ExecutionError
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings

sys.path.insert(0, str(Path(__file__).parent))
from naive import Naive, Refused

START, STEP, STEPS = 600_000, 45_000, 6

values = st.one_of(
    st.integers(-5, 20).map(float), st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, STALE, 0.0, 1e-9, 1e17])
)


@st.composite
def storages(draw: st.DrawFn) -> MemoryStorage:
    storage = MemoryStorage()
    for name in ("m_total", "other"):
        for a in draw(st.lists(st.sampled_from(["x", "y", "z"]), unique=True, max_size=3)):
            for b in draw(st.lists(st.sampled_from(["1", "2"]), unique=True, min_size=1, max_size=2)):
                labels = Labels.of({"__name__": name, "a": a, "b": b})
                counter = draw(st.booleans())
                level = 0.0
                for i in range(draw(st.integers(0, 12)), draw(st.integers(12, 40))):
                    if draw(st.integers(0, 9)) == 0:
                        continue
                    if counter:
                        level = 0.0 if draw(st.integers(0, 7)) == 0 else level + draw(st.integers(0, 9))
                        storage.add(labels, i * 30_000 + draw(st.integers(0, 3)) * 500, level)
                    else:
                        storage.add(labels, i * 30_000, draw(values))
    return storage


selectors = st.sampled_from(
    ["m_total", "other", '{__name__=~"m_.*|other"}', 'm_total{a="x"}', 'other{a!="y",b=~"1|2"}', "nothing", 'm_total{a=""}']
)
modifiers = st.sampled_from(["", "", " offset 1m", " offset -30s", " @ 700", " @ end()", " @ start() offset 45s"])
ranges = st.sampled_from(["20s", "1m", "2m15s", "10m"])
window_functions = st.sampled_from(
    [
        "rate",
        "rate",
        "rate",
        "increase",
        "increase",
        "delta",
        "irate",
        "idelta",
        "changes",
        "resets",
        "sum_over_time",
        "avg_over_time",
        "count_over_time",
        "min_over_time",
        "max_over_time",
        "last_over_time",
        "first_over_time",
        "present_over_time",
        "stdvar_over_time",
    ]
)


@st.composite
def vectors(draw: st.DrawFn, depth: int = 3) -> str:
    kind = draw(st.integers(0, 9)) if depth else draw(st.integers(0, 2))
    if kind == 0:
        return draw(selectors) + draw(modifiers)
    if kind == 1:
        return f"{draw(window_functions)}({draw(selectors)}[{draw(ranges)}]{draw(modifiers)})"
    if kind == 2:
        return f"quantile_over_time({draw(st.sampled_from(['0.3', '1', '-1', '2']))}, {draw(selectors)}[{draw(ranges)}])"
    if kind == 3:
        step = draw(st.sampled_from(["", "30s", "1m10s"]))
        return f"{draw(window_functions)}(({draw(vectors(depth - 1))})[{draw(ranges)}:{step}]{draw(modifiers)})"
    if kind == 4:
        return f"{draw(st.sampled_from(['abs', 'ceil', 'floor', 'sgn', '-']))}({draw(vectors(depth - 1))})"
    if kind in (5, 6):
        op = draw(st.sampled_from(["sum", "avg", "count", "min", "max", "group", "stdvar"]))
        how = draw(st.sampled_from(["", " by (a)", " by (b, nothing)", " without (a)", " without ()", " by (__name__)"]))
        return f"{op}{how} ({draw(vectors(depth - 1))})"
    if kind == 7:
        number = draw(st.sampled_from(["2", "0", "-1.5", "Inf"]))
        op = draw(st.sampled_from(["+", "-", "*", "/", "%", "==", "!= bool", ">", "<= bool"]))
        sides = [draw(vectors(depth - 1)), number]
        if draw(st.booleans()):
            sides.reverse()
        return f"(({sides[0]}) {op} ({sides[1]}))"
    if kind == 8:
        op = draw(st.sampled_from(["and", "or", "unless"]))
        how = draw(st.sampled_from(["", "on (a)", "ignoring (b)", "on ()"]))
        return f"(({draw(vectors(depth - 1))}) {op} {how} ({draw(vectors(depth - 1))}))"
    op = draw(st.sampled_from(["+", "/", "==", "> bool", "<"]))
    how = draw(
        st.sampled_from(["", "on (a, b)", "ignoring (b)", "on (a) group_left ()", "on (a) group_right (b)", "ignoring (b) group_left (b)"])
    )
    return f"(({draw(vectors(depth - 1))}) {op} {how} ({draw(vectors(depth - 1))}))"


def close(a: float, b: float) -> bool:
    if math.isnan(a) and math.isnan(b):
        return True
    return a == b or math.isclose(a, b, rel_tol=1e-7, abs_tol=1e-9)


SETTINGS = PromqlSettings()


@settings(max_examples=150)
@given(storages(), vectors())
def test_the_fast_engine_agrees_with_the_naive_one(storage: MemoryStorage, query: str) -> None:
    note(query)
    end = START + STEP * (STEPS - 1)
    engine = Engine(storage, SETTINGS, ManualClock())
    root = engine.parse(query)
    naive = Naive(storage, START, end)
    wanted: dict[tuple[Labels, int], float] | None = {}
    for t in range(START, end + 1, STEP):
        try:
            vector = naive.eval(root, t)
        except Refused:
            wanted = None
            break
        assert isinstance(vector, dict)
        for labels, value in vector.items():
            wanted[(labels, t)] = value
    try:
        result = engine.range("t", query, START, end, STEP)
    except ExecutionError as error:
        # A collision at any time refuses the whole query; window functions refuse series that become equal even at different times.
        assert wanted is None or "same labelset" in error.problem, error
        return
    finally:
        engine.close()
    assert wanted is not None, "the naive engine refuses this"
    got = {
        (labels, int(t)): float(v)
        for labels, times, numbers in result.rows()
        for t, v in zip(times.tolist(), numbers.tolist(), strict=True)
    }
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        assert comparable(value) is False or close(got[key], value), (key, got[key], value)


def comparable(value: float) -> bool:
    """Sums of numbers of very different size cancel differently in an exact sum and in a Kahan sum."""
    return not math.isfinite(value) or abs(value) < 1e12
