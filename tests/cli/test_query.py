"""What `vedette query` prints of an answer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from vedette.cli import query
from vedette.cli.query import _show
from vedette.errors import BadInput

HISTOGRAM = {"count": "4", "sum": "5", "buckets": [[0, "1", "2", "4"]]}


def printed(kind: str, result: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    _show(Console(file=out, width=120), {"resultType": kind, "result": result})
    return out.getvalue()


def test_a_vector_of_floats_and_histograms() -> None:
    text = printed(
        "vector", [{"metric": {"__name__": "a"}, "value": [0, "1.5"]}, {"metric": {"__name__": "h"}, "histogram": [0, HISTOGRAM]}]
    )
    assert [line.split(maxsplit=1) for line in text.splitlines()[1:]] == [["a", "1.5"], ["h", "count 4, sum 5"]]


def test_a_series_of_both_is_shown_by_counts(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"metric": {"__name__": "h"}, "values": [[0, "1"], [120, "10"]], "histograms": [[60, HISTOGRAM]]}
    summary = printed("matrix", [row]).splitlines()[-1].split()
    assert summary[-5:] == ["1", "1", "5", "10", "10"]
    assert capsys.readouterr().out


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What is sent, answered with a table and a warning."""
    sent: list[dict[str, str]] = []

    def ask(method: str, url: str, path: str, params: dict[str, str], api_key: str | None) -> httpx.Response:
        sent.append({"path": path, **params})
        return httpx.Response(200, content=b"a,b\r\n1,2\r\n", headers={"x-vedette-warnings": "PromQL%20warning%3A one,two"})

    monkeypatch.setattr(query, "ask", ask)
    return sent


def test_an_answer_goes_to_a_file(asked: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "answer.csv"
    query.run("up", range_="1h", step="1m", time="7200", url="http://x", api_key=None, as_json=False, output=file)
    assert file.read_bytes() == b"a,b\r\n1,2\r\n"
    assert asked == [{"path": "/api/v1/query_range", "query": "up", "format": "csv", "start": "3600.0", "end": "7200.0", "step": "1m"}]
    shown = capsys.readouterr()
    assert shown.out == f"{file}: 10 bytes\n"
    assert shown.err.splitlines() == ["PromQL warning: one", "two"]


def test_a_file_must_say_its_format_and_be_writable(asked: list[dict[str, str]], tmp_path: Path) -> None:
    ask: dict[str, Any] = {"range_": None, "step": None, "time": None, "url": "http://x", "api_key": None, "as_json": False}
    with pytest.raises(BadInput, match=r"cannot tell the format of .*\.xls"):
        query.run("up", **ask, output=tmp_path / "answer.xls")
    assert asked == []
    with pytest.raises(BadInput, match="cannot write"):
        query.run("up", **ask, output=tmp_path / "nowhere" / "answer.parquet")
