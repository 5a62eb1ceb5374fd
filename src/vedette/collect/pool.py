"""The targets of one job: found by its sources, kept in step with one scrape loop each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from vedette.clock import Clock, now_ms
from vedette.collect.config import FileDiscoveryConfig, HttpDiscoveryConfig, InternalTarget, ScrapeConfig
from vedette.collect.discovery import FileSource, Found, HttpSource, Source, expand
from vedette.collect.families import Families
from vedette.collect.fetch import http_fetch, read_fetch
from vedette.collect.native import NativeSettings
from vedette.collect.scrape import Append, ScrapeLoop, ScrapeSettings
from vedette.collect.series import SeriesRules
from vedette.collect.targets import DroppedTarget, Target, targets_of
from vedette.errors import BadInput, Undeliverable
from vedette.model.labels import Labels
from vedette.model.samples import KeySpace
from vedette.net.client import HttpClient

_log = structlog.get_logger(__name__)

_TargetKey = tuple[Labels, str]


@dataclass(frozen=True, slots=True)
class Means:
    """What every pool works with: where samples go, the time, the key space of reports, whose scrapes they are, whether start
    timestamps are wanted, metadata."""

    append: Append
    clock: Clock
    report_keys: KeySpace
    mark: str
    starts: bool = False
    families: Families = field(default_factory=Families)


@dataclass(slots=True)
class _Running:
    loop: ScrapeLoop
    task: asyncio.Task[None]
    spec: tuple[ScrapeConfig, int, int] | InternalTarget


def _start(loop: ScrapeLoop, spec: tuple[ScrapeConfig, int, int] | InternalTarget) -> _Running:
    return _Running(loop, asyncio.create_task(loop.run(), name=f"scrape {loop.state.url}"), spec)


async def _stop(running: Sequence[_Running]) -> None:
    for entry in running:
        entry.task.cancel()
    await asyncio.gather(*(entry.task for entry in running), return_exceptions=True)
    for entry in running:
        entry.loop.close()


_SourceConfig = FileDiscoveryConfig | HttpDiscoveryConfig


@dataclass(slots=True)
class _Known:
    """A source and the targets it last gave."""

    config: _SourceConfig
    source: Source
    found: Found = field(default_factory=list)


class Pool:
    """One of `scrape_configs` at work."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._config: ScrapeConfig | None = None
        self._client = HttpClient()
        self._running: dict[_TargetKey, _Running] = {}
        self._sources: list[_Known] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        self.dropped: list[DroppedTarget] = []
        self.dropped_count = 0
        self.failures = 0

    @property
    def loops(self) -> list[ScrapeLoop]:
        """The loops at work."""
        return [entry.loop for entry in self._running.values()]

    async def apply(self, config: ScrapeConfig) -> None:
        """Work by this configuration (filled in) from now on; targets that it does not change go on undisturbed."""
        old, self._config = self._config, config
        if old == config:
            return
        client = self._client
        if old is None or _asking(old) != _asking(config):
            self._client = HttpClient(config)
        if old is None or (old.file_sd_configs, old.http_sd_configs) != (config.file_sd_configs, config.http_sd_configs):
            await self._rewatch(config)
        await self._sync()
        if client is not self._client:
            await client.close()

    async def close(self, *, gone: bool) -> None:
        """Stop. `gone` says that the job was taken out of the configuration, so its series turn stale; at shutdown they do not."""
        await self._unwatch()
        for known in self._sources:
            await known.source.close()
        async with self._turn:
            running, self._running = list(self._running.values()), {}
            await _stop(running)
            if gone:
                stamp = now_ms(self._means.clock)
                await asyncio.gather(*(entry.loop.bury(stamp) for entry in running))
        await self._client.close()

    async def _rewatch(self, config: ScrapeConfig) -> None:
        """Watch the sources of `config`; those that were watched before keep what they know."""
        await self._unwatch()
        before, self._sources = self._sources, []
        wanted: list[_SourceConfig] = [*config.file_sd_configs, *config.http_sd_configs]
        for given in wanted:
            known = next((k for k in before if k.config == given), None)
            if known is None:
                known = _Known(given, FileSource(given) if isinstance(given, FileDiscoveryConfig) else HttpSource(given))
            else:
                before.remove(known)
            self._sources.append(known)
        for known in before:
            await known.source.close()
        for known in self._sources:
            if isinstance(known.source, FileSource):
                await self._look(known)  # files are there at once, a URL may take its time
        self._watchers = [asyncio.create_task(self._watch(known), name="discovery") for known in self._sources]

    async def _unwatch(self) -> None:
        watchers, self._watchers = self._watchers, []
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    async def _watch(self, known: _Known) -> None:
        while True:
            try:
                if await self._look(known):
                    await self._sync()
            except Exception as error:  # noqa: BLE001 - the loop's edge: discovery must outlive whatever one look did
                self.failures += 1
                _log.exception("discovery broke", error=str(error))
            await self._means.clock.sleep(known.source.interval_ms / 1000)

    async def _look(self, known: _Known) -> bool:
        """Ask a source; whether it knows something new."""
        source, before = known.source, known.source.problem
        try:
            found = await source.groups()
        except (BadInput, Undeliverable) as error:
            source.problem, found = str(error), None
        if source.problem and source.problem != before:
            assert self._config is not None
            self.failures += 1
            _log.warning("discovery failed", job=self._config.job_name, error=source.problem)
        if found is None or found == known.found:
            return False
        known.found = found
        return True

    async def _sync(self) -> None:
        """Bring the loops in step with the targets: stop, hand over, start, bury."""
        async with self._turn:
            config = self._config
            assert config is not None
            found = expand(config.static_configs)
            for known in self._sources:
                found += known.found
            targets, dropped = targets_of(config, found)
            self.dropped_count = len(dropped)
            self.dropped = dropped[: config.keep_dropped_targets or None]
            spec = _asking(config)
            wanted: dict[_TargetKey, Target] = {(t.labels, t.url): t for t in targets}
            stays = {k for k, r in self._running.items() if k in wanted and r.spec == (spec, wanted[k].interval_ms, wanted[k].timeout_ms)}
            stopped = [r for k, r in self._running.items() if k not in stays]
            self._running = {k: r for k, r in self._running.items() if k in stays}
            await _stop(stopped)
            heirs = {r.loop.target.labels: r.loop for r in stopped}
            for key, target in wanted.items():
                if key in stays:
                    self._running[key].loop.state.discovered = target.discovered
                    continue
                loop = self._loop(config, target)
                if (before := heirs.pop(target.labels, None)) is not None:
                    loop.inherit(before)
                self._running[key] = _start(loop, (spec, target.interval_ms, target.timeout_ms))
            limit = config.target_limit or 0
            over = f"target_limit exceeded (number of targets: {len(wanted)}, limit: {limit})" if limit and len(wanted) > limit else ""
            for entry in self._running.values():
                entry.loop.forced_error = over
            stamp = now_ms(self._means.clock)
            await asyncio.gather(*(loop.bury(stamp) for loop in heirs.values()))

    def _loop(self, config: ScrapeConfig, target: Target) -> ScrapeLoop:
        settings = ScrapeSettings(
            sample_limit=config.sample_limit or 0,
            honor_timestamps=config.honor_timestamps,
            track_timestamps=config.track_timestamps_staleness,
            extra_report=bool(config.extra_scrape_metrics),
            native=NativeSettings.of(config),
            starts=self._means.starts,
        )
        return ScrapeLoop(
            config.job_name,
            target,
            SeriesRules.of(config, target.labels),
            settings,
            fetch=http_fetch(self._client, config, target, mark=self._means.mark),
            append=self._means.append,
            clock=self._means.clock,
            report_keys=self._means.report_keys,
            families=self._means.families,
        )


