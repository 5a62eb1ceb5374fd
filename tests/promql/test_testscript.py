"""The runner of test scripts: what it says of a wrong answer, and of a script that cannot be right."""

from __future__ import annotations

import pytest

from vedette.errors import BadInput
from vedette.promql.testscript import almost_equal, parse_script, run_script

LOAD = """load 1m
  m{a="1"} 1 2 NaN
  m{a="2"} 3 4 5
  h        {{schema:1 sum:3 count:4 buckets:[1 3]}}x2
"""


def problem(evaluation: str) -> str:
    (outcome,) = run_script(f"{LOAD}\n{evaluation}", variants=True)
    assert outcome.passed == (not outcome.problem)
    return outcome.problem


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ('eval instant at 1m m{a="1"}\n m{a="1"} 3', 'wanted m{a="1"} 3.0, got 2.0'),
        ('eval instant at 1m m{a="1"}', 'did not want m{a="1"} 2.0'),
        ('eval instant at 1m m{a="3"}\n m 1', "lacks m 1.0; got nothing"),
        ("eval instant at 1m h\n h 1", "wanted h 1.0, got {{schema:1"),
        ("eval instant at 1m 1 + 1\n 3", "wanted 3.0, got 2.0"),
        ("eval instant at 1m m\n 3", "wanted a scalar, got a vector"),
        ('eval instant at 1m "a"\n expect string "b"', "wanted 'b', got 'a'"),
        ('eval instant at 1m sort_desc(m)\n expect ordered\n m{a="1"} 2\n m{a="2"} 4', "wanted the order"),
        ("eval instant at 1m m\n expect fail", "should have failed"),
        ("eval instant at 1m m + on() m\n expect fail msg: no", "wanted the failure to be 'no', got 'found duplicate series"),
        ("eval instant at 1m m + on() m\n expect fail regex: ^many", "wanted the failure to be one like '^many', got 'found"),
        ('eval instant at 1m m{a="1"}\n expect warn\n m{a="1"} 2', "wanted warn any, got none"),
        ("eval instant at 1m quantile(2, m)\n expect no_warn\n {} Inf", "wanted no warn, got"),
        ("eval instant at 1m quantile(2, m)\n expect warn msg: PromQL warning: x\n {} Inf", "wanted warn 'PromQL warning: x', got"),
        ('eval range from 0 to 2m step 1m m{a="2"}\n m{a="2"} 3 4', 'm{a="2"}: wanted points at [0, 60000], got [0, 60000, 120000]'),
        ('eval range from 0 to 1m step 1m m{a="2"}\n m{a="2"} 3 5', 'm{a="2"} at 60000: wanted 5.0, got 4.0'),
        ("eval instant at 1m quantile(2, m)\n expect warn regex: x$\n {} Inf", "wanted warn one like 'x$', got ['PromQL warning"),
        ("eval instant at 1m quantile(2, m)\n expect info\n {} Inf", "wanted info any, got none"),
        (
            "eval instant at 1m quantile(2, m) + quantile(-1, m)\n expect warn regex: got 2\n {} NaN",
            "unexpected warn 'PromQL warning: quantile value should be between 0 and 1, got -1",
        ),
        ('eval instant at 1m m{a="1"}[5m]\n m{a="1"} 2', 'm{a="1"}: wanted points at [60000], got [0, 60000]'),
        ("eval instant at 1m vector(1)\n 1", "wanted a scalar, got a vector"),
        ("eval instant at 1m 1\n {} 1", "wanted series, got a scalar"),
        ('eval instant at 1m "a"\n 1', "wanted a scalar, got a string"),
        ("eval range from 0 to 1m step 0 1\n {} 1", "failed: zero or negative query resolution step widths are not accepted"),
        ("eval instant at 1m sum(", "does not parse: 1:5: parse error: unclosed left parenthesis"),
    ],
)
def test_a_wrong_answer_is_shown_beside_what_was_wanted(evaluation: str, said: str) -> None:
    assert said in problem(evaluation)


@pytest.mark.parametrize(
    "evaluation",
    [
        'eval instant at 2m m\n m{a="1"} NaN\n m{a="2"} 5 # not read as more',
        'eval_ordered instant at 1m sort(m)\n m{a="1"} 2\n m{a="2"} 4',
        "eval_fail instant at 1m m + on() m\n expected_fail_regexp duplicate series",
        "eval_warn instant at 1m quantile(2, m)\n {} Inf",
        'eval range from 0 to 2m step 1m m{a="2"}\n m{a="2"} 3 4 5',
        'eval instant at 2m m{a="2"}[2m]\n expect range vector from 1m to 2m step 1m\n m{a="2"} 4 5',
        "eval instant at 1m 0x10\n 0x10",
        "eval instant at 1m quantile(2, m) + quantile(-1, m)\n expect warn regex: got (2|-1)\\b\n expect no_info\n {} NaN",
        "eval instant at 1m m + on() m\n expect fail regex: \\Qfound duplicate series\\E.*[[:alpha:]]+\\z",
        "eval range from 0 to 1m step 1m 1\n {} 1 1",
        'eval instant at 1m "a"\n expect string `a`',
        "eval instant at 1m vector(8)\n {} 010",
        "eval instant at 1m h\n h {{schema:1 sum:3 count:4 buckets:[1 3]}}",
    ],
)
def test_a_right_answer_passes(evaluation: str) -> None:
    assert problem(evaluation.replace(" # not read as more", "")) == ""


