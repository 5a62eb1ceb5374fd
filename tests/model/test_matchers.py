"""Label matchers."""

import pytest

from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels


@pytest.mark.parametrize(
    ("op", "value", "text", "passes"),
    [
        ("=", "a", "a", True), ("=", "a", "b", False), ("=", "", "", True), ("!=", "a", "", True), ("!=", "a", "a", False),
        ("=~", "a|b", "b", True), ("=~", "a|b", "ab", False), ("=~", "a.*", "a\nb", True), ("=~", "", "", True),
        ("!~", "a.+", "a", True), ("!~", "a.+", "ab", False), ("=~", "(?i)PROD", "prod", True), ("=~", "ü+", "üü", True),
    ],
)  # fmt: skip
def test_one_condition(op, value, text, passes):
    assert Matcher("l", op, value).matches(text) is passes


def test_an_absent_label_is_the_empty_value():
    labels = Labels.of(__name__="up", job="a")
    assert match_labels((Matcher("zone", "=", ""), Matcher("job", "!=", "b")), labels)
    assert not match_labels((Matcher("zone", "=~", ".+"),), labels)


@pytest.mark.parametrize("pattern", ["(", "a**", "[z-a]", "(?=x)", "\\1", "a{1001}"])
def test_a_bad_regex_names_itself(pattern: str):
    with pytest.raises(BadInput, match="bad regular expression") as refused:
        Matcher("l", "=~", pattern)
    assert repr(pattern) in refused.value.problem


def test_a_pattern_that_backtracks_elsewhere_is_linear_here():
    assert not Matcher("l", "=~", "(a*)*b").matches("a" * 50_000)


def test_prints_as_promql():
    assert str(Matcher("a.b", "=~", 'x"')) == '"a.b"=~"x\\""'
