"""Segments: immutable Parquet files of one tenant's lines, newest first, and what their names say.

    segments/<tenant>/<first seq>-<last seq>-<oldest ns>-<newest ns>-<lines>-<crc32>.parquet

A name states which lines are inside (`seq`, a number that each line gets as it comes in) and the file's checksum, so
there is no list of segments to get out of step with them: a file is written aside, synced and renamed in, and one whose
numbers lie within another's was merged into that and is left over. Not here: when segments are made (`store.py`), how
they are written and read (`database.py`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from vedette.errors import Corrupt
from vedette.logs import trigrams

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})-(-?\d{1,19})-(-?\d{1,19})-(\d{1,12})-([0-9a-f]{8})\.parquet\Z", re.ASCII)
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """One file. `oldest` and `newest` are the times of its lines in Unix ns, both inclusive; `first` and `last` their numbers."""

    path: Path
    tenant: str
    first: int
    last: int
    oldest: int
    newest: int
    lines: int
    crc: int
    size: int
    bits: trigrams.Bits | None = field(default=None, compare=False, repr=False)
    """What a text search need not read (`trigrams.py`)."""

    def check(self) -> None:
        """Read all of it. Raises `Corrupt` where it is not what was written."""
        if checksum(self.path) != self.crc:
            raise Corrupt("the segment's checksum does not match", path=self.path, offset=0)


def folder(root: Path, tenant: str) -> Path:
    """A tenant's directory. Quoted, since DuckDB takes `*` in a path for a pattern."""
    return root / quote(tenant, safe="")


def name(first: int, last: int, oldest: int, newest: int, lines: int, crc: int) -> str:
    """The file name that says all this."""
    return f"{first:016x}-{last:016x}-{oldest}-{newest}-{lines}-{crc:08x}.parquet"


def checksum(path: Path) -> int:
    """CRC-32 of a file. Raises `OSError`."""
    crc = 0
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            crc = zlib.crc32(part, crc)
    return crc


def parsed(path: Path) -> Segment | None:
    """The segment of a path; None where the name is not one."""
    found = _NAME.match(path.name)
    if found is None:
        return None
    first, last, crc = (int(found[i], 16) for i in (1, 2, 6))
    oldest, newest, lines = (int(found[i]) for i in (3, 4, 5))
    size, bits = path.stat().st_size, trigrams.load(path)
    return Segment(path, unquote(path.parent.name), first, last, oldest, newest, lines, crc, size, bits)


def scan(root: Path) -> tuple[list[Segment], list[Path]]:
    """(segments, files that are left over: half-written, or merged into another). Raises `OSError`."""
    kept: list[Segment] = []
    left: list[Path] = []
    for directory in sorted(p for p in root.iterdir() if p.is_dir()):
        left += directory.glob("*.tmp")
        widest_first = sorted(_segments(directory), key=lambda s: (s.first, -s.last))
        end = -1
        for segment in widest_first:
            if segment.last <= end:
                left.append(segment.path)
            else:
                kept.append(segment)
                end = segment.last
        named = {s.path.with_suffix(trigrams.suffix()) for s in kept}
        left += [p for p in directory.glob(f"*{trigrams.suffix()}") if p not in named]
    return kept, left


def _segments(directory: Path) -> Iterator[Segment]:
    for path in directory.glob("*.parquet"):
        found = parsed(path)
        if found is not None:
            yield found


def mergeable(segments: list[Segment], *, most_lines: int, most_bytes: int, fan_in: int = 4) -> list[Segment]:
    """Neighbours of a tenant that are worth merging: at least `fan_in` of about one size; none where there are none.

    A line is so rewritten a few times at the most. What is merged stays within `most_lines` and `most_bytes`.
    """
    run: list[Segment] = []
    for segment in sorted(segments, key=lambda s: s.first):
        alike = run and _tier(segment.lines) == _tier(run[0].lines)
        if run and not alike and len(run) >= fan_in:
            break
        if not alike:
            run = []
        if sum(s.lines for s in run) + segment.lines > most_lines or sum(s.size for s in run) + segment.size > most_bytes:
            if len(run) >= fan_in:
                break
            run = []
        run.append(segment)
    return run if len(run) >= fan_in else []


def _tier(lines: int) -> int:
    return max(0, (max(lines, 1) // 1000).bit_length() // 2)
