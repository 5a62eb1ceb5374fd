"""Backtests over HTTP: bodies of every shape, lines of progress, who would have been told, what is refused; the command line's view."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from vedette.api import backtest
from vedette.api.backtest import Backtesting, Busy, Situation, endpoints
from vedette.api.endpoint import routes
from vedette.cli.rules import bar, shares
from vedette.errors import NotFound
from vedette.model.labels import EMPTY, Labels
from vedette.model.matchers import Matcher
from vedette.notify.config import parse
from vedette.notify.silence import Silence
from vedette.promql.engine import Engine
from vedette.promql.settings import PromqlSettings
from vedette.rules.managed import Defaults

PATH = backtest.PATH
RULE = {"alert": "High", "expr": "m > 10", "for": "2m", "annotations": {"summary": "{{ $value }}"}}
CONFIG = "{route: {receiver: all, group_wait: 30s, group_interval: 1m}, receivers: [{name: all, webhook_configs: [{url: 'http://x/'}]}]}"


class Room:
    """The endpoint over half an hour of one series that is high for ten minutes."""

    def __init__(self, storage: Any, clock: Any, run: Any, serve: Callable[..., httpx.AsyncClient]) -> None:
        self.now = int(clock.now() * 1000)
        for minute in range(31):
            storage.put(Labels.of(__name__="m", i="a"), (self.now - (30 - minute) * 60_000, 20.0 if 10 <= minute < 20 else 1.0))
        self.engine = Engine(storage, PromqlSettings(), clock)
        self.silences: list[Silence] = []
        self.config: Any = parse(CONFIG)
        self.busy = Busy()
        room = Backtesting(self.queries, self.situation, Defaults, run, clock, self.busy)
        self.client = serve(routes(endpoints(room)))

    def queries(self, scope: Any) -> Any:
        if any(name == b"x-scope-orgid" for name, _ in scope["headers"]):
            raise NotFound("no such tenant")
        return self

    def situation(self, _: Any) -> Situation:
        return Situation(self.config, self.silences, EMPTY, "http://v", list)

    def range(self, *asked: Any) -> Any:
        return self.engine.range("default", *asked)

    def instant(self, expr: str, at: int) -> Any:
        return [(labels, values[-1]) for labels, _, values in self.engine.instant("default", expr, at).rows()]


@pytest.fixture
def room(storage: Any, clock: Any, run: Any, serve: Any) -> Any:
    made = Room(storage, clock, run, serve)
    yield made
    made.engine.close()


@pytest.mark.parametrize("shape", ["rule", "group", "file", "yaml"])
async def test_firings_and_notifications(room: Room, shape: str) -> None:
    group = {"name": "g", "interval": "1m", "rules": [RULE]}
    body: Any = {"rule": RULE, "group": group, "file": {"groups": [group]}}.get(shape)
    content = (
        json.dumps(body) if body else "name: g\nrules:\n- {alert: High, expr: m > 10, for: 2m, annotations: {summary: '{{ $value }}'}}\n"
    )
    answer = await room.client.post(PATH, content=content, params={"since": "30m"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    (rule,) = found["rules"]
    assert {k: rule[k] for k in ("name", "expr", "evaluations", "failures", "fired", "pending_only")} == {
        "name": "High",
        "expr": "m > 10",
        "evaluations": 31,
        "failures": 0,
        "fired": 1,
        "pending_only": 0,
    }
    assert rule["firings"] == [
        {
            "labels": {"alertname": "High", "i": "a"},
            "annotations": {"summary": "20"},
            "value": 20.0,
            "pending_at": "2023-11-14T21:53:20Z",
            "fired_at": "2023-11-14T21:55:20Z",
            "resolved_at": "2023-11-14T22:03:20Z",
        }
    ]
    told = [(n["at"], n["receiver"], n["channel"], n["status"], n["why"]) for n in found["notifications"]]
    assert told == [
        ("2023-11-14T21:55:50Z", "all", "webhook/0", "firing", "first notification"),
        ("2023-11-14T22:03:50Z", "all", "webhook/0", "resolved", "all alerts resolved"),
    ]
    assert (found["notification_count"], found["muted"], found["configured"]) == (2, [], True)


async def test_silences_in_force_keep_quiet(room: Room) -> None:
    room.silences = [Silence((Matcher("i", "=", "a"),), room.now - 3_600_000, room.now + 3_600_000, id="s")]
    found = (await room.client.post(PATH, json=RULE, params={"since": "30m"})).json()
    assert found["notifications"] == []
    assert [(m["stage"], m["reason"]) for m in found["muted"]] == [("silenced", "silenced by s")]


async def test_without_receivers_only_the_firings_are_told(room: Room) -> None:
    room.config = None
    found = (await room.client.post(PATH, json=RULE, params={"since": "30m"})).json()
    assert (found["configured"], found["notifications"], found["rules"][0]["fired"]) == (False, [], 1)


async def test_lines_tell_how_far_it_is(room: Room) -> None:
    answer = await room.client.post(PATH, json=RULE, params={"since": "30m"}, headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert all("progress" in line for line in lines[:-1])
    assert lines[-2]["progress"] == {"done": 31, "total": 31, "rule": ""}
    assert lines[-1]["result"]["rules"][0]["fired"] == 1
    with room.busy.taken():
        busy = await room.client.post(PATH, json=RULE, headers={"Accept": "application/x-ndjson"})
        assert json.loads(busy.text.splitlines()[-1]) == {"error": "another backtest is under way"}
        plain = await room.client.post(PATH, json=RULE)
        assert (plain.status_code, plain.headers["retry-after"]) == (503, "5")


REFUSED = [
    ("[]", {}, "expected a rule, a group, or a rule file"),
    ("", {}, "expected a rule, a group, or a rule file"),
    ("{alert: A, expr: 'up =='}", {}, "could not parse expression"),
    ("{record: a, expr: up}", {}, "no alerting rule"),
    ("{alert: A, expr: up}", {"since": "soon"}, "cannot parse"),
    ("{alert: A, expr: up}", {"start": "x"}, "cannot parse"),
    ("{alert: A, expr: up}", {"start": "5", "since": "1d"}, "only one of start and since"),
    ("{alert: A, expr: up}", {"start": "9", "end": "5"}, "the start is not before the end"),
    ("{alert: A, expr: up, interval: 1s}", {"since": "30d"}, "2592001 evaluations of one rule"),
]


@pytest.mark.parametrize(("body", "params", "problem"), REFUSED)
async def test_what_is_refused(room: Room, body: str, params: dict[str, str], problem: str) -> None:
    answer = await room.client.post(PATH, content=body, params=params)
    assert answer.status_code in (422, 429)
    assert problem in answer.text


async def test_another_tenants_history_is_not_there(room: Room) -> None:
    assert (await room.client.post(PATH, json=RULE, headers={"X-Scope-OrgID": "other"})).status_code == 404


def test_the_timeline_shows_how_much_of_the_time_it_fires() -> None:
    assert shares([(0, 5), (3, 10), (25, 30)], 0, 40, 4) == [1.0, 0.0, 0.5, 0.0]
    assert bar([0, 0.001, 0.5, 1]) == " ▁▄█"
