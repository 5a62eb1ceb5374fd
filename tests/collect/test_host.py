"""This machine's and Vedette's own expositions; a real node_exporter beside them, into the real storage."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from vedette import configfile
from vedette.clock import SystemClock, now_ms
from vedette.collect import host
from vedette.collect.collector import Collector
from vedette.collect.config import CollectConfig, ScrapeConfigFile
from vedette.collect.host import host_target, read_host
from vedette.collect.own import own_target
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings
from vedette.wire.exposition import exposition_keyspace, parse, parse_series

EXPORTER = shutil.which("prometheus-node-exporter")


def read(body: bytes) -> dict[Labels, float]:
    batch = parse(body, exposition_keyspace("default"), 0).batch
    data = batch.buffer.tobytes()
    keys = [parse_series(data[a:b]) for a, b in zip(batch.key_start, batch.key_end, strict=True)]
    assert len(set(keys)) == len(keys), "a series occurs once"
    return dict(zip(keys, batch.values.tolist(), strict=True))


def total(samples: dict[Labels, float], metric: str, **labels: str) -> float:
    return sum(v for s, v in samples.items() if s.metric == metric and all(s.get(n) == x for n, x in labels.items()))


def test_this_machine() -> None:
    samples = read(read_host())
    assert len({s.get("cpu") for s in samples if s.metric == "node_cpu_seconds_total"}) == os.cpu_count()
    assert 0 < total(samples, "node_memory_MemAvailable_bytes") <= total(samples, "node_memory_MemTotal_bytes")
    roots = [s for s in samples if s.metric == "node_filesystem_size_bytes" and s.get("mountpoint") == "/"]
    assert len(roots) == 1
    size, avail = (total(samples, f"node_filesystem_{n}_bytes", mountpoint="/") for n in ("size", "avail"))
    usage = shutil.disk_usage("/")
    assert size == usage.total and abs(avail - usage.free) < size / 10
    assert total(samples, "node_network_receive_bytes_total", device="lo") >= 0
    assert abs(total(samples, "node_time_seconds") - time.time()) < 60
    assert total(samples, "node_boot_time_seconds") < time.time()
    assert {s.get("nodename") for s in samples if s.metric == "node_uname_info"} == {os.uname().nodename}
    failed = [s.get("collector") for s, v in samples.items() if s.metric == "node_scrape_collector_success" and v != 1]
    assert failed == []


def test_a_part_that_cannot_be_read_is_absent_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: Any) -> None:
        text.one("node_half", "gauge", "Half of it.", 1)
        raise OSError("no such thing")

    monkeypatch.setitem(host._PARTS, "loadavg", broken)
    samples = read(read_host())
    assert total(samples, "node_scrape_collector_success", collector="loadavg") == 0
    assert not [s for s in samples if s.metric in ("node_half", "node_load1")]
    assert total(samples, "node_memory_MemTotal_bytes") > 0


def test_targets_of_this_process() -> None:
    registry = CollectorRegistry()
    Counter("vedette_things", "Things.", ["kind"], registry=registry).labels("a").inc(3)
    own = own_target(registry, "me:8009", 5000)
    assert (own.job, own.instance, own.interval_ms) == ("vedette", "me:8009", 5000)
    assert total(read(own.read()), "vedette_things_total", kind="a") == 3
    assert (host_target(5000).job, host_target(5000).instance) == ("node", socket.gethostname())


@pytest.mark.skipif(EXPORTER is None, reason="needs the Debian package prometheus-node-exporter")
@pytest.mark.timeout(300)  # the first on a machine compiles what takes and reads samples
async def test_a_real_node_exporter_into_the_real_storage(until: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert EXPORTER is not None
    exporter = await asyncio.create_subprocess_exec(
        EXPORTER, f"--web.listen-address={address}", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    clock = SystemClock()
    storage = Engine(StorageSettings(data=tmp_path), clock)
    await storage.start()
    collector = Collector(storage.append, clock)
    text = f"""
scrape_configs:
  - job_name: node
    scrape_interval: 300ms
    static_configs: [{{targets: ["{address}"]}}]
"""
    await collector.apply(
        CollectConfig.of(
            scrape_configs=configfile.parse(text, ScrapeConfigFile).scrape_configs, internal=[host_target(300, instance="own")]
        )
    )

    def values(metric: str, **labels: str) -> list[float]:
        matchers = [Matcher(n, "=", v) for n, v in {"__name__": metric, **labels}.items()]
        return storage.select("default", matchers, 0, now_ms(clock)).values.tolist()

    await until(lambda: values("up", instance=address)[-2:] == [1.0, 1.0] and len(values("node_load1", instance="own")) > 1, 150)
    await until(lambda: values("scrape_series_added", instance=address)[-1] == 0)
    scraped = values("scrape_samples_scraped", instance=address)[-1]
    assert scraped > 100
    assert {m.metric: m.type for m in storage.metadata("default")}["node_cpu_seconds_total"] == "counter"
    # Two readers of one machine agree.
    for metric in ("node_memory_MemTotal_bytes", "node_filefd_maximum", "node_boot_time_seconds"):
        theirs, ours = values(metric, instance=address)[-1], values(metric, instance="own")[-1]
        assert abs(theirs - ours) <= 1, metric
    exporter.terminate()
    await exporter.wait()
    await until(lambda: values("up", instance=address)[-1] == 0.0)
    state = next(s for s in collector.targets() if s.labels.get("instance") == address)
    assert (state.health, "cannot connect" in state.last_error) == ("down", True)
    await collector.close()
    await storage.close()
