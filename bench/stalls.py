"""Stalls: how long the smallest request waits while samples come in at half of what the server can take.

What a client waits for is the machine's as well: senders, client and server share its cores. So a second server of a dozen lines, which
does nothing else, is asked in turn with the one under measurement: its times are the floor.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np

from bench import data, servers
from bench.remote_write import HEADERS, SENDERS, send, shards_of
from bench.results import Outcome

HOW = (
    f"First {SENDERS} senders write as fast as they can: the capacity. Then they are paced to half of it, while another client, a process "
    "of its own, asks `/-/healthy` (VictoriaMetrics: `/health`) on one connection; the times of its answers. Every 5 ms it asks the server "
    "or, in turn, a bare one: asyncio with uvloop and a fixed answer, in a process of its own. Long enough that "
    "Vedette writes blocks meanwhile (`head_samples` is set to 2 million). Senders and client share the machine's cores with the server, "
    "so some of what is measured is theirs, for each server alike: what the bare one takes is the floor."
)


_PROBE = """
import http.client, itertools, json, sys, threading, time
connections = []
for port, path in zip(sys.argv[1::2], sys.argv[2::2]):
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
    connection.connect()
    connections.append((connection, path, []))
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
for connection, path, took in itertools.cycle(connections):
    if stop.wait(0.005):
        break
    began = time.perf_counter()
    connection.request("GET", path)
    connection.getresponse().read()
    took.append((time.perf_counter() - began) * 1000)
print(json.dumps([took for _, _, took in connections]))
"""

_BARE = """
import asyncio, uvloop
class Bare(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 3\\r\\n\\r\\nok\\n")
async def main():
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""


@contextmanager
def _bare_server() -> Iterator[int]:
    """The port of a server that does nothing but answer."""
    with subprocess.Popen([sys.executable, "-c", _BARE], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None, "asked for"
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the bare server did not start")
            yield int(line)
        finally:
            process.kill()


class _Prober:
    """Asks again and again, in a process of its own: a thread of ours would wait for those that send, and time that."""

    def __init__(self, *asked: tuple[int, str]) -> None:
        """`asked` in turn: ports of this machine and paths."""
        command = [sys.executable, "-c", _PROBE, *(str(word) for port, path in asked for word in (port, path))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self) -> list[list[float]]:
        """End it; for each that was asked the milliseconds of its answers."""
        told, _ = self._process.communicate("", timeout=120)
        if self._process.returncode:
            raise RuntimeError(f"the prober ended with {self._process.returncode}")
        took: list[list[float]] = json.loads(told)
        return took


def _paced(server: servers.Running, shards: list[list[bytes]], seconds: float) -> None:
    """Send each shard's bodies evenly over `seconds`."""
    failures: list[str] = []

    def one(bodies: list[bytes]) -> None:
        began = time.monotonic()
        with closing(server.connect()) as connection:
            for number, body in enumerate(bodies):
                time.sleep(max(0.0, began + seconds * number / len(bodies) - time.monotonic()))
                connection.request("POST", "/api/v1/write", body, HEADERS)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status not in (200, 204):
                    failures.append(f"{answer.status} {text[:300]!r}")
                    break

    threads = [threading.Thread(target=one, args=(shard,)) for shard in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{server.name} refused a write: {failures[0]}")


def one_run(kind: servers.Kind, steps: int, most_s: float, path: str) -> dict[str, float]:
    """`capacity` and `paced` in samples a second, and of the times of `path` meanwhile the quantiles and the most, in ms; `floor …`
    are those of a bare server beside it.
    """
    count = 100
    series = count * data.FIELDS_PER_HOST
    start_ms = int(time.time() * 1000) // data.STEP_MS * data.STEP_MS - steps * data.STEP_MS
    rounds = data.write_bodies(data.hosts(count), steps, start_ms=start_ms, per_request=2500)
    quarter = steps // 4
    env = servers.environment(VEDETTE_STORAGE_HEAD_SAMPLES="2000000", VEDETTE_HOST_ENABLED="false")
    with servers.running(kind, env=env) as server, _bare_server() as bare:
        send(server, shards_of(rounds[:10], SENDERS))
        time.sleep(3)
        capacity = series * (quarter - 10) / send(server, shards_of(rounds[10:quarter], SENDERS))
        time.sleep(3)
        prober = _Prober((server.port, path), (bare, "/"))
        seconds = min(most_s, series * (steps - quarter) / (capacity / 2))
        _paced(server, shards_of(rounds[quarter:], SENDERS), seconds)
        found = {"capacity": capacity, "paced": series * (steps - quarter) / seconds}
        for whose, took in zip(("", "floor "), prober.stop(), strict=True):
            figures = [*np.quantile(took, (0.5, 0.99, 0.999)).tolist(), max(took)]
            found |= {whose + name: figure for name, figure in zip(("p50", "p99", "p99.9", "most"), figures, strict=True)}
        return found


def run(steps: int, most_s: float, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Write `steps` rounds of 10,000 series, the last three quarters of them at half speed (or in `most_s` seconds)."""
    outcome = Outcome("stalls", "Stalls while samples come in at half of capacity", how=HOW)
    for kind in kinds:
        found = one_run(kind, steps, most_s, "/health" if kind is servers.VICTORIA else "/-/healthy")
        outcome.add("capacity, with these senders", kind.name, "samples/s", [found["capacity"]])
        outcome.add("samples per second meanwhile", kind.name, "samples/s", [found["paced"]])
        for name in ("p50", "p99", "p99.9", "most"):
            outcome.add(f"time of an answer, {name}", kind.name, "ms", [found[name]])
        for name in ("p99", "p99.9"):
            outcome.add(f"floor: time of a bare server's answer meanwhile, {name}", kind.name, "ms", [found[f"floor {name}"]])
    outcome.promise_at_most("time of an answer, p99.9", 20, "ms", "budget")
    outcome.notes.append("Requests of up to 2,500 samples.")
    return outcome
