"""What keeps alerts quiet at one moment: a weightier alert, silences, an acknowledgement. Pure; built once, asked of many alerts."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.notify.acknowledgements import Acknowledgement, Acknowledgements
from vedette.notify.held import Held
from vedette.notify.hush import Hush
from vedette.notify.inhibition import Inhibitor


@dataclass(frozen=True, slots=True)
class Reason:
    """Why somebody was not told: `stage` is its name in metrics, `detail` for people."""

    stage: str
    detail: str


@dataclass(frozen=True, slots=True)
class Quiet:
    """What keeps one alert quiet: ids of silences, the fingerprint of an alert ("" for none), an acknowledgement."""

    silenced_by: tuple[str, ...] = ()
    inhibited_by: str = ""
    acknowledged: Acknowledgement | None = None


LOUD = Quiet()


@dataclass(frozen=True, slots=True)
class Quieting:
    """The silences, inhibitions and acknowledgements that hold at `now` (Unix ms).

    `key` is the same as long as the answers are, but for what ends with time alone: acknowledgements and inhibiting alerts
    change it when they do.
    """

    now: int
    hush: Hush
    inhibitor: Inhibitor
    acknowledgements: Acknowledgements

    @property
    def key(self) -> tuple[int, int, int]:
        """What answers depend on."""
        return self.hush.epoch, self.inhibitor.epoch, self.acknowledgements.epoch

    @property
    def idle(self) -> bool:
        """Whether no alert at all can be kept quiet."""
        return self.hush.empty and self.inhibitor.idle and not len(self.acknowledgements)

    def of(self, held: Held) -> Quiet:
        """What keeps an alert quiet."""
        alert = held.alert
        silenced = self.hush.of(alert.labels)
        by = self.inhibitor.inhibited_by(alert.labels, self.now)
        ack = self.acknowledgements.of(alert.fingerprint, self.now)
        if not silenced and by is None and ack is None:
            return LOUD
        return Quiet(tuple(silenced), by.alert.fingerprint if by else "", ack)

    def inhibited(self, held: Held) -> Reason | None:
        """Why an alert says nothing: a weightier one stands."""
        by = self.inhibitor.inhibited_by(held.alert.labels, self.now)
        return None if by is None else Reason("inhibited", f"inhibited by the alert {by.alert.fingerprint}, {by.alert.labels}")

    def silenced(self, held: Held) -> Reason | None:
        """Why an alert says nothing: somebody asked for quiet."""
        by = self.hush.of(held.alert.labels)
        return Reason("silenced", f"silenced by {', '.join(by)}") if by else None

    def acknowledged(self, held: Held) -> Reason | None:
        """Why an alert says nothing: somebody knows. Its end is told all the same."""
        ack = None if held.resolved(self.now) else self.acknowledgements.of(held.alert.fingerprint, self.now)
        return None if ack is None else Reason("acknowledged", ack.detail)
