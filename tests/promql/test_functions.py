"""Functions whose work is not in a kernel: labels, dates, sorting, absence."""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Iterator
from functools import cmp_to_key
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.clock import ManualClock, SystemClock
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable, Symbols
from vedette.promql import labelsets
from vedette.promql.calendar import PARTS
from vedette.promql.engine import Engine
from vedette.promql.errors import ExecutionError
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings
from vedette.promql.signatures import FUNCTIONS
from vedette.promql.sorting import natural, natural_ranks, sort_by_label
from vedette.promql.values import Matrix

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
from pdq_twin import go_sorted


@pytest.fixture
def engine() -> Iterator[Engine]:
    storage = MemoryStorage()
    for i, disk in enumerate(("sda2", "sda10", "sdb1")):
        storage.add(Labels.of({"__name__": "disk", "name": disk, "zone": "eu"}), 0, float(i))
    engine = Engine(storage, PromqlSettings(experimental_functions=True), SystemClock())
    yield engine
    engine.close()


def labels_of(engine: Engine, expr: str) -> list[dict[str, str]]:
    return [labels.as_dict() for labels, _, _ in engine.instant("t", expr, 0).rows()]


@given(st.floats(-6e10, 2e11))
def test_parts_of_dates(seconds: float) -> None:
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=math.trunc(seconds))
    next_month = (when.replace(day=28) + datetime.timedelta(days=4)).replace(day=1)
    wanted = {
        "minute": when.minute,
        "hour": when.hour,
        "day_of_week": when.isoweekday() % 7,
        "day_of_month": when.day,
        "day_of_year": when.timetuple().tm_yday,
        "month": when.month,
        "year": when.year,
        "days_in_month": (next_month - datetime.timedelta(days=1)).day,
    }
    assert {name: PARTS[name](np.array([seconds]))[0] for name in PARTS} == wanted


def test_label_replace(engine: Engine) -> None:
    expr = 'label_replace(disk{name=~"sda.*"}, "part", "p$n", "name", "(?P<letters>[a-z]+)(?P<n>[0-9]+)")'
    assert [row["part"] for row in labels_of(engine, expr)] == ["p2", "p10"]
    assert labels_of(engine, 'label_replace(disk{name="sdb1"}, "zone", "", "zone", "eu")') == [{"__name__": "disk", "name": "sdb1"}]
    assert labels_of(engine, 'label_replace(disk{name="sdb1"}, "zone", "x", "name", "sd")')[0]["zone"] == "eu", "the match is anchored"
    assert labels_of(engine, 'label_replace(disk{name="sdb1"}, "__name__", "new", "", "")')[0]["__name__"] == "new"
    with pytest.raises(ExecutionError, match="invalid regular expression"):
        engine.instant("t", 'label_replace(disk, "a", "b", "c", "(")', 0)


def test_label_replace_with_more_than_ascii_and_with_what_is_not_there() -> None:
    storage = MemoryStorage()
    for i, text in enumerate(("żółw-1", "żółw-2", "", "wąż-1")):
        storage.add(Labels.of({"__name__": "m", "i": str(i), "animal": text}), 0, float(i))
    ours = Engine(storage, PromqlSettings(), SystemClock())
    try:
        found = labels_of(ours, 'label_replace(m, "first", "${1}é", "animal", "(.).*")')
        assert [row.get("first") for row in found] == ["żé", "żé", None, "wé"]
        # No series has the label, so that all match the empty text.
        assert [row["new"] for row in labels_of(ours, 'label_replace(m, "new", "<$1>", "missing", "(x?)")')] == ["<>"] * 4
        # A half of a character is no text.
        with pytest.raises(ExecutionError, match="invalid regular expression in label_replace"):
            labels_of(ours, 'label_replace(m{i="0"}, "byte", "$1", "animal", "(\\\\C)\\\\C*")')
        # Series that become equal are refused where they meet, also where the label was there before.
        with pytest.raises(ExecutionError, match="same labelset"):
            labels_of(ours, 'label_replace(label_replace(m{i=~"0|1"}, "animal", "same", "", ""), "i", "x", "", "")')
    finally:
        ours.close()


def test_label_join(engine: Engine) -> None:
    assert labels_of(engine, 'label_join(disk{name="sdb1"}, "both", "/", "zone", "missing", "name")')[0]["both"] == "eu//sdb1"
    assert "both" not in labels_of(engine, 'label_join(disk{name="sdb1"}, "both", "", "missing")')[0]


