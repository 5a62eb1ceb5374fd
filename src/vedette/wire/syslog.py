"""Syslog messages by RFC 5424 and RFC 3164, and their framing on a stream (RFC 6587).

A message's app name (tag) is the service, its severity the level; host, facility, process id, message id and structured
data are fields. What is in neither form is kept whole as a message: a sender cannot be told anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from vedette.errors import BadInput
from vedette.model.logs import DEBUG, ERROR, FATAL, INFO, WARN, LogBuilder
from vedette.wire.loglines import MAX_FUTURE_NS, fields_json, level_in, parse_time, pieces

_LEVELS = (FATAL, FATAL, FATAL, ERROR, WARN, INFO, INFO, DEBUG)
_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news"),
    *("uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock"),
    *(f"local{i}" for i in range(8)),
)
_NEW = re.compile(r"<(\d{1,3})>(\d{1,2}) (\S{1,48}) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) ?", re.ASCII)
_OLD = re.compile(
    r"<(\d{1,3})>(?:([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)|(\d{4}-\d\d-\d\dT\S{8,40})) "
    r"(\S{1,255}) ?([^\s:\[]{1,64})?(?:\[([^\]\s]{1,64})\])?:? ?",
    re.ASCII,
)
_PRIORITY = re.compile(r"<(\d{1,3})>", re.ASCII)
_ELEMENT = re.compile(r"\[([^\s=\]\"]{1,32})((?: [^\s=\]\"]{1,32}=\"(?:[^\"\\\]]|\\.)*\")*)\]", re.ASCII)
_PARAM = re.compile(r" ([^\s=\]\"]{1,32})=\"((?:[^\"\\\]]|\\.)*)\"", re.ASCII)
_MONTHS = {m: i for i, m in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)}
MAX_FRAME = 1 << 20


def add(message: bytes, builder: LogBuilder, *, now_ns: int, peer: str, max_line: int) -> None:
    """One message, in several lines where it is longer. `peer` is the sender's address, kept where the message names no host."""
    first, *rest = pieces(message.rstrip(b"\n\r\0"), max_line)
    if not first:
        return
    _add(first.decode("utf-8", "replace"), builder, now_ns, peer)
    for piece in rest:
        builder.go_on(piece.decode("utf-8", "replace"))


def _add(text: str, builder: LogBuilder, now_ns: int, peer: str) -> None:
    found = _NEW.match(text)
    if found is not None and int(found[1]) < 192:
        _add_new(text, found, builder, now_ns, peer)
        return
    found = _OLD.match(text)
    if found is not None and int(found[1]) < 192:
        _add_old(text, found, builder, now_ns, peer)
        return
    found = _PRIORITY.match(text)
    if found is not None and int(found[1]) < 192:
        level, more = _about(int(found[1]))
        builder.add(now_ns, level, "", text[found.end() :], fields_json({**more, "host": peer}))
    else:
        builder.add(now_ns, level_in(text), "", text, fields_json({"host": peer}))


def _about(priority: int) -> tuple[int, dict[str, Any]]:
    return _LEVELS[priority & 7], {"facility": _FACILITIES[priority >> 3]}


def _add_new(text: str, found: re.Match[str], builder: LogBuilder, now_ns: int, peer: str) -> None:
    level, more = _about(int(found[1]))
    time, host, app, process, message_id = (None if part == "-" else part for part in found.groups()[2:])
    more["host"] = host or peer
    if process:
        more["pid"] = process
    if message_id:
        more["msgid"] = message_id
    data, at = _structured(text, found.end())
    message = text[at:].removeprefix(" ").removeprefix("\ufeff")
    builder.add(_time(time, now_ns), level, app or "", message, fields_json({**more, **data}))


def _structured(text: str, at: int) -> tuple[dict[str, str], int]:
    """(the structured data as `id.name` to value, where the message begins)."""
    if text.startswith("-", at):
        return {}, at + 1
    data: dict[str, str] = {}
    while (element := _ELEMENT.match(text, at)) is not None:
        for name, value in _PARAM.findall(element[2]):
            data[f"{element[1]}.{name}"] = re.sub(r'\\(["\\\]])', r"\1", value)
        at = element.end()
    return data, at


def _add_old(text: str, found: re.Match[str], builder: LogBuilder, now_ns: int, peer: str) -> None:
    level, more = _about(int(found[1]))
    more["host"] = found[8] or peer
    if found[10]:
        more["pid"] = found[10]
    time = _time(found[7], now_ns) if found[7] else _without_year(found, now_ns)
    builder.add(time, level, found[9] or "", text[found.end() :], fields_json(more))


def _without_year(found: re.Match[str], now_ns: int) -> int:
    """RFC 3164 names no year and no zone: the latest such time that is not more than a day ahead, in UTC."""
    now = datetime.fromtimestamp(now_ns // 10**9, UTC)
    month = _MONTHS.get(found[2])
    if month is None:
        return now_ns
    for year in (now.year + 1, now.year, now.year - 1):
        try:
            when = datetime(year, month, int(found[3]), int(found[4]), int(found[5]), int(found[6]), tzinfo=UTC)
        except ValueError:
            continue  # the 29th of February of another year
        ns = int(when.timestamp()) * 10**9
        if ns <= now_ns + MAX_FUTURE_NS:
            return ns
    return now_ns


def _time(text: str | None, now_ns: int) -> int:
    """A message's time; that of its arrival where it has none that can be right."""
    if text is None:
        return now_ns
    try:
        ns = parse_time(text)
    except BadInput:
        return now_ns
    return ns if ns <= now_ns + MAX_FUTURE_NS else now_ns


class Frames:
    """Cuts a stream into messages: each by its length (`123 <34>1 …`), or ended by a newline, as the sender chose.

    A frame longer than `MAX_FRAME` raises `BadInput`: where the next begins cannot be known.
    """

    def __init__(self) -> None:
        self._left = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now."""
        self._left += data
        while self._left:
            if 0x30 < self._left[0] <= 0x39:
                head = self._left[:8].partition(b" ")
                if not head[1] and len(self._left) >= 8:
                    raise BadInput("neither a frame's length nor a syslog message")
                if not head[1]:
                    return
                if not head[0].isdigit() or int(head[0]) > MAX_FRAME:
                    raise BadInput(f"not a frame's length: {bytes(head[0])!r}")
                start = len(head[0]) + 1
                end = start + int(head[0])
                if len(self._left) < end:
                    return
                yield bytes(self._left[start:end])
                del self._left[:end]
            else:
                end = self._left.find(b"\n")
                if end < 0:
                    if len(self._left) > MAX_FRAME:
                        raise BadInput(f"a message of more than {MAX_FRAME:,} bytes")
                    return
                yield bytes(self._left[:end])
                del self._left[: end + 1]

    def rest(self) -> bytes:
        """What is left when the sender is done: the last message may lack its newline."""
        left = bytes(self._left)
        self._left.clear()
        return b"" if left[:1].isdigit() else left
