"""The alerting of the server: the default tenant's rules of files and of the API, whom they tell, and other tenants' beside them.

Producers are handed what they tell: rules emit to notifications, to outer Alertmanagers and to the callbacks of this process. Not
here: how a rule is judged (`rules`), how somebody is told (`notify`), how another tenant's rooms open (`tenants.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx
import structlog

from vedette import selfmetrics
from vedette.access.guard import tenant_of
from vedette.asking import Asking
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, Undeliverable
from vedette.model.alerts import Alert
from vedette.model.tenants import DEFAULT_TENANT
from vedette.net.addresses import public_address
from vedette.notify import made
from vedette.notify.config import Config as NotifyConfig
from vedette.plan import Plan
from vedette.rules.alerting import Outage
from vedette.rules.callbacks import Callbacks
from vedette.rules.files import MADE, Group
from vedette.rules.managed import Defaults, ManagedRules
from vedette.rules.state import Tally
from vedette.sdk import metrics_monitor
from vedette.selfmetrics import Reading
from vedette.tenants import Outside, Tenants

if TYPE_CHECKING:
    from vedette.notify.acknowledgements import Acknowledgement
    from vedette.notify.alertmanagers import Alertmanagers
    from vedette.notify.notifier import Notifier
    from vedette.records.database import Records
    from vedette.rules.engine import Rules
    from vedette.rules.state import GroupState

log = structlog.get_logger(__name__)


class Alerting:
    """`start` once the records are open; then `tell` and `put` at each plan; `close` at the end.

    `plan` gives what is in force, `ready` whether the server is open to its users; `append` stores what rules record.
    What takes a request answers for the tenant that asks, and raises `LimitExceeded` while the server is starting.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        asking: Asking,
        append: Callable[[Any], Awaitable[Any]],
        plan: Callable[[], Plan],
        ready: Callable[[], bool],
    ) -> None:
        self._clock, self._asking, self._append = clock, asking, append
        self._plan, self._ready = plan, ready
        self._callbacks = Callbacks(metrics_monitor.announce, lambda: metrics_monitor.listening)
        self._rules: Rules | None = None
        self._managed: ManagedRules | None = None
        self._told: tuple[made.Made, ...] = ()
        self._notifier: Notifier | None = None
        self._alertmanagers: Alertmanagers | None = None
        self.tenants = Tenants(clock, ask=asking.ask, analyse=asking.analyse, append=append, outside=self._outside)

    async def start(self, records: Records) -> None:
        """Restore silences, notifications and the rules of the API; no rule is evaluated before `put`."""
        from vedette.notify.alertmanagers import Alertmanagers
        from vedette.notify.notifier import Notifier
        from vedette.notify.plotted import Plotter
        from vedette.rules.engine import Rules

        settings = self._plan().settings
        self._managed = ManagedRules(records, self._clock, self.put, admit=self._admit, defaults=self.rule_defaults)
        await self._managed.start()
        self._told = self._told_by_rules()
        self._notifier = Notifier(
            self._whom(self._plan()),
            records,
            self._clock,
            made.client,
            external_url=settings.external_url,
            settings=settings.vedette.notify,
            picture=Plotter(self._asking.plotted, settings.external_url),
        )
        await self._notifier.start()
        self._alertmanagers = Alertmanagers(settings.alerting, self._clock, external_labels=settings.external_labels)
        await self._alertmanagers.start()
        metrics_monitor.attach()
        rules = settings.vedette.rules
        self._rules = Rules(
            functools.partial(self._asking.ask, DEFAULT_TENANT),
            self._append,
            self._emit,
            records,
            self._clock,
            external_labels=settings.external_labels,
            external_url=settings.external_url,
            tenant=DEFAULT_TENANT,
            resend_ms=rules.resend_delay,
            outage=Outage(tolerance_ms=rules.outage_tolerance, grace_ms=rules.grace_period),
            analyse=functools.partial(self._asking.analyse, DEFAULT_TENANT),
            noticed=self._noticed,
        )
        await self.tenants.start(records)

    @property
    def started(self) -> bool:
        """Whether `start` is through, so that a plan can be put in force."""
        return self._rules is not None

    async def tell(self, plan: Plan) -> None:
        """Tell those whom `plan`, which is about to be in force, names."""
        assert self._notifier is not None and self._alertmanagers is not None, "start comes first"
        await self._notifier.apply(self._whom(plan), plan.settings.vedette.notify)
        await self._alertmanagers.apply(plan.settings.alerting, external_labels=plan.settings.external_labels)

    async def refresh(self) -> None:
        """Take up what a reload put in force, but for the rules: `put` does that."""
        assert self._managed is not None, "start comes first"
        self._managed.refresh()
        await self.tenants.apply()

    async def put(self, *, at_once: bool = True) -> None:
        """Put the rules of files and those made over the API in force; of the latter, what changed is evaluated `at_once`."""
        assert self._rules is not None and self._managed is not None, "start comes first"
        settings = self._plan().settings
        if (told := self._told_by_rules()) != self._told:
            assert self._notifier is not None, "start comes first"
            self._told = told
            await self._notifier.apply(self._whom(self._plan()), settings.vedette.notify)
        await self._rules.apply(
            [*self._plan().groups, *self._managed.groups()],
            external_labels=settings.external_labels,
            external_url=settings.external_url,
            at_once=lambda group: at_once and group.file.startswith(MADE),
        )

    async def close(self) -> None:
        """Stop evaluating, then telling."""
        for room in (self._rules, self.tenants, self._notifier, self._alertmanagers):
            if room is not None:
                await room.close()

    def fall_silent(self) -> None:
        """Call nothing of this process back any more; whoever embeds the server may be gone before `close` ends."""
        self._callbacks.close()
        metrics_monitor.detach()

    # What is in force.

    def whom(self) -> NotifyConfig | None:
        """Whom the default tenant's alerts tell."""
        return self._whom(self._plan())

    def mails(self) -> bool:
        """Whether there is a mail server."""
        notify = self._plan().notify
        smarthost = notify is not None and notify.global_.smtp_smarthost
        return bool(smarthost or self._plan().settings.vedette.notify.email_server)

    def rule_defaults(self) -> Defaults:
        """What rules made over the API take from the configuration."""
        settings = self._plan().settings
        globals_ = settings.config.global_
        return Defaults(globals_.evaluation_interval, globals_.rule_query_offset, settings.vedette.promql.features)

    def outgoing(self, alerts: Sequence[Alert]) -> Sequence[Alert]:
        """Alerts as routes see them: with external labels and after relabelling, as an Alertmanager of one's own would."""
        from vedette.notify.alertmanagers import outgoing

        settings = self._plan().settings
        return outgoing(alerts, settings.alerting.alert_relabel_configs, settings.external_labels)

    def alertmanagers(self) -> list[str]:
        """The URLs of the Alertmanagers that alerts are passed on to, without credentials."""
        return [] if self._alertmanagers is None else [peer.url for peer in self._alertmanagers.peers()]

    def readings(self) -> Iterator[Reading]:
        """What rules and notifications counted."""
        if self._notifier is not None:
            yield from selfmetrics.of_notifier(self._notifier.counts)
        if self._alertmanagers is not None:
            yield from selfmetrics.of_alertmanagers(self._alertmanagers.peers())
        yield from selfmetrics.of_rules(self._rules.tally() if self._rules else Tally())

    # What belongs to whoever asks.

    def managed_of(self, request: Mapping[str, Any]) -> ManagedRules:
        """The rules that whoever asks may change."""
        if self._managed is None or not self._ready():
            raise LimitExceeded("the server is starting", retry_after=1.0)
        tenant = tenant_of(request)
        return self._managed if tenant == DEFAULT_TENANT else self.tenants.of(tenant).managed

    def notifier_of(self, request: Mapping[str, Any]) -> Notifier:
        """The notifications of whoever asks."""
        if self._notifier is None:
            raise LimitExceeded("the server is starting", retry_after=1.0)
        tenant = tenant_of(request)
        return self._notifier if tenant == DEFAULT_TENANT else self.tenants.of(tenant).notifier

    def groups_of(self, request: Mapping[str, Any]) -> Sequence[GroupState]:
        """The rule groups of whoever asks, and their state; none while the server is starting."""
        tenant = tenant_of(request)
        if tenant != DEFAULT_TENANT:
            return self.tenants.groups(tenant)
        return self._rules.groups() if self._rules else ()

    def known_as(self, fingerprint: str) -> str:
        """How notifications know an alert: by its labels with the external ones, which a rule's own alert lacks."""
        if self._rules is None or self._notifier is None or fingerprint in self._notifier.standing.fingerprints:
            return fingerprint
        for group in self._rules.groups():
            for found in (a.labels for rule in group.rules for a in rule.alerts):
                if f"{found.fingerprint():016x}" == fingerprint:
                    return next((a.fingerprint for a in self.outgoing([Alert(found, 0, 0)])), fingerprint)
        return fingerprint

    def acknowledged(self, request: Mapping[str, Any], fingerprint: str) -> Acknowledgement | None:
        """Who knows of an alert of whoever asks."""
        standing = self.notifier_of(request).acknowledgements.standing()
        found = standing.get(self.known_as(fingerprint)) if standing else None
        return found if found is not None and found.holds(now_ms(self._clock)) else None

    # What the rooms are handed.

    def _outside(self) -> Outside:
        """What other tenants' alerting takes from the configuration in force."""
        plan = self._plan()
        settings = plan.settings
        return Outside(settings.external_url, settings.external_labels, settings.vedette.notify, plan.tenants, self.rule_defaults())

    def _told_by_rules(self) -> tuple[made.Made, ...]:
        """Whom rules made over the API tell by themselves."""
        assert self._managed is not None, "start comes first"
        groups = ((g.file.removeprefix(MADE), g.name, g.notify) for g in self._managed.groups())
        return tuple(made.Made(f"{space}/{name}", notify.email, notify.webhook) for space, name, notify in groups if notify is not None)

    def _whom(self, plan: Plan) -> NotifyConfig | None:
        """Whom to tell: what the configuration says, and the addresses of rules made over the API."""
        notify, private = plan.settings.vedette.notify, plan.settings.vedette.rules.private_webhooks
        return made.with_made(plan.notify, self._told_by_rules(), server=notify.email_server, sender=notify.email_from, private=private)

    async def _admit(self, group: Group) -> None:
        """Refuse a group made over the API whose people could not be told. Raises `BadInput`."""
        settings = self._plan().settings.vedette
        if group.notify is None:
            return
        if group.notify.email and not self.mails():
            # It is taken all the same: a mail server may come later, and until then each mail's failure is counted and told.
            log.warning("a rule asks for mail, and no mail server is configured", rule=group.name, hint="set EMAIL_SERVER")
        if group.notify.webhook and not settings.rules.private_webhooks:
            try:
                await public_address(httpx.URL(group.notify.webhook))
            except (Undeliverable, httpx.InvalidURL) as error:
                if isinstance(error, Undeliverable) and error.retryable:
                    # A name that cannot be resolved just now is tried, and judged, again at each notification.
                    log.warning("webhook of a rule not checked", rule=group.name, reason=str(error))
                    return
                hint = "rules.private_webhooks allows private addresses"
                raise BadInput(str(error), where="notify.webhook", hint=hint) from None

    async def _emit(self, alerts: Sequence[Alert]) -> None:
        assert self._notifier is not None and self._alertmanagers is not None, "rules start after those they tell"
        await self._notifier.accept(self.outgoing(alerts))
        await self._alertmanagers.accept(alerts)
        self._callbacks.hear(alerts, now_ms(self._clock))

    def _noticed(self, alerts: Sequence[Alert]) -> None:
        assert self._notifier is not None, "rules start after those they tell"
        self._notifier.noticed(self.outgoing(alerts))
