"""Strict YAML: what does not fit is pointed at."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from vedette import configfile
from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration


@dataclass(frozen=True)
class Job:
    UNSUPPORTED: ClassVar[dict[str, str]] = {"consul_sd_configs": "use static_configs"}

    name: str
    interval: int = option(60_000, convert=parse_duration)
    scheme: Literal["http", "https"] = "http"
    tags: dict[str, str] = field(default_factory=dict)
    password: str = option("", secret=True)

    def __post_init__(self):
        if self.interval == 0:
            raise BadInput("must be positive", where="interval")


@dataclass(frozen=True)
class File:
    jobs: list[Job] = field(default_factory=list)
    limit: int | None = None
    ratio: float = 0.5
    quiet: bool = False
    from_: str = option("", key="from")


def refused(text: str) -> str:
    with pytest.raises(BadInput) as error:
        configfile.parse(text, File, name="f.yml")
    return str(error.value)


def test_fills_by_annotation():
    got = configfile.parse(
        "jobs:\n- {name: a, interval: 1m30s, tags: {x: 1}}\nlimit: 7\nratio: 2\nquiet: yes\nfrom: here\n", File, name="f.yml"
    )
    assert got == File([Job("a", 90_000, tags={"x": "1"})], 7, 2.0, True, "here")
    assert configfile.parse("", File) == File()
    assert configfile.parse('{"jobs": [{"name": "j"}], "limit": null}', File) == File([Job("j")])
    assert configfile.parse("jobs:\nratio:\n", File) == File()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs:\n- name: a\n  intervall: 1m\n", "f.yml:3:3: jobs[0].intervall: unknown key (did you mean interval?)"),
        ("jobs:\n- name: a\n  interval: 1x\n", "f.yml:3:13: jobs[0].interval: not a valid duration string: '1x'"),
        ("jobs:\n- interval: 1m\n", "f.yml:2:3: jobs[0]: lacks the key name"),
        ("jobs: 3\n", "f.yml:1:7: jobs: '3' where a list is expected"),
        ("limit: many\n", "f.yml:1:8: limit: 'many' where a whole number is expected"),
        ("limit: 1.5\n", "f.yml:1:8: limit: '1.5' where a whole number is expected"),
        ("quiet: maybe\n", "f.yml:1:8: quiet: 'maybe' where true or false is expected"),
        ("jobs:\n- name: a\n  scheme: ftp\n", "jobs[0].scheme: 'ftp' is not one of the choices (expected one of http, https)"),
        ("jobs:\n- name: a\n  consul_sd_configs: []\n", "f.yml:3:3: jobs[0].consul_sd_configs: not supported (use static_configs)"),
        ("jobs:\n- name: a\n  interval: 0s\n", "f.yml:3:13: jobs[0].interval: must be positive"),
        ("limit: 1\nlimit: 2\n", "f.yml:2:1: limit: given twice"),
        ("jobs: [\n", "f.yml:2:1"),
        ("a: b: c\n", "f.yml:1:5"),
        ("\tx: 1\n", "f.yml:1:1"),
        ("[1]\n", "f.yml:1:1: a list where a mapping is expected"),
        ("limit: 1\n---\nlimit: 2\n", "f.yml:2:1"),
        ("? [a]\n: 1\n", "a key must be plain text"),
    ],
)
def test_points_at_what_does_not_fit(text: str, said: str):
    assert said in refused(text)


def test_refuses_bytes_that_are_not_text():
    with pytest.raises(BadInput, match=r"f.yml:2: not UTF-8 text \(byte 9\)"):
        configfile.parse(b"limit: 1\n\xff", File, name="f.yml")


def test_a_bomb_of_aliases_costs_little():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
    )
    assert "nodes" in refused(bomb)
    assert "nodes" in refused("&a [*a]")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "a: " + "[" * 100_000 + "]" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000 + "x",
        "? " * 100_000 + "x",
        "\n".join(" " * i + "a:" for i in range(2_000)),
        "\r".join(" " * i + "-" for i in range(2_000)),
    ],
    ids=lambda text: text[:3],
)
def test_deep_nesting_is_refused(text):
    assert "nested more than 100 levels deep" in refused(text)


def test_aliases_do_not_nest_deeply_either():
    links = [f"- &a{i} {'[' * 60}{f'*a{i - 1}' if i else 'x'}{']' * 60}" for i in range(100)]
    assert "nested more than 100 levels deep" in refused("\n".join(links))


def test_many_brackets_on_one_level_are_fine():
    assert configfile.plain(configfile.compose("[" + "[a, {b: c}]," * 1_000 + "]")) == [["a", {"b": "c"}]] * 1_000


def test_a_missing_file_is_bad_input(tmp_path: Path):
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        configfile.load(tmp_path / "none.yml", File)


def test_shows_what_was_written_without_its_secrets():
    text = "jobs:\n- {name: 'http://u:pw@h/', interval: 1m30s, password: hunter2, tags: {a: b}}\nlimit:\n"
    assert configfile.shown(configfile.compose(text), File) == {
        "jobs": [{"name": "http://u:<secret>@h/", "interval": "1m30s", "password": "<secret>", "tags": {"a": "b"}}],
        "limit": None,
    }


@dataclass(frozen=True)
class Pair:
    one: int = 0
    two: int = 0


@dataclass(frozen=True)
class Pairs:
    base: Pair = field(default_factory=Pair)
    more: list[Pair] = field(default_factory=list)


def test_merge_keys_lay_a_mapping_under_another() -> None:
    text = "base: &b {one: 1, two: 2}\nmore:\n- <<: *b\n- {<<: *b, two: 3}\n- {<<: [{one: 5}, *b]}\n"
    assert configfile.parse(text, Pairs).more == [Pair(1, 2), Pair(1, 3), Pair(5, 2)]


def test_a_bad_key_that_came_by_a_merge_points_at_the_mapping_that_merges() -> None:
    with pytest.raises(BadInput, match=r"f:3:3: more\[0\]\.three: unknown key"):
        configfile.parse("base: {one: 1}\nmore:\n- <<: {three: 3}\n", Pairs, name="f")


def test_a_second_document_is_refused_or_told_of() -> None:
    text = "base: {one: 1}\n---\nbase: {one: 2}\n"
    with pytest.raises(BadInput, match="single document"):
        configfile.parse(text, Pairs)
    seen: list[str] = []
    assert configfile.parse(text, Pairs, name="f", on_more=seen.append).base == Pair(1, 0)
    assert seen == ["f:3:1"]
