"""Asks every dependency in the background and keeps what it said, so that a question about health is answered at once.

One task a dependency: one that hangs delays no other. What is found is stored as series, so that it can be alerted on. Not
here: how each kind is asked (`probes`), the shapes of the answers (`api`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import VedetteError
from vedette.health.check import DEGRADED, HEALTHY, UNHEALTHY, Finding, Probe, State, step
from vedette.health.probes import local, postgres, redis, web
from vedette.health.settings import CheckSettings, HealthSettings
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.model.tenants import DEFAULT_TENANT

UP = "vedette_health_up"
LATENCY = "vedette_health_latency_seconds"
JOB = "vedette_health"

_PROBES: dict[str, Callable[[str, float], Awaitable[Finding]]] = {
    "http": web.http,
    "tcp": web.tcp,
    "llm": web.llm,
    "redis": redis.redis,
    "postgres": postgres.postgres,
    "process": local.process,
    "port": local.port,
    "unit": local.unit,
}
_VALUES = {HEALTHY: 1.0, DEGRADED: 0.5, UNHEALTHY: 0.0}
log = structlog.get_logger(__name__)


class Watch:
    """The dependencies and their states. `start` begins, `apply` takes other settings up, `close` ends. One event loop's.

    `append` stores what was found; `own` are probes of the house's own rooms, by name, which come before settings.
    """

    def __init__(
        self,
        settings: HealthSettings,
        clock: Clock,
        append: Callable[[SampleBatch], Awaitable[Any]],
        *,
        own: Mapping[str, Probe] | None = None,
    ) -> None:
        self._settings, self._clock, self._append = settings, clock, append
        self._own = dict(own or {})
        self._keyspace = canonical(DEFAULT_TENANT)
        self._states: dict[str, State] = {}
        self._tasks: dict[str, tuple[CheckSettings | None, asyncio.Task[None]]] = {}
        self.failures = 0
        """Findings that could not be stored."""

    def states(self) -> list[State]:
        """The state of each dependency, in the order of the settings."""
        return list(self._states.values())

    def state(self, name: str) -> State | None:
        """The state of one, None where it is not configured."""
        return self._states.get(name)

    def start(self) -> None:
        """Begin to ask."""
        self.apply(self._settings)

    def apply(self, settings: HealthSettings) -> None:
        """Ask what these settings name from now on; what they leave as it was goes on."""
        timing = (settings.interval, settings.timeout) != (self._settings.interval, self._settings.timeout)
        self._settings = settings
        wanted: dict[str, CheckSettings | None] = {**dict.fromkeys(self._own), **settings.all_checks()}
        for name, (check, task) in list(self._tasks.items()):
            if timing or name not in wanted or wanted[name] != check:
                task.cancel()
                del self._tasks[name]
        states = {name: self._states.get(name) for name in wanted}
        self._states = {}
        for name, check in wanted.items():
            kind, old = check.kind if check else "own", states[name]
            self._states[name] = old if old is not None and name in self._tasks else State(name, kind)
            if name not in self._tasks:
                probe = self._own[name] if check is None else self._probe(check)
                self._tasks[name] = (check, asyncio.create_task(self._run(name, probe), name=f"health {name}"))

    def _probe(self, check: CheckSettings) -> Probe:
        ask, seconds = _PROBES[check.kind], self._settings.timeout / 1000
        return lambda: ask(check.target, seconds)

    async def _run(self, name: str, probe: Probe) -> None:
        while True:
            await self.ask(name, probe)
            await self._clock.sleep(self._settings.interval / 1000)

    async def ask(self, name: str, probe: Probe) -> None:
        """Ask one dependency now."""
        seconds, began = self._settings.timeout / 1000, self._clock.monotonic()
        try:
            async with asyncio.timeout(seconds + 1):
                finding = await probe()
        except TimeoutError:
            finding = Finding(UNHEALTHY, f"no answer within {seconds:g}s")
        except VedetteError as error:
            finding = Finding(UNHEALTHY, str(error))
        except Exception as error:
            log.exception("a probe failed", component=name)
            finding = Finding(UNHEALTHY, type(error).__name__)
        before = self._states.get(name)
        if before is None:
            return
        after = step(before, finding, at=self._clock.now(), latency_s=self._clock.monotonic() - began)
        self._states[name] = after
        if after.status != before.status:
            log.info("health changed", component=name, status=after.status, before=before.status, reason=after.reason)
        await self._store(after)

    async def _store(self, state: State) -> None:
        labels = [Labels.of({METRIC_NAME: metric, "job": JOB, "component": state.name}) for metric in (UP, LATENCY)]
        values = [_VALUES[state.status], state.latency_s or 0.0]
        try:
            await self._append(SampleBatch.of(self._keyspace, labels, [now_ms(self._clock)] * 2, values))
        except VedetteError as error:
            self.failures += 1
            log.warning("what a probe found is not stored", component=state.name, reason=str(error))

    async def close(self) -> None:
        """Ask no more."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
