"""This machine as it is now, for the dialects that show it as one object: processor, memory, disk, network.

What the system tells, at the moment of asking; `usage_percent` of the processor is over the time since it was last asked,
at least half a second. Not here: its history, which is in storage under node_exporter's names (`collect.host`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

GIB = 1 << 30
_SHORTEST_S = 0.5


class Processor:
    """How busy the processors are; safe from several threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._at, self._idle, self._total = self._read()
        self._percent: float | None = None

    def _read(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        # Time of guests is part of user time already.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return self._monotonic(), times.idle + getattr(times, "iowait", 0.0), total

    def percent(self) -> float | None:
        """Per cent of all processors' time in use since the last answer; None within the first half second."""
        with self._lock:
            now, idle, total = self._read()
            if now - self._at >= _SHORTEST_S and total > self._total:
                busy = 1 - (idle - self._idle) / (total - self._total)
                self._percent = round(100 * min(1.0, max(0.0, busy)), 1)
                self._at, self._idle, self._total = now, idle, total
            return self._percent


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of memory or of a file system; `used` is what is not to be had."""

    total: int
    used: int
    free: int
    percent: float

    def gigabytes(self) -> dict[str, float]:
        """As botserver's document shows it, in units of 2^30 bytes."""
        sizes = {name: round(getattr(self, name) / GIB, 2) for name in ("total", "used", "free")}
        return {**{f"{name}_gb": size for name, size in sizes.items()}, "usage_percent": self.percent}


def memory() -> Space:
    """Memory; free is what programs can have, so page cache counts as free."""
    seen = psutil.virtual_memory()
    return Space(seen.total, seen.total - seen.available, seen.available, seen.percent)


def disk(path: Path) -> Space:
    """The file system of a path; free is what can be written, so what is reserved counts as used, as the default alert has it.

    Raises `OSError` where there is none.
    """
    seen = psutil.disk_usage(str(path))
    used = seen.total - seen.free
    return Space(seen.total, used, seen.free, round(100 * used / seen.total, 1) if seen.total else 0.0)


def network() -> dict[str, int]:
    """Bytes and packets of all interfaces since the machine started."""
    each = psutil.net_io_counters(pernic=True).values()
    return {
        "bytes_sent": sum(card.bytes_sent for card in each),
        "bytes_received": sum(card.bytes_recv for card in each),
        "packets_sent": sum(card.packets_sent for card in each),
        "packets_received": sum(card.packets_recv for card in each),
    }


def processors() -> dict[str, Any]:
    """How many there are and how many tasks want them: cores, load averages of 1, 5 and 15 minutes."""
    return {"cores": psutil.cpu_count() or 1, "load_average": [round(v, 2) for v in psutil.getloadavg()]}
