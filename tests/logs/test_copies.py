"""A snapshot of log lines is a store of its moment, and a flipped bit in any of its files is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.logs.conftest import NOW, SECOND, Opened, lines

from vedette.clock import ManualClock
from vedette.logs import copies
from vedette.logs.query import LogQuery
from vedette.logs.settings import LogSettings
from vedette.logs.store import LogStore
from vedette.storage.disk import Disk


async def messages(directory: Path, tenant: str = "a/*b") -> list[str]:
    store = LogStore(directory, LogSettings(), ManualClock())
    await store.start()
    try:
        return [row.message for row in (await store.search(tenant, LogQuery())).rows]
    finally:
        await store.close()


@pytest.fixture
async def store(opened: Opened) -> LogStore:
    """Two lines in a segment, two in the log alone, of a tenant whose name is no file's."""
    store: LogStore = await opened()
    await store.append("a/*b", lines("one", "two"))
    store.flush()
    await store.append("a/*b", lines("three", "four", at=NOW + 5 * SECOND))
    return store


ALL = ["four", "three", "two", "one"]


async def test_a_copy_of_a_running_store_is_what_it_was_then(store: LogStore, tmp_path: Path) -> None:
    (store.directory / "places.json").write_text("{}")
    store.copy(tmp_path / "copy")
    await store.append("a/*b", lines("later", at=NOW + 9 * SECOND))
    store.flush()
    assert (tmp_path / "copy" / "places.json").read_text() == "{}"
    assert all(not damage for _, _, damage in copies.verify(tmp_path / "copy"))
    assert await messages(tmp_path / "copy") == ALL


async def test_a_record_that_is_copied_in_part_is_none_yet(store: LogStore, tmp_path: Path) -> None:
    store.copy(tmp_path / "copy")
    log = max((tmp_path / "copy" / "wal").iterdir())
    log.write_bytes(log.read_bytes()[:-3])
    assert all(not damage for _, _, damage in copies.verify(tmp_path / "copy"))
    assert await messages(tmp_path / "copy") == ["two", "one"]


async def test_every_kind_of_file_is_looked_at(store: LogStore, tmp_path: Path) -> None:
    store.copy(tmp_path / "copy")
    files = [path for path, _, _ in copies.verify(tmp_path / "copy") if path.stat().st_size > 16]
    assert {file.suffix for file in files} == {".parquet", ".wal", ".trigrams"}
    for file in files:
        whole = file.read_bytes()
        # A bit of its middle; of a segment of the log, of the record's payload, or it would be a cut-off one.
        at = len(whole) - 5 if file.suffix == ".wal" else len(whole) // 2
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        found = [d for _, _, damage in copies.verify(tmp_path / "copy") for d in damage]
        assert [d.path for d in found] == [file]
        file.write_bytes(whole)
    (files[0].parent / "stranger.parquet").write_bytes(b"x")
    found = [str(d) for _, _, damage in copies.verify(tmp_path / "copy") for d in damage]
    assert len(found) == 1
    assert "not a name" in found[0]


async def test_what_was_set_aside_as_damaged_is_told_again(store: LogStore, tmp_path: Path) -> None:
    store.copy(tmp_path / "copy")
    segment = next((tmp_path / "copy" / "segments").glob("*/*.parquet"))
    segment.rename(segment.with_suffix(".corrupt"))
    assert any("set aside" in str(d) for _, _, damage in copies.verify(tmp_path / "copy") for d in damage)


async def test_lines_that_are_in_no_segment_yet_are_enough(opened: Opened, tmp_path: Path) -> None:
    store = await opened()
    await store.append("a/*b", lines("one"))
    await store.close()
    (store.directory / "segments").rmdir()  # as a restored snapshot has it: a copy of files
    copies.copy(store.directory, tmp_path / "copy", disk=Disk())
    assert await messages(tmp_path / "copy") == ["one"]


def test_without_a_store_there_is_nothing_to_copy(tmp_path: Path) -> None:
    copies.copy(tmp_path / "none", tmp_path / "copy", disk=Disk())
    assert not (tmp_path / "copy").exists()
    assert list(copies.verify(tmp_path / "none")) == []
