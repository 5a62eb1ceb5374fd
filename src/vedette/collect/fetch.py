"""Getting a target's exposition: over HTTP as Prometheus asks for it, or from a function of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from vedette.collect.config import PROTOCOLS, ScrapeConfig
from vedette.collect.own import SCRAPER
from vedette.collect.targets import Target
from vedette.errors import BadInput, Undeliverable
from vedette.net.client import DEFAULT_MAX_BYTES, HttpClient
from vedette.wire.exposition_proto import MEDIA_TYPE

Format = Literal["text", "openmetrics", "protobuf"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body and the format that it is in."""

    body: bytes
    format: Format = "text"


_FAMILY = "io.prometheus.client.metricfamily"

Fetch = Callable[[], Awaitable[Fetched]]
"""Raises `BadInput` or `Undeliverable` where there is nothing to be had; always ends within the target's timeout."""


def http_fetch(client: HttpClient, config: ScrapeConfig, target: Target, *, mark: str) -> Fetch:
    """Ask the target's URL with the job's settings (filled in); `mark` tells the target who asks."""
    seconds = target.timeout_ms / 1000
    headers = {"Accept": accept_header(config), "X-Prometheus-Scrape-Timeout-Seconds": f"{seconds:g}", SCRAPER: mark}
    if not config.enable_compression:
        headers["Accept-Encoding"] = "identity"
    limit = config.body_size_limit or DEFAULT_MAX_BYTES

    async def fetch() -> Fetched:
        try:
            answer = await client.get(target.url, timeout=seconds, headers=headers, max_bytes=limit)
        except Undeliverable as error:
            if error.reason == "too_large":
                hint = "" if config.body_size_limit else "; raise it with body_size_limit"
                raise Undeliverable(f"body size limit of {limit} bytes exceeded{hint}", reason="too_large", retryable=False) from None
            raise
        answer.check()
        return Fetched(answer.body, format_of(answer.headers.get("content-type", ""), config.fallback_scrape_protocol))

    return fetch


def accept_header(config: ScrapeConfig) -> str:
    """What is asked for, in the order of preference of `scrape_protocols`."""
    escaping = config.metric_name_escaping_scheme or "allow-utf-8"
    offered = config.scrape_protocols or ("PrometheusText0.0.4",)
    parts = []
    for rank, name in enumerate(offered):
        scheme = f";escaping={escaping}" if name.endswith("1.0.0") else ""
        parts.append(f"{PROTOCOLS[name]}{scheme};q=0.{len(offered) + 1 - rank}")
    return ",".join([*parts, f"*/*;q=0.{1 if len(offered) < 9 else 0}"])


def format_of(content_type: str, fallback: str) -> Format:
    """The format that a Content-Type stands for. Raises `BadInput` for one that is none, where no fallback is set."""
    media, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if media == "application/openmetrics-text":
        return "openmetrics"
    if media == "text/plain":
        return "text"
    if media == MEDIA_TYPE:
        said = dict(parameter.partition("=")[::2] for parameter in parameters)
        # Each of them may be left out, as Prometheus has it; what is said must be right.
        if said.get("proto", _FAMILY) == _FAMILY and said.get("encoding", "delimited") == "delimited":
            return "protobuf"
    elif fallback:
        return "protobuf" if fallback == "PrometheusProto" else "openmetrics" if fallback.startswith("OpenMetrics") else "text"
    problem = f"unsupported Content-Type {content_type!r}" if content_type else "no Content-Type"
    raise BadInput(f"the target sends {problem}", hint="text/plain, application/openmetrics-text, or set fallback_scrape_protocol")


def read_fetch(read: Callable[[], bytes], timeout_ms: int) -> Fetch:
    """Call `read` in a thread. A call that outlasts its time is waited for before there is another."""
    running: asyncio.Future[bytes] | None = None

    async def fetch() -> Fetched:
        nonlocal running
        if running is None or running.done():
            running = asyncio.ensure_future(asyncio.to_thread(read))
        try:
            # Shielded: a thread cannot be stopped, and its late answer is taken by the next call. Not `wait_for`: in Python 3.11 it
            # loses a cancellation that comes with the answer, and whoever waits for the end of this loop would wait for ever.
            async with asyncio.timeout(timeout_ms / 1000):
                return Fetched(await asyncio.shield(running))
        except TimeoutError:
            raise Undeliverable(f"no answer within {timeout_ms / 1000:g}s", reason="timeout", retryable=True) from None
        except OSError as error:
            raise Undeliverable(f"cannot be read: {error}", reason="protocol", retryable=True) from None

    return fetch
