"""`python -m bench`: run the cases one after another, show the figures, and rewrite `docs/benchmarks.md`.

A case's figures are kept in `bench/.cache/results.json`, so a run with `--only` leaves the other cases' standing. A
`--quick` run is for trying things out: it shows its figures and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console

from bench import (
    alerts,
    anomaly,
    dashboard,
    density,
    fleet,
    graphite,
    influx,
    install,
    logs,
    million,
    month,
    native,
    operations,
    postgres,
    queries,
    recovery,
    remote_write,
    report,
    results,
    rules,
    scrape,
    servers,
    stalls,
    startup,
    storage,
)
from bench.results import Outcome

CACHE = servers.ROOT / "bench" / ".cache" / "results.json"
PAGE = servers.ROOT / "docs" / "benchmarks.md"
ORDER = (
    "remote_write_10000",
    "remote_write_100000",
    "million",
    "stalls",
    "health",
    "exposition",
    "scrape",
    "graphite",
    "influx",
    "queries",
    "month",
    "month_blocks",
    "native",
    "dashboard",
    "density_hosts",
    "density_node",
    "select",
    "history",
    "recovery",
    "logs",
    "postgres",
    "alerts",
    "anomaly",
    "rules",
    "startup",
    "install",
)
"""The cases in the order of the page."""


def _cases(quick: bool, kinds: tuple[servers.Kind, ...], containing: str) -> dict[str, list[Callable[[], Outcome]]]:
    repeats = 1 if quick else 3
    small = remote_write.Load(hosts=100, steps=101 if quick else 401)
    large = remote_write.Load(hosts=1000, steps=11 if quick else 41)
    return {
        "remote_write": [lambda: remote_write.run(small, repeats, kinds), lambda: remote_write.run(large, repeats, kinds)],
        "scrape": [lambda: scrape.run(5 if quick else 10, repeats, kinds)],
        "graphite": [lambda: graphite.run(10_000, 51 if quick else 201, repeats, kinds)],
        "influx": [lambda: influx.run(1000, 51 if quick else 201, repeats, kinds)],
        "queries": [lambda: queries.run(fleet.FULL, 1 if quick else 2, kinds, containing)],
        "month": [
            lambda: queries.run_month(queries.DAYS, 3 if quick else 5, kinds),
            lambda: month.run(queries.DAYS, 1 if quick else 3, kinds),
        ],
        "native": [lambda: native.run(100 if quick else 300, 1, kinds)],
        "dashboard": [lambda: dashboard.run(fleet.FULL, 10 if quick else 30, kinds)],
        "density": [
            lambda: density.hosts(20 if quick else 100, 180 if quick else 720, kinds),
            lambda: density.node(60 if quick else 480, 0.2, kinds),
        ],
        "rules": [lambda: rules.run(3 if quick else 8, 2 if quick else 5, kinds)],
        "alerts": [lambda: alerts.run(100_000, 5 if quick else 15, kinds)],
        "anomaly": [anomaly.run],
        "million": [
            lambda: million.run(1000 if quick else 10_000, 4 if quick else 40, tuple(k for k in kinds if k is not servers.PROMETHEUS))
        ],
        "stalls": [lambda: stalls.run(600 if quick else 1200, 30 if quick else 60, kinds)],
        "health": [lambda: operations.health(600 if quick else 1200, 20 if quick else 60, kinds)],
        "exposition": [lambda: operations.exposition(1000, 5 if quick else 15, kinds)],
        "select": [lambda: storage.select(100, 100 if quick else 1000, 3 if quick else 9)],
        "history": [lambda: storage.history(5 if quick else 20, 3 if quick else 12, (1, 4, 16), 1 if quick else 3)],
        "recovery": [lambda: recovery.run(10 if quick else 100, 1000, repeats, kinds)],
        "logs": [lambda: logs.run(1_000_000 if quick else 10_000_000, repeats)],
        "postgres": [lambda: postgres.run(100, 20 if quick else 200, repeats)],
        "startup": [lambda: startup.run(2 if quick else 5, 1 if quick else 3, kinds)],
        "install": [] if quick else [install.run],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Vedette beside Prometheus and VictoriaMetrics.")
    parser.add_argument(
        "--only",
        metavar="CASE",
        action="append",
        help="remote_write, scrape, graphite, influx, queries, month, dashboard, density, alerts, anomaly, logs, startup, …; repeatable",
    )
    parser.add_argument("--servers", metavar="NAMES", default="", help="a comma-separated part of vedette,prometheus,victoria-metrics")
    parser.add_argument(
        "--query", metavar="TEXT", default="", help="of the queries case, only those with this in their names; writes nothing"
    )
    parser.add_argument("--quick", action="store_true", help="small loads, one repetition; writes nothing")
    return parser.parse_args()


def _keep(kept: dict[str, Outcome], about: list[tuple[str, str]]) -> None:
    """Write the page anew after each case, so that a run that is broken off has not measured in vain."""
    outcomes = sorted(kept.values(), key=lambda outcome: ORDER.index(outcome.case))
    results.save(CACHE, outcomes)
    PAGE.write_text(report.markdown(outcomes, about), encoding="utf-8")


def main() -> int:
    """Run what was asked for; 0 where all of it ran, 1 where a case could not."""
    arguments = _arguments()
    console = Console()
    names = [n for n in arguments.servers.split(",") if n] or [kind.name for kind in servers.ALL]
    kinds = tuple(kind for kind in servers.ALL if kind.name in names)
    cases = _cases(arguments.quick, kinds, arguments.query)
    chosen = arguments.only or list(cases)
    unknown = [c for c in chosen if c not in cases] + [n for n in names if n not in {kind.name for kind in servers.ALL}]
    if unknown:
        console.print(f"unknown: {', '.join(unknown)}; cases are {', '.join(cases)}", style="red")
        return 2
    about = report.machine()
    for what, value in about:
        console.print(f"{what}: {value}", highlight=False)
    kept = {o.case: o for o in results.load(CACHE)}
    failed = False
    for case in chosen:
        for measure in cases[case]:
            began, load = time.monotonic(), os.getloadavg()[0]
            try:
                outcome = measure()
            except (RuntimeError, servers.Missing, OSError) as problem:
                console.print(f"{case}: {problem}", style="red", markup=False)
                failed = True
                continue
            outcome.date = datetime.now(UTC).strftime("%Y-%m-%d")
            outcome.command = "make bench" if not arguments.only else f"python -m bench --only {case}"
            if load > 1:
                outcome.notes.append(f"The machine was not quiet: its load average was {load:.1f} before the case.")
            report.show(outcome, console)
            console.print(f"  ({time.monotonic() - began:.0f} s)\n", style="dim")
            kept[outcome.case] = outcome
            if not (arguments.quick or arguments.query) and len(kinds) == len(servers.ALL):
                _keep(kept, about)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
