"""Lines, trends, baselines, anomalies and forecasts, beside naive twins and on data whose answer is known."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.analysis.anomaly import anomalies
from vedette.analysis.baseline import Baseline, medians
from vedette.analysis.forecast import forecast
from vedette.analysis.trend import MAX_POINTS, mann_kendall, theil_sen, trend_of
from vedette.errors import BadInput

VALUES = st.lists(st.integers(-1000, 1000).map(float), min_size=2, max_size=30)


def naive_theil_sen(x: list[float], y: list[float]) -> tuple[float, float]:
    slopes = [(b - a) / (v - u) for (u, a), (v, b) in itertools.combinations(zip(x, y, strict=True), 2) if u != v]
    slope = statistics.median(slopes) if slopes else 0.0
    return slope, statistics.median(b - slope * a for a, b in zip(x, y, strict=True))


def naive_mann_kendall(y: list[float]) -> float:
    n = len(y)
    s = sum((b > a) - (b < a) for a, b in itertools.combinations(y, 2))
    ties = sum(t * (t - 1) * (2 * t + 5) for t in (y.count(v) for v in set(y)))
    variance = (n * (n - 1) * (2 * n + 5) - ties) / 18
    if n < 3 or s == 0 or variance == 0:
        return 1.0
    z = (s - (1 if s > 0 else -1)) / math.sqrt(variance)
    return 2 * (1 - statistics.NormalDist().cdf(abs(z)))


@given(VALUES, st.integers(0, 2**32))
def test_the_line_is_the_naive_one(y: list[float], seed: int) -> None:
    x = np.sort(np.random.default_rng(seed).integers(0, 20, len(y))).astype(np.float64)
    assert theil_sen(x, np.array(y)) == pytest.approx(naive_theil_sen(x.tolist(), y), abs=1e-9)


@given(VALUES)
def test_the_significance_is_the_naive_one(y: list[float]) -> None:
    assert mann_kendall(np.array(y)) == pytest.approx(naive_mann_kendall(y), abs=1e-9)


def test_a_quarter_of_wild_points_does_not_move_the_line() -> None:
    x = np.arange(40.0)
    y = 5 + 2 * x
    y[::4] = 1e6
    slope, intercept = theil_sen(x, y)
    assert slope == pytest.approx(2, abs=0.2)
    assert intercept == pytest.approx(5, abs=5)


def test_one_point_is_a_flat_line_and_too_many_are_refused() -> None:
    assert theil_sen(np.array([3.0]), np.array([7.0])) == (0.0, 7.0)
    with pytest.raises(BadInput, match="at most"):
        theil_sen(np.arange(MAX_POINTS + 1.0), np.zeros(MAX_POINTS + 1))


def test_the_documents_example_is_increasing() -> None:
    found = trend_of(np.arange(3.0), np.array([85.0, 92.0, 98.0]))
    assert found.direction == "increasing"
    assert found.change_percent == pytest.approx(100 * 13 / 85.25, rel=0.01)


def test_directions() -> None:
    x = np.arange(24.0)
    assert trend_of(x, 100 + 3 * x).direction == "increasing"
    assert trend_of(x, 100 - 3 * x).direction == "decreasing"
    assert trend_of(x, np.full(24, 4.2)).direction == "stable"
    assert trend_of(x, 1e6 + x).direction == "stable", "less than 1 % in all"
    noise = np.random.default_rng(7).normal(100, 10, 24)
    assert trend_of(x, noise).direction == "stable", "chance, though its line is not flat"
    assert trend_of(x, -100 + 3 * x).change_percent == pytest.approx(69), "of the size of the first value"
    assert trend_of(np.zeros(0), np.zeros(0)).direction == "stable"
    assert trend_of(x, x).change_percent is None, "no percentage of nothing"


def day_and_night(days: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(24.0 * days)
    return x, 100 + 0.5 * x + 30 * np.sin(2 * np.pi * x / 24) + np.random.default_rng(1).normal(0, 1, len(x))


def test_a_baseline_learns_line_season_and_spread() -> None:
    x, y = day_and_night(7)
    usual = Baseline.of(x, y, 24)
    assert usual.slope == pytest.approx(0.5, abs=0.1)
    assert usual.scale == pytest.approx(1, abs=0.5)
    assert np.abs(usual.at(x) - y).max() < 8


@given(
    y=st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=40),
    period=st.integers(1, 6),
    seed=st.integers(0, 9),
)
def test_medians_of_places_are_the_naive_ones(y: list[float], period: int, seed: int) -> None:
    places = np.random.default_rng(seed).integers(0, period, len(y))
    season, alone = medians(np.array(y), places, period)
    naive = [np.median([v for v, at in zip(y, places, strict=True) if at == p] or [0]) for p in range(period)]
    assert season.tolist() == naive
    others = [[v for j, v in enumerate(y) if j != i and places[j] == places[i]] for i in range(len(y))]
    distances = [y[i] - float(np.median(o)) for i, o in enumerate(others) if o]
    assert sorted(alone[np.isfinite(alone)].tolist()) == sorted(distances)
    assert np.isnan(alone).sum() == len(y) - len(distances)


@pytest.mark.parametrize("days", [2, 3, 7, 14])
@pytest.mark.parametrize("shift", [0, 5, 11])
def test_what_is_usual_lies_in_the_middle_and_its_spread_is_that_of_what_comes(days: int, shift: int) -> None:
    """A season's median is no zero; and of few days each place of the day fits better than the next day will."""
    rng = np.random.default_rng(days * 100 + shift)
    x = np.arange(24.0 * (days + 30))
    y = 50 + 20 * np.sin(2 * np.pi * (x + shift) / 24) ** 3 + 9 * (np.mod(x + shift, 24) > 15) + rng.normal(0, 1, len(x))
    known = int(24 * days)
    usual = Baseline.of(x[:known], y[:known], 24)
    rest = y[known : known + 48] - usual.at(x[known : known + 48])
    assert abs(np.median(y[:known] - usual.at(x[:known]))) < 0.05, "as much above as below"
    assert abs(np.median(rest)) < (2.5 if days == 2 else 1.2), "two days tell the slope from noise but roughly"
    assert 0.7 < usual.scale < 2.1
    odd = anomalies(x[:known], y[:known], period=24)
    assert len(odd.rows) <= known // 24, "noise is nothing odd"


