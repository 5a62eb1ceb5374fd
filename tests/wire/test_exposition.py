"""Exposition text: against a naive line-by-line twin, on upstream's samples, and on what is broken."""

from __future__ import annotations

import json
import math
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.kernels.hashing import hash_regions
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import KeySpace, MetricMetadata
from vedette.wire.exposition import Exposition, check_openmetrics, exposition_keyspace, parse, parse_pairs, parse_series, render

CONFORMANCE = Path(os.environ.get("VEDETTE_CONFORMANCE", Path(__file__).parents[2] / "../shared/conformance"))
KEYS = exposition_keyspace("default")
NOW = 1_700_000_000_000

needs_conformance = pytest.mark.skipif(not CONFORMANCE.is_dir(), reason=f"no conformance data at {CONFORMANCE}: set VEDETTE_CONFORMANCE")


def samples(found: Exposition) -> list[tuple[Labels, int, float]]:
    batch = found.batch
    data = batch.buffer.tobytes()
    keys = [data[a:b] for a, b in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)]
    return list(zip(map(parse_series, keys), batch.timestamps.tolist(), batch.values.tolist(), strict=True))


def read(text: str | bytes, **options: bool) -> list[tuple[Labels, int, float]]:
    return samples(parse(text.encode() if isinstance(text, str) else text, KEYS, NOW, **options))  # type: ignore[arg-type]


# The naive twin: regular expressions, one line at a time.
_LINE = re.compile(r'\s*([a-zA-Z_:][\w:]*)?\s*(\{(?:[^"{}]|"(?:\\.|[^"\\])*")*\})?\s*(\S+)(?:\s+(-?\d+))?\s*\Z', re.ASCII)
_PAIR = re.compile(r'\s*(?:(?:([a-zA-Z_]\w*)|("(?:\\.|[^"\\])*"))\s*=\s*)?"((?:\\.|[^"\\])*)"\s*(?:,|\Z)', re.ASCII)


def unquoted(text: str) -> str:
    return re.sub(r'\\([\\"n])', lambda m: "\n" if m[1] == "n" else m[1], text)


def naive(text: str) -> list[tuple[Labels, int, float]]:
    out = []
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        assert match, line
        name, labels, value, stamp = match.groups()
        pairs = {METRIC_NAME: name} if name else {}
        for plain, quoted, inner in _PAIR.findall((labels or "{}")[1:-1]):
            pairs[plain or (unquoted(quoted[1:-1]) if quoted else METRIC_NAME)] = unquoted(inner)
        out.append((Labels.of(pairs), int(stamp) if stamp else NOW, float(value)))
    return out


def same(a: list[tuple[Labels, int, float]], b: list[tuple[Labels, int, float]]) -> bool:
    return [(x, t, repr(v)) for x, t, v in a] == [(x, t, repr(v)) for x, t, v in b]


SAMPLE = r"""
# HELP http_requests_total Requests \\ served,\nby "code".
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{ method = "post" , code="400" , }    3 -5
	no_labels 12.47
empty_labels{} +Inf
esc{path="C:\\DIR\\",err="say \"hi\"\n"} -Inf
something_weird{problem="division by zero"}1e-9
# a comment
#
{"utf8.name", "my label"="x", plain="y"} NaN
{quoted_last="1", "name.last"} 0.30000000000000004
late{a="}#,= \\"} 1"""


def test_reads_what_the_format_allows() -> None:
    found = parse(SAMPLE.encode(), KEYS, NOW)
    assert same(samples(found), naive(SAMPLE))
    assert len(samples(found)) == 9
    assert found.explicit.tolist() == [True, True, False, False, False, False, False, False, False]
    assert found.batch.metadata == [MetricMetadata("http_requests_total", "counter", 'Requests \\ served,\nby "code".')]


def test_keys_are_the_raw_prefixes_and_hashed_as_the_storage_hashes() -> None:
    found = parse(b'  a{x="1" } 1\nb\t 2\n', KEYS, NOW).batch
    data = found.buffer.tobytes()
    assert [data[a:b] for a, b in zip(found.key_start, found.key_end, strict=True)] == [b'a{x="1" }', b"b"]
    expected = hash_regions(found.buffer, found.key_start, found.key_end, np.uint64(KEYS.id))
    assert np.array_equal(found.hashes, expected)
    other = parse(b'a{x="1" } 1\n', exposition_keyspace("default"), NOW).batch
    assert not np.array_equal(other.hashes[0], found.hashes[0]), "equal bytes in two key spaces are unrelated"


def test_timestamps_can_be_ignored() -> None:
    found = parse(b"a 1 5\nb 2\n", KEYS, NOW, honor_timestamps=False)
    assert found.batch.timestamps.tolist() == [NOW, NOW]
    assert found.explicit.tolist() == [False, False]


