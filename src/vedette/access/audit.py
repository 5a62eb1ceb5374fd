"""The audit trail: who changed what, and who was refused; written once what they asked for was answered.

Kept in the records, one sequence a tenant, which servers that share a database write together. Data that is sent (samples, logs,
alerts of other servers) is no change and is not noted. Not here: what counts as a change (`permits.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from vedette.access.principal import Principal
from vedette.clock import Clock, now_ms
from vedette.errors import VedetteError
from vedette.records.numbers import Numbers, own_number
from vedette.records.rows import AuditRow

if TYPE_CHECKING:
    from vedette.records.database import Records

_LONGEST_PATH = 500
_TRIM_EVERY = 1000
FOREVER = 1 << 62

_log = structlog.get_logger(__name__)


def _kept(text: str) -> str:
    """A text as every database keeps it: PostgreSQL has no NUL."""
    return text.replace("\0", "\ufffd")


class Audit:
    """The trail. `open` gives it the records; what comes before is only logged. `lost` counts entries that could not be kept."""

    def __init__(self, clock: Clock, *, retention_ms: int, number: int | None = None) -> None:
        """`number` (below 4096) is this server's among those that share its database; at random where it is not given."""
        self._clock, self._retention = clock, retention_ms
        self._records: Records | None = None
        self._numbers: dict[str, Numbers] = {}
        self._written = 0
        self._own = own_number() if number is None else number
        self.lost = 0

    def open(self, records: Records) -> None:
        """Keep entries there from now on."""
        self._records = records

    async def note(self, who: Principal, *, tenant: str, method: str, path: str, status: int, address: str) -> None:
        """Keep one entry; durable when it returns, unless the records take nothing, which is logged and counted."""
        if self._records is None:
            _log.warning("not kept in the audit trail: the server is starting", actor=who.name, method=method, path=path, status=status)
            self.lost += 1
            return
        try:
            seq = await self._number(self._records, tenant)
            row = AuditRow(
                tenant=tenant,
                seq=seq,
                at=now_ms(self._clock),
                actor=_kept(who.name),
                kind=who.kind,
                method=method,
                path=_kept(path)[:_LONGEST_PATH],
                status=status,
                address=address,
            )
            await self._records.save([row])
            self._written += 1
            if self._written % _TRIM_EVERY == 0:
                await self._records.trim(AuditRow, tenant, older_than=row.at - self._retention, up_to=0)
        except VedetteError as error:
            _log.error("the audit trail cannot be written", reason=str(error), actor=who.name, method=method, path=path, status=status)
            self.lost += 1

    async def _number(self, records: Records, tenant: str) -> int:
        """The next number of a tenant's entries: it rises with time, and no other instance that keeps its trail there gives it."""
        if tenant not in self._numbers:
            newest = await records.newest(AuditRow, tenant)
            self._numbers.setdefault(tenant, Numbers(newest, self._own))
        return self._numbers[tenant].take(now_ms(self._clock))

    async def page(
        self, tenant: str, *, before: int = FOREVER, since: int = 0, until: int = FOREVER, limit: int, actor: str = ""
    ) -> list[AuditRow]:
        """The newest entries of a tenant first. Raises what the records raise."""
        if self._records is None:
            return []
        equal = {"actor": actor} if actor else None
        return await self._records.page(AuditRow, tenant, before=before, since=since, until=until, limit=limit, equal=equal)
