"""Inhibition: alerts that say nothing while a weightier one stands. Pure, over the alerts that are held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.notify.config import InhibitRule, conditions


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
    """The rules over the alerts that stand at one moment: built once per flush, asked once per alert."""

    def __init__(self, rules: Sequence[Inhibition], standing: Iterable[Labels]) -> None:
        self._rules = rules
        # For each rule, sources by their `equal` labels: those that are also targets of the rule apart, since two
        # alerts that match both sides must not silence one another.
        self._only: list[dict[tuple[str, ...], Labels]] = [{} for _ in rules]
        self._both: list[dict[tuple[str, ...], Labels]] = [{} for _ in rules]
        for labels in standing if rules else ():
            for i, rule in enumerate(rules):
                if match_labels(rule.source, labels):
                    sources = self._both if match_labels(rule.target, labels) else self._only
                    sources[i].setdefault(tuple(labels.get(n) for n in rule.equal), labels)

    def inhibited_by(self, labels: Labels) -> Labels | None:
        """The alert that inhibits this one, None where none does."""
        for i, rule in enumerate(self._rules):
            if not match_labels(rule.target, labels):
                continue
            key = tuple(labels.get(n) for n in rule.equal)
            found = self._only[i].get(key)
            if found is None and not match_labels(rule.source, labels):
                found = self._both[i].get(key)
            if found is not None:
                return found
        return None