def test_metadata_that_is_known_is_left_out() -> None:
    first = parse(b"# TYPE a gauge\na 1\n", KEYS, NOW)
    again = parse(b"# TYPE a gauge\na 2\n", KEYS, NOW, metadata_known=first.metadata_hash)
    assert list(again.batch.metadata) == []
    changed = parse(b"# TYPE a counter\na 2\n", KEYS, NOW, metadata_known=first.metadata_hash)
    assert changed.batch.metadata == [MetricMetadata("a", "counter")]


OPENMETRICS = """# HELP a Help with a \\"quote\\".
# TYPE a counter
# UNIT a seconds
a_total{x="1"} 1.0 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67 1520879607.7
a_created 1.5
b 2 # {} 1
c 3 1e3
# EOF
"""


def test_reads_openmetrics() -> None:
    found = parse(OPENMETRICS.encode(), KEYS, NOW, openmetrics=True)
    assert [(m.metric, t, v) for m, t, v in samples(found)] == [
        ("a_total", 1520879607789, 1.0),
        ("a_created", NOW, 1.5),
        ("b", NOW, 2.0),
        ("c", 1_000_000, 3.0),
    ]
    assert found.batch.metadata == [MetricMetadata("a", "counter", 'Help with a "quote".', "seconds")]


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ('a 1\nb 2\nfoo{bar="baz} 3\n', "line 3, column 9", "label value lacks its closing quote"),
        ('a{b="x\\"} 1\n', "line 1, column 5", "label value lacks its closing quote"),
        ("a{b=x} 1", "line 1, column 5", "expected a quoted label value"),
        ('a{b"x"} 1', "line 1, column 4", "expected = after the label name"),
        ('a{1="x"} 1', "line 1, column 3", "expected a label name or a closing brace"),
        ('a{b="x" c="y"} 1', "line 1, column 9", "expected a comma or a closing brace"),
        ('a{b="x"', "line 1, column 8", "expected a comma or a closing brace"),
        ('a{,b="x"} 1', "line 1, column 3", "expected a label name or a closing brace"),
        ('a{"b"} 1', "line 1, column 3", "metric name given twice"),
        ('{"a","b"} 1', "line 1, column 6", "metric name given twice"),
        ('{"a} 1', "line 1, column 2", "name lacks its closing quote"),
        ("a", "line 1, column 2", "expected a value"),
        ("a  \n", "line 1, column 4", "expected a value"),
        ("a b\n", "line 1, column 3", "not a number"),
        ("a 1_0\n", "line 1, column 3", "not a number"),
        ("a 0x1p-2\n", "line 1, column 3", "not a number"),
        ("a 1\r\n", "line 1, column 3", "not a number"),
        ("a 1e400\n", "line 1, column 3", "value out of range"),
        ("a 1 x\n", "line 1, column 5", "expected a timestamp"),
        ("a 1 1.5\n", "line 1, column 6", "expected the end of the line"),
        ("a 1 2 3\n", "line 1, column 7", "expected the end of the line"),
        ("a 1 9999999999999999999\n", "line 1, column 5", "timestamp out of range"),
        ("1a 1\n", "line 1, column 1", "expected a metric name"),
        ("ok 1\n  ä 1\n", "line 2, column 3", "expected a metric name"),
        ("# TYPE 9 gauge\n", "line 1, column 8", "expected a metric name after HELP, TYPE or UNIT"),
        ("# TYPE a speed\n", "line 1, column 10", "unknown metric type 'speed'"),
        ("# HELP a \xff\n", "line 1, column 10", "not UTF-8 text"),
    ],
)
def test_errors_point(text: str, where: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text.encode("latin-1" if "\xff" in text else "utf-8"), KEYS, NOW)
    assert (caught.value.where, caught.value.problem) == (where, problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the text does not end with # EOF"),
        ("a 1\n", "the text does not end with # EOF"),
        ("a 1\n\n# EOF\n", "blank line, which OpenMetrics forbids"),
        ("a 1\n# EOF\nb 1\n", "text after # EOF"),
        ("# a comment\n# EOF\n", "expected # HELP, # TYPE, # UNIT or # EOF, the only comments of OpenMetrics"),
        ("a  1\n# EOF\n", "expected a value"),
        ("a 1 NaN\n# EOF\n", "timestamp out of range"),
        ("a 1 1e400\n# EOF\n", "value out of range"),
        ("a 1 # 2\n# EOF\n", "bad exemplar"),
        ('a 1 # {x="1"}\n# EOF\n', "bad exemplar"),
        ('a 1 # {x="1} 1\n# EOF\n', "label value lacks its closing quote"),
        ('a{x="1"}1\n# EOF\n', "expected exactly one space"),
        ("a 1 \n# EOF\n", "expected a timestamp"),
    ],
)
def test_openmetrics_is_stricter(text: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text.encode(), KEYS, NOW, openmetrics=True)
    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (b'a{b="1",b="2"}', "label name 'b' given twice"),
        (b'{b="1"}', "no metric name"),
        (b'a{__name__="b"}', "label name '__name__' given twice"),
        (b'a{""="b"}', "empty label name"),
        (b'{""}', "no metric name"),
    ],
)
def test_series_that_name_nothing(key: bytes, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_series(key)
    assert caught.value.problem == problem


def test_empty_values_are_pairs_but_no_labels() -> None:
    assert parse_pairs(b'a{b=""}') == [(METRIC_NAME, "a"), ("b", "")]
    assert parse_series(b'a{b=""}') == Labels.of(__name__="a")


@needs_conformance
@pytest.mark.parametrize(
    ("name", "openmetrics", "families", "count"),
    [
        ("alltypes.237mfs.prom.txt", False, 237, 1857),
        ("alltypes.237mfs.nometa.prom.txt", False, 0, 1857),
        ("alltypes.5mfs.om.txt", True, 5, 53),
        ("1histogram.om.txt", True, 1, 42),
    ],
)
def test_upstreams_samples(name: str, openmetrics: bool, families: int, count: int) -> None:
    body = (CONFORMANCE / "prometheus_prometheus/model/textparse/testdata" / name).read_bytes()
    found = parse(body, KEYS, NOW, openmetrics=openmetrics)
    assert (len(found.batch.metadata), found.batch.sample_count) == (families, count)
    if not openmetrics:
        assert same(samples(found), naive(body.decode()))


@needs_conformance
@pytest.mark.parametrize(
    ("name", "families", "count"),
    [("e2e-output.txt", 1228, 3027), ("e2e-64k-page-output.txt", 1224, 3003)],
)
def test_node_exporters_output(name: str, families: int, count: int) -> None:
    body = (CONFORMANCE / "prometheus_node_exporter/collector/fixtures" / name).read_bytes()
    found = parse(body, KEYS, NOW)
    assert (len(found.batch.metadata), found.batch.sample_count) == (families, count)
    assert same(samples(found), naive(body.decode()))
    assert len({s for s, _, _ in samples(found)}) == count


def corpus() -> list[tuple[str, bytes, bool]]:
    root = CONFORMANCE / "prometheus_OpenMetrics/tests/testdata/parsers"
    if not root.is_dir():
        return []
    return [
        (p.name, (p / "metrics").read_bytes(), json.loads((p / "test.json").read_text())["shouldParse"]) for p in sorted(root.iterdir())
    ]


@needs_conformance
def test_the_openmetrics_corpus() -> None:
    wrong, lax = [], 0
    for name, body, good in corpus():
        verdicts = []
        for strict in (True, False):
            try:
                parse(body, KEYS, NOW, openmetrics=True, strict=strict)
                verdicts.append(True)
            except BadInput:
                verdicts.append(False)
        if verdicts[0] != good:
            wrong.append(name)
        if good:
            assert verdicts[1], f"{name} is valid, and the lenient reader refuses it"
        lax += not good and not verdicts[1]
    assert wrong == []
    assert lax > 40, "the lenient reader refuses what breaks the syntax"


def test_strictness_has_a_reason() -> None:
    with pytest.raises(BadInput, match="not strict OpenMetrics"):
        check_openmetrics(b"# TYPE a counter\na 1\n# EOF\n")


label_text = st.text(alphabet=st.sampled_from('abc {}",\\\n=#é日'), max_size=8)
name_text = st.one_of(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), st.text(alphabet="a.b é", min_size=1, max_size=5))
series_of = st.builds(
    lambda metric, labels: Labels.of({**labels, METRIC_NAME: metric}),
    name_text,
    st.dictionaries(name_text, label_text, max_size=4),
)


