"""Warnings and infos of a query: what Prometheus says beside a result, in its words and with its positions."""

from __future__ import annotations

from vedette.promql.errors import line_column
from vedette.promql.lexer import quoted
from vedette.promql.nodes import Node


class Annotations:
    """Collects the annotations of one query; equal ones count once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._warnings: dict[str, None] = {}
        self._infos: dict[str, None] = {}

    def warn(self, message: str, node: Node) -> None:
        """Add `PromQL warning: …` at a node."""
        self._warnings[f"PromQL warning: {message} ({line_column(self._text, node.start)})"] = None

    def inform(self, message: str, node: Node) -> None:
        """Add `PromQL info: …` at a node."""
        self._infos[f"PromQL info: {message} ({line_column(self._text, node.start)})"] = None

    @property
    def warnings(self) -> list[str]:
        """In order of their first occurrence."""
        return list(self._warnings)

    @property
    def infos(self) -> list[str]:
        """In order of their first occurrence."""
        return list(self._infos)


def for_metric(name: str) -> str:
    """` for metric name "x"`, or nothing where the name is unknown."""
    return f" for metric name {quoted(name)}" if name else ""


def not_a_counter(name: str) -> str:
    """What `rate` says of a metric whose name is not a counter's."""
    return f"metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {quoted(name)}"


def not_a_counter_type(name: str, type_: str) -> str:
    """What `rate` says of a metric whose `__type__` is not a counter's."""
    return f'metric might not be a counter, __type__ label is not set to "counter" or "histogram", got {quoted(type_)}: {quoted(name)}'


def bad_quantile(shown: str) -> str:
    """What a quantile outside [0, 1] says."""
    return f"quantile value should be between 0 and 1, got {shown}"


def bad_bucket_label(value: str, name: str) -> str:
    """What a histogram function says of a series without a usable `le`."""
    return f'bucket label "le" is missing or has a malformed value of {quoted(value)}{for_metric(name)}'


SORT_IN_RANGE = "sort is ineffective for range queries since results are always ordered by labels"
