"""What the records ask of a database, whichever it is: a few statements on a connection.

Not here: who runs them (`sqlite.py`, `postgres.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from vedette.records.rows import Row
from vedette.records.traffic import Traffic

SCHEMA = "vedette"
"""The schema of the records in PostgreSQL: their tables have names (`users`) that others have, too."""


class RefusedConnection(ConnectionError):
    """The database does not take these credentials, or there is none of that name."""


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """The connections to the database now; `most` is how many there may be. SQLite has one, which all share; `traffic` went through."""

    kind: str
    size: int
    in_use: int
    idle: int
    overflow: int
    most: int
    traffic: Traffic


class Connection(Protocol):
    """One connection, for one task at a time. Values are given by name; errors are the driver's (`Database.failures`)."""

    async def fetch(self, statement: str, given: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        """The rows that a statement answers; none of one that answers nothing."""

    async def repeat(self, statement: str, given: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement that answers nothing for each set of values."""

    async def put(self, kind: type[Row], rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, new or in place of those with their key; the values of each in the order of its fields."""


class Database(Protocol):
    """A database that is reached, or not yet: the first connection tells."""

    kind: str
    """`sqlite` or `postgresql`."""
    failures: tuple[type[Exception], ...]
    """What is raised when it cannot be asked."""

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """A connection, to read with."""

    def begin(self) -> AbstractAsyncContextManager[Connection]:
        """A connection in a transaction, which is durable once the block is left, and has never been where that raises."""

    def figures(self) -> PoolFigures:
        """The connections now."""

    async def dispose(self) -> None:
        """Close all connections."""
