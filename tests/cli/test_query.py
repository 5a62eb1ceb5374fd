"""What `vedette query` prints of an answer."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from vedette.cli.query import _show

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
