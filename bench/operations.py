"""The smallest and the largest that is asked for without a query: `/health` while samples come in, every latest value as text."""

from __future__ import annotations

import time
from contextlib import closing

from bench import data, servers, stalls
from bench.remote_write import SENDERS, at_rest, send, shards_of
from bench.results import Outcome

HEALTH = {servers.VEDETTE.name: "/health", servers.PROMETHEUS.name: "/-/healthy", servers.VICTORIA.name: "/health"}
EVERYTHING = {servers.VEDETTE.name: "/metrics"}
FEDERATED = "/federate?match[]=%7B__name__%3D~%22.%2B%22%7D"


def health(steps: int, most_s: float, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Write as the case `stalls` does, and ask for health meanwhile: of Vedette the whole `/health`, dependencies and all."""
    how = (
        "As in the case of stalls, 10,000 series written at half of capacity, and meanwhile a client that every 5 ms asks the server or in "
        "turn, a bare one: Vedette for `/health` (status, version, uptime and dependencies as JSON), the others for their fixed word. "
        "Senders, client and servers share the cores: what the bare one takes is the floor."
    )
    outcome = Outcome("health", "Health while samples come in at half of capacity", how=how)
    for kind in kinds:
        found = stalls.one_run(kind, steps, most_s, HEALTH[kind.name])
        outcome.add("samples per second meanwhile", kind.name, "samples/s", [found["paced"]])
        for name in ("p50", "p99"):
            outcome.add(f"time of an answer, {name}", kind.name, "ms", [found[name]])
        for name in ("p50", "p99"):
            outcome.add(f"floor: time of a bare server's answer meanwhile, {name}", kind.name, "ms", [found[f"floor {name}"]])
    outcome.promise_at_most("time of an answer, p99", 2, "ms", "budget")
    return outcome


def exposition(hosts: int, repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """The text of all series of `hosts` hosts with 100 each."""
    series = hosts * data.FIELDS_PER_HOST
    how = (
        f"{series:,} series, two samples each, come in by remote write; then their latest values are asked for as text, not compressed, on "
        "one connection: of Vedette at `/metrics` (its own figures are in the text, too), of the others at `/federate` for all series. "
        "The time is until the last byte; the first answer does not count."
    )
    outcome = Outcome("exposition", f"Latest values of {series:,} series as text", how=how)
    for kind in kinds:
        start_ms = int(time.time() * 1000) // data.STEP_MS * data.STEP_MS - 2 * data.STEP_MS
        rounds = data.write_bodies(data.hosts(hosts), 2, start_ms=start_ms, per_request=2500)
        with servers.running(kind, env=servers.environment(VEDETTE_HOST_ENABLED="false")) as server:
            send(server, shards_of(rounds, SENDERS))
            at_rest(server)
            took, size = _asked(server, EVERYTHING.get(kind.name, FEDERATED), series, repeats)
        outcome.add("time of the text", kind.name, "ms", took)
        outcome.add("bytes of it", kind.name, "MB", [size / 1e6])
    outcome.promise_at_most("time of the text", 250, "ms", "budget")
    for other in (servers.VICTORIA.name, servers.PROMETHEUS.name):
        outcome.promise_faster("time of the text", other, 1.0, "house")
    return outcome


def _asked(server: servers.Running, path: str, series: int, repeats: int) -> tuple[list[float], int]:
    """(milliseconds of each answer, its bytes)."""
    took: list[float] = []
    size, deadline = 0, time.monotonic() + 60
    with closing(server.connect()) as connection:
        while len(took) <= repeats:
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            spent = 1000 * (time.perf_counter() - began)
            lines = body.count(b"\n")
            if lines < series and time.monotonic() < deadline:
                time.sleep(1)  # VictoriaMetrics shows what came in only after some seconds
                continue
            if answer.status != 200 or lines < series:
                raise RuntimeError(f"{server.name}: {path} answers {answer.status} with {lines} lines, not {series}")
            took.append(spent)
            size = len(body)
    return took[1:], size
