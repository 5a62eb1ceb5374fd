"""Influx line protocol, in: `measurement,tag=value field=1,other=2i 1700000000000000000`, a sample for each field.

A sample's name is the measurement, a separator and the field. Booleans are 1 and 0; strings have no sample and are counted. Keys are
raw bytes of the text, read the first time they are seen (`influx_keyspace`). A line that cannot be read leaves only itself out. Not
here: HTTP, tenants, the byte loop (`kernels/influx.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels import influx as kernel
from vedette.kernels.floats import POWERS
from vedette.kernels.hashing import PROCESS_KEY
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import KeySpace, SampleBatch
from vedette.wire.naming import Names, labels_of, metric_name
from vedette.wire.told import MOST_FAULTS, SHOWN, Fault, Told

PRECISIONS: dict[str, tuple[int, int]] = {
    "": (1, 1_000_000),
    "n": (1, 1_000_000),
    "ns": (1, 1_000_000),
    "u": (1, 1000),
    "us": (1, 1000),
    "µ": (1, 1000),
    "µs": (1, 1000),
    "ms": (1, 1),
    "s": (1000, 1),
    "m": (60_000, 1),
    "h": (3_600_000, 1),
}
"""What `precision` may say, and what a timestamp is multiplied and divided by to be milliseconds."""

_MOST_ROWS, _MOST_NAMES = 1 << 20, 64 << 20
_NAME_MOSTLY = 256
_ANY = "any"
_ESCAPED = re.compile(rb"\\([ ,=\\])")
# Up to the first space, comma or equals sign that stands without a backslash.
_PREFIX = re.compile(rb"(?:[^\\ ]|\\.)*", re.DOTALL)
_PART = re.compile(rb"(?:[^\\,]|\\.)*", re.DOTALL)
_NAME = re.compile(rb"(?:[^\\=]|\\.)*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Naming:
    """How a sample is called: `separator` between measurement and field, `names` for both and for tags; labels that are added."""

    separator: str = "_"
    names: Names = "underscores"
    more: tuple[tuple[str, str], ...] = ()


class Text:
    """A text of line protocol, read in pieces that are each at most a million samples with 64 MB of names.

    `now_ms` is the time of lines without one. Raises `BadInput` for a precision that there is none of.
    """

    def __init__(self, body: bytes, keyspace: KeySpace, now_ms: int, *, precision: str = "") -> None:
        if precision not in PRECISIONS:
            raise BadInput(f"invalid precision {precision!r}", hint="expected one of ns, us, ms, s")
        self._buffer = np.empty(0, dtype=np.uint8)
        self._body = body
        self._keyspace, self._now = keyspace, now_ms
        self._scale = np.array(PRECISIONS[precision], dtype=np.int64)
        self._at, self._line = 0, 1
        self.told = Told()

    @property
    def finished(self) -> bool:
        """Whether there is no further piece."""
        return self._at >= len(self._body)

    def read(self) -> SampleBatch:
        """The next piece, which may have no samples."""
        n = len(self._body)
        if self._at == 0:
            self._buffer = np.empty(n + 1, dtype=np.uint8)
            self._buffer[:n] = np.frombuffer(self._body, dtype=np.uint8)
            self._buffer[n] = 10
        # A field has an equals sign.
        room = min(max(self._body.count(b"=", self._at), 1), max(_MOST_ROWS, kernel.MOST_FIELDS))
        spans, hashes = np.empty((room, 4), np.int64), np.empty((room, 2), np.uint64)
        timestamps, bits, slow = np.empty(room, np.int64), np.empty(room, np.uint64), np.empty(room, np.bool_)
        faults, counts = np.empty((MOST_FAULTS, 4), np.int64), np.array([self._line, 0, 0, 0], np.int64)
        word = np.zeros(1, dtype=np.float64)
        seed = np.uint64(self._keyspace.id)
        rows, self._at = kernel.scan_influx(
            self._buffer, self._at, n, self._scale, self._now, seed, PROCESS_KEY, POWERS, (word, word.view(np.uint64)),
            spans, hashes, timestamps, bits, slow, _MOST_NAMES, faults, counts,
        )  # fmt: skip
        values = bits[:rows].view(np.float64)
        for row in np.flatnonzero(slow[:rows]).tolist():
            # More digits than a float has: Go's ParseFloat and Python's `float` read them alike; what is beyond float64 is infinite.
            values[row] = float(self._body[spans[row, 2] : spans[row, 3]].rstrip(b"iu"))
        self._tell(faults, counts)
        return SampleBatch(
            keyspace=self._keyspace,
            buffer=self._buffer,
            key_start=np.ascontiguousarray(spans[:rows, 0]),
            key_end=np.ascontiguousarray(spans[:rows, 1]),
            hashes=hashes[:rows],
            offsets=np.arange(rows + 1, dtype=np.int64),
            timestamps=timestamps[:rows],
            values=values,
            partial=True,
        )

    def _tell(self, faults: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        told = self.told
        self._line = int(counts[kernel.LINE])
        told.lines += int(counts[kernel.LINES])
        told.strings += int(counts[kernel.STRINGS])
        told.faulty += int(counts[kernel.FAULTY])
        for code, line, start, at in faults[: int(counts[kernel.FAULTY])].tolist():
            if len(told.faults) == MOST_FAULTS:
                break
            end = self._body.find(b"\n", start, start + SHOWN)
            text = self._body[start : end if end >= 0 else start + SHOWN].decode("utf-8", "replace")
            told.faults.append(Fault(line, at - start + 1, kernel.FAULTS[code], text))


def influx_keyspace(tenant: str, naming: Naming) -> KeySpace:
    """A key space whose keys are lines up to the end of a field's name."""

    def resolve_many(
        buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return _canonical(buffer, starts, ends, naming)

    return KeySpace(tenant, lambda key: _named(*parse_key(key), naming), resolve_many=resolve_many)


def _canonical(
    buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], naming: Naming
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """See `KeySpace.canonicalise`. The fields of a line stand together: what stands before them is read once."""
    view = buffer.data
    keys: list[bytes] = []
    names: dict[tuple[str, str], bytes] = {}
    before, measurement, around = -1, "", (b"", b"")
    for lo, hi in zip(starts.tolist(), ends.tolist(), strict=True):
        if lo != before:
            measurement, tags = _prefix(view, lo, hi)
            around = _around(measurement, tags, naming)
            before = lo
        called = measurement, _last_name(view, lo, hi)
        if (name := names.get(called)) is None:
            name = names[called] = _metric(*called, naming).encode()
        keys.append(b"".join((around[0], name, around[1])))
    offsets = np.zeros(len(keys) + 1, dtype=np.int64)
    np.cumsum([len(k) for k in keys], out=offsets[1:])
    # A bytearray, since kernels would be compiled a second time for an array that is read-only.
    return np.frombuffer(bytearray().join(keys), dtype=np.uint8), offsets


def parse_key(key: bytes) -> tuple[str, list[tuple[str, str]], str]:
    """(measurement, tags, field) of a key that the kernel has found well-formed. Raises `BadInput` for what is no UTF-8."""
    view = memoryview(key)
    measurement, tags = _prefix(view, 0, len(key))
    return measurement, tags, _last_name(view, 0, len(key))


def _prefix(view: memoryview, lo: int, hi: int) -> tuple[str, list[tuple[str, str]]]:
    found = _PREFIX.match(view, lo, hi)
    assert found is not None, "it matches nothing, too"
    measurement, *tags = (part for part in _PART.findall(found.group()) if part)
    pairs = []
    for tag in tags:
        name = _NAME.match(tag)
        assert name is not None, "it matches nothing, too"
        pairs.append((_text(name.group()), _text(tag[name.end() + 1 :])))
    return _text(measurement), pairs


def _last_name(view: memoryview, lo: int, hi: int) -> str:
    """The field's name at the end of a key: what follows its last comma or space that no backslash makes a part of the name."""
    size = _NAME_MOSTLY
    while True:
        start = max(lo, hi - size)
        text = bytes(view[start:hi])
        at = len(text)
        while (at := max(text.rfind(b",", 0, at), text.rfind(b" ", 0, at))) >= 0:
            before = text[:at]
            # What is cut off could change how many there are; a name that long is read again with all that is before it.
            if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0 and (before.strip(b"\\") or start == lo):
                return _text(text[at + 1 :])
        assert start > lo, "a space stands before the first field"
        size *= 16


def _text(raw: bytes) -> str:
    """A name or a tag's value without its escapes."""
    try:
        return (_ESCAPED.sub(rb"\1", raw) if b"\\" in raw else raw).decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", where=f"series {raw.decode('utf-8', 'replace')}") from None


def _around(measurement: str, tags: Sequence[tuple[str, str]], naming: Naming) -> tuple[bytes, bytes]:
    """What stands before a metric's name in the labels of a line's fields as they are encoded, and what stands behind it."""
    try:
        labels = labels_of(_ANY, tags, naming.names, naming.more)
    except BadInput as error:
        raise BadInput(error.problem, where=f"measurement {measurement}", hint=error.hint) from None
    at = labels.index((METRIC_NAME, _ANY))
    before, after = Labels(labels[:at]), Labels(labels[at + 1 :])
    return before.encode() + METRIC_NAME.encode() + b"\xff", b"\xff" + after.encode()


def _metric(measurement: str, name: str, naming: Naming) -> str:
    return metric_name(f"{measurement}{naming.separator}{name}", naming.names)


def _named(measurement: str, tags: Sequence[tuple[str, str]], name: str, naming: Naming) -> Labels:
    before, after = _around(measurement, tags, naming)
    return Labels.decode(before + _metric(measurement, name, naming).encode() + after)
