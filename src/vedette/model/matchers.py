"""Label matchers: `=`, `!=`, `=~`, `!~`. Regular expressions are google-re2's, anchored at both ends."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Literal

import re2

from vedette.errors import BadInput
from vedette.model import plain
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_label_name, quote
from vedette.regex import MAX_WEIGHT, bounded, weight

MatchOp = Literal["=", "!=", "=~", "!~"]

_OPTIONS = re2.Options()
_OPTIONS.never_nl = False
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20
_OPTIONS.dot_nl = True
# Nobody asks for the groups, and finding 5,000 of them took a second for each value.
_OPTIONS.never_capture = True


_PLAIN = re.compile(r"[^\\.+*?()\[\]{}^$]*")
_UNIT = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|[()|]|[^\\\[()|]+", re.DOTALL)
MAX_TOGETHER = 1000
"""Most alternatives that are compiled as one expression: the time that takes grows faster than their number."""
_MOST = 10 * MAX_WEIGHT


def compile_regex(pattern: str, *, where: str = "") -> Callable[[str], bool]:
    """A test for full matches of `pattern`, in time linear in the text. Raises `BadInput` for a bad pattern.

    Alternatives that are plain texts, as dashboards make them, are looked up instead; more in `plain.py`.
    """
    if _PLAIN.fullmatch(pattern):
        return frozenset(pattern.split("|")).__contains__
    alternatives = _alternatives(pattern)
    if alternatives is None:
        return _compiled(pattern, pattern, where)
    test, others = plain.told_apart(alternatives)
    if not others:
        return test or frozenset[str]().__contains__
    engine, beginnings = _engine(others, pattern, where), plain.beginnings(others)
    # To ask the engine takes thirty times as long as to look how a text begins.
    if test is None:
        return (lambda text: text.startswith(beginnings) and engine(text)) if beginnings else engine
    if beginnings:
        return lambda text: test(text) or (text.startswith(beginnings) and engine(text))
    return lambda text: test(text) or engine(text)


def _engine(alternatives: list[str], pattern: str, where: str) -> Callable[[str], bool]:
    """A test for full matches of any of some of the alternatives of `pattern`. Raises as `compile_regex` does."""
    if len(alternatives) <= MAX_TOGETHER:
        return _compiled("|".join(alternatives), pattern, where)
    if weight(pattern, _MOST) > _MOST:
        raise BadInput(f"bad regular expression {_shown(pattern)}: expression too large", where=where, hint="fewer repetitions")
    parts = [alternatives[i : i + MAX_TOGETHER] for i in range(0, len(alternatives), MAX_TOGETHER)]
    tests = [_compiled("|".join(part), pattern, where) for part in parts]
    return lambda text: any(test(text) for test in tests)


def _alternatives(pattern: str) -> list[str] | None:
    """What stands between the outermost `|`; None where that cannot be told by a glance."""
    if "(?" in pattern or "\\Q" in pattern:
        return None  # flags and quotes reach across what they stand in
    if "|" not in pattern:
        return [pattern]
    out, begin, depth, at = [], 0, 0, 0
    while at < len(pattern):
        unit = _UNIT.match(pattern, at)
        if unit is None:
            return None
        kind = unit.group()
        depth += {"(": 1, ")": -1}.get(kind, 0)
        if depth < 0:
            return None
        if kind == "|" and not depth:
            out.append(pattern[begin:at])
            begin = unit.end()
        at = unit.end()
    return None if depth else [*out, pattern[begin:]]


def _compiled(part: str, pattern: str, where: str) -> Callable[[str], bool]:
    try:
        compiled = bounded(f"(?:{part})", _OPTIONS)
    except re2.error as error:
        raise BadInput(f"bad regular expression {_shown(pattern)}: {_message(error)}", where=where, hint="RE2 syntax") from None
    return lambda text: compiled.fullmatch(text) is not None


_GO_PROBLEMS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid named capture group": "invalid named capture",
    "invalid perl operator": "invalid or unsupported Perl syntax",
}
"""RE2's names of what is wrong that Go's library names otherwise."""


def go_regex_problem(pattern: str) -> str:
    """What is wrong with a regular expression, in the words of Go's library; "" where nothing is, by itself."""
    try:
        bounded(pattern, _OPTIONS)
    except re2.error as error:
        problem, _, part = _message(error).partition(": ")
        return f"error parsing regexp: {_GO_PROBLEMS.get(problem, problem)}" + (f": `{part}`" if part else "")
    return ""


def _shown(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 500 else f"{pattern[:500]}…")


def _message(error: Exception) -> str:
    detail = error.args[0] if error.args else "cannot be compiled"
    return detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; an absent label counts as the empty value."""

    name: str
    op: MatchOp
    value: str
    _full: Callable[[str], bool] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.op in ("=~", "!~"):
            object.__setattr__(self, "_full", compile_regex(self.value))

    def matches(self, value: str) -> bool:
        """Whether a label with this value ("" for an absent one) passes."""
        if self._full is not None:
            return self._full(value) == (self.op == "=~")
        return (value == self.value) == (self.op == "=")

    @property
    def matches_empty(self) -> bool:
        """Whether a series without the label passes."""
        return self.matches("")

    def __str__(self) -> str:
        name = self.name if is_legacy_label_name(self.name) else quote(self.name)
        return f"{name}{self.op}{quote(self.value)}"


def match_labels(matchers: tuple[Matcher, ...], labels: Labels) -> bool:
    """Whether a label set passes all of `matchers`."""
    return all(m.matches(labels.get(m.name)) for m in matchers)


_PATIENCE_S, _SLOW_S, _BETWEEN = 5.0, 20e-6, 256
"""How long one matcher may look at values where each takes long, what is long, and how many values it looks at between two glances
at the clock. An expression of a kilobyte can take 3 ms for a value of 200 bytes: five minutes for those of 100,000 series."""


_ALL_S = 20.0
"""How long all matchers of one selector together may look at values: three thousand took 65 ms each, and minutes together."""


class Patience:
    """What the matchers of one selector have of their time. Used by one thread at a time."""

    def __init__(self) -> None:
        self._spent, self._most = 0.0, 0

    def spend(self, seconds: float, values: int) -> None:
        """Take some, for so many values. Raises `BadInput` where none is left."""
        self._spent, self._most = self._spent + seconds, max(self._most, values)
        # Of millions of values, one matcher alone may take longer.
        if self._spent > max(_ALL_S, _SLOW_S * self._most):
            raise BadInput(
                f"the matchers of one selector have looked at the values of their labels for {self._spent:.0f} s",
                hint="fewer of them, or one equal to a value",
            )


def verdicts(matcher: Matcher, values: Iterable[str], patience: Patience | None = None) -> list[bool]:
    """What `matcher` says of each of `values`. Raises `BadInput` for an expression that takes far too long, or that uses up `patience`."""
    found: list[bool] = []
    began, left = monotonic(), iter(values)
    full = matcher._full
    while some := list(islice(left, _BETWEEN)):
        found += map(matcher.matches if full is None else full, some)
        if (taken := monotonic() - began) > max(_PATIENCE_S, _SLOW_S * len(found)):
            shown = _shown(matcher.value)
            raise BadInput(
                f"the regular expression {shown} of label {quote(matcher.name)} has looked at {len(found)} values for {taken:.0f} s",
                hint="a simpler one, with fewer repetitions",
            )
    if patience is not None:
        patience.spend(monotonic() - began, len(found))
    return [not one for one in found] if matcher.op == "!~" else found


def by_metric(metric: str) -> Matcher:
    """The matcher for one metric name."""
    return Matcher(METRIC_NAME, "=", metric)
