"""The asynchronous engine comes without SQLAlchemy's mapper, and whoever wants that finds it all the same."""

from __future__ import annotations

import subprocess
import sys

ALONE = """
import asyncio
import sys
import sqlalchemy as sa
from vedette.records.engine import create_async_engine

def mapper():
    return [name for name in sys.modules if name.startswith("sqlalchemy.orm")]

async def ask():
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        found = (await connection.execute(sa.text("select 40 + 2"))).scalar_one()
    await engine.dispose()
    return found

assert asyncio.run(ask()) == 42
assert not mapper(), mapper()
"""

COMPLETED = """
import sqlalchemy.ext.asyncio
assert not mapper(), "nothing of it was asked for yet"
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
import vedette.records.engine
assert AsyncEngine is vedette.records.engine.AsyncEngine, "the same classes, not a second set"

async def session():
    engine = create_async_engine("sqlite+aiosqlite://")
    async with async_sessionmaker(engine)() as opened:
        assert isinstance(opened, AsyncSession)
        found = (await opened.execute(sa.text("select 1"))).scalar_one()
    await engine.dispose()
    return found

assert asyncio.run(session()) == 1
assert mapper()
try:
    from sqlalchemy.ext.asyncio import never_there
except ImportError as error:
    print(error)
"""

IMPORTED_BEFORE = """
import sqlalchemy.ext.asyncio
whole = sqlalchemy.ext.asyncio.AsyncSession
from vedette.records.engine import AsyncEngine
assert sqlalchemy.ext.asyncio.AsyncSession is whole and sqlalchemy.ext.asyncio.AsyncEngine is AsyncEngine
"""


def _run(script: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_engine_works_without_the_mapper() -> None:
    assert _run(ALONE) == ""


def test_who_wants_sessions_gets_them_and_a_wrong_name_is_an_error() -> None:
    assert "never_there" in _run(ALONE + COMPLETED)


def test_a_package_that_is_there_already_stays_as_it_is() -> None:
    assert _run(IMPORTED_BEFORE) == ""
