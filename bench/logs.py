"""Log lines: how many a second come in over HTTP, how long a text search over all of them takes, how small they are kept.

There is no peer to install; `grep -i` and `zstd -3` on the same text stand beside it. Lines are made of a few shapes with random
numbers, ids and addresses, so that no two are alike; nothing of Vedette's own code makes them.
"""

from __future__ import annotations

import http.client
import json
import queue
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from bench import servers
from bench.results import Outcome

BODY_LINES = 5_000
ROUND_LINES = 250_000
CONNECTIONS = 2
SAMPLE = 1_000_000
NEEDLE = "NeedleInAHaystack"
SEARCHES: dict[str, tuple[str, int | None]] = {
    "a word that one line has": (f"text={NEEDLE.lower()}", 1),
    "a word that no line has": (f"text={quote('no such word anywhere')}", 0),
    "a word that every fifth has": (f"text={quote('CACHE MISS')}", None),
    "a phrase among the errors of a service": (f"text={quote('to the database')}&level=error&service=svc-3", None),
    "two words that few lines have both": ("text=session&text=abcd", None),
    "a regular expression": (f"regex={quote('session:dead[0-9a-f]+')}", None),
    "a regular expression that nothing matches": (f"regex={quote('session:[g-z]+[0-9]')}", 0),
}
"""Parameters of the searches, and how many lines there are, where that is known."""
HOW = (
    "JSON lines (`timestamp`, `level`, `service`, `message`, two further fields; about 220 bytes) in bodies of 5,000 to "
    "`POST /api/v1/logs` over two connections from this machine, which makes them in pauses that do not count; each body is durable "
    "when it is answered. Then "
    "text searches over all lines, words whatever their case: for a word that one line has, for one that none has, for one that every "
    "fifth has, for a phrase with a level and a service, for two words that few lines have both, for regular expressions; each "
    "answers the newest hundred and the total. The size is that of the Parquet segments against the lines as they were sent."
)


