"""The settings of pushes that are no Prometheus': Influx, OpenTSDB, Datadog. Not here: reading them (`wire`), serving them (`api`)."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.wire.naming import Names, parse_names


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """What names from elsewhere come to."""

    names: Names = option("underscores", convert=parse_names)
    """`underscores`: what would need quotes in a query becomes an underscore; `utf8`: names stay as they are."""
    influx_separator: str = "_"
    """What stands between measurement and field in the name of a metric."""
    influx_db_label: str = "db"
    """The label that holds the database (or the bucket) that Influx' clients write to; empty: none does."""
