"""`/api/v1/status/…`: what this server is, how it was configured and what its storage holds.

Fields that only Go has (`GOGC`, `GOMEMLIMIT`, `GODEBUG`) are there because clients decode them, and are empty.
"""

from __future__ import annotations

import asyncio
import os
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import success
from vedette.api.endpoint import Endpoint, Param, Run
from vedette.api.params import boolean_of, form_of, integer, rfc3339
from vedette.clock import Clock
from vedette.errors import BadInput
from vedette.storage.interface import Ranked, Storage, StorageStats
from vedette.storage.replay import ReplayProgress
from vedette.storage.statistics import GrowthFigures, IndexFigures

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Reloaded:
    """How the last load of the configuration went; `when` in Unix seconds."""

    success: bool
    when: float


@dataclass(frozen=True, slots=True)
class StatusInfo:
    """What the server knows of itself. Callables are asked at each request; secrets are redacted by who gives them.

    `started` in Unix seconds, `retention` as Prometheus prints it (`15d`), `external_url` where others reach this server.
    """

    version: str
    started: float
    config: Callable[[], str]
    flags: Callable[[], Mapping[str, str]]
    reloaded: Callable[[], Reloaded]
    retention: Callable[[], str]
    corruptions: Callable[[], int]
    replay: Callable[[], ReplayProgress] = lambda: ReplayProgress(0, 0, 0, "done")
    """How far the reading of the log has come; a storage without one is done."""
    external_url: str = ""
    revision: str = ""
    branch: str = ""
    build_user: str = ""
    build_date: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The operations over what the server knows of itself."""

    info: StatusInfo
    storage: Storage
    run: Run
    clock: Clock

    async def build(self, request: Request) -> Response:
        """Version and build."""
        info = self.info
        return success(
            {
                "version": info.version,
                "revision": info.revision,
                "branch": info.branch,
                "buildUser": info.build_user,
                "buildDate": info.build_date,
                # Where a Prometheus names its Go: what this server was built with.
                "goVersion": f"{platform.python_implementation().lower()}{platform.python_version()}",
            }
        )

    async def runtime(self, request: Request) -> Response:
        """Start time, reloads, threads and tasks."""
        reloaded = self.info.reloaded()
        return success(
            {
                "startTime": rfc3339(self.info.started),
                "CWD": str(Path.cwd()),
                "hostname": platform.node(),
                "serverTime": rfc3339(self.clock.now()),
                "reloadConfigSuccess": reloaded.success,
                "lastConfigTime": rfc3339(reloaded.when),
                "corruptionCount": self.info.corruptions(),
                "goroutineCount": len(asyncio.all_tasks()) + threading.active_count(),
                "GOMAXPROCS": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
                "GOMEMLIMIT": 0,
                "GOGC": "",
                "GODEBUG": "",
                "storageRetention": self.info.retention(),
            }
        )

    async def tsdb(self, request: Request) -> Response:
        """Size of the head and the labels with the most series; with `growth` also what the last hour brought."""
        form = await form_of(request)
        text = form.text("limit")
        try:
            limit = integer(text) if text else 10
        except BadInput:
            limit = 0
        if limit < 1:
            raise BadInput("limit must be a positive number")
        if limit > _MOST:
            raise BadInput(f"limit must not exceed {_MOST}")
        stats = await self.run(self.storage.stats)
        figures: StorageStats | IndexFigures = stats
        growth: dict[str, object] = {}
        if isinstance(self.storage, Ranked):
            if limit > len(stats.series_by_pair) and stats.label_pairs > len(stats.series_by_pair):
                figures = await self.run(self.storage.figures, limit)
            if boolean_of(form, "growth"):
                growth = {"growth": _growth(await self.run(self.storage.growth, limit))}

        return success(
            {
                "headStats": {
                    "numSeries": stats.series,
                    "numLabelPairs": stats.label_pairs,
                    "chunkCount": stats.chunks,
                    "minTime": stats.min_time,
                    "maxTime": stats.max_time,
                },
                "seriesCountByMetricName": _rows(figures.series_by_metric[:limit]),
                "labelValueCountByLabelName": _rows(figures.values_by_label[:limit]),
                "memoryInBytesByLabelName": _rows(figures.memory_by_label[:limit]),
                "seriesCountByLabelValuePair": _rows(figures.series_by_pair[:limit]),
            }
            | growth
        )

    async def walreplay(self, request: Request) -> Response:
        """How far the reading of the log has come: segments."""
        at = self.info.replay()
        return success({"min": at.first, "max": at.last, "current": at.current, "state": at.state})

    async def config(self, request: Request) -> Response:
        """The configuration in force, secrets redacted."""
        return success({"yaml": self.info.config()})

    async def flags(self, request: Request) -> Response:
        """The settings in force by their command-line names."""
        return success(dict(self.info.flags()))


def _rows(entries: Sequence[tuple[str, int]]) -> list[dict[str, str | int]]:
    return [{"name": name, "value": value} for name, value in entries]


def _growth(found: GrowthFigures) -> dict[str, object]:
    return {
        "seconds": round(found.since),
        "numSeries": found.series,
        "seriesCountByMetricName": _rows(found.series_by_metric),
        "labelValueCountByLabelName": _rows(found.values_by_label),
        "seriesCountByLabelValuePair": _rows(found.series_by_pair),
    }


WALREPLAY = "/api/v1/status/walreplay"
"""Answered from the first moment: it says how long one still has to wait."""


def endpoints(status: Status) -> list[Endpoint]:
    """The operations of this room."""
    limit = (
        Param("limit", "integer", "The most entries of each list."),
        Param("growth", "boolean", "Add what the series of the last hour brought."),
    )
    return [
        Endpoint("/api/v1/status/buildinfo", status.build, "Version and build", tag="status"),
        Endpoint("/api/v1/status/runtimeinfo", status.runtime, "Start time, reloads, threads and tasks", tag="status"),
        Endpoint("/api/v1/status/tsdb", status.tsdb, "Statistics of the storage", params=limit, tag="status"),
        Endpoint(WALREPLAY, status.walreplay, "How far the reading of the log has come", tag="status"),
        Endpoint("/api/v1/status/config", status.config, "The configuration in force", tag="status"),
        Endpoint("/api/v1/status/flags", status.flags, "The settings in force", tag="status"),
    ]
