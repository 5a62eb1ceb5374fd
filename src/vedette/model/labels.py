"""Label sets: one series' (`Labels`).

Names and values are UTF-8 text; any name is allowed, as in Prometheus 3. Sorting is by code point, which
for UTF-8 is byte order. Not here: the sets of many series as columns (`labeltable.py`), matching (`matchers.py`)
and the postings index (`storage`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Self

METRIC_NAME = "__name__"

_LEGACY_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def quote(text: str) -> str:
    """`text` as a double-quoted label value, escaped as the exposition format and PromQL escape it."""
    return f'"{text.translate(_ESCAPES)}"'


def is_legacy_metric_name(name: str) -> bool:
    """Whether `name` can stand unquoted as a metric name."""
    return _LEGACY_METRIC.match(name) is not None


def is_legacy_label_name(name: str) -> bool:
    """Whether `name` can stand unquoted as a label name."""
    return _LEGACY_LABEL.match(name) is not None


class Labels(tuple[tuple[str, str], ...]):
    """An immutable label set: (name, value) pairs sorted by name, names unique, no empty values.

    A tuple, so equality, hashing and order cost what a tuple's do. Build it with `of` or `from_pairs`;
    the bare constructor trusts its argument to be sorted and clean.
    """

    __slots__ = ()

    @classmethod
    def of(cls, mapping: Mapping[str, str] | None = None, /, **labels: str) -> Self:
        """From a mapping and/or keywords; empty values are left out, as an empty label is no label."""
        merged = {**(mapping or {}), **labels} if labels else (mapping or {})
        pairs = sorted(merged.items())
        return cls([p for p in pairs if p[1] != ""] if "" in merged.values() else pairs)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """From pairs in any order; of a repeated name the last counts."""
        return cls.of(dict(pairs))

    @classmethod
    def decode(cls, key: bytes) -> Self:
        """The inverse of `encode`. Raises `UnicodeDecodeError` on bytes that `encode` never wrote."""
        parts = key.split(b"\xff")
        assert len(parts) % 2 == 1 and parts[-1] == b"", "not a canonical key"
        texts = [p.decode("utf-8") for p in parts[:-1]]
        return cls(zip(texts[::2], texts[1::2], strict=True))

    def encode(self) -> bytes:
        """The canonical bytes of this set: name, 0xff, value, 0xff for each pair (0xff never occurs in UTF-8)."""
        return b"".join(n.encode() + b"\xff" + v.encode() + b"\xff" for n, v in self)

    def get(self, name: str, default: str = "") -> str:
        """The value of `name`; `default` where it is absent."""
        for n, v in self:
            if n == name:
                return v
        return default

    @property
    def metric(self) -> str:
        """The metric name, empty where there is none."""
        return self.get(METRIC_NAME)

    def as_dict(self) -> dict[str, str]:
        """A new dict in sorted order."""
        return dict(self)

    def with_(self, mapping: Mapping[str, str]) -> Labels:
        """A copy with `mapping` laid over it; an empty value removes the label."""
        return Labels.of({**dict(self), **mapping})

    def without(self, *names: str) -> Labels:
        """A copy that lacks `names`."""
        return Labels(p for p in self if p[0] not in names)

    def fingerprint(self) -> int:
        """FNV-1a 64 over name, 0xff, value, 0xff: the identity that Alertmanager prints as 16 hex digits."""
        h = 0xCBF29CE484222325
        for byte in self.encode():
            h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        return h

    def __str__(self) -> str:
        """As PromQL writes a series: `name{a="b"}`; names that need it are quoted."""
        metric = self.metric
        parts = []
        head = metric
        if metric and not is_legacy_metric_name(metric):
            head, parts = "", [quote(metric)]
        for n, v in self:
            if n != METRIC_NAME:
                parts.append(f"{n if is_legacy_label_name(n) else quote(n)}={quote(v)}")
        return head + "{" + ", ".join(parts) + "}" if parts or not head else head


EMPTY = Labels()
