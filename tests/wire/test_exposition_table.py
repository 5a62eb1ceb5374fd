"""Text of a table of series, beside the same series one by one."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.model.labels import Labels, LabelTable
from vedette.model.samples import MetricMetadata
from vedette.wire.escaping import SCHEMES, Spell
from vedette.wire.exposition import render
from vedette.wire.exposition_table import render_table

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
