"""Graphite's protocols to a `SampleBatch`: plaintext lines, and the pickles that carbon's relays send, read without unpickling.

Keys are the raw paths (`a.b.c;tag=value`), so each is taken apart only the first time it is seen. A line that is none is left out and
counted; the others are taken, as carbon does. Not here: sockets, mapping rules (`ingest`), whether a name keeps its dots.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels.floats import POWERS
from vedette.kernels.graphite import HIGH, REASONS, SLOW_TIME, SLOW_VALUE, check_path, scan_graphite
from vedette.kernels.hashing import PROCESS_KEY, hash_regions
from vedette.model.samples import KeySpace, SampleBatch

_LATEST_S = 1e12
"""Seconds that a timestamp is below: beyond it is milliseconds, which Graphite's are not."""


@dataclass(slots=True)
class Parsed:
    """The samples of a piece, how many lines are none by reason, and the first of these as it was sent."""

    batch: SampleBatch
    bad: Counter[str] = field(default_factory=Counter)
    first: str = ""


def parse(body: bytes, keyspace: KeySpace, now_ms: int, *, max_line: int) -> Parsed:
    """The samples of plaintext, one row a line in their order; a line without a time, or at -1, is of `now_ms`. Never raises."""
    buffer = np.frombuffer(bytearray(body if body.endswith(b"\n") else body + b"\n"), dtype=np.uint8)
    room = body.count(b"\n") + 1
    spans = np.empty((room, 6), dtype=np.int64)
    hashes = np.empty((room, 2), dtype=np.uint64)
    timestamps = np.empty(room, dtype=np.int64)
    bits = np.empty(room, dtype=np.uint64)
    flags = np.empty(room, dtype=np.uint8)
    counted = np.zeros(len(REASONS), dtype=np.int64)
    word = np.zeros(1, dtype=np.float64)
    rows, first = scan_graphite(
        buffer,
        len(buffer),
        now_ms,
        max_line,
        np.uint64(keyspace.id),
        PROCESS_KEY,
        POWERS,
        (word, word.view(np.uint64)),
        spans,
        hashes,
        timestamps,
        bits,
        flags,
        counted,
    )
    bad: Counter[str] = Counter({reason: count for reason, count in zip(REASONS, counted.tolist(), strict=True) if count})
    shown = _line_at(body, first) if first >= 0 else ""
    spans, values, flags = spans[:rows], bits[:rows].view(np.float64), flags[:rows]
    timestamps = timestamps[:rows]
    wrong = _look_again(body, spans, values, timestamps, flags)
    for row, reason in wrong:
        bad[reason] += 1
        shown = shown or _line_at(body, int(spans[row, 0]))
    batch = _batch(keyspace, buffer, spans, hashes[:rows], timestamps, values)
    if wrong:
        good = np.setdiff1d(np.arange(rows), np.array([row for row, _ in wrong], dtype=np.int64))
        batch = batch.rows(good)
    return Parsed(batch, bad, shown)


def _batch(
    keyspace: KeySpace,
    buffer: NDArray[np.uint8],
    spans: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    timestamps: NDArray[np.int64],
    values: NDArray[np.float64],
) -> SampleBatch:
    return SampleBatch(
        keyspace=keyspace,
        buffer=buffer,
        key_start=np.ascontiguousarray(spans[:, 0]),
        key_end=np.ascontiguousarray(spans[:, 1]),
        hashes=hashes,
        offsets=np.arange(len(spans) + 1, dtype=np.int64),
        timestamps=timestamps,
        values=values,
    )


def _look_again(
    body: bytes, spans: NDArray[np.int64], values: NDArray[np.float64], timestamps: NDArray[np.int64], flags: NDArray[np.uint8]
) -> list[tuple[int, str]]:
    """Read what the kernel left to Python; answers the rows that are no samples, and why."""
    wrong = []
    for row in np.flatnonzero(flags).tolist():
        flag = int(flags[row])
        path, path_end, value, value_end, time, time_end = spans[row].tolist()
        if flag & HIGH and not _is_text(body[path:path_end]):
            wrong.append((row, "bad_path"))
            continue
        if flag & SLOW_VALUE:
            values[row] = float(body[value:value_end])
            if math.isinf(values[row]):  # text of a number beyond float64's range
                wrong.append((row, "bad_value"))
                continue
        if flag & SLOW_TIME:
            stamp = milliseconds(body[time:time_end])
            if stamp is None:
                wrong.append((row, "bad_time"))
            else:
                timestamps[row] = stamp
    return wrong


def milliseconds(text: bytes | float) -> int | None:
    """A time in seconds as ms; None for what is no time of Graphite's."""
    if isinstance(text, bytes) and not all(c in b"0123456789+-.eE" for c in text):
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    return round(seconds * 1000) if 0 <= seconds < _LATEST_S else None


