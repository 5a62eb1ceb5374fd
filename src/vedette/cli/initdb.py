"""`vedette init-db`: make the tables, or bring them up to date, and start nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from vedette.records.database import Records
from vedette.settings import resolve
from vedette.storage.settings import StorageSettings


def run(config: Path | None, *, data: Path | None) -> None:
    """Bring the records' schema up to date, and that of samples in PostgreSQL.

    Raises `BadInput` for a URL or credentials that are refused, `Unreachable` where a database does not answer, `Corrupt` where a
    newer version has written it.
    """
    settings = resolve(path=config, flags={("storage", "data"): data} if data else {}, environment=os.environ)
    place = settings.records_place
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)

    async def made() -> str:
        records = await Records.open(place)
        try:
            return f"{records.pool().kind} {await records.version()}, schema {records.schema}"
        finally:
            await records.close()

    print(f"records: {asyncio.run(made())}: ready")
    storage = settings.vedette.samples
    if storage.backend != "embedded":
        asyncio.run(_storage(storage))
        print(f"samples: {storage.backend}: ready")


async def _storage(settings: StorageSettings) -> None:
    # Here, and not above: without PostgreSQL for samples no storage is opened.
    from vedette.clock import SystemClock
    from vedette.storage.backends import open_backend
    from vedette.storage.limits import Limits

    backend = open_backend(settings, SystemClock(), retention=(), limits=Limits())
    try:
        await backend.start()
    finally:
        await backend.close()
