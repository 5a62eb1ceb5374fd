"""`vedette queries`: what a running server is evaluating now, and an end to one of it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vedette.cli.query import ask
from vedette.errors import BadInput

_PATH = "/api/v1/status/queries"
_TEXT = 500
"""Characters of a query that are shown; `--json` has all."""


def queries(*, end: str | None, url: str, api_key: str | None, as_json: bool) -> None:
    """List queries, or end the one whose id is `end`. Raises `BadInput` for what is refused, `Undeliverable` without a server."""
    if end is not None:
        if not end.isdecimal():
            raise BadInput(f"not the id of a query: {end!r}", where="--end", hint="`vedette queries` lists them with their ids")
        ask("DELETE", url, f"{_PATH}/{end}", None, api_key)
        print(f"query {end} is told to end")
        return
    answer = ask("GET", url, _PATH, None, api_key)
    if as_json:
        print(answer.text)
        return
    show(Console(highlight=False), answer.json()["data"])


def show(console: Console, found: list[dict[str, Any]]) -> None:
    """A table of queries, as the server lists them."""
    if not found:
        console.print("[dim]No query runs or waits now.[/dim]")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("id", justify="right")
    table.add_column("state")
    for name in ("seconds", "samples", "MiB"):
        table.add_column(name, justify="right")
    table.add_column("query", overflow="fold")
    for one in found:
        text = one["query"] if len(one["query"]) <= _TEXT else one["query"][:_TEXT] + "…"
        figures = f"{one['runningSeconds']:.1f}", f"{one['samples']:,}", f"{one['bytes'] / (1 << 20):.1f}"
        table.add_row(one["id"], one["state"], *figures, Text(text))
    console.print(table)
    console.print("[dim]`vedette queries --end ID` ends one.[/dim]")
