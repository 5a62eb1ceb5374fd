"""What the configuration files say, read and checked as a whole before any of it counts. Not here: putting it in force (`app.py`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vedette import configfile
from vedette.access.directory import parse_tenant
from vedette.api import prometheus
from vedette.collect.config import CollectConfig
from vedette.errors import BadInput
from vedette.notify.config import Config as NotifyConfig
from vedette.notify.config import load as load_notify
from vedette.notify.config import parse as parse_notify
from vedette.notify.config import redacted as redacted_notify
from vedette.rules.defaults import default_groups
from vedette.rules.files import Group
from vedette.rules.files import load as load_rules
from vedette.rules.packs import pack_groups
from vedette.settings import Settings, VedetteSection
from vedette.storage.retention import RetentionRule
from vedette.storage.settings import StorageSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """What the files say, read and checked, nothing of it in force yet."""

    settings: Settings
    collect: CollectConfig
    groups: tuple[Group, ...]
    notify: NotifyConfig | None
    notify_text: str = "{}\n"
    """The `alertmanager.yml` as YAML, secrets redacted."""
    tenants: Mapping[str, NotifyConfig] = field(default_factory=dict)
    """Those of other tenants."""

    @classmethod
    def of(cls, settings: Settings) -> Plan:
        """Read every file that the settings name. Raises `BadInput` for the first that is bad."""
        globals_ = settings.config.global_
        groups = default_groups(settings.vedette.alerts)
        groups += pack_groups(
            settings.vedette.rules.chosen,
            interval_ms=globals_.evaluation_interval,
            query_offset_ms=globals_.rule_query_offset,
            features=settings.vedette.promql.features,
        )
        for path in settings.rule_paths():
            groups += load_rules(
                path,
                interval_ms=globals_.evaluation_interval,
                query_offset_ms=globals_.rule_query_offset,
                features=settings.vedette.promql.features,
            )
        file, route = settings.alertmanager_file, settings.vedette.notify.default_route()
        base = settings.path.parent if settings.path else Path()
        tenants = {parse_tenant(name): load_notify(base / path) for name, path in settings.vedette.notify.tenants.items()}
        settings.forwards()
        plan = cls(settings, settings.collect(), tuple(groups), None, tenants=tenants)
        if file is not None:
            return dataclasses.replace(plan, notify=load_notify(file), notify_text=redacted_notify(configfile.read(file)))
        if route is not None:
            return dataclasses.replace(plan, notify=parse_notify(route, name="notify"), notify_text=redacted_notify(route))
        return plan


def retention_of(settings: StorageSettings) -> list[RetentionRule]:
    """The retention of selectors. Raises `BadInput` naming a selector that cannot be parsed."""
    rules = []
    for selector, keep in settings.retention_by_selector.items():
        try:
            rules.append(RetentionRule(tuple(prometheus.matchers_of(selector)), keep))
        except BadInput as error:
            raise BadInput(error.problem, where=f"storage.retention_by_selector: {selector}: {error.where}", hint=error.hint) from None
    return rules


_AT_THE_START = ("server", "storage", "records", "remote", "promql", "track", "services", "tracing")
"""Sections that count at the start alone, but for `_AT_ONCE`; of the others, all but `_LATER` counts from a reload on."""
_AT_ONCE = {"server": ("tls_cert_file", "tls_key_file"), "storage": ("admin_api",)}
_LATER = {
    "access": ("redis_url", "audit_retention", "cors_origin"),
    "forward": ("queue_size",),
    "logs": ("queue_bytes", "query_memory"),
    "rules": ("resend_delay", "outage_tolerance", "grace_period"),
}


def waiting(started: VedetteSection, now: VedetteSection) -> list[str]:
    """The settings that say something else than at the start, and that only the next start puts in force; by their names alone."""
    found = []
    for section in dataclasses.fields(VedetteSection):
        old, new = getattr(started, section.name), getattr(now, section.name)
        for one in dataclasses.fields(old):
            if section.name in _AT_THE_START:
                later = one.name not in _AT_ONCE.get(section.name, ())
            else:
                later = one.name in _LATER.get(section.name, ())
            if later and getattr(old, one.name) != getattr(new, one.name):
                found.append(f"{section.name}.{one.name}")
    return found
