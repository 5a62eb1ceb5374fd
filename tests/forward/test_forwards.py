"""Everything stored is also sent elsewhere: relabelled, queued on disk, sent until it is there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import cramjam
import numpy as np
import pytest

from vedette import configfile
from vedette.clock import SystemClock
from vedette.errors import BadInput, Undeliverable
from vedette.forward import forwarder as module
from vedette.forward.config import ForwardSettings, RemoteWriteConfig, checked, of_file
from vedette.forward.forwards import Forwards
from vedette.model.histograms import CUSTOM_SCHEMA, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import STALE, Appended, MetricMetadata, SampleBatch, canonical, is_stale
from vedette.wire import remote_write

NOW = 1_700_000_000_000
URL = "http://127.0.0.1:9/api/v1/write"


class Receiver:
    """Takes the place of HTTP: what was delivered, by URL; `error` is raised instead while it is set."""

    def __init__(self):
        self.bodies: list[tuple[str, bytes, dict[str, str]]] = []
        self.error: Exception | None = None
        self.seconds: list[bool] = []

    async def __call__(self, _http, url, body, *, headers, timeout_s, second):
        if self.error is not None:
            raise self.error
        self.seconds.append(second)
        self.bodies.append((url, body, dict(headers)))

    def samples(self, url=URL):
        """{series: [(time, value)]} in the order of arrival."""
        found: dict[str, list[tuple[int, float]]] = {}
        for to, body, _ in self.bodies:
            batch = remote_write.parse(body, remote_write.remote_write_keyspace())
            for i in range(batch.series_count if to == url else 0):
                labels = remote_write.parse_labels(batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes())
                span = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
                found.setdefault(str(labels), []).extend(zip(batch.timestamps[span].tolist(), batch.values[span].tolist(), strict=True))
        return found


@pytest.fixture
def receiver(monkeypatch):
    made = Receiver()
    monkeypatch.setattr(module, "deliver", made)
    return made


@pytest.fixture
async def make(tmp_path):
    """Makes forwards with the `remote_write` of a YAML text; closed at the end."""
    made: list[Forwards] = []

    async def make_(text: str, *, external=None, queue_size=1 << 20) -> Forwards:
        forwards = Forwards(SystemClock(), tmp_path / "forward", ForwardSettings(queue_size))
        await forwards.apply(parsed(text), external_labels=external or Labels())
        made.append(forwards)
        return forwards

    yield make_
    for forwards in made:
        await forwards.close()


def parsed(text: str) -> tuple[RemoteWriteConfig, ...]:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class File:
        remote_write: tuple[RemoteWriteConfig, ...] = ()

    return checked(configfile.parse(text, File, name="prometheus.yml").remote_write)


def metric(name, /, **labels):
    return Labels.of({"__name__": name, **labels})


async def eventually(check, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.005)


def stored(ids):
    return Appended(np.array(ids, dtype=np.int64), samples=len(ids))


SPACE = canonical()


async def test_what_is_stored_is_sent_with_external_labels_and_after_relabelling(make, receiver):
    text = f"""
remote_write:
  - url: {URL}
    headers: {{X-Team: a}}
    write_relabel_configs:
      - {{source_labels: [__name__], regex: secret_.*, action: drop}}
      - {{source_labels: [instance], target_label: host}}
      - {{regex: instance, action: labeldrop}}
