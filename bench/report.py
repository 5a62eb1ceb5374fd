"""The figures as tables: on the screen, and in `docs/benchmarks.md`."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench import servers
from bench.results import Outcome, Target

INTRO = """\
# Benchmarks

Vedette beside Debian's Prometheus and VictoriaMetrics, on one machine, in one run, one server at a time, over loopback.
This page is written by `make bench`; its code and data are in `bench/`. Figures are medians; the smallest and
largest run stand in brackets. A promise is marked PASS or MISS: those of the `first release` must hold now,
those of the `budget` are what the design aims at.
"""


def machine() -> list[tuple[str, str]]:
    """What was measured on: (what, value)."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else platform.machine()
    rows = [
        ("processor", f"{model}, {os.cpu_count()} cores"),
        ("memory", f"{psutil.virtual_memory().total / 2**30:.0f} GiB"),
        ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
    ]
    for kind in servers.ALL:
        try:
            rows.append((kind.name, kind.version()))
        except servers.Missing as reason:
            rows.append((kind.name, str(reason)))
    return rows


def number(value: float, unit: str) -> str:
    """A figure as people read it."""
    if unit in ("samples/s", "series/s", "lines/s"):
        return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.0f} k"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def _cell(outcome: Outcome, what: str, server: str) -> str:
    found = next((m for m in outcome.measurements if m.what == what and m.server == server), None)
    if found is None:
        return "–"
    text = number(found.median, found.unit)
    if len(found.runs) > 1:
        text += f" [{number(min(found.runs), found.unit)}–{number(max(found.runs), found.unit)}]"
    return text


def _rows(outcome: Outcome) -> list[tuple[str, str]]:
    """The distinct (what, unit), in order."""
    return list(dict.fromkeys((m.what, m.unit) for m in outcome.measurements))


def _columns(outcome: Outcome) -> list[str]:
    """The servers of a case's table: all three, or, where the peer is another one, those that were measured."""
    usual = [kind.name for kind in servers.ALL]
    measured = dict.fromkeys(m.server for m in outcome.measurements)
    return usual if set(measured) <= set(usual) else list(measured)


def _verdict(target: Target) -> str:
    sign = "≥" if target.at_least else "≤"
    return f"{sign} {target.wanted:g} {target.unit} ({target.source})"


def show(outcome: Outcome, console: Console) -> None:
    """Print one case."""
    table = Table(title=outcome.title, title_justify="left")
    table.add_column("figure")
    for kind in _columns(outcome):
        table.add_column(kind, justify="right")
    for what, unit in _rows(outcome):
        table.add_row(f"{what} ({unit})", *(_cell(outcome, what, kind) for kind in _columns(outcome)))
    console.print(table)
    for target in outcome.targets:
        colour = "green" if target.met else "red"
        word = "PASS" if target.met else "MISS"
        console.print(f"  [{colour}]{word}[/] {target.what}: {target.measured:.2f}, wanted {_verdict(target)}", highlight=False)
    for note in outcome.notes:
        console.print(f"  {note}", style="dim", markup=False, highlight=False)


def markdown(outcomes: Sequence[Outcome], about: Sequence[tuple[str, str]]) -> str:
    """The whole page."""
    parts = [INTRO, "\n## Machine and versions\n\n| | |\n|---|---|\n"]
    parts += [f"| {what} | {value} |\n" for what, value in about]
    parts.append("\n## Promises\n\n| case | promise | measured | wanted | |\n|---|---|---:|---:|---|\n")
    for outcome in outcomes:
        for target in outcome.targets:
            word = "PASS" if target.met else "**MISS**"
            parts.append(f"| {outcome.title} | {target.what} | {target.measured:.2f} | {_verdict(target)} | {word} |\n")
    for outcome in outcomes:
        parts.append(f"\n## {outcome.title}\n\n{outcome.how}\n\n`{outcome.command}`, {outcome.date}.\n\n")
        columns = _columns(outcome)
        parts.append("| figure | unit | " + " | ".join(columns) + " |\n|---|---|" + "---:|" * len(columns) + "\n")
        for what, unit in _rows(outcome):
            cells = " | ".join(_cell(outcome, what, kind) for kind in columns)
            parts.append(f"| {what} | {unit} | {cells} |\n")
        if outcome.notes:
            parts.append("\n" + "".join(f"- {note}\n" for note in outcome.notes))
    return "".join(parts)
