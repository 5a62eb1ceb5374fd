"""Bytes per sample on disk, once everything is written out and merged: TSBS-like hosts, and a recorded node_exporter.

The recording scrapes a node_exporter of this machine many times a second and stamps the scrapes 15 s apart, so that an hour
takes a minute. Each server is told to write out and merge all it has; then the sizes of its files are summed.
"""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from bench import data, servers
from bench.remote_write import SENDERS, send, shards_of
from bench.results import Outcome, Target

EXPORTER = "prometheus-node-exporter"
STAMP_MS = 15_000
HOW = (
    "All samples are sent by remote write, the server is told to write out and merge what it has (Vedette: snapshot, then "
    "`clean_tombstones`; VictoriaMetrics: `/internal/force_flush`, then `/internal/force_merge`), and the files that hold samples and "
    "their index are summed once their size stands still. Samples alone are `pages` in Vedette's blocks and `data/` beside "
    "`indexdb/` in VictoriaMetrics' directory."
)


@contextmanager
def _exporter() -> Iterator[str]:
    """The address of a node_exporter that runs meanwhile."""
    port = servers.free_port()
    try:
        process = subprocess.Popen(
            [EXPORTER, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise servers.Missing(f"{EXPORTER} is not installed: apt install {EXPORTER}") from None
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        process.terminate()
        process.wait()


def record(scrapes: int, every_s: float) -> tuple[list[bytes], list[np.ndarray]]:
    """(the label bytes of the series that every scrape had, their values at each scrape)."""
    taken: list[dict[tuple[tuple[str, str], ...], float]] = []
    with _exporter() as url:
        deadline = time.monotonic() + 20
        while len(taken) < scrapes:
            began = time.monotonic()
            try:
                with urllib.request.urlopen(url) as answer:
                    text = answer.read().decode()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            families = text_string_to_metric_families(text)
            samples = (s for family in families for s in family.samples)
            taken.append(
                {(("__name__", s.name), *sorted((*s.labels.items(), ("instance", "bench"), ("job", "node")))): s.value for s in samples}
            )
            time.sleep(max(0.0, every_s - (time.monotonic() - began)))
    common = sorted(set.intersection(*(set(one) for one in taken)))
    # Labels in order of their names, as senders write them: the metric's name sorts among the others.
    regions = [b"".join(data.label_field(name, value) for name, value in sorted(series)) for series in common]
    return regions, [np.array([one[series] for series in common]) for one in taken]


def _settled(folder: Path, seconds: float = 60.0) -> dict[str, int]:
    """Bytes by kind, once they do not change for two seconds."""
    before: dict[str, int] = {}
    deadline, since = time.monotonic() + seconds, time.monotonic()
    while True:
        now = _sizes(folder)
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > 2:
            return now
        if time.monotonic() > deadline:
            raise RuntimeError(f"the files in {folder} do not come to rest")
        time.sleep(0.2)


def _sizes(folder: Path) -> dict[str, int]:
    total = samples = 0
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        if parts[0] not in ("blocks", "data", "indexdb") or not file.is_file():
            continue
        try:
            size = file.stat().st_size
        except FileNotFoundError:
            continue
        total += size
        samples += size if parts[0] == "data" or file.name == "pages" else 0
    return {"total": total, "samples": samples}


def _one_run(kind: servers.Kind, rounds: list[list[bytes]], count: int) -> dict[str, float]:
    with servers.running(kind, env=servers.environment(VEDETTE_STORAGE_ADMIN_API="true", VEDETTE_HOST_ENABLED="false")) as server:
        send(server, shards_of(rounds, SENDERS))
        if kind is servers.VEDETTE:
            steps = [("POST", "/api/v1/admin/tsdb/snapshot"), ("POST", "/api/v1/admin/tsdb/clean_tombstones")]
        else:
            steps = [("GET", "/internal/force_flush"), ("GET", "/internal/force_merge")]
        for method, path in steps:
            connection = server.connect()
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            if answer.status not in (200, 204):
                raise RuntimeError(f"{server.name} answered {path} with {answer.status} {body[:200]!r}")
        sizes = _settled(server.data)
        return {name: size / count for name, size in sizes.items()}


def _measure(case: str, title: str, rounds: list[list[bytes]], series: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    outcome = Outcome(case, title, how=HOW)
    count = series * len(rounds)
    for kind in kinds:
        if kind is servers.PROMETHEUS:
            continue  # it cannot be told to write out what it has
        found = _one_run(kind, rounds, count)
        outcome.add("bytes per sample, index included", kind.name, "bytes", [found["total"]])
        outcome.add("bytes per sample, samples alone", kind.name, "bytes", [found["samples"]])
    for what in ("bytes per sample, index included", "bytes per sample, samples alone"):
        ours, theirs = outcome.median(what, "vedette"), outcome.median(what, "victoria-metrics")
        if ours is not None and theirs:
            outcome.targets.append(Target(f"{what}, against victoria-metrics", ours / theirs, 0.75, "x", "budget", at_least=False))
    outcome.notes.append(f"{series:,} series, {len(rounds):,} samples each.")
    return outcome


def hosts(count: int, steps: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Simulated hosts."""
    start_ms = int(time.time() * 1000) // data.STEP_MS * data.STEP_MS - steps * data.STEP_MS
    rounds = data.write_bodies(data.hosts(count), steps, start_ms=start_ms, per_request=2500)
    return _measure("density_hosts", "Bytes per sample, simulated hosts", rounds, count * data.FIELDS_PER_HOST, kinds)


def node(scrapes: int, every_s: float, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """A recorded node_exporter."""
    regions, values = record(scrapes, every_s)
    template = data.WriteTemplate(regions)
    start_ms = int(time.time() * 1000) // STAMP_MS * STAMP_MS - scrapes * STAMP_MS
    rounds = [[template.render(np.ascontiguousarray(v, dtype=np.float64), start_ms + i * STAMP_MS)] for i, v in enumerate(values)]
    return _measure("density_node", "Bytes per sample, a recorded node_exporter", rounds, template.series, kinds)
