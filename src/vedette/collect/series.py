"""What a scraped series is stored as: target labels laid over its own, relabelled, held to the job's limits.

`SeriesRules.resolve` is the target's `KeySpace.resolve`: it runs once for each new series, never in the steady state.
"""

from __future__ import annotations

from dataclasses import dataclass

from vedette.collect.config import ScrapeConfig
from vedette.errors import BadInput
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_label_name, is_legacy_metric_name
from vedette.model.relabel import RelabelConfig, relabel
from vedette.wire.exposition import parse_pairs


@dataclass(frozen=True, slots=True)
class SeriesRules:
    """The rules of one target; limits are 0 where there is none."""

    target: Labels
    honor_labels: bool = False
    relabel_configs: tuple[RelabelConfig, ...] = ()
    label_limit: int = 0
    label_name_length_limit: int = 0
    label_value_length_limit: int = 0
    legacy_names: bool = False

    @classmethod
    def of(cls, config: ScrapeConfig, target: Labels) -> SeriesRules:
        """The rules that a job's configuration (filled in) sets for one of its targets."""
        return cls(
            target,
            config.honor_labels,
            config.metric_relabel_configs,
            config.label_limit or 0,
            config.label_name_length_limit or 0,
            config.label_value_length_limit or 0,
            config.metric_name_validation_scheme == "legacy",
        )

    def resolve(self, key: bytes) -> Labels | None:
        """The labels to store under, None where relabelling drops the series. Raises `BadInput`, which fails the scrape."""
        labels = relabel(self._merged(parse_pairs(key)), self.relabel_configs)
        if labels is None or not labels:
            return None
        metric = labels.metric
        if not metric:
            raise BadInput("relabelling leaves no metric name", where=f"series {key.decode()}")
        if self.legacy_names:
            self._check_names(labels, key)
        self._check_limits(labels, metric)
        return labels

    def _merged(self, pairs: list[tuple[str, str]]) -> Labels:
        exposed = dict(pairs)
        if self.honor_labels:
            # An exposed label with an empty value keeps the target's away, too: so a target says that it has none.
            return Labels.of({**dict(self.target), **exposed})
        clashes = sorted(((n, exposed[n]) for n, _ in self.target if exposed.get(n)), key=lambda pair: len(pair[0]))
        merged = {**exposed, **dict(self.target)}
        for name, value in clashes:
            while merged.get(name):
                name = f"exported_{name}"
            merged[name] = value
        return Labels.of(merged)

    def _check_names(self, labels: Labels, key: bytes) -> None:
        for name, value in labels:
            good = is_legacy_metric_name(value) if name == METRIC_NAME else is_legacy_label_name(name)
            if not good:
                wrong = value if name == METRIC_NAME else name
                raise BadInput(f"invalid metric or label name {wrong!r}", where=f"series {key.decode()}", hint="legacy validation")

    def _check_limits(self, labels: Labels, metric: str) -> None:
        if self.label_limit and len(labels) > self.label_limit:
            raise BadInput(f"label_limit exceeded (metric: {metric}, number of labels: {len(labels)}, limit: {self.label_limit})")
        for name, value in labels:
            if self.label_name_length_limit and len(name.encode()) > self.label_name_length_limit:
                problem = f"label_name_length_limit exceeded (metric: {metric}, label name: {name}, limit: {self.label_name_length_limit})"
                raise BadInput(problem)
            if self.label_value_length_limit and len(value.encode()) > self.label_value_length_limit:
                problem = f"label_value_length_limit exceeded (metric: {metric}, label name: {name}, length: {len(value.encode())}, "
                raise BadInput(f"{problem}limit: {self.label_value_length_limit})")
