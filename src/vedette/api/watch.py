"""`/api/v1/targets` (and `/metadata` below it), `/rules` and `/alerts`: the state of scraping and alerting, in Prometheus' shapes.

States come as snapshots from the rooms that own them; this room only filters and renders. Not here: Alertmanager's API.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import JSON, success
from vedette.api.endpoint import Endpoint, Param
from vedette.api.params import Form, boolean_of, chosen, count_of, form_of, integer, matcher_sets, parameter, rfc3339
from vedette.errors import BadInput
from vedette.model.durations import format_duration
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels

if TYPE_CHECKING:
    from vedette.collect.scrape import TargetState
    from vedette.collect.targets import DroppedTarget
    from vedette.rules.state import ActiveAlert, GroupState, RuleState

RULES_AT_ONCE = 1000
"""How many rules are rendered before others on the loop have their turn: some milliseconds' worth."""

_TARGETS_AT_ONCE = 20
"""How many targets' metadata are gone through before others have their turn: some thousand entries."""

_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))


def exponent(value: float) -> str:
    """A value as Go's `%e` prints it with the fewest digits: `1e+00`, `-2.5e-03`, `+Inf`, `NaN`."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, power = Decimal(repr(value)).as_tuple()
    assert isinstance(power, int)
    text = "".join(map(str, digits)).lstrip("0") or "0"
    power = power + len(text) - 1 if text != "0" else 0
    text = text.rstrip("0") or "0"
    mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the snapshots of `/targets`, `/rules` and `/alerts` come from; each is asked at each request."""

    targets: Callable[[], Sequence[TargetState]]
    dropped: Callable[[], Sequence[DroppedTarget]]
    dropped_counts: Callable[[], Mapping[str, int]]
    groups: Callable[[Mapping[str, Any]], Sequence[GroupState]]
    """Takes the request, whose tenant's groups they are."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The operations over snapshots. `external_url` is where this server is reached from outside."""

    sources: Sources
    parse_selector: Callable[[str], Sequence[Matcher]]
    external_url: str

    async def scraped(self, request: Request) -> Response:
        """Targets, active and dropped."""
        form = await form_of(request)
        pool, state = form.text("scrapePool"), form.text("state").lower()
        active, dropped = state in ("", "any", "active"), state in ("", "any", "dropped")
        lost = [d for d in self.sources.dropped() if not pool or d.pool == pool] if dropped else []
        counts = {name: n for name, n in self.sources.dropped_counts().items() if not pool or name == pool} if dropped else {}
        found = [self._target(t) for t in self.sources.targets() if not pool or t.pool == pool] if active else []
        return success(
            {
                "activeTargets": found,
                "droppedTargets": [{"discoveredLabels": dict(d.discovered), "scrapePool": d.pool} for d in lost],
                "droppedTargetCounts": counts,
            }
        )

    def _target(self, target: TargetState) -> dict[str, Any]:
        return {
            "discoveredLabels": dict(target.discovered),
            "labels": dict(target.labels),
            "scrapePool": target.pool,
            "scrapeUrl": target.url,
            "globalUrl": self._global(target.url),
            "lastError": target.last_error,
            "lastScrape": rfc3339(target.last_scrape),
            "lastScrapeDuration": target.last_duration,
            "health": target.health,
            "scrapeInterval": format_duration(target.interval_ms),
            "scrapeTimeout": format_duration(target.timeout_ms),
        }

    def _global(self, url: str) -> str:
        """The URL with a loopback host replaced by this server's outside name, as far as one can guess it."""
        parts, outside = urlsplit(url), urlsplit(self.external_url)
        if parts.hostname not in _LOCAL or not outside.hostname:
            return url
        host = f"[{outside.hostname}]" if ":" in outside.hostname else outside.hostname
        port = f":{parts.port}" if parts.port is not None else ""
        return urlunsplit(parts._replace(netloc=host + port))

    async def described(self, request: Request) -> Response:
        """What targets say of their metrics. As in Prometheus `limit` ends the list between targets, not within one."""
        form = await form_of(request)
        limit, metric, wanted = count_of(form, "limit", absent=-1), form.text("metric"), form.text("match_target")
        matchers = tuple(parameter("match_target", lambda: self.parse_selector(wanted))) if wanted else ()
        found: list[dict[str, Any]] = []
        for number, target in enumerate(self.sources.targets()):
            if 0 <= limit <= len(found):
                break
            if number % _TARGETS_AT_ONCE == _TARGETS_AT_ONCE - 1:
                await asyncio.sleep(0)
            if not match_labels(matchers, target.labels):
                continue
            labels = dict(target.labels)
            for entry in target.metadata:
                about = {"type": entry.type, "help": entry.help, "unit": entry.unit}
                if not metric:
                    found.append({"target": labels, "metric": entry.metric, **about})
                elif entry.metric == metric:
                    found.append({"target": labels, **about})
        return success(found)

    async def rules(self, request: Request) -> Response:
        """Rule groups with the state of their rules, filtered and paged."""
        form = await form_of(request)
        kind = form.text("type").lower()
        if kind not in ("", "alert", "record"):
            raise BadInput(f'invalid parameter "type": not supported value "{kind}"')
        wanted = _RuleFilter(
            kind={"": "", "alert": "alerting", "record": "recording"}[kind],
            name=chosen(form, "rule_name[]"),
            sets=[tuple(s) for s in matcher_sets(form, self.parse_selector)],
            alerts=not boolean_of(form, "exclude_alerts"),
        )
        of_group, of_file = chosen(form, "rule_group[]"), chosen(form, "file[]")
        limit, token = _page(form)
        groups = list(self.sources.groups(request))
        if token:
            at = next((i for i, g in enumerate(groups) if _token(g) == token), None)
            if at is None:
                raise BadInput(f"invalid parameter \"group_next_token\": invalid group_next_token '{token}'. were rule groups changed?")
            groups = groups[at:]
        shown: list[dict[str, Any]] = []
        rendered = 0
        for group in groups:
            if rendered > RULES_AT_ONCE:
                # Others have their turn: ten thousand rules take a while.
                await asyncio.sleep(0)
                rendered = 0
            rendered += len(group.rules)
            rules = (
                [_rule(r, wanted.alerts) for r in group.rules if wanted.takes(r)] if of_group(group.name) and of_file(group.file) else []
            )
            if not rules:
                continue
            if limit and len(shown) == limit:
                return success({"groups": shown, "groupNextToken": _token(group)})
            shown.append(_group(group, rules))
        return success({"groups": shown})

    async def alerts(self, request: Request) -> Response:
        """All active alerts, in Prometheus' shape and, beside `data`, in the platform API's."""
        found = [(rule, alert) for group in self.sources.groups(request) for rule in group.rules for alert in rule.alerts]
        body = {
            "status": "success",
            "data": {"alerts": [_alert(alert) for _, alert in found]},
            "alerts": [_platform_alert(rule, alert) for rule, alert in found],
        }
        return Response(orjson.dumps(body), media_type=JSON)