@pytest.mark.parametrize(
    ("script", "line", "said"),
    [
        ("lod 1m", 1, "unknown command 'lod'"),
        ("LOAD 1m", 1, "not a load command"),
        ("\n\nload", 3, "not a load command"),
        ("load 1x\n m 1", 1, "not a valid duration string: '1x'"),
        ("load 1m\n m 1\n m 1 foo", 3, "not a value: 'foo'"),
        ("load 1m\n m NaNx3", 2, "not a value: 'NaNx3'"),
        ("load 1m\n m 1+2", 2, "not a value: '1+2'"),
        ("load 1m\n a 1\n m{a=} 1", 3, "unexpected"),
        ("load 1m\n m{a!='b'} 1", 2, "not a series"),
        ("load 1m\n m{a='b',c='d',a='e'} 1", 2, 'label name "a" is not unique: invalid sample'),
        ("load 1m\n a 1\nclear\neval instant at 0 a", 4, "not a value: 'instant'"),
        ("load 1m\n m {{schema:9}}", 2, "unknown schema: 9"),
        ("load 1m\n m {{foo:9}}", 2, "unknown key of a histogram: 'foo'"),
        ("load 1m\n m {{count:1", 2, "histogram without its end"),
        ("load 1m\n m {{counter_reset_hint:no}}", 2, "unknown counter reset hint: 'no'"),
        ("load 1m\n m {{schema:1}}+{{schema:0}}x2", 2, "cannot merge from schema 0 to 1"),
        ("load 1m\n m@st -1m -1m\n m 1", 3, "2 start timestamps for 1 values"),
        ("load 1m\n m@st -1m\n n 1", 3, "the start timestamps of m stand before the values of n"),
        ("load 1m\n m@st -1m\n m@st -1m\n m 1", 3, "the start timestamps of m stand before the values of none"),
        ("load 1m\n m 1\n m@st -1m", 3, "the start timestamps of m stand before the values of none"),
        ("load 1m\n m@st 5", 2, "not a start timestamp: '5'"),
        ("eval m", 1, "not an eval command"),
        ("eval range from 0 to 5m m", 1, "not an eval command"),
        ("eval_ordered range from 0 to 1m step 1m m", 1, "not an eval command"),
        ("eval instant at x m", 1, "not a valid duration string"),
        ("eval range from 1m to 0 step 1m m", 1, "the range ends before it begins"),
        ("eval range from 0 to 1m step 1m m\n expect ordered", 1, "a range query has no order to expect"),
        ("eval instant at 1m m\n expect warn\n expect no_warn", 1, "expects warn and no_warn at once"),
        ("eval instant at 1m m\n expect fail\n expect fail", 3, "expects to fail twice"),
        ("eval instant at 1m m\n m 1\n expect nothing", 3, "not an expectation: 'expect nothing'"),
        ("eval instant at 1m m\n expect fail regex: a(", 2, "error parsing regexp: missing closing ): `a(`"),
        ("eval instant at 1m m\n expect warn regex: *", 2, "error parsing regexp: missing argument to repetition operator: `*`"),
        ("eval_fail instant at 1m m\n expected_fail_regexp (?<", 2, "error parsing regexp"),
        ("eval instant at 1m m\n m{ 1", 2, "unexpected"),
        ("clear\n\neval instant at 1m m\n m 1 2", 3, "2 values of m at one time"),
    ],
)
def test_a_script_that_cannot_be_right_is_refused_with_its_line(script: str, line: int, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_script(script, "x.test")
    assert said in refused.value.problem
    assert refused.value.where == f"x.test:{line}"


def test_a_load_that_fails_ends_the_script_and_what_came_before_counts() -> None:
    first, failed = run_script(
        """eval instant at 0 1
  1

load_with_nhcb 1m
  x_bucket{le="1"} 5
  x_bucket{le="+Inf"} 3

eval instant at 0 x
"""
    )
    assert first.passed
    assert (failed.line, failed.expr, failed.passed) == (4, "load", False)
    assert "buckets of x are not cumulative" in failed.problem


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1.0, 1.0 + 1e-7, True),
        (1.0, 1.0 + 1e-5, False),
        (0.0, 1e-300, False),
        (float("inf"), float("inf"), True),
        (float("inf"), -float("inf"), False),
        (float("nan"), float("nan"), True),
        (float("nan"), 1.0, False),
        (1.7e308, 1.7e308 * (1 - 1e-8), True),
    ],
)
def test_how_far_numbers_may_lie_apart(a: float, b: float, same: bool) -> None:
    assert almost_equal(a, b) == almost_equal(b, a) == same
