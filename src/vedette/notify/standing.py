"""The alerts that are held: by their labels and fingerprints, when each ends, which keep others quiet.

Not here: how news of an alert joins what is held (`held.py`), its groups (`groups.py`), the records.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence

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
        # One entry an alert, whose end may have moved on since: looked at again once it is reached.
        self._ends: list[tuple[int, Labels]] = []
        self._awaited: set[Labels] = set()
        self._numbers: dict[Labels, int] = {}

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

    def number(self, labels: Labels, new: Callable[[], int]) -> int:
        """The number of an alert's record, a `new` one where none was given out: two that tell of it at once get the same."""
        found = self._numbers.get(labels)
        if found is None:
            found = self._numbers[labels] = new()
        return found

    def put(self, held: Held, now: int) -> None:
        """Hold an alert, or news of it. Its record has a number, which stays its own until it is dropped."""
        labels = held.alert.labels
        self._held[labels] = held
        # Set anew: it may have been dropped while news of it, numbered before, was on its way to the disk.
        self._numbers[labels] = held.number
        self._named[held.alert.fingerprint] = labels
        if labels not in self._awaited and not held.resolved(now):
            self._awaited.add(labels)
            heapq.heappush(self._ends, (held.alert.ends_at, labels))
        self.inhibitor.put(held, now)

    def drop(self, held: Held) -> None:
        """Hold an alert no longer, unless there was news of it meanwhile."""
        labels = held.alert.labels
        if self._held.get(labels) is held:
            del self._held[labels]
            self._named.pop(held.alert.fingerprint, None)
            self._numbers.pop(labels, None)
            self.inhibitor.drop(labels)

    def inhibit(self, inhibitions: Sequence[Inhibition], now: int) -> None:
        """Put other rules of inhibition in force."""
        self.inhibitor = Inhibitor(inhibitions)
        for held in self._held.values():
            self.inhibitor.put(held, now)

    def ended(self, now: int) -> list[Held]:
        """The alerts whose end was passed since this was last asked, without a word from their sender."""
        found = []
        while self._ends and self._ends[0][0] <= now:
            _, labels = heapq.heappop(self._ends)
            self._awaited.discard(labels)
            held = self._held.get(labels)
            if held is None:
                continue
            if not held.resolved(now):
                self._awaited.add(labels)
                heapq.heappush(self._ends, (held.alert.ends_at, labels))
            elif held.alert.ends_at > held.updated_at:
                self.inhibitor.ended(labels)
                found.append(held)
        return found

    def next_end(self) -> int | None:
        """When `ended` is to be asked next, at the latest; None for never."""
        return self._ends[0][0] if self._ends else None
