"""The five default alerts: quiet on a healthy machine, each shown to fire, thresholds as arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vedette import configfile
from vedette.errors import BadInput
from vedette.rules.aliases import CPU_BUSY
from vedette.rules.defaults import default_groups
from vedette.rules.files import load
from vedette.rules.settings import Thresholds

MINUTE = 60_000
NAMES = ["HighCPUUsage", "HighMemoryUsage", "HighDiskUsage", "HighErrorRate", "SlowResponseTime"]


def machine(world: Any, *, cpu: float = 0.1, memory: float = 0.1, disk: float = 0.1, errors: float = 0.0, seconds: float = 0.1) -> None:
    """Ten minutes of a machine and its requests, samples each 15 s; the arguments are shares, and seconds a request."""
    for at in range(0, 10 * MINUTE + 1, 15_000):
        t = at / 1000
        for mode, share in (("idle", 1 - cpu), ("user", cpu)):
            for n in "01":
                world.put(at, t * share, __name__="node_cpu_seconds_total", cpu=n, mode=mode, instance="a", job="node")
        world.put(at, 100 * (1 - memory), __name__="node_memory_MemAvailable_bytes", instance="a", job="node")
        world.put(at, 100, __name__="node_memory_MemTotal_bytes", instance="a", job="node")
        for mount, fstype, share in (("/", "ext4", disk), ("/snap/x", "squashfs", 1.0), ("/run", "tmpfs", 0.99)):
            labels = {"mountpoint": mount, "fstype": fstype, "device": "d", "instance": "a", "job": "node"}
            world.put(at, 100 * (1 - share), __name__="node_filesystem_avail_bytes", **labels)
            world.put(at, 100, __name__="node_filesystem_size_bytes", **labels)
        for status, share in (("200", 1 - errors), ("500", errors)):
            world.put(at, 10 * t * share, __name__="botserver_requests_total", method="GET", status=status, instance="a")
        world.put(at, 10 * t * seconds, __name__="botserver_request_duration_seconds_sum", instance="a")
        world.put(at, 10 * t, __name__="botserver_request_duration_seconds_count", instance="a")


async def firing(world: Any, thresholds: Thresholds | None = None) -> list[Any]:
    await world.start(default_groups(thresholds))
    for at in range(8 * MINUTE, 10 * MINUTE + 1, 15_000):
        await world.tick(at)
    for rule in world.rules.groups()[0].rules:
        assert rule.health == "ok", rule.last_error
    return [a for batch in world.emitted for a in batch]


async def test_quiet_on_a_healthy_machine(world: Any) -> None:
    machine(world)
    assert await firing(world) == []
    assert [r.name for r in world.rules.groups()[0].rules] == NAMES


async def test_a_machine_is_as_busy_as_it_is_from_its_second_sample_on(world: Any) -> None:
    """`rate` divides by its whole window: of a machine that is new here, the minutes before would count as busy ones, and be told of."""
    machine(world, cpu=0.5)
    await world.start(default_groups())
    for at in range(0, 3 * MINUTE + 1, 15_000):
        await world.tick(at)
        assert not world.rules.groups()[0].rules[0].alerts, f"not even pending after {at // 1000} s"
    assert world.value(15_000, CPU_BUSY) == {'{instance="a", job="node"}': pytest.approx(50.0)}


FIRES = [
    ({"cpu": 0.9}, "HighCPUUsage", "CPU usage on a is 90.0 %, above 80 %, for more than a minute."),
    ({"memory": 0.85}, "HighMemoryUsage", "Memory usage on a is 85.0 %, above 80 %, for more than a minute."),
    ({"disk": 0.81}, "HighDiskUsage", "/ on a is 81.0 % full, above 80 %."),
    ({"errors": 0.06}, "HighErrorRate", "6% of the requests on a fail with a 5xx status, above 5 %."),
    ({"seconds": 1.5}, "SlowResponseTime", "Requests on a take 1.5s on average, above 1s."),
]


@pytest.mark.parametrize(("state", "name", "description"), FIRES)
async def test_each_fires_and_reads_well(world: Any, state: dict[str, float], name: str, description: str) -> None:
    machine(world, **state)
    alerts = await firing(world)
    assert {a.labels.get("alertname") for a in alerts} == {name}
    assert alerts[0].annotations.get("description") == description
    assert alerts[0].labels.get("severity") in ("warning", "critical")
    assert "cpu" not in dict(alerts[0].labels)


async def test_thresholds_are_arguments(world: Any) -> None:
    machine(world, cpu=0.9, memory=0.85, disk=0.81, errors=0.06, seconds=1.5)
    high = Thresholds(cpu=95, memory=95, disk=95, error_rate=0.5, response_time=2.5)
    assert await firing(world, high) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu: 101", "not a percentage: '101'"),
        ("memory: much", "not a threshold: 'much'"),
        ("error_rate: 5", "not a ratio: '5' (expected a number from 0 to 1, such as 0.05 for 5 %)"),
        ("response_time: -1", "not a threshold: '-1'"),
        ("disk: nan", "not a threshold: 'nan'"),
    ],
)
def test_bad_thresholds_are_refused(text: str, expected: str) -> None:
    with pytest.raises(BadInput) as refused:
        configfile.parse(text, Thresholds, name="f")
    assert expected in str(refused.value)


def test_the_file_in_alerts_says_the_same() -> None:
    (shipped,) = load(Path(__file__).parents[2] / "alerts/defaults.yml")
    (built,) = default_groups()
    assert shipped.name == built.name
    assert shipped.interval_ms == built.interval_ms
    assert shipped.rules == built.rules
