"""What stands in for a match: Go's templates, whose length is known before they are filled in."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from vedette.regex import Template, bounded


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("$1-$2", "a-b"),
        ("${1}x", "ax"),
        ("$1x", ""),
        ("$$1", "$1"),
        ("${name}", "a"),
        ("$9", ""),
        ("$01", ""),
        ("$0$0", "abab"),
        ("a$", "a$"),
        ("${", "${"),
        ("", ""),
    ],
)
def test_replacement_templates_are_gos(template: str, wanted: str) -> None:
    made = Template(template, 2, {"name": 1})
    assert made.expanded(groups := [("ab", "a", "b")[number] for number in made.wanted]) == wanted
    assert made.length(groups) == len(wanted)


@given(
    st.lists(st.sampled_from(["$1", "${2}", "$name", "$$", "é", "x", "$", "${", "$17"]), max_size=12),
    st.text(max_size=3),
    st.text(max_size=3),
)
def test_the_length_is_that_of_the_text(pieces: list[str], one: str, two: str) -> None:
    made = Template("".join(pieces), 2, {"name": 2})
    groups = [("", one, two)[number] for number in made.wanted]
    assert made.length(groups) == len(made.expanded(groups))
    assert len(made) <= 2 * len(pieces) + 1


@pytest.mark.parametrize(
    ("pattern", "refused"), [(r"\C", True), (r"a\Cb", True), (r"\\C", False), (r"\Q\C\E", False), ("C", False), ("[C]", False)]
)
def test_half_a_character_is_no_character(pattern: str, refused: bool) -> None:
    options = re2.Options()
    options.log_errors = False
    for text in (pattern, pattern.encode()):
        if not refused:
            bounded(text, options)
            continue
        with pytest.raises(re2.error, match="invalid escape sequence"):
            bounded(text, options)
