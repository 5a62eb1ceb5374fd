"""What the protocols for log lines share: times in all their forms, which field is the level, what a plain line says of itself.

Not here: the protocols, each in its own file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from vedette.errors import BadInput
from vedette.model.logs import DEBUG, ERROR, FATAL, INFO, NO_FIELDS, UNKNOWN, WARN, level_of

TIME_NAMES = ("timestamp", "@timestamp", "time", "ts", "date", "datetime")
LEVEL_NAMES = ("level", "severity", "log.level", "loglevel", "lvl", "levelname", "severity_text", "detected_level")
SERVICE_NAMES = (
    "service",
    "service.name",
    "service_name",
    "app",
    "application",
    "job",
    "container",
    "logger",
    "PROGRAM",
    "SYSLOG_IDENTIFIER",
)
MESSAGE_NAMES = ("message", "msg", "event", "log", "text", "body", "line", "short_message", "MESSAGE")

MAX_FUTURE_NS = 86_400 * 10**9
"""How far ahead a line's time may be: what is further would stand above all that is new until then."""

_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,18}))?)?\s*(Z|z|[+-]\d\d(?::?\d\d)?|UTC)?\Z", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,19}(?:\.\d{1,18})?\Z", re.ASCII)
# JSON up to half a pair of surrogates in an escape (as Python writes a file's name that is no UTF-8), and such a half.
_HALVES = re.compile(
    r"""(?:[^\\]++|\\(?:[^u]|u(?![dD][89a-fA-F])|u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}))++|\\(u[dD][89a-fA-F][\da-fA-F]{2})?""",
    re.ASCII,
)
# Only the start of a line is looked at: a level stands there, and a long line must not cost more for it.
_LOOKED_AT = 160
_MOST_SECONDS = 4096
_LEVEL_WORD = re.compile(
    r"""(?:^|[\s\["'(<|:=,-])(trace|debug|info|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|fatal|panic|emerg|severe)(?=$|[\s\]"':)>|,-])""",
    re.IGNORECASE | re.ASCII,
)


def parse_time(text: str) -> int:
    """Unix ns of an ISO 8601 time (naive is UTC) or of a Unix time in s, ms, µs or ns. Raises `BadInput`."""
    found = _ISO.match(text.strip())
    if found is None:
        if _NUMBER.match(text.strip()):
            whole, _, fraction = text.strip().partition(".")
            return unix_time(float(text) if fraction else int(whole))
        raise BadInput(f"not a time: {text[:60]!r}", hint="expected ISO 8601 or a Unix time")
    date, clock, fraction, zone = found.groups()
    zone = {None: "+00:00", "Z": "+00:00", "z": "+00:00", "UTC": "+00:00"}.get(zone, zone)
    try:
        seconds = int(datetime.fromisoformat(f"{date}T{clock or '00:00'}{zone}").timestamp())
    except ValueError:
        raise BadInput(f"not a time: {text[:60]!r}", hint="there is no such date") from None
    return _bounded(seconds * 10**9 + int(((fraction or "") + "000000000")[:9]), text)


def unix_time(value: float) -> int:
    """Unix ns of a number whose size tells its unit: seconds, milliseconds, microseconds or nanoseconds. Raises `BadInput`."""
    if not math.isfinite(value):
        raise BadInput(f"not a time: {value!r}")
    size = abs(value)
    scale = 10**9 if size < 1e11 else 10**6 if size < 1e14 else 10**3 if size < 1e17 else 1
    if isinstance(value, int):
        return _bounded(value * scale, value)
    whole, fraction = divmod(value, 1)
    return _bounded(int(whole) * scale + round(fraction * scale), value)


def _bounded(ns: int, given: object) -> int:
    # Times are int64 ns; their ends are kept free for ranges that are open.
    if not -(1 << 62) < ns < 1 << 63:
        raise BadInput(f"not a time that can be stored: {str(given)[:60]}", hint="expected a year from 1824 to 2262")
    return ns


