"""Files of rule unit tests: Prometheus' format, read and checked. Not here: running them (`unittest.py`)."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vedette import configfile
from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration

DEFAULT_INTERVAL_MS = 60_000


def parse_start(text: str) -> int:
    """Unix milliseconds of a `start_timestamp`: Unix seconds or RFC 3339. Raises `BadInput`."""
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"not a time: {text!r}", hint="expected Unix seconds or RFC 3339") from None
    if moment.tzinfo is None:
        raise BadInput(f"a time without its zone: {text!r}", hint="write Z behind a time in UTC")
    return round(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSeries:
    """A series and its values in the notation of test scripts."""

    series: str
    values: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedAlert:
    """Labels (without `alertname`) and annotations of an alert that must fire."""

    exp_labels: dict[str, str] = option(factory=dict)
    exp_annotations: dict[str, str] = option(factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTest:
    """The alerts of one name that must fire at a time (ms after the start), and no others."""

    alertname: str = ""
    eval_time: int = option(0, convert=parse_duration)
    exp_alerts: list[ExpectedAlert] = option(factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedSample:
    """A sample that a query must give; `histogram`, where it is given, is a histogram literal."""

    labels: str = ""
    value: float = 0.0
    histogram: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExprTest:
    """A query at a time (ms after the start) and all samples that it must give."""

    expr: str
    eval_time: int = option(0, convert=parse_duration)
    exp_samples: list[ExpectedSample] = option(factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestGroup:
    """Series and the tests on them; `interval` (ms, 0: that of the evaluation) is the distance of the series' samples."""

    # Not a class of tests, whatever its name says to a test runner.
    __test__ = False

    name: str = ""
    interval: int = option(0, convert=parse_duration)
    start_timestamp: int = option(0, convert=parse_start)
    input_series: list[InputSeries] = option(factory=list)
    alert_rule_test: list[AlertTest] = option(factory=list)
    promql_expr_test: list[ExprTest] = option(factory=list)
    external_labels: dict[str, str] = option(factory=dict)
    external_url: str = ""

    def last_ms(self) -> int:
        """The latest time that a test asks about, in ms after the start."""
        alerts, queries = (t.eval_time for t in self.alert_rule_test), (t.eval_time for t in self.promql_expr_test)
        return max((*alerts, *queries), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestFile:
    """A whole file."""

    __test__ = False

    rule_files: list[str] = option(factory=list)
    evaluation_interval: int = option(DEFAULT_INTERVAL_MS, convert=parse_duration)
    group_eval_order: list[str] = option(factory=list)
    fuzzy_compare: bool = False
    tests: list[TestGroup] = option(factory=list)

    def __post_init__(self) -> None:
        for i, name in enumerate(self.group_eval_order):
            if name in self.group_eval_order[:i]:
                raise BadInput(f"group name repeated in evaluation order: {name}", where="group_eval_order")
        if self.evaluation_interval == 0:
            # As Prometheus does for a time that is not given.
            object.__setattr__(self, "evaluation_interval", DEFAULT_INTERVAL_MS)


def load(path: Path) -> TestFile:
    """Read a file of unit tests. Raises `BadInput`."""
    return configfile.parse(configfile.read(path), TestFile, name=str(path))


def rule_paths(file: TestFile, path: Path) -> tuple[list[Path], list[str]]:
    """The rule files that a test file at `path` names, and the patterns that match none."""
    found: list[Path] = []
    missing: list[str] = []
    for pattern in file.rule_files:
        whole = str(path.parent / pattern)
        matches = sorted(glob.glob(whole))  # noqa: PTH207  # a pattern may be a whole path, which Path.glob refuses
        found += map(Path, matches)
        if not matches:
            missing.append(whole)
    return found, missing