def lines(count: int, first: int, chance: random.Random) -> Iterator[str]:
    """Lines numbered from `first`, three milliseconds apart."""
    base = time.time() - 86_400
    bits = chance.getrandbits
    for i in range(first, first + count):
        when = datetime.fromtimestamp(base + i * 0.003, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        r = bits(64)
        shape = i % 5
        if shape == 0:
            message = f"GET /api/v1/users/{r & 0xFFFFF} 200 in {r >> 32 & 0x3FF}ms from 10.{r >> 8 & 255}.{r >> 16 & 255}.{r >> 24 & 255}"
        elif shape == 1:
            message = f"connection to postgres://db-{r & 3}:5432/orders established after {r >> 8 & 127} ms, pool size {r >> 16 & 31}"
        elif shape == 2:
            message = f"Request processed successfully request_id={r & 0xFFFFFFFF:08x} user={r >> 40 & 0xFFFF} status=200"
        elif shape == 3:
            message = f"cache miss for key session:{r & 0xFFFFFFFF:08x}, falling back to the database"
        else:
            message = f"worker {r & 15} finished job {i} queue=default duration={(r >> 8 & 8191) / 1000}s attempts=1"
        level = ("info", "info", "info", "info", "warn", "info", "debug", "error")[r >> 56 & 7]
        yield (
            f'{{"timestamp":"{when}Z","level":"{level}","service":"svc-{r >> 60}","message":"{message}",'
            f'"host":"node-{r >> 50 & 31}","trace_id":"{r >> 20 & 0xFFFFFFFF:08x}"}}'
        )


def _send(port: int, bodies: list[bytes]) -> float:
    """Seconds until all bodies are answered."""
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    for body in [*bodies, *[None] * CONNECTIONS]:
        waiting.put(body)
    problems: list[str] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while (body := waiting.get()) is not None:
            connection.request("POST", "/api/v1/logs", body, {"Content-Type": "application/x-ndjson"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                problems.append(f"{answer.status} {text[:200]!r}")
                return
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise RuntimeError(f"lines were not taken: {problems[0]}")
    return time.perf_counter() - began


def _metric(server: servers.Running, name: str) -> float:
    _, body = server.get("/metrics")
    for line in body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise RuntimeError(f"no {name} at /metrics")


def _at_rest(server: servers.Running) -> None:
    """Wait until segments are neither written nor merged, so that the searches have the machine."""
    deadline, quiet, before = time.monotonic() + 120, 0, -1.0
    while quiet < 4 and time.monotonic() < deadline:
        time.sleep(1)
        used = server.cpu()
        quiet = quiet + 1 if used - before < 0.3 else 0
        before = used


def _search(server: servers.Running, asked: str, expected: int | None, repeats: int) -> list[float]:
    """Milliseconds of each search; `asked` are further parameters."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        status, body = server.get(f"/api/v1/logs?start=0&limit=100&{asked}")
        took.append(1000 * (time.perf_counter() - began))
        total = json.loads(body)["data"]["total"] if status == 200 else None
        if status != 200 or (expected is not None and total != expected):
            raise RuntimeError(f"a search for {asked!r} answers {status}, {total} lines, not {expected}")
    return took


def run(count: int, repeats: int) -> Outcome:
    """Measure with `count` lines."""
    outcome = Outcome("logs", f"Log lines, {count:,} of them", how=HOW)
    chance = random.Random(7)
    taken, raw, sample = 0.0, 0, Path(tempfile.mkdtemp(prefix="bench-lines-")) / "sample.log"
    try:
        with servers.running(servers.VEDETTE, env=servers.environment(VEDETTE_LOGS_OWN="false")) as server, sample.open("wb") as kept:
            _send(server.port, ["\n".join(lines(BODY_LINES, 0, chance)).encode()])  # whatever is loaded or compiled at first use
            before = server.cpu()
            for first in range(BODY_LINES, count + BODY_LINES, ROUND_LINES):
                rows = list(lines(ROUND_LINES, first, chance))
                if first == BODY_LINES:
                    rows[0] = rows[0].replace('"message":"', f'"message":"{NEEDLE} ')
                bodies = ["\n".join(rows[i : i + BODY_LINES]).encode() for i in range(0, ROUND_LINES, BODY_LINES)]
                raw += sum(map(len, bodies)) + len(bodies)
                if first <= SAMPLE:
                    kept.write(b"\n".join(bodies) + b"\n")
                taken += _send(server.port, bodies)
            cpu = server.cpu() - before
            deadline = time.monotonic() + 120
            while _metric(server, "vedette_logs_memory_lines") > 500_000 and time.monotonic() < deadline:
                time.sleep(0.2)
            _at_rest(server)
            found = {what: _search(server, asked, expected, repeats) for what, (asked, expected) in SEARCHES.items()}
            kept_bytes, kept_lines = _metric(server, "vedette_logs_segment_bytes"), _metric(server, "vedette_logs_segment_lines")
            outcome.add("resident memory at the end", "vedette", "MiB", [server.rss() / 2**20])
        sent = -(-count // ROUND_LINES) * ROUND_LINES
        outcome.add("lines a second", "vedette", "lines/s", [sent / taken])
        outcome.add("lines per CPU second of the server", "vedette", "lines/s", [sent / cpu])
        for what, took in found.items():
            outcome.add(f"search for {what}", "vedette", "ms", took)
        outcome.add("times smaller than the lines as sent", "vedette", "x", [raw / sent / (kept_bytes / kept_lines)])
        outcome.promise_at_least("lines a second", 100_000, "lines/s", "budget")
        for what in found:
            outcome.promise_at_most(f"search for {what}", 1000, "ms", "budget")
        outcome.promise_at_least("times smaller than the lines as sent", 8, "x", "budget")
        slowest = max(statistics.median(took) for took in found.values())
        outcome.notes += _beside(sample, sent / (slowest / 1000))
        outcome.notes.append(
            f"{sent:,} lines of {raw / sent:.0f} bytes; {kept_lines:,.0f} of them in segments, the newest still in memory."
        )
    finally:
        shutil.rmtree(sample.parent, ignore_errors=True)
    return outcome


def _beside(sample: Path, searched: float) -> list[str]:
    """What `grep -i` and `zstd` make of the first lines, as notes."""
    notes = []
    size = sample.stat().st_size
    count = sum(1 for _ in sample.open("rb"))
    if grep := shutil.which("grep"):
        took = []
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([grep, "-c", "-i", "-F", "no such word", str(sample)], check=False, stdout=subprocess.DEVNULL)
            took.append(time.perf_counter() - began)
        rate = count / statistics.median(took)
        ours = f"the slowest search here: {searched / 1e6:.1f} M lines/s"
        notes.append(f"`grep -ciF` over {count:,} of the lines, not compressed, cached: {rate / 1e6:.1f} M lines/s; {ours}.")
    if zstd := shutil.which("zstd"):
        done = subprocess.run([zstd, "-3", "-q", "-c", str(sample)], check=True, capture_output=True)
        notes.append(f"`zstd -3` of the same lines: {size / len(done.stdout):.1f} times smaller.")
    return notes
