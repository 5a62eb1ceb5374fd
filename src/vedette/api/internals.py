"""`/api/v1/status/tsdb/blocks` and `/api/v1/status/self_metrics`: the storage's blocks, and this server's own metrics as JSON.

Metrics are in the JSON form of protobuf's `io.prometheus.client.MetricFamily`, as Prometheus shows its own: 64-bit integers and floats
that are no numbers are texts. Not here: `/metrics`, and figures of the index (`status.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import success
from vedette.api.endpoint import Endpoint, Param, Run
from vedette.api.params import form_of, parameter
from vedette.model.matchers import compile_regex
from vedette.model.tenants import DEFAULT_TENANT
from vedette.storage.interface import InBlocks, Storage

_CREATED = "_created"


@dataclass(frozen=True, slots=True)
class Internals:
    """The operations. `own` gives the server's metrics as exposition text 0.0.4."""

    storage: Storage
    own: Callable[[], bytes]
    run: Run
    tenant_of: Callable[[Mapping[str, Any]], str]

    async def blocks(self, request: Request) -> Response:
        """The blocks on disk, oldest first; `maxTime` is where a block's samples have ended."""
        found = self.storage.block_figures() if isinstance(self.storage, InBlocks) else ()
        shown = [
            {
                "ulid": block.name,
                "minTime": block.min_time,
                "maxTime": block.max_time + 1,
                "stats": {
                    "numSamples": block.samples,
                    "numSeries": block.series,
                    "numFloatSamples": block.samples - block.histograms,
                    "numHistogramSamples": block.histograms,
                },
                "compaction": {"level": block.level, "sources": [block.name]},
                "version": 1,
            }
            for block in sorted(found, key=lambda block: (block.min_time, block.name))
        ]
        return success({"blocks": shown})

    async def self_metrics(self, request: Request) -> Response:
        """The server's own metrics, those whose name the pattern matches whole."""
        form = await form_of(request)
        pattern, tenant = form.text("metric_name_pattern"), self.tenant_of(request)
        matches = parameter("metric_name_pattern", lambda: compile_regex(pattern, where="metric_name_pattern")) if pattern else None

        def read() -> list[dict[str, object]]:
            shown = [family_json(family, tenant) for family in text_string_to_metric_families(self.own().decode())]
            return [family for family in shown if family["metric"] and (matches is None or matches(str(family["name"])))]

        return success(await self.run(read))


def family_json(family: Metric, tenant: str) -> dict[str, object]:
    """A family as protobuf's JSON, without the series that are another tenant's."""
    kind = {"counter": "COUNTER", "gauge": "GAUGE", "summary": "SUMMARY", "histogram": "HISTOGRAM"}.get(family.type, "UNTYPED")
    name = family.name + "_total" if kind == "COUNTER" and any(s.name.endswith("_total") for s in family.samples) else family.name
    metrics: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        # How many series another tenant has, and that there is one, is not this one's to know.
        if tenant != DEFAULT_TENANT and sample.labels.get("tenant") not in (None, "", tenant):
            continue
        special = {"HISTOGRAM": "le", "SUMMARY": "quantile"}.get(kind, "")
        labels = tuple(sorted((n, v) for n, v in sample.labels.items() if n != special))
        one = metrics.setdefault(labels, {"label": [{"name": n, "value": v} for n, v in labels]} if labels else {})
        body = one.setdefault(kind.lower(), {})
        if sample.name == family.name + _CREATED and kind in ("COUNTER", "HISTOGRAM", "SUMMARY"):
            body["createdTimestamp"] = datetime.fromtimestamp(sample.value, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        elif kind in ("COUNTER", "GAUGE", "UNTYPED"):
            body["value"] = _number(sample.value)
        elif sample.name.endswith("_count"):
            body["sampleCount"] = str(int(sample.value))
        elif sample.name.endswith("_sum"):
            body["sampleSum"] = _number(sample.value)
        elif kind == "HISTOGRAM":
            border = _number(float(sample.labels["le"]))
            body.setdefault("bucket", []).append({"cumulativeCount": str(int(sample.value)), "upperBound": border})
        else:
            body.setdefault("quantile", []).append({"quantile": float(sample.labels["quantile"]), "value": _number(sample.value)})
    return {"name": name, "help": family.documentation, "type": kind, "metric": list(metrics.values())}


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def endpoints(internals: Internals) -> list[Endpoint]:
    """The operations of this room."""
    pattern = Param("metric_name_pattern", "text", "A regular expression of the names; all if absent.")
    return [
        Endpoint("/api/v1/status/tsdb/blocks", internals.blocks, "The storage's blocks", tag="status"),
        Endpoint("/api/v1/status/self_metrics", internals.self_metrics, "This server's own metrics", params=(pattern,), tag="status"),
    ]
