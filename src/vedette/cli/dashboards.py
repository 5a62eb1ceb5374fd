"""`vedette dashboards`: the Grafana dashboards that come along, listed, or put into a Grafana. Not here: our own pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vedette.errors import BadInput, Undeliverable

FOLDER = Path(__file__).parent.parent / "web" / "dashboards"

dashboards = typer.Typer(help="The Grafana dashboards that come along.", no_args_is_help=True)


def found() -> list[tuple[Path, dict[str, Any]]]:
    """(file, dashboard) of each, in order of the file's name."""
    return [(path, json.loads(path.read_text("utf-8"))) for path in sorted(FOLDER.glob("*.json"))]


@dashboards.command("list")
def show() -> None:
    """List the dashboards and where their files are, to be imported by hand."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("TITLE", "ABOUT", "PANELS", "FILE"):
        table.add_column(column, overflow="fold")
    for path, board in found():
        panels = sum(panel["type"] != "row" for panel in board["panels"])
        table.add_row(board["title"], board["description"], str(panels), str(path.resolve()))
    Console(highlight=False).print(table)


@dashboards.command("push")
def push(
    url: Annotated[str, typer.Option("--url", envvar="GRAFANA_URL", help="The Grafana.")],
    token: Annotated[str, typer.Option("--token", envvar="GRAFANA_TOKEN", help="A service account's token that may edit.")] = "",
    source: Annotated[
        str, typer.Option("--source", help="How that Grafana reaches this Vedette: makes a data source of it, unless there is one.")
    ] = "",
    api_key: Annotated[str, typer.Option("--api-key", envvar="API_KEY", help="What that data source sends as a bearer token.")] = "",
) -> None:
    """Put all dashboards into a Grafana; those that are there already are brought up to date."""
    import httpx

    if not url.startswith(("http://", "https://")):
        raise BadInput(f"not a URL: {url!r}", where="--url", hint="expected http://HOST:3000")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=30) as grafana:
        if source:
            _ask(grafana, "/api/datasources", _source(source, api_key), fine=(200, 409))
            print(f"data source Vedette: {source}")
        for _, board in found():
            body = {"dashboard": {**board, "id": None}, "overwrite": True, "message": "vedette dashboards push"}
            answer = _ask(grafana, "/api/dashboards/db", body, fine=(200,))
            print(f"{board['title']}: {url.rstrip('/')}{answer.get('url', '')}")


def _source(url: str, api_key: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": "Vedette", "type": "prometheus", "access": "proxy", "url": url, "jsonData": {"httpMethod": "POST"}}
    if api_key:
        made["jsonData"]["httpHeaderName1"] = "Authorization"
        made["secureJsonData"] = {"httpHeaderValue1": f"Bearer {api_key}"}
    return made


def _ask(grafana: Any, path: str, body: dict[str, Any], *, fine: tuple[int, ...]) -> dict[str, Any]:
    import httpx

    try:
        answer = grafana.post(path, json=body)
    except httpx.TransportError as error:
        raise Undeliverable(f"Grafana does not answer: {error}", reason="refused", retryable=True) from None
    if answer.status_code not in fine:
        problem = f"Grafana refused {path}: HTTP status {answer.status_code}: {answer.text[:300]}"
        raise Undeliverable(problem, reason="status", retryable=False)
    try:
        told = answer.json()
    except json.JSONDecodeError:
        raise Undeliverable("this is no Grafana: its answer was not JSON", reason="protocol", retryable=False) from None
    return told if isinstance(told, dict) else {}
