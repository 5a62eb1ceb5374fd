"""NAB's rules, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from bench.anomaly import FN, FP, Series, alerts, baseline_scores, score

SERIES = Series("made", np.zeros(1000), [(400, 499)], 288)


def test_nothing_found_is_one_miss() -> None:
    assert score(SERIES, []) == (-FN, 0, 0)


def test_the_first_row_of_a_window_is_worth_one() -> None:
    total, hits, false = score(SERIES, [400, 450])
    assert (total, hits, false) == (pytest.approx(1.0), 1, 0)


def test_later_is_worth_less_and_only_the_first_counts() -> None:
    early, late = score(SERIES, [420])[0], score(SERIES, [490])[0]
    assert 0 < late < early < 1
    assert score(SERIES, [490, 491, 492])[0] == late


def test_outside_costs_less_just_behind_a_window() -> None:
    assert score(SERIES, [200])[0] == pytest.approx(-FN - FP)
    behind, far = score(SERIES, [500])[0], score(SERIES, [999])[0]
    assert -FN - FP <= far < behind < -FN
    assert score(SERIES, [200, 400])[2] == 1


def test_probation_is_not_scored() -> None:
    assert score(SERIES, [100]) == (-FN, 0, 0)


def test_an_alert_is_an_edge() -> None:
    scores = np.zeros(60)
    scores[10:20] = 9
    scores[25] = 9
    scores[50] = 9
    assert alerts(scores, 3.5) == [10, 50]


def test_a_spike_over_a_daily_course_is_found() -> None:
    at = np.arange(2000)
    values = 10 + 5 * np.sin(2 * np.pi * at / 288) + np.random.default_rng(1).normal(0, 0.3, 2000)
    values[1500] += 20
    found = baseline_scores(values, 288)
    assert found[1500] > 10
    assert np.median(found[800:]) < 2
