"""The life of a server: in which order its rooms start, take up changed settings, and close.

Nothing in this module computes, parses or stores. `uvicorn vedette.app:app` builds the server from the environment;
`vedette serve` builds it from the command line. Not here: which room is handed what (`rooms.py`), what is served (`listeners.py`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import platform
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from vedette import warm
from vedette.access.directory import Directory
from vedette.access.guard import may_listen
from vedette.api.status import Reloaded
from vedette.clock import Clock, SystemClock
from vedette.collect.host import host_target
from vedette.collect.own import own_target
from vedette.errors import BadInput, VedetteError
from vedette.listeners import Listeners
from vedette.logways import LogWays
from vedette.plan import Plan, waiting
from vedette.process import configure_logging
from vedette.rooms import Rooms
from vedette.settings import Settings, resolve
from vedette.storage import heap

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from vedette.records.database import Records

log = structlog.get_logger(__name__)

_FIRST_WORD_S, _NEXT_WORD_S = 1.0, 10.0  # how soon, and how often, a start that compiles says so


class House:
    """The running server. `lock`, then `start`; `close` at the end. `read` gives the settings anew at each reload."""

    def __init__(self, settings: Settings, *, clock: Clock, read: Callable[[], Settings]) -> None:
        heap.economise(os.environ)
        log_ways = LogWays(settings.vedette.logs, clock)
        configure_logging(settings.vedette.server.log_level, keep=log_ways.keep)
        self._read = read
        self._at_the_start = settings.vedette
        self._turn = asyncio.Lock()
        self._rooms = Rooms(Plan.of(settings), clock, log_ways)
        self._reloaded = Reloaded(True, self._rooms.started)
        self._listeners = Listeners(self._rooms, reload=self.reload, reloaded=lambda: self._reloaded)
        self._records: Records | None = None
        self._asked: asyncio.Task[None] | None = None
        self._rest: asyncio.Task[None] | None = None

    @property
    def plan(self) -> Plan:
        """What is in force."""
        return self._rooms.plan

    @property
    def registry(self) -> CollectorRegistry:
        """The server's own metrics."""
        return self._listeners.registry

    def lock(self) -> None:
        """Take the data directory. Raises `BadInput` where another process has it or it cannot be written."""
        self._rooms.storage.lock()

    async def start(self) -> None:
        """Replay the log, restore state, begin to scrape and to evaluate. Health answers meanwhile."""
        from vedette.records.database import Records

        rooms = self._rooms
        await rooms.storage.start()
        await rooms.exemplars.start()
        if rooms.logs is not None:
            await rooms.logs.start()
        records = self._records = rooms.dependencies.records = await Records.open_when_there(rooms.plan.settings.records_place)
        rooms.audit.open(records)
        await rooms.identities.open(Directory(records, rooms.clock))
        await rooms.alerting.start(records)
        await rooms.pushed.open(records)
        # On a new machine kernels are compiled now, those first that everybody needs: once it is ready, the server answers at once.
        rooms.compilers.open()
        warming = rooms.warming = warm.Warming(rooms.compilers, rooms.clock, rooms.closing.is_set)
        self._asked = asyncio.create_task(self._compile(warming.asked), name="warming")
        await self._compile(warming.writes)
        await self._apply(rooms.plan)
        for room in (rooms.tracing, rooms.tracker, rooms.pushed, rooms.health, rooms.updates, rooms.upkeep):
            room.start()
        await rooms.log_ways.start()
        await self._listen_besides(rooms.plan.settings)
        await self._compile(warming.answers)
        await self._asked
        rooms.ready = True
        rooms.compilers.tell()
        self._rest = asyncio.create_task(self._compile_rest(warming), name="warming")

    async def _compile_rest(self, warming: warm.Warming) -> None:
        if progress := warming.progress():
            log.info("ready; kernels that are needed less often are compiled meanwhile", compiled=str(progress))
        await asyncio.gather(*(self._compile(call) for call in warming.rest()))
        if warming.progress() and not self._rooms.closing.is_set():
            log.info("all kernels are compiled, and kept for the next start")
        await self._compile(warming.finish)
        self._rooms.warm = True

    async def _stop_warming(self) -> None:
        """Of a start that failed, too, what compiling was begun with ends here, on a thread: the interpreter's end could not do it."""
        if self._rest is not None:
            await self._rest
        elif self._asked is not None and self._rooms.warming is not None:
            await self._asked
            await self._compile(self._rooms.warming.finish)

    async def _compile(self, kernels: Callable[[], None]) -> None:
        """Compile kernels ahead of use, on a thread; where the disk does not allow it, their first users will."""
        try:
            await self._rooms.run_query(kernels)
        except (OSError, VedetteError) as error:
            if not self._rooms.closing.is_set():
                log.warning("kernels are not compiled ahead", reason=str(error))

    async def _apply(self, plan: Plan) -> None:
        """Put a plan in force: the one that is, at the start, or another. Raises `BadInput`."""
        rooms, settings = self._rooms, plan.settings
        again = plan is not rooms.plan
        if again:
            await self._apply_ways_in(settings)
        # First of all, so that nothing is stored that is not also forwarded.
        await rooms.forwards.apply(settings.forwards(), external_labels=settings.external_labels)
        if again:
            rooms.limits.replace(settings.vedette.limits)
            rooms.exemplars.resize(max(0, settings.config.storage.exemplars.max_exemplars))
            await rooms.alerting.tell(plan)
        await rooms.collector.apply(dataclasses.replace(plan.collect, internal=self._internal(plan)))
        rooms.plan = plan
        if again:
            await rooms.alerting.refresh()
            rooms.health.apply(settings.vedette.health)
        await rooms.alerting.put(at_once=False)

    def _internal(self, plan: Plan) -> tuple[Any, ...]:
        """The targets that are no other server's: this process, and the machine it runs on."""
        host = plan.settings.vedette.host
        own = own_target(self.registry, platform.node(), host.interval)
        if not host.enabled:
            return (own,)
        target = host_target(host.interval)
        # A job `node` of the operator's own keeps its name to itself: `sum by (job)` must not count this machine twice.
        taken = any(job.job_name == target.job for job in plan.collect.jobs)
        return own, dataclasses.replace(target, job="vedette_host") if taken else target

    async def _apply_ways_in(self, settings: Settings) -> None:
        """Put the settings of logs and of access in force. Raises `BadInput` where they would leave an open door, or none at all."""
        rooms, server, access = self._rooms, settings.vedette.server, settings.vedette.access
        may_listen(rooms.plan.settings.vedette.server.host, authenticated=access.authenticated, insecure=server.insecure)
        await rooms.log_ways.apply(settings.vedette.logs)
        await self._listen_besides(settings)
        if rooms.logs is not None:
            rooms.logs.apply(settings.vedette.logs)
        rooms.identities.apply(access)

    async def _listen_besides(self, settings: Settings) -> None:
        """Listen for what is pushed without HTTP as settings say. Raises `BadInput`."""
        await self._rooms.graphite.apply(settings.vedette.graphite)
        await self._rooms.statsd.apply(settings.vedette.statsd)

    async def reload(self) -> None:
        """Read all files again and put them in force; where one is bad, raise `BadInput` and keep what was."""
        async with self._turn:
            try:
                plan = await asyncio.to_thread(lambda: Plan.of(self._read()))
                if self._rooms.alerting.started:
                    await self._apply(plan)
            except BadInput:
                self._reloaded = dataclasses.replace(self._reloaded, success=False)
                raise
            self._reloaded = Reloaded(True, self._rooms.clock.now())
            log.info("configuration reloaded", file=str(plan.settings.path or "none"))
            if later := waiting(self._at_the_start, plan.settings.vedette):
                log.warning("settings that were changed and wait for the next start", settings=later)

    async def reload_quietly(self) -> None:
        """`reload` for a signal: a bad file is logged, with the reason, and the old one stays in force."""
        try:
            await self.reload()
        except VedetteError as error:
            log.error("configuration not reloaded, the old one stays in force", reason=str(error))

    async def close(self) -> None:
        """Stop in the order in which data flows, so that nothing is produced that nobody takes; flush; let go."""
        rooms = self._rooms
        rooms.ready = False
        rooms.closing.set()
        rooms.compilers.close()
        rooms.alerting.fall_silent()
        await rooms.identities.close()
        if rooms.counts is not None:
            await rooms.counts.close()
        for room in (
            rooms.tracing,
            rooms.collector,
            rooms.health,
            rooms.updates,
            rooms.upkeep,
            rooms.graphite,
            rooms.statsd,
            rooms.pushed,
            rooms.tracker,
            rooms.log_ways,
            rooms.logs,
            rooms.alerting,
            self._records,
            rooms.forwards,
            rooms.exemplars,
            rooms.storage,
        ):
            if room is not None:
                await room.close()
        await self._stop_warming()
        rooms.compilers.leave()
        rooms.let_threads_go()

    def announce(self, addresses: Sequence[tuple[str, int]], *, scheme: str = "http") -> None:
        """Say where the server can be reached."""
        urls = [f"{scheme}://{host}:{port}/" for host, port in addresses]
        log.info("serving", urls=urls, data=str(self.plan.settings.vedette.storage.data))

    async def explain_waiting(self, addresses: Sequence[tuple[str, int]], *, scheme: str = "http") -> None:
        """Until it is cancelled, say now and then what a start waits for: a silent terminal would look like a server that hangs."""
        urls = [f"{scheme}://{host}:{port}/" for host, port in addresses]
        pause = _FIRST_WORD_S
        while True:
            await self._rooms.clock.sleep(pause)
            if (found := self._rooms.compiling()) is not None:
                done, total, left = found
                progress = str(warm.Progress(done, total, left))
                log.info(
                    "a first start: kernels are compiled for this machine, once; the pages show how far it is", urls=urls, compiled=progress
                )
                pause = _NEXT_WORD_S

    def asgi(self, dialect: str | None = None) -> ASGIApp:
        """The application of one listener: a dialect's own, or (None) the union with the UI."""
        return self._listeners.asgi(dialect)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    house: House = app.state.house
    house.lock()
    await house.start()
    try:
        yield
    finally:
        await house.close()


def from_environment() -> ASGIApp:
    """The application of the main listener, settings from the environment and `vedette.yml`; starts with its lifespan."""

    def read() -> Settings:
        return resolve(environment=os.environ)

    house = House(read(), clock=SystemClock(), read=read)
    outer = Starlette(lifespan=_lifespan)
    outer.state.house = house
    outer.mount("/", house.asgi())
    return outer


def __getattr__(name: str) -> Any:
    # `uvicorn vedette.app:app` asks for it; importing this module must not read the environment.
    if name == "app":
        return from_environment()
    raise AttributeError(name)