"""
    forwards = await make(text, external=Labels.of(cluster="c1", job="theirs"))
    rows = [metric("up", instance="h1", job="mine"), metric("secret_x"), metric("m"), metric("refused")]
    for k in range(2):
        await forwards.take(SampleBatch.of(SPACE, rows, [NOW + k] * 4, [1.0, 2.0, 3.0, 4.0]), stored([7, 3, 0, -1]))
    await eventually(lambda: forwards.states()[0].sent == 4)
    assert receiver.samples() == {
        'up{cluster="c1", host="h1", job="mine"}': [(NOW, 1.0), (NOW + 1, 1.0)],
        'm{cluster="c1", job="theirs"}': [(NOW, 3.0), (NOW + 1, 3.0)],
    }
    assert receiver.bodies[0][2] == {"X-Team": "a"}


async def test_stale_markers_by_id_are_sent_for_series_that_were_met(make, receiver):
    forwards = await make(f"remote_write: [{{url: {URL}}}]")
    await forwards.take(SampleBatch.of(SPACE, [metric("m")], [NOW], [1.0]), stored([5]))
    by_id = SampleBatch.by_id(SPACE, np.array([5, 9]), np.array([NOW + 1] * 2), np.array([STALE] * 2))
    await forwards.take(by_id, stored([5, 9]))
    await eventually(lambda: forwards.states()[0].sent == 2)
    (samples,) = receiver.samples().values()
    assert is_stale(np.array([v for _, v in samples])).tolist() == [False, True]
    # The other one was met by nobody yet; once it is, it is sent.
    await forwards.take(SampleBatch.of(SPACE, [metric("n")], [NOW + 2], [1.0]), stored([9]))
    await eventually(lambda: "n" in receiver.samples())


async def test_other_tenants_are_not_forwarded(make, receiver):
    forwards = await make(f"remote_write: [{{url: {URL}}}]")
    await forwards.take(SampleBatch.of(canonical("alice"), [metric("hers")], [NOW], [1.0]), stored([1]))
    await forwards.take(SampleBatch.of(SPACE, [metric("m")], [NOW], [1.0]), stored([2]))
    await eventually(lambda: forwards.states()[0].sent == 1)
    assert [*receiver.samples()] == ["m"]


@pytest.mark.parametrize("send", [True, False])
async def test_native_histograms_and_metadata_go_where_they_are_wanted(make, receiver, send):
    choice = f"send_native_histograms: {str(send).lower()}, metadata_config: {{send: {str(send).lower()}}}"
    forwards = await make(f"remote_write: [{{url: {URL}, {choice}}}]")
    layout = Layout(CUSTOM_SCHEMA, 0.0, (1.0,), np.arange(2, dtype=np.int32), np.zeros(0, np.int32))
    one = Histogram(layout, np.array([3.0, 4.5, 0.0, 1, 2]), 0)
    about = [MetricMetadata("m", "gauge", "What.", "")]
    batch = SampleBatch.of(SPACE, [metric("h"), metric("m")], [NOW] * 2, [one, 1.0], metadata=about)
    await forwards.take(batch, stored([1, 2]))
    await eventually(lambda: forwards.states()[0].sent == (2 if send else 1))
    bodies = [remote_write.parse(body, remote_write.remote_write_keyspace()) for _, body, _ in receiver.bodies]
    assert sum(0 if b.histograms is None else len(b.histograms) for b in bodies) == send
    assert {m for b in bodies for m in b.metadata} == {*(about if send else [])}


async def test_what_is_known_of_a_metric_is_sent_once_and_again_when_it_changes_or_did_not_fit(make, receiver):
    forwards = await make(f"remote_write: [{{url: {URL}}}]")

    def batch(at: int, text: str) -> SampleBatch:
        return SampleBatch.of(SPACE, [metric("m")], [NOW + at], [1.0], metadata=[MetricMetadata("m", "gauge", text, "")])

    for at, text in enumerate(["old", "old", "new", "new"]):
        await forwards.take(batch(at, text), stored([1]))
        await eventually(lambda at=at: forwards.states()[0].sent == at + 1)
    (only,) = forwards._all.values()
    told = [m.help for _, body, _ in receiver.bodies for m in remote_write.parse(body, remote_write.remote_write_keyspace()).metadata]
    assert told == ["old", "new"]
    only.queue._limit = 0
    await forwards.take(batch(5, "newer"), stored([1]))
    only.queue._limit = 1 << 20
    await forwards.take(batch(6, "newer"), stored([1]))
    await eventually(lambda: forwards.states()[0].sent == 5)
    told = [m.help for _, body, _ in receiver.bodies for m in remote_write.parse(body, remote_write.remote_write_keyspace()).metadata]
    assert told == ["old", "new", "newer"]


async def test_what_is_queued_outlives_the_process_and_the_servers_outage(make, receiver):
    receiver.error = Undeliverable("connection refused", reason="refused", retryable=True)
    text = f"remote_write: [{{url: {URL}, name: far, queue_config: {{min_backoff: 5ms, max_backoff: 10ms}}}}]"
    forwards = await make(text)
    for k in range(3):
        await forwards.take(SampleBatch.of(SPACE, [metric("m")], [NOW + k], [float(k)]), stored([1]))
    await eventually(lambda: forwards.states()[0].retries > 1)
    state = forwards.states()[0]
    assert (state.name, state.queued, state.sent, state.problem) == ("far", 3, 0, "connection refused")
    await forwards.close()
    receiver.error = None
    again = await make(text)
    await eventually(lambda: again.states()[0].queued == 0)
    assert receiver.samples() == {"m": [(NOW + k, float(k)) for k in range(3)]}


async def test_a_full_queue_holds_nobody_up_and_is_counted(make, receiver):
    receiver.error = Undeliverable("connection refused", reason="refused", retryable=True)
    forwards = await make(f"remote_write: [{{url: {URL}}}]", queue_size=500)
    for k in range(50):
        await forwards.take(SampleBatch.of(SPACE, [metric("m")], [NOW + k], [1.0]), stored([1]))
    state = forwards.states()[0]
    assert state.dropped > 0
    assert state.dropped + state.queued == 50


async def test_what_the_server_refuses_is_kept_aside(make, receiver, tmp_path):
    receiver.error = Undeliverable("server returned HTTP status 400 Bad Request: bad", reason="status", retryable=False)
    forwards = await make(f"remote_write: [{{url: {URL}, name: far}}]")
    await forwards.take(SampleBatch.of(SPACE, [metric("m")], [NOW], [1.0]), stored([1]))
    await eventually(lambda: forwards.states()[0].dead == 1)
    (body,) = (tmp_path / "forward" / "far" / "dead").glob("*.snappy")
    assert b"__name__" in bytes(cramjam.snappy.decompress_raw(body.read_bytes()))


async def test_a_reload_keeps_what_is_unchanged_and_lets_go_of_what_is_gone(make, receiver):
    other = "http://127.0.0.1:9/other"
    forwards = await make(f"remote_write: [{{url: {URL}, name: a}}, {{url: {other}, name: b}}]")
    kept = forwards._all["a"]
    await forwards.apply(parsed(f"remote_write: [{{url: {URL}, name: a}}, {{url: {other}/2, name: b}}]"))
    assert forwards._all["a"] is kept
    await forwards.take(SampleBatch.of(SPACE, [metric("m")], [NOW], [1.0]), stored([1]))
    await eventually(lambda: sum(s.sent for s in forwards.states()) == 2)
    assert sorted(url for url, _, _ in receiver.bodies) == sorted([URL, f"{other}/2"])
    await forwards.apply([])
    assert forwards.states() == []
    await forwards.take(SampleBatch.of(SPACE, [metric("m")], [NOW + 1], [1.0]), stored([1]))
    assert len(receiver.bodies) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {}", "lacks the key url"),
        ("- url: ftp://h/", "not the URL of a server"),
        (
            "- {url: 'http://h/', protobuf_message: io.prometheus.write.v3.Request}",
            "expected prometheus.WriteRequest or io.prometheus.write.v2",
        ),
        ("- {url: 'http://h/', headers: {Authorization: x}}", "may not be set"),
        ("- {url: 'http://h/', sigv4: {}}", "signing proxy"),
        ("- {url: 'http://h/', queue_config: {max_shards: 0}}", "1 or more"),
        ("- {url: 'http://h/', queue_config: {sample_age_limit: 1h}}", "given up for its age"),
        ("- {url: 'http://h/', queue_conf: {}}", "did you mean queue_config"),
        ("- {url: 'http://h/', name: a}\n- {url: 'http://i/', name: a}", "found multiple remote write configs"),
        ("- {url: 'http://h/'}\n- {url: 'http://h/'}", "found multiple remote write configs"),
        ("- {url: 'http://h/', name: ../up}", "no name for a queue"),
        ("- {url: 'http://h/', bearer_token: a, basic_auth: {username: b}}", "at most one of"),
    ],
)
def test_a_bad_section_is_pointed_at(text, words):
    with pytest.raises(BadInput, match=words):
        parsed("remote_write:\n" + "\n".join("  " + line for line in text.splitlines()))


def test_files_are_taken_from_the_configurations_directory():
    (config,) = of_file(parsed("remote_write: [{url: 'http://h/', bearer_token_file: t}]"), Path("/etc/v"))
    assert config.bearer_token_file == "/etc/v/t"
    assert config.label == parsed("remote_write: [{url: 'http://h/', bearer_token_file: u}]")[0].label


async def test_series_that_are_stored_no_more_are_forgotten_and_met_again(make, receiver, monkeypatch):
    monkeypatch.setattr("vedette.storage.names._LEAST", 3)
    monkeypatch.setattr("vedette.forward.forwarder._FORGET_S", 0.0)
    forwards = await make(f"remote_write: [{{url: {URL}}}]")
    rows = [metric("m", i=str(i)) for i in range(12)]
    (forwarder,) = forwards._all.values()

    async def take(k, numbers, by_id=()):
        await eventually(lambda: not forwarder.queue.samples)
        await forwards.take(
            SampleBatch.of(SPACE, [rows[i] for i in numbers], [NOW + k] * len(numbers), [k] * len(numbers)), stored(numbers)
        )
        ids = np.array(by_id, dtype=np.int64)
        await eventually(lambda: not forwarder.queue.samples)
        await forwards.take(SampleBatch.by_id(SPACE, ids, np.full(len(ids), NOW + k), np.full(len(ids), float(k))), stored(by_id))

    await take(0, range(12), by_id=[7])
    for k in range(1, 8):
        await take(k, [0, 5], by_id=[7])
    assert len(forwarder._names) == 3, "what is stored by its number alone is not gone"
    await take(8, range(12))
    await take(9, range(12))
    await eventually(lambda: not forwarder.queue.samples)
    # Sent once by its name and once by its number, at one time, is sent twice: whoever stores it knows that.
    wanted = {f'm{{i="{i}"}}': [(NOW + k, float(k)) for k in range(10) if k in (0, 8, 9) or i in (0, 5, 7)] for i in range(12)}
    assert {series: sorted(set(found)) for series, found in receiver.samples().items()} == wanted
    assert forwards.states()[0].dropped == 0


@pytest.mark.parametrize(("message", "second"), [("prometheus.WriteRequest", False), ("io.prometheus.write.v2.Request", True)])
async def test_it_speaks_the_version_that_the_file_names(make, receiver, message, second):
    forwards = await make(f"remote_write: [{{url: {URL}, protobuf_message: {message}}}]")
    await forwards.take(SampleBatch.of(SPACE, [metric("m")], [NOW], [1.0]), stored([0]))
    await eventually(lambda: forwards.states()[0].sent == 1)
    assert receiver.seconds == [second]