def _asking(config: ScrapeConfig) -> ScrapeConfig:
    """The part of a configuration that a running loop depends on; the rest shows in its target."""
    return replace(
        config,
        static_configs=(),
        file_sd_configs=(),
        http_sd_configs=(),
        relabel_configs=(),
        params={},
        scrape_interval=None,
        scrape_timeout=None,
        target_limit=None,
        keep_dropped_targets=None,
    )


class InternalPool:
    """The expositions of this process, each with a loop of its own."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._running: dict[tuple[str, str], _Running] = {}

    @property
    def loops(self) -> list[ScrapeLoop]:
        """The loops at work."""
        return [entry.loop for entry in self._running.values()]

    async def apply(self, targets: Sequence[InternalTarget]) -> None:
        """Read these from now on; unchanged ones go on undisturbed, those left out turn stale."""
        wanted = {(t.job, t.instance): t for t in targets}
        gone = [r for k, r in self._running.items() if k not in wanted or r.spec != wanted[k]]
        await _stop(gone)
        self._running = {k: r for k, r in self._running.items() if r not in gone}
        heirs = {r.loop.target.labels: r.loop for r in gone}
        for key, target in wanted.items():
            if key not in self._running:
                loop = self._loop(target)
                if (before := heirs.pop(loop.target.labels, None)) is not None:
                    loop.inherit(before)
                self._running[key] = _start(loop, target)
        stamp = now_ms(self._means.clock)
        await asyncio.gather(*(loop.bury(stamp) for loop in heirs.values()))

    async def close(self) -> None:
        """Stop; nothing turns stale, as at any shutdown."""
        running, self._running = list(self._running.values()), {}
        await _stop(running)

    def _loop(self, given: InternalTarget) -> ScrapeLoop:
        labels = Labels.of(job=given.job, instance=given.instance)
        timeout = min(10_000, given.interval_ms)
        target = Target(labels, f"internal://{given.job}", given.interval_ms, timeout, labels)
        return ScrapeLoop(
            given.job,
            target,
            SeriesRules(labels),
            ScrapeSettings(at_once=True),
            fetch=read_fetch(given.read, timeout),
            append=self._means.append,
            clock=self._means.clock,
            report_keys=self._means.report_keys,
            families=self._means.families,
        )
