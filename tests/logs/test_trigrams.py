"""What a text search leaves out: never a segment that has the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.logs.conftest import NOW, SECOND, Opened, lines

from vedette.logs import trigrams
from vedette.logs.query import LineFilter, LogQuery


def bits_of(*messages: str) -> trigrams.Bits:
    return trigrams.of_text([np.frombuffer("".join(messages).encode(), np.uint8)])


@given(before=st.text(), text=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"])), after=st.text())
def test_text_that_is_there_is_never_left_out(before: str, text: str, after: str) -> None:
    bits = trigrams.of_text([np.frombuffer(f"{before}{text}{after}".encode("utf-8", "replace"), np.uint8)])
    for asked in (text, text.upper() if text.isascii() else text, text.lower() if text.isascii() else text):
        assert trigrams.may_hold(bits, asked)


def test_text_that_is_not_there_mostly_is() -> None:
    bits = bits_of("GET /api/v1/users 200", "connection refused")
    assert trigrams.may_hold(bits, "CONNECTION") and trigrams.may_hold(bits, "co") and trigrams.may_hold(bits, "größe")
    assert not trigrams.may_hold(bits, "timeout") and not trigrams.may_hold(bits, "größer als zwei")
    assert trigrams.may_hold(None, "timeout")


def test_letters_that_are_others_where_case_does_not_count() -> None:
    assert trigrams.may_hold(bits_of("300 \u212aelvin"), "kelvin") and trigrams.may_hold(bits_of("\u017ftop"), "STOP")


def test_long_text_is_looked_at_over_the_ends_of_its_parts() -> None:
    data = np.frombuffer(b"x" * ((1 << 18) - 1) + b"needle" + b"x" * 100, np.uint8)
    assert trigrams.may_hold(trigrams.of_text([data]), "needle")


async def test_segments_without_the_text_are_not_read(opened: Opened, tmp_path: Path) -> None:
    store = await opened()
    for i, message in enumerate(("the needle is here", "only hay", "more hay")):
        await store.append("acme", lines(message, at=NOW + i * SECOND))
        store.flush()
    first, *others = sorted((tmp_path / "logs").rglob("*.parquet"))
    for path in others:
        path.write_bytes(b"not to be opened")
    query = LogQuery(lines=(LineFilter("contains", "NEEDLE"),))
    assert [row.message for row in (await store.search("acme", query)).rows] == ["the needle is here"]
    assert store.counts.corrupt == 0
    # A damaged or missing file of bits only costs the reading.
    await store.close()
    first.with_suffix(".trigrams").write_bytes(b"damaged")
    (first.parent / "left-over.trigrams").write_bytes(b"of a crash")
    store = await opened()
    assert [row.message for row in (await store.search("acme", query)).rows] == ["the needle is here"]
    assert not (first.parent / "left-over.trigrams").exists()
