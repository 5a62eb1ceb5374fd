"""The settings of rules; times in ms."""

from __future__ import annotations

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
