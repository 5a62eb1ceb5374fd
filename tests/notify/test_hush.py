"""Ten thousand silences found by what they ask for: the answer is that of asking each of them."""

from __future__ import annotations

import random

import pytest

from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.notify import hush as hushing
from vedette.notify.hush import Hush
from vedette.notify.silence import Silence

NOW = 1_700_000_000_000


def silence(name: str, *matchers: Matcher) -> Silence:
    return Silence(matchers, NOW, NOW + 1000, id=name)


def asked(silences: list[Silence], labels: Labels) -> list[str]:
    """The naive twin: each silence is asked."""
    return sorted(s.id for s in silences if match_labels(s.matchers, labels))


def anything(rng: random.Random, name: str) -> Matcher:
    value = rng.choice(("a", "b", "ab", "", "c.d", "ü"))
    patterns = ("a|b", "a.*", ".+", ".*", "(?i)AB", "a(?P<x>b)", "", "[^a]+", r"c\.d", "b$|^a")
    op = rng.choice(("=", "=", "!=", "=~", "=~", "!~"))
    return Matcher(name, op, rng.choice(patterns) if op in ("=~", "!~") else value)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
def test_the_index_answers_as_asking_each(seed: int) -> None:
    rng = random.Random(seed)
    silences = [silence(str(i), *(anything(rng, rng.choice("xyz")) for _ in range(rng.randint(1, 3)))) for i in range(150)]
    hush = Hush(silences)
    alerts = [Labels.of({n: rng.choice(("a", "b", "ab", "", "c.d", "cxd", "ü", "AB")) for n in "wxyz"}) for _ in range(150)]
    for labels in alerts * 2:
        assert hush.of(labels) == asked(silences, labels)


def test_of_many_expressions_few_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    silences = [silence(str(i), Matcher("host", "=~", f"db-{i}-.*")) for i in range(1000)]
    hush = Hush(silences)
    tried: list[str] = []
    whole = Matcher.matches

    def counted(matcher: Matcher, value: str) -> bool:
        tried.append(matcher.value)
        return whole(matcher, value)

    monkeypatch.setattr(Matcher, "matches", counted)
    assert hush.of(Labels.of(host="web-1", alertname="Down")) == []
    assert tried == []
    assert hush.of(Labels.of(host="db-77-x", alertname="Down")) == ["77"]
    assert len(tried) <= hushing._TOGETHER + 1
    tried.clear()
    assert hush.of(Labels.of(host="db-77-x", alertname="Up")) == ["77"]
    assert tried == ["db-77-.*"], "which silences a value leads to is remembered"


def test_expressions_that_cannot_be_one_are_tried_each() -> None:
    silences = [silence(str(i), Matcher("x", "=~", f"(?P<same>v{i})")) for i in range(3)]
    assert Hush(silences).of(Labels.of(x="v2")) == ["2"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hushing, "_REMEMBERED", 3)
    silences = [silence("s", Matcher("x", "=~", "v[0-4]"))]
    hush = Hush(silences)
    for _ in range(2):
        for i in range(10):
            assert hush.of(Labels.of(x=f"v{i}")) == asked(silences, Labels.of(x=f"v{i}"))
    assert len(hush._by_pattern["x"].known) <= 3


def test_another_silence_leaves_what_is_known_of_the_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    silences = [silence(str(i), Matcher("x", "=~", f"v{i}.*")) for i in range(60)]
    before = Hush(silences)
    labels = Labels.of(x="v7", y="b")
    assert before.of(labels) == ["7"]
    after = Hush([*silences, silence("new", Matcher("y", "=", "b"))], before=before)
    monkeypatch.setattr(hushing._Together, "of", lambda *_: pytest.fail("tried again"))
    assert after.of(labels) == ["7", "new"]
    monkeypatch.undo()
    assert Hush([*silences[:7], *silences[8:]], before=after).of(labels) == []


def test_nothing_silenced_is_empty() -> None:
    assert Hush(()).empty
    assert Hush(()).of(Labels.of(a="b")) == []
    for matcher in (Matcher("x", "=", "a"), Matcher("x", "=~", "a"), Matcher("x", "!=", "")):
        assert not Hush([silence("s", matcher)]).empty
