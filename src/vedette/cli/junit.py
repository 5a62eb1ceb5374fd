"""Results of tests as JUnit's XML, which continuous integration shows: a suite for each file, a case for each group of tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from vedette.errors import BadInput

_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class Suite:
    """The tests of a file: names of cases and what failed in each; `aborted` says why none could be run."""

    name: str
    cases: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    aborted: str = ""

    def case(self, name: str, failures: Sequence[str]) -> None:
        """Add a case."""
        self.cases.append((name, tuple(failures)))

    def abort(self, problem: str) -> None:
        """The file could not be read."""
        self.aborted = problem


class Report:
    """All suites of a run."""

    def __init__(self) -> None:
        self._suites: list[Suite] = []

    def suite(self, name: str) -> Suite:
        """A new suite."""
        self._suites.append(Suite(name))
        return self._suites[-1]

    def write(self, path: Path) -> None:
        """Write the file. Raises `BadInput` where it cannot be written."""
        root = Element("testsuites")
        for suite in self._suites:
            failed, aborted = sum(bool(failures) for _, failures in suite.cases), int(bool(suite.aborted))
            counts = {"tests": len(suite.cases), "failures": failed, "errors": aborted}
            below = SubElement(root, "testsuite", {"name": _fit(suite.name), **{n: str(count) for n, count in counts.items()}})
            for name, failures in suite.cases:
                case = SubElement(below, "testcase", name=_fit(name))
                for failure in failures:
                    SubElement(case, "failure", message="").text = _fit(failure)
            if suite.aborted:
                SubElement(below, "system-err").text = _fit(suite.aborted)
        indent(root)
        try:
            ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
        except OSError as error:
            raise BadInput(f"cannot be written: {error.strerror}", where=str(path)) from None


def _fit(text: str) -> str:
    """The text without what XML has no way to write."""
    return _UNFIT.sub("\ufffd", text)
