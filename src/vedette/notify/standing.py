"""The alerts that are held: by their labels and fingerprints, when each ends, which keep others quiet.

Not here: how news of an alert joins what is held (`held.py`), its groups (`groups.py`), the records.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence

from vedette.errors import NotFound
from vedette.model.labels import Labels
from vedette.notify.held import Held
from vedette.notify.inhibition import Inhibition, Inhibitor


class Standing:
    """The alerts of one tenant."""

    def __init__(self, inhibitions: Sequence[Inhibition] = ()) -> None:
        self.inhibitor = Inhibitor(inhibitions)
        self._held: dict[Labels, Held] = {}
        self._named: dict[str, Labels] = {}
        # Alerts by the end each had when it came, which may have moved on since: looked at again once it is reached.
        self._ends: list[int] = []
        self._ending: dict[int, list[Labels]] = {}
        self._awaited: set[Labels] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    @property
    def fingerprints(self) -> Collection[str]:
        """The fingerprints of all."""
        return self._named.keys()

    def get(self, labels: Labels) -> Held | None:
        """What is held of an alert."""
        return self._held.get(labels)

    def named(self, fingerprint: str) -> Held:
        """The alert with a fingerprint. Raises `NotFound`."""
        labels = self._named.get(fingerprint)
        if labels is None:
            raise NotFound(f"no alert with the fingerprint {fingerprint} is held")
        return self._held[labels]

    def put(self, held: Held, now: int) -> None:
        """Hold an alert, or news of it."""
        alert = held.alert
        labels = alert.labels
        self._held[labels] = held
        self._named[alert.fingerprint] = labels
        if alert.ends_at > now:
            before = len(self._awaited)
            self._awaited.add(labels)
            if len(self._awaited) != before:
                self._await(alert.ends_at, labels)
        if not self.inhibitor.idle:
            self.inhibitor.put(held, now)

    def _await(self, end: int, labels: Labels) -> None:
        if (ending := self._ending.get(end)) is not None:
            ending.append(labels)
        else:
            self._ending[end] = [labels]
            heapq.heappush(self._ends, end)

    def drop(self, held: Held) -> None:
        """Hold an alert no longer, unless there was news of it meanwhile."""
        labels = held.alert.labels
        if self._held.get(labels) is held:
            del self._held[labels]
            self._named.pop(held.alert.fingerprint, None)
            self.inhibitor.drop(labels)

    def inhibit(self, inhibitions: Sequence[Inhibition], now: int) -> None:
        """Put other rules of inhibition in force."""
        self.inhibitor = Inhibitor(inhibitions)
        for held in self._held.values():
            self.inhibitor.put(held, now)

    def ended(self, now: int) -> list[Held]:
        """The alerts whose end was passed since this was last asked, without a word from their sender."""
        found = []
        while self._ends and self._ends[0] <= now:
            for labels in self._ending.pop(heapq.heappop(self._ends)):
                held = self._held.get(labels)
                if held is not None and not held.resolved(now):
                    self._await(held.alert.ends_at, labels)
                    continue
                self._awaited.discard(labels)
                if held is not None and held.alert.ends_at > held.updated_at:
                    self.inhibitor.ended(labels)
                    found.append(held)
        return found

    def next_end(self) -> int | None:
        """When `ended` is to be asked next, at the latest; None for never."""
        return self._ends[0] if self._ends else None
