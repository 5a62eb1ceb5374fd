"""`vedette rules backtest`: a rule file over a server's history: a timeline, each firing, each notification it would have led to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vedette.cli.keys import check_known
from vedette.errors import BadInput, Undeliverable
from vedette.model.labels import Labels

_NAME_WIDTH = 28
_LEVELS = " ▁▂▃▄▅▆▇█"
_MOST = 50
"""Rows of a table; `--json` has all."""


def backtest(file: Path, *, since: str, end: str | None, url: str, api_key: str | None, as_json: bool) -> None:
    """Run the file's alerting rules. Raises `BadInput` for what the server refuses, `Undeliverable` without one."""
    from vedette import configfile

    params = {"since": since, **({"end": end} if end is not None else {})}
    console = Console(highlight=False)
    result = _ask(url, params, configfile.read(file), api_key, quiet=as_json or not console.is_terminal)
    if as_json:
        print(json.dumps(result))
        return
    _timeline(console, result)
    _firings(console, result)
    _notifications(console, result)


def _ask(url: str, params: dict[str, str], body: bytes, api_key: str | None, *, quiet: bool) -> dict[str, Any]:
    headers = {"Accept": "application/x-ndjson", "Content-Type": "application/yaml"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    path = url.rstrip("/") + "/api/v1/rules/backtest"
    try:
        with (
            httpx.stream("POST", path, params=params, content=body, headers=headers, timeout=httpx.Timeout(30, read=130)) as answer,
            Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar,
        ):
            if not answer.is_success:
                raise BadInput(_problem(answer), where="backtest")
            task = bar.add_task("evaluations", total=None)
            for line in _objects(answer):
                if "progress" in line:
                    told = line["progress"]
                    bar.update(task, completed=told["done"], total=told["total"] or None, description=told["rule"] or "evaluations")
                elif "error" in line:
                    raise BadInput(line["error"], where="backtest")
                else:
                    found: dict[str, Any] = line["result"]
                    return found
    except httpx.InvalidURL as error:
        raise BadInput(f"not a URL: {url!r}: {error}", where="--url") from None
    except httpx.TransportError as error:
        problem = f"{url} does not answer: {error}; is `vedette serve` running there?"
        raise Undeliverable(problem, reason="refused", retryable=True) from None
    raise Undeliverable(f"{url} ended its answer before the result", reason="protocol", retryable=True)


def _objects(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in answer.iter_lines() if line)


def _problem(answer: httpx.Response) -> str:
    check_known(answer)
    answer.read()
    try:
        told = answer.json()
    except ValueError:
        return f"the server answered {answer.status_code}"
    detail = told.get("detail", told.get("error", f"the server answered {answer.status_code}"))
    return (
        "; ".join(f"{'.'.join(map(str, d['loc'][1:]))}: {d['msg']}".lstrip(": ") for d in detail)
        if isinstance(detail, list)
        else str(detail)
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def shares(spans: list[tuple[float, float]], start: float, end: float, width: int) -> list[float]:
    """How much of each of `width` equal parts of the time from start to end the spans cover: 0 to 1, overlaps counted once."""
    size = (end - start) / width
    merged: list[tuple[float, float]] = []
    for lo, hi in sorted(spans):
        if merged and lo <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    cells = [(start + i * size, start + (i + 1) * size) for i in range(width)]
    return [sum(max(0.0, min(hi, b) - max(lo, a)) for lo, hi in merged) / size for a, b in cells]


def bar(parts: list[float]) -> str:
    """Shares as blocks, the higher the larger; the smallest firing still shows."""
    return "".join(_LEVELS[0] if share <= 0 else _LEVELS[max(1, min(8, round(share * 8)))] for share in parts)


def _timeline(console: Console, result: dict[str, Any]) -> None:
    start, end = _seconds(result["start"]), _seconds(result["end"])
    width = max(20, min(console.width, shutil.get_terminal_size().columns, 160) - _NAME_WIDTH - 14)
    for rule in result["rules"]:
        spans = [(_seconds(f["fired_at"]), _seconds(f["resolved_at"]) if f["resolved_at"] else end) for f in rule["firings"]]
        line = Text(rule["name"][:_NAME_WIDTH].ljust(_NAME_WIDTH) + " ")
        line.append("│" + bar(shares(spans, start, end, width)) + "│", style="red" if spans else "dim")
        line.append(f" {rule['fired']} fired", style="bold" if spans else "dim")
        console.print(line, no_wrap=True)
    first, last = (datetime.fromtimestamp(t).astimezone().strftime("%d %b %H:%M") for t in (start, end))
    console.print(" " * (_NAME_WIDTH + 1) + first + last.rjust(width + 2 - len(first)), style="dim")
    for rule in result["rules"]:
        facts = f"{rule['name']}: {rule['evaluations']} evaluations, {rule['fired']} firings, {rule['pending_only']} only pending"
        console.print(facts, markup=False, style="dim")
        for problem in rule["errors"][:3]:
            console.print(f"  failed at {problem['at']}: {problem['error']}", markup=False, style="yellow")
        if rule["failures"] > 3:
            console.print(f"  {rule['failures']} evaluations failed in all", style="yellow")


def _local(text: str | None) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else "still firing"


def _firings(console: Console, result: dict[str, Any]) -> None:
    rows = sorted(((f, r) for r in result["rules"] for f in r["firings"]), key=lambda row: str(row[0]["fired_at"]))
    if not rows:
        console.print("\n[green]No rule would have fired.[/green]")
        return
    table = Table(
        "fired", "resolved", "alert", "value", box=None, header_style="bold", pad_edge=False, title="Firings", title_justify="left"
    )
    for firing, _ in rows[:_MOST]:
        alert = Text(str(Labels.of(firing["labels"])))
        table.add_row(_local(firing["fired_at"]), _local(firing["resolved_at"]), alert, f"{firing['value']:.6g}")
    console.print()
    console.print(table)
    _more(console, sum(r["fired"] for r in result["rules"]))


def _notifications(console: Console, result: dict[str, Any]) -> None:
    if not result["configured"]:
        console.print("\n[dim]Nobody is configured to be told: no notification would have gone out.[/dim]")
        return
    if result["notifications"]:
        _told(console, result)
    else:
        console.print("\n[green]No notification would have gone out.[/green]")
    for muted in result["muted"][:_MOST]:
        console.print(
            f"quiet {_local(muted['at'])} {muted['receiver']}: {Labels.of(muted['labels'])}: {muted['reason']}", markup=False, style="dim"
        )


def _told(console: Console, result: dict[str, Any]) -> None:
    title = f"Notifications ({result['notification_count']} would have gone out)"
    table = Table(
        "at", "receiver", "status", "alerts", "why", box=None, header_style="bold", pad_edge=False, title=title, title_justify="left"
    )
    for told in result["notifications"][:_MOST]:
        names = sorted({a["labels"].get("alertname", "") for a in told["alerts"]})
        what = Text(f"{len(told['alerts'])}: {', '.join(names)}")
        style = "red" if told["status"] == "firing" else "green"
        table.add_row(_local(told["at"]), f"{told['receiver']} {told['channel']}", Text(told["status"], style=style), what, told["why"])
    console.print()
    console.print(table)
    _more(console, result["notification_count"])


def _more(console: Console, count: int) -> None:
    if count > _MOST:
        console.print(f"[dim]The first {_MOST} of {count}; --json has more.[/dim]")