def _is_text(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line_at(body: bytes, at: int) -> str:
    return body[at : at + 200].partition(b"\n")[0].decode("utf-8", "replace")


def split_path(path: str) -> tuple[str, dict[str, str]]:
    """(name, tags) of a path that `parse` took; of a tag that is given twice the last counts."""
    name, *parts = path.split(";")
    return name, {key: value for key, _, value in (part.partition("=") for part in parts)}


def parse_pickle(piece: bytes, keyspace: KeySpace, now_ms: int) -> Parsed:
    """The samples of `[(path, (seconds, value)), ...]`, pickled. Raises `BadInput` for a pickle of anything else.

    Numbers may be texts, as some senders have them. An item that is no sample is left out and counted.
    """
    found = _Pickle(piece).read()
    if not isinstance(found, list | tuple):
        raise BadInput("not a list of (path, (time, value))", where="pickle")
    keys, times, values = [], [], []
    bad: Counter[str] = Counter()
    first = ""
    for item in found:
        reason, key, stamp, value = _item(item, now_ms)
        if reason:
            bad[reason] += 1
            # Not its text as Python writes it: a pickle may hold one list in another many times over.
            first = first or key[:200].decode("utf-8", "replace") or f"an item that is a {type(item).__name__}"
            continue
        keys.append(key)
        times.append(stamp)
        values.append(value)
    ends = np.cumsum([len(key) for key in keys], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]) if len(ends) else ends
    buffer = np.frombuffer(bytearray(b"".join(keys)), dtype=np.uint8)
    hashes = hash_regions(buffer, starts, ends, np.uint64(keyspace.id))
    spans = np.stack([starts, ends], axis=1)
    batch = _batch(keyspace, buffer, spans, hashes, np.array(times, dtype=np.int64), np.array(values, dtype=np.float64))
    return Parsed(batch, bad, first)


def _item(item: Any, now_ms: int) -> tuple[str, bytes, int, float]:
    """(why it is none, path, ms, value) of one pickled sample."""
    match item:
        case [str() | bytes() as path, [time, value]]:
            pass
        case _:
            return "bad_item", b"", 0, 0.0
    key = path.encode("utf-8", "surrogatepass") if isinstance(path, str) else path
    flag = check_path(np.frombuffer(bytearray(key), dtype=np.uint8), 0, len(key))
    if flag < 0 or (flag and not _is_text(key)):
        return "bad_path", key, 0, 0.0
    number = _number(value)
    if number is None:
        return "bad_value", key, 0, 0.0
    if math.isnan(number):
        return "nan", key, 0, 0.0
    seconds = _number(time)
    if seconds == -1:
        return "", key, now_ms, number
    stamp = None if seconds is None else milliseconds(seconds)
    return ("bad_time", key, 0, 0.0) if stamp is None else ("", key, stamp, number)


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float | str | bytes):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


_MARK = object()
_MOST_DEEP = 1_000_000
"""How many values, and remembered ones, a pickle may have at once."""


