"""The server's alerting as a whole: rules of files and of the API, whom they tell, each tenant's own; over reloads and restarts."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from vedette.alerting import Alerting
from vedette.asking import Asking
from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch
from vedette.plan import Plan
from vedette.promql.engine import Engine
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings
from vedette.records.database import Records
from vedette.sdk import metrics_monitor
from vedette.settings import resolve

T0 = 1_700_000_000_000
OURS: dict[str, Any] = {"type": "http"}
THEIRS: dict[str, Any] = {"type": "http", "vedette.tenant": "team"}
ALERTMANAGER = "{route: {receiver: all, group_wait: 0s}, receivers: [{name: all}]}"
HOT = "{name: hot, rules: [{alert: Hot, expr: heat > 10, labels: {severity: page}}]}"


class House:
    """What alerting stands in: files in a directory, records, samples in memory, a clock."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.clock, self.ready = directory, ManualClock(T0 / 1000), False
        self.samples = MemoryStorage()
        self.engine = Engine(self.samples, PromqlSettings(), self.clock)  # type: ignore[arg-type]  # the read half suffices
        self.appended: list[SampleBatch] = []
        self.plan = self.read()

    def read(self, vedette: str = "", rules: str = "", **more: str) -> Plan:
        """The plan that these files make: settings, a rule file, and `alertmanager.yml`."""
        (self.directory / "rules.yml").write_text(f"groups: [{rules}]\n")
        (self.directory / "alertmanager.yml").write_text(more.get("alertmanager", ALERTMANAGER))
        head = "global: {external_labels: {dc: x}}\nrule_files: [rules.yml]\n"
        (self.directory / "v.yml").write_text(f"{head}vedette: {{{vedette}}}\n")
        plan = Plan.of(
            resolve(
                path=self.directory / "v.yml",
                environment={},
                dotenv=None,
                flags={("storage", "data"): self.directory / "data"},
                alertmanager_path=self.directory / "alertmanager.yml",
            )
        )
        # Without the alerts that every server has.
        return dataclasses.replace(plan, groups=tuple(g for g in plan.groups if g.file.endswith("rules.yml")))

    async def append(self, batch: SampleBatch) -> None:
        self.appended.append(batch)

    async def run(self, function: Any, *args: Any) -> Any:
        return function(*args)

    async def open(self) -> Alerting:
        self.records = await Records.open(self.directory / "vedette.db")
        self.alerting = Alerting(
            self.clock,
            asking=Asking(self.engine, self.samples, self.run, self.clock),
            append=self.append,
            plan=lambda: self.plan,
            ready=lambda: self.ready,
        )
        return self.alerting

    async def start(self) -> Alerting:
        alerting = await self.open()
        await alerting.start(self.records)
        await alerting.put(at_once=False)
        self.ready = True
        return alerting

    async def reload(self, plan: Plan) -> None:
        """As the server does: those who are told first, then what is in force, then the rules."""
        await self.alerting.tell(plan)
        self.plan = plan
        await self.alerting.refresh()
        await self.alerting.put(at_once=False)

    async def stop(self) -> None:
        self.alerting.fall_silent()
        await self.alerting.close()
        await self.records.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    if hasattr(made, "alerting"):
        await made.stop()
    made.engine.close()


def names(alerting: Alerting, request: dict[str, Any] = OURS) -> list[str]:
    return [group.name for group in alerting.groups_of(request)]


async def firing(alerting: Alerting, request: dict[str, Any] = OURS) -> list[Any]:
    """The alerts of the rules of whoever asks, once a rule that is evaluated at once has been."""
    async with asyncio.timeout(20):
        while not (found := [a for g in alerting.groups_of(request) for rule in g.rules for a in rule.alerts]):
            await asyncio.sleep(0)
    return found


async def test_before_the_start_whoever_asks_is_told_to_come_again(house: House) -> None:
    alerting = await house.open()
    assert not alerting.started
    for ask in (alerting.managed_of, alerting.notifier_of):
        with pytest.raises(LimitExceeded, match="starting") as refused:
            ask(OURS)
        assert refused.value.retry_after
    assert alerting.groups_of(OURS) == ()
    assert alerting.known_as("00ff") == "00ff"
    assert {reading.name for reading in alerting.readings()} >= {"vedette_rule_failures"}, "rules are counted from the first moment on"


async def test_rules_may_not_be_changed_before_the_server_is_open(house: House) -> None:
    alerting = await house.start()
    assert alerting.started
    assert alerting.managed_of(OURS).all() == []
    house.ready = False
    with pytest.raises(LimitExceeded, match="starting"):
        alerting.managed_of(OURS)


async def test_rules_of_files_and_of_the_api_stand_side_by_side_over_a_reload_and_a_restart(house: House) -> None:
    house.plan = house.read(rules="{name: filed, rules: [{record: a, expr: b}]}")
    alerting = await house.start()
    await alerting.managed_of(OURS).put("default", HOT, author="ann")
    assert names(alerting) == ["filed", "hot"]
    await house.reload(house.read(rules="{name: other, rules: [{record: a, expr: b}]}"))
    assert names(alerting) == ["other", "hot"]
    await house.stop()
    assert names(await house.start()) == ["other", "hot"]


