"""Corners of the language, one query a line in `semantics.txt` (`\\N` is a line break), beside Debian's Prometheus: values to the
last digit and the sign of zero, refusals in its words and at its positions.

Where Prometheus 3 answers otherwise the query is not in that file, but in a test that says what Prometheus 3 does.
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vedette.clock import SystemClock
from vedette.errors import VedetteError
from vedette.model.labels import Labels
from vedette.promql.engine import Engine
from vedette.promql.memory import MemoryStorage
from vedette.promql.parse import parse
from vedette.promql.printer import format_query
from vedette.promql.settings import PromqlSettings

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
from debian import answered, need, served
from pdq_twin import GO_1_19, go_sorted

BEGIN = 1_700_000_000_000
INSTANT = BEGIN + 1_800_000
RANGE = (BEGIN + 900_000, BEGIN + 1_500_000, 60_000)
Answer = tuple[str, object]

SPECIAL = {
    "nan": lambda i: math.nan,
    "inf": lambda i: math.inf,
    "ninf": lambda i: -math.inf,
    "nzero": lambda i: -0.0,
    "zero": lambda i: 0.0,
    "tiny": lambda i: 5e-324,
    "huge": lambda i: 1.7e308,
    "half": lambda i: 0.5,
    "mhalf": lambda i: -2.5,
    "mixnan": lambda i: math.nan if i % 3 else float(i),
    "mixinf": lambda i: math.inf if i % 4 == 0 else float(-i),
}
TIED = 540
SORTS = {f"{sort}(tied{i})": sort == "sort_desc" for i in range(3) for sort in ("sort", "sort_desc")}
DATES = (
    0, -1, -86400, 951782400, 951868799, 1709164800, 1704067199, 1704067200, 4102444800, -62135596800, 1e10, 1e12, 253402300799,
    1709251199.9, -0.5, -2208988800, 1582934400,
)  # fmt: skip


def dataset() -> MemoryStorage:
    """An hour of samples every 15 s, each 1.234 s behind a multiple of 5 s, so that no window's edge meets one."""
    storage, rng = MemoryStorage(), random.Random(7)

    def add(labels: dict[str, str], value: Callable[[int], float], *, there: Callable[[int], bool] = lambda i: True) -> None:
        for i in filter(there, range(240)):
            storage.add(Labels.of(labels), BEGIN + i * 15_000 + 1_234, float(value(i)))

    def counter() -> Callable[[int], float]:
        level = rng.random() * 10

        def next_value(i: int) -> float:
            nonlocal level
            level = 0.5 if rng.random() < 0.02 else level + rng.random() * 3
            return level

        return next_value

    def wave(phase: int) -> Callable[[int], float]:
        return lambda i: 1e9 * math.sin(i / 20 + phase) + rng.random()

    for instance in ("a:1", "a:2", "b:10"):
        at, even = {"instance": instance, "job": "node"}, len(instance) % 2
        for mode in ("idle", "user", "sys"):
            add({"__name__": "cpu_seconds_total", "mode": mode, **at}, counter())
        add({"__name__": "mem_bytes", **at}, wave(len(instance)))
        for rank, le in enumerate(("0.1", "0.5", "1", "+Inf"), 1):
            add({"__name__": "req_bucket", "le": le, **at}, lambda i, k=rank: i * k * 1.5)
        add({"__name__": "req_count", **at}, lambda i: i * 6)
        add({"__name__": "req_sum", **at}, lambda i: i * 2.5)
        add({"__name__": "gappy", **at}, float, there=lambda i, even=even: (i // 30) % 2 != even)
    for name, value in SPECIAL.items():
        add({"__name__": "special", "k": name}, value)
    for number, seconds in enumerate(DATES):
        add({"__name__": "dates", "t": f"t{number}"}, lambda i, s=seconds: s)
    for number in range(TIED):
        tie = rng.choice((math.nan, *range(8)))
        add({"__name__": f"tied{number % 3}", "i": f"{number:03}"}, lambda i, tie=tie: tie, there=lambda i: i == 119)
    add({"__name__": "by", "on": "1", "sum": "2"}, lambda i: 1)
    add({"__name__": "on", "by": "1"}, lambda i: 2)
    add({"__name__": "rule:x:sum", "a": "1"}, float)
    for b, more in (("2", 0), ("3", 1)):
        add({"__name__": "left", "a": "1", "b": b}, lambda i, more=more: i + more)
    for name, c, factor in (("right", "5", 2), ("right", "6", 3), ("right2", "6", 3)):
        add({"__name__": name, "a": "1", "c": c}, lambda i, factor=factor: factor * i)
    return storage


def rows(result: list[dict[str, object]]) -> dict[Labels, dict[int, float]]:
    """A vector or a matrix of Prometheus' as series, each with its values by time in ms."""
    return {Labels.of(row["metric"]): {round(t * 1000): float(v) for t, v in row.get("values") or [row["value"]]} for row in result}


def theirs(address: str, query: str, *, ranged: bool) -> Answer:
    if ranged:
        start, end, step = (f"{ms / 1000}" for ms in RANGE)
        kind, result = answered(address, "query_range", {"query": query, "start": start, "end": end, "step": step})
    else:
        kind, result = answered(address, "query", {"query": query, "time": f"{INSTANT / 1000}"})
    if kind == "scalar":
        return kind, float(result[1])
    if kind == "string":
        return kind, result[1]
    return (kind, result) if kind == "error" else (kind, rows(result))


def ours(engine: Engine, query: str, *, ranged: bool) -> Answer:
    try:
        result = engine.range("t", query, *RANGE) if ranged else engine.instant("t", query, INSTANT)
    except VedetteError as error:
        return "error", str(error).split("\n", maxsplit=1)[0]
    if result.type == "string":
        return "string", result.text
    if result.type == "scalar":
        return "scalar", float(result.rows()[0][2][0])
    return result.type, {labels: dict(zip(t.tolist(), v.tolist(), strict=True)) for labels, t, v in result.rows()}


def same(a: float, b: float) -> bool:
    if a == b:
        return math.copysign(1, a) == math.copysign(1, b) or a != 0
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9)


def difference(a: Answer, b: Answer) -> str:
    (kind, mine), (other, his) = a, b
    if kind != other or isinstance(mine, str) or isinstance(his, str):
        return "" if a == b else f"ours {str(a)[:200]}, theirs {str(b)[:200]}"
    if isinstance(mine, float) and isinstance(his, float):
        return "" if same(mine, his) else f"ours {mine!r}, theirs {his!r}"
    assert isinstance(mine, dict)
    assert isinstance(his, dict)
    if mine.keys() != his.keys():
        return f"series differ: {list(mine.keys() ^ his.keys())[:4]}"
    for labels, points in his.items():
        if points.keys() != mine[labels].keys():
            return f"{labels}: points differ at {sorted(points.keys() ^ mine[labels].keys())[:3]}"
        for when, value in points.items():
            if not same(mine[labels][when], value):
                return f"{labels} at {when}: ours {mine[labels][when]!r}, theirs {value!r}"
    return ""


def test_what_is_formatted_is_as_prometheus_has_it(tmp_path: Path, conformance: Path, debian_binary: Callable[[str], str]) -> None:
    need("2.42")
    with (conformance / "derived" / "promql_corpus.jsonl").open() as corpus:
        entries = [json.loads(line) for line in corpus]
    queries = [e["expr"] for e in entries if e.get("parse_ok") and "$" not in e["expr"]]
    queries += ["x[25h]", "x[90d] offset -1h30m", 'x{b="1", a=~"2"} @ 1.5 offset 5m', "a +on() group_left b", "- (x) ^ -2", "sum(x)by(a)"]
    problems, compared = [], 0
    with served(MemoryStorage(), tmp_path) as address:
        for query in dict.fromkeys(queries):
            kind, his = answered(address, "format_query", {"query": query})
            if kind == "error" or re.search(r"[0-9]e[+-][0-9]", str(his)):
                continue  # newer than it, or a number that Prometheus 3 prints without an exponent
            compared += 1
            if (mine := format_query(parse(query))) != his:
                problems.append(f"{query}\n--- ours\n{mine}\n--- theirs\n{his}")
    assert not problems, f"{len(problems)} of {compared} differ:\n" + "\n".join(problems)
    assert compared > 1000


def test_corners_are_as_prometheus_has_them(tmp_path: Path, debian_binary: Callable[[str], str]) -> None:
    need("2.42")
    storage = dataset()
    text = (Path(__file__).parent / "semantics.txt").read_text(encoding="utf-8")
    queries = [line.replace("\\N", "\n") for line in text.split("\n") if line.strip()]
    engine, problems, refused = Engine(storage, PromqlSettings(), SystemClock()), [], 0
    with served(storage, tmp_path) as address:
        for query in queries:
            for ranged in (False, True):
                mine, his = ours(engine, query, ranged=ranged), theirs(address, query, ranged=ranged)
                refused += mine[0] == "error"
                if problem := difference(mine, his):
                    problems.append(f"{query!r}{' over a range' if ranged else ''}: {problem}")
        orders = {query: [str(row["metric"]["i"]) for row in answered(address, "query", {"query": query, "time": f"{INSTANT / 1000}"})[1]]
                  for query in SORTS}  # fmt: skip
    for query, descending in SORTS.items():
        # Debian's is built with Go 1.19, whose sort differs from later ones in its random numbers alone.
        tied = {labels.get("i"): value for labels, _, (value,) in engine.instant("t", query, INSTANT).rows()}

        def less(a: str, b: str, tied: dict[str, float] = tied, descending: bool = descending) -> bool:
            return math.isnan(tied[b]) or (tied[b] < tied[a] if descending else tied[b] > tied[a])

        assert go_sorted(sorted(tied), less, GO_1_19) == orders[query]
        assert go_sorted(sorted(tied), less) == list(tied)
    engine.close()
    assert not problems, f"{len(problems)} of {2 * len(queries)} differ:\n" + "\n".join(problems)
    assert refused > 100
    assert 2 * len(queries) - refused > 300


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(dataset(), PromqlSettings(), SystemClock())


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("left * on(a) right", "the pair is in order of its labels"),
        ("left + on(a) group_left() right", "the pair is in order of its labels"),
    ],
)
def test_of_two_series_that_match_alike_the_error_names_both_in_order(engine: Engine, query: str, reason: str) -> None:
    kind, message = ours(engine, query, ranged=False)
    assert kind == "error"
    assert message == (
        'found duplicate series for the match group {a="1"} on the right hand-side of the operation: '
        '[{__name__="right", a="1", c="5"}, {__name__="right", a="1", c="6"}];'
        "many-to-many matching not allowed: matching labels must be unique on one side"
    ), reason


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("1_000", 1000.0),
        ("0x_1F", 31.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("-5m", -300.0),
        ("1e1_0", 1e10),
        ("scalar(sum(left offset 15))", 237.0),
    ],
)
def test_numbers_that_prometheus_2_does_not_read(engine: Engine, query: str, value: float) -> None:
    assert ours(engine, query, ranged=False) == ("scalar", value)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("1..2", '1:1: parse error: bad number or duration syntax: "1.."'),
        ("1.2.3", '1:1: parse error: bad number or duration syntax: "1.2."'),
        ("1e+", '1:1: parse error: bad number or duration syntax: "1e+"'),
        ("0xg", '1:1: parse error: bad number or duration syntax: "0x"'),
        ('left{a=~"("}', "1:6: parse error: error parsing regexp: missing closing ): `(`"),
        ('left{a=~"b**"}', "1:6: parse error: error parsing regexp: invalid nested repetition operator: `**`"),
        ('left{a=~"["}', "1:6: parse error: error parsing regexp: missing closing ]: `[`"),
        ('left{a=~"*b"}', "1:6: parse error: error parsing regexp: missing argument to repetition operator: `*`"),
        ("left offset", "1:12: parse error: unexpected end of input in offset, expected number, duration, step(), or range()"),
        ("topk(NaN, special)", "Parameter value is NaN"),
        ('count_values("", special)', 'invalid label name ""'),
    ],
)
def test_refusals_in_prometheus_3_s_words(engine: Engine, query: str, message: str) -> None:
    assert ours(engine, query, ranged=False) == ("error", message)
