"""What a case measured, and how it stands against what was promised.

A case gives `Measurement`s (one server, one figure each) and `Target`s; `Outcome` holds both and can be kept as JSON, so
that a run of one case leaves the others' figures standing in the report.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Measurement:
    """One figure: the median of `runs`, for `server`, of `what` in `unit`."""

    what: str
    server: str
    unit: str
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle run."""
        return statistics.median(self.runs)


@dataclass(frozen=True)
class Target:
    """A promise: `measured` must be at least (`at_least`) or at most `wanted`. `source` says who promised it."""

    what: str
    measured: float
    wanted: float
    unit: str
    source: str
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the promise holds."""
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


@dataclass
class Outcome:
    """All figures and promises of one case."""

    case: str
    title: str
    date: str = ""
    command: str = ""
    how: str = ""
    measurements: list[Measurement] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, server: str, unit: str, runs: Sequence[float]) -> None:
        """Note one figure."""
        self.measurements.append(Measurement(what, server, unit, tuple(runs)))

    def median(self, what: str, server: str) -> float | None:
        """The figure noted for a server, None where it was not measured."""
        return next((m.median for m in self.measurements if m.what == what and m.server == server), None)

    def promise_ratio(self, what: str, against: str, wanted: float, source: str) -> None:
        """Note the promise that Vedette's figure is at least `wanted` times that of `against`, where both were measured."""
        ours, theirs = self.median(what, "vedette"), self.median(what, against)
        if ours is not None and theirs:
            self.targets.append(Target(f"{what}, against {against}", ours / theirs, wanted, "x", source))

    def promise_faster(self, what: str, against: str, wanted: float, source: str) -> None:
        """Note the promise that Vedette needs at most 1/`wanted` of the time of `against`."""
        ours, theirs = self.median(what, "vedette"), self.median(what, against)
        if ours and theirs is not None:
            self.targets.append(Target(f"{what}, against {against}", theirs / ours, wanted, "x faster", source))

    def promise_at_most(self, what: str, wanted: float, unit: str, source: str) -> None:
        """Note the promise that Vedette's figure is at most `wanted`."""
        ours = self.median(what, "vedette")
        if ours is not None:
            self.targets.append(Target(what, ours, wanted, unit, source, at_least=False))

    def promise_at_least(self, what: str, wanted: float, unit: str, source: str) -> None:
        """Note the promise that Vedette's figure is at least `wanted`."""
        ours = self.median(what, "vedette")
        if ours is not None:
            self.targets.append(Target(what, ours, wanted, unit, source))


def save(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Keep outcomes as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(o) for o in outcomes], indent=1), encoding="utf-8")


def load(path: Path) -> list[Outcome]:
    """The outcomes kept at `path`; none where there is no file."""
    if not path.exists():
        return []
    kept = []
    for one in json.loads(path.read_text(encoding="utf-8")):
        measurements = [Measurement(**{**m, "runs": tuple(m["runs"])}) for m in one.pop("measurements")]
        targets = [Target(**t) for t in one.pop("targets")]
        kept.append(Outcome(**one, measurements=measurements, targets=targets))
    return kept
