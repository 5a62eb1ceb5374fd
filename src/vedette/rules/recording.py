"""Recording rules: from a query's result to the series it is recorded under. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from vedette.errors import BadInput, LimitExceeded
from vedette.model.labels import METRIC_NAME, Labels

Element = TypeVar("Element")
"""A float or a native histogram: either is recorded as it is."""


def record(name: str, labels: Labels, result: Iterable[tuple[Labels, Element]], *, limit: int = 0) -> list[tuple[Labels, Element]]:
    """The recorded samples, in the result's order; `labels` replace those of the result.

    Raises `BadInput` where two elements come to the same series, `LimitExceeded` above `limit` (0: none) elements.
    """
    laid_over = {**dict(labels), METRIC_NAME: name}
    found = [(element.with_(laid_over), value) for element, value in result]
    if len({series for series, _ in found}) < len(found):
        raise BadInput("vector contains metrics with the same labelset after applying rule labels")
    if 0 < limit < len(found):
        raise LimitExceeded(f"exceeded limit of {limit} with {len(found)} series")
    return found
