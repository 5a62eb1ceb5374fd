"""Exemplars: single observations of a series, with labels of their own (a trace's id) that say where to look further."""

from __future__ import annotations

from typing import NamedTuple

from vedette.model.labels import Labels


class Exemplar(NamedTuple):
    """An exemplar of row `row` of the batch it came in; `timestamp` in ms."""

    row: int
    labels: Labels
    value: float
    timestamp: int
