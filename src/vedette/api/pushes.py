"""Every protocol of pushes that is not Prometheus' own nor OpenTelemetry's, in one list. Not here: each of them."""

from __future__ import annotations

from starlette.routing import BaseRoute

from vedette.api import datadog, imports, influx, opentsdb
from vedette.api.endpoint import Endpoint
from vedette.api.intake import Intake
from vedette.storage.interface import Storage


def _influx(intake: Intake, storage: Storage) -> influx.Influx:
    return influx.Influx(intake, lambda tenant, label, start, end: storage.label_values(tenant, label, [[]], start, end))


def endpoints(intake: Intake, storage: Storage) -> list[Endpoint]:
    """The operations."""
    return [
        *influx.endpoints(_influx(intake, storage)),
        *imports.endpoints(imports.Imports(intake)),
        *opentsdb.endpoints(opentsdb.OpenTsdb(intake)),
        *datadog.endpoints(datadog.Datadog(intake)),
    ]


def routes(intake: Intake, storage: Storage) -> list[BaseRoute]:
    """What stands before the pages, at a path of theirs."""
    return influx.routes(_influx(intake, storage))
