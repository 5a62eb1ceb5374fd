"""Targets that hang, redirect for ever, send too much, or lie: `up` 0, a reason, and the others go on."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vedette import configfile
from vedette.clock import ManualClock, SystemClock
from vedette.collect.collector import Collector
from vedette.collect.config import CollectConfig, ScrapeConfigFile

JOB = """
scrape_configs:
  - job_name: %(name)s
    scrape_interval: %(interval)s
    scrape_timeout: %(timeout)s
    metrics_path: %(path)s
    %(more)s
    static_configs: [{targets: ["%(address)s"]}]
"""


def job(site: Any, name: str, *, more: str = "", interval: str = "1s", timeout: str = "500ms", address: str = "") -> CollectConfig:
    text = JOB % {
        "name": name,
        "path": f"/{name}",
        "more": more,
        "interval": interval,
        "timeout": timeout,
        "address": address or site.address,
    }
    return CollectConfig.of(scrape_configs=configfile.parse(text, ScrapeConfigFile).scrape_configs)


async def scrape_once(memory: Any, config: CollectConfig, until: Callable[..., Awaitable[None]]) -> str:
    """The reason in the target's state after its first scrape."""
    clock = ManualClock()
    collector = Collector(memory.append, clock)
    try:
        await collector.apply(config)
        (loop,) = collector._loops()
        await clock.advance(loop.first_wait())
        await until(lambda: loop.scrapes > 0, 30)
        (state,) = collector.targets()
        assert memory.of("up") == [1.0 if state.health == "up" else 0.0]
        return state.last_error
    finally:
        await collector.close()


async def test_a_target_that_hangs_is_given_up_and_others_are_unaffected(site: Any, memory: Any, until: Any) -> None:
    async def hang(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    site.pages["/hangs"] = hang
    site.pages["/fine"] = "a 1\n"
    both = job(site, "hangs", interval="500ms", timeout="400ms").jobs + job(site, "fine", interval="200ms", timeout="100ms").jobs
    collector = Collector(memory.append, SystemClock())
    await collector.apply(CollectConfig(both))
    await until(lambda: len(memory.of("up", job="hangs")) >= 2 and len(memory.of("a")) >= 4)
    states = {s.pool: s for s in collector.targets()}
    assert states["hangs"].last_error == "no complete answer within 0.4s"
    assert set(memory.of("up", job="hangs")) == {0.0}
    assert states["fine"].health == "up"
    await collector.close()


async def test_a_body_that_trickles_is_given_up(site: Any, memory: Any, until: Any) -> None:
    async def trickle(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"a 1\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    site.pages["/trickles"] = trickle
    assert await scrape_once(memory, job(site, "trickles"), until) == "no complete answer within 0.5s"


async def test_endless_redirects_stop(site: Any, memory: Any, until: Any) -> None:
    async def onward(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        site.answer(writer, b"", status="302 Found", headers=f"Location: /redirects?{len(site.requests)}\r\n")

    site.pages["/redirects"] = onward
    assert await scrape_once(memory, job(site, "redirects", timeout="1s"), until) == "stopped after 10 redirects"
    assert len(site.requests) == 11


async def test_follow_redirects_false_takes_the_redirect_as_the_answer(site: Any, memory: Any, until: Any) -> None:
    async def onward(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        site.answer(writer, b"", status="302 Found", headers="Location: /elsewhere\r\n")

    site.pages["/redirects"] = onward
    problem = await scrape_once(memory, job(site, "redirects", more="follow_redirects: false"), until)
    assert problem == "server returned HTTP status 302 Found"


async def test_a_gibibyte_is_cut_off_at_the_limit(site: Any, memory: Any, until: Any) -> None:
    sent = 0

    async def flood(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1073741824\r\n\r\n")
        while sent < 1 << 30:
            writer.write(b"a 1\n" * (1 << 16))
            await writer.drain()
            sent += 1 << 18

    site.pages["/flood"] = flood
    problem = await scrape_once(memory, job(site, "flood", more="body_size_limit: 4MB", interval="30s", timeout="30s"), until)
    assert problem == "body size limit of 4194304 bytes exceeded"
    assert sent < 64 << 20, "the connection is dropped, not drained"


async def test_a_gzip_bomb_is_held_to_the_decoded_limit(site: Any, memory: Any, until: Any) -> None:
    async def bomb(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        site.answer(writer, packed, headers="Content-Encoding: gzip\r\n")

    site.pages["/bomb"] = bomb
    squeeze = zlib.compressobj(9, wbits=31)
    packed = b"".join([squeeze.compress(b"\n" * (1 << 20)) for _ in range(256)]) + squeeze.flush()
    assert len(packed) < 1 << 20
    problem = await scrape_once(memory, job(site, "bomb", more="body_size_limit: 1MB", interval="30s", timeout="30s"), until)
    assert problem == "body size limit of 1048576 bytes exceeded"


@pytest.mark.parametrize(
    ("answer", "headers", "problem"),
    [
        (gzip.compress(b"a 1\n" * 100)[:-12], "Content-Encoding: gzip\r\n", "answer's gzip stream is cut short"),
        (b"not gzip at all", "Content-Encoding: gzip\r\n", "answer is not valid gzip"),
        (b"a 1\n", "Content-Encoding: br\r\n", "answer in the encoding 'br'"),
        (b"<html>", "Content-Type: text/html\r\n", "the target sends unsupported Content-Type 'text/html'"),
        (b"a 1\n", "Content-Type: application/openmetrics-text\r\n", "the text does not end with # EOF"),
        (b"a 1\nb{", "", "line 2, column 3: expected a label name or a closing brace"),
        (b"a\xff 1\n", "", "line 1, column 2: "),
        (b'a{b="\xff"} 1\n', "", "line 1, column 6: not UTF-8 text"),
        (b'a{b="1",b="2"} 1\n', "", "label name 'b' given twice"),
        (b'{b="1"} 1\n', "", "no metric name"),
    ],
)
async def test_answers_that_are_not_what_they_should_be(
    site: Any, memory: Any, until: Any, answer: bytes, headers: str, problem: str
) -> None:
    async def page(path: str, given: dict[str, str], writer: asyncio.StreamWriter) -> None:
        site.answer(writer, answer, headers=headers)

    site.pages["/lies"] = page
    assert problem in await scrape_once(memory, job(site, "lies", interval="10s", timeout="10s"), until)
    assert {s.metric for s in memory.samples} == {
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
    }


async def test_a_port_nobody_listens_on(site: Any, memory: Any, until: Any) -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    problem = await scrape_once(memory, job(site, "absent", address=f"127.0.0.1:{port}"), until)
    assert problem.startswith(f"http://127.0.0.1:{port}/absent: cannot connect: ")


async def test_too_many_targets_fail_all_of_them(site: Any, memory: Any, until: Any) -> None:
    config = job(site, "crowd", more="target_limit: 1", address=f'{site.address}", "localhost:{site.port}')
    clock = ManualClock()
    collector = Collector(memory.append, clock)
    await collector.apply(config)
    await clock.advance(1)
    await until(lambda: all(loop.scrapes for loop in collector._loops()))
    assert [s.last_error for s in collector.targets()] == ["target_limit exceeded (number of targets: 2, limit: 1)"] * 2
    assert site.requests == []
    await collector.close()
