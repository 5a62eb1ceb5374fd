"""`vedette logs`: search a running server's log lines, or follow them, in the colours of their levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.text import Text

from vedette.cli.keys import check_known
from vedette.errors import BadInput, Undeliverable

Params = list[tuple[str, str | int | float | bool | None]]
COLOURS = {"fatal": "bold red", "error": "red", "warn": "yellow", "info": "green", "debug": "blue", "trace": "dim", "unknown": "dim"}


def run(
    text: str | None,
    *,
    levels: list[str],
    services: list[str],
    fields: list[str],
    regex: str | None,
    last: str,
    limit: int,
    follow: bool,
    as_json: bool,
    url: str,
    api_key: str | None,
) -> None:
    """Print lines, the oldest first, then those that come (`follow`). Raises `BadInput`, `Undeliverable`."""
    params: Params = [*(("level", v) for v in levels), *(("service", v) for v in services), *(("field", v) for v in fields)]
    if text:
        params.append(("text", text))
    if regex:
        params.append(("regex", regex))
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    console = Console(highlight=False, soft_wrap=True)
    try:
        with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=60) as client:
            answer = client.get("/api/v1/logs", params=[*params, ("last", last), ("limit", str(limit))])
            for line in reversed(_checked(answer)["data"]["logs"]):
                _print(console, line, as_json)
            if follow:
                for line in _followed(client, params):
                    _print(console, line, as_json)
    except httpx.InvalidURL as error:
        raise BadInput(f"not a URL: {url!r}: {error}", where="--url") from None
    except httpx.TransportError as error:
        problem = f"{url} does not answer: {error}; is `vedette serve` running there?"
        raise Undeliverable(problem, reason="refused", retryable=True) from None
    except KeyboardInterrupt:
        return


def _checked(answer: httpx.Response) -> Any:
    try:
        body = answer.json()
    except ValueError:
        raise Undeliverable(f"{answer.url}: status {answer.status_code}, no JSON", reason="protocol", retryable=False) from None
    if answer.status_code == 200:
        return body
    check_known(answer)
    message = str(body.get("error") or body.get("detail") or f"status {answer.status_code}") if isinstance(body, dict) else str(body)
    if answer.status_code < 500:
        raise BadInput(message)
    raise Undeliverable(message, reason="status", retryable=True)


def _followed(client: httpx.Client, params: Params) -> Iterator[dict[str, Any]]:
    with client.stream("GET", "/api/v1/logs/tail", params=params, timeout=httpx.Timeout(60, read=60)) as answer:
        if answer.status_code != 200:
            answer.read()
            _checked(answer)
        kind = ""
        for text in answer.iter_lines():
            if text.startswith("event: "):
                kind = text.removeprefix("event: ")
            elif text.startswith("data: "):
                data = orjson.loads(text.removeprefix("data: "))
                if kind == "skipped":
                    data = {
                        "timestamp": "",
                        "level": "unknown",
                        "service": "",
                        "message": f"… {data['lines']} lines left out",
                        "fields": {},
                    }
                elif kind:
                    data = {"timestamp": "", "level": "warn", "service": "", "message": str(data.get("problem")), "fields": {}}
                kind = ""
                yield data


def safe(text: str) -> str:
    """Text that moves no cursor: control characters and those that turn the reading direction, written as escapes."""
    return "".join(
        c if c.isprintable() else "\n  " if c == "\n" else "  " if c == "\t" else c.encode("unicode_escape").decode() for c in text
    )


def _print(console: Console, line: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(line).decode(), flush=True)
        return
    colour = COLOURS.get(line["level"], "")
    shown = Text()
    shown.append(line["timestamp"] + " ", "dim")
    shown.append(f"{line['level']:<7} ", colour)
    if line["service"]:
        shown.append(safe(line["service"]) + " ", "cyan")
    shown.append(safe(line["message"]))
    for name, value in line["fields"].items():
        shown.append(f" {safe(name)}=", "dim")
        shown.append(safe(value if isinstance(value, str) else orjson.dumps(value).decode()), "dim")
    console.print(shown)
