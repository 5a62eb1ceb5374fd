"""The benchmark measures what it says: its data is what it claims, it does not count what was lost, and promises are judged right."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import pytest

from vedette.model.samples import KeySpace
from vedette.wire import remote_write

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of bench/, which is no installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"bench.{name}")


def test_bodies_hold_every_series_once_a_step(bench: Any) -> None:
    data = bench("data")
    hosts = data.hosts(3)
    rounds = data.write_bodies(hosts, 4, start_ms=1_700_000_000_000, per_request=128)
    assert [len(requests) for requests in rounds] == [3] * 4  # 300 series, 128 a request
    keyspace: KeySpace = remote_write.remote_write_keyspace("t")
    seen: dict[str, list[tuple[int, float]]] = {}
    for requests in rounds:
        for body in requests:
            batch = remote_write.parse(body, keyspace)
            for i in range(batch.series_count):
                labels = keyspace.resolve(batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes())
                assert batch.offsets[i + 1] - batch.offsets[i] == 1
                seen.setdefault(str(labels), []).append((int(batch.timestamps[i]), float(batch.values[i])))
    assert len(seen) == 300
    for points in seen.values():
        assert [t for t, _ in points] == [1_700_000_000_000 + 10_000 * i for i in range(4)]
    assert sum(len(set(values)) > 1 for values in seen.values()) > 290, "values move"
    counters = [points for labels, points in seen.items() if "devops_net_" in labels or "devops_diskio_" in labels]
    assert len(counters) == 3 * 15
    assert all(np.all(np.diff([v for _, v in points]) >= 0) for points in counters), "counters only grow"


def test_exposition_has_as_many_lines_as_asked(bench: Any) -> None:
    bodies = bench("data").exposition_bodies(1234, 2)
    for body in bodies:
        lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
        assert len(lines) == 1234
        assert len({line.rsplit(" ", 1)[0] for line in lines}) == 1234
    assert bodies[0] != bodies[1]


def test_requests_of_one_series_stay_with_one_sender(bench: Any) -> None:
    rounds = [[f"{step}/{request}".encode() for request in range(5)] for step in range(3)]
    shards = bench("remote_write").shards_of(rounds, 4)
    assert sorted(body for shard in shards for body in shard) == sorted(body for requests in rounds for body in requests)
    for shard in shards:
        owned = {body.split(b"/")[1] for body in shard}
        for other in shards:
            if other is not shard:
                assert not owned & {body.split(b"/")[1] for body in other}
        steps = [int(body.split(b"/")[0]) for body in shard]
        assert steps == sorted(steps), "a series' samples are sent in order"


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted", "met"),
    [(2.0, 1.0, 2, True), (1.99, 1.0, 2, False), (1.0, 3.0, 1, False)],
)
def test_a_ratio_is_judged(bench: Any, ours: float, theirs: float, wanted: float, met: bool) -> None:
    outcome = bench("results").Outcome("c", "C")
    outcome.add("rate", "vedette", "x", [ours, 0.0, 99.0])
    outcome.add("rate", "prometheus", "x", [theirs])
    outcome.promise_ratio("rate", "prometheus", wanted, "budget")
    outcome.promise_ratio("rate", "victoria-metrics", wanted, "budget")
    assert [t.met for t in outcome.targets] == [met], "a peer that was not measured promises nothing"


def test_a_time_is_judged_the_other_way(bench: Any) -> None:
    outcome = bench("results").Outcome("c", "C")
    outcome.add("query", "vedette", "ms", [10.0])
    outcome.add("query", "prometheus", "ms", [30.0])
    outcome.promise_faster("query", "prometheus", 3, "budget")
    outcome.promise_faster("query", "prometheus", 3.1, "budget")
    outcome.promise_at_most("query", 10, "ms", "budget")
    outcome.promise_at_most("query", 9.9, "ms", "budget")
    assert [t.met for t in outcome.targets] == [True, False, True, False]


def test_results_are_kept(bench: Any, tmp_path: Path) -> None:
    results = bench("results")
    outcome = results.Outcome("c", "C", notes=["a note"])
    outcome.add("rate", "vedette", "x", [1.0, 2.0])
    outcome.promise_at_most("rate", 3, "x", "budget")
    results.save(tmp_path / "r.json", [outcome])
    assert results.load(tmp_path / "r.json") == [outcome]
    assert results.load(tmp_path / "absent.json") == []


def test_the_page_says_what_was_missed(bench: Any) -> None:
    outcome = bench("results").Outcome("c", "The case", command="make bench", date="2026-01-01")
    outcome.add("rate", "vedette", "samples/s", [2_500_000.0])
    outcome.promise_at_most("rate", 1, "x", "budget")
    page = bench("report").markdown([outcome], [("processor", "one")])
    assert "## The case" in page
    assert "| rate | samples/s | 2.50 M | – | – |" in page
    assert "**MISS**" in page


def _answer(value: str) -> bytes:
    return b'{"data":{"result":[{"metric":{"a":"1"},"values":[[1,"%s"],[2,"NaN"]]}]}}' % value.encode()


def test_answers_are_compared(bench: Any) -> None:
    difference = bench("queries").difference
    assert difference(_answer("1"), _answer("1.0000000000001")) == ""
    assert "2.0" in difference(_answer("1"), _answer("2"))
    assert "series" in difference(_answer("1"), b'{"data":{"result":[]}}')


def test_what_was_lost_is_told(bench: Any) -> None:
    """A server that acknowledges and forgets must not get a figure."""

    class Forgetful:
        name, query_extra = "forgetful", ""

        def get(self, path: str) -> tuple[int, bytes]:
            return 200, b'{"data":{"result":[{"value":[1,"9"]}]}}'

    with pytest.raises(RuntimeError, match="acknowledged 1000 samples and finds 900"):
        bench("remote_write").count_back(Forgetful(), 0, 1, 1000, seconds=0)


def test_compressed_bodies_are_snappy_blocks(bench: Any) -> None:
    body = bench("data").write_bodies(bench("data").hosts(1), 1, start_ms=1, per_request=200)[0][0]
    assert len(cramjam.snappy.decompress_raw(body)) > 100 * 200
