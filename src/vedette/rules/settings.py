"""The settings of rules; times in ms."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration


@dataclass(frozen=True, slots=True)
class RulesSettings:
    """How rules tell."""

    private_webhooks: bool = False
    """Whether a rule made over the API may tell a webhook on loopback, link-local or private addresses."""
    resend_delay: int = option(60_000, convert=parse_duration)
    """After how long an alert that goes on firing is told again to those who are told."""

    def __post_init__(self) -> None:
        if self.resend_delay <= 0:
            raise BadInput("not a time to wait", where="resend_delay", hint="expected more than 0, such as 1m")
