"""Lines as columns: what goes in comes out, joined or not, and what is too long is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.model.logs import INFO, LEVELS, UNKNOWN, LogBatch, LogBuilder, Text, joined, level_of

# Also halves of surrogate pairs, as JSON can hold them.
TEXTS = st.lists(st.text(max_size=12), max_size=6)
ROWS = st.lists(
    st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 6), st.sampled_from(["", "a", "b"]), st.text(max_size=9)), max_size=5
)


def built(rows: list[tuple[int, int, str, str]]) -> LogBatch:
    builder = LogBuilder(max_bytes=1000)
    for row in rows:
        builder.add(*row)
    return builder.build()


def shown(batch: LogBatch) -> list[tuple[int, int, str, str, str]]:
    services = [batch.services[code] for code in batch.service_codes.tolist()]
    return list(zip(batch.times.tolist(), batch.levels.tolist(), services, batch.messages.strings(), batch.fields.strings(), strict=True))


def kept(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@given(TEXTS)
def test_strings_come_back_and_what_is_no_character_as_a_question_mark(strings: list[str]) -> None:
    column = Text.of(strings)
    assert len(column) == len(strings)
    assert column.strings() == [kept(one) for one in strings]
    assert Text.of_bytes([kept(one).encode() for one in strings]).strings() == column.strings()


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_columns_of_strings_are_joined_in_order(columns: list[list[str]]) -> None:
    whole = Text.joined([Text.of(one) for one in columns])
    assert whole.strings() == [kept(text) for column in columns for text in column]


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_batches_joined_are_their_lines_one_after_another(parts: list[list[tuple[int, int, str, str]]]) -> None:
    whole = joined([built(rows) for rows in parts])
    assert shown(whole) == [(time, level, service, kept(text), "{}") for rows in parts for time, level, service, text in rows]
    assert len(set(whole.services)) == len(whole.services)


def test_a_line_goes_on_with_all_but_its_message() -> None:
    builder = LogBuilder(max_bytes=10)
    builder.add(1, INFO, "shop", "begins", b'{"a":1}')
    builder.add(2, INFO, "jobs", "other", b"{}")
    builder.go_on("and on")
    assert shown(builder.build())[1:] == [(2, INFO, "jobs", "other", "{}"), (2, INFO, "jobs", "and on", "{}")]


@pytest.mark.parametrize(
    ("message", "fields", "told"),
    [
        ("x" * 11, b"{}", "line 2: message: 11 bytes, at most 10 are taken"),
        ("ü" * 6, b"{}", "line 2: message: 12 bytes, at most 10 are taken"),
        ("x", b'{"a": "bcd"}', "line 2: fields: 12 bytes, at most 10 are taken"),
    ],
)
def test_the_first_line_that_is_too_long_is_named(message: str, fields: bytes, told: str) -> None:
    builder = LogBuilder(max_bytes=10)
    builder.add(1, INFO, "shop", "x" * 10)
    builder.add(2, INFO, "shop", message, fields)
    builder.add(3, INFO, "shop", "y" * 100)
    with pytest.raises(BadInput) as refused:
        builder.build()
    assert str(refused.value).startswith(told) and "logs.max_line" in str(refused.value)


def test_no_lines_are_a_batch() -> None:
    assert shown(built([])) == [] and len(joined([built([]), built([])])) == 0


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("WARNING", "warn"),
        ("Err", "error"),
        (" crit\n", "fatal"),
        ("cRiTiCaL", "fatal"),
        ("Notice", "info"),
        ("", "unknown"),
        ("loud", "unknown"),
    ],
)
def test_levels_have_many_names(name: str, level: str) -> None:
    assert LEVELS[level_of(name)] == level
    assert level_of("nope") == UNKNOWN
