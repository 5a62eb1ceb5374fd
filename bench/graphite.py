"""Graphite: lines per CPU second of the server, over one TCP connection, beside VictoriaMetrics, which takes the same protocol.

All bodies are built before the clock starts. The sender closes its side after the last line, and the server its own once it has taken
all: that is when CPU is read. Then the server is asked how many samples it holds: a figure counts only if that is every line sent.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from urllib.parse import quote

from bench import lines, servers
from bench.results import Outcome

STEP_S = 10
HOW = (
    "Lines `bench.usage;host=hN;field=fM value seconds` over one TCP connection, prebuilt: the first step registers the series, the "
    "others are the steady state. CPU is that of the server process until it closes the connection, having taken all. Every sample "
    "was counted back by a query, or the run fails. Graphite acknowledges nothing: Vedette reads on once lines are durable, "
    "VictoriaMetrics once they are in memory."
)


def bodies(series: int, steps: int, start_s: int) -> list[bytes]:
    """One body a step: a line for each series, ten of a host."""
    names = [f"bench.usage;host=h{i // 10};field=f{i % 10}" for i in range(series)]
    return [
        "".join(f"{name} {(i * 7 + step * 3) % 1000 / 10} {start_s + step * STEP_S}\n" for i, name in enumerate(names)).encode()
        for step in range(steps)
    ]


def send(port: int, pieces: list[bytes]) -> float:
    """Send lines; the seconds until the server has taken all of them."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    return time.perf_counter() - started


def count_back(server: servers.Running, last_s: int, span_s: int, expected: int, *, seconds: float = 30.0) -> None:
    """Make sure that the server finds `expected` samples in the `span_s` seconds before `last_s`, within `seconds`."""
    expression = quote(f'sum(count_over_time({{field!=""}}[{span_s}s]))')
    deadline = time.monotonic() + seconds
    found = 0
    while time.monotonic() < deadline:
        status, body = server.get(f"/api/v1/query?query={expression}&time={last_s}{server.query_extra}")
        if status != 200:
            raise RuntimeError(f"{server.name} cannot count what was sent: {status} {body[:300]!r}")
        result = json.loads(body)["data"]["result"]
        found = int(float(result[0]["value"][1])) if result else 0
        if found == expected:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{server.name} took {expected} lines and finds {found} samples")


def one_run(kind: servers.Kind, series: int, steps: int) -> dict[str, float]:
    """One run on fresh data: lines per CPU second, per second, and new series per CPU second."""
    port = servers.free_port()
    peer = kind is not servers.VEDETTE
    listening = dataclasses.replace(kind, options=(f"-graphiteListenAddr=127.0.0.1:{port}",)) if peer else kind
    env = servers.environment(VEDETTE_GRAPHITE_TCP=f"127.0.0.1:{port}")
    start = int(time.time()) // STEP_S * STEP_S - steps * STEP_S
    pieces = bodies(series, steps, start)
    warming = [f"warming.up;of={i} 1\n".encode() for i in range(10)]
    with servers.running(listening, env=env) as server:
        found = lines.costs(
            server, warm=lambda: send(port, warming), first=lambda: send(port, pieces[:1]), rest=lambda: send(port, pieces[1:])
        )
        count_back(server, start + (steps - 1) * STEP_S, steps * STEP_S, series * steps)
    return lines.rates(found, sent=series * (steps - 1), series=series)


def run(series: int, steps: int, repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Measure the protocol on each server that knows it, in turns."""
    outcome = Outcome("graphite", f"Graphite's lines, {series:,} series", how=HOW)
    lines.in_turns(outcome, kinds, repeats, lambda kind: one_run(kind, series, steps), what="lines")
    outcome.notes.append(f"{series * steps:,} lines a run, {repeats} runs on fresh data, in turns, medians.")
    return outcome
