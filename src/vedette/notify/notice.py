"""What a channel is handed to deliver, and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from vedette.model.alerts import Alert
from vedette.model.labels import Labels

Status = Literal["firing", "resolved"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification. `now` (Unix ms) decides which of its alerts fire; `attempt` is the same for every try of it."""

    receiver: str
    group_key: str
    group_labels: Labels
    alerts: Sequence[Alert]
    now: int
    external_url: str
    attempt: str
    route_labels: tuple[tuple[str, str], ...] = ()
    """Texts of templates by their name, as the route has them."""
    kept: str = ""
    """What the channel's last receipt about this group said to keep."""

    @property
    def status(self) -> Status:
        """Firing if any of its alerts does."""
        return "firing" if any(a.status(self.now) == "firing" for a in self.alerts) else "resolved"

    def common_labels(self) -> Labels:
        """The labels that all its alerts share."""
        return _common([a.labels for a in self.alerts])

    def common_annotations(self) -> Labels:
        """The annotations that all its alerts share."""
        return _common([a.annotations for a in self.alerts])


def _common(sets: Sequence[Labels]) -> Labels:
    if not sets:
        return Labels()
    shared = set(sets[0]).intersection(*sets[1:])
    return Labels(p for p in sets[0] if p in shared)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A channel's word that a notice arrived; `detail` is what the other side answered, shortened."""

    detail: str = ""
    keep: str | None = None
    """What the channel wants to be handed with the group's next notice, on disk until then; None for what it had."""


class Channel(Protocol):
    """One way to tell a receiver. All channels have this shape."""

    kind: str
    """`webhook`, `slack`, …: a metric label."""
    send_resolved: bool

    async def deliver(self, notice: Notice, *, seconds: float, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        """Deliver within `seconds`. Raises `Undeliverable`, which says whether trying again may help; tries only once.

        Awaits `leaving` at the last moment before the notice goes out: it notes that somebody may know from now on.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
