"""What the driver raises, as the house's errors. `asyncpg` is an extra, loaded where PostgreSQL is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vedette.errors import BadInput, Unreachable, VedetteError

RETRY_AFTER = 5.0
"""Seconds after which to try again while the database does not answer."""

_SETTINGS_ARE_WRONG = ("28", "3D", "42501", "3F")
# Connections, resources, an operator at work, a disk, locks: all of which pass.
_PASSING = ("08", "53", "57", "58", "40", "55", "25006", "XX")


class Refused(Unreachable):
    """The database does not take these credentials, or has no such name: at a start, a mistake in the settings."""


def driver() -> Any:
    """The module `asyncpg`. Raises `BadInput` where it is not installed."""
    try:
        import asyncpg
    except ImportError:
        raise BadInput("PostgreSQL needs a package that is not installed", hint="pip install 'vedette[postgres]'") from None
    return asyncpg


@contextmanager
def translated() -> Iterator[None]:
    """Turns what keeps the database from answering into `Unreachable`, and refusals of who asks into `Refused`."""
    asyncpg = driver()
    try:
        yield
    except VedetteError:
        raise
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise Unreachable(f"PostgreSQL does not answer: {_said(error)}", retry_after=RETRY_AFTER) from error
    except asyncpg.PostgresError as error:
        state = str(error.sqlstate or "")
        if state.startswith(_SETTINGS_ARE_WRONG):
            raise Refused(f"PostgreSQL refuses: {_said(error)}", retry_after=RETRY_AFTER) from error
        if state.startswith(_PASSING):
            raise Unreachable(f"PostgreSQL cannot do this now: {_said(error)}", retry_after=RETRY_AFTER) from error
        raise


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
