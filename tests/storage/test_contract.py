"""What every backend must do, whichever it is."""

from __future__ import annotations

import asyncio
import functools
import urllib.request

import numpy as np
import pytest

from vedette.errors import BadInput, LimitExceeded
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import STALE, KeySpace, MetricMetadata, SampleBatch, canonical, is_stale

# The embedded engine three times: samples may be in memory, in blocks, or in both when they are asked for.
ALL = ["memory", "blocks", "both", "postgres", "prometheus", "victoria-metrics"]
EMBEDDED, REMOTE = ALL[:3], ALL[4:]

# Where a peer means something else, or its API does not tell; each is said in docs/backends.md.
_THERE = "the queue takes it, and the server behind decides"
DIFFERENT = {
    "test_tenants_see_only_their_own": dict.fromkeys(REMOTE, "a single server has no tenants"),
    "test_values_keep_their_bits": dict.fromkeys(REMOTE, "the API tells neither stale markers nor the bits of a NaN"),
    "test_a_repeated_sample_is_fine_and_another_value_a_duplicate": dict.fromkeys(REMOTE, _THERE),
    "test_late_samples_are_kept_within_the_window": dict.fromkeys(REMOTE, _THERE),
    "test_samples_beyond_retention_are_too_old": dict.fromkeys(REMOTE, _THERE),
    "test_extreme_times_neither_crash_nor_wrap": dict.fromkeys(REMOTE, "no server takes them"),
    "test_samples_are_appended_by_id": dict.fromkeys(REMOTE, "the API tells no stale markers"),
    "test_a_series_twice_in_one_batch_is_one_series": dict.fromkeys(REMOTE, _THERE),
    "test_labels_are_listed_within_matchers_and_range": {
        "prometheus": "lists by its head's whole range",
        "victoria-metrics": "lists by the day",
    },
    "test_the_range_is_inclusive_at_both_ends": {},
    "test_reads_beside_appends_see_whole_series": dict.fromkeys(REMOTE, "lanes arrive one after the other"),
    "test_stats_say_what_is_there": dict.fromkeys(REMOTE, "figures are the server's own"),
}
EVER = (-(1 << 62), 1 << 62)


def pytest_generate_tests(metafunc):
    """Each test on each backend that promises the same; what is different about the others stands above."""
    if "backend" in metafunc.fixturenames:
        different = DIFFERENT.get(metafunc.function.__name__, {})
        metafunc.parametrize("backend", [backend for backend in ALL if backend not in different])


def test_every_difference_names_a_test():
    assert not [name for name in DIFFERENT if name not in globals()]


@pytest.fixture
def open_storage(request, backend):
    """Opens the backend; keywords are settings."""
    if backend in REMOTE:
        url, open_remote = request.getfixturevalue("start_peer")(backend).url, request.getfixturevalue("open_remote")
        return functools.partial(open_remote, url)
    return request.getfixturevalue({"postgres": "open_postgres"}.get(backend, "open_engine"))


@pytest.fixture
async def storage(open_storage):
    return await open_storage()


@pytest.fixture
def settle(backend, storage):
    """Returns once the samples are where they are to be asked for."""

    async def settle_() -> None:
        if backend in ("blocks", "both"):
            await storage.flush()
        if backend == "blocks":
            storage._flusher.release()
        await arrived(backend, storage)

    return settle_


async def arrived(backend, storage):
    """Returns once a server behind has what was appended, and tells it."""
    while backend in REMOTE and storage.queued:
        await asyncio.sleep(0.005)
    if backend == "victoria-metrics":
        answer = await asyncio.to_thread(urllib.request.urlopen, f"{storage._remote.url}/internal/force_flush", timeout=60)
        answer.close()


def hosts(tools, n=6):
    return [tools.metric("cpu", host=f"h{i}", **({"zone": f"z{i % 2}"} if i % 3 else {})) for i in range(n)]


async def test_what_is_appended_is_selected(storage, settle, tools, keyspace):
    rows = [(labels, [(tools.now + 1000 * k, i + k / 10) for k in range(40)]) for i, labels in enumerate(hosts(tools))]
    appended = await storage.append(tools.batch(rows, keyspace))
    await settle()
    assert (appended.samples, appended.new_series, appended.dropped) == (240, 6, {})
    got = tools.contents(storage)
    assert got == {labels: [(t, int(np.float64(v).view(np.int64))) for t, v in samples] for labels, samples in rows}


