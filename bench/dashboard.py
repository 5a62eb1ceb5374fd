"""A dashboard's load: 200 mixed queries a second, asked whether or not the one before was answered, and how long each took.

Queries are due at fixed times; the time of each counts from when it was due, so that a server that falls behind shows it.
"""

from __future__ import annotations

import statistics
import threading
import time
from urllib.parse import quote

from bench import data, fleet, servers
from bench.queries import POINTS, SENDERS
from bench.remote_write import send, shards_of
from bench.results import Outcome, Target

RATE = 200
WORKERS = 16
HOW = (
    f"{RATE} queries a second for the given time, from {WORKERS} keep-alive connections, due at fixed times and timed from when they were "
    "due. In turn: a series, a rate of a series, 20 series, rates of 20 series by code, a sum of rates of 1,000 series, a quantile of "
    "buckets of one region, each over 54 steps; and instant queries. The same fleet as for the queries; nothing is written meanwhile."
)
RANGES = (
    'devops_cpu_0{{hostname="host_{host}"}}',
    'rate(devops_net_0{{hostname="host_{host}"}}[5m])',
    'vm_memory_bytes{{instance="i-{server:05}"}}',
    'sum by (code) (rate(http_requests_total{{instance="i-{server:05}"}}[5m]))',
    'sum(rate(http_requests_total{{handler="/",method="GET",code="200"}}[5m]))',
    'histogram_quantile(0.99, sum by (le) (rate(rpc_seconds_bucket{{service="svc-{server:05}"}}[5m])))',
)
INSTANTS = ('devops_mem_1{{hostname="host_{host}"}}', 'sum by (method) (http_requests_total{{instance="i-{server:05}"}})')


def paths(count: int, size: fleet.Fleet, begin: float, extra: str) -> list[str]:
    """The requests, in order; no two ask the same."""
    made = []
    for number in range(count):
        host, server, later = number * 7 % size.hosts, number * 11 % min(size.servers, size.services), number % 40
        expressions = RANGES + INSTANTS
        expression = quote(expressions[number % len(expressions)].format(host=host, server=server))
        if number % len(expressions) < len(RANGES):
            start = begin + 50.5 + later
            made.append(f"/api/v1/query_range?query={expression}&start={start}&end={start + 530}&step=10{extra}")
        else:
            made.append(f"/api/v1/query?query={expression}&time={begin + 500.5 + later}{extra}")
    return made


def load(server: servers.Running, requests: list[str], rate: float) -> tuple[list[float], int]:
    """Ask `requests`, `rate` a second; (milliseconds of each from when it was due, how many were not answered with 200)."""
    times, errors, lock = [0.0] * len(requests), [0], threading.Lock()
    following = iter(range(len(requests)))
    began = time.perf_counter() + 0.2

    def work() -> None:
        connection = server.connect()
        while True:
            with lock:
                number = next(following, None)
            if number is None:
                break
            due = began + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("GET", requests[number])
            answer = connection.getresponse()
            answer.read()
            times[number] = (time.perf_counter() - due) * 1000
            if answer.status != 200:
                with lock:
                    errors[0] += 1
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, errors[0]


def run(size: fleet.Fleet, seconds: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Load the fleet into each server and ask for `seconds`."""
    outcome = Outcome("dashboard", f"A dashboard load of {RATE} queries a second", how=HOW)
    start_ms = int(time.time() * 1000) // data.STEP_MS * data.STEP_MS - (POINTS + 1) * data.STEP_MS
    rounds = fleet.bodies(size, POINTS, start_ms=start_ms, per_request=2500)
    for kind in kinds:
        with servers.running(kind) as server:
            send(server, shards_of(rounds, SENDERS))
            time.sleep(3)
            requests = paths(RATE * (seconds + 3), size, start_ms / 1000, server.query_extra)
            load(server, requests[: RATE * 3], RATE)  # to warm up
            cpu = server.cpu()
            times, errors = load(server, requests[RATE * 3 :], RATE)
            outcome.add("median", kind.name, "ms", [statistics.median(times)])
            outcome.add("99th percentile", kind.name, "ms", [statistics.quantiles(times, n=100)[98]])
            outcome.add("slowest", kind.name, "ms", [max(times)])
            outcome.add("errors", kind.name, "queries", [errors])
            outcome.add("CPU a query", kind.name, "ms", [(server.cpu() - cpu) / len(times) * 1000])
    outcome.promise_at_most("errors", 0, "queries", "budget")
    for peer in ("victoria-metrics", "prometheus"):
        ours, theirs = outcome.median("99th percentile", "vedette"), outcome.median("99th percentile", peer)
        if ours and theirs is not None:
            outcome.targets.append(Target(f"99th percentile, against {peer}", theirs / ours, 0.5, "x faster", "budget"))
    return outcome