def test_sorting(engine: Engine) -> None:
    assert [r["name"] for r in labels_of(engine, "sort_desc(disk)")] == ["sdb1", "sda10", "sda2"]
    assert [r["name"] for r in labels_of(engine, 'sort_by_label(disk, "name")')] == ["sda2", "sda10", "sdb1"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("a2b", "a10a"), ("", "a"), ("-1", "1"), ("a", "a1"), ("9", "a"), ("a1", "a-1"), ("2" * 20, "3"), ("B", "a"), ("a10", "a10b")],
)
def test_natural_order(first: str, second: str) -> None:
    assert natural(first, second) < 0 < natural(second, first)
    assert natural(first, first) == 0
    assert natural_ranks([second, first]).tolist() == [1, 0]


ALIKE = st.text(st.sampled_from("019aB-~٣é"), max_size=5)
LONG = st.text(st.sampled_from("12"), min_size=18, max_size=20)


@given(st.lists(st.one_of(ALIKE, LONG), unique=True, max_size=12))
@example(["a01", "a1", "a001b", "a1b"])
def test_ranks_are_in_natural_order(texts: list[str]) -> None:
    ranks = natural_ranks(texts)
    for first, mine in zip(texts, ranks, strict=True):
        for second, other in zip(texts, ranks, strict=True):
            # Numbers too long for one are texts, which puts some in a circle with others: sorting decides there.
            if max(len(first), len(second)) < 18 and max(map(len, texts)) < 18:
                assert (mine < other) == (natural(first, second) < 0)
    assert sorted(texts, key=cmp_to_key(natural)) == [texts[i] for i in np.argsort(ranks, kind="stable")]


@given(st.lists(st.tuples(ALIKE, ALIKE, ALIKE), unique=True, max_size=30), st.sampled_from([(), ("a",), ("b", "a"), ("c", "none", "b")]))
def test_series_are_sorted_by_labels_as_one_by_one(values: list[tuple[str, str, str]], names: tuple[str, ...]) -> None:
    rows = [Labels.of(a=a, b=b, c=c) for a, b, c in values]
    rows = list(dict.fromkeys(rows))
    matrix = Matrix(
        LabelTable.from_labels(rows), np.arange(len(rows), dtype=np.float64).reshape(-1, 1), np.ones((len(rows), 1), dtype=np.bool_)
    )
    for descending in (False, True):

        def less(one: Labels, other: Labels, descending: bool = descending) -> bool:
            for a, b in ((one.get(n), other.get(n)) for n in names):
                if a != b:
                    # As Prometheus compares: nothing comes before or behind the lack of a label, and `a1` comes before and behind `a01`.
                    return (bool(a) and bool(b) and natural(a, b) <= 0) != descending
            return (one < other) != descending

        assert list(sort_by_label(matrix, names, descending=descending).labels) == go_sorted(rows, less)
    if names and all(row.get(n) for row in rows for n in names) and not any("0" in row.get(n) for row in rows for n in names):
        assert list(sort_by_label(matrix, names, descending=False).labels) == sorted(
            rows, key=lambda row: ([cmp_to_key(natural)(row.get(n)) for n in names], row)
        )


def test_the_first_of_each_group_at_each_step() -> None:
    storage = MemoryStorage()
    for i in range(12):
        for step in range(3):
            if (i + step) % 3:
                storage.add(Labels.of(__name__="m", i=str(i), half=str(i % 2)), 60_000 * step, float(i))
    engine = Engine(storage, PromqlSettings(experimental_functions=True, lookback_ms=30_000), SystemClock())
    try:
        found = engine.range("t", "limitk by (half) (2, m)", 0, 120_000, 60_000).rows()
        for step in range(3):
            for half in (0, 1):
                there = [i for i in range(12) if (i + step) % 3 and i % 2 == half]
                got = [int(row[times.tolist().index(60_000 * step)]) for labels, times, row in found
                       if labels.get("half") == str(half) and 60_000 * step in times.tolist()]  # fmt: skip
                assert sorted(got) == there[:2]
        assert len(engine.instant("t", "limitk(5, m)", 0).rows()) == 5
        assert len(engine.instant("t", "limitk(100, m)", 0).rows()) == 8
        varying = engine.range("t", "limitk(scalar(vector(time() / 60)), m)", 0, 120_000, 60_000).rows()
        assert sorted(sum(t == at for _, times, _ in varying for t in times.tolist()) for at in (0, 60_000, 120_000)) == [0, 1, 2]
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("call", "value", "wanted"),
    [
        ("clamp_min({}, 0)", -0.0, 0.0),
        ("clamp_max({}, 0)", -0.0, -0.0),
        ("clamp_min({}, +Inf)", math.nan, math.inf),
        ("clamp_max({}, -Inf)", math.nan, -math.inf),
        ("clamp_min({}, NaN)", math.inf, math.inf),
        ("clamp_max({}, NaN)", 1.0, math.nan),
        ("clamp({}, NaN, 2)", 1.0, math.nan),
        ("clamp({}, -1, 1)", 5.0, 1.0),
        ("year({})", 1e18, 31688740476.0),
        ("year({})", math.nan, 292277026596.0),
        ("month({})", 1e18, 10.0),
        ("hour({})", -1.0, 23.0),
        ("hour({})", -0.5, 0.0),
        ("day_of_week({})", -62135596800.0, 1.0),
    ],
)
def test_numbers_at_their_edges(call: str, value: float, wanted: float) -> None:
    storage = MemoryStorage()
    storage.add(Labels.of({"__name__": "m"}), 0, value)
    engine = Engine(storage, PromqlSettings(), ManualClock())
    got = float(engine.instant("t", call.format("m"), 0).rows()[0][2][0])
    assert (got == wanted and math.copysign(1, got) == math.copysign(1, wanted)) or (math.isnan(got) and math.isnan(wanted))
    engine.close()


