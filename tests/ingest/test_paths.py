"""Graphite's paths become labels: many at once as each by itself, with and without rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.ingest.mapping import Mapper, MappingFile, Rule
from vedette.ingest.paths import Paths
from vedette.ingest.socket_settings import GraphiteSettings
from vedette.model.labels import Labels
from vedette.model.samples import KeySpace
from vedette.wire.naming import NAMES, Names

LABELS = {"job": "graphite", "none": "", "A": "100%", "__name__": "no"}
PLAIN = Mapper(MappingFile(), where="")
UNUSED = Mapper(MappingFile(mappings=(Rule("no.such.name", name="x"),)), where="")
"""A rule that is for nothing: each path is looked up, and found to be as it is."""


def many(paths: Sequence[str], settings: GraphiteSettings, mapper: Mapper = PLAIN) -> list[Labels | None]:
    """The labels of paths as storage asks for them: all at once, from somewhere in a buffer."""
    made = Paths(settings, mapper)
    space = KeySpace("t", made.resolve, resolve_many=made.resolve_many)
    buffer = np.frombuffer(bytearray(b"\n".join([b"before", *(path.encode() for path in paths), b"after"])), dtype=np.uint8)
    sizes = [len(path.encode()) for path in paths]
    starts = len(b"before") + 1 + np.cumsum([0, *(size + 1 for size in sizes[:-1])], dtype=np.int64)[: len(paths)]
    keys, offsets = space.canonicalise(buffer, starts, starts + np.array(sizes, dtype=np.int64))
    texts = [keys[lo:hi].tobytes() for lo, hi in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    return [Labels.decode(text) if text else None for text in texts]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize(
    ("path", "name", "tags"),
    [
        ("a.b", "a.b", {}),
        ("5.a;b.c=d;e=f", "5.a", {"b.c": "d", "e": "f"}),
        ("a:b;Z=1;_=2", "a:b", {"Z": "1", "_": "2"}),
        ("a=b", "a=b", {}),
        ("a;b=c=d", "a", {"b": "c=d"}),
        ("é.x;ü=ö", "é.x", {"ü": "ö"}),
        ("a;job=sent;b=50%", "a", {"job": "sent", "b": "50%"}),
        ("a;b%=1", "a", {"b%": "1"}),
    ],
)
def test_what_a_path_is_stored_as(names: Names, path: str, name: str, tags: dict[str, str]) -> None:
    def spelled(text: str, also: str = "") -> str:
        if names == "utf8":
            return text
        made = "".join(c if c.isascii() and (c.isalnum() or c in "_" + also) else "_" for c in text)
        return f"_{made}" if made[0].isdigit() else made

    expected = {"job": "graphite", "A": "100%", "__name__": spelled(name, ":"), **{spelled(tag): value for tag, value in tags.items()}}
    assert many([path], GraphiteSettings(names=names, labels=LABELS)) == [Labels.of(expected)]


@pytest.mark.parametrize("names", NAMES)
def test_tags_that_become_one_label_are_joined_in_the_order_of_their_names(names: Names) -> None:
    found = many(["a;b-c=2;b.c=1;b.c=3"], GraphiteSettings(names=names))
    expected = {"b_c": "2;3"} if names == "underscores" else {"b-c": "2", "b.c": "3"}
    assert found == [Labels.of({"__name__": "a", **expected})]


_WORD = st.text("ab.5-_é%=:", min_size=1, max_size=4)
_TAG = st.text("ab.5-_é%", min_size=1, max_size=2)


@given(
    st.lists(st.tuples(_WORD, st.lists(st.tuples(_TAG, _WORD), max_size=3)), min_size=1, max_size=20),
    st.sampled_from(NAMES),
    st.sampled_from([{}, LABELS]),
)
def test_many_are_what_each_is_by_itself_and_what_rules_for_others_leave(
    given: list[tuple[str, list[tuple[str, str]]]], names: Names, labels: dict[str, str]
) -> None:
    paths = [";".join([name, *(f"{tag}={value}" for tag, value in tags)]) for name, tags in given]
    settings = GraphiteSettings(names=names, labels=labels)
    alone = [Paths(settings, PLAIN).resolve(path.encode()) for path in paths]
    assert many(paths, settings) == alone
    assert many(paths, settings, UNUSED) == alone


def test_rules_map_and_drop() -> None:
    rules = Mapper(MappingFile(mappings=(Rule("debug.*", action="drop"), Rule("a.*", name="mapped", labels={"of": "$1"}))), where="")
    assert many(["a.b;t=1", "debug.x", "c"], GraphiteSettings(), rules) == [
        Labels.of({"__name__": "mapped", "of": "b", "t": "1"}),
        None,
        Labels.of({"__name__": "c"}),
    ]


def test_no_rules_and_strict_is_nothing() -> None:
    assert many(["a"], GraphiteSettings(), Mapper(MappingFile(), where="", strict=True)) == [None]


@pytest.mark.parametrize("mapper", [PLAIN, UNUSED])
def test_a_tag_that_is_the_name_is_refused(mapper: Mapper) -> None:
    with pytest.raises(BadInput, match="__name__"):
        many(["a;__name__=b"], GraphiteSettings(), mapper)


def test_more_forms_than_are_kept_are_all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.ingest.paths._MOST_FORMS", 2)
    paths = [f"a;t{n}=1" for n in range(5)] * 2
    assert many(paths, GraphiteSettings()) == [Labels.of({"__name__": "a", f"t{n}": "1"}) for n in range(5)] * 2
