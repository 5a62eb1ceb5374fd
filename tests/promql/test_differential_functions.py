"""The functions of numbers, labels, dates and windows, and aggregations with a parameter, against naive ones on generated data."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.clock import ManualClock
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import STALE
from vedette.promql.engine import Engine
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings

sys.path.insert(0, str(Path(__file__).parent))
from naive import Naive, quantile
from naive_functions import OF_NUMBERS, clamp, joined, of_date, of_window, replaced, round_to

START, STEP, STEPS = 600_000, 45_000, 6
SETTINGS = PromqlSettings(experimental_functions=True)
Answer = dict[tuple[Labels, int], float]

numbers = st.one_of(st.integers(-5, 20).map(float), st.integers(-400, 2000).map(lambda n: n / 8))


@st.composite
def storages(draw: st.DrawFn) -> MemoryStorage:
    storage = MemoryStorage()
    for a in draw(st.lists(st.sampled_from(["x", "yy", "z-1"]), unique=True, min_size=1, max_size=3)):
        for b in draw(st.lists(st.sampled_from(["1", "2"]), unique=True, min_size=1, max_size=2)):
            labels = Labels.of({METRIC_NAME: "m", "a": a, "b": b})
            for i in range(draw(st.integers(0, 12)), draw(st.integers(12, 30))):
                if draw(st.integers(0, 9)):
                    storage.add(labels, i * 30_000, draw(st.one_of(numbers, numbers, numbers, numbers, st.just(STALE))))
    return storage


def asked(storage: MemoryStorage, query: str) -> Answer:
    engine = Engine(storage, SETTINGS, ManualClock())
    try:
        rows = engine.range("t", query, START, START + STEP * (STEPS - 1), STEP).rows()
        return {(labels, int(t)): float(v) for labels, times, vs in rows for t, v in zip(times.tolist(), vs.tolist(), strict=True)}
    finally:
        engine.close()


def steps() -> range:
    return range(START, START + STEP * STEPS, STEP)


def instants(storage: MemoryStorage) -> Answer:
    engine = Engine(storage, SETTINGS, ManualClock())
    naive = Naive(storage, START, START + STEP * (STEPS - 1))
    try:
        root = engine.parse("m")
        found = {t: naive.eval(root, t) for t in steps()}
    finally:
        engine.close()
    return {(labels, t): v for t, vector in found.items() if isinstance(vector, dict) for labels, v in vector.items()}


def nameless(labels: Labels) -> Labels:
    return labels.without(METRIC_NAME)


def agree(got: Answer, wanted: Answer) -> None:
    assert got.keys() == wanted.keys()
    for at, value in wanted.items():
        assert (math.isnan(got[at]) and math.isnan(value)) or got[at] == pytest.approx(value, rel=1e-9, abs=1e-7), at


@pytest.mark.parametrize("name", OF_NUMBERS)
@settings(max_examples=15)
@given(storages())
def test_functions_of_numbers(name: str, storage: MemoryStorage) -> None:
    agree(asked(storage, f"{name}(m)"), {(nameless(k), t): OF_NUMBERS[name](v) for (k, t), v in instants(storage).items()})


@settings(max_examples=30)
@given(storages(), st.integers(-5, 20), st.integers(-5, 20), st.sampled_from([0.5, 3.0, 10.0]))
def test_clamp_and_round(storage: MemoryStorage, low: int, high: int, nearest: float) -> None:
    plain = instants(storage)
    wanted = {} if low > high else {(nameless(k), t): clamp(v, low, high) for (k, t), v in plain.items()}
    agree(asked(storage, f"clamp(m, {low}, {high})"), wanted)
    agree(asked(storage, f"clamp_min(m, {low})"), {(nameless(k), t): max(v, low) for (k, t), v in plain.items()})
    agree(asked(storage, f"round(m, {nearest})"), {(nameless(k), t): round_to(v, nearest) for (k, t), v in plain.items()})


@settings(max_examples=30)
@given(storages(), st.sampled_from(["minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"]))
def test_dates(storage: MemoryStorage, name: str) -> None:
    scaled = {(nameless(k), t): of_date(name, v * 86_400 * 11) for (k, t), v in instants(storage).items()}
    agree(asked(storage, f"{name}(m * 86400 * 11)"), scaled)
    agree(asked(storage, f"{name}()"), {(Labels(), t): of_date(name, t / 1000) for t in steps()})


@settings(max_examples=40)
@given(storages(), st.sampled_from([("(.).*", "$1"), ("y+", "w"), ("(x)|(z).*", "<$2>"), (".*", ""), ("[a-z]-(\\d)", "$1$1")]))
def test_labels(storage: MemoryStorage, how: tuple[str, str]) -> None:
    pattern, replacement = how
    plain = instants(storage)
    wanted = {(replaced(k, "new", replacement, "a", pattern), t): v for (k, t), v in plain.items()}
    quoted = pattern.replace("\\", "\\\\")
    agree(asked(storage, f'label_replace(m, "new", "{replacement}", "a", "{quoted}")'), wanted)
    agree(
        asked(storage, 'label_join(m, "b", "-", "a", "b", "none")'),
        {(joined(k, "b", "-", "a", "b", "none"), t): v for (k, t), v in plain.items()},
    )


WINDOWS = {
    "deriv": "deriv({})",
    "predict_linear": "predict_linear({}, 60)",
    "double_exponential_smoothing": "double_exponential_smoothing({}, 0.3, 0.6)",
    "stddev_over_time": "stddev_over_time({})",
    "mad_over_time": "mad_over_time({})",
    "ts_of_first_over_time": "ts_of_first_over_time({})",
    "ts_of_last_over_time": "ts_of_last_over_time({})",
    "ts_of_max_over_time": "ts_of_max_over_time({})",
    "ts_of_min_over_time": "ts_of_min_over_time({})",
}
PARAMS = {"predict_linear": [60.0], "double_exponential_smoothing": [0.3, 0.6]}


@pytest.mark.parametrize("name", WINDOWS)
@settings(max_examples=25)
@given(
    storage=storages(),
    over=st.sampled_from(["m[20s]", "m[2m15s]", "m[10m]", "m[3m] offset 1m", "m[5m] @ 700", "m[4m:40s]", "(m * 2)[3m:30s]"]),
)
def test_functions_of_windows(name: str, storage: MemoryStorage, over: str) -> None:
    engine = Engine(storage, SETTINGS, ManualClock())
    naive = Naive(storage, START, START + STEP * (STEPS - 1))
    try:
        call = engine.parse(f"count_over_time({over})")
        windows = {t: naive.window(call.children[0], t) for t in steps()}
    finally:
        engine.close()
    wanted: Answer = {}
    for t, found in windows.items():
        for labels, points in found.items():
            if (value := of_window(name, points, t, PARAMS.get(name, []))) is not None:
                wanted[(nameless(labels), t)] = value
    agree(asked(storage, WINDOWS[name].format(over)), wanted)


@settings(max_examples=40)
@given(storages(), st.sampled_from([0.0, 0.25, 0.9, 1.0, -1.0, 2.0]), st.booleans())
def test_quantiles_and_counts_of_values(storage: MemoryStorage, q: float, without: bool) -> None:
    groups: dict[tuple[Labels, int], list[float]] = {}
    for (labels, t), v in instants(storage).items():
        groups.setdefault((Labels.of(b=labels.get("b")), t), []).append(v)
    how = "without (a)" if without else "by (b)"
    agree(asked(storage, f"quantile {how} ({q}, m)"), {at: quantile(q, vs) for at, vs in groups.items()})
    agree(
        asked(storage, f"stddev {how} (m)"),
        {at: of_window("stddev_over_time", [(0, v) for v in vs], 0, []) or 0.0 for at, vs in groups.items()},
    )
    counted = Counter((g, t, f"{v:g}") for (g, t), vs in groups.items() for v in vs)
    got = {(k.without("v"), t, f"{float(k.get('v')):g}"): n for (k, t), n in asked(storage, f'count_values {how} ("v", m)').items()}
    assert got == counted


@settings(max_examples=30)
@given(storages(), st.integers(1, 4))
def test_the_greatest(storage: MemoryStorage, k: int) -> None:
    plain = instants(storage)
    got = asked(storage, f"topk(1 + {k - 1}, m)")
    assert all(plain[at] == v for at, v in got.items())
    for t in steps():
        values = sorted((v for (_, at), v in plain.items() if at == t), reverse=True)
        assert sorted((v for (_, at), v in got.items() if at == t), reverse=True) == values[:k]


@settings(max_examples=30)
@given(storages())
def test_absence_and_scalars(storage: MemoryStorage) -> None:
    plain = instants(storage)
    there = Counter(t for _, t in plain)
    agree(asked(storage, 'absent(m{c="1",d=~"x"})'), {(Labels.of(c="1"), t): 1.0 for t in steps()})
    agree(asked(storage, "absent(m)"), {(Labels(), t): 1.0 for t in steps() if not there[t]})
    only = {t: next(v for (_, at), v in plain.items() if at == t) if there[t] == 1 else math.nan for t in steps()}
    agree(asked(storage, "vector(scalar(m))"), {(Labels(), t): v for t, v in only.items()})
    agree(asked(storage, "vector(time())"), {(Labels(), t): t / 1000 for t in steps()})