@given(st.lists(st.tuples(series_of, st.floats(), st.integers(-(10**15), 10**15)), max_size=6))
@settings(max_examples=150, deadline=None)
def test_what_is_rendered_reads_back(rows: list[tuple[Labels, float, int]]) -> None:
    text = render([s for s, _, _ in rows], [v for _, v, _ in rows], [t for _, _, t in rows])
    back = {(s, t, repr(v)) for s, t, v in read(text)}
    assert back == {(s, t, repr(v)) for s, v, t in rows}


def test_renders_families_together_behind_their_metadata() -> None:
    series = [Labels.of(__name__=n, **more) for n, more in (("h_bucket", {"le": "1"}), ("g", {}), ("h_count", {}), ("n.m", {"a": 'x"\n'}))]
    about = [MetricMetadata("h", "histogram", "a\nb\\c"), MetricMetadata("g", "unknown")]
    assert render(series, [1, math.nan, 2.5, -math.inf], metadata=about).decode() == (
        '# HELP h a\\nb\\\\c\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_count 2.5\n# TYPE g untyped\ng NaN\n{"n.m",a="x\\"\\n"} -Inf\n'
    )


def test_mutated_bodies_are_refused_or_read_never_worse() -> None:
    """Fuzz: only `BadInput`, and rows whose spans lie inside the body."""
    draw = random.Random(7)
    seeds = [SAMPLE.encode(), OPENMETRICS.encode(), b"# TYPE a counter\na 1\n", b'{"a b",c="\\\\"} 1 1\n']
    read_well = 0
    for _ in range(6000):
        body = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(body))
            kind = draw.random()
            if kind < 0.4:
                body[at] = draw.choice(b'\n\n "{}\\,=#\t\0\xff09.e-aN')
            elif kind < 0.7:
                del body[at : at + draw.randint(1, 9)]
                body = body or bytearray(b"\n")
            else:
                body[at:at] = draw.choice([b"\n", b'"', b"{", b"}", b"\\", b"# ", b"NaN", b" ", b"1" * 25])
        data = bytes(body)
        try:
            found = parse(data, KeySpace("default", parse_series), NOW, openmetrics=draw.random() < 0.5)
        except BadInput as error:
            assert error.where.startswith("line "), error
            continue
        read_well += 1
        batch = found.batch
        assert (batch.key_start < batch.key_end).all()
        assert not batch.sample_count or int(batch.key_end.max()) <= len(data)
        for start, end in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True):
            try:
                parse_series(data[start:end])
            except BadInput as error:
                assert error.where.startswith("series "), error
    assert read_well > 100