async def test_the_range_is_inclusive_at_both_ends(storage, settle, tools, keyspace):
    labels = tools.metric("m")
    await storage.append(tools.batch([(labels, [(tools.now + k, float(k)) for k in range(100)])], keyspace))
    await settle()
    found = storage.select("default", [], tools.now + 10, tools.now + 20)
    assert found.timestamps.tolist() == [tools.now + k for k in range(10, 21)]
    assert len(storage.select("default", [], tools.now + 100, tools.now + 200)) == 0
    assert len(storage.select("default", [], tools.now - 5, tools.now - 1)) == 0


@pytest.mark.parametrize(
    "matchers",
    [
        [("host", "=", "h2")],
        [("host", "!=", "h2")],
        [("host", "=~", "h[1-3]")],
        [("host", "!~", "h[1-3]")],
        [("host", "=~", "h.*"), ("zone", "!=", "z1")],
        [("zone", "=", "")],
        [("zone", "!=", "")],
        [("zone", "=~", "|z0")],
        [("zone", "!~", ".+")],
        [("nowhere", "=", "")],
        [("nowhere", "!=", "")],
        [("nowhere", "=", "x")],
        [("__name__", "=", "cpu"), ("host", "=~", ".*"), ("zone", "=~", "z1|z2")],
        [("__name__", "=", "mem")],
        [("host", "=", "h1"), ("host", "!~", "h1|h2")],
        [],
    ],
)
async def test_matchers_select_what_they_match(storage, settle, tools, keyspace, matchers):
    rows = [*hosts(tools), tools.metric("up", host="h1")]
    await storage.append(SampleBatch.of(keyspace, rows, [tools.now] * 7, [1.0] * 7))
    await settle()
    wanted = [Matcher(*m) for m in matchers]
    expected = {labels for labels in rows if all(m.matches(labels.get(m.name)) for m in wanted)}
    assert set(storage.select("default", wanted, *EVER).labels) == expected
    assert storage.series("default", [wanted], *EVER) == sorted(expected)


async def test_tenants_see_only_their_own(storage, settle, tools):
    alice, bob = canonical("alice"), canonical("bob")
    await storage.append(SampleBatch.of(alice, [tools.metric("m", owner="alice")], [tools.now], [1.0]))
    await storage.append(SampleBatch.of(bob, [tools.metric("m", owner="bob"), tools.metric("n")], [tools.now] * 2, [2.0] * 2))
    await settle()
    assert storage.select("alice", [], *EVER).values.tolist() == [1.0]
    assert storage.label_values("alice", "owner", [], *EVER) == ["alice"]
    assert storage.label_values("bob", "__name__", [], *EVER) == ["m", "n"]
    for empty in (
        storage.series("charlie", [[]], *EVER),
        storage.label_names("charlie", [], *EVER),
        storage.select("charlie", [], *EVER).labels,
    ):
        assert len(empty) == 0


async def test_labels_are_listed_within_matchers_and_range(storage, settle, tools, keyspace):
    old, new = tools.metric("m", age="old", a="1"), tools.metric("n", age="new", b="2")
    await storage.append(SampleBatch.of(keyspace, [old, new], [tools.now - 60_000, tools.now], [1.0, 2.0]))
    await settle()
    assert storage.label_names("default", [], *EVER) == ["__name__", "a", "age", "b"]
    assert storage.label_names("default", [], tools.now, tools.now) == ["__name__", "age", "b"]
    assert storage.label_names("default", [[Matcher("a", "=", "1")]], *EVER) == ["__name__", "a", "age"]
    assert storage.label_values("default", "age", [], *EVER) == ["new", "old"]
    assert storage.label_values("default", "age", [], *EVER[:1], tools.now - 1) == ["old"]
    assert storage.label_values("default", "age", [[Matcher("b", "!=", "")], [Matcher("a", "=", "1")]], *EVER) == ["new", "old"]
    assert storage.label_values("default", "nothing", [], *EVER) == []
    both = [[Matcher("age", "=", "new")], [Matcher("age", "=~", "n.*")]]
    assert storage.series("default", both, *EVER) == [new]
    assert storage.series("default", [[]], *EVER, limit=1) == [old]
    assert storage.series("default", [[]], tools.now + 1, tools.now + 2) == []


async def test_values_keep_their_bits(storage, settle, tools, keyspace):
    values = [STALE, float("nan"), -0.0, float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308]
    rows = [(tools.metric("m"), [(tools.now + i, v) for i, v in enumerate(values)])]
    await storage.append(tools.batch(rows, keyspace))
    await settle()
    found = storage.select("default", [], *EVER)
    assert found.values.view(np.int64).tolist() == np.array(values).view(np.int64).tolist()
    assert is_stale(found.values).tolist() == [True] + [False] * 6


