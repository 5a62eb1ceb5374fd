"""What targets say of their metrics, once for all that say the same: a thousand node_exporters have one set of help texts.

Not here: which target said what (`scrape.py`), what storage keeps of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakValueDictionary

from vedette.model.samples import MetricMetadata


class Families:
    """The entries that somebody still holds. Of one thread."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, MetricMetadata] = WeakValueDictionary()

    def shared(self, entries: Iterable[MetricMetadata]) -> tuple[MetricMetadata, ...]:
        """The same entries in the same order, each as the object that others have of it already, where they do."""
        return tuple(map(self._one, entries))

    def _one(self, entry: MetricMetadata) -> MetricMetadata:
        known = self._known.setdefault(hash(entry), entry)
        return known if known == entry else entry  # of two with one hash the second is not shared, which costs memory alone

    def __len__(self) -> int:
        return len(self._known)
