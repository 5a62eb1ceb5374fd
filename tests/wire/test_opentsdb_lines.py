"""OpenTSDB's lines become Graphite's; what is no line of it is counted by reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.model.samples import canonical
from vedette.wire import graphite
from vedette.wire.opentsdb_lines import as_graphite


@pytest.mark.parametrize(
    ("line", "made"),
    [
        (b"put sys.cpu.user 1356998400 42.5 host=webserver01 cpu=0", b"sys.cpu.user;host=webserver01;cpu=0 42.5 1356998400\n"),
        (b"put a 1356998400123 -1", b"a -1 1356998400.123\n"),
        (b"put a 1356998400.250 1e3 b=c=d\r", b"a;b=c=d 1e3 1356998400.250\n"),
        (b"  put\ta  4294967295 7  b=c ", b"a;b=c 7 4294967295\n"),
        (b"put a 4294967296 7", b"a 7 4294967.296\n"),
        (b"", b""),
    ],
)
def test_a_line(line: bytes, made: bytes) -> None:
    found = as_graphite(line + b"\n")
    assert (found.text, found.bad, found.first) == (made, {}, "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"versions", "unknown_command"),
        (b"PUT a 1 1", "unknown_command"),
        (b"put a 1", "no_value"),
        (b"put a -1 1", "bad_time"),
        (b"put a N 1", "bad_time"),
        (b"put a 1.2.3 1", "bad_time"),
        (b"put a 1e9 1", "bad_time"),
        (b"put a " + b"1" * 21 + b" 1", "bad_time"),
        (b"put a;b=c 1 1", "bad_path"),
        (b"put a 1 1 b=c;d=e", "bad_path"),
    ],
)
def test_what_is_none_leaves_only_itself_out(line: bytes, reason: str) -> None:
    found = as_graphite(b"put a 1 1\n" + line + b"\nput b 2 2\n")
    assert (found.text, found.bad, found.first) == (b"a 1 1\nb 2 2\n", {reason: 1}, line.decode())


@given(st.lists(st.binary(max_size=40) | st.text("put a1.;=-\r\t", max_size=40).map(str.encode), max_size=10))
def test_of_any_bytes_each_line_is_counted_once(lines: list[bytes]) -> None:
    data = b"\n".join(lines)
    found = as_graphite(data)
    sent = sum(bool(line.split()) for line in data.split(b"\n"))
    assert found.text.count(b"\n") + found.bad.total() == sent
    assert found.puts + len(found.asked) == sent
    # What is made has a place each in what reads it, too.
    read = graphite.parse(found.text, canonical(), 0, max_line=1000)
    assert read.batch.series_count + read.bad.total() == found.text.count(b"\n")


def test_other_commands_are_told_in_their_order_and_none_behind_the_last() -> None:
    found = as_graphite(b"version\nput a 1 1\nPut b 1 1\nhelp me\n" + b"x" * 100 + b"\n\xff\nexit\nput c 1 1\nstats\n")
    assert found.asked == ["version", "Put", "help", "x" * 64, "\ufffd", "exit"]
    assert (found.text, found.puts, found.bad) == (b"a 1 1\n", 1, {"unknown_command": 3})
