"""A loop that is told to end does end, even where its answer comes in the same moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vedette.collect.fetch import read_fetch


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancellation_that_comes_with_the_answer_is_not_lost(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def held(_read: Any) -> bytes:
        return await answer

    monkeypatch.setattr(asyncio, "to_thread", held)
    fetch = read_fetch(lambda: b"", 60_000)
    task = asyncio.create_task(fetch())
    for _ in range(3):
        await asyncio.sleep(0)
    answer.set_result(b"up 1\n")
    for _ in range(turns):
        await asyncio.sleep(0)
    asked_to_end = task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == asked_to_end
