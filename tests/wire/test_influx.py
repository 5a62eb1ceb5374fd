"""Influx line protocol: names, types, escapes, times, what is told of lines that cannot be read; and the kernel against its twin."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.kernels import influx as kernel
from vedette.model.samples import KeySpace
from vedette.wire import influx
from vedette.wire.influx import Naming, Text, influx_keyspace, parse_key
from vedette.wire.told import MOST_FAULTS, Told

sys.path.insert(0, str(Path(__file__).parent))
from influx_twin import bits, points

NOW = 1_700_000_000_000


def read(
    body: bytes | str, *, naming: Naming | None = None, precision: str = "", keyspace: KeySpace | None = None
) -> tuple[list[tuple[str, int, float]], Told]:
    """(series, time, value) of all samples, and what is told."""
    space = keyspace or influx_keyspace("default", naming or Naming())
    text = Text(body.encode() if isinstance(body, str) else body, space, NOW, precision=precision)
    found = []
    while not text.finished:
        batch = text.read()
        assert batch.partial
        keys, offsets = space.canonicalise(batch.buffer, batch.key_start, batch.key_end)
        for i, (lo, hi) in enumerate(zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)):
            labels = space.resolve(batch.buffer[lo:hi].tobytes())
            assert labels is not None
            assert labels.encode() == keys[offsets[i] : offsets[i + 1]].tobytes(), "one at a time and all at once are the same"
            found.append((str(labels), int(batch.timestamps[i]), float(batch.values[i])))
    return found, text.told


def series(body: str, **more) -> list[str]:
    return [labels for labels, _, _ in read(body, **more)[0]]


def test_each_field_is_a_sample_called_by_measurement_and_field():
    found, told = read("cpu,host=a,region=eu usage=1.5,idle=98 1700000000123456789\nmem free=1\n")
    assert found == [
        ('cpu_usage{host="a", region="eu"}', 1_700_000_000_123, 1.5),
        ('cpu_idle{host="a", region="eu"}', 1_700_000_000_123, 98.0),
        ("mem_free", NOW, 1.0),
    ]
    assert told == Told(lines=2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0), ("-2.5e-3", -0.0025), ("+3", 3.0), ("7i", 7.0), ("-7i", -7.0), ("7u", 7.0), (".5", 0.5),
        ("18446744073709551615u", 18446744073709551615.0), ("1234567890123456789012345678", 1.234567890123456789012345678e27),
        ("t", 1.0), ("T", 1.0), ("true", 1.0), ("True", 1.0), ("TRUE", 1.0),
        ("f", 0.0), ("F", 0.0), ("false", 0.0), ("False", 0.0), ("FALSE", 0.0),
        ("inf", float("inf")), ("-Infinity", float("-inf")), ("1e999", float("inf")),
    ],
)  # fmt: skip
def test_values(text, value):
    assert read(f"m v={text}")[0] == [("m_v", NOW, value)]


@pytest.mark.parametrize("text", ["1x", "i", "u", "-1u", "1.5i", "tRUE", "truely", "nope", "--1", "1e", "0x1", "1_000", "é"])
def test_no_values(text):
    found, told = read(f"m v={text}\nm w=1")
    assert found == [("m_w", NOW, 1.0)]
    assert str(told.faults[0]) == "line 1, column 5: invalid number"


def test_strings_have_no_sample_and_are_counted_whatever_stands_in_them():
    found, told = read('m s="a, b=c \\" #\nd",v=1 1\nm s=""\nm,t=x v=2,s="\\\\"')
    assert [(labels, value) for labels, _, value in found] == [("m_v", 1.0), ('m_v{t="x"}', 2.0)]
    assert told == Told(lines=3, strings=3)


@pytest.mark.parametrize(
    ("precision", "text", "ms"),
    [
        ("", "1700000000123456789", 1_700_000_000_123), ("n", "1999999", 1), ("ns", "-1", -1), ("u", "1700000000123456", 1_700_000_000_123),
        ("us", "1500", 1), ("µ", "1500", 1), ("ms", "1700000000123", 1_700_000_000_123), ("s", "1700000000", 1_700_000_000_000),
        ("m", "2", 120_000), ("h", "-1", -3_600_000), ("", "0", 0),
    ],
)  # fmt: skip
def test_precisions(precision, text, ms):
    assert read(f"m v=1 {text}", precision=precision)[0] == [("m_v", ms, 1.0)]


def test_a_precision_that_there_is_none_of_is_refused():
    with pytest.raises(BadInput, match="invalid precision 'minutes'"):
        read("m v=1", precision="minutes")


def test_a_time_beyond_what_milliseconds_hold_is_told():
    assert read("m v=1 9223372036854775", precision="h")[1].faults[0].problem == "timestamp out of range"
    assert read("m v=1 99999999999999999999")[1].faults[0].problem == "timestamp out of range"


def test_escapes():
    assert series(r"my\ cpu\,x=y,ho\ st=a\,b\=c\ d,p=C:\dir usage\ of\,all\=1=2") == [
        r'my_cpu_x_y_usage_of_all_1{ho_st="a,b=c d", p="C:\\dir"}'
    ]
    assert series("m\\\\,t=a\\\\ v=1", naming=Naming(names="utf8")) == ['{"m\\\\_v", t="a\\\\"}']


def test_names_as_they_are_and_names_that_need_no_quotes():
    body = "disk.io,dev-name=sda,1st=x read-bytes=1"
    assert series(body) == ['disk_io_read_bytes{_1st="x", dev_name="sda"}']
    assert series(body, naming=Naming(names="utf8")) == ['{"disk.io_read-bytes", "1st"="x", "dev-name"="sda"}']
    assert series("1min load=2") == ["_1min_load"]
    assert series("cpu,host=ä v=1") == ['cpu_v{host="ä"}']


def test_tags_whose_names_become_one_keep_both_values():
    assert series("m,a.b=2,a-b=1,c= v=1") == ['m_v{a_b="1;2"}']


def test_another_separator_and_labels_that_are_added_where_no_tag_stands():
    naming = Naming(separator=":", more=(("db", "telegraf"), ("zone", "z")))
    assert series("cpu,zone=own usage=1", naming=naming) == ['cpu:usage{db="telegraf", zone="own"}']


def test_a_tag_that_is_called_as_the_metrics_name_is_refused():
    space = influx_keyspace("default", Naming())
    with pytest.raises(BadInput, match=r"measurement m: a tag is called __name__"):
        space.resolve(b"m,__name__=x v")


def test_names_that_are_no_utf8_are_refused_by_their_series():
    with pytest.raises(BadInput, match="not UTF-8 text"):
        influx_keyspace("default", Naming()).resolve(b"m,t=\xff v")


@pytest.mark.parametrize(
    ("line", "column", "problem"),
    [
        (",a=b v=1", 1, "missing measurement"), ("m", 2, "missing fields"), ("m ", 3, "missing fields"), ("m,a=b", 6, "missing fields"),
        ("m, v=1", 3, "missing tag key"), ("m,=x v=1", 3, "missing tag key"), ("m,a v=1", 4, "missing tag value"),
        ("m,a,b=1 v=1", 4, "missing tag value"), ("m v", 4, "missing field value"), ("m v=", 5, "missing field value"),
        ("m =1", 3, "missing field key"), ("m v=1,", 7, "missing field key"), ("m v=1,,w=2", 7, "missing field key"),
        ('m s="x', 5, "unbalanced quotes"), ('m s="x"y', 8, "invalid field format"), ("m v=1 x", 7, "bad timestamp"),
        ("m v=1 12x", 9, "bad timestamp"), ("m v=1 1 2", 9, "bad timestamp"), ("m v=1 1.5", 8, "bad timestamp"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_line_and_column_and_leaves_only_its_line_out(line, column, problem):
    found, told = read(f"# a comment\n\nbefore v=1\n  {line}\n")
    assert [labels for labels, _, _ in found] == ["before_v"]
    assert told.faulty == 1
    (fault,) = told.faults
    assert (fault.line, fault.column, fault.text) == (4, column, line)
    assert fault.problem.startswith(problem)


def test_lines_are_counted_through_strings_of_several():
    told = read('m s="1\n2\\\n3"\nbad\nm s="\n\n" x\n\nbad')[1]
    assert [fault.line for fault in told.faults] == [4, 5, 9]


def test_of_many_lines_that_cannot_be_read_the_first_are_told_and_all_are_counted():
    found, told = read("bad\n" * 1000 + "m v=1")
    assert len(found) == 1
    assert told.faulty == 1000
    assert [fault.line for fault in told.faults] == list(range(1, MOST_FAULTS + 1))


def test_a_line_that_is_too_long_or_whose_names_are_is_left_out():
    tags = "t=" + "x" * 60_000
    many = ",".join(f"f{i}=1" for i in range(400))
    found, told = read(f"m v=1\nm,{tags} {many}\nm v={'1' * (kernel.MOST_LINE + 1)}\nm {','.join(['f=1'] * 70_000)}\nm w=1")
    assert [labels for labels, _, _ in found] == ["m_v", "m_w"]
    assert [(f.line, f.problem) for f in told.faults] == [
        (2, "too many fields for a line of so many tags"), (3, "the line is too long"), (4, "the line is too long")
    ]  # fmt: skip


def test_a_long_text_comes_in_pieces_that_are_the_whole(monkeypatch):
    body = "".join(f"m,i={i} a={i},b={i}i\n" for i in range(100)) + "bad\n" + "m z=1"
    whole = read(body)
    monkeypatch.setattr(influx, "_MOST_NAMES", 64)
    assert read(body) == whole
    pieces = Text(body.encode(), influx_keyspace("default", Naming()), NOW)
    sizes = []
    while not pieces.finished:
        sizes.append(pieces.read().sample_count)
    assert len(sizes) > 10
    assert sum(sizes) == 201


def test_a_batch_has_no_more_rows_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(influx, "_MOST_ROWS", kernel.MOST_FIELDS)
    lines = kernel.MOST_FIELDS // 2 + 1
    text = Text(b"m a=1,b=2\n" * lines, influx_keyspace("default", Naming()), NOW)
    sizes = []
    while not text.finished:
        sizes.append(text.read().sample_count)
    assert sizes == [kernel.MOST_FIELDS, 2]


def test_one_series_has_one_hash_wherever_its_field_stands():
    space = influx_keyspace("default", Naming())

    def hashes(body: bytes) -> np.ndarray:
        return Text(body, space, NOW).read().hashes

    first = hashes(b"m,t=x a=1,b=2,c=3 1")
    again = hashes(b"m,t=x c=7.25,a=99999,b=0 2\nm,t=y a=1\nm a=1")
    assert (again[:3] == first[[2, 0, 1]]).all()
    assert len(np.unique(np.concatenate([first, again]), axis=0)) == 5


def test_a_key_is_read_from_its_ends_alone():
    assert parse_key(rb'm,a\ b=c s="x y,z=\" ",n\,1=5,last\ one') == ("m", [("a b", "c")], "last one")
    name = "\\ ".join(["n" * 50] * 40)
    assert parse_key(f"m v=1,{name}".encode())[2] == name.replace("\\", "")


PIECES = st.sampled_from(
    ["m", "cpu", ",", ",", "=", " ", " ", "\n", "\n", "\\", '"', "#", "a=b", "v=1", "v=2i", "s=\"x\"", "1", "-", ".", "e", "t", "i", "u",
     "\r", "\t", "1700000000000000000", "99999999999999999999", "true", "nan", "inf", "é", "x v=1 5\n", "a\\ b", "\\\\", "\\\""]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
@example('m a="\\')
@example("m v=1\\")
@example("m,a=b\\")
@example("\\")
@example("m v=1 \r\r")
def test_the_kernel_reads_what_its_twin_reads(body):
    space = influx_keyspace("default", Naming(names="utf8"))
    text = Text(body.encode(), space, NOW)
    found = []
    while not text.finished:
        batch = text.read()
        for i, (lo, hi) in enumerate(zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)):
            found.append((parse_key(batch.buffer[lo:hi].tobytes()), int(batch.timestamps[i]), bits(float(batch.values[i]))))
    twin, bad = points(body)
    expected = [
        ((p.measurement, p.tags, name), NOW if p.time is None else p.time // 1_000_000, bits(value))
        for p in twin
        for name, value in p.fields
    ]
    assert found == expected
    assert (text.told.faulty, text.told.lines, text.told.strings) == (bad, len(twin), sum(p.strings for p in twin))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_told(body):
    space = influx_keyspace("default", Naming())
    text = Text(body, space, NOW)
    while not text.finished:
        batch = text.read()
        for lo, hi in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True):
            try:
                parse_key(batch.buffer[lo:hi].tobytes())
            except BadInput as error:
                assert error.problem == "not UTF-8 text"
