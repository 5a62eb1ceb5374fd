"""A copy of the records' SQLite file that is whole, though somebody writes to it meanwhile, and a look whether the file is whole.

PostgreSQL has its own tools for both.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from vedette.errors import Corrupt, LimitExceeded


def copy_records(source: Path, target: Path) -> None:
    """Copy the file `source`, where there is one, to `target`, synced. Raises `LimitExceeded` where it cannot be read or written."""
    if not source.exists():
        return
    try:
        with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
            # The copy is read before anybody writes to it: without this it would want files beside it that are not there.
            new.execute("PRAGMA journal_mode = DELETE")
        with target.open("rb") as file:
            os.fsync(file.fileno())
    except (sqlite3.Error, OSError) as error:
        raise LimitExceeded(f"{source} cannot be copied to {target}: {error}", retry_after=5.0) from error


def verify_records(source: Path) -> list[Corrupt]:
    """What is wrong with the file `source`, by SQLite's own check of every page; nobody may write to it. Empty where there is none."""
    if not source.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as file:
            found = [str(row[0]) for row in file.execute("PRAGMA integrity_check")]
    except sqlite3.Error as error:
        found = [str(error)]
    return [] if found == ["ok"] else [Corrupt(text.replace("\n", " "), path=source, offset=0) for text in found]
