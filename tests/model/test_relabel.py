"""Relabelling as Prometheus does it: each action, Go's expansion, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from vedette import configfile
from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.model.relabel import RelabelConfig, relabel

GIVEN = {"a": "foo", "b": "bar", "c": "baz"}


def rules(*given: dict[str, Any]) -> tuple[RelabelConfig, ...]:
    return tuple(RelabelConfig(**{n: tuple(v) if isinstance(v, list) else v for n, v in g.items()}) for g in given)


# (labels, rules, what they come to); after the cases of Prometheus' own relabelling tests.
CASES: list[tuple[dict[str, str], list[dict[str, Any]], dict[str, str] | None]] = [
    (GIVEN, [{"source_labels": ["a"], "regex": "f(.*)", "target_label": "d", "replacement": "ch${1}-ch${1}"}], {**GIVEN, "d": "choo-choo"}),
    (
        GIVEN,
        [
            {"source_labels": ["a", "b"], "regex": "f(.*);(.*)r", "target_label": "a", "replacement": "b${1}${2}m"},
            {"source_labels": ["c", "a"], "regex": "(b).*b(.*)ba(.*)", "target_label": "d", "replacement": "$1$2$2$3"},
        ],
        {"a": "boobam", "b": "bar", "c": "baz", "d": "boooom"},
    ),
    ({"a": "foo"}, [{"source_labels": ["a"], "regex": ".*o.*", "action": "drop"}], None),
    ({"a": "foo"}, [{"source_labels": ["a"], "regex": "o", "action": "drop"}], {"a": "foo"}),
    ({"a": "abc"}, [{"source_labels": ["a"], "regex": ".*(b).*", "target_label": "d", "replacement": "$1"}], {"a": "abc", "d": "b"}),
    ({"a": "foo"}, [{"source_labels": ["a"], "regex": "no-match", "action": "keep"}], None),
    ({"a": "foo"}, [{"source_labels": ["a"], "regex": "f|foo", "action": "keep"}], {"a": "foo"}),
    (GIVEN, [{"source_labels": ["a"], "regex": "no-match", "target_label": "a", "replacement": "x"}], GIVEN),
    (GIVEN, [{"source_labels": ["nope"], "target_label": "a"}], {"b": "bar", "c": "baz"}),
    (GIVEN, [{"target_label": "d", "replacement": "static"}], {**GIVEN, "d": "static"}),
    (
        {"a": "foo\nbar"},
        [{"source_labels": ["a"], "target_label": "b", "separator": "\n", "action": "hashmod", "modulus": 1000}],
        {"a": "foo\nbar", "b": "734"},
    ),
    (GIVEN, [{"source_labels": ["c"], "target_label": "d", "action": "hashmod", "modulus": 1000}], {**GIVEN, "d": "976"}),
    (
        {"a": "foo", "b1": "bar", "b2": "baz"},
        [{"regex": "(b.*)", "replacement": "bar_${1}", "action": "labelmap"}],
        {"a": "foo", "b1": "bar", "b2": "baz", "bar_b1": "bar", "bar_b2": "baz"},
    ),
    (
        {"a": "foo", "__meta_my_bar": "aaa"},
        [{"regex": "__meta_(my.*)", "action": "labelmap"}],
        {"a": "foo", "__meta_my_bar": "aaa", "my_bar": "aaa"},
    ),
    ({"a": "foo", "b1": "bar", "b2": "baz"}, [{"regex": "(b.*)", "action": "labeldrop"}], {"a": "foo"}),
    ({"a": "foo", "b1": "bar", "b2": "baz"}, [{"regex": "(b.*)", "action": "labelkeep"}], {"b1": "bar", "b2": "baz"}),
    (
        {"foo": "bAr123Foo"},
        [{"source_labels": ["foo"], "target_label": "lower", "action": "lowercase"}],
        {"foo": "bAr123Foo", "lower": "bar123foo"},
    ),
    ({"foo": "straße"}, [{"source_labels": ["foo"], "target_label": "foo", "action": "uppercase"}], {"foo": "STRAßE"}),
    ({"p": "1234", "q": "1234"}, [{"source_labels": ["p"], "target_label": "q", "action": "keepequal"}], {"p": "1234", "q": "1234"}),
    ({"p": "1234", "q": "5678"}, [{"source_labels": ["p"], "target_label": "q", "action": "keepequal"}], None),
    ({"p": "1234", "q": "1234"}, [{"source_labels": ["p"], "target_label": "q", "action": "dropequal"}], None),
    ({"p": "1234", "q": "5678"}, [{"source_labels": ["p"], "target_label": "q", "action": "dropequal"}], {"p": "1234", "q": "5678"}),
    # Go's expansion: the longest name, unknown groups empty, $$ a dollar, named groups, labels named by a group.
    ({"a": "x"}, [{"source_labels": ["a"], "target_label": "b", "replacement": "$1x|$$|${2}|$1-"}], {"a": "x", "b": "|$||x-"}),
    (
        {"a": "k=v"},
        [{"source_labels": ["a"], "regex": "(?P<n>.)=(.)", "target_label": "${n}", "replacement": "$2"}],
        {"a": "k=v", "k": "v"},
    ),
    ({"a": "=v"}, [{"source_labels": ["a"], "regex": "(.*)=(.)", "target_label": "${1}", "replacement": "$2"}], {"a": "=v"}),
    (
        {"a": "l1\nl2"},
        [{"source_labels": ["a"], "regex": "l1.l2", "target_label": "a", "replacement": "dot matches"}],
        {"a": "dot matches"},
    ),
    ({"a": "foo", "ü": "x"}, [{"source_labels": ["ü"], "target_label": "my.name"}], {"a": "foo", "ü": "x", "my.name": "x"}),
]


@pytest.mark.parametrize(("labels", "given", "expected"), CASES)
def test_rules(labels: dict[str, str], given: list[dict[str, Any]], expected: dict[str, str] | None) -> None:
    found = relabel(Labels.of(labels), rules(*given))
    assert (None if found is None else found.as_dict()) == (None if expected is None else Labels.of(expected).as_dict())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "replace action requires 'target_label'"),
        ("{action: hashmod, target_label: a}", "hashmod requires non-zero modulus"),
        ("{action: lowercase}", "lowercase action requires 'target_label'"),
        ("{action: lowercase, target_label: a, replacement: b}", "'replacement' can not be set for lowercase action"),
        ("{action: labeldrop, source_labels: [a]}", "labeldrop action requires only 'regex', and no other fields"),
        ("{action: labelkeep, modulus: 3}", "labelkeep action requires only 'regex', and no other fields"),
        ("{action: keepequal, target_label: a, regex: b}", "keepequal action requires only 'source_labels' and `target_label`"),
        ("{action: explode, target_label: a}", "unknown relabel action 'explode'"),
        ("{action: '', target_label: a}", "relabel action cannot be empty"),
        ("{target_label: a, regex: 'a('}", "bad regular expression 'a('"),
        ("{target_label: a, source_labels: ['']}", "'' is not a valid label name"),
        ("{target_lable: a}", "did you mean target_label?"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        configfile.parse(text, RelabelConfig)
    assert problem in str(caught.value)


def test_actions_are_read_in_any_case_and_the_position_points() -> None:
    assert configfile.parse("{action: DropEqual, source_labels: [a], target_label: b}", RelabelConfig).action == "dropequal"
    with pytest.raises(BadInput, match=r"^f.yml:2:8: regex: bad regular expression"):
        configfile.parse("target_label: a\nregex: '['", RelabelConfig, name="f.yml")
