"""What one tenant may store: how many series, how large their labels are, how many samples a second.

A limit of size (labels of a series, lengths) drops the samples of that series with a counted reason, since sending them again
will not help; a limit of amount (series, samples a second) is a reason to come back later. Not here: where the limits are
asked (`memory.py` for what concerns series, `ingest/door.py` for rates), limits of queries (`promql`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from vedette.configfile import option
from vedette.errors import BadInput, LimitExceeded
from vedette.model.durations import parse_duration

TOO_MANY_LABELS, NAME_TOO_LONG, VALUE_TOO_LONG = "too_many_labels", "label_name_too_long", "label_value_too_long"
SERIES_LIMIT = "series_limit"
REASONS = (TOO_MANY_LABELS, NAME_TOO_LONG, VALUE_TOO_LONG, SERIES_LIMIT)
"""Why samples are dropped, as `vedette_dropped_samples_total` names it."""

_SAVED_S = 10.0
"""For so many seconds a rate that is not used up is saved: scrapes and agents send in bursts."""


class TenantLimit(LimitExceeded):
    """One tenant has used up what it may; others get through."""


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What one tenant may. 0 is no limit; what is left out is as in `default`, there as in `BUILT_IN`."""

    max_series: int | None = None
    """Series in memory: those with a sample in the last `storage.head_span`."""
    max_labels: int | None = None
    """Labels of one series, its name among them."""
    max_label_name_length: int | None = None
    """In bytes."""
    max_label_value_length: int | None = None
    """In bytes."""
    samples_per_second: int | None = None
    """On average over ten seconds."""
    out_of_order_window: int | None = option(None, convert=parse_duration)
    """Instead of `storage.out_of_order_window`, ms."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if (value := getattr(self, item.name)) is not None and value < 0:
                raise BadInput(f"{value} where 0 (no limit) or more is expected", where=item.name)

    def over(self, base: TenantLimits) -> TenantLimits:
        """These, and those of `base` where nothing is said here."""
        said = {f.name: value for f in dataclasses.fields(self) if (value := getattr(self, f.name)) is not None}
        return dataclasses.replace(base, **said)

    def __str__(self) -> str:
        """As one would write it."""
        said = {f.name: value for f in dataclasses.fields(self) if (value := getattr(self, f.name)) is not None}
        return "{" + ", ".join(f"{name}: {f'{value}ms' if name == 'out_of_order_window' else value}" for name, value in said.items()) + "}"

    __repr__ = __str__


BUILT_IN = TenantLimits(
    max_series=0, max_labels=256, max_label_name_length=1024, max_label_value_length=16_384, samples_per_second=0, out_of_order_window=None
)
"""Far beyond what people use; without any, one sender's mistake fills memory with labels."""


@dataclass(frozen=True, slots=True)
class LimitsSettings:
    """The section `limits`: what each tenant may, and what single ones may instead."""

    default: TenantLimits = field(default_factory=TenantLimits)
    """For every tenant."""
    tenants: dict[str, TenantLimits] = option(factory=dict)
    """By the tenant's name; what is left out there is as in `default`."""


@dataclass(slots=True)
class _Allowance:
    """Samples that may come in now; below 0 where more came than was there."""

    left: float
    when: float


class Limits:
    """The limits in force. `window` (ms) is the out-of-order window where none is given; `replace` puts others in force."""

    def __init__(self, settings: LimitsSettings | None = None, *, window: int = 0) -> None:
        self._window = window
        self._settings = settings or LimitsSettings()
        self._known: dict[str, TenantLimits] = {}
        self._allowances: dict[str, _Allowance] = {}

    def replace(self, settings: LimitsSettings) -> None:
        """From now on these; what was saved of rates is forgotten where they changed."""
        if settings != self._settings:
            self._settings, self._known, self._allowances = settings, {}, {}

    def of(self, tenant: str) -> TenantLimits:
        """What a tenant may, nothing left out but `out_of_order_window` (see `window`)."""
        found = self._known.get(tenant)
        if found is None:
            base = self._settings.default.over(BUILT_IN)
            # Tenants come from requests: only those that are named in the settings are remembered.
            found = self._settings.tenants[tenant].over(base) if tenant in self._settings.tenants else base
            if tenant in self._settings.tenants:
                self._known[tenant] = found
        return found

    def window(self, tenant: str) -> int:
        """How much older (ms) than its series' newest sample a tenant's sample may be."""
        own = self.of(tenant).out_of_order_window
        return self._window if own is None else own

    @property
    def longest_window(self) -> int:
        """The longest of all tenants' windows, ms."""
        return max(self._window, *(self.window(tenant) for tenant in ("", *self._settings.tenants)))

    @property
    def in_series(self) -> Mapping[str, int]:
        """`max_series` of the tenants that are named in the settings and have one."""
        return {tenant: most for tenant in self._settings.tenants if (most := self.of(tenant).max_series)}

    def count(self, tenant: str, samples: int, now: float) -> None:
        """Count samples that come in at `now` (seconds of a monotonic clock). Raises `TenantLimit` where the rate is used up.

        A batch is taken whole or not at all, and may be more than what is left: the next ones wait until that is made up for.
        So no batch is too large ever to be taken.
        """
        rate = self.of(tenant).samples_per_second
        if not rate:
            return
        allowance = self._allowances.get(tenant)
        if allowance is None:
            allowance = self._allowances[tenant] = _Allowance(rate * _SAVED_S, now)
        allowance.left = min(rate * _SAVED_S, allowance.left + (now - allowance.when) * rate)
        allowance.when = now
        if allowance.left <= 0:
            wait = max(1.0, -allowance.left / rate)
            raise TenantLimit(f"tenant {tenant!r} sends more than its {rate} samples a second", retry_after=wait)
        allowance.left -= samples