async def test_an_alert_leaves_with_external_labels_and_is_found_by_the_name_it_had_before(house: House) -> None:
    house.samples.add(Labels.of(__name__="heat", room="1"), T0, 20.0)
    alerting = await house.start()
    await alerting.managed_of(OURS).put("default", HOT)
    (found,) = await firing(alerting)
    own = f"{found.labels.fingerprint():016x}"
    told = alerting.outgoing([Alert(found.labels, T0, 0)])[0]
    assert told.labels.get("dc") == "x"
    assert alerting.known_as(own) == told.fingerprint != own
    assert alerting.known_as("0123456789abcdef") == "0123456789abcdef", "what no rule fires is known by the name it was given"
    assert alerting.acknowledged(OURS, own) is None
    await alerting.notifier_of(OURS).accept([told])
    await alerting.notifier_of(OURS).acknowledge(told.fingerprint, author="ann", note="mine")
    acknowledged = alerting.acknowledged(OURS, own)
    assert acknowledged is not None
    assert acknowledged.author == "ann"
    assert alerting.acknowledged(OURS, "0123456789abcdef") is None


async def test_a_tenants_rules_are_nobody_elses(house: House) -> None:
    alerting = await house.start()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        await alerting.managed_of(THEIRS).put("default", HOT)

    assert alerting.groups_of(THEIRS) == ()
    with pytest.raises(LimitExceeded, match="starting"):
        alerting.notifier_of(THEIRS)
    await alerting.tenants.around(app)({**THEIRS, "path": "/api/v1/rules"}, None, None)  # type: ignore[arg-type]
    assert (names(alerting, THEIRS), names(alerting)) == (["hot"], [])
    assert alerting.notifier_of(THEIRS) is not alerting.notifier_of(OURS)


async def test_the_addresses_of_a_rule_join_those_of_the_configuration_and_leave_with_it(house: House) -> None:
    house.plan = house.read("notify: {email_server: 'mail:587', email_from: v@x.org}, rules: {private_webhooks: true}")
    alerting = await house.start()
    rules = alerting.managed_of(OURS)
    group = "{name: hot, rules: [{alert: Hot, expr: heat > 10}], notify: {email: [a@x.org], webhook: 'http://127.0.0.1:9/x'}}"
    await rules.put("default", group)
    config = alerting.whom()
    assert config is not None
    made = [r for r in config.receivers if r.email_configs]
    assert [(r.name, r.email_configs[0].to, r.webhook_configs[0].url) for r in made] == [
        ("vedette_notify: default/hot", "a@x.org", "http://127.0.0.1:9/x")
    ]
    await rules.delete("default", "hot")
    config = alerting.whom()
    assert config is not None
    assert [r.name for r in config.receivers] == ["all"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "http://[::1]/", "http://169.254.169.254/latest", "http://10.1.2.3/"])
async def test_a_rules_webhook_may_not_reach_inside_unless_the_operator_allows_it(house: House, url: str) -> None:
    alerting = await house.start()
    group = f"{{name: hot, rules: [{{alert: Hot, expr: heat > 10}}], notify: {{webhook: '{url}'}}}}"
    with pytest.raises(BadInput) as refused:
        await alerting.managed_of(OURS).put("default", group)
    assert (refused.value.where, "rules.private_webhooks" in refused.value.hint) == ("notify.webhook", True)
    assert names(alerting) == [], "what is refused is not kept"
    await house.reload(house.read("rules: {private_webhooks: true}"))
    await alerting.managed_of(OURS).put("default", group)
    assert names(alerting) == ["hot"]


@pytest.mark.parametrize(
    ("vedette", "alertmanager", "mails"),
    [
        ("", ALERTMANAGER, False),
        ("notify: {email_server: 'mail:587', email_from: v@x.org}", ALERTMANAGER, True),
        ("", "{global: {smtp_smarthost: 'm:25', smtp_from: v@x.org}, route: {receiver: all}, receivers: [{name: all}]}", True),
    ],
)
async def test_whether_there_is_a_mail_server(house: House, vedette: str, alertmanager: str, mails: bool) -> None:
    house.plan = house.read(vedette, alertmanager=alertmanager)
    assert (await house.open()).mails() is mails


async def test_this_process_hears_of_its_alerts_until_it_closes(house: House) -> None:
    heard: list[str] = []

    def hear(kind: str, data: dict[str, Any]) -> None:
        heard.append(data["labels"]["room"])

    house.samples.add(Labels.of(__name__="heat", room="1"), T0, 20.0)
    alerting = await house.start()
    metrics_monitor.add_alert_callback(hear)
    try:
        await alerting.managed_of(OURS).put("default", HOT)
        async with asyncio.timeout(20):
            while not heard:
                await asyncio.sleep(0.001)
        assert heard == ["1"]
    finally:
        metrics_monitor.remove_alert_callback(hear)
