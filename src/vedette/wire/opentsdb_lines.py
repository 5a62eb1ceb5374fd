"""OpenTSDB's lines, `put metric time value tag=value …`, as Graphite's, `metric;tag=value value seconds`, which are read by a kernel.

A time is in seconds, or in milliseconds where it is too large for that, as in its JSON. A line that is none leaves only itself out and is
counted; other commands are told apart. Not here: what a name comes to, sockets, what commands are answered (`ingest/opentsdb.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

EXIT = "exit"
COMMANDS = (EXIT, "help", "put", "stats", "version")
"""Those that are known."""
UNKNOWN = "unknown_command"

_SECONDS = 1 << 32
_LONGEST_TIME = 20
_LONGEST_COMMAND = 64


@dataclass(slots=True)
class Lines:
    """Lines of Graphite, how many lines were left out by reason, and the first of these as it was sent.

    `puts` is how many there were, good or bad; `asked` the other commands, in their order, up to `exit`.
    """

    text: bytes
    bad: Counter[str] = field(default_factory=Counter)
    first: str = ""
    puts: int = 0
    asked: list[str] = field(default_factory=list)


def as_graphite(data: bytes) -> Lines:
    """Whole lines as Graphite's; what is wrong with numbers shows where those are read. Never raises."""
    made: list[bytes] = []
    found = Lines(b"")
    for line in data.split(b"\n"):
        words = line.split()
        if not words:
            continue
        command = words[0][:_LONGEST_COMMAND].decode("utf-8", "replace")
        found.puts += command == "put"
        if command != "put":
            found.asked.append(command)
            if command == EXIT:
                break
            if command in COMMANDS:
                continue
        reason = _why_bad(words, line)
        if reason:
            found.bad[reason] += 1
            found.first = found.first or line[:200].decode("utf-8", "replace")
            continue
        _, metric, time, value, *tags = words
        made.append(b"%b %b %b\n" % (b";".join((metric, *tags)), value, _seconds(time)))
    found.text = b"".join(made)
    return found


def _why_bad(words: list[bytes], line: bytes) -> str:
    if words[0] != b"put":
        return UNKNOWN
    if len(words) < 4:
        return "no_value"
    time = words[2]
    # Graphite takes other times, too, such as -1 for now.
    if len(time) > _LONGEST_TIME or not time.replace(b".", b"", 1).isdigit():
        return "bad_time"
    # A semicolon would begin a tag; neither system lets a name hold one. A tag without a value is none to Graphite either.
    return "bad_path" if b";" in line else ""


def _seconds(time: bytes) -> bytes:
    return b"%b.%b" % (time[:-3], time[-3:]) if time.isdigit() and int(time) >= _SECONDS else time
