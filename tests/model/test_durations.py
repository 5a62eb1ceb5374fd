"""Prometheus durations."""

import pytest

from vedette.errors import BadInput
from vedette.model.durations import format_duration, parse_duration, parse_go_duration


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0), ("0s", 0), ("1ms", 1), ("15s", 15_000), ("5m", 300_000), ("1h30m", 5_400_000), ("1d", 86_400_000),
        ("1w", 604_800_000), ("1y", 31_536_000_000), ("10s53ms", 10_053), ("1y2w3d4h5m6s7ms", 33_019_506_007),
    ],
)  # fmt: skip
def test_parses(text: str, ms: int):
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "1", "15x", "s", "1m1h", "1.5h", "-1m", " 1m", "1m ", "1m1m", "١s"])
def test_refuses_with_a_hint(text: str):
    with pytest.raises(BadInput, match="not a valid duration string") as refused:
        parse_duration(text)
    assert "1h30m" in refused.value.hint


def test_refuses_what_would_overflow():
    with pytest.raises(BadInput, match="out of range"):
        parse_duration("300y")


@pytest.mark.parametrize("text", ["0s", "1ms", "15s", "5m", "1h30m", "1d", "1w", "1y", "8d", "1h", "25h", "90s"])
def test_prints_as_prometheus_does(text: str):
    printed = {"25h": "1d1h", "90s": "1m30s"}.get(text, text)
    assert format_duration(parse_duration(text)) == printed
    assert parse_duration(format_duration(parse_duration(text))) == parse_duration(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1.5h", 5_400_000), ("90s500ms", 90_500), (".5m", 30_000), ("1500us", 2), ("1d", 86_400_000), ("0", 0), ("2m", 120_000)],
)
def test_durations_as_go_writes_them(text: str, ms: int) -> None:
    assert parse_go_duration(text) == ms


@pytest.mark.parametrize("text", ["", "-5m", "5", "1.5", "1.5d", "1h x", "1..5h", "9" * 30 + "h"])
def test_what_is_no_duration_to_go_either(text: str) -> None:
    with pytest.raises(BadInput):
        parse_go_duration(text)
