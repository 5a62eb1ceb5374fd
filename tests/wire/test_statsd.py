"""StatsD's lines in its dialects: what is read of them, what is not, and that no bytes do harm."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.wire.statsd import Bad, Sent, parse_line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.b:1|c", [Sent("a.b", (), "c", 1.0, text="1")]),
        ("a:2|c|@0.1", [Sent("a", (), "c", 2.0, 10.0, text="2")]),
        ("a:2|c|@0", [Sent("a", (), "c", 2.0, text="2")]),
        ("a:-1.5|g", [Sent("a", (), "g", -1.5, 1.0, True, "-1.5")]),
        ("a:+1|g|@0.5", [Sent("a", (), "g", 1.0, 1.0, True, "+1")]),
        ("a:320|ms", [Sent("a", (), "ms", 320.0, text="320")]),
        ("a:1e-3|h", [Sent("a", (), "h", 0.001, text="1e-3")]),
        ("a:7|d\r", [Sent("a", (), "d", 7.0, text="7")]),
        ("a:user:1|s", [Sent("a", (), "s", 0.0, text="user:1")]),
        ("a:1|c:2|c|@0.5", [Sent("a", (), "c", 1.0, text="1"), Sent("a", (), "c", 2.0, 2.0, text="2")]),
        ("a:1:2|ms|@0.5", [Sent("a", (), "ms", 1.0, 2.0, text="1"), Sent("a", (), "ms", 2.0, 2.0, text="2")]),
        ("a:1|c|#x:y,b:c:d,on", [Sent("a", (("b", "c:d"), ("on", "true"), ("x", "y")), "c", 1.0, text="1")]),
        ("a:1|c|#x:y|@0.5|T1656581400|c:ci-7", [Sent("a", (("x", "y"),), "c", 1.0, 2.0, text="1")]),
        ("a,x=y,z=1:1|c", [Sent("a", (("x", "y"), ("z", "1")), "c", 1.0, text="1")]),
        ("a#x=y:1|c", [Sent("a", (("x", "y"),), "c", 1.0, text="1")]),
        ("a[x=y,z=1].b:1|c", [Sent("a.b", (("x", "y"), ("z", "1")), "c", 1.0, text="1")]),
        ("größe:1|c|#ö:ü", [Sent("größe", (("ö", "ü"),), "c", 1.0, text="1")]),
    ],
)
def test_a_line(line: str, expected: list[Sent]) -> None:
    assert parse_line(line.encode()) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a", "malformed_line"),
        (b":1|c", "malformed_line"),
        (b"a:1", "malformed_line"),
        (b",x=y:1|c", "malformed_line"),
        (b"a:1|", "malformed_component"),
        (b"a:1|c|", "malformed_component"),
        (b"a:1|c||#x:y", "malformed_component"),
        (b"a:1|x", "unknown_type"),
        (b"a:one|c", "bad_value"),
        (b"a:|c", "bad_value"),
        (b"a:|s", "bad_value"),
        (b"a:nan|g", "bad_value"),
        (b"a:inf|g", "bad_value"),
        (b"a:1_0|g", "bad_value"),
        (b"a:-1|c", "negative_counter"),
        (b"a:1|c|@2", "bad_sample_rate"),
        (b"a:1|c|@-1", "bad_sample_rate"),
        (b"a:1|c|@1e-300", "bad_sample_rate"),
        (b"a:1|c|@often", "bad_value"),
        (b"a,x=y:1|c|#z:1", "mixed_tagging_styles"),
        (b"\xff:1|c", "not_utf8"),
        (b"_e{5,4}:title|text", "event"),
        (b"_sc|check|0", "event"),
    ],
)
def test_a_line_that_is_none(line: bytes, reason: str) -> None:
    with pytest.raises(Bad) as caught:
        parse_line(line)
    assert caught.value.problem == reason
    assert caught.value.where


_PART = st.sampled_from(["a", ":", "|", "c", "g", "ms", "s", "@", "0.5", "#", "x:y", ",", "[", "]", "=", "1", "-", "nan", "_e{", "é"])


@given(st.lists(_PART, max_size=12).map("".join))
def test_whatever_is_written_is_read_or_refused(line: str) -> None:
    try:
        found = parse_line(line.encode())
    except Bad:
        return
    assert found
    for sent in found:
        assert sent.name and math.isfinite(sent.value) and sent.weight >= 1
        assert sent.kind != "c" or sent.value >= 0


@given(st.binary(max_size=100))
def test_no_bytes_do_harm(line: bytes) -> None:
    try:
        parse_line(line.replace(b"\n", b""))
    except Bad as bad:
        assert bad.problem
