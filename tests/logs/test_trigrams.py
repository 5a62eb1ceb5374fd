"""What a text search leaves out: never a segment that has the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
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


@given(before=st.text(), text=st.text(alphabet="abkKsSzZ0 ."), after=st.text())
def test_the_spelling_that_is_there_is_never_left_out(before: str, text: str, after: str) -> None:
    bits = trigrams.of_text([np.frombuffer(f"{before}{text}{after}".encode("utf-8", "replace"), np.uint8)])
    for asked in (text, text.upper(), text.lower()):
        found = trigrams.spellings(bits, asked)
        assert not found or text in found


def test_mostly_there_is_one_spelling() -> None:
    bits = bits_of("GET /api/v1/users 200", "Cache miss for key", "cache miss again", "TimeoutError: no answer")
    assert trigrams.spellings(bits, "CACHE MISS") == ["Cache miss", "cache miss"]
    both = ["TimeoutError", "Timeouterror", "timeoutError", "timeouterror"]
    assert trigrams.spellings(bits, "timeouterror") == both, "lower case may be anywhere"
    assert trigrams.spellings(bits, "get /API") == ["GET /api", "get /api"]
    assert trigrams.spellings(bits, "größe") == trigrams.spellings(None, "x") == []
    assert trigrams.spellings(bits_of("300 \u212aelvin"), "kelvin") == [], "anything may be there"
    everything = np.full_like(bits, 255)
    assert trigrams.spellings(everything, "timeout") == []


def test_bits_of_before_there_were_capitals_say_nothing_of_them(tmp_path: Path) -> None:
    segment = tmp_path / "s.parquet"
    old = bits_of("the needle")[:8192]
    segment.with_suffix(".trigrams").write_bytes(trigrams.packed(old))
    bits = trigrams.load(segment)
    assert bits is not None
    assert trigrams.may_hold(bits, "NEEDLE") and not trigrams.may_hold(bits, "timeout")
    assert trigrams.spellings(bits, "needle") == []


@pytest.mark.parametrize("negated", [False, True])
async def test_every_spelling_is_found_in_segments_and_in_memory(opened: Opened, negated: bool) -> None:
    store = await opened()
    messages = ["Cache Miss", "cache miss", "CACHE MISS", "cAcHe MiSs", "cache hit", "300 \u212aelvin"]
    for i, message in enumerate(messages):
        await store.append("acme", lines(message, at=NOW + i * SECOND))
        if i != 3:
            store.flush()
    for text, least in (("cache miss", 4), ("CACHE", 5), ("kelvin", 1), ("no such", 0)):
        page = await store.search("acme", LogQuery(lines=(LineFilter("contains", text, negated=negated),)))
        found = {row.message for row in page.rows}
        wanted = {m for m in messages if (text.lower() in m.lower().replace("\u212a", "k")) != negated}
        assert (found, page.total) == (wanted, len(wanted))
        assert len(wanted) == (len(messages) - least if negated else least)


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
