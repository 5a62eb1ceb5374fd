"""Graphite's lines and pickles: what is read of them, what is not, and that no bytes do harm."""

from __future__ import annotations

import math
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.model.samples import SampleBatch, canonical
from vedette.wire.graphite import milliseconds, parse, parse_pickle, split_path

NOW = 1_700_000_000_000
SPACE = canonical()


def samples(batch: SampleBatch) -> list[tuple[str, int, float]]:
    data = batch.buffer.tobytes()
    keys = [data[lo:hi].decode() for lo, hi in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)]
    return list(zip(keys, batch.timestamps.tolist(), batch.values.tolist(), strict=True))


def lines(text: str | bytes, max_line: int = 1000) -> list[tuple[str, int, float]]:
    found = parse(text if isinstance(text, bytes) else text.encode(), SPACE, NOW, max_line=max_line)
    assert not found.bad, found
    return samples(found.batch)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.b 1 1700000000", ("a.b", 1_700_000_000_000, 1.0)),
        ("a.b 1.5", ("a.b", NOW, 1.5)),
        ("a.b 1 -1", ("a.b", NOW, 1.0)),
        ("a.b 1 N", ("a.b", NOW, 1.0)),
        ("a.b 1 1700000000.25", ("a.b", 1_700_000_000_250, 1.0)),
        ("a.b 1 1.7e9", ("a.b", 1_700_000_000_000, 1.0)),
        ("a.b;dc=ams;host=web 2e3 5", ("a.b;dc=ams;host=web", 5000, 2000.0)),
        ("a.b;x=y=z 1 5", ("a.b;x=y=z", 5000, 1.0)),
        ("\ta\t-1\t5\r", ("a", 5000, -1.0)),
        ("größe 1 5", ("größe", 5000, 1.0)),
        ("a 1234567890.12345678901234 5", ("a", 5000, 1234567890.12345678901234)),
        ("a inf 5", ("a", 5000, math.inf)),
    ],
)
def test_a_line(line: str, expected: tuple[str, int, float]) -> None:
    assert lines(line) == [expected]
    assert lines(f"{line}\n") == [expected]


def test_blank_lines_are_none() -> None:
    assert lines("\n\r\n  \na 1 5\n\n") == [("a", 5000, 1.0)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a", "no_value"),
        (b"a.b;c 1 5", "bad_path"),
        (b"a.b;=c 1 5", "bad_path"),
        (b"a.b;c= 1 5", "bad_path"),
        (b";c=d 1 5", "bad_path"),
        (b"a\x00b 1 5", "bad_path"),
        (b"a\xff 1 5", "bad_path"),
        (b"a one 5", "bad_value"),
        (b"a 1e999 5", "bad_value"),
        (b"a 1_0 5", "bad_value"),
        (b"a nan 5", "nan"),
        (b"a 1 then", "bad_time"),
        (b"a 1 -5", "bad_time"),
        (b"a 1 1700000000000", "bad_time"),
        (b"a 1 nan", "bad_time"),
        (b"a 1 5 6", "too_many_parts"),
        (b"a" * 1000 + b" 1 5", "too_long"),
    ],
)
def test_a_line_that_is_none_keeps_only_itself_out(line: bytes, reason: str) -> None:
    found = parse(b"before 1 5\n" + line + b"\nbehind 2 6\n", SPACE, NOW, max_line=500)
    assert samples(found.batch) == [("before", 5000, 1.0), ("behind", 6000, 2.0)]
    assert found.bad == {reason: 1}
    assert found.first == line[:200].decode("utf-8", "replace")


def test_a_path_is_taken_apart() -> None:
    assert split_path("a.b") == ("a.b", {})
    assert split_path("a.b;c=d;e=f=g;c=z") == ("a.b", {"c": "z", "e": "f=g"})


def naive(body: bytes) -> list[tuple[str, int, float]]:
    """What a plain reader makes of lines, as the kernel's twin."""
    found = []
    for line in body.split(b"\n"):
        parts = line.replace(b"\r", b" ").replace(b"\t", b" ").split(b" ")
        parts = [part for part in parts if part]
        if not 2 <= len(parts) <= 3 or len(line) > 300:
            continue
        try:
            path = parts[0].decode()
            value = float(parts[1])
        except ValueError:
            continue
        name, *tags = path.split(";")
        spelled = all(33 <= ord(c) != 127 for c in path) and all(0 < t.find("=") < len(t) - 1 for t in tags)
        if not name or not spelled or b"_" in parts[1] or math.isnan(value) or (math.isinf(value) and b"n" not in parts[1].lower()):
            continue
        time = parts[2] if len(parts) == 3 else b"-1"
        if time in (b"-1", b"N", b"n"):
            found.append((path, NOW, value))
        elif (stamp := milliseconds(time)) is not None:
            found.append((path, stamp, value))
    return found


_PART = st.sampled_from(
    ["a.b", "c;d=e", "é", "f;g", "1", "-2.5e3", "nan", "1e400", "7.000000000000000000001", "1700000000", "N", "-1", "x", ";", "="]
)


@given(st.lists(st.lists(_PART, max_size=4).map(" ".join), max_size=20).map("\n".join))
def test_the_kernel_and_its_naive_twin_agree(text: str) -> None:
    found = parse(text.encode(), SPACE, NOW, max_line=300)
    assert samples(found.batch) == naive(text.encode())
    filled = sum(1 for line in text.split("\n") if line.strip())
    assert found.batch.sample_count + sum(found.bad.values()) == filled


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(body: bytes) -> None:
    found = parse(body, SPACE, NOW, max_line=100)
    assert found.batch.series_count == found.batch.sample_count
    for key, _, value in samples(found.batch):
        assert key and not math.isnan(value)