@dataclass(frozen=True, slots=True)
class _RuleFilter:
    kind: str
    name: Callable[[str], bool]
    sets: list[tuple[Matcher, ...]]
    alerts: bool

    def takes(self, rule: RuleState) -> bool:
        if (self.kind and rule.kind != self.kind) or not self.name(rule.name):
            return False
        return not self.sets or any(match_labels(matchers, rule.labels) for matchers in self.sets)


def _page(form: Form) -> tuple[int, str]:
    limit, token = form.text("group_limit"), form.text("group_next_token")
    if not limit:
        if token:
            raise BadInput('invalid parameter "group_next_token": group_limit needs to be present in order to paginate over the groups')
        return 0, ""
    count = parameter("group_limit", lambda: integer(limit))
    if count <= 0:
        raise BadInput('invalid parameter "group_limit": group_limit needs to be greater than 0')
    return count, token


def _token(group: GroupState) -> str:
    """Names a group in a page token; opaque to clients."""
    return hashlib.sha1(f"{group.file};{group.name}".encode(), usedforsecurity=False).hexdigest()


def _group(group: GroupState, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": group.name,
        "file": group.file,
        "rules": rules,
        "interval": group.interval_ms / 1000,
        "limit": group.limit,
        "evaluationTime": group.evaluation_time,
        "lastEvaluation": rfc3339(group.last_evaluation),
    }


