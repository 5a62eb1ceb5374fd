"""A copy of the log store's files, and a look whether all of them are whole; no store need be open.

Not here: when a running store lets nobody change its segments (`store.py`), what else is in a snapshot (`storage/snapshots.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vedette.errors import Corrupt
from vedette.logs import segments, trigrams
from vedette.logs.record import KIND, decode
from vedette.storage import offline
from vedette.storage.disk import Disk
from vedette.storage.snapshots import copy_records_of

_SET_ASIDE = ".corrupt"


def copy(directory: Path, into: Path, *, disk: Disk) -> None:
    """Put what is in a store's `directory`, where there is one, into `into`, which is made; durable. Raises `OSError`.

    Segments are linked, since they never change; of the log what is in it by now is copied. Nobody may delete either meanwhile.
    """
    if not directory.is_dir():
        return
    disk.mkdir(into)
    for file in sorted(p for p in directory.iterdir() if p.is_file() and not p.name.endswith(".tmp")):
        # Up to where files were read, before what was read: rather a line twice than none.
        disk.write_file(into / file.name, file.read_bytes())
    disk.mkdir(into / "segments")
    for tenant in sorted(p for p in (directory / "segments").glob("*") if p.is_dir()):
        target = into / "segments" / tenant.name
        disk.mkdir(target)
        for file in tenant.iterdir():
            if file.suffix in (".parquet", trigrams.suffix()):
                disk.link(file, target / file.name)
        disk.sync_directory(target)
    disk.sync_directory(into / "segments")
    copy_records_of(directory / "wal", into / "wal", disk=disk)
    disk.sync_directory(into)


def verify(directory: Path) -> Iterator[tuple[Path, int, list[Corrupt]]]:
    """Read everything, as `storage.offline.verify` does: (a file, its bytes, its damage), one after another."""
    root = directory / "segments"
    for file in sorted(root.glob("*/*")) if root.is_dir() else ():
        yield file, file.stat().st_size, list(_damage(file))
    yield from offline.verify_records(directory / "wal", _line_problem)


def _damage(file: Path) -> Iterator[Corrupt]:
    if file.suffix == _SET_ASIDE:
        yield Corrupt("a segment of logs that was found damaged and set aside", path=file, offset=0)
    elif file.suffix == trigrams.suffix() and trigrams.load(file) is None:
        yield Corrupt("what speeds up searches of its segment does not match its checksum; they read all of it", path=file, offset=0)
    elif file.suffix == ".parquet":
        found = segments.parsed(file)
        if found is None:
            yield Corrupt("not a name of a segment of logs", path=file, offset=0)
            return
        try:
            found.check()
        except Corrupt as damage:
            yield damage


def _line_problem(kind: int, payload: memoryview) -> str:
    if kind != KIND:
        return f"a record of unknown kind {kind}"
    try:
        decode(payload)
    except ValueError as error:
        return str(error)
    return ""
