"""What a scraped series is stored as: whose labels win, which names are taken, and limits to the byte."""

from __future__ import annotations

import pytest

from vedette.collect.series import SeriesRules
from vedette.errors import BadInput
from vedette.model.labels import Labels

TARGET = Labels.of(job="j", instance="i")


def stored(text: str, **rules: object) -> Labels | None:
    return SeriesRules(TARGET, **rules).resolve(text.encode())  # type: ignore[arg-type]


def refused(text: str, **rules: object) -> str:
    with pytest.raises(BadInput) as error:
        stored(text, **rules)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "honor", "labels"),
    [
        ('a{x="1"}', False, {"x": "1"}),
        ('a{job="own"}', False, {"exported_job": "own"}),
        ('a{job="own"}', True, {"job": "own"}),
        ('a{job=""}', False, {}),
        ('a{job=""}', True, {"job": ""}),  # a target says that it has none
        ('a{job="own",exported_job="older"}', False, {"exported_job": "older", "exported_exported_job": "own"}),
    ],
)
def test_whose_labels_win(text: str, honor: bool, labels: dict[str, str]) -> None:
    assert stored(text, honor_labels=honor) == Labels.of({"__name__": "a", "job": "j", "instance": "i", **labels})


LIMITS = [
    # (the series, the limit, what is right, what is one too few, what is said then)
    ('abc{x="1"}', "label_limit", 4, 3, "label_limit exceeded (metric: abc, number of labels: 4, limit: 3)"),
    (
        'abc{instances="1"}',
        "label_name_length_limit",
        9,
        8,
        "label_name_length_limit exceeded (metric: abc, label name: instances, limit: 8)",
    ),
    (
        'abc{x="äö"}',
        "label_value_length_limit",
        4,
        3,
        "label_value_length_limit exceeded (metric: abc, label name: x, length: 4, limit: 3)",
    ),
]


@pytest.mark.parametrize(("text", "limit", "right", "low", "said"), LIMITS, ids=[row[1] for row in LIMITS])
def test_limits_hold_to_the_byte_and_zero_is_none(text: str, limit: str, right: int, low: int, said: str) -> None:
    assert stored(text, **{limit: right}) is not None
    assert stored(text, **{limit: 0}) is not None
    assert refused(text, **{limit: low}) == said


@pytest.mark.parametrize(
    ("text", "wrong"), [('{"a.b"}', "a.b"), ('a{"x.y"="1"}', "x.y"), ('{"a:b", "x:y"="1"}', "x:y"), ('{"0a"}', "0a"), ('{"ä"}', "ä")]
)
def test_names_that_need_utf_8_are_refused_where_the_scheme_is_legacy_alone(text: str, wrong: str) -> None:
    assert stored(text) is not None
    assert refused(text, legacy_names=True).startswith(f"series {text}: invalid metric or label name {wrong!r}")


def test_legacy_names_are_taken() -> None:
    assert stored('a:b_0{_x0="any ä value"}', legacy_names=True) is not None
