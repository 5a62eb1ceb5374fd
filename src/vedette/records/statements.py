"""The statements of the records, as text that SQLite and PostgreSQL understand alike, with values by name (`:tenant`).

Not here: the tables themselves (`migrations.py`), who runs a statement (`sqlite.py`, `postgres.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from vedette.records.rows import (
    KEYS,
    AcknowledgementRow,
    AlertEventRow,
    AlertJournalRow,
    ApiKeyRow,
    AuditRow,
    DeliveryRow,
    HeldAlertRow,
    NotificationRow,
    PushedGroupRow,
    Row,
    RuleAlertRow,
    RuleGroupRow,
    SessionRow,
    SilenceRow,
    TenantRow,
    UserRow,
)

TABLES: dict[type[Row], str] = {
    RuleAlertRow: "rule_alerts",
    HeldAlertRow: "held_alerts",
    AlertJournalRow: "alert_journal",
    NotificationRow: "notifications",
    SilenceRow: "silences",
    RuleGroupRow: "rule_groups",
    AcknowledgementRow: "acknowledgements",
    PushedGroupRow: "pushed_groups",
    AlertEventRow: "alert_events",
    DeliveryRow: "deliveries",
    UserRow: "users",
    ApiKeyRow: "api_keys",
    TenantRow: "tenants",
    SessionRow: "sessions",
    AuditRow: "audit",
}


def columns(kind: type[Row]) -> tuple[str, ...]:
    """The columns of a kind of rows, in the order of its fields."""
    return tuple(field.name for field in dataclasses.fields(kind))


def select(kind: type[Row], where: Iterable[str] = (), *, order: Sequence[str] = (), limit: str = "") -> str:
    """The rows that meet all conditions."""
    return (
        f"SELECT {_listed(columns(kind))} FROM {TABLES[kind]}{_where(where)}"  # noqa: S608 - names of ours; values go by name
        + (f" ORDER BY {', '.join(order)}" if order else "")
        + (f" LIMIT {limit}" if limit else "")
    )


def delete(kind: type[Row], where: Iterable[str]) -> str:
    """Forget the rows that meet all conditions."""
    return f"DELETE FROM {TABLES[kind]}{_where(where)}"  # noqa: S608 - as above


def upsert(kind: type[Row], *, by_name: bool) -> str:
    """Write a row, new or in place of the one with its key; its values are given by name, or in the order of the columns."""
    names, keys = columns(kind), KEYS[kind]
    values = ", ".join(f":{name}" if by_name else "?" for name in names)
    changed = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names if name not in keys)
    return (
        f"INSERT INTO {TABLES[kind]} ({_listed(names)}) VALUES ({values}) "  # noqa: S608 - as above
        f"ON CONFLICT ({_listed(keys)}) DO {f'UPDATE SET {changed}' if changed else 'NOTHING'}"
    )


def equals(kind: type[Row], column: str, value: str) -> tuple[list[str], dict[str, str]]:
    """(what says that a column holds a value, the values), so that the index of fingerprints by their first digit is used."""
    if kind is not AlertEventRow or column != "fingerprint":
        assert column in columns(kind), column
        return [f"{quoted(column)} = :equal_{column}"], {f"equal_{column}": value}
    # As the index has it, word for word; and no equality, or SQLite puts the value into the first condition and sees no index.
    conditions = ["substr(fingerprint, 1, 1) = :digit", "fingerprint BETWEEN :lowest AND :highest"]
    return conditions, {"digit": value[:1], "lowest": value, "highest": value}


def quoted(name: str) -> str:
    """A column's name, which may be a word of the language."""
    return f'"{name}"'


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def _where(conditions: Iterable[str]) -> str:
    text = " AND ".join(conditions)
    return f" WHERE {text}" if text else ""