def not_ahead(ns: int, now_ns: int) -> int:
    """`ns`, if it is at most a day ahead. Raises `BadInput`."""
    if ns > now_ns + MAX_FUTURE_NS:
        when = datetime.fromtimestamp(ns // 10**9, UTC).isoformat()
        raise BadInput(f"a time more than a day ahead: {when}", hint="is the sender's clock right?")
    return ns


class Times:
    """Reads the times of one request: most share their second with others."""

    __slots__ = ("_latest", "_now", "_seconds")

    def __init__(self, now_ns: int) -> None:
        self._now = now_ns
        self._latest = now_ns + MAX_FUTURE_NS
        self._seconds: dict[str, int] = {}

    def read(self, value: Any) -> int:
        """Unix ns of a time as text or number; now where there is none. Raises `BadInput`."""
        if value is None or value == "":
            return self._now
        if isinstance(value, str):
            # 2024-01-15T10:00:00.123456Z: the whole second is looked up, the fraction read.
            if len(value) > 20 and value[19] == "." and value[-1] == "Z" and value[20:-1].isdigit() and len(value) < 31:
                second = value[:19]
                base = self._seconds.get(second)
                if base is None:
                    if len(self._seconds) > _MOST_SECONDS:
                        self._seconds.clear()
                    base = self._seconds[second] = parse_time(second + "Z")
                ns = base + int(value[20:-1]) * 10 ** (30 - len(value))
            else:
                ns = parse_time(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            ns = unix_time(value)
        else:
            raise BadInput(f"not a time: {type(value).__name__}", hint="expected ISO 8601 or a Unix time")
        return ns if ns <= self._latest else not_ahead(ns, self._now)


def level_in(line: str) -> int:
    """The level that a plain line names near its start, `UNKNOWN` where it names none."""
    found = _LEVEL_WORD.search(line[:_LOOKED_AT])
    return level_of(found[1]) if found is not None else UNKNOWN


def named(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The text of the first of these fields that is there, "" for none."""
    for name in names:
        value = fields.get(name)
        if value:
            return value if isinstance(value, str) else str(value)
    return ""


def read_json(data: bytes) -> Any:
    """A sender's JSON, in which what is no Unicode (bytes, halves of pairs in escapes) becomes U+FFFD, as in lines that come as text.

    A program that logs a file's name, or somebody's input, damages its lines so; refusing them would lose those beside them as well.
    Raises `orjson.JSONDecodeError`.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        text = data.decode("utf-8", "replace")
        mended = _HALVES.sub(lambda found: "\ufffd" if found[1] else found[0], text)
        if "\ufffd" not in mended:
            raise
        return orjson.loads(mended)


def fields_json(fields: Mapping[str, Any]) -> bytes:
    """Fields as one JSON object; what JSON has no number for (an integer beyond 64 bits) becomes text."""
    if not fields:
        return NO_FIELDS
    try:
        return orjson.dumps(fields)
    except (orjson.JSONEncodeError, TypeError):
        return orjson.dumps({str(k): v if isinstance(v, (str, float, bool)) else str(v) for k, v in fields.items()})


def pieces(data: bytes, most: int) -> Iterator[bytes]:
    """A line too long to be kept as one, in pieces of at most `most` bytes, none of which ends inside a character of UTF-8."""
    at = 0
    while len(data) - at > most:
        end = at + most
        # A character has at most three bytes that continue it; where there are more, it is no UTF-8 anyhow.
        whole = next((e for e in range(end, max(at, end - 4), -1) if data[e] & 0xC0 != 0x80), end)
        yield data[at:whole]
        at = whole
    yield data[at:]


_PRIORITIES = (FATAL, FATAL, FATAL, ERROR, WARN, INFO, INFO, DEBUG)


def priority_level(value: object) -> int:
    """The level that a journal's or a syslog daemon's `PRIORITY` says, by number or by name; `UNKNOWN` for any other."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return UNKNOWN
    text = str(value)
    return _PRIORITIES[int(text)] if text in ("0", "1", "2", "3", "4", "5", "6", "7") else level_of(text)
