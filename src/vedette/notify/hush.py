"""The silences that hold at one moment, indexed by what they ask for, so that ten thousand of them cost an alert little.

One that asks for `service="db"` is met only by alerts of that service. Those that ask for a label by a regular expression are
tried many at a time: where none of fifty can match, one expression made of all of them says so. Not here: what a silence is
(`silence.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, compile_regex, match_labels
from vedette.notify.silence import Silence

_TOGETHER = 50
"""So many regular expressions are made one: enough to save most of the tries, few enough to stay quick."""
_REMEMBERED = 200_000
"""Of so many values it is remembered which silences they lead to."""


class _Together:
    """Silences that ask for one label by regular expressions, some of them at a time."""

    def __init__(self, silences: Sequence[tuple[Matcher, Silence]]) -> None:
        self._silences = silences
        self._any: Callable[[str], bool] | None = None
        if len(silences) > 1:
            try:
                self._any = compile_regex("|".join(f"(?:{matcher.value})" for matcher, _ in silences))
            except BadInput:
                # Good ones each, but not as one: too large together, or with groups of the same name.
                self._any = None

    def of(self, value: str) -> list[Silence]:
        """The silences whose expression matches."""
        if self._any is not None and not self._any(value):
            return []
        return [silence for matcher, silence in self._silences if matcher.matches(value)]


class _Patterns:
    """The silences that ask for one label by regular expressions."""

    def __init__(self, asked: Sequence[tuple[Matcher, Silence]]) -> None:
        self.asked = asked
        self._all = [_Together(asked[at : at + _TOGETHER]) for at in range(0, len(asked), _TOGETHER)]
        self.known: dict[str, Sequence[Silence]] = {}

    def of(self, value: str) -> Sequence[Silence]:
        """The silences whose expression matches; remembered."""
        found = self.known.get(value)
        if found is None:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            found = self.known[value] = tuple(s for together in self._all for s in together.of(value))
        return found


class Hush:
    """The silences that hold at one moment; `epoch` tells those of different moments apart.

    What was found out of the expressions of the moment `before` is taken over where they are the same.
    """

    def __init__(self, silences: Iterable[Silence], *, epoch: int = 0, before: Hush | None = None) -> None:
        self.epoch = epoch
        self._by_pair: dict[tuple[str, str], list[Silence]] = {}
        self._others: list[Silence] = []
        by_name: dict[str, list[tuple[Matcher, Silence]]] = {}
        for silence in silences:
            exact = next((m for m in silence.matchers if m.op == "=" and m.value), None)
            pattern = next((m for m in silence.matchers if m.op == "=~" and not m.matches_empty), None)
            if exact is not None:
                self._by_pair.setdefault((exact.name, exact.value), []).append(silence)
            elif pattern is not None:
                by_name.setdefault(pattern.name, []).append((pattern, silence))
            else:
                self._others.append(silence)
        known: dict[str, _Patterns] = before._by_pattern if before is not None else {}
        self._by_pattern: dict[str, _Patterns] = {
            name: known[name] if name in known and known[name].asked == asked else _Patterns(asked) for name, asked in by_name.items()
        }

    @property
    def empty(self) -> bool:
        """Whether nothing is silenced."""
        return not self._by_pair and not self._by_pattern and not self._others

    def of(self, labels: Labels) -> list[str]:
        """The ids of the silences that an alert falls under, sorted."""
        candidates = list(self._others)
        if self._by_pair:
            for pair in labels:
                candidates += self._by_pair.get(pair, ())
        if self._by_pattern:
            for name, value in labels:
                if (patterns := self._by_pattern.get(name)) is not None:
                    candidates += patterns.of(value)
        return sorted(s.id for s in candidates if match_labels(s.matchers, labels)) if candidates else []
