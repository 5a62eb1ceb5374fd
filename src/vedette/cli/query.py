"""`vedette query`: ask a running server, print a table, plot a range in the terminal."""

from __future__ import annotations

import shutil
import time as clock
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vedette.cli.keys import check_known
from vedette.errors import BadInput, Undeliverable
from vedette.model.durations import parse_duration
from vedette.model.labels import Labels

# Of the first series, in a plot and beside their rows in the table: codes of a terminal's 256 colours, told apart by the colour-blind too.
_COLOURS = ((33, "color(33)"), (208, "color(208)"), (35, "color(35)"), (170, "color(170)"), (220, "color(220)"), (87, "color(87)"))
_MAX_PLOTTED = len(_COLOURS)


def run(
    expr: str,
    *,
    range_: str | None,
    step: str | None,
    time: str | None,
    url: str,
    api_key: str | None,
    as_json: bool,
    explain: bool = False,
    output: Path | None = None,
) -> None:
    """Send one query, show its answer or write it to a file. Raises `BadInput` for what is refused, `Undeliverable` without a server."""
    params: dict[str, str] = {"query": expr}
    if output is not None:
        params["format"] = _format_of(output)
    path = "/api/v1/query"
    if range_ is not None:
        end = _when(time)
        span = parse_duration(range_) / 1000
        path = "/api/v1/query_range"
        params |= {"start": repr(end - span), "end": repr(end), "step": step or f"{max(1.0, span / 240):.3f}"}
    elif time is not None:
        params["time"] = time
    if explain:
        params |= {"explain": "true", "stats": "true"}
    text = ask("POST", url, path, params, api_key)
    if output is not None:
        _write(text, output)
        return
    if as_json:
        print(text.text)
        return
    body = text.json()
    console = Console(highlight=False)
    for note in [*body.get("warnings", ()), *body.get("infos", ())]:
        console.print(f"[yellow]{note}[/yellow]")
    if explain:
        from vedette.cli.explain import show

        show(console, body["data"])
    else:
        _show(console, body["data"])


def _format_of(output: Path) -> str:
    kind = output.suffix.removeprefix(".").lower()
    if kind not in ("csv", "parquet", "json"):
        raise BadInput(f"cannot tell the format of {output}", where="--output", hint="expected a name that ends in .csv, .parquet or .json")
    return kind


def _write(answer: httpx.Response, output: Path) -> None:
    for note in filter(None, answer.headers.get("x-vedette-warnings", "").split(",")):
        Console(stderr=True, highlight=False).print(f"[yellow]{unquote(note)}[/yellow]")
    try:
        output.write_bytes(answer.content)
    except OSError as error:
        raise BadInput(f"cannot write {output}: {error.strerror}", where="--output") from error
    print(f"{output}: {len(answer.content):,} bytes")


def _when(time: str | None) -> float:
    if time is None:
        return clock.time()
    try:
        return float(time)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        raise BadInput(f"not a time: {time!r}", where="--time", hint="expected Unix seconds or RFC 3339") from None


def ask(method: str, url: str, path: str, params: dict[str, str] | None, api_key: str | None) -> httpx.Response:
    """A server's answer to a request with a form. Raises `BadInput` for what is refused, `Undeliverable` without a server."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        answer = httpx.request(method, url.rstrip("/") + path, data=params, headers=headers, timeout=130)
    except httpx.InvalidURL as error:
        raise BadInput(f"not a URL: {url!r}: {error}", where="--url") from None
    except httpx.TransportError as error:
        problem = f"{url} does not answer: {error}; is `vedette serve` running there?"
        raise Undeliverable(problem, reason="refused", retryable=True) from None
    if answer.is_success:
        return answer
    check_known(answer)
    try:
        problem = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        problem = f"{url} answered {answer.status_code}"
    raise BadInput(problem, where="query")


def _show(console: Console, data: dict[str, Any]) -> None:
    kind, result = data["resultType"], data["result"]
    if kind in ("scalar", "string"):
        console.print(str(result[1]), markup=False)
        return
    if not result:
        console.print("[dim]No series. Is the name right? `vedette query 'count by (__name__)({__name__!=\"\"})'` lists all.[/dim]")
        return
    if kind == "matrix":
        _plot(console, result)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("series", overflow="fold")
    for name in ("value",) if kind == "vector" else ("first", "min", "mean", "max", "last"):
        table.add_column(name, justify="right")
    for i, row in enumerate(result):
        labels = Text(str(Labels.of(row["metric"])))
        if kind == "matrix":
            labels = Text.assemble(("● ", _COLOURS[i][1]) if i < _MAX_PLOTTED else "  ", labels)
        table.add_row(labels, *([_value(row)] if kind == "vector" else _summary(_points(row))))
    console.print(table)


def _value(row: dict[str, Any]) -> str:
    """A vector's number, or the count and sum of its native histogram."""
    if "histogram" not in row:
        return str(row["value"][1])
    histogram = row["histogram"][1]
    return f"count {histogram['count']}, sum {histogram['sum']}"


def _points(row: dict[str, Any]) -> list[list[Any]]:
    """A series' times and numbers; of native histograms their counts."""
    counted = [[time, histogram["count"]] for time, histogram in row.get("histograms", ())]
    return sorted([*row.get("values", ()), *counted], key=lambda point: float(point[0]))


def _summary(points: list[list[Any]]) -> list[str]:
    values = [float(v) for _, v in points]
    shown = (values[0], min(values), sum(values) / len(values), max(values), values[-1])
    return [f"{v:.6g}" for v in shown]


def _plot(console: Console, result: list[dict[str, Any]]) -> None:
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.plot_size(min(shutil.get_terminal_size().columns, 140), 18)

    figure.theme("simple" if console.is_terminal else "colorless")
    for row, (code, _) in zip(result, _COLOURS, strict=False):
        times, values = zip(*((float(t), float(v)) for t, v in _points(row)), strict=True)
        figure.draw(figure.signal(times, values, marker=plotext.marker("braille", plotext.pixel(code))).lines())
    every = [float(t) for row in result[:_MAX_PLOTTED] for t, _ in _points(row)]
    low, high = min(every), max(every)
    ticks = [low + (high - low) * i / 4 for i in range(5)]
    figure.ruler("x").ticks(ticks, [datetime.fromtimestamp(t, UTC).astimezone().strftime("%H:%M:%S") for t in ticks])
    drawn = str(figure.build())
    print(drawn if console.is_terminal else plotext.uncolorize(drawn))
    if len(result) > _MAX_PLOTTED:
        console.print(f"[dim]The first {_MAX_PLOTTED} of {len(result)} series are plotted.[/dim]")
