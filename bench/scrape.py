"""Scraping one target of many lines: samples per CPU second of the scraping server.

The target is a plain HTTP server in this process that answers with one of a few prebuilt bodies in turn and notes the
scraper's CPU time as each request comes in, so that whole scrapes are counted, storage included.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import quote

from bench import data, servers
from bench.results import Outcome

LINES = 100_000
WARM = 3
CHECK = 'min_over_time(scrape_samples_scraped{job="bench"}[10s])'
HOW = (
    f"One target of {LINES:,} lines (three labels each, 100 metrics with HELP and TYPE; four bodies in turn, text 0.0.4, not compressed), "
    "`scrape_interval: 2s`. CPU is that of the server process between the arrivals of two scrapes, after three that register the series."
)


class Target:
    """The scraped server. `arrivals` holds what `probe` answered as each scrape came in."""

    def __init__(self, bodies: list[bytes]) -> None:
        self.arrivals: list[float] = []
        self.probe: Callable[[], float] = lambda: 0.0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.arrivals.append(outer.probe())
                body = bodies[len(outer.arrivals) % len(bodies)]
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
                """Requests are counted, not logged."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Target:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


def _config(port: int) -> str:
    return f"""\
global:
  scrape_interval: 2s
  scrape_timeout: 2s
scrape_configs:
  - job_name: bench
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


def _one_run(kind: servers.Kind, bodies: list[bytes], scrapes: int) -> dict[str, float]:
    with Target(bodies) as target, servers.running(kind, config=_config(target.port), wait=False) as server:
        target.probe = server.cpu
        servers.wait_for(server, kind.ready)
        needed = WARM + scrapes + 1
        deadline = time.monotonic() + needed * 2 + 60
        while len(target.arrivals) < needed and time.monotonic() < deadline:
            time.sleep(0.05)
        arrivals = list(target.arrivals)
        if len(arrivals) < needed:
            raise RuntimeError(f"{kind.name} scraped {len(arrivals)} times, not {needed}")
        used = arrivals[needed - 1] - arrivals[WARM]
        status, body = server.get(f"/api/v1/query?query={quote(CHECK)}{server.query_extra}")
        result = json.loads(body)["data"]["result"] if status == 200 else []
        if not result or float(result[0]["value"][1]) != LINES:
            raise RuntimeError(f"{kind.name} does not find {LINES} samples in every scrape: {status} {body[:300]!r}")
        return {"cpu": LINES * scrapes / used, "each": used / scrapes * 1000, "rss": server.rss() / 2**20}


def run(scrapes: int, repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Measure `scrapes` scrapes on each server, `repeats` times on fresh data."""
    outcome = Outcome("scrape", f"Scrape of {LINES:,} lines", how=HOW)
    bodies = data.exposition_bodies(LINES, 4)
    for kind in kinds:
        runs = [_one_run(kind, bodies, scrapes) for _ in range(repeats)]
        outcome.add("samples per CPU second", kind.name, "samples/s", [r["cpu"] for r in runs])
        outcome.add("CPU per scrape", kind.name, "ms", [r["each"] for r in runs])
        outcome.add("resident memory at the end", kind.name, "MiB", [r["rss"] for r in runs])
    outcome.promise_ratio("samples per CPU second", "prometheus", 1, "first release")
    outcome.promise_ratio("samples per CPU second", "prometheus", 3, "budget")
    outcome.notes.append(
        f"{scrapes} scrapes a run after {WARM} to warm up, {repeats} runs on fresh data, medians; {len(bodies[0]):,} bytes a body."
    )
    return outcome
