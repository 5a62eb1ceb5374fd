"""Rule groups made over the API: kept as documents in the records, in versions with their authors, beside those of files.

A group is named by its namespace and its name, as in a ruler's configuration; to everybody else it is a group of the file
`api:NAMESPACE`. A change is on disk before it counts. Not here: HTTP, evaluation, files.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
import yaml

from vedette import configfile
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, NotFound
from vedette.model.tenants import DEFAULT_TENANT
from vedette.promql.parse import NO_FEATURES
from vedette.promql.settings import Features
from vedette.records.rows import RuleGroupRow
from vedette.rules.files import DEFAULT_INTERVAL_MS, MADE, Group, Rule, parse_group

if TYPE_CHECKING:
    from vedette.records.database import Records

log = structlog.get_logger(__name__)

MAX_GROUPS = 10_000
MAX_RULES = 20_000
"""Of one group."""
KEPT_VERSIONS = 50
"""So many versions of a group are kept, the oldest goes first."""

_NAME = re.compile(r"[^/\x00-\x1f\x7f]{1,200}\Z")


class VersionConflict(BadInput):
    """Somebody else changed the group since the version that the change was based on."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What groups that do not say take from the configuration; times in ms."""

    interval_ms: int = DEFAULT_INTERVAL_MS
    query_offset_ms: int = 0
    features: Features = NO_FEATURES


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a group. `document` is the group as YAML, "" where this version deleted it; `changed_at` in Unix ms."""

    namespace: str
    name: str
    version: int
    document: str
    author: str
    changed_at: int

    @property
    def plain(self) -> dict[str, Any]:
        """The document as plain data."""
        node = configfile.compose(self.document)
        found = configfile.plain(node) if node is not None else {}
        assert isinstance(found, dict), "what is kept has been checked"
        return found


def check_name(name: str, *, where: str) -> str:
    """A namespace or a group's name as it may stand in a URL's path. Raises `BadInput`."""
    if not _NAME.match(name) or name in (".", ".."):
        raise BadInput(f"not a name: {name[:80]!r}", where=where, hint="1 to 200 characters, no slash and no control characters")
    return name


def check(text: str | bytes, namespace: str, *, defaults: Defaults) -> Group:
    """A group's document read and checked as one of a file. Raises `BadInput`, with line and column."""
    group = parse_group(
        text,
        name="group",
        file=MADE + namespace,
        interval_ms=defaults.interval_ms,
        query_offset_ms=defaults.query_offset_ms,
        features=defaults.features,
    )
    check_name(group.name, where="name")
    if len(group.rules) > MAX_RULES:
        raise BadInput(f"{len(group.rules)} rules in one group", where="rules", hint=f"at most {MAX_RULES}: use several groups")
    return group


def rewritten(text: str | bytes) -> str:
    """A checked document as YAML of one form, in the order it was written."""
    node = configfile.compose(text)
    assert node is not None, "a checked document has a name at least"
    return str(yaml.safe_dump(configfile.plain(node), sort_keys=False, allow_unicode=True, width=140))


