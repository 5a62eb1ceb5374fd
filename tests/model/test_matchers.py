"""Label matchers."""

import time
from itertools import count

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.model import matchers
from vedette.model.labels import Labels
from vedette.model.matchers import _OPTIONS, Matcher, _alternatives, compile_regex, go_regex_problem, match_labels
from vedette.regex import weight


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


@pytest.mark.parametrize(
    "pattern",
    [
        "[0-9]{1,1000}" * 60,
        "\\pL" * 300_000,
        "[\\pL\\pN]" * 1000,
        "(a?b?){1000}" * 3,
        "(" + "|".join(f"{i}.*" for i in range(20_000)) + ")",
        "x?" * 500_000,
    ],
)
def test_a_pattern_that_would_take_long_to_compile_is_refused_at_once(pattern: str):
    begun = time.perf_counter()
    with pytest.raises(BadInput, match="expression too large"):
        compile_regex(pattern)
    assert go_regex_problem(pattern) == "error parsing regexp: expression too large"
    assert time.perf_counter() - begun < 1


def test_groups_cost_nothing():
    begun = time.perf_counter()
    assert compile_regex("(.*)" * 4900)("abcdefghij" * 10)
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    "pattern",
    [
        "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*", ".{0,1000}a.{0,1000}", "(?i:a)" * 9000,
        "((a{0,30}){0,30})", "\\pL{1000}"[:5] + "{100}", "|".join(f"{i}.*" for i in range(20_000)),
        "(" + "|".join(map(str, range(20_000))) + ")",
    ],
)  # fmt: skip
def test_what_people_write_is_not_too_large(pattern: str):
    compile_regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("abc", 0), ("a?", 1), ("(?:a)", 0), ("(?i:a)", 0), ("(?P<x>a?)", 1), ("a{1,1000}", 1000), ("a{3}", 0), ("a{3,}", 1),
        ("(a{0,30}){0,30}", 930), ("\\Qa?b*\\E?", 1), ("[*?]", 0), ("\\?", 0), ("[]?]", 0), ("(((a?)b){10}c){10}", 100), ("x{,3}?", 1),
    ],
)  # fmt: skip
def test_how_many_optional_parts_there_are(pattern: str, expected: int):
    assert weight(pattern) == expected


def test_a_pattern_that_backtracks_elsewhere_is_linear_here():
    assert not Matcher("l", "=~", "(a*)*b").matches("a" * 50_000)


def test_prints_as_promql():
    assert str(Matcher("a.b", "=~", 'x"')) == '"a.b"=~"x\\""'


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("a|b|c", ["a", "b", "c"]),
        ("a||", ["a", "", ""]),
        ("", [""]),
        (r"a\|b|c", [r"a\|b", "c"]),
        ("(a|b)|c", ["(a|b)", "c"]),
        ("[|]|a", ["[|]", "a"]),
        ("[]|]|a", ["[]|]", "a"]),
        ("[^]|]|a", ["[^]|]", "a"]),
        (r"[\]|]|a", [r"[\]|]", "a"]),
        ("[[:alpha:]|]|a", ["[[:alpha:]|]", "a"]),
        ("(?i)a|b", None),
        ("(?i:a)|b", None),
        (r"\Qa|b\E|c", None),
        ("(a|b", None),
        ("a)|(b", None),
        ("[a|b", None),
        ("a|\\", None),
    ],
)
def test_alternatives(pattern: str, wanted: list[str] | None) -> None:
    assert _alternatives(pattern) == wanted


pieces = st.sampled_from(["a", "b", "|", "|", r"\.", ".", "é", "\n", "(a|b)", "[a|]", r"\|", "a*", "a.", "-", "_", r"\-", "x{1,2}", ""])


@given(st.lists(pieces, max_size=8).map("".join), st.text("ab.|é\nx-_a", max_size=4), st.integers(1, 3))
def test_alternatives_match_what_the_whole_expression_does(pattern: str, text: str, together: int) -> None:
    try:
        whole = re2.compile(f"(?:{pattern})", _OPTIONS)
    except re2.error:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matchers, "MAX_TOGETHER", together)
        assert compile_regex(pattern)(text) == (whole.fullmatch(text) is not None)


def test_a_bad_alternative_among_many_is_refused() -> None:
    with pytest.raises(BadInput, match="bad regular expression"):
        compile_regex("|".join([f"a{i}.*" for i in range(2500)] + ["b{2,1}"]))


def test_escaped_texts_are_texts() -> None:
    test = compile_regex(r"10\.0\.0\.1:9100|a\-b|c\|d")
    assert [text for text in ("10.0.0.1:9100", "10x0.0.1:9100", "a-b", "c|d", "c") if test(text)] == ["10.0.0.1:9100", "a-b", "c|d"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "error parsing regexp: missing closing ): `(`"),
        ("a**", "error parsing regexp: invalid nested repetition operator: `**`"),
        ("[b-a]", "error parsing regexp: invalid character class range: `b-a`"),
        ("a{1001}", "error parsing regexp: invalid repeat count: `{1001}`"),
        ("a\\", "error parsing regexp: trailing backslash at end of expression"),
        ("a.*b", ""),
    ],
)
def test_problems_in_go_s_words(pattern: str, said: str) -> None:
    assert go_regex_problem(pattern).startswith(said)
    assert bool(go_regex_problem(pattern)) == bool(said)


def test_an_expression_that_takes_long_on_each_of_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [f"v{i}" for i in range(1000)]
    matcher = Matcher("pod", "=~", "v.*7")
    passed = matchers.verdicts(matcher, values)
    assert [value for value, is_one in zip(values, passed, strict=True) if is_one] == [v for v in values if v.endswith("7")]
    assert matchers.verdicts(Matcher("pod", "!=", "v1"), iter(["v1", "v2"])) == [False, True]
    assert matchers.verdicts(matcher, []) == []
    # It has its patience, and beyond that as long for each value as a plain expression takes.
    monkeypatch.setattr(matchers, "monotonic", iter([0.0, 4.0, 6.0]).__next__)
    with pytest.raises(BadInput, match=r'the regular expression .v\.\*7. of label "pod" has looked at 512 values for 6 s'):
        matchers.verdicts(matcher, values)
    monkeypatch.setattr(matchers, "_SLOW_S", 0.1)
    monkeypatch.setattr(matchers, "monotonic", iter([0.0, 4.0, 6.0, 6.0, 6.0]).__next__)
    assert matchers.verdicts(matcher, values) == passed


def test_many_matchers_that_are_quick_have_an_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(0.0, 3.0)
    monkeypatch.setattr(matchers, "monotonic", lambda: next(clock))
    patience, matcher = matchers.Patience(), Matcher("pod", "!~", "v.*7")
    for _ in range(3):
        # Three glances at the clock, 3 s apart.
        assert matchers.verdicts(matcher, ["v1", "v17"], patience) == [True, False]
    with pytest.raises(BadInput, match=r"the matchers of one selector have looked at the values of their labels for 24 s"):
        matchers.verdicts(matcher, ["v1"], patience)
    assert matchers.verdicts(matcher, ["v1"], matchers.Patience()) == [True]
    patience = matchers.Patience()
    patience.spend(30.0, 2_000_000)
    with pytest.raises(BadInput, match="for 41 s"):
        patience.spend(11.0, 1)