async def test_a_repeated_sample_is_fine_and_another_value_a_duplicate(storage, tools, keyspace):
    labels = tools.metric("m")
    for value, samples, dropped in ((1.0, 1, {}), (1.0, 1, {}), (2.0, 0, {"duplicate": 1}), (STALE, 0, {"duplicate": 1})):
        appended = await storage.append(SampleBatch.of(keyspace, [labels], [tools.now], [value]))
        assert (appended.samples, appended.dropped) == (samples, dropped)
    assert storage.select("default", [], *EVER).values.tolist() == [1.0]


async def test_late_samples_are_kept_within_the_window(backend, storage, settle, tools, keyspace):
    labels, hour = tools.metric("m"), 3_600_000
    await storage.append(tools.batch([(labels, [(tools.now - hour - 5, 0.0), (tools.now, 1.0)])], keyspace))
    late = [(tools.now - 10, 2.0), (tools.now - hour, 3.0), (tools.now - 10, 4.0), (tools.now - hour - 1, 5.0)]
    appended = await storage.append(tools.batch([(labels, late)], keyspace))
    assert (appended.samples, appended.dropped) == (2, {"duplicate": 1, "too_old": 1})
    await settle()
    found = storage.select("default", [], *EVER)
    assert found.timestamps.tolist() == [tools.now - hour - 5, tools.now - hour, tools.now - 10, tools.now]
    assert found.values.tolist() == [0.0, 3.0, 2.0, 1.0]


async def test_samples_beyond_retention_are_too_old(storage, tools, keyspace):
    appended = await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now - 31 * 86_400_000], [1.0]))
    assert (appended.samples, appended.dropped) == (0, {"too_old": 1})


@pytest.mark.parametrize("time", [-(1 << 63), (1 << 63) - 1, 0, -1])
async def test_extreme_times_neither_crash_nor_wrap(open_storage, tools, keyspace, time):
    storage = await open_storage(retention=0)
    labels = tools.metric("m")
    await storage.append(SampleBatch.of(keyspace, [labels], [time], [1.0]))
    appended = await storage.append(SampleBatch.of(keyspace, [labels], [tools.now], [2.0]))
    # Behind a sample of the far future every other one is too old.
    kept = [time, tools.now] if time < tools.now else [time]
    assert appended.samples == len(kept) - 1
    await storage.flush()
    assert storage.select("default", [], -(1 << 63), (1 << 63) - 1).timestamps.tolist() == sorted(kept)


async def test_one_bad_series_refuses_the_whole_batch(storage, tools):
    def resolve(key: bytes) -> Labels | None:
        if b"bad" in key:
            raise BadInput("a bad series", where="series 2")
        return Labels.decode(key)

    space = KeySpace("default", resolve)
    good = tools.metric("m", name="good")
    with pytest.raises(BadInput, match="series 2: a bad series"):
        await storage.append(SampleBatch.of(space, [good, tools.metric("m", name="bad")], [tools.now] * 2, [1.0] * 2))
    assert len(storage.select("default", [], *EVER)) == 0
    assert storage.stats().series == 0
    assert (await storage.append(SampleBatch.of(space, [good], [tools.now], [1.0]))).new_series == 1


async def test_a_dropped_series_is_resolved_once_and_counted(storage, tools):
    calls = []

    def resolve(key: bytes) -> Labels | None:
        calls.append(key)
        return None if b"secret" in key else Labels.decode(key)

    space = KeySpace("default", resolve)
    for k in range(2):
        appended = await storage.append(SampleBatch.of(space, [tools.metric("secret"), tools.metric("m")], [tools.now + k] * 2, [1.0] * 2))
        assert (appended.ids >= 0).tolist() == [False, True]
        assert (appended.samples, appended.dropped) == (1, {"relabelled": 1})
    assert len(calls) == 2


async def test_key_spaces_that_name_one_series_share_it(storage, settle, tools):
    a, b = canonical(), canonical()
    first = await storage.append(SampleBatch.of(a, [tools.metric("m")], [tools.now], [1.0]))
    second = await storage.append(SampleBatch.of(b, [tools.metric("m")], [tools.now + 1], [2.0]))
    assert first.ids.tolist() == second.ids.tolist()
    assert second.new_series == 0
    await settle()
    assert storage.select("default", [], *EVER).values.tolist() == [1.0, 2.0]