def test_absence(engine: Engine) -> None:
    assert labels_of(engine, 'absent(nothing{a="b", c=~"d", e="f", e="g"})') == [{"a": "b"}]
    assert labels_of(engine, 'absent_over_time(nothing{a="b"}[5m])') == [{"a": "b"}]
    assert labels_of(engine, "absent(sum(nothing))") == [{}]
    assert labels_of(engine, "absent(disk)") == []


def test_histograms_functions_find_none_among_floats(engine: Engine) -> None:
    assert labels_of(engine, "histogram_count(disk)") == []


rows = st.lists(st.dictionaries(st.sampled_from("abcdz_"), st.sampled_from("xy"), max_size=4).map(Labels.of), max_size=8)


@given(rows, st.sampled_from(["a", "c", "m", "zz", "_"]), st.data())
def test_a_label_is_put_where_its_name_sorts(labels: list[Labels], name: str, data: st.DataObject) -> None:
    symbols = Symbols()
    table = LabelTable.from_labels(labels, symbols)
    texts = data.draw(st.lists(st.sampled_from(["", "new", "x"]), min_size=len(labels), max_size=len(labels)))
    column = np.array([symbols.intern(t) if t else -1 for t in texts], dtype=np.int32)
    got = list(labelsets.with_label(table, name, column))
    assert got == [row.with_({name: text}) for row, text in zip(labels, texts, strict=True)]
    assert [labels.symbols.text(s) for labels in [table] for s in table.names.tolist()] == [n for row in labels for n, _ in row]


def test_thousands_of_names_that_no_series_has_change_nothing(engine: Engine) -> None:
    names = [f"none_{i}" for i in range(2000)]
    quoted, plain = ", ".join(f'"{name}"' for name in names), ", ".join(names)
    for few, many in (
        ('sort_by_label_desc(disk, "name", "zone")', f'sort_by_label_desc(disk, {quoted}, "name", {quoted}, "zone")'),
        ('label_join(disk, "both", "", "zone", "name")', f'label_join(disk, "both", "", {quoted}, "zone", "name")'),
        (
            'disk * on(name) group_left(new) label_replace(disk, "new", "$1", "name", "(.*)")',
            f'disk * on(name) group_left({plain}, new, {plain}) label_replace(disk, "new", "$1", "name", "(.*)")',
        ),
    ):
        assert labels_of(engine, many) == labels_of(engine, few)
    # What the one side has not, the many side loses.
    assert [row.get("zone") for row in labels_of(engine, f"disk * on(name) group_left({plain}, zone) sum by (name) (disk)")] == [None] * 3
    # A separator between labels that are not there is text all the same.
    assert labels_of(engine, f'label_join(disk{{name="sdb1"}}, "both", "-", {quoted}, "name")')[0]["both"] == "-" * 2000 + "sdb1"


_GIVEN = {"vector": 'label_replace(disk, "le", "$1", "name", "sd.(.*)")', "scalar": "0.5", "string": '"s"', "matrix": "disk[5m]"}


@pytest.mark.parametrize("name", [name for name, function in FUNCTIONS.items() if function.returns == "vector"])
@pytest.mark.parametrize("form", ["last_over_time(({})[20s:1m])", "count(({}) or disk) by (zone)"])
def test_every_function_where_there_is_no_time_to_evaluate_it_at(engine: Engine, name: str, form: str) -> None:
    of_kinds = ", ".join(_GIVEN[kind] for kind in FUNCTIONS[name].args)
    given = {"info": "disk", "histogram_quantiles": f'{_GIVEN["vector"]}, "q", 0.5, 0.9'}.get(name, of_kinds)
    expr = form.format(f"{name}({given})")
    # Twenty seconds before half past there is no full minute; a range of no step in between has some without.
    assert engine.instant("t", f"last_over_time(({name}({given}))[20s:1m])", 30_000).rows() == []
    engine.range("t", expr, 0, 90_000, 15_000).rows()
