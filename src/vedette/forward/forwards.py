"""The servers to which everything stored is also sent: made, kept and let go of as the configuration says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from vedette.clock import Clock
from vedette.forward.config import ForwardSettings, RemoteWriteConfig
from vedette.forward.forwarder import Forwarder
from vedette.model.labels import EMPTY, Labels
from vedette.model.samples import Appended, SampleBatch

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ForwardState:
    """How forwarding to one server goes; counts since the start, in samples unless the name says otherwise."""

    name: str
    url: str
    queued: int
    queue_bytes: int
    sent: int
    retries: int
    dead: int
    dropped: int
    problem: str


class Forwards:
    """All forwarders, their queues below `directory`."""

    def __init__(self, clock: Clock, directory: Path, settings: ForwardSettings) -> None:
        self._clock = clock
        self._directory = directory
        self._settings = settings
        self._all: dict[str, Forwarder] = {}

    async def apply(self, configs: Sequence[RemoteWriteConfig], *, external_labels: Labels = EMPTY) -> None:
        """Put these in force: what is unchanged goes on, what is gone is closed, its queue left for when it comes back."""
        wanted = {config.label: config for config in configs}
        for name, running in list(self._all.items()):
            if wanted.get(name) != running.config or running.external_labels != external_labels:
                del self._all[name]
                await running.close()
                if name not in wanted and running.queue.samples:
                    log.warning("samples are queued for a server that is configured no more", remote=name, samples=running.queue.samples)
        for name, config in wanted.items():
            if name not in self._all:
                made = Forwarder(
                    config, self._clock, self._directory / name, limit=self._settings.queue_size, external_labels=external_labels
                )
                await made.start()
                self._all[name] = made

    async def take(self, batch: SampleBatch, appended: Appended) -> None:
        """Queue a batch that was stored, for every server."""
        for forwarder in list(self._all.values()):
            await forwarder.take(batch, appended)

    def states(self) -> list[ForwardState]:
        """How it goes, by name."""
        return [
            ForwardState(
                name=name,
                url=f.config.shown_url,
                queued=f.queue.samples,
                queue_bytes=f.queue.nbytes,
                sent=f.sender.sent.samples,
                retries=f.sender.sent.retries,
                dead=f.sender.sent.refused_samples,
                dropped=f.dropped,
                problem=f.sender.problem,
            )
            for name, f in sorted(self._all.items())
        ]

    async def close(self) -> None:
        """Stop; what is queued is sent after the next start."""
        running, self._all = list(self._all.values()), {}
        await asyncio.gather(*(f.close() for f in running))
