"""The schema's history: each entry is applied once, in order, in one transaction with its number.

Numbered statements and not Alembic, for now: Alembic costs 0.2 s of every start and a package, and what it is good at
(comparing models with a database) is not needed for a handful of tables. The statements are plain enough for Alembic to
take over: `schema_version` then becomes its baseline. An entry, once released, is never changed; a new one is added.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE rule_alerts (
            tenant VARCHAR NOT NULL, rule VARCHAR NOT NULL, labels VARCHAR NOT NULL, annotations VARCHAR NOT NULL,
            state VARCHAR NOT NULL, value DOUBLE PRECISION, active_at BIGINT NOT NULL, fired_at BIGINT NOT NULL,
            resolved_at BIGINT NOT NULL, keep_firing_since BIGINT NOT NULL, PRIMARY KEY (tenant, rule, labels))""",
        """CREATE TABLE held_alerts (
            tenant VARCHAR NOT NULL, labels VARCHAR NOT NULL, annotations VARCHAR NOT NULL, generator_url VARCHAR NOT NULL,
            starts_at BIGINT NOT NULL, ends_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, timeout BOOLEAN NOT NULL,
            PRIMARY KEY (tenant, labels))""",
        """CREATE TABLE notifications (
            tenant VARCHAR NOT NULL, group_key VARCHAR NOT NULL, receiver VARCHAR NOT NULL, channel VARCHAR NOT NULL,
            phase VARCHAR NOT NULL, firing VARCHAR NOT NULL, resolved VARCHAR NOT NULL, sent_at BIGINT NOT NULL,
            next_firing VARCHAR NOT NULL, next_resolved VARCHAR NOT NULL, attempt VARCHAR NOT NULL, attempted_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL, PRIMARY KEY (tenant, group_key, receiver, channel))""",
    ),
    (
        """CREATE TABLE silences (
            tenant VARCHAR NOT NULL, id VARCHAR NOT NULL, matchers VARCHAR NOT NULL, starts_at BIGINT NOT NULL,
            ends_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, created_by VARCHAR NOT NULL, comment VARCHAR NOT NULL,
            annotations VARCHAR NOT NULL, PRIMARY KEY (tenant, id))""",
    ),
)

VERSIONS = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)"
