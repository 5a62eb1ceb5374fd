"""Text of a table of series, beside the same series one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import MetricMetadata
from vedette.wire.escaping import SCHEMES, Spell
from vedette.wire.exposition import render
from vedette.wire.exposition_table import AT_ONCE, render_table, table_pieces

texts = st.one_of(st.sampled_from(["a", "b", "le", "x y", 'q"\\\n', "é", "0", "job"]), st.text(min_size=1, max_size=4))
metrics = st.sampled_from(["up", "hits_total", "rpc_seconds_bucket", "rpc_seconds_sum", "rpc_seconds", "dotted.name", "ünïcode"])
numbers = st.one_of(
    st.floats(),
    st.integers(-(10**6), 10**6).map(lambda n: n / 100),
    st.sampled_from([0.0, -0.0, 1e15, 1e16, 0.0001, 1e-5, math.inf, math.nan]),
)
series = st.dictionaries(
    st.builds(lambda metric, labels: Labels.of({**labels, "__name__": metric}), metrics, st.dictionaries(texts, texts, max_size=3)),
    numbers,
    max_size=12,
)
KNOWN = [
    MetricMetadata("hits_total", "counter", "Hits.\nMany \\."),
    MetricMetadata("rpc_seconds", "histogram", ""),
    MetricMetadata("dotted.name", "gauge", "d"),
]


@given(series, series, st.sampled_from(list(SCHEMES.values())))
def test_the_same_text_as_one_by_one(given_ones: dict[Labels, float], others: dict[Labels, float], spell: Spell) -> None:
    table = LabelTable.from_labels([Labels.of(__name__="not", shown="x"), *others])
    rows = np.arange(1, len(others) + 1, dtype=np.int64)
    floats = np.array(list(others.values()), dtype=np.float64)
    got = render_table(list(given_ones), list(given_ones.values()), table, rows, floats, metadata=KNOWN, spell=spell)
    wanted = render([*given_ones, *others], [*given_ones.values(), *others.values()], metadata=KNOWN, spell=spell)
    assert got.decode() == wanted.decode()


def test_a_table_without_rows_adds_nothing() -> None:
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
    assert render_table([], [], LabelTable.from_labels([]), *nothing) == b""
    up = [Labels.of(__name__="up")]
    assert render_table(up, [1.0], LabelTable.from_labels([]), *nothing) == b"up 1\n"


def test_many_series_come_in_pieces_that_are_one_text() -> None:
    """A piece ends where its rows do, and where there is no room: before a line, which is begun again, with what stands before it."""
    count = AT_ONCE + 5
    rows = [Labels.of(__name__=f"m_{i % 3}", i=str(i), long="x" * 500 if i % 2 else "") for i in range(count)]
    rows[7] = Labels.of(__name__="huge", text="é" * 3_000_000)
    floats = np.arange(count) / 8
    floats[::5] = 1 / 3
    floats[::7] = np.nan
    about = [MetricMetadata("m_1", "gauge", "One."), MetricMetadata("huge", "gauge", "h" * 3_000_000), MetricMetadata("alone", "gauge", "")]
    given_ones = [Labels.of(__name__="m_1", given="1"), Labels.of(__name__="alone")]
    table = LabelTable.from_labels(rows)
    pieces = list(table_pieces(given_ones, [1.0, 2.0], table, np.arange(count), floats, metadata=about))
    assert len(pieces) > 3 and all(pieces)
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert b"".join(pieces) == render([*given_ones, *rows], [1.0, 2.0, *floats.tolist()], metadata=about)


def test_families_without_a_series_in_the_table_are_told_wherever_they_stand() -> None:
    table = LabelTable.from_labels([Labels.of(__name__="b", x="1")])
    given_ones = [Labels.of(__name__=name) for name in ("a", "b", "c")]
    got = render_table(given_ones, [1.0, 2.0, 3.0], table, np.arange(1), np.ones(1), metadata=[MetricMetadata("c", "gauge", "")])
    assert got == b'a 1\nb 2\nb{x="1"} 1\n# TYPE c gauge\nc 3\n'


def test_a_series_without_a_metric_is_refused() -> None:
    table = LabelTable.from_labels([Labels.of(__name__="b"), Labels.of(x="1")])
    with pytest.raises(AssertionError, match="without a metric name"):
        render_table([], [], table, np.arange(2), np.ones(2))
