"""Which database the records are in, and how it is reached. Not here: rows (`database.py`), the databases (`sqlite.py`, `postgres.py`)."""

from __future__ import annotations

from pathlib import Path

from vedette.records.connection import Database
from vedette.records.settings import is_postgres, parse_database_url, postgres_dsn
from vedette.records.sqlite import Sqlite
from vedette.records.traffic import Traffic


def reach(where: Path | str, traffic: Traffic) -> tuple[Database, str]:
    """(a SQLite file, or a database by its URL; how to call the place in messages). Raises `BadInput` for a bad URL.

    What goes to it and back is counted by `traffic`.
    """
    if isinstance(where, str) and is_postgres(url := parse_database_url(where)):
        # SQLAlchemy, which only this needs, is ten megabytes.
        from vedette.records.postgres import Postgres

        return Postgres(postgres_dsn(url), traffic), "PostgreSQL"
    path = str(where) if isinstance(where, Path) else parse_database_url(where).partition(":///")[2]
    return Sqlite(path, traffic), path
