"""Log lines as columns: what every protocol makes of a request, and what the log store keeps.

A line has a time, a level, a service, a message and further fields, which are one JSON object. Not here: how a protocol
is read (`wire`), what is kept (`logs`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput

LEVELS = ("unknown", "trace", "debug", "info", "warn", "error", "fatal")
"""The levels, from the least grave; a level's code is its place here."""

UNKNOWN, TRACE, DEBUG, INFO, WARN, ERROR, FATAL = range(7)

NO_FIELDS = b"{}"

_NAMES = {
    "trace": TRACE, "finest": TRACE, "finer": TRACE, "verbose": TRACE, "trc": TRACE,
    "debug": DEBUG, "fine": DEBUG, "dbg": DEBUG,
    "info": INFO, "information": INFO, "informational": INFO, "notice": INFO, "inf": INFO, "log": INFO, "success": INFO,
    "warn": WARN, "warning": WARN, "wrn": WARN,
    "error": ERROR, "err": ERROR, "severe": ERROR, "eror": ERROR,
    "fatal": FATAL, "critical": FATAL, "crit": FATAL, "panic": FATAL, "emerg": FATAL, "emergency": FATAL, "alert": FATAL, "dpanic": FATAL,
}  # fmt: skip
# What loggers write is nearly always one of these as they stand; only another spelling is folded first.
_KNOWN = {form: code for name, code in _NAMES.items() for form in (name, name.upper(), name.capitalize())}


def level_of(name: str) -> int:
    """A level's code by any of the names that loggers give it (`WARNING`, `crit`, `E`'s long forms); `UNKNOWN` for none."""
    found = _KNOWN.get(name)
    return found if found is not None else _NAMES.get(name.strip().lower(), UNKNOWN)


@dataclass(frozen=True, slots=True)
class Text:
    """n strings as one: string i is the UTF-8 of `data[offsets[i]:offsets[i+1]]`; int32[n+1], uint8[...]."""

    offsets: NDArray[np.int32]
    data: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, strings: Sequence[str]) -> Text:
        """The column of strings; what is no character (half of a surrogate pair) becomes a question mark."""
        joined = "".join(strings)
        data = joined.encode("utf-8", "replace")
        if len(data) == len(joined):
            lengths: Iterable[int] = map(len, strings)
        else:
            lengths = (len(s.encode("utf-8", "replace")) for s in strings)
        return cls(_offsets(np.fromiter(lengths, np.int64, len(strings))), np.frombuffer(data, np.uint8))

    @classmethod
    def of_bytes(cls, strings: Sequence[bytes]) -> Text:
        """The column of strings that are UTF-8 already."""
        return cls(_offsets(np.fromiter(map(len, strings), np.int64, len(strings))), np.frombuffer(b"".join(strings), np.uint8))

    @classmethod
    def joined(cls, columns: Sequence[Text]) -> Text:
        """Columns one after another."""
        sizes = np.cumsum([0, *(len(c.data) for c in columns)])
        if int(sizes[-1]) > _MOST_BYTES:
            raise OverflowError("more text than one column holds")
        parts = [columns[0].offsets[:1], *(c.offsets[1:] + np.int32(base) for c, base in zip(columns, sizes, strict=False))]
        return cls(np.concatenate(parts), np.concatenate([c.data for c in columns]))

    def strings(self) -> list[str]:
        """The strings."""
        data, ends = self.data.tobytes(), self.offsets.tolist()
        return [data[a:b].decode("utf-8", "replace") for a, b in itertools.pairwise(ends)]


_MOST_BYTES = (1 << 31) - 1


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int32]:
    ends = np.cumsum(lengths)
    if len(ends) and int(ends[-1]) > _MOST_BYTES:
        raise OverflowError("more text than one column holds")
    found = np.zeros(len(lengths) + 1, np.int32)
    found[1:] = ends
    return found


@dataclass(frozen=True, slots=True)
class LogBatch:
    """n lines as columns, in the order in which they came.

    `times` int64[n] Unix nanoseconds; `levels` uint8[n] codes of `LEVELS`; line i is of service
    `services[service_codes[i]]` (int32[n]; "" where none is named); `fields` are JSON objects.
    """

    times: NDArray[np.int64]
    levels: NDArray[np.uint8]
    services: tuple[str, ...]
    service_codes: NDArray[np.int32]
    messages: Text
    fields: Text

    def __len__(self) -> int:
        return len(self.times)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return 25 * len(self.times) + len(self.messages.data) + len(self.fields.data)


class LogBuilder:
    """Gathers lines one by one. `max_bytes` is the most that a message, and the most that the fields of a line may hold."""

    __slots__ = ("_codes", "_fields", "_levels", "_max_bytes", "_messages", "_services", "_times")

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._times: list[int] = []
        self._levels: list[int] = []
        self._services: dict[str, int] = {}
        self._codes: list[int] = []
        self._messages: list[str] = []
        self._fields: list[bytes] = []

    def __len__(self) -> int:
        return len(self._times)

    def add(self, time: int, level: int, service: str, message: str, fields: bytes = NO_FIELDS) -> None:
        """One line: Unix nanoseconds, a level's code, the service, the message and a JSON object."""
        self._times.append(time)
        self._levels.append(level)
        self._codes.append(self._services.setdefault(service, len(self._services)))
        self._messages.append(message)
        self._fields.append(fields)

    def go_on(self, message: str) -> None:
        """One more line, like the one before in all but its message: what of a long one did not fit into that."""
        self.add(self._times[-1], self._levels[-1], list(self._services)[self._codes[-1]], message, self._fields[-1])

    def build(self) -> LogBatch:
        """The lines so far. Raises `BadInput` naming the first that is too long."""
        messages, fields = Text.of(self._messages), Text.of_bytes(self._fields)
        long = []
        for column, name in ((messages, "message"), (fields, "fields")):
            lengths = np.diff(column.offsets)
            if len(lengths) and int(lengths.max()) > self._max_bytes:
                at = int(np.argmax(lengths > self._max_bytes))
                long.append((at, f"{name}: {int(lengths[at]):,} bytes, at most {self._max_bytes:,} are taken"))
        if long:
            at, problem = min(long)
            raise BadInput(problem, where=f"line {at + 1}", hint="logs.max_line sets this")
        return LogBatch(
            np.array(self._times, np.int64),
            np.array(self._levels, np.uint8),
            tuple(self._services),
            np.array(self._codes, np.int32),
            messages,
            fields,
        )


def joined(batches: Sequence[LogBatch]) -> LogBatch:
    """Batches one after another, as one."""
    if len(batches) == 1:
        return batches[0]
    services: dict[str, int] = {}
    codes = []
    for batch in batches:
        table = np.array([services.setdefault(name, len(services)) for name in batch.services], np.int32)
        codes.append(table[batch.service_codes])
    return LogBatch(
        np.concatenate([b.times for b in batches]),
        np.concatenate([b.levels for b in batches]),
        tuple(services),
        np.concatenate(codes),
        Text.joined([b.messages for b in batches]),
        Text.joined([b.fields for b in batches]),
    )
