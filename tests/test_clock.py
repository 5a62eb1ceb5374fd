"""The clock that tests own."""

import asyncio

from vedette.clock import ManualClock, now_ms


async def test_sleepers_wake_in_order_and_see_their_own_time():
    clock, seen = ManualClock(100.0), []

    async def nap(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append((name, clock.now()))
        if name == "b":
            await clock.sleep(1)
            seen.append(("b again", clock.now()))

    tasks = [asyncio.create_task(nap("a", 5)), asyncio.create_task(nap("b", 2))]
    await clock.advance(4)
    assert seen == [("b", 102.0), ("b again", 103.0)]
    assert clock.now() == 104.0
    await clock.advance(1)
    assert seen[-1] == ("a", 105.0)
    await asyncio.gather(*tasks)
    assert now_ms(clock) == 105_000