def test_an_anomaly_within_the_day_is_found_and_the_days_peak_is_none() -> None:
    x, y = day_and_night(7)
    y[100] += 25
    found = anomalies(x, y, period=24)
    assert 100 in found.rows.tolist()
    assert len(found.rows) <= 4
    assert found.score[found.rows.tolist().index(100)] > 10
    assert found.expected[found.rows.tolist().index(100)] == pytest.approx(y[100] - 25, abs=5)


def test_one_spike_in_a_flat_series() -> None:
    y = np.full(24, 5.0)
    y[7] = 9
    assert anomalies(np.arange(24.0), y).rows.tolist() == [7]


def test_nothing_is_odd_in_a_straight_line_or_in_few_points() -> None:
    x = np.arange(50.0)
    assert len(anomalies(x, 3 * x).rows) == 0
    assert len(anomalies(x[:7], np.array([1.0, 1, 1, 99, 1, 1, 1])).rows) == 0


def test_a_forecast_goes_on_with_line_and_season() -> None:
    x, y = day_and_night(7)
    ahead = np.arange(168.0, 192.0)
    found = forecast(x, y, ahead, period=24)
    assert found is not None
    truth = 100 + 0.5 * ahead + 30 * np.sin(2 * np.pi * ahead / 24)
    assert np.abs(found.value - truth).max() < 8
    assert ((found.lower < found.value) & (found.value < found.upper)).all()
    assert found.upper[-1] - found.lower[-1] > found.upper[0] - found.lower[0], "further away, less sure"


def test_a_forecast_covers_what_it_says() -> None:
    rng = np.random.default_rng(3)
    x = np.arange(100.0)
    hits = []
    for _ in range(200):
        y = 10 + x + rng.normal(0, 5, 100)
        found = forecast(x, y, np.array([101.0]))
        assert found is not None
        hits.append(bool(found.lower[0] <= 111 + rng.normal(0, 5) <= found.upper[0]))
    assert 0.88 < np.mean(hits) < 1.0


def test_two_points_foretell_nothing() -> None:
    assert forecast(np.arange(2.0), np.arange(2.0), np.array([3.0])) is None


@given(VALUES, st.integers(1, 24))
def test_no_warning_and_no_nan_whatever_the_values(y: list[float], period: int) -> None:
    x, values = np.arange(float(len(y))), np.array(y)
    assert np.isfinite(anomalies(x, values, period=period).score).all()
    found = forecast(x, values, np.array([100.0]), period=period)
    assert found is None or np.isfinite([found.value, found.lower, found.upper]).all()
