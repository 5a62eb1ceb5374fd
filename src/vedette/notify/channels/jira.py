"""Jira: an issue for a group, found by its label, written anew while it fires, moved by transitions as it resolves and fires again.

Each notification asks first which issue there is, then makes or changes it, then moves it where its status is another. Trying again does
the same thing once more, so nothing is made twice. Not here: the texts' defaults (`default.tmpl`), credentials (`http_config`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from vedette.configfile import option
from vedette.errors import BadInput, Undeliverable
from vedette.model.durations import parse_duration
from vedette.net.answers import Answer
from vedette.net.config import HttpConfig
from vedette.notify.addresses import parse_url
from vedette.notify.channels.posting import TIMEOUT_S, Http, cut, filled, group_id
from vedette.notify.notice import Notice, Receipt
from vedette.notify.template import Templates

MAX_SUMMARY, MAX_DESCRIPTION = 255, 32_767
_CLOUD = "atlassian.net"


@dataclass(frozen=True, slots=True, kw_only=True)
class JiraConfig:
    """One of `jira_configs`. `summary`, `description` and `labels` may be mappings that also say `enable_update`."""

    api_url: str = option("", convert=parse_url)
    api_type: Literal["auto", "cloud", "datacenter"] = "auto"
    project: str = ""
    issue_type: str = ""
    summary: Any = '{{ template "jira.default.summary" . }}'
    description: Any = '{{ template "jira.default.description" . }}'
    labels: Any = ()
    priority: str = '{{ template "jira.default.priority" . }}'
    reopen_transition: str = ""
    resolve_transition: str = ""
    wont_fix_resolution: str = ""
    reopen_duration: int = option(0, convert=parse_duration)
    fields: dict[str, Any] = option(factory=dict)
    send_resolved: bool = True
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        for name in ("project", "issue_type"):
            if not getattr(self, name):
                raise BadInput(f"missing {name} in jira_config", where=name)
        _part(self.summary, "summary", "template", str)
        _part(self.description, "description", "template", str)
        labels, _ = _part(self.labels, "labels", "values", (list, tuple))
        if not all(isinstance(label, str) for label in labels):
            raise BadInput("labels are texts", where="labels")


def _part(given: Any, name: str, key: str, shape: type | tuple[type, ...]) -> tuple[Any, bool]:
    """(what is to be written, whether into an issue that exists too) of a value in its short or its long form. Raises `BadInput`."""
    if isinstance(given, shape):
        return given, True
    if not isinstance(given, dict):
        raise BadInput("of the wrong type", where=name, hint=f"expected the value itself, or a mapping of {key} and enable_update")
    if unknown := set(given) - {key, "enable_update"}:
        raise BadInput(f"unknown key {min(unknown)}", where=name, hint=f"expected {key}, enable_update")
    value, update = given.get(key, () if key == "values" else ""), given.get("enable_update")
    if not isinstance(value, shape) or not isinstance(update, bool | None):
        raise BadInput("of the wrong type", where=name, hint=f"expected {key} and enable_update, which is true or false")
    return value, update is not False


@dataclass(frozen=True, slots=True)
class _Plan:
    """All texts of one notification, rendered: what to look for, and what the issue says."""

    base: str
    jql: str
    fields: dict[str, Any]
    kept: frozenset[str]
    """Fields that an issue which exists keeps as they are."""


class Jira:
    """One Jira project of one receiver."""

    kind = "jira"

    def __init__(self, config: JiraConfig, fallback: Any, http: Http, templates: Templates) -> None:
        self.send_resolved = config.send_resolved
        self._config, self._global, self._http, self._templates = config, fallback, http, templates

    async def deliver(self, notice: Notice, *, seconds: float, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        """As `notice.Channel` promises; `leaving` is awaited before the issue is made or changed."""
        plan = await asyncio.to_thread(self._plan, notice)
        try:
            async with asyncio.timeout(seconds):
                return await self._told(plan, notice, leaving)
        except TimeoutError:
            raise Undeliverable(f"Jira did not do it all within {seconds:g}s", reason="timeout", retryable=True) from None

    async def _told(self, plan: _Plan, notice: Notice, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        firing = notice.status == "firing"
        issue = await self._find(plan)
        if issue is None:
            if not firing:
                return Receipt("resolved, and there is no open issue")
            made = await self._ask("POST", f"{plan.base}/issue", {"fields": plan.fields}, leaving)
            return Receipt(f"made {str(made.get('key', 'an issue'))[:50]}")
        key = str(issue.get("key", ""))
        if not key.replace("-", "").replace("_", "").isalnum():
            raise Undeliverable("Jira's answer names no issue", reason="protocol", retryable=False)
        fields = {name: value for name, value in plan.fields.items() if name not in plan.kept}
        await self._ask("PUT", f"{plan.base}/issue/{key}", {"fields": fields}, leaving)
        moved = await self._move(plan, key, _category(issue), firing=firing)
        return Receipt(f"changed {key}{moved}")

    async def _find(self, plan: _Plan) -> dict[str, Any] | None:
        config = self._config
        cloud = config.api_type == "cloud" or (config.api_type == "auto" and (urlsplit(plan.base).hostname or "").endswith(_CLOUD))
        # Jira Cloud no longer has the search of API version 2, data centers lack that of version 3.
        url = f"{plan.base}/search/jql".replace("/rest/api/2/", "/rest/api/3/", 1) if cloud else f"{plan.base}/search"
        found = (await self._ask("POST", url, {"jql": plan.jql, "maxResults": 2, "fields": ["status"]})).get("issues")
        return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else None

    async def _move(self, plan: _Plan, key: str, category: str, *, firing: bool) -> str:
        wanted = self._config.reopen_transition if firing else self._config.resolve_transition
        if not category or firing != (category == "done"):
            return ""
        url = f"{plan.base}/issue/{key}/transitions"
        known = (await self._ask("GET", url)).get("transitions")
        for one in known if isinstance(known, list) else ():
            if isinstance(one, dict) and one.get("name") == wanted:
                await self._ask("POST", url, {"transition": {"id": one.get("id")}})
                return f", {wanted}"
        raise Undeliverable(f"Jira's issue {key} has no transition {wanted!r}", reason="status", retryable=False)

    async def _ask(
        self, method: Literal["GET", "POST", "PUT"], url: str, body: Any = None, leaving: Callable[[], Awaitable[None]] | None = None
    ) -> dict[str, Any]:
        headers = {"Accept-Language": "en", "Content-Type": "application/json"}
        answer: Answer = await self._http.ask_json(method, url, body, timeout=TIMEOUT_S, headers=headers, leaving=leaving)
        answer.check()
        if not answer.body.strip():
            return {}
        try:
            said = json.loads(answer.body)
        except ValueError:
            raise Undeliverable("Jira's answer is not JSON", reason="protocol", retryable=True) from None
        return said if isinstance(said, dict) else {}

    def _plan(self, notice: Notice) -> _Plan:
        config, words = self._config, self._templates.over(notice)
        base = (config.api_url or str(self._global.jira_api_url)).rstrip("/")
        label, project = f"ALERT{{{group_id(notice)}}}", words.text(config.project)
        closed = notice.status != "firing" or not config.reopen_transition or config.reopen_duration < 60_000
        conditions = [
            *([f"resolution != {json.dumps(config.wont_fix_resolution)}"] if config.wont_fix_resolution else []),
            "statusCategory != Done" if closed else f"(resolutiondate is EMPTY OR resolutiondate >= -{config.reopen_duration // 60_000}m)",
            f"project={json.dumps(project, ensure_ascii=False)}",
            f"labels={json.dumps(label)}",
        ]
        jql = " and ".join(conditions) + " order by status ASC,resolutiondate DESC"
        summary, description = _part(config.summary, "summary", "template", str), _part(config.description, "description", "template", str)
        labels = _part(config.labels, "labels", "values", (list, tuple))
        parts = {"summary": summary, "description": description, "labels": labels}
        fields: dict[str, Any] = {
            "project": {"key": project},
            "issuetype": {"name": words.text(config.issue_type)},
            "summary": cut(words.text(summary[0]), MAX_SUMMARY),
            "description": _described(cut(words.text(description[0]), MAX_DESCRIPTION), base),
            "labels": sorted((*(words.text(text) for text in labels[0]), label)),
            "priority": {"name": priority} if (priority := words.text(config.priority)) else None,
        }
        fields = {**filled(**fields), **words.values(config.fields)}
        return _Plan(base, jql, fields, frozenset(name for name, (_, update) in parts.items() if not update))

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()


def _described(text: str, base: str) -> Any:
    """The description as the API wants it: version 3 takes a document of its own format, which the template writes as JSON."""
    if not base.endswith("/3") or not text.strip():
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise Undeliverable(
            "template: the description is no JSON, as Jira's API version 3 wants it", reason="template", retryable=False
        ) from None


def _category(issue: Mapping[str, Any]) -> str:
    """`done`, `new`, `indeterminate`, or "" where the answer does not say."""
    found: Any = issue
    for name in ("fields", "status", "statusCategory", "key"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""
