"""Alerting of tenants other than the default one: each has rules, silences and notifications of its own.

A tenant's rooms open when somebody of it first asks for them, and at the start where the records remember some. Its alerts are
told to whom its own `alertmanager.yml` says (`notify.tenants`), or are shown only. Not here: the default tenant (`alerting.py`), whose
rules come from files, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette.access.guard import App, Receive, Scope, Send, tenant_of
from vedette.clock import Clock
from vedette.errors import LimitExceeded
from vedette.model.labels import Labels
from vedette.model.tenants import DEFAULT_TENANT
from vedette.notify.config import Config as NotifyConfig
from vedette.notify.settings import NotifySettings
from vedette.promql.standing import Answer, Standing
from vedette.rules.managed import Defaults, ManagedRules
from vedette.rules.state import GroupState
from vedette.rules.typed import Analysis

if TYPE_CHECKING:
    from vedette.notify.notifier import Notifier
    from vedette.records.database import Records
    from vedette.rules.engine import Rules

MOST_TENANTS = 1000
"""So many have alerting open at once: each costs some tasks."""

_PATHS = (
    "/api/prom/",
    "/api/v1/alerts",
    "/api/v1/monitoring/alerts",
    "/api/v1/notifications",
    "/api/v1/receivers",
    "/api/v1/rules",
    "/api/v1/silences",
    "/api/v1/templates",
    "/api/v2/",
    "/config/v1/rules",
)


@dataclass(frozen=True, slots=True)
class Outside:
    """What a tenant's alerting takes from the configuration in force."""

    external_url: str
    external_labels: Labels
    notify: NotifySettings
    configs: Mapping[str, NotifyConfig]
    """The `alertmanager.yml` of each tenant that has one."""
    defaults: Defaults


@dataclass(frozen=True, slots=True)
class TenantAlerting:
    """The rooms of one tenant."""

    notifier: Notifier
    rules: Rules
    managed: ManagedRules


class Tenants:
    """The alerting of all tenants but the default one. `start` once the records are open, `apply` after a reload, `close` at the end.

    `ask` and `analyse` take the tenant first; `outside` says what is in force now.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        ask: Callable[[str, Sequence[Standing], int], Awaitable[Sequence[Answer]]],
        analyse: Callable[[str, str, Analysis, int], Awaitable[list[tuple[Labels, float]]]],
        append: Callable[[Any], Awaitable[Any]],
        outside: Callable[[], Outside],
    ) -> None:
        self._clock = clock
        self._ask, self._analyse, self._append, self._outside = ask, analyse, append, outside
        self._records: Records | None = None
        self._open: dict[str, TenantAlerting] = {}
        self._turn = asyncio.Lock()

    async def start(self, records: Records) -> None:
        """Open the alerting of every tenant that the records know alerts, silences or rules of."""
        self._records = records
        for tenant in await records.tenants():
            if tenant != DEFAULT_TENANT:
                await self._opened(tenant)

    def of(self, tenant: str) -> TenantAlerting:
        """A tenant's rooms, which `around` opened. Raises `LimitExceeded` while the server is starting."""
        found = self._open.get(tenant)
        if found is None:
            raise LimitExceeded("the server is starting", retry_after=1.0)
        return found

    def groups(self, tenant: str) -> Sequence[GroupState]:
        """A tenant's rule groups and their state; none where its alerting is not open."""
        found = self._open.get(tenant)
        return found.rules.groups() if found else ()

    def around(self, app: App) -> App:
        """`app`, before which the alerting of whoever asks for it is opened."""

        async def opening(scope: Scope, receive: Receive, send: Send) -> None:
            tenant = tenant_of(scope)
            if tenant != DEFAULT_TENANT and tenant not in self._open and scope.get("path", "").startswith(_PATHS):
                await self._opened(tenant)
            await app(scope, receive, send)

        return opening

    async def _opened(self, tenant: str) -> None:
        async with self._turn:
            if tenant in self._open or self._records is None or len(self._open) >= MOST_TENANTS:
                return
            self._open[tenant] = await self._new(tenant, self._records)

    async def _new(self, tenant: str, records: Records) -> TenantAlerting:
        from vedette.notify.notifier import Notifier
        from vedette.rules.engine import Rules

        outside = self._outside()
        notifier = Notifier(
            outside.configs.get(tenant),
            records,
            self._clock,
            external_url=outside.external_url,
            settings=outside.notify,
            tenant=tenant,
        )
        await notifier.start()
        rules = Rules(
            lambda asked, at: self._ask(tenant, asked, at),
            self._append,
            notifier.accept,
            records,
            self._clock,
            external_labels=outside.external_labels,
            external_url=outside.external_url,
            tenant=tenant,
            analyse=lambda expr, analysis, at: self._analyse(tenant, expr, analysis, at),
            noticed=notifier.noticed,
        )

        async def changed() -> None:
            await rules.apply(managed.groups(), at_once=lambda _group: True)

        managed = ManagedRules(records, self._clock, changed, defaults=lambda: self._outside().defaults, tenant=tenant)
        await managed.start()
        await rules.apply(managed.groups())
        return TenantAlerting(notifier, rules, managed)

    async def apply(self) -> None:
        """Take up a configuration that is in force now."""
        outside = self._outside()
        for tenant, alerting in self._open.items():
            await alerting.notifier.apply(outside.configs.get(tenant), outside.notify)
            alerting.managed.refresh()
            groups = alerting.managed.groups()
            await alerting.rules.apply(groups, external_labels=outside.external_labels, external_url=outside.external_url)

    async def close(self) -> None:
        """Stop evaluating, then telling."""
        for alerting in self._open.values():
            await alerting.rules.close()
            await alerting.notifier.close()
        self._open.clear()
