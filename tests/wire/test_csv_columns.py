"""CSV by a description of its columns: cells to samples, forms of times, what is told."""

from __future__ import annotations

import math

import pytest

from vedette.errors import BadInput
from vedette.model.samples import canonical
from vedette.wire import csv_columns
from vedette.wire.csv_columns import columns_of, parse
from vedette.wire.told import Told

NOW = 1_700_000_000_000


def read(columns: str, body: str | bytes, **more: str) -> tuple[list[tuple[str, int, float]], Told]:
    told, space, found = Told(), canonical(), []
    for batch in parse(body.encode() if isinstance(body, str) else body, columns_of(columns), space, NOW, told, more=more):
        for i, (lo, hi) in enumerate(zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)):
            labels = space.resolve(batch.buffer[lo:hi].tobytes())
            found.append((str(labels), int(batch.timestamps[i]), float(batch.values[i])))
    return found, told


def test_columns_become_labels_times_and_metrics():
    found, told = read("2:metric:ask,3:metric:bid,1:label:ticker,4:label:market,5:time:unix_s", "GOOG,1.23,4.56,NYSE,1700000000\n")
    assert found == [
        ('ask{market="NYSE", ticker="GOOG"}', 1_700_000_000_000, 1.23),
        ('bid{market="NYSE", ticker="GOOG"}', 1_700_000_000_000, 4.56),
    ]
    assert told == Told(lines=1)


def test_cells_that_are_passed_over():
    body = 'a,1,,x\r\nb,,2,y\n\nc,3\n"d, ""e""\nf",4,5,z,more\n'
    found = read("1:label:host,2:metric:load,3:metric:free", body)[0]
    assert found == [
        ('load{host="a"}', NOW, 1.0), ('free{host="b"}', NOW, 2.0), ('load{host="c"}', NOW, 3.0),
        ('load{host="d, \\"e\\"\\nf"}', NOW, 4.0), ('free{host="d, \\"e\\"\\nf"}', NOW, 5.0),
    ]  # fmt: skip


def test_labels_that_are_laid_over_and_empty_ones():
    assert [labels for labels, _, _ in read("1:label:a,2:metric:m", ",1\nx,2", zone="z", a="own")[0]] == ['m{a="own", zone="z"}'] * 2
    assert [labels for labels, _, _ in read("1:label:a,2:metric:m", ",1\nx,2")[0]] == ["m", 'm{a="x"}']


@pytest.mark.parametrize(
    ("form", "text", "ms"),
    [
        ("unix_s", "1700000000", 1_700_000_000_000), ("unix_s", "1700000000.25", 1_700_000_000_250),
        ("unix_ms", "1700000000123", 1_700_000_000_123),
        ("unix_us", "1700000000123999", 1_700_000_000_123), ("unix_ns", "1700000000123999999", 1_700_000_000_123), ("unix_s", "-1", -1000),
        ("rfc3339", "2023-11-14T22:13:20Z", 1_700_000_000_000), ("rfc3339", "2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
        ("custom:2006-01-02 15:04:05", "2023-11-14 22:13:20", 1_700_000_000_000),
        ("custom:02/Jan/2006:15:04:05 -0700", "14/Nov/2023:23:13:20 +0100", 1_700_000_000_000),
        ("custom:2006-01-02T15:04:05.000Z07:00", "2023-11-14T22:13:20.123Z", 1_700_000_000_123),
        ("custom:03:04 PM 01/02/06", "10:13 PM 11/14/23", 1_699_999_980_000),
    ],
)  # fmt: skip
def test_forms_of_times(form, text, ms):
    assert read(f"1:time:{form},2:metric:m", f"{text},1") == ([("m", ms, 1.0)], Told(lines=1))


@pytest.mark.parametrize("text", ["1", "-2.5e3", " 7 ", ".5", "inf", "-Inf", "1e400"])
def test_values(text):
    assert read("1:metric:m", text)[0] == [("m", NOW, float(text))]
    assert math.isnan(read("1:metric:m", "NaN")[0][0][2])


@pytest.mark.parametrize(
    ("body", "line", "problem"),
    [
        ("x,1700000000,a", 2, "metric m: not a number: 'x'"), ("1_0,1700000000,a", 2, "metric m: not a number: '1_0'"),
        ("1,never,a", 2, "not a time: 'never'"), ("1,,a", 2, "no time"), ("1", 2, "no time"),
        (",1700000000,a", 2, "no value in any column"),
        (",1700000000", 2, "2 columns where 3 are expected"), ("1,99999999999999999,a", 2, "timestamp out of range"),
        ('1,1700000000,"a"b', 2, "',' expected after '\"'"), ('"a', 2, "unexpected end of data"), ("1,1e999,a", 2, "not a time"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_and_leaves_only_its_row_out(body, line, problem):
    good = "7,1700000000,g\n"
    found, told = read("1:metric:m,2:time:unix_s,3:label:l", good + body + "\n" + ("" if body == '"a' else good))
    assert [value for _, _, value in found] == [7.0] * len(found)
    assert len(found) == (1 if body == '"a' else 2)
    assert told.faulty == 1
    assert told.faults[0].line >= line
    assert problem in told.faults[0].problem


def test_rows_are_counted_through_cells_of_several_lines():
    assert read("1:label:l,2:metric:m", '"a\nb",1\n"c\nd",x\ne,y')[1].faults[0].line == 3


def test_a_text_that_is_no_utf8():
    with pytest.raises(BadInput, match="line 2: not UTF-8 text"):
        read("1:label:l,2:metric:m", b"a,1\n\xff,2")


def test_a_byte_order_mark_is_none_of_the_first_cell():
    assert read("1:label:l,2:metric:m", "\ufeffa,1")[0][0][0] == 'm{l="a"}'


def test_many_rows_come_in_several_batches(monkeypatch):
    monkeypatch.setattr(csv_columns, "_PIECE", 10)
    monkeypatch.setattr(csv_columns, "_MOST_KEPT", 3)
    body = "".join(f"h{i},{i}\n" for i in range(25))
    found = read("1:label:h,2:metric:m", body)[0]
    assert found == [(f'm{{h="h{i}"}}', NOW, float(i)) for i in range(25)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1:metric", "format, entry 1: not a column: '1:metric'"), ("x:metric:m", "format, entry 1: not a position: 'x'"),
        ("0:metric:m", "not a position: '0'"), ("65537:metric:m", "not a position"),
        ("1:metric:m,1:label:l", "entry 2: column 1 is described twice"),
        ("1:metric:", "a metric without a name"), ("1:thing:m", "not a kind of column: 'thing'"), ("1:label:l", "no column is a metric"),
        ("1:time:unix_s,2:time:unix_s,3:metric:m", "a second column of times"), ("1:time:soon,2:metric:m", "not a form of times: 'soon'"),
        ("1:time:custom:soon,2:metric:m", "not a layout: 'soon'"), ("1:time:custom:2006-01-07,2:metric:m", "not a layout"),
        ("1:label:__name__,2:metric:m", "a label is called __name__"),
    ],
)  # fmt: skip
def test_descriptions_that_are_none(text, problem):
    with pytest.raises(BadInput, match=problem.replace("(", r"\(")):
        columns_of(text)