# -- keys known from an earlier text --------------------------------------------------------------------------------------


def whole(body: bytes, **known: object) -> object:
    """All that a parsed text says, or what is wrong with it."""
    try:
        found = parse(body, KEYS, NOW, **known)  # type: ignore[arg-type]
    except BadInput as error:
        return str(error)
    batch = found.batch
    return (
        repr(samples(found)),
        batch.hashes.tolist(),
        batch.key_end.tolist(),
        found.explicit.tolist(),
        batch.metadata,
        found.metadata_hash,
    )


def lines_of(rng: random.Random, count: int) -> list[bytes]:
    """Lines of a few series, so that many are the same in two texts; some have no labels, blanks, comments, or are broken."""
    made = []
    for _ in range(count):
        n = rng.randrange(40)
        key = rng.choice((f'm{n % 3}{{i="{n}"}}', f'm{{i="{n}",}}', f"up{n}", f'{{"a.b",i="{n}"}}', f'm {{i="{n}"}}', f'm{{i="a}} {n}"}}'))
        line = f"{key} {rng.choice((n, 1.5, 'NaN', 1e300))}{rng.choice(('', ' 1700000000000'))}"
        made.append(rng.choice([line] * 60 + [f"# HELP m{n} words", "", key, key + "} 1", f'm{{i="{n}" 1']).encode())
    return made


def test_what_is_known_of_an_earlier_text_changes_nothing() -> None:
    rng = random.Random(7)
    refused = 0
    for _ in range(400):
        before = lines_of(rng, rng.randrange(60))
        after = list(before)
        for _ in range(rng.randrange(6)):  # series come, go and change places
            at = rng.randrange(len(after) + 1)
            after[at : at + rng.choice((0, 0, 1, 5, 70))] = lines_of(rng, rng.choice((0, 1, 1, 3, 70)))
        try:
            keys = parse(b"\n".join(before), KEYS, NOW).keys
        except BadInput:
            refused += 1
            continue
        body = b"\n".join(after)
        assert whole(body, keys_known=keys) == whole(body)
    assert 0 < refused < 300


def test_a_longer_text_than_the_one_known_is_read_whole() -> None:
    known = parse(b'a{b="c"} 1\n', KEYS, NOW).keys
    longer = b"".join(b'a{b="%d"} 1\n# TYPE a%d gauge\n' % (n, n) for n in range(1000)) + b'a{b="c"} 1\n'
    assert whole(longer, keys_known=known) == whole(longer)
    assert len(parse(longer, KEYS, NOW, keys_known=known).batch.metadata) == 1000


def test_a_name_that_gets_labels_is_another_series() -> None:
    known = parse(b'up 1\nup{a="b"} 2\n', KEYS, NOW).keys
    for text in ('up {a="b"} 1\n', 'up{a="b"} 1\n', "up 1\n", 'up{a="b"}1\n', 'up{a="b"}\t7\n', 'up{a="b"}} 7\n'):
        assert whole(text.encode(), keys_known=known) == whole(text.encode())
