"""Snapshots: a data directory of hard links beside the one they are taken of, and the way back.

A block's files never change, nor does a segment of the log once a later one was begun, so a link is a copy that costs
nothing. A snapshot is a data directory itself: `--data` may point at it, `restore` copies it to a place of its own. Not
here: which blocks there are (`blocks.py`); how the state of alerts is copied, which is in a database of its own (`records`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vedette.errors import BadInput
from vedette.storage.block_writer import TEMPORARY
from vedette.storage.directory import RESTORING
from vedette.storage.disk import Disk

PARTS = ("blocks", "wal", "rollups", "metadata.json", "tombstones")
"""What of a data directory holds samples."""

BESIDE = ("logs", "exemplars")
"""What else it holds, each of them a directory."""

Progress = Callable[[Path, int], None]
"""Called with each file and its bytes, once it is done."""


def directory_of(data: Path) -> Path:
    """Where the snapshots of a data directory lie."""
    return data / "snapshots"


def take(
    data: Path,
    name: str,
    blocks: Iterable[Path],
    *,
    disk: Disk,
    segments: Iterable[Path] = (),
    rollups: Sequence[Path] = (),
    beside: Callable[[Path], None] | None = None,
) -> Path:
    """Link `blocks` and `rollups` (directories) and `segments` (of the log) into the snapshot `name`; answers its directory, durable.

    `beside` puts further files into the directory that it is given, synced; what it raises ends the snapshot.
    Raises `OSError`; nothing is left behind then. Nobody may delete what is linked meanwhile.
    """
    final = directory_of(data) / name
    temporary = final.with_name(TEMPORARY + name)
    if not final.parent.is_dir():
        disk.mkdir(final.parent)
    with disk.making(temporary):
        for part in ("blocks", "wal"):
            disk.mkdir(temporary / part)
        if rollups:
            disk.mkdir(temporary / "rollups")
            for part in ("index.json", "tombstones"):
                if (data / "rollups" / part).exists():
                    disk.link(data / "rollups" / part, temporary / "rollups" / part)
            disk.sync_directory(temporary / "rollups")
        for block in (*blocks, *rollups):
            target = temporary / block.parent.name / block.name
            disk.mkdir(target)
            for file in block.iterdir():
                disk.link(file, target / file.name)
            disk.sync_directory(target)
            disk.sync_directory(target.parent)
        for segment in segments:
            disk.link(segment, temporary / "wal" / segment.name)
        for part in ("metadata.json", "tombstones"):
            # These are replaced whole, never changed, and so may be linked, too.
            if (data / part).exists():
                disk.link(data / part, temporary / part)
        if beside is not None:
            beside(temporary)
        for directory in (temporary / "blocks", temporary / "wal", temporary):
            disk.sync_directory(directory)
        disk.rename(temporary, final)
    disk.sync_directory(final.parent)
    disk.sync_directory(data)
    return final


def copy_records_of(directory: Path, into: Path, *, disk: Disk) -> None:
    """Copy a log or a queue (`wal.py`, `queue.py`), where there is one, into a new directory, as it is by now; synced. Raises `OSError`.

    Somebody may add to it meanwhile: a record that is copied in part is one that was not there yet.
    """
    if not directory.is_dir():
        return
    disk.mkdir(into)
    # First up to where all is done: what is done meanwhile is then done again, not forgotten.
    for file in sorted(directory.iterdir(), key=lambda f: (f.name != "position", f.name)):
        if file.is_file() and not file.name.endswith(".tmp"):
            with contextlib.suppress(FileNotFoundError):  # all of it was done, or is in a segment of another kind
                disk.write_file(into / file.name, file.read_bytes())
    disk.sync_directory(into)


def files_of(data: Path) -> list[Path]:
    """The files of a data directory that hold samples, log lines and exemplars, in a fixed order."""
    found: list[Path] = []
    for part in (*PARTS, *BESIDE):
        path = data / part
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            found += sorted(f for f in path.rglob("*") if f.is_file() and not f.relative_to(path).parts[0].startswith(TEMPORARY))
    return found


def restore(source: Path, data: Path, *, progress: Progress = lambda path, size: None, beside: Callable[[], None] = lambda: None) -> None:
    """Copy the snapshot `source` to `data`, durably; `beside` adds what else belongs there. Begins again where it was interrupted.

    Raises `BadInput` where there is no snapshot or `data` holds samples, `OSError` as it comes; what was copied until then stays, and
    nobody may use it (`directory.RESTORING`) until all is there.
    """
    if not (source / "blocks").is_dir():
        raise BadInput("not a snapshot", where=str(source), hint="a directory that holds blocks/")
    marker, disk = data / RESTORING, Disk()
    if marker.exists():
        for file in files_of(data):
            disk.unlink(file)
    elif files_of(data):
        raise BadInput("holds samples already", where=str(data), hint="restore into an empty directory")
    for part in ("blocks", "wal"):
        (data / part).mkdir(parents=True, exist_ok=True)
    disk.replace_file(marker, f"{source.resolve()}\n".encode())
    directories = {data, data / "blocks", data / "wal"}
    for file in files_of(source):
        target = data / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        directories |= {above for above in target.parents if above == data or data in above.parents}
        with file.open("rb") as old, target.open("wb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(new.fileno())
        progress(file, file.stat().st_size)
    beside()
    for directory in sorted(directories, reverse=True):
        disk.sync_directory(directory)
    # Last of all: from now on it is a data directory like any other.
    disk.unlink(marker)
    disk.sync_directory(data)
