"""`/api/v1/scrape_pools` (and `/config` below it), `/targets/relabel_steps` and `/alertmanagers`: where targets come from, and where
alerts go.

All of it is read from what is in force, at each request. Not here: the targets themselves and their state (`watch.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import yaml
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import success
from vedette.api.endpoint import Endpoint, Param
from vedette.api.params import Form, form_of
from vedette.errors import BadInput
from vedette.model.durations import format_duration
from vedette.model.labels import EMPTY, Labels
from vedette.model.relabel import RelabelConfig, relabel

if TYPE_CHECKING:
    from vedette.collect.config import ScrapeConfig

_NO_POOL = "no scrapePool parameter provided"
_LABELS = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class InForce:
    """What is read: the configured pools, the names of those at work (this process has its own), the text of the configuration without
    its secrets, and the URLs that alerts are posted to, without credentials.
    """

    jobs: Callable[[], Sequence[ScrapeConfig]] = tuple
    internal: Callable[[], Collection[str]] = frozenset
    text: Callable[[], str] = str
    alertmanagers: Callable[[], Sequence[str]] = tuple


@dataclass(frozen=True, slots=True)
class Pools:
    """The operations over it."""

    in_force: InForce

    async def scrape_pools(self, request: Request) -> Response:
        """The names of all pools."""
        return success({"scrapePools": sorted({job.job_name for job in self.in_force.jobs()} | set(self.in_force.internal()))})

    async def config(self, request: Request) -> Response:
        """A pool's configuration, with what it has from `global`."""
        pool, job = self._pool(await form_of(request))
        shown: dict[str, object] = {"job_name": pool}
        if job is not None:
            loaded: dict[str, Any] = yaml.load(self.in_force.text(), Loader=yaml.CSafeLoader) or {}
            written: dict[str, object] = next((one for one in loaded.get("scrape_configs") or () if one.get("job_name") == pool), {})
            spans = (("scrape_interval", job.scrape_interval), ("scrape_timeout", job.scrape_timeout))
            shown |= {name: format_duration(span) for name, span in spans if span is not None}
            shown |= {"metrics_path": job.metrics_path, "scheme": job.scheme} | written
        return success({"yaml": yaml.dump(shown, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)})

    def _pool(self, form: Form) -> tuple[str, ScrapeConfig | None]:
        """The pool that is asked for, and its configuration; None for one of this process itself."""
        pool = form.text("scrapePool")
        if not pool:
            raise BadInput(_NO_POOL)
        job = next((job for job in self.in_force.jobs() if job.job_name == pool), None)
        if job is None and pool not in self.in_force.internal():
            raise BadInput(f'error retrieving scrape config: scrape pool "{pool}" not found')
        return pool, job

    async def relabel_steps(self, request: Request) -> Response:
        """What each rule of a pool makes of labels; once one drops them nothing is left for those after it."""
        form = await form_of(request)
        given = form.text("labels")
        if not form.text("scrapePool"):
            raise BadInput(_NO_POOL)
        if not given:
            raise BadInput("no labels parameter provided")
        try:
            labels = Labels.of({name: value for name, value in _LABELS.decode(given.encode()).items() if value})
        except (msgspec.DecodeError, BadInput) as error:
            raise BadInput(f"error parsing labels: {error}") from None
        _, job = self._pool(form)
        steps = []
        left: Labels | None = labels
        for rule in () if job is None else job.relabel_configs:
            left = None if left is None else relabel(left, [rule])
            steps.append({"rule": _shown(rule), "output": (left or EMPTY).as_dict(), "keep": left is not None})
        return success({"steps": steps})

    async def alertmanagers(self, request: Request) -> Response:
        """Where alerts are sent."""
        active = [{"url": url} for url in self.in_force.alertmanagers()]
        return success({"activeAlertmanagers": active, "droppedAlertmanagers": []})


def _shown(rule: RelabelConfig) -> dict[str, object]:
    """A rule as Prometheus' description of its API has it, without what is empty."""
    fields = {
        "source_labels": list(rule.source_labels),
        "separator": rule.separator,
        "regex": rule.regex,
        "modulus": rule.modulus,
        "target_label": rule.target_label,
        "replacement": rule.replacement,
        "action": rule.action,
    }
    return {name: value for name, value in fields.items() if value}


def endpoints(pools: Pools) -> list[Endpoint]:
    """The operations of this room."""
    steps = (
        Param("scrapePool", "text", "The name of the pool.", required=True),
        Param("labels", "text", "Labels before relabelling, as a JSON object of texts.", required=True),
    )
    return [
        Endpoint("/api/v1/scrape_pools", pools.scrape_pools, "Names of scrape pools", tag="targets"),
        Endpoint("/api/v1/scrape_pools/config", pools.config, "A scrape pool's configuration", params=steps[:1], tag="targets"),
        Endpoint("/api/v1/targets/relabel_steps", pools.relabel_steps, "What relabelling makes of labels", params=steps, tag="targets"),
        Endpoint("/api/v1/alertmanagers", pools.alertmanagers, "The Alertmanagers that alerts are passed on to", tag="rules"),
    ]
