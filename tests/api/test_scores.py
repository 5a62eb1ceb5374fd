"""How well a name fits what was typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.api.scores import jaro_winkler, scorer, subsequence


@pytest.mark.parametrize(
    ("wanted", "text", "score"),
    [
        ("", "up", 1.0),
        ("up", "up", 1.0),
        ("up", "", 0.0),
        ("up", "u", 0.0),
        ("pu", "up", 0.0),
        ("ab", "xab", (4 - 1 / 3) / 4),  # one letter before
        ("ab", "abx", (4 - 0.5 / 3) / 4),  # one letter behind counts half
        ("ab", "axb", (1 + 1 - 1 / 3) / 4),  # two runs of one letter, one between
        ("ab", "a_ab", (4 - 2 / 4) / 4),  # the better of two places
        ("abc", "ab_abc_", (9 - 3 / 7 - 0.5 / 7) / 9),
        ("\u00e9t", "x\u00e9t", (4 - 1 / 3) / 4),  # letters, not bytes
        ("z", "aaaaaaaaaz", (1 - 9 / 10) / 1),
    ],
)
def test_letters_in_their_order(wanted: str, text: str, score: float) -> None:
    assert subsequence(wanted, text) == pytest.approx(score)


@given(st.text("ab_", max_size=5), st.text("ab_", max_size=9))
def test_only_what_has_the_letters_in_their_order_is_found(wanted: str, text: str) -> None:
    rest = iter(text)
    there = all(letter in rest for letter in wanted)
    assert 0 <= subsequence(wanted, text) <= 1
    if not there:
        assert subsequence(wanted, text) == 0


@pytest.mark.parametrize(
    ("a", "b", "score"),
    [
        ("MARTHA", "MARHTA", 0.961111),
        ("DIXON", "DICKSONX", 0.813333),
        ("DWAYNE", "DUANE", 0.84),
        ("a", "a", 1),
        ("", "a", 0),
        ("a", "b", 0),
    ],
)
def test_jaro_and_winkler_as_published(a: str, b: str, score: float) -> None:
    assert jaro_winkler(a, b) == pytest.approx(score, abs=1e-6)
    assert jaro_winkler(b, a) == pytest.approx(score, abs=1e-6)


def test_what_is_typed_is_looked_for_by_either_measure() -> None:
    def found(
        name: str, *searches: str, algorithm: str = "subsequence", threshold: float = 0.0, case_sensitive: bool = True
    ) -> float | None:
        return scorer(searches, algorithm, threshold, case_sensitive=case_sensitive)(name)

    assert found("anything") == 1.0
    assert found("http_requests_total", "http") == 1.0, "what it begins with"
    assert found("http_requests_total", "zzz") is None
    assert found("http_requests_total", "hrt") is not None
    assert found("http_requests_total", "hrt", threshold=0.9) is None
    assert found("HTTP", "http") is None
    assert found("HTTP", "http", case_sensitive=False) == 1.0
    assert found("up", "zzz", "up") == 1.0, "any of them"
    assert found("requests", "quest", algorithm="jarowinkler") == 0.9
    assert found("requests", "reqests", algorithm="jarowinkler") is None, "without a threshold nothing is forgiven"
    assert found("requests", "reqests", algorithm="jarowinkler", threshold=0.9) == pytest.approx(jaro_winkler("reqests", "requests"))
    assert found("requests", "zzz", algorithm="jarowinkler", threshold=0.1) is None
