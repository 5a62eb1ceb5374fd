"""How well anomalies are found: the Numenta Anomaly Benchmark's labelled series, scored by its own rules.

The detector is what a rule of the type `anomaly` does: at each moment only the past is known, and what is usual (`analysis.baseline`)
is taken from the trailing week, anew every quarter of a day. An alert is the moment in which the score rises over the threshold; it may
rise again once it was quiet for an hour. Beside it stands the plainest detector there is, mean and standard deviation over the same
past, at three standard deviations. Scores are NAB's, of the standard profile: 0 is a detector that says nothing, 100 one that finds each
window at its beginning and nothing else. The data are public, and looked for where tests look for them.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import servers
from bench.results import Outcome
from vedette.analysis.anomaly import THRESHOLD
from vedette.analysis.baseline import Baseline

TP, FP, FN = 1.0, 0.11, 1.0
"""The weights of NAB's standard profile."""
HOW = (
    "The series of the Numenta Anomaly Benchmark, each walked in order: only the past is known. Scored as NAB does (standard profile; "
    "the first 15 %, at most 750 points, are probation), at one threshold for all series, which was not fitted to them. `3 sigma` is "
    "mean and standard deviation over the same trailing week."
)
PAST = 2016
"""Points of the trailing week, where they are five minutes apart."""
REFIT = 72
QUIET = 12
_FITTED = 500

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One file: values, and the labelled windows as (first, last) rows."""

    name: str
    values: Floats
    windows: list[tuple[int, int]]
    day: int
    """Points in a day."""

    @property
    def probation(self) -> int:
        """Rows that are not scored."""
        return min(int(0.15 * len(self.values)), 750)


def load() -> list[Series]:
    """The series. Raises `Missing` where the data is not there."""
    folder = Path(os.environ.get("VEDETTE_CONFORMANCE", servers.ROOT.parent / "shared" / "conformance")) / "numenta_NAB"
    labels = folder / "labels" / "combined_windows.json"
    if not labels.is_file():
        raise servers.Missing("the Numenta Anomaly Benchmark is not there: VEDETTE_CONFORMANCE names the directory that holds numenta_NAB/")
    found = []
    for name, windows in sorted(json.loads(labels.read_text()).items()):
        if not (folder / "data" / name).is_file():
            continue
        with (folder / "data" / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        times = np.array([_seconds(row["timestamp"]) for row in rows])
        at = [(int(np.searchsorted(times, _seconds(a))), int(np.searchsorted(times, _seconds(b), side="right")) - 1) for a, b in windows]
        day = max(2, round(86_400 / max(1.0, float(np.median(np.diff(times))))))
        found.append(Series(name, np.array([float(row["value"]) for row in rows]), at, day))
    return found


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.split(".")[0]).replace(tzinfo=UTC).timestamp()


def baseline_scores(values: Floats, day: int) -> Floats:
    """Robust standard deviations from what the past week makes usual, of each point; 0 before there is a past."""
    out = np.zeros(len(values))
    for at in range(REFIT, len(values), REFIT):
        past = values[max(0, at - PAST) : at]
        every = max(1, len(past) // _FITTED)
        kept = len(past) // every
        x = np.arange(kept, dtype=np.float64)
        # One of every few, as a rule's step takes them: medians would stray less than the points that are judged.
        y = past[-kept * every :: every]
        usual = Baseline.of(x, y, max(1, round(day / every)))
        ahead = values[at : at + REFIT]
        expected = usual.at(kept + np.arange(len(ahead)) / every)
        out[at : at + REFIT] = np.abs(ahead - expected) / (usual.reach or 1.0)
    return out


def sigma_scores(values: Floats, day: int) -> Floats:
    """Standard deviations from the mean of the past week."""
    out = np.zeros(len(values))
    for at in range(REFIT, len(values), REFIT):
        past, ahead = values[max(0, at - PAST) : at], values[at : at + REFIT]
        out[at : at + REFIT] = np.abs(ahead - past.mean()) / (float(past.std()) or 1.0)
    return out


def alerts(scores: Floats, threshold: float) -> list[int]:
    """The rows at which an alert begins."""
    found, quiet = [], QUIET
    for row, high in enumerate((scores > threshold).tolist()):
        if high and quiet >= QUIET:
            found.append(row)
        quiet = 0 if high else quiet + 1
    return found


def score(series: Series, found: list[int]) -> tuple[float, int, int]:
    """(NAB's raw score, windows found, alerts outside of all windows)."""
    total, hits, false = 0.0, 0, 0
    seen: set[int] = set()
    for row in found:
        if row < series.probation:
            continue
        inside = next((i for i, (a, b) in enumerate(series.windows) if a <= row <= b), None)
        if inside is None:
            false += 1
            before = [b for _, b in series.windows if b < row]
            if not before:
                total -= FP
                continue
            first, last = next(w for w in series.windows if w[1] == max(before))
            total += FP * _sigmoid((row - last) / max(1, last - first))
        elif inside not in seen:
            seen.add(inside)
            first, last = series.windows[inside]
            hits += 1
            total += TP * _sigmoid(-(last - row + 1) / (last - first + 1)) / _sigmoid(-1.0)
    return total - FN * (len(series.windows) - len(seen)), hits, false


def _sigmoid(place: float) -> float:
    """1 at the beginning of a window, falling through 0 at its end to -1 long after it."""
    return -1.0 if place > 3.0 else 2.0 / (1.0 + math.exp(5.0 * place)) - 1.0


def run() -> Outcome:
    """Score both detectors over all series."""
    outcome = Outcome("anomaly", "Anomalies in the Numenta Anomaly Benchmark", how=HOW)
    series = load()
    windows = sum(len(s.windows) for s in series)
    detectors: list[tuple[str, Callable[[Floats, int], Floats], float]] = [
        ("vedette", baseline_scores, THRESHOLD),
        ("3 sigma", sigma_scores, 3.0),
    ]
    for name, scores_of, threshold in detectors:
        began = time.monotonic()
        results = [score(s, alerts(scores_of(s.values, s.day), threshold)) for s in series]
        took = time.monotonic() - began
        total = sum(r[0] for r in results)
        outcome.add("score, standard profile", name, "of 100", [100 * (total + FN * windows) / (windows * (TP + FN))])
        outcome.add("windows found", name, f"of {windows}", [float(sum(r[1] for r in results))])
        outcome.add("alerts outside of all windows", name, "", [float(sum(r[2] for r in results))])
        outcome.add("points a second", name, "points/s", [sum(len(s.values) for s in series) / took])
    points = sum(len(s.values) for s in series)
    outcome.notes.append(f"{len(series)} series, {points:,} points, {windows} labelled windows.")
    outcome.promise_ratio("score, standard profile", "3 sigma", 1, "budget")
    return outcome
