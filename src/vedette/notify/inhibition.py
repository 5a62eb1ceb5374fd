"""Inhibition: alerts that say nothing while a weightier one stands. Pure, over the alerts that are held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.notify.config import InhibitRule, conditions
from vedette.notify.held import Held


@dataclass(frozen=True, slots=True)
class Inhibition:
    """One rule ready to be asked."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...]

    @classmethod
    def of(cls, rule: InhibitRule) -> Inhibition:
        """From the configuration."""
        return cls(
            conditions(rule.source_match, rule.source_match_re, rule.source_matchers),
            conditions(rule.target_match, rule.target_match_re, rule.target_matchers),
            rule.equal,
        )


class Inhibitor:
    """The rules over the alerts that are held: told of each that comes, changes or goes, asked once per alert to be told.

    `epoch` grows whenever an answer may have changed: what was found out under the same one still holds.
    """

    def __init__(self, rules: Sequence[Inhibition]) -> None:
        self._rules = rules
        self.epoch = 0
        # For each rule, sources by their `equal` labels: those that are also targets of the rule apart, since two
        # alerts that match both sides must not silence one another.
        self._only: list[dict[tuple[str, ...], dict[Labels, Held]]] = [{} for _ in rules]
        self._both: list[dict[tuple[str, ...], dict[Labels, Held]]] = [{} for _ in rules]

    @property
    def idle(self) -> bool:
        """Whether there are no rules."""
        return not self._rules

    def put(self, held: Held, now: int) -> None:
        """An alert came, or there is news of it."""
        labels = held.alert.labels
        for sources, key in self._places(labels):
            known = sources.setdefault(key, {}).get(labels)
            sources[key][labels] = held
            if (known is None or known.resolved(now)) != held.resolved(now):
                self.epoch += 1

    def drop(self, labels: Labels) -> None:
        """An alert is held no longer."""
        for sources, key in self._places(labels):
            if sources.get(key, {}).pop(labels, None) is not None:
                self.epoch += 1
                if not sources[key]:
                    del sources[key]

    def ended(self, labels: Labels) -> None:
        """An alert's end was passed without any news of it."""
        if any(True for _ in self._places(labels)):
            self.epoch += 1

    def _places(self, labels: Labels) -> Iterator[tuple[dict[tuple[str, ...], dict[Labels, Held]], tuple[str, ...]]]:
        for i, rule in enumerate(self._rules):
            if match_labels(rule.source, labels):
                sources = self._both if match_labels(rule.target, labels) else self._only
                yield sources[i], tuple(labels.get(n) for n in rule.equal)

    def inhibited_by(self, labels: Labels, now: int) -> Held | None:
        """An alert standing at `now` that inhibits this one, None where none does."""
        for i, rule in enumerate(self._rules):
            if not match_labels(rule.target, labels):
                continue
            key = tuple(labels.get(n) for n in rule.equal)
            found = _standing(self._only[i].get(key), now)
            if found is None and not match_labels(rule.source, labels):
                found = _standing(self._both[i].get(key), now)
            if found is not None:
                return found
        return None


def _standing(sources: dict[Labels, Held] | None, now: int) -> Held | None:
    return next((h for h in sources.values() if not h.resolved(now)), None) if sources else None
