"""A text that differs from one that was read only between quotes gets the shape that reading it gives, and the same answers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.promql.direct import Shape
from vedette.promql.engine import Engine
from vedette.promql.errors import ParseError
from vedette.promql.nodes import Binary, Node, walk
from vedette.promql.parse import parse
from vedette.promql.plan import Prepared
from vedette.promql.settings import PromqlSettings
from vedette.promql.skeletons import LONGEST, Skeletons, split

sys.path.insert(0, str(Path(__file__).parent))
from test_direct import MIN, Handy, T, shown

_VALUE = re.compile('"([^"]*)"')


def shape_of(text: str) -> Shape | None:
    return Shape.of(text, Prepared.of(parse(text)))


def moved(shape: Shape, at: int) -> int:
    return at if shape.moved is None else shape.moved(at)


def told(shape: Shape, root: Node) -> list[tuple[object, ...]]:
    """The nodes of the tree that a shape's leaves are of, with their places in the shape's own text."""
    places = [(type(n), moved(shape, n.start), moved(shape, n.end)) for n in walk(root)]
    return [*places, *((n.op, moved(shape, n.op_start)) for n in walk(root) if isinstance(n, Binary))]


def structure(shape: Shape) -> str:
    """What its parts are, but for places, for matchers, and for where Python keeps its functions."""
    plain = re.sub(r"\b(?:start|end|op_start)=\d+|matchers=\(.*?\)(?=, offset)| at 0x[0-9a-f]+", "", repr(shape.root))
    return re.sub(r"kind='\w+'", "", plain)


def agrees(known: str, text: str) -> bool:
    """Whether `text` need not be read where `known` was; then its shape is what reading gives."""
    root, skeletons = parse(known), Skeletons()
    shape = Shape.of(known, Prepared.of(root))
    if shape is None:
        return False
    skeletons.learn(shape)
    filled = skeletons.filled(text)
    if filled is None:
        return False
    read = parse(text)
    fresh = Shape.of(text, Prepared.of(read))
    assert fresh is not None
    assert (filled.expr, filled.selected, filled.matchers, filled.columns) == (text, fresh.selected, fresh.matchers, fresh.columns)
    assert structure(filled) == structure(fresh)
    assert told(filled, root) == told(fresh, read)
    return True


ALIKE = [
    ('m{a="x"}', 'm{a="yyy"}'),
    ('m{a="x"}', 'm{a=""}'),
    ('m{a="x",b=~"1|2"}', 'm{a="",b=~".+"}'),
    ('{"a metric", b="x"}', '{"b", b="longer"}'),
    ('{__name__="m", a!~"x"}', '{__name__="n", a!~"a longer one"}'),
    ('sum by (a) (rate(m{a="x"}[2m])) / sum(n{a="x"})', 'sum by (a) (rate(m{a="xy"}[2m])) / sum(n{a=""})'),
    ('m{a="x"} offset 1m + -m{a="y"}', 'm{a="y"} offset 1m + -m{a="x"}'),
    ('m{a="x"} +\n m{a="y"}', 'm{a="\u00e9\u00e9"} +\n m{a="}"}'),
    ('histogram_quantile(0.9, rate(m{a="x"}[5m])) > 2', 'histogram_quantile(0.9, rate(m{a="yy"}[5m])) > 2'),
]


@pytest.mark.parametrize(("known", "text"), ALIKE)
def test_what_differs_in_values_alone(known: str, text: str) -> None:
    assert agrees(known, text)
    assert agrees(text, known)
    assert agrees(known, known)


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ('m{a="x"}', 'm{b="x"}'),
        ('m{a="x"}', 'm{a="x",}'),
        ('m{a="x"}', "m{a='x'}"),
        ("m", "n"),
        ("m{a='x'}", "m{a='y'}"),
        ('m{a="x"}', 'm{a="\\x41"}'),
        ('m{a="\\n"}', 'm{a="\\t"}'),
        ('m{a="x"} # "', 'm{a="y"} # "'),
        ('m{a="x"}', 'm{a="#"}'),
        ('m{a="x"}', 'm{a="`"}'),
        ('m{a=~"x"}', 'm{a=~"("}'),
        ('m{a=~"x"}', 'm{a=~"x\ny"}'),
        ('{a="x"}', '{a=""}'),
        ('{a=~"x"}', '{a=~"x?"}'),
        ('m{a="x"} + {a="x"}', 'm{a="x"} + {a!="x"}'),
        ('m{"a"="x"}', 'm{"b"="y"}'),
        ('sum by ("a") (m{a="a"})', 'sum by ("b") (m{a="b"})'),
        ('label_replace(m{a="x"}, "b", "$1", "a", "(.*)")', 'label_replace(m{a="y"}, "b", "$1", "a", "(.*)")'),
        ('m{a="x"}', 'm{a="' + LONGEST * "x" + '"}'),
        ('m{a="x"}', 'm{a="x"'),
        ('m{a="x"}', 'm{a="x"}"'),
    ],
)
def test_what_differs_in_more_is_read(known: str, text: str) -> None:
    assert not agrees(known, text)


def test_what_hides_between_quotes() -> None:
    assert split('a{b="c"} + d{e="", f=~"g|h"}') == ('a{b="} + d{e=", f=~"}', ["c", "", "g|h"])
    for text in ("a", 'a{b="c}', 'a{b="\\""}', "a{b='\"'}", 'a{b=`"`}', '"" # ""', 'a{b="\n"}', 'a{b="\ud800"}'):
        assert split(text) is None


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(["=", "!=", "=~", "!~"]), st.text("ab.|*()[]\u00e9 {}", max_size=5)), min_size=1, max_size=3),
    st.lists(st.text("ab.|*()[]\u00e9\"'\\\n#`x", max_size=6), min_size=3, max_size=3),
    st.sampled_from(["{0}", "rate({0}[5m])", "sum by (a) ({0} offset 1m)", "-{0} * (2 + {0})", "count({0}) / sum(rate({0}[1m])) > 0.5"]),
)
def test_any_values(written: list[tuple[str, str]], values: list[str], form: str) -> None:
    known = form.format("m{" + ", ".join(f'a{i}{op}"{value}"' for i, (op, value) in enumerate(written)) + "}")
    others = iter(values * known.count('"'))
    text = _VALUE.sub(lambda found: f'"{next(others)}"', known)
    try:
        parse(known)
    except ParseError:
        return
    agrees(known, text)


def test_the_corpus_with_other_values(conformance: Path) -> None:
    alike = 0
    with (conformance / "derived" / "promql_corpus.jsonl").open() as corpus:
        for line in islice(corpus, 0, None, 8):
            text = json.loads(line)["expr"]
            other = _VALUE.sub(lambda found: f'"{found[1][::2]}z"', text)
            try:
                parse(text)
            except ParseError:
                continue
            alike += other != text and agrees(text, other)
    assert alike > 100


@pytest.fixture
def engine() -> Iterator[Engine]:
    storage = Handy()
    for a in ("x", "a longer one", "y"):
        for name in ("m_total", "other"):
            for i in range(60):
                storage.add(Labels.of(__name__=name, a=a, b=a * 2), i * 15_000, float(i * len(a)))
    made = Engine(storage, PromqlSettings(), ManualClock())
    yield made
    made.close()


@pytest.mark.parametrize("step", [0, MIN])
@pytest.mark.parametrize(
    "form",
    [
        'm_total{a="A"}',
        'sum(rate(m_total{a="A",b!="B"}[5m]))',
        'rate(m_total{a="B"}[5m]) / on () rate(other{a="A"}[5m])',
        'increase(other{a="A"}[5m]) + on () group_right increase(other{a="B"}[5m])',
    ],
)
def test_answers_are_those_of_texts_that_were_read(engine: Engine, monkeypatch: pytest.MonkeyPatch, form: str, step: int) -> None:
    span = 6 * MIN, (10 * MIN if step else 6 * MIN), step
    texts = [form.replace("A", a).replace("B", b) for a, b in (("x", "y"), ("a longer one", "x"), ("y", "a longer one"), ("none", "z"))]
    assert engine.first_glance(T, texts[0], *span) is not None or "group_right" in form
    read: list[str] = []
    parsed = Engine._parse

    def noted(self: Engine, expr: str) -> Prepared:
        read.append(expr)
        return parsed(self, expr)

    monkeypatch.setattr(Engine, "_parse", noted)
    for text in texts[1:]:
        read.clear()
        found = engine.first_glance(T, text, *span)
        again = engine.at_hand(T, text, *span)
        again = engine.small(T, text, *span) if again is None else again
        assert read == ([text] if "group_right" in form else [])
        long = engine.range(T, text, *span) if step else engine.instant(T, text, 6 * MIN)
        assert (found is None) == (again is None)
        if found is not None and again is not None:
            assert shown(found) == shown(long) == shown(again)
        if "other" in text and "none" not in text and found is not None:
            assert long.infos, "so that places are looked at"


def test_a_fault_among_the_values_is_told(engine: Engine) -> None:
    assert engine.first_glance(T, 'm_total{a=~"x|y"}', MIN, MIN, 0) is not None
    with pytest.raises(ParseError, match="missing closing"):
        engine.first_glance(T, 'm_total{a=~"("}', MIN, MIN, 0)
    assert engine.first_glance(T, '{a="x"}', MIN, MIN, 0) is not None
    with pytest.raises(ParseError, match="non-empty matcher"):
        engine.glance(T, '{a=""}', MIN, MIN, 0)


def test_the_long_way_reads_what_the_short_one_did_not(engine: Engine) -> None:
    engine.first_glance(T, 'm_total{a="x"}', MIN, MIN, 0)
    assert engine.first_glance(T, 'm_total{a="y"}', MIN, MIN, 0) is not None
    assert engine.first_glance(T, 'm_total{a="y"}', MIN, MIN, 0) is None, "it was asked before"
    assert repr(engine.parse('m_total{a="y"}')) == repr(parse('m_total{a="y"}'))


def test_few_are_kept() -> None:
    skeletons, counts = Skeletons(), []
    for i in range(600):
        shape = shape_of(f'm{i}{{a="x"}}')
        assert shape is not None
        skeletons.learn(shape)
        counts.append(len(skeletons._known))
    assert max(counts) <= 256
    found = skeletons.filled('m599{a="y"}')
    assert found is not None
    assert found.matchers == ((Matcher("a", "=", "y"), Matcher("__name__", "=", "m599")),)


def test_few_texts_are_kept(engine: Engine) -> None:
    small = Engine(engine._storage, PromqlSettings(parse_cache=2), ManualClock())
    for i in range(10):
        assert small.first_glance(T, f'm_total{{a=~"x|{i}"}}', MIN, MIN, 0) is not None
    assert len(small._shapes) <= 2
    small.close()
