"""The protocols for log lines: what each makes of a body, and which errors it tells. Untrusted bytes never end otherwise."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from typing import Any

import cramjam
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.model.logs import LEVELS, LogBatch, LogBuilder
from vedette.wire import elastic_bulk, jsonlines, loglines, loki, otlp_logs, plainlines, syslog

NOW = 1_705_312_800_000_000_000  # 2024-01-15T10:00:00Z
LINE = 10_000


def rows(batch: LogBatch) -> list[tuple[int, str, str, str, dict[str, Any]]]:
    """(ns after NOW, level, service, message, fields) of each line."""
    services = [batch.services[c] for c in batch.service_codes]
    found = zip(batch.times.tolist(), batch.levels.tolist(), services, batch.messages.strings(), batch.fields.strings(), strict=True)
    return [(t - NOW, LEVELS[level], s, m, orjson.loads(f)) for t, level, s, m, f in found]


# -- times and levels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2024-01-15T10:00:00Z", 0),
        ("2024-01-15T10:00:00", 0),
        ("2024-01-15 10:00:00.5", 500_000_000),
        ("2024-01-15T10:00:00.123456789Z", 123_456_789),
        ("2024-01-15T12:00:00,25+02:00", 250_000_000),
        ("2024-01-15T05:00:00-0500", 0),
        ("2024-01-15T10:00z", 0),
        ("2024-01-15", -36_000_000_000_000),
        ("1705312800", 0),
        ("1705312800.25", 250_000_000),
        ("1705312800001", 1_000_000),
        ("1705312800000002", 2_000),
        ("1705312800000000003", 3),
    ],
)
def test_times_in_every_form(text: str, ns: int) -> None:
    assert loglines.parse_time(text) == NOW + ns
    assert loglines.Times(NOW).read(text) == NOW + ns


@pytest.mark.parametrize("text", ["", "today", "2024-02-30T00:00:00Z", "2024-01-15T25:00:00Z", "9" * 19 + ".5", "1e5", "0001-01-01", "nan"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadInput, match="not a time"):
        loglines.parse_time(text)


def test_a_clock_that_is_wrong_is_told() -> None:
    with pytest.raises(BadInput, match="more than a day ahead: 2024-01-17"):
        loglines.Times(NOW).read("2024-01-17T00:00:00.000000Z")


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2024-01-15 10:00:00 ERROR boom", "error"),
        ("[warn] low", "warn"),
        ("level=fatal msg=x", "fatal"),
        ('{"lvl":"INFO"}', "info"),
        ("an errorless day", "unknown"),
        ("INFORMATION overload", "unknown"),
        ("x" * 500 + " ERROR", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_level_that_a_line_names(line: str, level: str) -> None:
    assert LEVELS[loglines.level_in(line)] == level


# -- JSON lines ---------------------------------------------------------------------------------------------------------


def lines(body: str | bytes, **more: Any) -> list[tuple[int, str, str, str, dict[str, Any]]]:
    data = body.encode() if isinstance(body, str) else body
    return rows(jsonlines.parse(data, now_ns=NOW, max_line=LINE, **more))


def test_json_lines() -> None:
    body = """
{"timestamp": "2024-01-15T10:00:01Z", "level": "WARNING", "service": "web", "message": "slow", "metadata": {"ms": 150, "user": "ü"}}