def _rule(rule: RuleState, with_alerts: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"state": rule.state} if rule.kind == "alerting" else {}
    shown |= {"name": rule.name, "query": rule.expr, "labels": dict(rule.labels), "health": rule.health}
    if rule.analysis:
        shown["analysis"] = rule.analysis
    if rule.last_error:
        shown["lastError"] = rule.last_error
    shown["evaluationTime"], shown["lastEvaluation"] = rule.evaluation_time, rfc3339(rule.last_evaluation)
    if rule.kind == "recording":
        shown["type"] = "recording"
        return shown
    shown["duration"], shown["keepFiringFor"] = rule.duration_ms / 1000, rule.keep_firing_for_ms / 1000
    shown["annotations"] = dict(rule.annotations)
    shown["alerts"] = [_alert(a) for a in rule.alerts] if with_alerts and rule.alerts else []
    shown["type"] = "alerting"
    return shown


def _alert(alert: ActiveAlert) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "state": alert.state,
        "activeAt": rfc3339(alert.active_at / 1000),
    }
    if alert.keep_firing_since:
        shown["keepFiringSince"] = rfc3339(alert.keep_firing_since / 1000)
    return {**shown, "value": exponent(alert.value)}


def _platform_alert(rule: RuleState, alert: ActiveAlert) -> dict[str, Any]:
    """The platform document's alert. Instances of one rule share the `id`; the fingerprint tells them apart."""
    labels, annotations = dict(alert.labels), dict(alert.annotations)
    return {
        "id": rule.name,
        "fingerprint": f"{Labels.of(labels).fingerprint():016x}",
        "severity": labels.get("severity", ""),
        "service": labels.get("service", labels.get("job", "")),
        "description": annotations.get("description", annotations.get("summary", "")),
        "start_time": rfc3339(alert.active_at // 1000),
        "status": alert.state,
    }


def endpoints(watch: Watch) -> list[Endpoint]:
    """The operations of this room."""
    targets = (Param("state", "text", "active, dropped or any."), Param("scrapePool", "text", "One scrape pool only."))
    metadata = (
        Param("match_target", "text", "A selector: targets whose labels pass it."),
        Param("metric", "text", "One metric only; the entries then do not name it."),
        Param("limit", "integer", "Of no further target once there are so many entries."),
    )
    rules = (
        Param("type", "text", "alert or record."),
        Param("rule_name[]", "texts", "Rules of these names only."),
        Param("rule_group[]", "texts", "Groups of these names only."),
        Param("file[]", "texts", "Groups of these files only."),
        Param("match[]", "texts", "Rules whose labels pass any of these selectors."),
        Param("exclude_alerts", "boolean", "Leave the active alerts out."),
        Param("group_limit", "integer", "The most groups to return."),
        Param("group_next_token", "text", "Where the page before ended."),
    )
    return [
        Endpoint("/api/v1/targets", watch.scraped, "Scrape targets", params=targets, tag="targets"),
        Endpoint("/api/v1/targets/metadata", watch.described, "What targets say of their metrics", params=metadata, tag="targets"),
        Endpoint("/api/v1/rules", watch.rules, "Rules and their state", params=rules, tag="rules"),
        Endpoint("/api/v1/alerts", watch.alerts, "Active alerts, in Prometheus' and the platform's shape", tag="rules"),
    ]
