"""Generated queries, answered by the store over columns and line by line: the same lines, the same series."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.logs.logql.test_evaluate import LINES, NOW, S, batch

from vedette.clock import ManualClock
from vedette.errors import VedetteError
from vedette.logs.logql import evaluate
from vedette.logs.logql.evaluate import Steps
from vedette.logs.logql.nodes import Metric, Pipeline
from vedette.logs.logql.parser import parse
from vedette.logs.logql.pushed import Pushed, pushed
from vedette.logs.query import LogQuery
from vedette.logs.settings import LogSettings
from vedette.logs.store import LogStore

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'vedette[logs]'")

SELECTORS = ("{}", '{service="shop"}', '{level=~"i.*|e.*", host!="z"}', '{service_name!="unknown_service"}')
STAGES = (
    '|= "a"', '!= "x"', '|~ "p.*h"', '|> "<_>=<_>"', "| json", "| logfmt", "| logfmt --strict", '| json n="n", w="who.id"', "| unpack",
    '| json n="took", host="who.id", q="who", p="[0]", z="who[0]"',
    "| pattern `path=<p> <_>`", "| pattern `<host>=<status> <_>=<n> `", '| regexp "(?P<level>[a-z]+)=(?P<n>[0-9]+)?.*(?P<size>B)?"',
    '| regexp "(?P<q>[a-z]+)="', "| line_format `{{.n}} {{__line__}}`", "| label_format m=n", "| decolorize",
    "| label_format z=`{{.n}}x`", "| drop level", "| keep n", '| drop n="1"', "| n > 1", "| n >= -1.5 or took > 1s", "| size < 5KB",
    '| status=~"2.." and n != 3', '| host="a"', '| (a="b" or level!="error")', '| service_name="shop"', '| n=ip("10.0.0.1")',
    '|= ip("10.0.0.0/8")', '| __error__=""', '| n_extracted=""', '| detected_level="info"', '| who.id="k"',
)  # fmt: skip
RANGES = ("[10s]", "[1m]", "[7s]", "[2m]", "[3m] offset 30s", "[1m] offset -20s")
LABELS = ("level", "service", "service_name", "n", "host", "path", "p", "q", "nope")
COUNTS = ("count_over_time", "rate", "bytes_rate", "bytes_over_time", "absent_over_time")
UNWRAPPED = ("sum", "avg", "min", "max", "first", "last", "stddev", "stdvar", "quantile")
BETWEEN = ("+", "-", "*", "/", "%", "^", ">", "<= bool", "==", "and", "or", "unless", "/ on (level)", "- ignoring (n)")


def pipeline(chance: random.Random) -> str:
    return " ".join([chance.choice(SELECTORS), *chance.choices(STAGES, k=chance.randrange(4))])


def names(chance: random.Random) -> str:
    return "(" + ", ".join(chance.sample(LABELS, chance.randrange(3))) + ")"


def leaf(chance: random.Random) -> str:
    span = chance.choice(RANGES)
    if chance.random() < 0.4:
        return f"{chance.choice(COUNTS)}({pipeline(chance)} {span})"
    op = chance.choice(UNWRAPPED)
    first = "0.7, " if op == "quantile" else ""
    grouping = f" {chance.choice(('by', 'without'))} {names(chance)}" if op != "sum" and chance.random() < 0.5 else ""
    label = chance.choice(("n", "duration(took)", "bytes(size)", "status", "n | __error__=``", "nope"))
    return f"{op}_over_time({first}{pipeline(chance)} | unwrap {label} {span}){grouping}"


def metric(chance: random.Random, depth: int = 0) -> str:
    kind = chance.randrange(5) if depth < 2 else 0
    if kind < 2:
        return leaf(chance)
    inner = metric(chance, depth + 1)
    if kind == 2:
        return f"{chance.choice(('sum', 'avg', 'min', 'max', 'count'))} {chance.choice(('by', 'without'))} {names(chance)} ({inner})"
    if kind == 3:
        return f"topk(2, {inner})"
    return f"({inner}) {chance.choice(BETWEEN)} ({metric(chance, depth + 1)})"


def nothing_pushed(asked: Pipeline, *, unread: bool = False) -> Pushed:
    """Only the selector is asked of the store, and the rest done line by line."""
    return replace(pushed(Pipeline(asked.matchers), unread=unread), whole=False)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    made = LogStore(tmp_path / "logs", LogSettings(), ManualClock(NOW))
    await made.start()
    await made.append("acme", batch(LINES[:4]))
    made.flush()
    await made.append("acme", batch(LINES[4:]))
    yield made
    await made.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_both_ways_agree_on_series(store: LogStore, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    compared = 0
    for _ in range(80):
        text = metric(chance)
        asked = parse(text)
        assert not isinstance(asked, Pipeline)
        steps = chance.choice([Steps(NOW * S, S, 1), Steps((NOW - 90) * S, 7 * S, 14), Steps((NOW - 100) * S, 13 * S + 1, 5)])
        answers = []
        for way in (pushed, nothing_pushed):
            monkeypatch.setattr(evaluate, "pushed", way)
            answers.append(await answered(store, asked, steps))
        fast, slow = answers
        assert fast.keys() == slow.keys(), text
        for key, row in fast.items():
            np.testing.assert_allclose(row, slow[key], rtol=1e-9, atol=1e-9, err_msg=text)
        compared += bool(fast)
    assert compared >= 8, "enough of them have an answer"


async def answered(store: LogStore, asked: Metric, steps: Steps) -> dict[object, object]:
    try:
        found = await evaluate.evaluate(store, "acme", asked, steps)
    except VedetteError as error:
        return {"refused": np.zeros(0), type(error).__name__: np.zeros(0)}
    assert isinstance(found, dict)
    return dict(found)


async def test_both_ways_agree_on_lines(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    for _ in range(60):
        text = pipeline(chance)
        asked = parse(text)
        assert isinstance(asked, Pipeline)
        query = LogQuery(limit=chance.choice([1, 3, 100]), newest_first=chance.random() < 0.5)
        answers = []
        for way in (pushed, nothing_pushed):
            monkeypatch.setattr(evaluate, "pushed", way)
            answers.append([(one.seq, one.text, one.labels) for one in await evaluate.lines(store, "acme", asked, query)])
        assert answers[0] == answers[1], text
