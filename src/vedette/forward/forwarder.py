"""One server to which everything stored is also sent: relabelled, queued on disk, sent until it has it.

A series is relabelled once, when it is met; after that a sample costs its place in a request. Only the default tenant's samples are
forwarded: remote write says nothing of tenants. Not here: which servers there are (`forwards.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from vedette.clock import Clock
from vedette.errors import BadInput, LimitExceeded
from vedette.forward.config import V2, RemoteWriteConfig
from vedette.model.labels import Labels
from vedette.model.relabel import relabel
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.tenants import DEFAULT_TENANT
from vedette.net.client import HttpClient
from vedette.storage.names import Names
from vedette.storage.queue import Item, Putter, Queue
from vedette.storage.remote.client import deliver
from vedette.storage.remote.writing import requests
from vedette.storage.sending import Sender, SendSettings

log = structlog.get_logger(__name__)

_I64 = np.int64
_UNKNOWN, _DROPPED = -2, -1
_FORGET_S = 3600.0
"""How often series are looked through for those that are gone: what was not stored twice between is."""


class _Renamed(Names):
    """The series as they are forwarded, by numbers; several of the stored ones may become one."""

    def register(self, keys: list[bytes]) -> NDArray[np.int64]:
        """The numbers of canonical keys."""
        offsets = np.zeros(len(keys) + 1, dtype=_I64)
        np.cumsum([len(k) for k in keys], out=offsets[1:])
        with self._lock:
            return self._series.register(DEFAULT_TENANT, np.frombuffer(bytearray().join(keys), dtype=np.uint8), offsets)[0]


class Forwarder:
    """Sends to one server. `start`, then `take` for each batch that was stored; `close` leaves the rest in the queue."""

    def __init__(self, config: RemoteWriteConfig, clock: Clock, directory: Path, *, limit: int, external_labels: Labels) -> None:
        self.config = config
        self.external_labels = external_labels
        self._http = HttpClient(config)
        queued = config.queue_config
        sending = SendSettings(
            max_samples=queued.max_samples_per_send, min_backoff_s=queued.min_backoff / 1000, max_backoff_s=queued.max_backoff / 1000
        )
        self.sender = Sender(self._post, clock, directory / "dead", sending)
        self.queue = Queue(directory / "queue", limit=limit, added=self.sender.add)
        self._putter = Putter(self.queue)
        self._names = _Renamed()
        # Held while series are learned and numbered, by one batch at a time.
        self._learning = threading.Lock()
        self._of: NDArray[np.int64] = np.zeros(0, dtype=_I64)
        self._told: dict[str, MetricMetadata] = {}
        self._clock = clock
        self._forget_again = clock.monotonic() + _FORGET_S
        self.dropped = 0
        """Samples that were stored and not forwarded, since the queue took no more."""

    async def start(self) -> None:
        """Read what is queued still, and begin to send. Raises `BadInput` where the queue cannot be read."""
        try:
            self.queue.directory.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(self.queue.open)
        except OSError as error:
            raise BadInput(f"the queue cannot be read: {error.strerror}", where=str(self.queue.directory)) from error
        self.sender.start(self.queue)

    async def _post(self, _tenant: str, body: bytes) -> None:
        config = self.config
        second = config.protobuf_message == V2
        await deliver(self._http, config.url, body, headers=config.request_headers, timeout_s=config.remote_timeout / 1000, second=second)

    async def take(self, batch: SampleBatch, appended: Appended) -> None:
        """Queue a batch that was stored; what its storage dropped by the row is left out. Never raises for a full queue: it counts."""
        if batch.keyspace.tenant != DEFAULT_TENANT:
            return
        metadata = [m for m in batch.metadata if self._told.get(m.metric) != m] if self.config.metadata_config.send else []
        items = await asyncio.to_thread(self._made, batch, appended.ids, metadata)
        if not items:
            return
        try:
            await self._putter.put(items)
        except LimitExceeded as error:
            if not self.dropped:
                log.error("stored samples are not forwarded", problem=str(error), remote=self.config.label)
            self.dropped += sum(item.samples for item in items)
            return
        self._told.update((m.metric, m) for m in metadata)

    def _made(self, batch: SampleBatch, ids: NDArray[np.int64], metadata: list[MetricMetadata]) -> list[Item]:
        if batch.histograms is not None and not self.config.send_native_histograms:
            good = np.ones(batch.sample_count, dtype=np.bool_)
            good[batch.histograms.at] = False
            batch = batch.only(good)
        with self._learning:
            self._forget()
            rows = self._rows(batch, ids)
            self._names.met(rows)
            return requests(self._names, batch, rows, self.config.queue_config.lanes, metadata)

    def _forget(self) -> None:
        """Now and then forget series that nobody stores any more; not while samples wait, which are in their series' lanes."""
        now = self._clock.monotonic()
        if now < self._forget_again or self.queue.samples:
            return
        self._forget_again = now + _FORGET_S
        numbers = self._names.forget_idle()
        if numbers is not None:
            known = self._of >= 0
            moved = numbers[self._of[known]]
            # Those that are gone are met again by their names, should they come back.
            self._of[known] = np.where(moved >= 0, moved, _UNKNOWN)

    def _rows(self, batch: SampleBatch, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each of a batch's rows as it is forwarded, below 0 where it is not."""
        most = int(ids.max(initial=-1)) + 1
        if most > len(self._of):
            grown = np.full(max(most, len(self._of) * 3 // 2), _UNKNOWN, dtype=_I64)
            grown[: len(self._of)] = self._of
            self._of = grown
        rows = np.where(ids >= 0, self._of[np.maximum(ids, 0)], _DROPPED) if len(self._of) else np.full(len(ids), _DROPPED, dtype=_I64)
        new = np.flatnonzero(rows == _UNKNOWN)
        if len(new) == 0:
            return rows
        if batch.ids is not None:
            # Met before this forwarder was there; its labels come with its next named sample.
            rows[new] = _DROPPED
            return rows
        keys, offsets = batch.keyspace.canonicalise(batch.buffer, batch.key_start[new], batch.key_end[new])
        raw, bounds = keys.tobytes(), offsets.tolist()
        renamed = [self._renamed(raw[lo:hi]) for lo, hi in itertools.pairwise(bounds)]
        self._of[ids[new]] = self._names.register(renamed)
        return np.where(ids >= 0, self._of[np.maximum(ids, 0)], _DROPPED)

    def _renamed(self, key: bytes) -> bytes:
        """A series' canonical key as it is forwarded, empty where it is not."""
        labels = Labels.decode(key)
        missing = {name: value for name, value in self.external_labels if not labels.get(name)}
        found = relabel(labels.with_(missing) if missing else labels, self.config.write_relabel_configs)
        return found.encode() if found is not None and found.metric else b""

    async def close(self) -> None:
        """Stop; what is queued is sent after the next start."""
        await self._putter.finish()
        await self.sender.close()
        await self._http.close()
        await asyncio.to_thread(self.queue.close)
