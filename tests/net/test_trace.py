"""Trace ids: what a `traceparent` says, and how long a request's ids stand."""

from __future__ import annotations

import asyncio

import pytest

from vedette.net.trace import Trace, current, enter, leave, noted, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", (TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN, False)),
        (f"01-{TRACE}-{SPAN}-03-of-the-future", (TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_traceparent(text: str, expected: tuple[str, str, bool] | None) -> None:
    assert parse_traceparent(text) == expected


def test_what_is_sent_on() -> None:
    assert Trace("r", TRACE, SPAN, sampled=True).traceparent == f"00-{TRACE}-{SPAN}-01"
    assert Trace("r", TRACE, SPAN).traceparent == f"00-{TRACE}-{SPAN}-00"
    assert Trace("r", TRACE).traceparent == "", "a trace that we only heard of is not ours to go on with"


async def test_a_task_that_outlives_its_request_is_not_known_by_it() -> None:
    went_on = asyncio.Event()

    async def loop() -> list[dict[str, object]]:
        lines = [dict(noted(None, "", {"event": "within"}))]
        await went_on.wait()
        return [*lines, dict(noted(None, "", {"event": "after"}))]

    assert current() is None
    trace = Trace("req-1", TRACE, SPAN)
    token = enter(trace)
    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    assert current() is trace
    leave(trace, token)
    went_on.set()
    assert await task == [{"event": "within", "request_id": "req-1", "trace_id": TRACE}, {"event": "after"}]
    assert current() is None
