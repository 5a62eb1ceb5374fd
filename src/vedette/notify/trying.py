"""Trying things out: a test notification to a receiver, a template over sample or real alerts. Nothing of it enters the log."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from vedette.errors import BadInput, Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.notice import Channel, Notice
from vedette.notify.template import Templates

TRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Tried:
    """How a channel took a test: `reason` is "" where it did, else one of the closed set of reasons of failure."""

    channel: str
    reason: str
    detail: str


def samples(now: int) -> list[Alert]:
    """Two alerts to try things with: one that fires, one that has resolved."""
    about = Labels.of(summary="A test of Vedette's notifications", description="Nothing is wrong: somebody tests a receiver.")
    firing = Labels.of(alertname="VedetteTest", severity="info", instance="one.example.com")
    resolved = firing.with_({"instance": "two.example.com"})
    return [
        Alert(firing, now - 300_000, now + 300_000, about, "http://localhost/graph?g0.expr=vector%281%29", 1.0),
        Alert(resolved, now - 300_000, now - 60_000, about),
    ]


def notice_of(alerts: Sequence[Alert], now: int, *, receiver: str, external_url: str) -> Notice:
    """A notice of these alerts, as one group of what they share."""
    draft = Notice(receiver, "", Labels(), alerts, now, external_url, "")
    group = draft.common_labels()
    return Notice(receiver, f"{{}}/test:{group}", group, alerts, now, external_url, secrets.token_hex(16))


async def tried(channels: Sequence[tuple[str, Channel]], notice: Notice) -> list[Tried]:
    """Send a notice by all channels at once, each once."""

    async def nobody_notes() -> None:
        """A test leaves no trace in the log of what was told."""

    async def one(name: str, channel: Channel) -> Tried:
        try:
            receipt = await channel.deliver(notice, seconds=TRY_S, leaving=nobody_notes)
        except Undeliverable as error:
            return Tried(name, error.reason, str(error))
        except BadInput as error:
            return Tried(name, "config", str(error))
        return Tried(name, "", receipt.detail)

    return list(await asyncio.gather(*(one(name, channel) for name, channel in channels)))


def preview(templates: Templates, text: str, notice: Notice, *, html: bool) -> str:
    """A template's text over a notice. Raises `BadInput` with the position where it is none, or fails."""
    templates.prepared(text)
    words = templates.over(notice)
    try:
        return words.html(text) if html else words.text(text)
    except Undeliverable as error:
        raise BadInput(str(error).removeprefix("template: "), where="template") from None