class _Pickle:
    """Reads the plain values of a pickle: numbers, texts, lists and tuples. No opcode that names or calls anything is known here."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        while True:
            code = self._bytes(1)
            if code == b".":
                return self._pop()
            step = _STEPS.get(code)
            if step is None:
                raise BadInput(f"the opcode {code!r} is not taken", where=f"pickle, byte {self._at - 1}", hint="only plain values are read")
            step(self)
            if len(self._stack) > _MOST_DEEP or len(self._memo) > _MOST_DEEP:
                raise BadInput(f"more than {_MOST_DEEP} values at once", where="pickle")

    def _bytes(self, size: int) -> bytes:
        at = self._at
        if size < 0 or at + size > len(self._data):
            raise BadInput("the pickle ends early", where=f"byte {at}")
        self._at = at + size
        return self._data[at : at + size]

    def _unpacked(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise BadInput("the pickle ends early", where=f"byte {self._at}")
        found = self._data[self._at : end]
        self._at = end + 1
        return found

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise BadInput("nothing is left to take", where=f"pickle, byte {self._at}")
        return self._stack.pop()

    def _marked(self) -> list[Any]:
        """What stands above the last mark, which goes with it."""
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                found = self._stack[i + 1 :]
                del self._stack[i:]
                return found
        raise BadInput("no mark is left", where=f"pickle, byte {self._at}")

    def text(self, data: bytes) -> None:
        try:
            self.push(data.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            self.push(data)

    def sized(self, form: str) -> bytes:
        return self._bytes(self._unpacked(form))

    def number(self, form: str) -> None:
        self.push(self._unpacked(form))

    def long(self, form: str) -> None:
        data = self.sized(form)
        if len(data) > 64:
            raise BadInput("a number of more than 512 bits", where=f"pickle, byte {self._at}")
        self.push(int.from_bytes(data, "little", signed=True))

    def spelled(self, read: Callable[[bytes], Any]) -> None:
        """A value that stands in a line of text."""
        line = self._line()
        try:
            self.push(read(line[:4096]))
        except (ValueError, UnicodeDecodeError):
            raise BadInput(f"not a value: {line[:40]!r}", where=f"pickle, byte {self._at}") from None

    def tuple(self, size: int) -> None:
        items = tuple(self._pop() for _ in range(size))
        self.push(items[::-1])

    def all(self, made: Callable[[list[Any]], Any]) -> None:
        self.push(made(self._marked()))

    def append(self, *, one: bool) -> None:
        items = [self._pop()] if one else self._marked()
        target = self._stack[-1] if self._stack else None
        if not isinstance(target, list):
            raise BadInput("there is no list to add to", where=f"pickle, byte {self._at}")
        target.extend(items)

    def remember(self, at: int | None = None) -> None:
        value = self._pop()
        self.push(value)
        self._memo[len(self._memo) if at is None else at] = value

    def recall(self, at: int) -> None:
        if at not in self._memo:
            raise BadInput(f"nothing was remembered as {at}", where=f"pickle, byte {self._at}")
        self.push(self._memo[at])

    def place(self) -> int:
        line = self._line()
        if not line.isdigit() or len(line) > 9:
            raise BadInput(f"not a place: {line[:40]!r}", where=f"pickle, byte {self._at}")
        return int(line)

    def unpacked(self, form: str) -> int:
        return int(self._unpacked(form))

    def skip(self, size: int) -> None:
        self._bytes(size)

    def drop(self) -> None:
        if self._stack and self._stack[-1] is _MARK:
            self._stack.pop()
        else:
            self._pop()

    def drop_marked(self) -> None:
        self._marked()


def _whole(line: bytes) -> int | bool:
    text = line.removesuffix(b"L")
    return text == b"01" if text in (b"00", b"01") else int(text)


def _quoted(line: bytes) -> str:
    """A string of protocol 0: quoted, with Python's escapes."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError
    return line[1:-1].decode("unicode_escape").encode("latin-1").decode("utf-8")


_STEPS: dict[bytes, Callable[[_Pickle], None]] = {
    b"\x80": lambda p: p.skip(1),
    b"\x95": lambda p: p.skip(8),
    b"(": lambda p: p.push(_MARK),
    b"N": lambda p: p.push(None),
    b"\x88": lambda p: p.push(True),
    b"\x89": lambda p: p.push(False),
    b"I": lambda p: p.spelled(_whole),
    b"L": lambda p: p.spelled(_whole),
    b"F": lambda p: p.spelled(float),
    b"J": lambda p: p.number("<i"),
    b"K": lambda p: p.number("<B"),
    b"M": lambda p: p.number("<H"),
    b"G": lambda p: p.number(">d"),
    b"\x8a": lambda p: p.long("<B"),
    b"\x8b": lambda p: p.long("<i"),
    b"S": lambda p: p.spelled(_quoted),
    b"V": lambda p: p.spelled(lambda line: line.decode("raw_unicode_escape")),
    b"U": lambda p: p.text(p.sized("<B")),
    b"T": lambda p: p.text(p.sized("<i")),
    b"\x8c": lambda p: p.text(p.sized("<B")),
    b"X": lambda p: p.text(p.sized("<I")),
    b"\x8d": lambda p: p.text(p.sized("<Q")),
    b"C": lambda p: p.text(p.sized("<B")),
    b"B": lambda p: p.text(p.sized("<I")),
    b"\x8e": lambda p: p.text(p.sized("<Q")),
    b"]": lambda p: p.push([]),
    b")": lambda p: p.push(()),
    b"l": lambda p: p.all(list),
    b"t": lambda p: p.all(tuple),
    b"\x85": lambda p: p.tuple(1),
    b"\x86": lambda p: p.tuple(2),
    b"\x87": lambda p: p.tuple(3),
    b"a": lambda p: p.append(one=True),
    b"e": lambda p: p.append(one=False),
    b"p": lambda p: p.remember(p.place()),
    b"q": lambda p: p.remember(p.unpacked("<B")),
    b"r": lambda p: p.remember(p.unpacked("<I")),
    b"\x94": lambda p: p.remember(),
    b"g": lambda p: p.recall(p.place()),
    b"h": lambda p: p.recall(p.unpacked("<B")),
    b"j": lambda p: p.recall(p.unpacked("<I")),
    b"0": lambda p: p.drop(),
    b"1": lambda p: p.drop_marked(),
}
