"""The admin operations over a real engine: Prometheus' shapes, words and statuses."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from vedette.api import admin
from vedette.api.endpoint import routes
from vedette.api.prometheus import matchers_of
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.records.copy import copy_records
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

BASE = "/api/v1/admin/tsdb"
NOW = 1_700_000_000_000


@pytest.fixture
async def engine(tmp_path, clock):
    made = Engine(StorageSettings(data=tmp_path / "data"), clock)
    await made.start()
    rows = [Labels.of(__name__=name, i=str(i)) for name in ("a", "b") for i in range(2)]
    for k in range(3):
        await made.append(SampleBatch.of(canonical(), rows, [NOW + 1000 * k] * 4, [1.0] * 4))
    yield made
    await made.close()


@pytest.fixture
def client(engine, serve):
    return serve(routes(admin.endpoints(admin.Admin(engine, lambda: True, matchers_of, lambda scope: "default"))))


def left(engine) -> dict[str, int]:
    found = engine.select("default", [], 0, 1 << 62)
    return {str(labels): int(found.offsets[i + 1] - found.offsets[i]) for i, labels in enumerate(found.labels)}


async def test_series_are_deleted(client, engine):
    answer = await client.post(f"{BASE}/delete_series", params={"match[]": ['a{i="0"}', "b"], "start": "1700000001", "end": "1700000001.5"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert left(engine) == {'a{i="0"}': 2, 'a{i="1"}': 3, 'b{i="0"}': 2, 'b{i="1"}': 2}
    answer = await client.put(f"{BASE}/delete_series", params={"match[]": "b"})
    assert answer.status_code == 204
    assert left(engine) == {'a{i="0"}': 2, 'a{i="1"}': 3}


async def test_cleaning_answers_when_it_is_done(client, engine):
    await client.post(f"{BASE}/delete_series", params={"match[]": 'a{i="0"}'})
    answer = await client.post(f"{BASE}/clean_tombstones")
    assert (answer.status_code, answer.content) == (204, b"")
    assert sum(b.meta.samples for b in engine._blocks.all) == 9
    assert engine.counters()["tombstones"] == 0


@pytest.mark.parametrize("skip_head", ["", "true"])
async def test_a_snapshot_is_named(client, engine, tmp_path, skip_head):
    answer = await client.post(f"{BASE}/snapshot", params={"skip_head": skip_head} if skip_head else {})
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "success")
    blocks = list((tmp_path / "data" / "snapshots" / body["data"]["name"] / "blocks").iterdir())
    assert len(blocks) == (0 if skip_head else 1)


@pytest.mark.parametrize(
    ("path", "params", "problem"),
    [
        ("delete_series", {}, "no match[] parameter provided"),
        ("delete_series", {"match[]": "a{"}, 'invalid parameter "match[]": 1:3: parse error'),
        ("delete_series", {"match[]": "a", "start": "x"}, "invalid parameter \"start\": invalid time value for 'start'"),
        ("snapshot", {"skip_head": "maybe"}, 'invalid parameter "skip_head"'),
    ],
)
async def test_bad_parameters_are_refused(client, engine, path, params, problem):
    answer = await client.post(f"{BASE}/{path}", params=params)
    body = answer.json()
    assert (answer.status_code, body["status"], body["errorType"]) == (400, "error", "bad_data")
    assert body["error"].startswith(problem)
    assert len(left(engine)) == 4


@pytest.mark.parametrize("path", ["delete_series", "clean_tombstones", "snapshot"])
async def test_all_is_off_unless_turned_on(engine, serve, path):
    client = serve(routes(admin.endpoints(admin.Admin(engine, lambda: False, matchers_of, lambda scope: "default"))))
    answer = await client.post(f"{BASE}/{path}", params={"match[]": "a"})
    assert answer.status_code == 503
    assert answer.json() == {"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"}
    assert (await client.get(f"{BASE}/{path}")).status_code == 405
    assert len(left(engine)) == 4


async def test_a_snapshot_has_what_else_belongs_into_it(engine, serve, tmp_path):
    """The state of alerts, copied while a writer holds it open, reads as it was."""
    state = sqlite3.connect(tmp_path / "data" / "vedette.db", isolation_level=None)
    state.execute("PRAGMA journal_mode = WAL")
    state.execute("CREATE TABLE silences (text)")
    state.execute("INSERT INTO silences VALUES ('weekend')")
    state.execute("BEGIN IMMEDIATE")
    state.execute("INSERT INTO silences VALUES ('not yet committed')")

    def beside(into):
        copy_records(tmp_path / "data" / "vedette.db", into / "vedette.db")

    client = serve(routes(admin.endpoints(admin.Admin(engine, lambda: True, matchers_of, lambda scope: "default", beside=beside))))
    name = (await client.post(f"{BASE}/snapshot")).json()["data"]["name"]
    state.close()
    copied = tmp_path / "data" / "snapshots" / name / "vedette.db"
    with closing(sqlite3.connect(f"file:{copied}?mode=ro", uri=True)) as found:
        assert found.execute("SELECT text FROM silences").fetchall() == [("weekend",)]
    assert sorted(p.name for p in copied.parent.glob("vedette.db*")) == ["vedette.db"]


async def test_a_state_that_cannot_be_copied_leaves_no_snapshot_behind(engine, serve, tmp_path):
    (tmp_path / "data" / "vedette.db").write_bytes(b"not a database at all, but long enough to be looked at as one" * 100)

    def beside(into):
        copy_records(tmp_path / "data" / "vedette.db", into / "vedette.db")

    client = serve(routes(admin.endpoints(admin.Admin(engine, lambda: True, matchers_of, lambda scope: "default", beside=beside))))
    answer = await client.post(f"{BASE}/snapshot")
    assert (answer.status_code, "cannot be copied" in answer.json()["error"]) == (503, True)
    assert list((tmp_path / "data" / "snapshots").iterdir()) == []
