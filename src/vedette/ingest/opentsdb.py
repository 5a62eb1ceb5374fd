"""What OpenTSDB's commands other than `put` are answered over TCP: `version`, `stats`, `help`, `exit`, and what is none.

Senders ask `version` to see whether anybody is there (tcollector does), and people type `help`. Not here: `put` (`graphite.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version

from vedette.ingest.sockets import Answer
from vedette.wire.opentsdb_lines import COMMANDS, EXIT, Lines


@dataclass(slots=True)
class Commands:
    """Answers what a connection asks; `received` and `errors` count lines since the start, by command and by reason.

    `host` is the machine's name.
    """

    host: str
    received: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def answer(self, lines: Lines, bad: Counter[str], now_s: int) -> Answer | None:
        """To the lines of a piece whose points are stored, `bad` of them not, by reason; None where there is nothing to say."""
        self.received["put"] += lines.puts
        self.errors.update(bad)
        text = "".join(f"put: illegal argument: {reason} ({count} of the lines)\n" for reason, count in bad.items())
        for asked in lines.asked:
            self.received[asked if asked in COMMANDS else "unknown"] += 1
            text += self._told(asked, now_s)
        return Answer(text.encode(), last=EXIT in lines.asked) if text or lines.asked else None

    def _told(self, asked: str, now_s: int) -> str:
        if asked == "version":
            return f"vedette {version('vedette')}, taking lines as OpenTSDB 2 does\n"
        if asked == "help":
            return f"available commands: {' '.join(COMMANDS)}\n"
        if asked == "stats":
            told = [("received", "type", self.received), ("errors", "type", self.errors)]
            return "".join(
                f"tsd.rpc.{name} {now_s} {count} {tag}={kind} host={self.host}\n"
                for name, tag, counts in told
                for kind, count in sorted(counts.items())
            )
        return "" if asked == EXIT else f"unknown command: {asked}.  Try `help'.\n"
