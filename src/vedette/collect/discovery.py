"""Where addresses come from: target groups in the configuration, in files that change, behind a URL.

A source answers `groups()`: a list of label sets, each with `__address__`. What it last gave stays in force while it
cannot be read. Not here: what becomes of an address (`targets.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from vedette import configfile
from vedette.collect.config import FileDiscoveryConfig, HttpDiscoveryConfig, TargetGroup, files_of
from vedette.collect.targets import ADDRESS, META
from vedette.errors import BadInput, Undeliverable
from vedette.net.client import HttpClient

Found = list[Mapping[str, str]]

_FILE_POLL_MS = 5000  # Prometheus is told by inotify; a stat every five seconds is as good to a reader
_HTTP_TIMEOUT_SECONDS = 30.0
_HTTP_MAX_BYTES = 16 << 20


def expand(groups: Iterable[TargetGroup], extra: Mapping[str, str] | None = None) -> Found:
    """One label set for each address of `groups`, with the group's labels and `extra`."""
    return [{**group.labels, **(extra or {}), ADDRESS: address} for group in groups for address in group.targets]


def parse_groups(data: bytes, name: str) -> tuple[TargetGroup, ...]:
    """A discovery document, YAML or JSON: a list of `targets` and `labels`. Raises `BadInput`."""
    return configfile.parse(data, tuple[TargetGroup, ...], name=name) if data.strip() else ()


class Source(Protocol):
    """Something that knows addresses and may change its mind."""

    interval_ms: int
    problem: str
    """What is wrong with a part of it, empty for nothing."""

    async def groups(self) -> Found | None:
        """What is known now; None where nothing changed. Raises `BadInput` or `Undeliverable`: what was known stays."""
        ...

    async def close(self) -> None:
        """Give up connections."""
        ...


class FileSource:
    """One of `file_sd_configs`; files are read again when their modification time or size changes."""

    def __init__(self, config: FileDiscoveryConfig) -> None:
        self._config = config
        self._seen: dict[str, tuple[int, int]] = {}
        self._groups: dict[str, Found] = {}
        self.problem = ""
        self.interval_ms = min(config.refresh_interval, _FILE_POLL_MS)

    async def groups(self) -> Found | None:
        """The targets of all files. A bad file keeps its last good targets and is named in `problem`."""
        marks: dict[str, tuple[int, int]] = {}
        for pattern in self._config.files:
            for path in files_of(pattern):
                try:
                    stat = path.stat()
                except OSError:
                    continue  # not there (yet): no targets, as with a file that was deleted
                marks[str(path)] = (stat.st_mtime_ns, stat.st_size)
        if marks == self._seen:
            return None
        changed = [name for name, mark in marks.items() if self._seen.get(name) != mark]
        for gone in self._groups.keys() - marks.keys():
            del self._groups[gone]
        self._seen = marks
        problems = []
        for name in changed:
            try:
                with open(name, "rb") as file:  # noqa: ASYNC230, PTH123 - a small local file
                    data = file.read(_HTTP_MAX_BYTES)
                self._groups[name] = expand(parse_groups(data, name), {f"{META}filepath": name})
            except (BadInput, OSError) as error:
                problems.append(str(error))
        self.problem = "; ".join(problems)
        return [labels for found in self._groups.values() for labels in found]

    async def close(self) -> None:
        """Nothing to give up."""


class HttpSource:
    """One of `http_sd_configs`."""

    def __init__(self, config: HttpDiscoveryConfig) -> None:
        self._config = config
        self.problem = ""
        self._client = HttpClient(config)
        self.interval_ms = config.refresh_interval

    async def groups(self) -> Found | None:
        """The targets that the URL answers now."""
        headers = {"Accept": "application/json", "X-Prometheus-Refresh-Interval-Seconds": f"{self.interval_ms / 1000:g}"}
        answer = await self._client.get(self._config.url, timeout=_HTTP_TIMEOUT_SECONDS, headers=headers, max_bytes=_HTTP_MAX_BYTES)
        answer.check()
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Undeliverable(f"{answer.url}: unsupported content type {kind!r}", reason="protocol", retryable=True)
        found = expand(parse_groups(answer.body, answer.url), {f"{META}url": self._config.url})
        self.problem = ""
        return found

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()