{"ts": 1705312800.5, "severity": "err", "app": "db", "msg": "gone\\u0000", "host": "a", "nested": {"x": [1, null]}}
{"@timestamp": "2024-01-15T10:00:00.000001Z", "log.level": "debug", "service": {"name": "ecs"}, "message": {"not": "text"}}
{"event": "only a message: ERROR here"}
"""
    assert lines(body, service="fallback") == [
        (10**9, "warn", "web", "slow", {"ms": 150, "user": "ü"}),
        (5 * 10**8, "error", "db", "gone\x00", {"host": "a", "nested": {"x": [1, None]}}),
        (1000, "debug", "ecs", '{"not":"text"}', {}),
        (0, "error", "fallback", "only a message: ERROR here", {}),
    ]


@pytest.mark.parametrize(
    ("priority", "level"),
    [("3", "error"), (6, "info"), ("crit", "fatal"), ("high", "unknown"), (True, "unknown"), ({}, "unknown"), ("9", "unknown")],
)
def test_lines_of_a_journal_and_of_syslog_ng(priority: object, level: str) -> None:
    row = {"MESSAGE": "it broke", "SYSLOG_IDENTIFIER": "shop", "PRIORITY": priority, "_PID": "7"}
    other = {"MESSAGE": "it broke", "PROGRAM": "shop", "PRIORITY": priority}
    body = b'{"index":{"_index":"i"}}\n' + orjson.dumps(other) + b"\n"
    for batch in (
        jsonlines.parse(orjson.dumps(row), now_ns=NOW, max_line=LINE),
        elastic_bulk.parse(body, index="", now_ns=NOW, max_line=LINE).batch,
    ):
        assert batch.messages.strings() == ["it broke"] and batch.services == ("shop",)
        assert LEVELS[batch.levels[0]] == level
        assert orjson.loads(batch.fields.strings()[0])["PRIORITY"] == priority


def test_an_array_one_object_or_one_over_several_lines() -> None:
    one = {"message": "a", "level": 30, "metadata": "plain", "n": 2**70}
    expected = (0, "warn", "", "a", {"metadata": "plain", "n": float(2**70)})
    for body in (json.dumps([one]), json.dumps(one), json.dumps(one, indent=2), "\ufeff" + json.dumps(one)):
        assert lines(body) == [expected]
    assert lines("[]") == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "the body is empty"),
        ('{"message":"a"}\n{"message":', "line 2, column"),
        ('{"message":"a"}\n\n7', "line 3: a number where a JSON object is expected"),
        ('["x"]', "line 1: text where a JSON object is expected"),
        ("[{}", "line 1, column"),
        ('{"message":"a"}\n{"message":"b","timestamp":"never"}', "line 2: timestamp: not a time: 'never'"),
        ('{"ts":true}', "line 1: ts: not a time: bool"),
        ('{"level":["x"]}', "line 1: level: a list where a level's name is expected"),
        ('{"message":"' + "x" * 10_001 + '"}', "line 1: message: 10,001 bytes"),
        (b'{"message":"\xff"', "line 1, column"),
        (b'"\xff"', "line 1: text where a JSON object is expected"),
        (b'{"message":"\xff"}\n{"message":"a",}', "line 2, column"),
        (b'[{"message":"\xff"},]', "line 1, column"),
    ],
)
def test_bad_lines_are_named(body: str | bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message.replace("(", r"\(")):
        lines(body)


def test_bytes_that_are_no_utf8_are_shown_as_such_and_cost_no_line() -> None:
    good, damaged = b'{"message":"caf\xc3\xa9","n":1}', b'{"message":"caf\xe9 \xed\xa0\x80","path":"\xff"}'
    expected = [(0, "unknown", "", "caf\xe9", {"n": 1}), (0, "unknown", "", "caf\ufffd \ufffd\ufffd\ufffd", {"path": "\ufffd"})]
    for body in (good + b"\n" + damaged, b"[" + good + b"," + damaged + b"]", b"\n\n" + good + b"\r\n" + damaged + b"\n"):
        assert lines(body) == expected
    assert lines(damaged.replace(b",", b",\n")) == expected[1:], "one object over several lines"
    assert lines(b'{"message":"\xef\xbf\xbd"}')[0][3] == "\ufffd", "the character itself is no damage"
    bulk = elastic_bulk.parse(b'{"create":{}}\n' + damaged + b'\n{"create":{}}\n{"\xff":}\n', index="x", now_ns=NOW, max_line=LINE)
    assert [next(iter(i.values()))["status"] for i in bulk.items] == [201, 400]
    assert rows(bulk.batch)[0][3:] == ("caf\ufffd \ufffd\ufffd\ufffd", {"path": "\ufffd", "_index": "x"})
    stream = b'{"streams":[{"stream":{"app":"\xff"},"values":[["%d","caf\xe9"],["%d","ok"]]}]}' % (NOW, NOW + 1)
    assert [row[2:4] for row in rows(loki.parse_json(stream, now_ns=NOW, max_line=LINE))] == [("\ufffd", "caf\ufffd"), ("\ufffd", "ok")]
    followed = plainlines.parse([damaged, good], now_ns=NOW, max_line=LINE, service="", fields={})
    assert rows(followed) == list(reversed(expected)), "JSON in a file, too"


def test_half_a_pair_of_surrogates_is_shown_as_such() -> None:
    row = {"message": os.fsdecode(b"caf\xe9 \\udce9"), "good": "\U0001f600", "both": "\ud83d\ud83d\ude00", "path": "\\\\"}
    body = json.dumps(row).encode()
    assert rb"caf\udce9 \\udce9" in body and rb"\ud83d\ud83d\ude00" in body, "as Python's json writes it"
    fields = {"good": "\U0001f600", "both": "\ufffd\U0001f600", "path": "\\\\"}
    assert lines(b'{"message":"before"}\n' + body)[1] == (0, "unknown", "", "caf\ufffd \\udce9", fields)
    for bad in (rb'{"message":"\ud83"}', rb'{"message":"\udce9}', rb'{"message":"\\"x}'):
        with pytest.raises(BadInput, match="line 1, column"):
            lines(bad)


def test_every_escape_is_what_pythons_json_takes_it_for() -> None:
    chance = random.Random(7)
    parts = ("\\\\", '\\"', "\\n", "\\ud83d", "\\uDe00", "\\u0041", "\\uFFFD", "u", "ud83d", "d83d", "\xe9", "\\udFFf")
    for _ in range(300):
        text = '"' + "".join(chance.choices(parts, k=chance.randrange(9))) + '"'
        said = re.sub("[\ud800-\udfff]", "\ufffd", json.loads(text))
        assert loglines.read_json(text.encode()) == said, text


# -- OTLP ---------------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, value: bytes | int | str, *, fixed: bool = False) -> bytes:
    if isinstance(value, int):
        return varint(number << 3 | 1) + value.to_bytes(8, "little") if fixed else varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def attribute(key: str, value: bytes) -> bytes:
    return field(1, key) + field(2, value)


def test_otlp_protobuf() -> None:
    record = (
        field(1, NOW + 7, fixed=True) + field(2, 17) + field(3, "Error") + field(5, field(1, "boom"))
        + field(6, attribute("n", field(3, (1 << 64) - 5))) + field(6, attribute("f", field(4, 0x3FF8000000000000, fixed=True)))
        + field(6, attribute("l", field(5, field(1, field(2, 1)) + field(1, field(1, "x")))))
        + field(6, attribute("m", field(6, field(1, attribute("k", field(7, b"\x00\xff"))))))
        + field(9, bytes(range(16))) + field(10, b"\x01" * 8) + field(12, "an.event")
    )  # fmt: skip
    plain = field(11, NOW + 9, fixed=True) + field(5, field(6, field(1, attribute("a", field(3, 1)))))
    resource = field(1, attribute("service.name", field(1, "shop"))) + field(1, attribute("host", field(1, "h")))
    scope = field(1, field(1, "lib")) + field(2, record) + field(2, plain)
    body = field(1, field(1, resource) + field(2, scope))
    found = rows(otlp_logs.parse(body, now_ns=NOW, max_line=LINE))
    assert found == [
        (
            7,
            "error",
            "shop",
            "boom",
            {
                "host": "h", "scope": "lib", "n": -5, "f": 1.5, "l": [True, "x"], "m": {"k": "AP8="},
                "trace_id": "000102030405060708090a0b0c0d0e0f", "span_id": "01" * 8, "event_name": "an.event",
            },
        ),
        (9, "unknown", "shop", '{"a":1}', {"host": "h", "scope": "lib"}),
    ]  # fmt: skip


def test_otlp_json() -> None:
    record = {
        "timeUnixNano": str(NOW + 1),
        "severityNumber": "SEVERITY_NUMBER_WARN2",
        "body": {"stringValue": "slow"},
        "traceId": "ab",
        "attributes": [
            {"key": "n", "value": {"intValue": "-5"}},
            {"key": "l", "value": {"arrayValue": {"values": [{"boolValue": True}, {"kvlistValue": {"values": []}}]}}},
        ],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": {"name": "lib"}, "logRecords": [record, {}]}]}]}
    found = rows(otlp_logs.parse_json(orjson.dumps(body), now_ns=NOW, max_line=LINE))
    assert found == [
        (1, "warn", "shop", "slow", {"scope": "lib", "n": -5, "l": [True, {}], "trace_id": "ab"}),
        (0, "unknown", "shop", "", {"scope": "lib"}),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"resourceLogs": {"a": 1}}, "resourceLogs: expected a list"),
        ({"resourceLogs": [{"scopeLogs": [7]}]}, "resourceLogs.0.scopeLogs.0: expected an object"),
        ({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "x"}]}]}]}, "logRecords.0.timeUnixNano: expected whole"),
        ({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"severityNumber": 1.5}]}]}]}, "logRecords.0.severityNumber"),
        ([], "the body: expected an object"),
    ],
)
def test_bad_otlp_json_is_pointed_at(body: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        otlp_logs.parse_json(orjson.dumps(body), now_ns=NOW, max_line=LINE)


# -- Loki ---------------------------------------------------------------------------------------------------------------


def test_loki_protobuf() -> None:
    entry = field(1, field(1, NOW // 10**9) + field(2, 5)) + field(2, "level=warn slow") + field(3, field(1, "id") + field(2, "7"))
    stream = field(1, '{app="web", env="p\\"r"}') + field(2, entry) + field(2, field(2, b"\xffplain"))
    body = bytes(cramjam.snappy.compress_raw(field(1, stream)))
    found = rows(loki.parse(body, now_ns=NOW, max_line=LINE, max_bytes=1 << 20))
    labels = {"app": "web", "env": 'p"r'}
    assert found == [(5, "warn", "web", "level=warn slow", {**labels, "id": "7"}), (0, "unknown", "web", "\ufffdplain", labels)]


def test_loki_json() -> None:
    body = {
        "streams": [
            {"stream": {"service_name": "api", "job": "x", "level": "error"}, "values": [[str(NOW + 3), "a"], [str(NOW), "b", {"t": "1"}]]}
        ]
    }
    labels = {"service_name": "api", "job": "x", "level": "error"}
    assert rows(loki.parse_json(orjson.dumps(body), now_ns=NOW, max_line=LINE)) == [
        (3, "error", "api", "a", labels),
        (0, "error", "api", "b", {**labels, "t": "1"}),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "streams: expected a list"),
        ({"streams": [{"stream": {"a": 1}}]}, "streams.0.stream: expected an object of texts"),
        ({"streams": [{"stream": {}, "values": [["x", "line"]]}]}, "streams.0.values.0.0: expected Unix nanoseconds"),
        ({"streams": [{"stream": {}, "values": [[str(NOW)]]}]}, "streams.0.values.0: expected"),
        ({"streams": [{"stream": {}, "values": [[str(NOW * 2), "l"]]}]}, "line 1: timestamp: a time more than a day ahead"),
    ],
)
def test_bad_loki_json_is_pointed_at(body: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        loki.parse_json(orjson.dumps(body), now_ns=NOW, max_line=LINE)


def test_labels() -> None:
    assert loki.read_labels('{ a = "1" , b.c="x,}\\n" }') == {"a": "1", "b.c": "x,}\n"}
    assert loki.read_labels("{}") == {}
    for bad in ("", "a", '{a="1"', "{a=1}", '{a="1" b="2"}', '{="1"}'):
        with pytest.raises(BadInput, match="label"):
            loki.read_labels(bad)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = bytes(cramjam.snappy.compress_raw(bytes(10_000_000)))
    with pytest.raises(BadInput, match="10,000,000 bytes unpacked, at most 1,000,000"):
        loki.parse(bomb, now_ns=NOW, max_line=LINE, max_bytes=1_000_000)
    with pytest.raises(BadInput, match="not a snappy block"):
        loki.parse(b"\xff\xff\xff\xff\xff\xff", now_ns=NOW, max_line=LINE, max_bytes=1_000_000)


# -- Elasticsearch ------------------------------------------------------------------------------------------------------


def test_bulk() -> None:
    body = b"""{"create":{"_index":"filebeat-9"}}
{"@timestamp":"2024-01-15T10:00:00.5Z","message":"boom ERROR","service":{"name":"shop"},"host":{"name":"h"}}
{"index":{"_id":"7"}}
{"message":"b","log":{"level":"warn"}}
{"delete":{"_id":"7"}}
{"create":{}}
not json
{"update":{"_id":"7"}}
{"doc":{}}
{"create":{}}
{"@timestamp":"never"}
"""
    found = elastic_bulk.parse(body, index="logs", now_ns=NOW, max_line=LINE)
    assert rows(found.batch) == [
        (5 * 10**8, "error", "shop", "boom ERROR", {"service": {"name": "shop"}, "host": {"name": "h"}, "_index": "filebeat-9"}),
        (0, "warn", "logs", "b", {"log": {"level": "warn"}, "_index": "logs"}),
    ]
    assert [(next(iter(i)), next(iter(i.values()))["status"]) for i in found.items] == [
        ("create", 201), ("index", 201), ("delete", 400), ("create", 400), ("update", 400), ("create", 400),
    ]  # fmt: skip
    assert found.errors and found.items[1]["index"]["_id"] == "7"
    assert "failed to parse field [@timestamp]" in found.items[5]["create"]["error"]["reason"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}\n{}\n", "line 1: malformed action"),
        (b"nope\n", "line 1: malformed action"),
        (b'{"create":{}}\n', "line 2: the document is missing"),
        (b'{"explode":{}}\n{}\n', "line 1: malformed action/metadata line: 'explode'"),
    ],
)
def test_bad_bulk(body: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        elastic_bulk.parse(body, index="x", now_ns=NOW, max_line=LINE)


# -- syslog -------------------------------------------------------------------------------------------------------------


def said(message: bytes | str) -> tuple[int, str, str, str, dict[str, Any]]:
    builder = LogBuilder(max_bytes=LINE)
    data = message if isinstance(message, bytes) else message.encode()
    syslog.add(data, builder, now_ns=NOW, peer="10.0.0.9", max_line=LINE)
    (row,) = rows(builder.build())
    return row


@pytest.mark.parametrize(
    ("message", "row"),
    [
        (
            "<165>1 2024-01-15T09:59:59.003Z mymachine evntslog 11 ID47 [ex@1 iut=\"3\" t=\"a\\]b\"][o k=\"v\"] \ufeffAn event",
            (-997_000_000, "info", "evntslog", "An event",
             {"facility": "local4", "host": "mymachine", "pid": "11", "msgid": "ID47", "ex@1.iut": "3", "ex@1.t": "a]b", "o.k": "v"}),
        ),
        ("<34>1 - - su - - - failed", (0, "fatal", "su", "failed", {"facility": "auth", "host": "10.0.0.9"})),
        (
            "<11>Jan 15 09:59:58 box sshd[42]: no: entry",
            (-2 * 10**9, "error", "sshd", "no: entry", {"facility": "user", "host": "box", "pid": "42"}),
        ),
        ("<14>2024-01-15T10:00:00+00:00 box app: hi", (0, "info", "app", "hi", {"facility": "user", "host": "box"})),
        ("<12>just a warning", (0, "warn", "", "just a warning", {"facility": "user", "host": "10.0.0.9"})),
        ("no priority, ERROR", (0, "error", "", "no priority, ERROR", {"host": "10.0.0.9"})),
        ("<999>what", (0, "unknown", "", "<999>what", {"host": "10.0.0.9"})),
        ("<13>Feb 29 10:00:00 b a: leap", (-NOW + 1_582_970_400 * 10**9, "info", "a", "leap", {"facility": "user", "host": "b"})),
    ],
)  # fmt: skip
def test_syslog_messages(message: str, row: tuple[Any, ...]) -> None:
    if "leap" in message:  # no such day in the last year: the time of arrival stands for it
        row = (0, *row[1:])
    assert said(message) == row


def test_syslog_that_is_no_text_or_too_long() -> None:
    assert said(b"<13>\xff\x00\xfe")[3] == "\ufffd\x00\ufffd"
    builder = LogBuilder(max_bytes=8 * LINE)
    syslog.add(b"<11>1 - box app - - - " + "ü".encode() * LINE + b"\n", builder, now_ns=NOW, peer="10.0.0.9", max_line=LINE)
    found = builder.build()
    messages = found.messages.strings()
    assert "".join(messages) == "ü" * LINE, "nothing is lost, and no character is cut in two"
    assert len(messages) == 3 and all(len(m.encode()) <= LINE for m in messages)
    assert found.levels.tolist() == [5] * 3 and found.services == ("app",) and len(set(found.fields.strings())) == 1


@given(st.text(max_size=60).map(str.encode) | st.binary(max_size=60), st.integers(1, 20))
def test_pieces_are_the_whole(data: bytes, most: int) -> None:
    found = list(loglines.pieces(data, most))
    assert b"".join(found) == data and all(len(piece) <= most for piece in found)
    if most >= 4 and data.decode("utf-8", "ignore").encode() == data:
        assert "".join(piece.decode() for piece in found) == data.decode()


def test_both_framings_in_any_pieces() -> None:
    stream = b"5 <1>ab<2>cd\n11 <3>e\nf 123\n<4>\nlast"
    for size in (1, 3, 100):
        frames = syslog.Frames()
        found = [m for i in range(0, len(stream), size) for m in frames.feed(stream[i : i + size])]
        assert [*found, frames.rest()] == [b"<1>ab", b"<2>cd", b"<3>e\nf 123\n", b"<4>", b"last"]


def test_frames_that_cannot_be() -> None:
    for bad in (b"99999999 x", b"123456789", b"12x4 <1>"):
        with pytest.raises(BadInput):
            list(syslog.Frames().feed(bad))
    frames = syslog.Frames()
    with pytest.raises(BadInput, match="more than"):
        for _ in range(20):
            list(frames.feed(b"x" * 100_000))


# -- anything at all ----------------------------------------------------------------------------------------------------

_PARSERS: list[Callable[[bytes], object]] = [
    lambda b: jsonlines.parse(b, now_ns=NOW, max_line=LINE),
    lambda b: otlp_logs.parse(b, now_ns=NOW, max_line=LINE),
    lambda b: otlp_logs.parse_json(b, now_ns=NOW, max_line=LINE),
    lambda b: loki.parse(b, now_ns=NOW, max_line=LINE, max_bytes=1 << 20),
    lambda b: loki.parse(bytes(cramjam.snappy.compress_raw(b)), now_ns=NOW, max_line=LINE, max_bytes=1 << 20),
    lambda b: loki.parse_json(b, now_ns=NOW, max_line=LINE),
    lambda b: elastic_bulk.parse(b, index="i", now_ns=NOW, max_line=LINE),
    lambda b: [m for m in [*syslog.Frames().feed(b)] for _ in [said(m or b"x")]],
]

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "message",
                    "level",
                    "timestamp",
                    "service",
                    "metadata",
                    "resourceLogs",
                    "scopeLogs",
                    "logRecords",
                    "attributes",
                    "key",
                    "value",
                    "stream",
                    "streams",
                    "values",
                    "create",
                    "body",
                    "stringValue",
                    "arrayValue",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("parser", _PARSERS)
@given(body=st.binary(max_size=200) | st.lists(_JSON, max_size=3).map(lambda v: b"\n".join(json.dumps(x).encode() for x in v)))
def test_any_bytes_are_read_or_refused(parser: Callable[[bytes], object], body: bytes) -> None:
    try:
        parser(body)
    except BadInput as error:
        assert str(error)
