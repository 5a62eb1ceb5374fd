"""Functions of Prometheus' templates; expectations are those of its own tests and of its compliance suite."""

from __future__ import annotations

import math
from typing import Any

import pytest

from vedette.gotemplate.shared import PROMETHEUS

CASES: list[tuple[str, list[Any], Any]] = [
    ("humanize", [0.0], "0"),
    ("humanize", [1], "1"),
    ("humanize", [1234567.0], "1.235M"),
    ("humanize", [1048576], "1.049M"),
    ("humanize", ["0.12"], "120m"),
    ("humanize", [-1e-10], "-100p"),
    ("humanize", [1e30], "1e+06Y"),
    ("humanize", [math.inf], "+Inf"),
    ("humanize", [math.nan], "NaN"),
    ("humanize1024", [0], "0"),
    ("humanize1024", [1048576.0], "1Mi"),
    ("humanize1024", [1e27], "827.2Yi"),
    ("humanize1024", [0.5], "0.5"),
    ("humanizeDuration", [0], "0s"),
    ("humanizeDuration", [1], "1s"),
    ("humanizeDuration", [59], "59s"),
    ("humanizeDuration", [60], "1m 0s"),
    ("humanizeDuration", [3600.5], "1h 0m 0s"),
    ("humanizeDuration", [86400 * 2 + 3], "2d 0h 0m 3s"),
    ("humanizeDuration", [-60], "-1m 0s"),
    ("humanizeDuration", [0.1], "100ms"),
    ("humanizeDuration", [12.345678], "12.35s"),
    ("humanizeDuration", [1e-9], "1ns"),
    ("humanizeDuration", [math.inf], "+Inf"),
    ("humanizePercentage", [0.959], "95.9%"),
    ("humanizePercentage", [-0.22222], "-22.22%"),
    ("humanizePercentage", ["1"], "100%"),
    ("humanizeTimestamp", [1435065584.128], "2015-06-23 13:19:44.128 +0000 UTC"),
    ("humanizeTimestamp", [0], "1970-01-01 00:00:00 +0000 UTC"),
    ("humanizeTimestamp", [math.nan], "NaN"),
    ("toTime", [1.5], "1970-01-01 00:00:01.5 +0000 UTC"),
    ("title", ["aa bB cc"], "Aa BB Cc"),
    ("title", ["it's"], "It's"),
    ("toUpper", ["a"], "A"),
    ("toLower", ["A"], "a"),
    ("match", ["a.*c", "xabcx"], True),
    ("match", ["^b", "ab"], False),
    ("reReplaceAll", ["(a)b", "x$1", "ab"], "xa"),
    ("reReplaceAll", ["(?P<first>.)-", "${first}+", "a-b-"], "a+b+"),
    ("reReplaceAll", ["a", "$0$$$9", "ba"], "ba$"),
    ("reReplaceAll", ["x*", "-", "ab"], "-a-b-"),
    ("stripPort", ["localhost:8080"], "localhost"),
    ("stripPort", ["[::1]:8080"], "::1"),
    ("stripPort", ["::1"], "::1"),
    ("stripPort", ["localhost"], "localhost"),
    ("stripDomain", ["host.example.org:9100"], "host:9100"),
    ("stripDomain", ["host.example.org"], "host"),
    ("stripDomain", ["192.0.2.1:80"], "192.0.2.1:80"),
    ("stripDomain", ["[2001:db8::1]:80"], "[2001:db8::1]:80"),
    ("safeHtml", ["<b>"], "<b>"),
    ("urlQueryEscape", ["a b/ä"], "a+b%2F%C3%A4"),
    ("args", [1, "b"], {"arg0": 1, "arg1": "b"}),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), CASES)
def test_function(name: str, arguments: list[Any], expected: Any) -> None:
    assert PROMETHEUS[name](*arguments) == expected


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("humanize", ["x"]), ("humanize", [True]), ("humanize", [[1]]), ("title", [1]), ("match", ["(", "a"]), ("humanizeTimestamp", [1e300])],
)
def test_bad_arguments_are_refused(name: str, arguments: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        PROMETHEUS[name](*arguments)
