"""What is told of a text whose lines are taken or left out one by one. Not here: reading them."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_FAULTS = 20
"""As many lines that cannot be read are told of, of one text."""
SHOWN = 200
"""As many characters of them are shown."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that was left out: its number and the column (in bytes, both from 1) of what is wrong with it, and its beginning."""

    line: int
    column: int
    problem: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.problem}"


@dataclass(slots=True)
class Told:
    """What came of a text so far: lines taken, strings left out, lines left out and the first `MOST_FAULTS` of those."""

    lines: int = 0
    strings: int = 0
    faulty: int = 0
    faults: list[Fault] = field(default_factory=list)

    def bad(self, line: int, problem: str, text: str = "", *, column: int = 1) -> None:
        """Count a line that was left out."""
        self.faulty += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(line, column, problem, text[:SHOWN]))

    def __str__(self) -> str:
        more = f"; and {self.faulty - len(self.faults)} more" if self.faulty > len(self.faults) else ""
        return "; ".join(map(str, self.faults)) + more
