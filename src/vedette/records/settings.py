"""Where the records are: a database's URL, checked when it is read. Importing this loads no database library."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from vedette.configfile import option
from vedette.errors import BadInput

_POSTGRES = ("postgres", "postgresql", "postgresql+asyncpg")
_SQLITE = ("sqlite", "sqlite+aiosqlite")


def parse_database_url(text: str) -> str:
    """The URL as `postgresql+asyncpg://…` or `sqlite+aiosqlite:///…`; empty stays. Raises `BadInput`, which never repeats the URL."""
    text = text.strip()
    if not text:
        return ""
    scheme, colon, rest = text.partition("://")
    if scheme.lower() in _SQLITE and colon:
        if not rest.startswith("/") or len(rest) < 2:
            raise BadInput(
                "a SQLite URL without a file", hint="sqlite:///vedette.db, or sqlite:////var/lib/vedette.db for an absolute path"
            )
        return f"{_SQLITE[1]}://{rest}"
    if scheme.lower() not in _POSTGRES or not colon:
        raise BadInput(
            f"a database of the kind {scheme[:30] if colon else ''!r}", hint="expected postgresql://user@host/name or sqlite:///file"
        )
    try:
        parts = urlsplit(f"postgresql://{rest}")
        name, _ = parts.path.strip("/"), parts.port
    except ValueError:
        raise BadInput(
            "not a URL", hint="postgresql://user:password@host:5432/name; in a password, @ : / are written %40 %3A %2F"
        ) from None
    if not name and "dbname" not in parts.query:
        raise BadInput("a PostgreSQL URL without a database", hint="postgresql://user:password@host:5432/name")
    return f"{_POSTGRES[2]}://{rest}"


def is_postgres(url: str) -> bool:
    """Whether a parsed URL is PostgreSQL's."""
    return url.startswith(_POSTGRES[2])


def postgres_dsn(url: str) -> str:
    """A parsed URL as PostgreSQL's own tools and drivers read it."""
    return f"postgresql://{url.partition('://')[2]}"


@dataclass(frozen=True, slots=True)
class RecordsSettings:
    """Where state that is not samples is kept: alerts, silences, users, rules made over the API."""

    url: str = option("", secret=True, convert=parse_database_url)
    """A PostgreSQL or SQLite database; empty is `vedette.db` in the data directory."""
