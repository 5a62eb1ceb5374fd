"""Alerts passed on to real Alertmanagers: `alerting` of a Prometheus configuration, and `ALERTMANAGER_URL`.

As Prometheus does it: every alert goes to every Alertmanager, again and again while it fires; each Alertmanager has a
bounded queue of its own, so that one which hangs delays no other. Not here: service discovery of Alertmanagers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from vedette.clock import Clock
from vedette.errors import BadInput, Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import EMPTY, Labels
from vedette.model.relabel import RelabelConfig, relabel
from vedette.net.addresses import redacted_url
from vedette.net.client import HttpClient
from vedette.net.config import HttpConfig
from vedette.notify.alerting import AlertingConfig, AlertmanagerConfig
from vedette.notify.channels.posting import Http
from vedette.notify.held import rfc3339

log = structlog.get_logger(__name__)

QUEUE_CAPACITY = 10_000
MAX_BATCH = 256
_BACKOFF_S, _BACKOFF_MAX_S = 0.5, 30.0


@dataclass(slots=True)
class _Peer:
    """One Alertmanager with its queue. When the queue is full the oldest alerts go: the newer tell more."""

    url: str
    config: AlertmanagerConfig
    http: Http
    queue: deque[Alert] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0
    dropped: int = 0
    errors: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class PeerState:
    """One Alertmanager as it stands: alerts sent, dropped and waiting, failed requests, the last error ("" after a success)."""

    url: str
    sent: int
    dropped: int
    errors: int
    queued: int
    last_error: str


def _message(alert: Alert) -> dict[str, Any]:
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": rfc3339(alert.starts_at),
        "endsAt": rfc3339(alert.ends_at),
        "generatorURL": alert.generator_url,
    }


def outgoing(alerts: Sequence[Alert], configs: Sequence[RelabelConfig], external_labels: Labels) -> list[Alert]:
    """Alerts as they leave the house: with the external labels they lack, and after `alert_relabel_configs`, which may drop some."""
    found = []
    for alert in alerts:
        outside = {n: v for n, v in external_labels if not alert.labels.get(n)}
        labels = relabel(alert.labels.with_(outside) if outside else alert.labels, configs)
        if labels:
            found.append(alert if labels == alert.labels else replace(alert, labels=labels, known_fingerprint=""))
    return found


class Alertmanagers:
    """All Alertmanagers that alerts are passed on to."""

    def __init__(
        self,
        config: AlertingConfig,
        clock: Clock,
        http: Callable[[HttpConfig], Http] = HttpClient,
        *,
        external_labels: Labels = EMPTY,
        capacity: int = QUEUE_CAPACITY,
    ) -> None:
        self._clock, self._http, self._capacity = clock, http, capacity
        self._external_labels = external_labels
        self._relabel: Sequence[RelabelConfig] = ()
        self._peers: list[_Peer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._config = config

    async def start(self) -> None:
        """Begin to send."""
        self._open(self._config, self._external_labels)

    def _open(self, config: AlertingConfig, external_labels: Labels) -> None:
        self._relabel, self._external_labels = config.alert_relabel_configs, external_labels
        queued = {p.url: p for p in self._peers}
        self._peers = []
        for one in config.alertmanagers:
            for url in one.urls():
                peer = _Peer(url, one, self._http(one))
                if (before := queued.get(url)) is not None:
                    peer.queue, peer.sent, peer.dropped, peer.errors = before.queue, before.sent, before.dropped, before.errors
                self._peers.append(peer)
        self._tasks = [asyncio.create_task(self._feed(p), name=f"alertmanager {redacted_url(p.url)}") for p in self._peers]

    async def apply(self, config: AlertingConfig, *, external_labels: Labels) -> None:
        """Put a configuration in place of the one in force; what waits for an Alertmanager that stays goes on waiting."""
        await self._stop()
        self._open(config, external_labels)

    async def accept(self, alerts: Sequence[Alert]) -> None:
        """Queue news of alerts; returns at once."""
        passed = outgoing(alerts, self._relabel, self._external_labels)
        for peer in self._peers:
            self._queue(peer, passed)

    def _queue(self, peer: _Peer, alerts: Sequence[Alert]) -> None:
        peer.queue.extend(outgoing(alerts, peer.config.alert_relabel_configs, EMPTY))
        lost = len(peer.queue) - self._capacity
        if lost > 0:
            for _ in range(lost):
                peer.queue.popleft()
            peer.dropped += lost
            log.warning("alert queue full, oldest dropped", alertmanager=redacted_url(peer.url), dropped=lost)
        peer.news.set()

    async def _feed(self, peer: _Peer) -> None:
        pause = _BACKOFF_S
        while True:
            if not peer.queue:
                peer.news.clear()
                await peer.news.wait()
            batch = [peer.queue[i] for i in range(min(MAX_BATCH, len(peer.queue)))]
            wait = await self._offer(peer, batch, pause)
            if wait:
                pause = min(2 * pause, _BACKOFF_MAX_S)
                await self._clock.sleep(wait)
                continue
            pause = _BACKOFF_S
            # The queue may have lost its oldest meanwhile; what was handled is never handled again.
            handled = {id(a) for a in batch}
            while peer.queue and id(peer.queue[0]) in handled:
                peer.queue.popleft()

    async def _offer(self, peer: _Peer, batch: Sequence[Alert], pause: float) -> float:
        """One try: 0 where the batch is done with (taken, or refused for good), else the seconds to wait before the next."""
        try:
            await self._post(peer, batch)
        except (Undeliverable, BadInput) as error:
            peer.errors += 1
            peer.last_error = str(error)
            log.warning("alertmanager not reached", alertmanager=redacted_url(peer.url), alerts=len(batch), error=str(error))
            if isinstance(error, Undeliverable) and error.retryable:
                return max(pause, error.retry_after or 0.0)
            peer.dropped += len(batch)
        except Exception as error:
            # The loop's edge: a fault in one request must show, and must not end all later ones.
            peer.errors += 1
            peer.dropped += len(batch)
            peer.last_error = repr(error)
            log.exception("alerts not passed on", alertmanager=redacted_url(peer.url), alerts=len(batch))
        else:
            peer.sent += len(batch)
            peer.last_error = ""
        return 0.0

    async def _post(self, peer: _Peer, batch: Sequence[Alert]) -> None:
        answer = await peer.http.post_json(peer.url, [_message(a) for a in batch], timeout=peer.config.timeout / 1000)
        answer.check()

    def peers(self) -> list[PeerState]:
        """The Alertmanagers as they stand."""
        return [PeerState(redacted_url(p.url), p.sent, p.dropped, p.errors, len(p.queue), p.last_error) for p in self._peers]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self._peers:
            await peer.http.close()

    async def close(self) -> None:
        """Stop. What still waits is lost here; whoever raised it tells it again after the next start."""
        await self._stop()
