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
    (
        """CREATE TABLE users (
            name VARCHAR NOT NULL PRIMARY KEY, tenant VARCHAR NOT NULL, role VARCHAR NOT NULL, password VARCHAR NOT NULL,
            disabled BOOLEAN NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)""",
        """CREATE TABLE api_keys (
            id VARCHAR NOT NULL PRIMARY KEY, tenant VARCHAR NOT NULL, name VARCHAR NOT NULL, role VARCHAR NOT NULL,
            scopes VARCHAR NOT NULL, digest VARCHAR NOT NULL, created_by VARCHAR NOT NULL, created_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL, revoked_at BIGINT NOT NULL)""",
        "CREATE TABLE tenants (name VARCHAR NOT NULL PRIMARY KEY, title VARCHAR NOT NULL, created_at BIGINT NOT NULL)",
        """CREATE TABLE sessions (
            digest VARCHAR NOT NULL PRIMARY KEY, user_name VARCHAR NOT NULL, csrf VARCHAR NOT NULL,
            created_at BIGINT NOT NULL, expires_at BIGINT NOT NULL)""",
        """CREATE TABLE audit (
            tenant VARCHAR NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, actor VARCHAR NOT NULL, kind VARCHAR NOT NULL,
            method VARCHAR NOT NULL, path VARCHAR NOT NULL, status BIGINT NOT NULL, address VARCHAR NOT NULL,
            PRIMARY KEY (tenant, seq))""",
    ),
    (
        """CREATE TABLE acknowledgements (
            tenant VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL, labels VARCHAR NOT NULL, author VARCHAR NOT NULL,
            note VARCHAR NOT NULL, made_at BIGINT NOT NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (tenant, fingerprint))""",
        """CREATE TABLE alert_events (
            tenant VARCHAR NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, kind VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL,
            alertname VARCHAR NOT NULL, labels VARCHAR NOT NULL, starts_at BIGINT NOT NULL, value DOUBLE PRECISION,
            note VARCHAR NOT NULL, PRIMARY KEY (tenant, seq))""",
        "CREATE INDEX alert_events_fingerprint ON alert_events (tenant, fingerprint, seq)",
        """CREATE TABLE deliveries (
            tenant VARCHAR NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, outcome VARCHAR NOT NULL, reason VARCHAR NOT NULL,
            detail VARCHAR NOT NULL, receiver VARCHAR NOT NULL, channel VARCHAR NOT NULL, group_key VARCHAR NOT NULL,
            alerts VARCHAR NOT NULL, firing BIGINT NOT NULL, resolved BIGINT NOT NULL, attempt VARCHAR NOT NULL,
            PRIMARY KEY (tenant, seq))""",
        "CREATE INDEX deliveries_receiver ON deliveries (tenant, receiver, seq)",
        "ALTER TABLE silences ADD COLUMN recurs VARCHAR NOT NULL DEFAULT ''",
        "ALTER TABLE silences ADD COLUMN until_resolved BOOLEAN NOT NULL DEFAULT FALSE",
    ),
    (
        """CREATE TABLE rule_groups (
            tenant VARCHAR NOT NULL, namespace VARCHAR NOT NULL, name VARCHAR NOT NULL, version BIGINT NOT NULL,
            document VARCHAR NOT NULL, author VARCHAR NOT NULL, changed_at BIGINT NOT NULL,
            PRIMARY KEY (tenant, namespace, name, version))""",
    ),
    (
        "ALTER TABLE held_alerts RENAME TO held_by_labels",
        """CREATE TABLE held_alerts (
            tenant VARCHAR NOT NULL, seq BIGINT NOT NULL, labels VARCHAR NOT NULL, annotations VARCHAR NOT NULL,
            generator_url VARCHAR NOT NULL, starts_at BIGINT NOT NULL, ends_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
            timeout BOOLEAN NOT NULL, PRIMARY KEY (tenant, seq))""",
        """INSERT INTO held_alerts (tenant, seq, labels, annotations, generator_url, starts_at, ends_at, updated_at, timeout)
            SELECT tenant, row_number() OVER (PARTITION BY tenant ORDER BY labels), labels, annotations, generator_url,
            starts_at, ends_at, updated_at, timeout FROM held_by_labels""",
        "DROP TABLE held_by_labels",
    ),
    (
        # Fingerprints are random: an index of them is written all over for each thousand alerts that come. By their first digit
        # it grows at sixteen places; the events of one alert are found by reading a sixteenth of it.
        "DROP INDEX alert_events_fingerprint",
        "CREATE INDEX alert_events_digit ON alert_events (tenant, substr(fingerprint, 1, 1), seq, fingerprint)",
    ),
    (
        """CREATE TABLE pushed_groups (
            tenant VARCHAR NOT NULL, labels VARCHAR NOT NULL, families VARCHAR NOT NULL, pushed_at BIGINT NOT NULL,
            failed_at BIGINT NOT NULL, PRIMARY KEY (tenant, labels))""",
    ),
    (
        """CREATE TABLE alert_journal (
            tenant VARCHAR NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, body BYTEA NOT NULL, PRIMARY KEY (tenant, seq))""",
    ),
    ("ALTER TABLE notifications ADD COLUMN kept VARCHAR NOT NULL DEFAULT ''",),
    (
        "ALTER TABLE rule_alerts RENAME TO rule_alerts_by_labels",
        """CREATE TABLE rule_alerts (
            tenant VARCHAR NOT NULL, seq BIGINT NOT NULL, rule VARCHAR NOT NULL, labels VARCHAR NOT NULL, annotations VARCHAR NOT NULL,
            state VARCHAR NOT NULL, value DOUBLE PRECISION, active_at BIGINT NOT NULL, fired_at BIGINT NOT NULL,
            resolved_at BIGINT NOT NULL, keep_firing_since BIGINT NOT NULL, PRIMARY KEY (tenant, seq))""",
        """INSERT INTO rule_alerts
            (tenant, seq, rule, labels, annotations, state, value, active_at, fired_at, resolved_at, keep_firing_since)
            SELECT tenant, row_number() OVER (PARTITION BY tenant ORDER BY rule, labels), rule, labels, annotations, state, value,
            active_at, fired_at, resolved_at, keep_firing_since FROM rule_alerts_by_labels""",
        "DROP TABLE rule_alerts_by_labels",
    ),
)

VERSIONS = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)"
