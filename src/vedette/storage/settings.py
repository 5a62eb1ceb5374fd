"""What an operator can say about storage. Durations are milliseconds, sizes are bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import format_duration, parse_duration

_SIZE = re.compile(r"(\d+)\s*([KMGT]?)i?B?\Z", re.IGNORECASE)
_POWERS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def parse_size(text: str) -> int:
    """Bytes of a size such as `512MB` or `2GiB`, in powers of 1,024 as Prometheus reads them. Raises `BadInput`."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise BadInput(f"not a size: {text!r}", hint="expected a number and a unit, such as 512MB or 2GB")
    return int(match[1]) << _POWERS[match[2].upper()]


def format_size(size: int) -> str:
    """The size as `parse_size` reads it, in the largest unit that divides it: `64MB`."""
    for unit in ("T", "G", "M", "K"):
        if size and size % (1 << _POWERS[unit]) == 0:
            return f"{size >> _POWERS[unit]}{unit}B"
    return f"{size}B"


def format_sync(sync: int) -> str:
    """The setting as `parse_sync` reads it."""
    return {0: "commit", -1: "off"}.get(sync) or f"interval={format_duration(sync)}"


def parse_sync(text: str) -> int:
    """When the log is synced: `commit` is 0, `interval=5s` its milliseconds, `off` is -1. Raises `BadInput`."""
    if text == "commit":
        return 0
    if text == "off":
        return -1
    if text.startswith("interval=") and (every := parse_duration(text.removeprefix("interval="))) > 0:
        return every
    raise BadInput(f"not a way to sync: {text!r}", hint="expected commit, interval=5s or off")


FEATURES = {"st-storage": "start_timestamps", "created-timestamp-zero-ingestion": "start_zeros"}
"""Prometheus' names of what may be turned on, and the settings that do it."""


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where samples are kept, and the embedded engine's settings."""

    backend: Literal["embedded", "postgres", "remote"] = "embedded"
    """`embedded`: in the data directory. `postgres`: in the database of `url`. `remote`: in the server of the section `remote`."""
    url: str = option("", secret=True)
    """`postgresql://user:password@host:5432/database`; empty is that of the records."""
    data: Path = option(Path("data"))
    """The directory that holds the log and the blocks; made where it is missing."""
    sync: int = option(0, convert=parse_sync)
    """`commit` (0): an append returns after fdatasync; `interval=…` (> 0, ms) and `off` (-1) risk the last writes at power loss."""
    retention: int = option(30 * 86_400_000, convert=parse_duration)
    """Samples older than this are neither taken nor kept; 0 keeps all."""
    retention_size: int = option(0, convert=parse_size)
    """Where blocks, log and rollups together are larger, the oldest are deleted (rollups where they are half of it); 0 for no limit."""
    retention_by_selector: dict[str, int] = option(factory=dict, convert=parse_duration)
    """How long the series that a selector selects are kept, instead of `retention`; the first that selects a series counts."""
    rollups: dict[str, int] = option(factory=lambda: {"5m": 180 * 86_400_000, "1h": 730 * 86_400_000}, convert=parse_duration)
    """How long the rollup tiers are kept: stretches of 5 minutes and of an hour; 0 is for ever, one that is left out is not made."""
    admin_api: bool = False
    """Whether series may be deleted and snapshots taken over HTTP."""
    out_of_order_window: int = option(3_600_000, convert=parse_duration)
    """How much older than its series' newest sample a sample may be."""
    head_span: int = option(2 * 3_600_000, convert=parse_duration)
    """How long samples gather in memory before they become a block."""
    head_samples: int = option(15_000_000)
    """How many samples may gather in memory before they become a block, whatever their age: 3 bytes each or so (10 where
    values are no decimal numbers), at least 64 a series."""
    queue_samples: int = option(10_000_000)
    """How many samples may wait to be stored; more is refused until there is room."""
    start_timestamps: bool = False
    """Whether start timestamps are kept (`--enable-feature=st-storage`)."""
    start_zeros: bool = False
    """Whether a sample of zero is put in at a start timestamp (`--enable-feature=created-timestamp-zero-ingestion`)."""
    segment_size: int = option(64 << 20, convert=parse_size)
    """Where a segment of the log ends and the next begins."""
    page_cache: int = option(128 << 20, convert=parse_size)
    """Memory for decoded pages of blocks, and for what large queries ask of blocks again."""
    select_samples: int = option(100_000_000)
    """How many samples one select may answer, 16 bytes each; a native histogram counts as what it takes. More is refused."""
    select_series: int = option(5_000_000)
    """How many series one select may answer; more is refused."""
