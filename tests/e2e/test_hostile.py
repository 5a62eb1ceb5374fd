"""Hostile queries beside ingestion and other queries: each is told why it is refused, nobody else notices."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest
from tests.e2e import patient

pytestmark = pytest.mark.timeout(600)

SERIES, SAMPLES = 2000, 30
YEAR = "1y"

HOSTILE = {
    "every value a label": ('count_values("v", m * 1.0000001)', "too many samples"),
    "a year of a year": (f"max_over_time(max_over_time(m[{YEAR}:1s])[{YEAR}:1s])", "too many samples"),
    "a year by the minute": (f"max_over_time((m * 2)[{YEAR}:1m])", "too many samples"),
    "a megabyte": ("m" + " + 1" * 250_000, "longer than"),
    "parentheses": ("(" * 10_000 + "m" + ")" * 10_000, "nested more than"),
    "a cross join": ("m * on () group_right m", "duplicate series"),
    "a growing label": (
        "label_replace(" * 60 + 'label_replace(vector(1), "i", "ab", "", "")' + ', "i", "$1$1", "i", "(.+)")' * 60,
        "characters",
    ),
    "a regex bomb": ('m{i=~"((a{100}){100}){100}"}', "parse error"),
    # Each part differs from the others, so none is computed once for all: minutes of work on any machine.
    "one that takes forever": (" + ".join(f"quantile_over_time(0.{i:02}, vector(time())[2d:1s])" for i in range(5, 95)), "timed out"),
}


def _samples(now: int) -> list[Any]:
    return [({"__name__": "m", "i": str(i)}, [(now - k * 15_000, i * 1.1 + k) for k in reversed(range(SAMPLES))]) for i in range(SERIES)]


class Steady:
    """Somebody who writes and asks all the while, until told to stop; what went wrong is kept."""

    def __init__(self, server: Any, tools: Any) -> None:
        self.server, self.tools = server, tools
        self.wrong: list[str] = []
        self.written = self.asked = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=t) for t in (self._write, self._ask)]

    def __enter__(self) -> Steady:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        with httpx.Client(timeout=patient.SECONDS) as client:
            while not self._stop.is_set():
                body = self.tools.write_body([({"__name__": "steady"}, [(int(time.time() * 1000), float(self.written))])])
                answer = client.post(self.server.url + "/api/v1/write", content=body, headers=self.tools.write_headers)
                if answer.status_code != 204:
                    self.wrong.append(f"write: {answer.status_code} {answer.text[:200]}")
                self.written += 1

    def _ask(self) -> None:
        with httpx.Client(timeout=patient.SECONDS) as client:
            while not self._stop.is_set():
                answer = client.get(self.server.url + "/api/v1/query", params={"query": "count(m)", "time": str(self.at)})
                if answer.status_code != 200 or answer.json()["data"]["result"][0]["value"][1] != str(SERIES):
                    self.wrong.append(f"query: {answer.status_code} {answer.text[:200]}")
                self.asked += 1

    at = 0.0


def test_hostile_queries_harm_nobody(launch: Any, tools: Any) -> None:
    limits = {"MAX_SAMPLES": "400000", "TIMEOUT": "4s", "MAX_QUERY_MEMORY": "64MB"}
    server = launch.vedette(env=tools.environment(**{f"VEDETTE_PROMQL_{name}": value for name, value in limits.items()}))
    now = int(time.time() * 1000) // 15_000 * 15_000
    assert server.write(_samples(now)).status_code == 204
    told: dict[str, str] = {}

    def ask(name: str, expr: str) -> None:
        params = {"query": expr, "start": str(now / 1000 - 400), "end": str(now / 1000), "step": "0.05" if "forever" in name else "15"}
        with httpx.Client(timeout=patient.SECONDS) as client:
            answer = client.post(server.url + "/api/v1/query_range", data=params)
        told[name] = f"{answer.status_code} {answer.text[:300]}"

    steady = Steady(server, tools)
    steady.at = now / 1000
    with steady:
        threads = [threading.Thread(target=ask, args=(name, expr)) for name, (expr, _) in HOSTILE.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # What was answered while they ran counts only where something was.
        tools.eventually(lambda: steady.written > 20 and steady.asked > 20, "writes and queries went on")
    assert not steady.wrong
    for name, (_, words) in HOSTILE.items():
        status = told[name].split()[0]
        assert status in ("400", "422", "503"), (name, told[name])
        assert words in told[name], (name, told[name])
    assert server.data("/api/v1/status/queries") == []
    assert server.value("count(m)", at=now / 1000) == SERIES
    assert server.value("max(steady)") == steady.written - 1, "each write that was acknowledged is there"
