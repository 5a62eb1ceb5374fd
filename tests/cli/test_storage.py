"""`vedette storage …` on real data directories."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from vedette.cli.verbs import app
from vedette.clock import ManualClock
from vedette.errors import BadInput, Corrupt, NotFound, Undeliverable
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000_000


def vedette(*words: object, columns: int = 200) -> Result:
    result = CliRunner().invoke(app, ["storage", *map(str, words)], env={"COLUMNS": str(columns)})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def data(tmp_path) -> Path:
    """A closed directory: a block of 8 series, and one more series in the log."""

    async def fill() -> None:
        engine = Engine(StorageSettings(data=tmp_path / "data"), ManualClock(NOW / 1000))
        await engine.start()
        rows = [Labels.of(__name__=f"m{i % 2}", i=str(i)) for i in range(8)]
        for k in range(10):
            await engine.append(SampleBatch.of(canonical(), rows, [NOW + k] * 8, [float(k)] * 8))
        await engine.flush()
        await engine.append(SampleBatch.of(canonical(), [Labels.of(__name__="m0", i="log")], [NOW + 20], [1.0]))
        await engine.close()

    asyncio.run(fill())
    with sqlite3.connect(tmp_path / "data" / "vedette.db") as state:
        state.execute("create table t (x)")
        state.execute("insert into t values (5)")
    state.close()
    return tmp_path / "data"


def test_a_snapshot_is_restored_with_log_and_state(data, tmp_path):
    made = Path(vedette("snapshot", "--data", data).stdout.strip())
    assert made.parent == data / "snapshots"
    result = vedette("restore", made, "--data", tmp_path / "new")
    assert "all whole" in result.stdout
    total = 0
    for path in (data, tmp_path / "new"):

        async def count(path: Path = path) -> int:
            engine = Engine(StorageSettings(data=path), ManualClock(NOW / 1000))
            await engine.start()
            found = engine.select("default", [], 0, 1 << 62).sample_count
            await engine.close()
            return found

        assert asyncio.run(count()) == 81
        total += 1
    assert total == 2
    state = sqlite3.connect(tmp_path / "new" / "vedette.db")
    assert state.execute("select x from t").fetchall() == [(5,)]
    state.close()
    with pytest.raises(BadInput, match="holds samples already"):
        vedette("restore", made, "--data", data)


def test_a_damaged_snapshot_is_told_after_it_is_restored(data, tmp_path):
    made = Path(vedette("snapshot", "--data", data).stdout.strip())
    (pages,) = made.glob("blocks/*/pages")
    raw = bytearray(pages.read_bytes())
    raw[40] ^= 1
    pages.unlink()
    pages.write_bytes(raw)
    with pytest.raises(Corrupt, match="byte 8: a page cannot be read: it does not match its checksum"):
        vedette("restore", made, "--data", tmp_path / "new")


def test_verify_names_path_and_offset_of_all_damage(data):
    assert vedette("verify", "--data", data).exit_code == 0
    (pages,) = data.glob("blocks/*/pages")
    (segment,) = data.glob("wal/*.wal")
    for path, at in ((pages, 40), (segment, 60)):
        raw = bytearray(path.read_bytes())
        raw[at] ^= 1
        path.write_bytes(raw)
    result = vedette("verify", "--data", data)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{pages}: byte 8: a page cannot be read: it does not match its checksum")
    assert lines[1].startswith(f"{segment}: byte 32: a record's checksum does not match")
    assert lines[2] == f"{data}: 2 damaged places"


def test_stats_show_each_block(data):
    out = vedette("stats", "--data", data).stdout
    assert "2023-11-14 22:13:20" in out
    assert "1 blocks: 80 samples" in out
    (data / "blocks" / "00000001-1700000000000-1700000000009" / "meta.json").write_text("{")
    out = vedette("stats", "--data", data, columns=80).stdout
    assert "damaged" in out
    assert "meta.json: byte 0: cannot be read" in out, "whole, however long the path is"


@pytest.mark.parametrize(("by", "row"), [("metric", ["m0", "5", "55.6%"]), ("label", ["i", "9"]), ("pair", ["__name__=m0", "5", "55.6%"])])
def test_top_counts_log_and_blocks(data, by, row):
    lines = [line.split() for line in vedette("top", "--data", data, "--by", by, "--limit", "1").stdout.splitlines()]
    assert lines[1:] == [row, ["9", "series"]]


def test_top_tells_what_is_new(data):
    lines = [line.split() for line in vedette("top", "--data", data, "--growth", "--by", "pair").stdout.splitlines()]
    assert lines[0] == ["label", "and", "value", "new", "series", "of", "all"]
    assert lines[-1][:2] == ["9", "series"]


def test_a_directory_in_use_is_left_alone_and_none_is_made(data, tmp_path):
    async def held() -> None:
        engine = Engine(StorageSettings(data=data), ManualClock(NOW / 1000))
        await engine.start()
        try:
            for verb in ("verify", "snapshot"):
                with pytest.raises(BadInput, match="locked by another process"):
                    vedette(verb, "--data", data)
            assert "1 blocks" in vedette("stats", "--data", data).stdout
        finally:
            await engine.close()

    asyncio.run(held())
    for verb in ("verify", "snapshot", "stats", "top"):
        with pytest.raises(NotFound, match="no data directory"):
            vedette(verb, "--data", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(Undeliverable, match=r"http://127\.0\.0\.1:9 does not answer"):
        vedette("snapshot", "--url", "http://127.0.0.1:9")


def test_damaged_records_are_found(data):
    assert "all whole" in vedette("verify", "--data", data).output
    state = data / "vedette.db"
    raw = bytearray(state.read_bytes())
    raw[100:140] = bytes(40)
    state.write_bytes(raw)
    done = vedette("verify", "--data", data)
    assert done.exit_code == 1
    assert f"{state}: byte 0:" in done.output