PICKLED = [("a.b", (1_700_000_000, 1.5)), ("c;d=e", (1_700_000_000.5, 2)), ("é", (-1, 10**12))]
READ = [("a.b", 1_700_000_000_000, 1.5), ("c;d=e", 1_700_000_000_500, 2.0), ("é", NOW, 1e12)]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_each_protocol(protocol: int) -> None:
    found = parse_pickle(pickle.dumps(PICKLED, protocol=protocol), SPACE, NOW)
    assert samples(found.batch) == READ
    assert not found.bad
    assert (found.batch.hashes == parse(b"a.b 1\nc;d=e 1\n\xc3\xa9 1", SPACE, NOW, max_line=99).batch.hashes).all()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_shared_parts_texts_and_tuples(protocol: int) -> None:
    pair = (5, "1.5")
    found = parse_pickle(pickle.dumps((("a", pair), ("b", pair), [b"c", [6, True]]), protocol=max(3, protocol)), SPACE, NOW)
    assert samples(found.batch) == [("a", 5000, 1.5), ("b", 5000, 1.5), ("c", 6000, 1.0)]


def test_a_python_2_relay() -> None:
    # cPickle.dumps([('a.b', (5, 1.5))], 2) and, by protocol 0, with a long, of Python 2.7
    assert samples(parse_pickle(b"\x80\x02]q\x01U\x03a.bK\x05G?\xf8\x00\x00\x00\x00\x00\x00\x86\x86a.", SPACE, NOW).batch) == [
        ("a.b", 5000, 1.5)
    ]
    assert samples(parse_pickle(b"(lp1\n(S'a.b'\np2\n(L5L\nF1.5\ntp3\ntp4\na.", SPACE, NOW).batch) == [("a.b", 5000, 1.5)]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (("a b", (5, 1)), "bad_path"),
        (("a;b", (5, 1)), "bad_path"),
        (("\ud800", (5, 1)), "bad_path"),
        (("a", (5, math.nan)), "nan"),
        (("a", (5, None)), "bad_value"),
        (("a", (5, "1_0x")), "bad_value"),
        (("a", ("x", 1)), "bad_time"),
        (("a", (-7, 1)), "bad_time"),
        (("a", 5, 1), "bad_item"),
        (("a", (5,)), "bad_item"),
        ((7, (5, 1)), "bad_item"),
        ("a", "bad_item"),
    ],
)
def test_an_item_that_is_none_keeps_only_itself_out(item: object, reason: str) -> None:
    sent = pickle.dumps([("before", (5, 1)), item, ("behind", (6, 2))])
    found = parse_pickle(sent, SPACE, NOW)
    assert samples(found.batch) == [("before", 5000, 1.0), ("behind", 6000, 2.0)]
    assert found.bad == {reason: 1}


class Evil:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('it ran')",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_called(protocol: int) -> None:
    with pytest.raises(BadInput, match=r"opcode .* is not taken"):
        parse_pickle(pickle.dumps([("a", (5, Evil()))], protocol=protocol), SPACE, NOW)


@pytest.mark.parametrize(
    "piece",
    [
        b"",
        b".",
        b"]",
        b"(.",
        b"t.",
        b"a.",
        b"]e.",
        b"g1\n.",
        b"gx\n.",
        b"h\x05.",
        b"I\n.",
        b"Fx\n.",
        b"Sx\n.",
        b"K",
        b"X\xff\xff\xff\xff.",
        b"T\xff\xff\xff\xff.",
        b"\x8b\xff\xff\xff\xff.",
        b"\x8a\xff" + b"x" * 255 + b".",
        b"1.",
        b"0.",
        b"N.",
        b"}.",
        b"I1\n.",
        b"I" + b"9" * 5000 + b"\n.",
        pickle.dumps([("a", (5, 10**400))]),
    ],
)
def test_a_pickle_that_is_none(piece: bytes) -> None:
    with pytest.raises(BadInput):
        parse_pickle(piece, SPACE, NOW)


def test_lists_in_themselves_and_in_one_another_end() -> None:
    assert parse_pickle(b"]q\x01h\x01a.", SPACE, NOW).bad == {"bad_item": 1}
    many = b"]q\x00" + b"".join(b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(100))
    found = parse_pickle(b"](" + many + b"e.", SPACE, NOW)
    assert sum(found.bad.values()) == 101
    with pytest.raises(BadInput, match="values at once"):
        parse_pickle(b"(" * 1_100_000 + b"].", SPACE, NOW)


@given(st.binary(max_size=200))
def test_no_pickle_does_harm(piece: bytes) -> None:
    try:
        found = parse_pickle(piece, SPACE, NOW)
    except BadInput:
        return
    assert found.batch.series_count == found.batch.sample_count


@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_nor_one_with_a_few_bytes_changed(at: int, change: bytes) -> None:
    good = bytearray(pickle.dumps([(f"a{i}", (i, i / 2)) for i in range(20)], protocol=at % 6))
    good[at % len(good) : at % len(good) + len(change)] = change
    try:
        found = parse_pickle(bytes(good), SPACE, NOW)
    except BadInput:
        return
    assert np.isfinite(found.batch.values).all() or math.inf in np.abs(found.batch.values)


def test_the_frame_before_a_pickle_is_not_part_of_it() -> None:
    piece = pickle.dumps(PICKLED)
    with pytest.raises(BadInput):
        parse_pickle(struct.pack("!L", len(piece)) + piece, SPACE, NOW)
