"""Times and parameters as the documents' clients write them."""

from __future__ import annotations

import pytest

from vedette.api.services.shared import Kinds, matcher_sets, parse_when, service_of, shown_time
from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.model.matchers import match_labels
from vedette.model.samples import MetricMetadata

NOON = 1_740_052_800_000


@pytest.mark.parametrize(
    "text",
    [
        "2025-02-20T12:00:00Z",
        "2025-02-20T12:00:00",
        "2025-02-20 12:00",
        "2025-02-20T12:00:00.000+00:00",
        "2025-02-20T14:00:00+02:00",
        "2025-02-20T14:00:00 02:00",
        "2025-02-20T14:00:00+0200",
        "20250220T120000Z",
        "2025-W08-4T12:00:00",
        "1740052800",
        "1740052800.0",
        "1740052800000",
        "1740052800000.0",
        "1740052800000000",
        "1740052800000000000",
    ],
)
def test_every_form_of_a_time(text: str) -> None:
    assert parse_when(text) == NOON


def test_dates_fractions_and_times_before_1970() -> None:
    assert parse_when("2025-02-20") == parse_when("20250220") == NOON - 12 * 3_600_000
    assert parse_when("2025-02-20T12:00:00.125Z") == parse_when("1740052800.125") == NOON + 125
    assert parse_when("1740052800125") == parse_when("1740052800125000") == NOON + 125
    assert parse_when("1969-12-31T23:59:59Z") == parse_when("-1") == -1000


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2025-02-30", "2025-02-20T25:00", "1e5", "NaN", "9" * 400, "9" * 5000, "9" * 400 + ".5", "2025-02-20T12:00:00\x00"],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadInput, match="not a time"):
        parse_when(text)


def test_times_go_out_as_they_came_in() -> None:
    for ms in (0, 1, NOON, NOON + 125, -1000, 253_402_300_799_999):
        assert parse_when(shown_time(ms)) == ms
    assert shown_time(NOON) == "2025-02-20T12:00:00Z"


def test_a_services_series_are_found_once_each() -> None:
    rows = [
        {"service": "a"},
        {"job": "a"},
        {"job": "a", "service": "b"},
        {"job": "a", "service": "a"},
        {"source_service": "a", "job": "x", "service": "y"},
        {"job": "b"},
        {},
    ]
    sets = matcher_sets("m", "a")
    found = [sum(match_labels(tuple(matchers), Labels.of({**row, "__name__": "m"})) for matchers in sets) for row in rows]
    assert found == [1, 1, 1, 1, 1, 0, 0]
    assert [service_of(Labels.of(row)) for row in rows] == ["a", "a", "b", "a", "y", "b", ""]


def test_kinds() -> None:
    kinds = Kinds([MetricMetadata("h", "histogram"), MetricMetadata("s", "summary"), MetricMetadata("g_total", "gauge")])
    assert [kinds.of(n) for n in ("h", "h_bucket", "h_sum", "s_count", "g_total", "x_total", "x")] == [
        *("histogram", "histogram", "histogram", "summary", "gauge", "counter", "unknown")
    ]
