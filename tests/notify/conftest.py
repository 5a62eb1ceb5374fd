"""A webhook receiver on a real socket, records in a temporary file, and a way to wait without sleeping."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vedette.records.database import Records


@dataclass
class Received:
    """One request: its body (JSON decoded, else text) and headers (lower case)."""

    body: Any
    headers: dict[str, str]
    path: str
    method: str = "POST"


@dataclass
class Receiver:
    """Keeps what is POSTed. `answers` are used up one by one, then 200; one is (status, headers[, body]), or None to never answer."""

    port: int = 0
    requests: list[Received] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/secret-path"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")
                headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                given = json.loads(body) if body and "json" in headers.get("content-type", "") else body.decode()
                self.requests.append(Received(given, headers, first.split()[1], first.split()[0]))
                answer = self.answers.pop(0) if self.answers else (200, {})
                if answer is None:
                    await reader.read()
                    return
                status, extra, *text = answer
                said = "".join(text).encode()
                more = "".join(f"{n}: {v}\r\n" for n, v in extra.items())
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(said)}\r\n{more}\r\n".encode() + said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def records(empty_records: Path) -> AsyncIterator[Records]:
    opened = await Records.open(empty_records)
    yield opened
    await opened.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Waits until a condition holds, at most 10 s."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    return wait
