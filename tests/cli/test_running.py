"""What `vedette queries` prints, and what it sends."""

from __future__ import annotations

import io

import httpx
import pytest
from rich.console import Console

from vedette.cli import running
from vedette.errors import BadInput

ONE = {"id": "7", "state": "running", "query": "sum(up)", "runningSeconds": 1.25, "samples": 120_000, "bytes": 3 << 20}


def printed(found: list[dict[str, object]]) -> list[str]:
    out = io.StringIO()
    running.show(Console(file=out, width=120), found)
    return out.getvalue().splitlines()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked, answered with one query."""
    found: list[tuple[str, str]] = []

    def ask(method: str, url: str, path: str, params: object, api_key: str | None) -> httpx.Response:
        found.append((method, path))
        return httpx.Response(200, json={"status": "success", "data": [ONE]})

    monkeypatch.setattr(running, "ask", ask)
    return found


def test_a_query_has_a_row() -> None:
    head, row, hint = printed([ONE])
    assert head.split() == ["id", "state", "seconds", "samples", "MiB", "query"]
    assert row.split() == ["7", "running", "1.2", "120,000", "3.0", "sum(up)"]
    assert "--end ID" in hint


def test_a_query_is_no_markup_and_has_an_end() -> None:
    (_, row, _) = printed([ONE | {"query": "up[5m] [bold]x"}])
    assert row.endswith("up[5m] [bold]x")
    assert sum(line.count("x") for line in printed([ONE | {"query": "x" * 10_000}])) == running._TEXT


def test_nothing_runs() -> None:
    assert printed([]) == ["No query runs or waits now."]


def test_listing_and_ending(sent: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    running.queries(end=None, url="http://x", api_key=None, as_json=True)
    running.queries(end="7", url="http://x", api_key=None, as_json=False)
    assert sent == [("GET", "/api/v1/status/queries"), ("DELETE", "/api/v1/status/queries/7")]
    assert '"sum(up)"' in (out := capsys.readouterr().out) and out.endswith("query 7 is told to end\n")


@pytest.mark.parametrize("bad", ["", "x", "../users", "-1", "1.5"])
def test_an_id_is_a_number(bad: str, sent: list[tuple[str, str]]) -> None:
    with pytest.raises(BadInput, match="not the id of a query"):
        running.queries(end=bad, url="http://x", api_key=None, as_json=False)
    assert sent == []
