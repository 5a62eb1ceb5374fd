"""VictoriaMetrics' JSON lines, in and out: what is taken, what is told, and that what goes out comes in again to the bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import STALE, canonical
from vedette.model.series import SeriesSet
from vedette.wire import series_lines
from vedette.wire.series_lines import parse, render
from vedette.wire.told import MOST_FAULTS, Told


def read(body: bytes | str, **more: str) -> tuple[list[tuple[str, list[int], list[float]]], Told]:
    """(series, times, values) of each line, and what is told."""
    told, space, found = Told(), canonical(), []
    for batch in parse(body.encode() if isinstance(body, str) else body, space, told, more=more):
        assert batch.partial
        for i, (lo, hi) in enumerate(zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)):
            labels = space.resolve(batch.buffer[lo:hi].tobytes())
            at = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
            found.append((str(labels), batch.timestamps[at].tolist(), batch.values[at].tolist()))
    return found, told


def of(rows: dict[Labels, list[tuple[int, float]]]) -> SeriesSet:
    samples = [sample for one in rows.values() for sample in one]
    return SeriesSet(
        LabelTable.from_labels(list(rows)),
        np.cumsum([0, *map(len, rows.values())], dtype=np.int64),
        np.array([t for t, _ in samples], dtype=np.int64),
        np.array([v for _, v in samples], dtype=np.float64),
    )


def test_a_line_is_a_series():
    found, told = read(
        '{"metric":{"__name__":"up","job":"node"},"values":[1,0.5],"timestamps":[1000,2000]}\r\n\n'
        '  {"timestamps":[-5],"values":[1e300],"metric":{"x":"é","__name__":"a.b","empty":""},"more":[1]}'
    )
    assert found == [('up{job="node"}', [1000, 2000], [1.0, 0.5]), ('{"a.b", x="é"}', [-5], [1e300])]
    assert told == Told(lines=2)


def test_what_json_has_no_number_for():
    body = '{"metric":{"__name__":"m"},"values":["Infinity","-Infinity","inf","NaN",7],"timestamps":[1,2,3,4,5]}'
    values = read(body)[0][0][2]
    assert values[:3] == [math.inf, -math.inf, math.inf]
    assert math.isnan(values[3])
    assert values[4] == 7.0
    stale = read('{"metric":{"__name__":"m"},"values":[null],"timestamps":[1]}')[0][0][2]
    assert np.array(stale).view(np.uint64) == np.array([STALE]).view(np.uint64)


def test_infinities_as_older_victoriametrics_write_them():
    found = read('{"metric":{"__name__":"m","t":"a,+Inf,"},"values":[+Inf,1,-Inf],"timestamps":[1,2,3]}')[0]
    assert found == [('m{t="a,+Inf,"}', [1, 2, 3], [math.inf, 1.0, -math.inf])]


def test_labels_that_are_laid_over():
    assert (
        read('{"metric":{"__name__":"m","zone":"own"},"values":[1],"timestamps":[1]}', zone="z", dc="d")[0][0][0] == 'm{dc="d", zone="z"}'
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x", "JSON is malformed"), ("[]", "Expected `object`, got `array`"), ("{}", "missing required field `metric`"),
        ('{"metric":{"__name__":"m"},"values":[1]}', "missing required field `timestamps`"),
        ('{"metric":{"__name__":"m"},"values":[1],"timestamps":[1,2]}', "1 values and 2 timestamps"),
        ('{"metric":{"__name__":"m"},"values":[],"timestamps":[]}', "no values"),
        ('{"metric":{"a":"b"},"values":[1],"timestamps":[1]}', "no metric name"),
        ('{"metric":{"__name__":""},"values":[1],"timestamps":[1]}', "no metric name"),
        ('{"metric":{"__name__":"m","":"b"},"values":[1],"timestamps":[1]}', "a label without a name"),
        ('{"metric":{"__name__":1},"values":[1],"timestamps":[1]}', "Expected `str`, got `int`"),
        ('{"metric":{"__name__":"m"},"values":["1"],"timestamps":[1]}', "not a value: '1'"),
        ('{"metric":{"__name__":"m"},"values":[true],"timestamps":[1]}', "Expected `float | str | null`, got `bool`"),
        ('{"metric":{"__name__":"m"},"values":[1],"timestamps":[1.5]}', "Expected `int`, got `float`"),
        ('{"metric":{"__name__":"m"},"values":[1],"timestamps":[9223372036854775808]}', "timestamp out of range"),
        ('{"metric":{"__name__":"m"},"values":[+Inf],"timestamps":[1],', "Input data was truncated"),
        ('{"metric":{"__name__":"\\ud800"},"values":[1],"timestamps":[1]}', "JSON is malformed"),
        ("[" * 100_000, "Expected `object`"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_and_leaves_only_its_line_out(line, problem):
    found, told = read(
        '{"metric":{"__name__":"a"},"values":[1],"timestamps":[1]}\n' + line + '\n{"metric":{"__name__":"b"},"values":[1],"timestamps":[1]}'
    )
    assert [series for series, _, _ in found] == ["a", "b"]
    assert told.faulty == 1
    assert (told.faults[0].line, told.faults[0].text) == (2, line[:200])
    assert problem in told.faults[0].problem


def test_bytes_that_are_no_utf8():
    found, told = read(b'{"metric":{"__name__":"m","a":"\xff"},"values":[1],"timestamps":[1]}\n')
    assert (found, told.faulty) == ([], 1)


def test_a_line_that_is_too_long(monkeypatch):
    monkeypatch.setattr(series_lines, "MOST_LINE", 100)
    found, told = read('{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]}\n{"metric":' + " " * 100 + "}")
    assert len(found) == 1
    assert "longer than 100 bytes" in str(told)


def test_of_many_the_first_are_told():
    told = read("x\n" * 50)[1]
    assert (told.faulty, len(told.faults)) == (50, MOST_FAULTS)
    assert str(told).endswith(f"; and {50 - MOST_FAULTS} more")


def test_many_samples_come_in_several_batches(monkeypatch):
    monkeypatch.setattr(series_lines, "_PIECE", 10)
    body = b"".join(b'{"metric":{"__name__":"m%d"},"values":[1,2,3],"timestamps":[1,2,3]}\n' % i for i in range(10))
    told = Told()
    assert [batch.sample_count for batch in parse(body, canonical(), told)] == [12, 12, 6]
    assert told.lines == 10


def test_lines_out():
    labels = Labels.of(__name__="up", job='no"de')
    assert b"".join(render(of({labels: [(1000, 1.0), (2000, 0.25)]}))) == (
        b'{"metric":{"__name__":"up","job":"no\\"de"},"values":[1.0,0.25],"timestamps":[1000,2000]}\n'
    )
    assert b"".join(render(of({}))) == b""


def test_what_has_no_number_stands_in_lines_of_its_own():
    rows = [(1, 1.0), (2, STALE), (3, math.inf), (4, -math.inf), (5, math.nan), (6, 2.0)]
    lines = b"".join(render(of({Labels.of(__name__="m"): rows}))).splitlines()
    head = b'{"metric":{"__name__":"m"},"values":'
    assert lines == [
        head + b'[1.0],"timestamps":[1]}',
        head + b'[null,"Infinity","-Infinity","NaN"],"timestamps":[2,3,4,5]}',
        head + b'[2.0],"timestamps":[6]}',
    ]


def test_lines_are_as_long_as_is_asked_for():
    rows = [(t, float(t)) for t in range(10)]
    lines = b"".join(render(of({Labels.of(__name__="m"): rows}), most_rows=4)).splitlines()
    assert [line.count(b".0") for line in lines] == [4, 4, 2]


TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=5)
LABELS = st.builds(lambda name, more: Labels.of({**more, "__name__": name}), TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3))
VALUES = st.one_of(st.floats(allow_nan=False), st.sampled_from([STALE, float("nan"), 0.0, -0.0]))
SAMPLES = st.dictionaries(st.integers(-(1 << 60), 1 << 60), VALUES, min_size=1, max_size=6).map(lambda found: sorted(found.items()))


@given(st.dictionaries(LABELS, SAMPLES, max_size=4), st.integers(1, 3))
def test_what_goes_out_comes_in_again_to_the_bit(rows, most):
    body = b"".join(render(of(rows), most_rows=most))
    found: dict[str, list[tuple[int, int]]] = {}
    again, told = read(body)
    for series, times, values in again:
        found.setdefault(series, []).extend(zip(times, np.array(values).view(np.uint64).tolist(), strict=True))
    assert told.faulty == 0
    assert found == {str(labels): [(t, int(np.array([v]).view(np.uint64)[0])) for t, v in samples] for labels, samples in rows.items()}
