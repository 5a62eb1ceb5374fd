"""Which series turned stale: arrays against sets; and when a scrape is stamped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.clock import ManualClock
from vedette.collect.fetch import Fetched
from vedette.collect.scrape import ScrapeLoop, ScrapeSettings, Seen
from vedette.collect.series import SeriesRules
from vedette.collect.targets import Target
from vedette.model.labels import Labels
from vedette.model.samples import Appended, SampleBatch, canonical

row = st.tuples(st.integers(-1, 8), st.booleans())
scrape = st.one_of(st.none(), st.lists(row, max_size=8), st.just([(1, False), (2, False)]))


@given(st.lists(scrape, max_size=8))
def test_against_sets(scrapes: list[list[tuple[int, bool]] | None]) -> None:
    seen = Seen()
    tracked: set[int] = set()
    stored: set[int] = set()
    for rows in scrapes:
        if rows is None:  # a failed scrape
            assert set(seen.lose().tolist()) == tracked
            tracked = set()
            continue
        ids = np.array([i for i, _ in rows], dtype=np.int64)
        explicit = np.array([e for _, e in rows], dtype=np.bool_)
        now = {i for i, _ in rows if i >= 0}
        plain = {i for i, e in rows if i >= 0 and not e}
        vanished, added = seen.update(ids, explicit)
        assert vanished.tolist() == sorted(tracked - plain)
        assert added == len(now - stored)
        tracked, stored = plain, now


@pytest.mark.parametrize(
    ("last", "now", "stamp"),
    [
        (0, 1_700_000_000_123, 1_700_000_000_123),
        (1_000_000, 1_010_000, 1_010_000),
        (1_000_000, 1_010_002, 1_010_000),
        (1_000_000, 1_009_998, 1_010_000),
        (1_000_000, 1_010_003, 1_010_003),
        (1_000_000, 1_030_001, 1_030_000),
        (1_000_000, 1_000_001, 1_000_001),
        (1_000_000, 900_000, 900_000),
    ],
)
def test_jitter_is_rounded_away_up_to_two_milliseconds(last: int, now: int, stamp: int) -> None:
    async def fetch() -> Fetched:
        raise AssertionError

    async def append(batch: SampleBatch) -> Appended:
        raise AssertionError

    labels = Labels.of(job="j")
    target = Target(labels, "http://i/", 10_000, 10_000, labels)
    loop = ScrapeLoop(
        "j", target, SeriesRules(labels), ScrapeSettings(), fetch=fetch, append=append, clock=ManualClock(), report_keys=canonical()
    )
    assert loop.aligned(last, now) == stamp
