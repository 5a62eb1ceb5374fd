"""Regular expressions that need no engine, as most that dashboards send do not: plain texts, and such with `.*` or `.+` before or behind.

Where one needs an engine, what all of its matches begin with spares it most values. Nothing here refuses anything: what is
not understood is the engine's. Not here: matchers, the engine (`matchers.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Test = Callable[[str], bool]

_TEXT = r"(?:[^\\.+*?()|\[\]{}^$]|\\[!-/:-@\[-^`{-~])*"
_FORM = re.compile(rf"(\.[*+])?({_TEXT})(\.[*+])?", re.DOTALL)
_LEAD = re.compile(_TEXT, re.DOTALL)
_CHARACTER = re.compile(r"\\?.", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MOST = 16
"""More tests of one text, one after the other, take longer than an engine that makes them all at once."""


def told_apart(alternatives: Sequence[str]) -> tuple[Test | None, list[str]]:
    """A test for full matches of those of some expressions that need no engine (None: of none), and the others. `.` matches everything."""
    texts: list[str] = []
    around: list[tuple[str, Test]] = []
    others: list[str] = []
    for alternative in alternatives:
        form = _FORM.fullmatch(alternative)
        if form is None:
            others.append(alternative)
            continue
        before, text, behind = form[1], _ESCAPED.sub(r"\1", form[2]), form[3]
        if before is None and behind is None:
            texts.append(text)
        else:
            around.append((alternative, _around(before, text, behind)))
    if len(around) > _MOST:
        others += [alternative for alternative, _ in around]
        around = []
    tests = [test for _, test in around]
    if len(tests) == 1 and not texts:
        return tests[0], others
    known = frozenset(texts)
    if tests:
        return lambda value: value in known or any(test(value) for test in tests), others
    return known.__contains__ if texts else None, others


def _around(before: str | None, text: str, behind: str | None) -> Test:
    """Whether something ends or begins with `text`, or has it inside, with one character or more where `.+` stands."""
    lo, hi = int(before == ".+"), int(behind == ".+")
    least = len(text) + lo + hi
    if before is None:
        return lambda value: len(value) >= least and value.startswith(text)
    if behind is None:
        return lambda value: len(value) >= least and value.endswith(text)
    return lambda value: len(value) >= least and value.find(text, lo, len(value) - hi) >= 0


def beginnings(alternatives: Sequence[str]) -> tuple[str, ...]:
    """What every match of any of some expressions begins with one of; nothing where that is not plain, or they are too many."""
    found = set()
    for alternative in alternatives:
        lead = _LEAD.match(alternative)
        assert lead is not None, "which may be empty"
        text = lead[0]
        if alternative[lead.end() : lead.end() + 1] in ("?", "*", "+", "{"):
            text = "".join(_CHARACTER.findall(text)[:-1])  # the last may be there or not
        found.add(_ESCAPED.sub(r"\1", text))
        if not text or len(found) > _MOST:
            return ()
    return tuple(found)
