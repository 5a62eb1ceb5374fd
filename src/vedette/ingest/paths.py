"""What Graphite's paths are stored as: names and tags by the settings, or by mapping rules.

Most paths have the same few tags over and over: what stands around their values is made once, and then only filled in. Not here: which
lines hold a path (`wire.graphite`), the rules (`mapping.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from vedette.ingest.mapping import Mapper, labels_for
from vedette.ingest.socket_settings import GraphiteSettings
from vedette.model.labels import METRIC_NAME, Labels
from vedette.wire import graphite
from vedette.wire.naming import label_name

_MOST_FORMS = 1_000
_NAMES = bytes(c if chr(c).isalnum() or c in b"_:" else 95 for c in range(128)) + bytes(range(128, 256))
"""What becomes of each byte of a name in ASCII that is to need no quotes."""

_Form = tuple[bytes, Callable[[list[bytes]], bytes | tuple[bytes, ...]]]
"""The encoded labels of all paths with the same tags, `%b` where a value stands, and which parts of a path go there."""


class Paths:
    """What paths are stored as, by the settings. `resolve` and `resolve_many` are a `KeySpace`'s: they are asked once for each path."""

    def __init__(self, settings: GraphiteSettings, mapper: Mapper) -> None:
        self._settings = settings
        self._mapper = mapper
        self._forms: dict[tuple[bytes, ...], _Form | None] = {}
        self._more = {label: value for label, value in settings.labels.items() if value and label != METRIC_NAME}

    def resolve(self, key: bytes) -> Labels | None:
        """The labels of a path, None where the rules drop it. Raises `BadInput` for a tag that no label can be."""
        settings = self._settings
        name, tags = graphite.split_path(key.decode("utf-8"))
        mapped = self._mapper.find(name, "gauge")
        if mapped is None:
            return None
        return labels_for(mapped, tags.items(), settings.names, settings.labels)

    def resolve_many(
        self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """See `KeySpace.canonicalise`. Raises `BadInput` as `resolve` does."""
        view = buffer.data
        made = self._encoded if self._mapper.plain else self._looked_up
        keys = [made(bytes(view[lo:hi])) for lo, hi in zip(starts.tolist(), ends.tolist(), strict=True)]
        offsets = np.zeros(len(keys) + 1, dtype=np.int64)
        np.cumsum([len(key) for key in keys], out=offsets[1:])
        # A bytearray, since kernels would be compiled a second time for an array that is read-only.
        return np.frombuffer(bytearray().join(keys), dtype=np.uint8), offsets

    def _looked_up(self, key: bytes) -> bytes:
        found = self.resolve(key)
        return b"" if found is None else found.encode()

    def _encoded(self, key: bytes) -> bytes:
        """The encoded labels of a path for which there are no rules."""
        parts = key.replace(b"=", b";").split(b";")
        plain = self._settings.names == "utf8"
        # A tag's value may hold an equals sign, and so may a name without tags.
        if parts[0] and 2 * key.count(b";") + 1 == len(parts) and (plain or key.isascii()):
            tags = tuple(parts[1::2])
            form = self._forms.get(tags)
            if form is None and tags not in self._forms:
                if len(self._forms) >= _MOST_FORMS:
                    self._forms.clear()
                form = self._forms[tags] = self._form(tags)
            if form is not None:
                if not plain:
                    name = parts[0].translate(_NAMES)
                    parts[0] = b"_" + name if name[:1].isdigit() else name
                return form[0] % form[1](parts)
        return self._looked_up(key)

    def _form(self, tags: tuple[bytes, ...]) -> _Form | None:
        """The form of paths with these tags; None where `resolve` is to say what comes of them."""
        places = {METRIC_NAME: 0}
        for number, tag in enumerate(tags):
            label = label_name(tag.decode("utf-8"), self._settings.names)
            if label in places:
                return None
            places[label] = 2 * number + 2
        text = b""
        for label in sorted({*places, *self._more}):
            value = b"%b" if label in places else _quoted(self._more[label])
            text += _quoted(label) + b"\xff" + value + b"\xff"
        return text, itemgetter(*(places[label] for label in sorted(places)))


def _quoted(text: str) -> bytes:
    return text.encode().replace(b"%", b"%%")