class ManagedRules:
    """The groups of one tenant. Call `start` once.

    `admit` is awaited before a group is taken, and may raise `BadInput`; `changed` after each change, which then counts already.
    """

    def __init__(
        self,
        records: Records,
        clock: Clock,
        changed: Callable[[], Awaitable[None]],
        *,
        admit: Callable[[Group], Awaitable[None]] | None = None,
        defaults: Callable[[], Defaults] = Defaults,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        self._records, self._clock, self._changed, self._admit = records, clock, changed, admit
        self._defaults, self._tenant = defaults, tenant
        self._versions: dict[tuple[str, str], list[Version]] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._writing = asyncio.Lock()

    async def start(self) -> None:
        """Take up what the records hold."""
        for row in await self._records.load(RuleGroupRow, tenant=self._tenant):
            version = Version(row.namespace, row.name, row.version, row.document, row.author, row.changed_at)
            self._versions.setdefault((row.namespace, row.name), []).append(version)
        self.refresh()

    def refresh(self) -> None:
        """Read the documents anew, since defaults changed. One that is not taken any more is told of in the log and left out."""
        defaults = self._defaults()
        self._groups = {}
        for key, versions in self._versions.items():
            if not versions[-1].document:
                continue
            try:
                self._groups[key] = check(versions[-1].document, key[0], defaults=defaults)
            except BadInput as error:
                # A feature that was switched off, say. The server must come up, so that the group can be mended over the API.
                log.error("a rule group made over the API is not in force", namespace=key[0], group=key[1], error=str(error))

    def groups(self) -> list[Group]:
        """All groups, in order of namespace and name."""
        return [self._groups[key] for key in sorted(self._groups)]

    def all(self, namespace: str | None = None) -> list[Version]:
        """The current version of each group (of one namespace), in order of namespace and name."""
        current = (self._versions[key][-1] for key in sorted(self._versions) if namespace in (None, key[0]))
        return [version for version in current if version.document]

    def get(self, namespace: str, name: str) -> Version:
        """The current version of a group. Raises `NotFound`."""
        found = self._versions.get((namespace, name))
        if not found or not found[-1].document:
            raise NotFound(f"rule group {name!r} of namespace {namespace!r} does not exist")
        return found[-1]

    def group(self, namespace: str, name: str) -> Group | None:
        """The group as it is in force; None for one that is not taken any more. Raises `NotFound`."""
        self.get(namespace, name)
        return self._groups.get((namespace, name))

    def history(self, namespace: str, name: str) -> list[Version]:
        """The versions that are kept of a group, deleted ones included, the newest first. Raises `NotFound`."""
        found = self._versions.get((namespace, name))
        if not found:
            raise NotFound(f"rule group {name!r} of namespace {namespace!r} does not exist and never did")
        return found[::-1]

    async def put(self, namespace: str, text: str | bytes, *, author: str = "", expected: int | None = None) -> Version:
        """Make a group, or change the one of its name. `expected` is the version it must have now, 0 for none at all.

        A document that says what the current one says changes nothing. Raises `BadInput`, `VersionConflict`, `LimitExceeded`.
        """
        check_name(namespace, where="namespace")
        group = await asyncio.to_thread(check, text, namespace, defaults=self._defaults())
        if self._admit is not None:
            await self._admit(group)
        elif group.notify is not None:
            raise BadInput("this tenant has no receivers of its own", where="notify", hint="leave it out, and name receivers in its routes")
        document = rewritten(text)
        key = namespace, group.name
        async with self._writing:
            self._expect(key, expected)
            old = self._versions.get(key, [])
            if old and old[-1].document == document:
                return old[-1]
            if not (old and old[-1].document) and len(self.all()) >= MAX_GROUPS:
                raise LimitExceeded(f"{MAX_GROUPS} rule groups were made already: delete some first")
            made = await self._commit(key, document, author)
            self._groups[key] = group
            await self._changed()
        return made

    async def delete(self, namespace: str, name: str, *, author: str = "", expected: int | None = None) -> None:
        """Delete a group; its history stays. Raises `NotFound`, `VersionConflict`."""
        async with self._writing:
            self.get(namespace, name)
            self._expect((namespace, name), expected)
            await self._commit((namespace, name), "", author)
            self._groups.pop((namespace, name), None)
            await self._changed()

    async def delete_namespace(self, namespace: str, *, author: str = "") -> None:
        """Delete all groups of a namespace. Raises `NotFound` where there is none."""
        async with self._writing:
            keys = [(v.namespace, v.name) for v in self.all(namespace)]
            if not keys:
                raise NotFound(f"namespace {namespace!r} has no rule groups")
            for key in keys:
                await self._commit(key, "", author)
                self._groups.pop(key, None)
            await self._changed()

    def _expect(self, key: tuple[str, str], expected: int | None) -> None:
        found = self._versions.get(key)
        now = found[-1].version if found and found[-1].document else 0
        if expected is not None and expected != now:
            raise VersionConflict(
                f"rule group {key[1]!r} of namespace {key[0]!r} has version {now}, the change was made to version {expected}",
                where="version",
                hint="read it anew and make the change again",
            )

    async def _commit(self, key: tuple[str, str], document: str, author: str) -> Version:
        old = self._versions.get(key, [])
        made = Version(*key, old[-1].version + 1 if old else 1, document, author, now_ms(self._clock))
        gone = old[: max(0, len(old) + 1 - KEPT_VERSIONS)]
        await self._records.save([self._row(made)], [self._row(v) for v in gone])
        self._versions[key] = [*old[len(gone) :], made]
        return made

    def _row(self, version: Version) -> RuleGroupRow:
        return RuleGroupRow(tenant=self._tenant, **{f.name: getattr(version, f.name) for f in dataclasses.fields(version)})

    def export(self, namespace: str | None = None) -> str:
        """The groups as one rule file that Prometheus takes: rules by type as the expressions they stand for.

        An anomaly, or a forecast with a season, has no such expression and keeps its own keys; `notify` is left out. Where two
        namespaces have groups of one name, each is called `NAMESPACE/NAME`.
        """
        versions = [v for v in self.all(namespace) if (v.namespace, v.name) in self._groups]
        names = [v.name for v in versions]
        documents = []
        for version in versions:
            group = self._groups[version.namespace, version.name]
            document = {name: value for name, value in version.plain.items() if name != "notify"}
            if names.count(version.name) > 1:
                document["name"] = f"{version.namespace}/{version.name}"
            document["rules"] = [_portable(w, r) for w, r in zip(document.get("rules") or (), group.rules, strict=True)]
            documents.append(document)
        return str(yaml.safe_dump({"groups": documents}, sort_keys=False, allow_unicode=True, width=140))


_TYPED_KEYS = ("type", "metric", "condition", "threshold", "window", "ahead", "season", "step", "each")


def _portable(written: dict[str, Any], rule: Rule) -> dict[str, Any]:
    if "type" not in written or rule.analysis is not None:
        return written
    kept = {name: value for name, value in written.items() if name not in _TYPED_KEYS}
    head = {"alert": kept.pop("alert"), "expr": rule.expr}
    return {**head, **kept}


def shown(version: Version, group: Group | None) -> dict[str, Any]:
    """A group for people: its document, and what each rule came to, None for a group that is not in force."""
    rules: Sequence[dict[str, Any]] = [
        {
            "kind": rule.kind,
            "name": rule.name,
            "expr": rule.shown,
            **({"analysis": str(rule.analysis)} if rule.analysis is not None else {}),
        }
        for rule in (group.rules if group is not None else ())
    ]
    return {
        "namespace": version.namespace,
        "name": version.name,
        "version": version.version,
        "author": version.author,
        "changed_at": version.changed_at,
        "file": MADE + version.namespace,
        "group": version.plain,
        "rules": rules if group is not None else None,
    }
