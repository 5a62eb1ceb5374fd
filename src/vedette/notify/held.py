"""The alerts that notifications know of: how news of an alert joins what is held of it. Pure.

Rules (and peers that speak Alertmanager's API) tell an alert again and again; each time its end moves on. Not here:
where they are kept (`notifier.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from vedette.kernels.fingerprints import fnv1a
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.records.rows import HeldAlertRow

_FEW = 64
"""Below so many fingerprints, calling the kernel costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Held:
    """An alert with when it was last told of; `timeout` says that its end is only assumed, `number` is its record's."""

    alert: Alert
    updated_at: int
    timeout: bool = False
    number: int = field(default=0, compare=False)
    _json: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def json(self) -> bytes:
        """The alert as Alertmanager's API writes it, up to what depends on the moment: an object not closed yet.

        Written once: lists of a hundred thousand alerts are asked for again and again.
        """
        if not self._json:
            object.__setattr__(self, "_json", _json(self))
        return self._json

    def resolved(self, now: int) -> bool:
        """Whether it has ended at `now`."""
        return self.alert.ends_at <= now


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"


def rfc3339(ms: int) -> str:
    """A time as Go's RFC3339Nano in UTC: trailing zeros of the fraction are left out."""
    second, rest = divmod(ms, 1000)
    if not rest:
        return f"{_second(second)}Z"
    fraction = f".{rest:03d}".rstrip("0")
    return f"{_second(second)}{fraction}Z"


def _json(held: Held) -> bytes:
    alert = held.alert
    return b'{"annotations":%b,"endsAt":"%b","fingerprint":"%b","startsAt":"%b","updatedAt":"%b","generatorURL":%b,"labels":%b,' % (
        orjson.dumps(dict(alert.annotations)),
        rfc3339(alert.ends_at).encode(),
        alert.fingerprint.encode(),
        rfc3339(alert.starts_at).encode(),
        rfc3339(held.updated_at).encode(),
        orjson.dumps(alert.generator_url),
        orjson.dumps(dict(alert.labels)),
    )


def fingerprints(sets: Sequence[Labels]) -> list[str]:
    """The fingerprints of many label sets, as `Alert.fingerprint` gives them."""
    if len(sets) < _FEW or not all(sets):
        return [f"{labels.fingerprint():016x}" for labels in sets]
    # All sets as one text, encoded at once: these two surrogates stand for the bytes 0xff and 0xfe, which UTF-8 has not.
    text = "\udcfe".join(["\udcff".join(itertools.chain.from_iterable(labels)) for labels in sets])
    data = np.frombuffer(text.encode("utf-8", "surrogateescape") + b"\xfe", dtype=np.uint8).copy()
    last = np.flatnonzero(data == 0xFE)
    if len(last) != len(sets):
        # A text with such a surrogate of its own.
        return [f"{labels.fingerprint():016x}" for labels in sets]
    data[last] = 0xFF
    digits = fnv1a(data.tobytes(), last + 1).astype(">u8").tobytes().hex()
    return [digits[at : at + 16] for at in range(0, 16 * len(sets), 16)]


def received(alert: Alert, now: int, *, resolve_timeout: int, fingerprint: str = "", number: int = 0) -> Held:
    """An alert as it came in: a start or end that was left open (0) is filled in, its fingerprint, and its record's number."""
    name = fingerprint or alert.fingerprint
    if alert.starts_at and alert.ends_at and alert.known_fingerprint == name:
        return Held(alert, now, False, number)
    starts = alert.starts_at or (min(alert.ends_at, now) if alert.ends_at else now)
    ends = alert.ends_at or now + resolve_timeout
    told = Alert(alert.labels, starts, ends, alert.annotations, alert.generator_url, alert.value, name)
    return Held(told, now, not alert.ends_at, number)


def merged(old: Held | None, new: Held, now: int) -> Held:
    """What is held after `new`: where the two overlap in time they are one alert, with the earlier start."""
    if old is None:
        return new
    a, b = old.alert, new.alert
    overlap = a.starts_at < b.ends_at < a.ends_at or a.starts_at < b.starts_at < a.ends_at
    if not overlap:
        return new
    ends, timeout = b.ends_at, new.timeout
    if b.ends_at <= now:
        if a.ends_at <= now:
            ends = max(a.ends_at, b.ends_at)
    elif a.ends_at > b.ends_at and not old.timeout:
        ends, timeout = a.ends_at, False
    starts = min(a.starts_at, b.starts_at)
    if starts == b.starts_at and ends == b.ends_at and timeout == new.timeout:
        return new
    return Held(replace(b, starts_at=starts, ends_at=ends), new.updated_at, timeout, new.number)


def worth_saving(old: Held | None, new: Held, now: int) -> bool:
    """Whether the records must hear of it: everything but a mere extension of an alert that fires on."""
    if old is None or old.resolved(now) or new.resolved(now):
        return old != new
    a, b = old.alert, new.alert
    same = a.starts_at == b.starts_at and a.annotations == b.annotations and a.generator_url == b.generator_url
    return not same or old.timeout != new.timeout


def values_of(tenant: str, held: Held, labels: str) -> tuple[Any, ...]:
    """The values of its record, in the order of `HeldAlertRow`; `labels` is their JSON."""
    alert = held.alert
    annotations = orjson.dumps(dict(alert.annotations)).decode()
    times = alert.starts_at, alert.ends_at, held.updated_at
    return (tenant, held.number, labels, annotations, alert.generator_url, *times, held.timeout)


def row_of(tenant: str, held: Held) -> HeldAlertRow:
    """Its record."""
    return HeldAlertRow(*values_of(tenant, held, orjson.dumps(dict(held.alert.labels)).decode()))


def restored(row: HeldAlertRow, now: int) -> Held:
    """The alert of a record after a restart at `now`.

    One that was firing is given the time it had when it was last recorded: its sender could not tell us more while
    we were away, so silence until now is no sign that it ended.
    """
    stood = row.ends_at > row.updated_at
    ends = max(row.ends_at, now + row.ends_at - row.updated_at) if stood else row.ends_at
    labels, annotations = Labels.of(orjson.loads(row.labels)), Labels.of(orjson.loads(row.annotations))
    return Held(Alert(labels, row.starts_at, ends, annotations, row.generator_url), row.updated_at, bool(row.timeout), row.seq)
