"""Reading parameters: what Prometheus takes is taken, what it refuses is refused in its words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from vedette.api.params import (
    MAX_TIME,
    MIN_TIME,
    Form,
    _long_unquoted,
    body_of,
    boolean_of,
    chosen,
    form_of,
    limit_of,
    matcher_sets,
    parse_span,
    parse_time,
    rfc3339,
    selected,
    time_of,
    unescaped,
)
from vedette.api.problems import TooLarge
from vedette.errors import BadInput
from vedette.model.matchers import Matcher


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("1", 1000),
        ("1.234", 1234),
        ("1.2345", 1234),
        ("1700000000.57", 1_700_000_000_570),
        ("-1.5", -1500),
        ("1e3", 1_000_000),
        (".5", 500),
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01.5Z", 1500),
        ("1970-01-01T00:00:01.123456789Z", 1123),
        ("1969-12-31T23:59:59.25Z", -750),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00:00 01:00", 0),
        ("1970-01-01", 0),
        ("1970-01-01 00:00:01", 1000),
        ("1970-01-01T00:00:01.5", 1500),
        ("19700101T000001Z", 1000),
        ("1970-W01-4T00:00:01+00:00", 1000),
        ("1970-01-01T00:00:00-02:30", 9_000_000),
        ("-292273086-05-16T16:47:06Z", MIN_TIME),
        ("292277025-08-18T07:12:54.999999999Z", MAX_TIME),
    ],
)
def test_times(text: str, ms: int) -> None:
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text", ["", "now", "NaN", "Inf", "1e300", "1_000", " 1", "1970-13-01", "1970-01-01T25:00", "1970-02-30T00:00:00Z", "٣", "0x10"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(BadInput, match=r"^cannot parse \".*\" to a valid timestamp$"):
        parse_time(text)


@pytest.mark.parametrize(("text", "ms"), [("1", 1000), ("0.001", 1), ("1e1", 10_000), ("15s", 15_000), ("1h30m", 5_400_000), ("-5", -5000)])
def test_spans(text: str, ms: int) -> None:
    assert parse_span(text) == ms


@pytest.mark.parametrize(
    ("text", "end"), [("", "valid duration"), ("1x", "valid duration"), ("NaN", "valid duration"), ("1e30", "overflows int64")]
)
def test_no_spans(text: str, end: str) -> None:
    with pytest.raises(BadInput, match=f"^cannot parse .*{end}$"):
        parse_span(text)


def test_a_time_parameter_is_named_twice_as_prometheus_does() -> None:
    with pytest.raises(
        BadInput, match='invalid parameter "start": invalid time value for \'start\': cannot parse "x" to a valid timestamp'
    ):
        time_of(Form([("start", "x")]), "start", 0)
    assert time_of(Form([]), "start", 7) == 7


@pytest.mark.parametrize(("text", "value"), [("", 0), ("0", 0), ("10", 10)])
def test_limits(text: str, value: int) -> None:
    assert limit_of(Form([("limit", text)])) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [("x", 'strconv.Atoi: parsing "x": invalid syntax'), ("1.5", "invalid syntax"), ("-1", "limit must be non-negative")],
)
def test_no_limits(text: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        limit_of(Form([("limit", text)]))


def test_booleans() -> None:
    assert [boolean_of(Form([("b", t)]), "b") for t in ("true", "1", "T", "false", "0", "")] == [True, True, True, False, False, False]
    with pytest.raises(BadInput, match='invalid parameter "b": error converting b'):
        boolean_of(Form([("b", "yes")]), "b")


def test_a_selector_that_takes_everything_is_refused() -> None:
    def parse(text: str) -> Sequence[Matcher]:
        name, _, value = text.partition("=")
        return [Matcher(name, "=", value)]

    assert matcher_sets(Form([("match[]", "a=b"), ("match[]", "c=d")]), parse) == [[Matcher("a", "=", "b")], [Matcher("c", "=", "d")]]
    with pytest.raises(BadInput, match="must contain at least one non-empty matcher"):
        matcher_sets(Form([("match[]", "a=b"), ("match[]", "a=")]), parse)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("job", "job"),
        ("U__http_2e_status", "http.status"),
        ("U__http_2E_status__code", "http.status_code"),
        ("U___1f600_", "😀"),
        ("U__", ""),
        ("U__bad_zz_", "U__bad_zz_"),
        ("U__open_2e", "U__open_2e"),
        ("U___d800_", "U___d800_"),
        ("U___110000_", "U___110000_"),
    ],
)
def test_escaped_names(name: str, meant: str) -> None:
    assert unescaped(name) == meant


def test_chosen() -> None:
    assert chosen(Form([]), "f")("anything")
    some = chosen(Form([("f", "a"), ("f", "b")]), "f")
    assert [some(x) for x in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:01Z"),
        (1.5, "1970-01-01T00:00:01.5Z"),
        (1_700_000_000.123, "2023-11-14T22:13:20.123Z"),
    ],
)
def test_printed_times(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text


def posted(
    parts: list[bytes], *, query: bytes = b"", content_type: str = "application/x-www-form-urlencoded", declared: str = ""
) -> Request:
    headers = [(b"content-type", content_type.encode())] + ([(b"content-length", declared.encode())] if declared else [])
    messages = [{"type": "http.request", "body": p, "more_body": i < len(parts) - 1} for i, p in enumerate(parts)]

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    return Request({"type": "http", "method": "POST", "headers": headers, "query_string": query}, receive)


async def test_the_body_of_a_form_comes_before_the_url() -> None:
    form = await form_of(posted([b"query=up%7Ba", b"%3D1%7D&match[]=x+y&empty="], query=b"query=down&match[]=z&only=url"))
    assert form.text("query") == "up{a=1}"
    assert form.texts("match[]") == ["x y", "z"]
    assert (form.text("only"), form.text("empty"), form.text("absent")) == ("url", "", "")


async def test_a_body_that_is_no_form_is_not_read_as_one() -> None:
    assert (await form_of(posted([b"query=up"], content_type="application/json"))).text("query") == ""


async def test_bad_forms() -> None:
    with pytest.raises(BadInput, match="error parsing form values"):
        await form_of(posted([b"a=%ff"]))
    with pytest.raises(BadInput, match="error parsing form values"):
        await form_of(posted([b"a=1&" * 20_000]))


async def test_a_body_is_read_no_further_than_its_limit() -> None:
    assert await body_of(posted([b"12", b"34"]), 4) == b"1234"
    with pytest.raises(TooLarge):
        await body_of(posted([b"12", b"345", b"never read"]), 4)
    with pytest.raises(TooLarge):
        await body_of(posted([], declared="5"), 4)


async def test_long_selectors_are_read_on_a_worker_and_short_ones_at_once() -> None:
    ran: list[int] = []

    async def run(function: Any, *args: Any) -> Any:
        ran.append(len(args))
        return function(*args)

    def parse(text: str) -> Sequence[Matcher]:
        return [Matcher("a", "=~", text)]

    def form(*texts: str) -> Form:
        return Form([("match[]", text) for text in texts])

    assert await selected(form("x", "y"), parse, run) == matcher_sets(form("x", "y"), parse)
    assert not ran
    # Many that are short cost what a long one does.
    for texts in (["x" * 5_000], ["x" * 500] * 10):
        assert await selected(form(*texts), parse, run) == matcher_sets(form(*texts), parse)
    assert len(ran) == 2
    with pytest.raises(BadInput, match="at least one non-empty matcher"):
        await selected(form("x?|" + "y" * 5_000 + "|"), parse, run)


@settings(max_examples=300)
@given(st.text(st.sampled_from("%4aAfFgG+ e2c3"), max_size=40))
def test_long_texts_are_decoded_as_short_ones(text: str) -> None:
    def outcome(decoded: Callable[[str], str]) -> str | None:
        try:
            return decoded(text)
        except UnicodeDecodeError:
            return None

    assert outcome(_long_unquoted) == outcome(lambda t: unquote_plus(t, errors="strict"))


@pytest.mark.parametrize("unit", ["%41", "a%42", "+%C3%A9", "%", "%%43", "%4"])
@pytest.mark.parametrize("ahead", range(4))
def test_very_long_texts_are_decoded_in_parts_that_cut_no_escape(unit: str, ahead: int) -> None:
    text = "x" * ahead + unit * 90_000 + "%4142"
    assert _long_unquoted(text) == unquote_plus(text, errors="strict")


async def test_a_large_form_is_read_on_a_thread_so_that_the_loop_goes_on() -> None:
    body, seen = b"query=" + b"%41" * 200_000 + b"&limit=3", []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
        "query_string": b"limit=4",
    }
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(seen.append, "went on"))
    form = await form_of(Request(scope, receive))
    assert seen == ["went on"]
    assert form.text("query") == "A" * 200_000
    assert form.texts("limit") == ["3", "4"]


async def test_a_client_that_goes_away_is_no_fault_of_ours() -> None:
    sent = [{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return sent.pop(0)

    with pytest.raises(BadInput, match="the client went away before its body was complete"):
        await body_of(Request({"type": "http", "headers": []}, receive), 100)
