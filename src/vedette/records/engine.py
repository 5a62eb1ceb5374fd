"""SQLAlchemy's asynchronous engine and connection, without its object-relational mapper.

Importing `sqlalchemy.ext.asyncio` also imports sessions, and with them the mapper: six megabytes that nothing here uses and a server
would hold as long as it runs. Here the package is completed when somebody asks it for a name of those. Not here: how a database is
reached (`reaching.py`).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

_PACKAGE = "sqlalchemy.ext.asyncio"


def _package_alone() -> None:
    """Import the package's engine without what its `__init__` imports, until a name is missed."""
    if _PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        return  # the import below says what is missing
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def complete(name: str) -> Any:
        if name.startswith("__"):  # what the import system looks for, and packages may lack
            raise AttributeError(name)
        vars(package).pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, name)

    sys.modules[_PACKAGE] = package
    sys.modules["sqlalchemy.ext"].asyncio = package  # type: ignore[attr-defined]  # as the import system does
    importlib.import_module(f"{_PACKAGE}.engine")
    # Only now: the engine's own imports look for its neighbours as names of the package first.
    vars(package)["__getattr__"] = complete


_package_alone()

from sqlalchemy.ext.asyncio.engine import AsyncConnection, AsyncEngine, create_async_engine  # noqa: E402  # only now without the rest

__all__ = ["AsyncConnection", "AsyncEngine", "create_async_engine"]
