"""The settings of rules; times in ms."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration

PACKS = ("service_health", "infrastructure", "trading", "security", "business")
"""The rule packs that come along, as files of `alerts/`."""


@dataclass(frozen=True, slots=True)
class RulesSettings:
    """Which rules there are beside those of `rule_files`, and how they tell."""

    packs: tuple[str, ...] = ()
    """Which of `PACKS` are in force; `all` for every one."""
    private_webhooks: bool = False
    """Whether a rule made over the API may tell a webhook on loopback, link-local or private addresses."""
    resend_delay: int = option(60_000, convert=parse_duration)
    """After how long an alert that goes on firing is told again to those who are told."""

    outage_tolerance: int = option(3_600_000, convert=parse_duration)
    """How long ago a pending alert may have been seen last, at a restart, for the time before to count towards its `for`."""
    grace_period: int = option(600_000, convert=parse_duration)
    """The least time that an alert stays pending after an outage, of rules whose `for` is at least this long."""

    def __post_init__(self) -> None:
        for name in self.packs:
            if name not in (*PACKS, "all"):
                raise BadInput(f"not a pack: {name!r}", where="packs", hint="expected some of " + ", ".join((*PACKS, "all")))
        if self.resend_delay <= 0:
            raise BadInput("not a time to wait", where="resend_delay", hint="expected more than 0, such as 1m")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The packs in force, each once, in their own order."""
        return tuple(name for name in PACKS if name in self.packs or "all" in self.packs)


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise BadInput(f"not a threshold: {text!r}", hint="expected a number of at least 0")
    return value


def _percentage(text: str) -> float:
    value = _threshold(text)
    if value > 100:
        raise BadInput(f"not a percentage: {text!r}", hint="expected a number from 0 to 100")
    return value


def _ratio(text: str) -> float:
    value = _threshold(text)
    if value > 1:
        raise BadInput(f"not a ratio: {text!r}", hint="expected a number from 0 to 1, such as 0.05 for 5 %")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From where on the default alerts fire: `cpu`, `memory`, `disk` in per cent, `error_rate` as a ratio, `response_time` in seconds."""

    cpu: float = option(80.0, convert=_percentage)
    memory: float = option(80.0, convert=_percentage)
    disk: float = option(80.0, convert=_percentage)
    error_rate: float = option(0.05, convert=_ratio)
    response_time: float = option(1.0, convert=_threshold)
