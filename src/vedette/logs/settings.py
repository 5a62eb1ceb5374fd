"""What an operator can say about logs. Durations are milliseconds, sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.storage.settings import parse_size


def parse_address(text: str) -> str:
    """A `host:port` to listen on, "" for none. Raises `BadInput`."""
    if not text:
        return ""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise BadInput(f"not an address: {text!r}", hint="expected host:port, such as 127.0.0.1:5514")
    return text


@dataclass(frozen=True, slots=True)
class TailSettings:
    """Files to follow."""

    path: str
    """A file, or a pattern of files (`/var/log/app/*.log`)."""
    service: str = ""
    """The service of their lines, where a line names none; empty: the file's name without its ending."""
    multiline: str = ""
    """A regular expression: a line that does not match it goes on with the line before."""
    from_start: bool = False
    """Whether a file that is met for the first time is read from its start; one that appears later always is."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The log store and the ways in that have to be switched on."""

    own: bool = True
    """Whether the server keeps its own log lines too, as service `vedette`."""
    retention: int = option(30 * 86_400_000, convert=parse_duration)
    """Segments whose newest line is older than this are deleted; 0 keeps all."""
    retention_size: int = option(0, convert=parse_size)
    """Where all segments together are larger, the oldest are deleted; 0 for no limit."""
    flush_lines: int = option(500_000)
    """How many lines may gather in memory before they become a segment."""
    flush_bytes: int = option(128 << 20, convert=parse_size)
    """How much memory they may take before they do."""
    flush_interval: int = option(5 * 60_000, convert=parse_duration)
    """How long they gather at the most; fewer than 10,000 gather for a day, or a 24th of the retention."""
    queue_bytes: int = option(128 << 20, convert=parse_size)
    """How much may wait to be written; more is refused until there is room."""
    max_line: int = option(256 << 10, convert=parse_size)
    """The longest message, and the longest fields, of a line."""
    max_body: int = option(64 << 20, convert=parse_size)
    """The largest body of a request, once unpacked."""
    query_memory: int = option(1 << 30, convert=parse_size)
    """Memory for queries, and for merging segments."""
    query_timeout: int = option(30_000, convert=parse_duration)
    """How long a query may take."""
    max_lines: int = option(10_000)
    """How many lines one answer may hold."""
    syslog_udp: str = option("", convert=parse_address)
    """Where to take syslog over UDP, `host:port`; empty: nowhere."""
    syslog_tcp: str = option("", convert=parse_address)
    """Where to take syslog over TCP; empty: nowhere."""
    files: tuple[TailSettings, ...] = ()
    """Files to follow."""
