"""The whole server on PostgreSQL, samples and state: what is acknowledged outlives the database's and the server's end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import httpx
import pytest
from tests.e2e import patient

pytestmark = pytest.mark.timeout(600)

RECORDS = "/api/v1/monitoring/metrics"


@pytest.fixture
def database(new_postgres_server):
    """(a server of the test's own, the URL of an empty database as the documents write it)."""
    server = new_postgres_server()
    return server, server.new_database().replace("postgresql://", "postgresql+asyncpg://")


def silence(now: float) -> dict[str, object]:
    stamps = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + s)) for s in (0, 3600)]
    matcher = {"name": "a", "value": "b", "isRegex": False, "isEqual": True}
    return {"matchers": [matcher], "startsAt": stamps[0], "endsAt": stamps[1], "createdBy": "me", "comment": "why"}


def test_a_database_that_goes_and_comes_while_the_server_runs(launch, tools, database):
    postgres, url = database
    env = tools.environment(DATABASE_URL=url, VEDETTE_STORAGE_BACKEND="postgres", VEDETTE_HOST_ENABLED="false")
    server = launch.vedette(env=env)
    assert server.get("/health").json()["dependencies"] == {"storage": "ok", "database": "ok"}
    made = server.post(RECORDS, json={"service_name": "User Service", "metric_name": "CPU_usage", "value": 72.5})
    assert made.status_code == 201
    query = 'SELECT s.id FROM vedette_samples s JOIN vedette_series v ON v.id = s.series_id WHERE labels @> \'{"__name__": "CPU_usage"}\''
    assert postgres.sql(url, query) == [str(made.json()["id"])], "a record's id is its row's"
    assert [row["id"] for row in server.get(RECORDS, metric_name="CPU_usage").json()] == [made.json()["id"]]
    silenced = server.post("/api/v2/silences", json=silence(time.time()))
    assert silenced.status_code == 200
    now = int(time.time() * 1000)
    assert server.write([({"__name__": "kept", "n": str(n)}, [(now, float(n))]) for n in range(50)]).status_code == 204

    postgres.stop("immediate")
    asked = server.get(RECORDS, service_name="User Service")
    assert (asked.status_code, asked.headers["content-type"]) == (500, "application/json")
    assert "PostgreSQL" in asked.json()["detail"]
    query = server.get("/api/v1/query", query="kept")
    assert (query.status_code, query.json()["errorType"]) == (500, "internal")
    written = server.write([({"__name__": "lost"}, [(now, 1.0)])])
    assert written.status_code == 503
    assert int(written.headers["retry-after"]) > 0
    refused = server.post("/api/v2/silences", json=silence(time.time()))
    assert refused.status_code == 500
    tools.eventually(lambda: server.get("/health").json()["status"] == "degraded", "health tells of the database")
    assert "PostgreSQL" in server.get("/health").json()["dependencies"]["database"]
    assert server.get("/-/healthy").status_code == 200
    assert "sesame" not in server.logged()

    postgres.start()
    tools.eventually(lambda: server.get("/health").json()["status"] == "healthy", "health is well again by itself")
    assert [row["value"] for row in server.get(RECORDS, service_name="User Service").json()] == [72.5]
    assert server.value("count(kept)") == 50
    assert len(server.get("/api/v2/silences").json()) == 1
    assert server.write([({"__name__": "after"}, [(now, 1.0)])]).status_code == 204

    server.kill()
    again = launch.vedette(env=env)
    assert again.value("sum(kept)") == sum(range(50))
    assert again.value("after") == 1
    assert [row["id"] for row in again.get(RECORDS, service_name="User Service").json()] == [made.json()["id"]]
    assert again.get("/api/v2/silences").json()[0]["id"] == silenced.json()["silenceID"]
    second = subprocess.run(
        [sys.executable, "-m", "vedette", "serve", "--port", "0", "--data", str(launch.folder / "other")],
        capture_output=True, text=True, env=env, timeout=patient.SECONDS, check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert "another Vedette writes to this database" in second.stderr


def test_with_the_documents_environment_the_database_goes_and_comes_under_load(launch, tools, database):
    """`DATABASE_URL` alone, as Gamiroo's document sets it: samples are Vedette's own, state is PostgreSQL's; nothing is lost."""
    postgres, url = database
    server = launch.vedette(env=tools.environment(DATABASE_URL=url, VEDETTE_HOST_ENABLED="false"))
    acknowledged: list[int] = []
    statuses: set[int] = set()
    ended = threading.Event()

    def write() -> None:
        with httpx.Client(timeout=patient.SECONDS) as client:
            number = 0
            while not ended.is_set():
                number += 1
                body = {"service_name": "load", "metric_name": "number", "value": number}
                answer = client.post(server.url + RECORDS, json=body)
                statuses.add(answer.status_code)
                if answer.status_code == 201:
                    acknowledged.append(number)
                else:
                    assert answer.headers["content-type"] == "application/json"

    sender = threading.Thread(target=write)
    sender.start()
    try:
        tools.eventually(lambda: len(acknowledged) > 20, "records are written")
        postgres.stop("immediate")
        for path in (f"{RECORDS}?limit=1", f"{RECORDS}?service_name=load"):
            asked = server.client.get(server.url + path)
            assert (asked.status_code, asked.headers["content-type"]) == (500, "application/json")
            assert "PostgreSQL" in asked.json()["detail"]
        tools.eventually(lambda: 500 in statuses, "writing is refused, too")
        tools.eventually(lambda: server.get("/health").json()["status"] == "degraded", "health tells of the database")
        detailed = server.get("/api/v1/monitoring/health/detailed").json()
        assert (detailed["status"], detailed["components"]["database"]["status"]) == ("degraded", "unhealthy")
        assert server.get("/api/v1/query", query="number").status_code == 200, "what stands on samples alone goes on"
        before = len(acknowledged)
        postgres.start()
        tools.eventually(lambda: len(acknowledged) > before + 20, "it recovers by itself")
    finally:
        ended.set()
        sender.join()
    assert statuses == {201, 500}
    tools.eventually(lambda: server.get("/health").json()["status"] == "healthy", "health is well again")
    found = {record["value"] for record in server.get(RECORDS, service_name="load", limit=10_000).json()}
    assert found >= {float(number) for number in acknowledged[-9_000:]}


def test_init_db_makes_the_tables_and_starts_nothing(tools, database, tmp_path):
    postgres, url = database

    def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vedette", *words]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=tools.environment(**env), timeout=patient.SECONDS, check=False
        )

    done = run("init-db", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("records: postgresql 1")
    assert int(postgres.sql(url, "SELECT max(version) FROM vedette.schema_version")[0]) > 3
    assert run("init-db", DATABASE_URL=url, VEDETTE_STORAGE_BACKEND="postgres").stdout.endswith("samples: postgres: ready\n")
    assert postgres.sql(url, "SELECT count(*) FROM vedette_samples") == ["0"]
    assert run("init-db", "--data", "d").stdout.startswith("records: sqlite 3")
    assert (tmp_path / "d" / "vedette.db").is_file()

    shown = run("config", DATABASE_URL=url)
    assert "records.url" in shown.stdout
    assert "sesame" not in shown.stdout + shown.stderr
    for bad in (url.replace("postgresql+asyncpg", "oracle"), url.rpartition("/")[0] + "/nowhere"):
        refused = run("init-db", DATABASE_URL=bad)
        assert refused.returncode == 2, refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
        assert "sesame" not in refused.stderr
    postgres.stop()
    gone = run("init-db", DATABASE_URL=url)
    assert gone.returncode == 1, gone.stderr
    assert "sesame" not in gone.stderr
    assert len(gone.stderr.strip().splitlines()) == 1
