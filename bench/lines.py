"""What two protocols of lines have in common, whatever they are sent over: what is read off the server, and the table of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bench import servers
from bench.remote_write import at_rest
from bench.results import Outcome


def costs(
    server: servers.Running, *, warm: Callable[[], object], first: Callable[[], object], rest: Callable[[], float]
) -> dict[str, float]:
    """CPU seconds of `first`, which registers all series, and of `rest`, the steady state: at its last answer, and 3 s later.

    `warm` is not counted; `rest` gives the seconds it took.
    """
    warm()
    at_rest(server)
    cpu = server.cpu()
    first()
    new = server.cpu() - cpu
    time.sleep(1)
    cpu = server.cpu()
    wall = rest()
    used = server.cpu() - cpu
    time.sleep(3)
    return {"new": new, "cpu": used, "settled": server.cpu() - cpu, "wall": wall}


def rates(found: dict[str, float], *, sent: int, series: int) -> dict[str, float]:
    """What `costs` come to, for `sent` items of the steady state and so many new series, per second."""
    return {key: sent / found[key] for key in ("cpu", "wall", "settled")} | {"new": series / max(found["new"], 0.01)}


def in_turns(
    outcome: Outcome, kinds: Sequence[servers.Kind], repeats: int, one_run: Callable[[servers.Kind], dict[str, float]], *, what: str
) -> None:
    """Add the `rates` of so many runs on each server that knows the protocol, in turns; `what` are counted."""
    able = [kind for kind in kinds if kind is not servers.PROMETHEUS]
    runs: dict[str, list[dict[str, float]]] = {kind.name: [] for kind in able}
    for _ in range(repeats):
        for kind in able:
            runs[kind.name].append(one_run(kind))
    for kind in able:
        found = runs[kind.name]
        outcome.add(f"{what} per CPU second", kind.name, f"{what}/s", [r["cpu"] for r in found])
        outcome.add(f"{what} per CPU second, the next 3 s included", kind.name, f"{what}/s", [r["settled"] for r in found])
        outcome.add(f"{what} per second of wall time", kind.name, f"{what}/s", [r["wall"] for r in found])
        outcome.add("new series per CPU second", kind.name, "series/s", [r["new"] for r in found])
    outcome.promise_ratio(f"{what} per CPU second", "victoria-metrics", 1, "budget")