async def test_samples_are_appended_by_id(storage, settle, tools, keyspace):
    appended = await storage.append(SampleBatch.of(keyspace, [tools.metric("m"), tools.metric("n")], [tools.now] * 2, [1.0, 2.0]))
    ids = appended.ids[1:]
    await storage.append(SampleBatch.by_id(keyspace, ids, np.array([tools.now + 5]), np.array([STALE])))
    await settle()
    found = storage.select("default", [Matcher("__name__", "=", "n")], *EVER)
    assert is_stale(found.values).tolist() == [False, True]


async def test_a_series_twice_in_one_batch_is_one_series(storage, settle, tools, keyspace):
    labels = tools.metric("m")
    rows = [(labels, [(tools.now, 1.0)]), (tools.metric("n"), []), (labels, [(tools.now + 1, 2.0), (tools.now + 1, 3.0)])]
    appended = await storage.append(tools.batch(rows, keyspace))
    assert (appended.samples, appended.new_series, appended.dropped) == (2, 2, {"duplicate": 1})
    await settle()
    assert storage.select("default", [], *EVER).values.tolist() == [1.0, 2.0]


async def test_an_empty_batch_is_fine(storage, keyspace):
    appended = await storage.append(SampleBatch.of(keyspace, [], [], []))
    assert (appended.samples, len(appended.ids)) == (0, 0)


async def test_metadata_is_kept_and_the_later_counts(storage, settle, tools, keyspace):
    def reported(*items: MetricMetadata) -> SampleBatch:
        return SampleBatch.of(keyspace, [], [], [], metadata=items)

    await storage.append(reported(MetricMetadata("b", "gauge", "first"), MetricMetadata("a", "counter", "x", "seconds")))
    await storage.append(reported(MetricMetadata("b", "gauge", "second")))
    await settle()
    assert storage.metadata("default") == [MetricMetadata("a", "counter", "x", "seconds"), MetricMetadata("b", "gauge", "second")]
    assert storage.metadata("default", "b") == [MetricMetadata("b", "gauge", "second")]
    assert storage.metadata("default", "c") == []
    assert storage.metadata("other") == []


async def test_a_select_beyond_its_budget_is_refused(backend, open_storage, tools, keyspace):
    storage = await open_storage(select_samples=10, select_series=3)
    await storage.append(tools.batch([(tools.metric("m"), [(tools.now + k, 0.0) for k in range(11)])], keyspace))
    await arrived(backend, storage)
    with pytest.raises(LimitExceeded, match="more than 10"):
        storage.select("default", [], *EVER)
    await storage.append(SampleBatch.of(keyspace, [tools.metric(f"n{i}") for i in range(4)], [tools.now] * 4, [0.0] * 4))
    await arrived(backend, storage)
    with pytest.raises(LimitExceeded, match="4 series, more than 3"):
        storage.select("default", [Matcher("__name__", "=~", "n.")], *EVER)
    if backend in EMBEDDED:
        await storage.flush()
        storage._flusher.release()
    with pytest.raises(LimitExceeded, match="more than 10"):
        storage.select("default", [Matcher("__name__", "=", "m")], *EVER)


async def test_reads_beside_appends_see_whole_series(storage, tools, keyspace):
    rows = [tools.metric("m", i=str(i)) for i in range(50)]

    async def write() -> None:
        for k in range(60):
            await storage.append(SampleBatch.of(keyspace, rows, [tools.now + k] * 50, [float(k)] * 50))
            if k == 30:
                await storage.flush()

    writing = asyncio.create_task(write())
    while not writing.done():
        found = await asyncio.to_thread(storage.select, "default", [], *EVER)
        counts = set(np.diff(found.offsets).tolist())
        assert len(counts) <= 1, "a batch was seen in part"
        assert (np.diff(found.timestamps) == 1).sum() == len(found.timestamps) - len(found)
    await writing
    assert np.diff(storage.select("default", [], *EVER).offsets).tolist() == [60] * 50


async def test_appends_after_close_are_refused(storage, tools, keyspace):
    await storage.close()
    with pytest.raises(LimitExceeded, match="closing"):
        await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0]))


async def test_stats_say_what_is_there(storage, settle, tools, keyspace):
    await storage.append(SampleBatch.of(keyspace, [*hosts(tools), tools.metric("up", host="h1")], [tools.now] * 7, [1.0] * 7))
    await settle()
    stats = storage.stats()
    assert (stats.series, stats.samples_appended, stats.replayed) == (7, 7, True)
    assert (stats.min_time, stats.max_time) == (tools.now, tools.now)
    assert list(stats.series_by_metric) == [("cpu", 6), ("up", 1)]
    assert ("host", 6) in stats.values_by_label
    assert ("host=h1", 2) in stats.series_by_pair
    assert stats.label_pairs == 10
    assert dict(stats.memory_by_label)["host"] == 14
