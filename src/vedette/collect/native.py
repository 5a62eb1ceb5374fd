"""What a job does with native histograms before they are stored: bucket limits, and classic ones made native.

Not here: reading them (`wire`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vedette.collect.config import ScrapeConfig
from vedette.errors import BadInput
from vedette.kernels.hashing import hash_regions
from vedette.model.histogram_arithmetic import coarsened
from vedette.model.histograms import HEAD, Histogram, Histograms
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import SampleBatch
from vedette.promql.nhcb import converted
from vedette.wire.exposition import Exposition, format_series, parse_pairs
from vedette.wire.exposition_proto import Wanted

_FINEST, _COARSEST = 8, -4


@dataclass(frozen=True, slots=True)
class NativeSettings:
    """What `scrape_configs` say of native histograms; a limit of 0 is none."""

    scrape: bool = False
    classic_too: bool = False
    convert: bool = False
    bucket_limit: int = 0
    min_factor: float = 0.0

    @classmethod
    def of(cls, config: ScrapeConfig) -> NativeSettings:
        """Those of a job's configuration (filled in)."""
        return cls(
            bool(config.scrape_native_histograms),
            bool(config.always_scrape_classic_histograms),
            bool(config.convert_classic_histograms_to_nhcb),
            config.native_histogram_bucket_limit,
            config.native_histogram_min_bucket_factor,
        )

    @property
    def wanted(self) -> Wanted:
        """What of a histogram is read."""
        limits = self.bucket_limit or self.min_factor > 0
        return Wanted(self.scrape, self.classic_too, self.limited if limits else None)

    def limited(self, found: Histograms) -> Histograms:
        """The histograms within the limits: coarser ones where need be. Raises `BadInput` where that does not suffice."""
        finest = finest_schema(self.min_factor) if self.min_factor > 0 else _FINEST
        return Histograms.of(found.at, [self._limited(found.sample(j), finest) for j in range(len(found))])

    def _limited(self, h: Histogram, finest: int) -> Histogram:
        kept = h
        if not h.layout.custom and h.layout.schema > finest:
            kept = coarsened(h, finest)
        while self.bucket_limit and len(kept.cells) - HEAD > self.bucket_limit:
            if kept.layout.custom or kept.layout.schema <= _COARSEST:
                raise BadInput(f"histogram bucket limit exceeded ({len(kept.cells) - HEAD} buckets, limit: {self.bucket_limit})")
            kept = coarsened(kept, kept.layout.schema - 1)
        return kept.hinted(h.hint)


def finest_schema(factor: float) -> int:
    """The finest schema whose buckets grow by at most `factor` each, as Prometheus picks it."""
    floor = math.floor(math.log2(math.log2(max(factor, 1.00271))))
    return min(_FINEST, max(_COARSEST, -floor))


@dataclass(slots=True)
class Converter:
    """Makes native histograms with custom buckets of a target's classic ones; `keep` keeps the classic series as well.

    What keys mean is remembered from scrape to scrape.
    """

    keep: bool
    limited: NativeSettings
    _families: frozenset[str] = frozenset()
    _parts: dict[bytes, Labels | None] = field(default_factory=dict)

    def convert(self, exposition: Exposition) -> Exposition:
        """The exposition with its classic histograms as native ones. One whose buckets contradict one another stays as it is."""
        batch = exposition.batch
        if batch.metadata:
            self._families = frozenset(m.metric for m in batch.metadata if m.type in ("histogram", "gaugehistogram"))
            self._parts = {}
        native = {labels for labels in self._native(batch) if labels is not None}
        by_series: dict[Labels, list[tuple[int, Labels]]] = {}
        data = batch.buffer.tobytes()
        for row, (lo, hi) in enumerate(zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)):
            part = self._part(data[lo:hi])
            if part is not None and (series := _series(part)) not in native:
                by_series.setdefault(series, []).append((row, part))
        made: list[tuple[Labels, int, Histogram]] = []
        gone: dict[int, int] = {}
        for parts in by_series.values():
            samples = [(part, int(batch.timestamps[row]), float(batch.values[row])) for row, part in parts]
            try:
                found = list(converted(samples))
            except BadInput:
                continue  # as Prometheus leaves it: the classic series say what the target said
            gone.update((row, len(made)) for row, _ in parts)
            made += found
        return _with_made(exposition, made, gone, keep=self.keep, limits=self.limited) if made else exposition

    def _native(self, batch: SampleBatch) -> list[Labels | None]:
        at = [] if batch.histograms is None else batch.histograms.at.tolist()
        keys = [batch.buffer[batch.key_start[row] : batch.key_end[row]].tobytes() for row in at]
        return [Labels.from_pairs(parse_pairs(key)) for key in keys]

    def _part(self, key: bytes) -> Labels | None:
        """The labels of a series that is part of a classic histogram."""
        if key not in self._parts:
            labels = Labels.from_pairs(parse_pairs(key))
            base, _, part = labels.metric.rpartition("_")
            mine = base in self._families and (part in ("sum", "count") or (part == "bucket" and labels.get("le") != ""))
            self._parts[key] = labels if mine else None
        return self._parts[key]


def _series(part: Labels) -> Labels:
    base, _, kind = part.metric.rpartition("_")
    return (part.without("le") if kind == "bucket" else part).with_({METRIC_NAME: base})


def _starts_of(batch: SampleBatch) -> NDArray[np.int64]:
    return np.zeros(batch.sample_count, dtype=np.int64) if batch.starts is None else batch.starts


def _with_made(
    exposition: Exposition, made: list[tuple[Labels, int, Histogram]], gone: dict[int, int], *, keep: bool, limits: NativeSettings
) -> Exposition:
    batch, explicit = exposition.batch, exposition.explicit
    first_rows = {number: row for row, number in reversed(gone.items())}
    moved = [e._replace(row=gone[e.row]) for e in batch.exemplars if e.row in gone]
    first_of = [first_rows[n] for n in range(len(made))]
    stamped = explicit[first_of]
    if not keep:
        which = np.array([row for row in range(batch.series_count) if row not in gone], dtype=np.int64)
        batch, explicit = batch.rows(which), explicit[which]
    rows, own = batch.series_count, Histograms.of(range(batch.series_count, batch.series_count + len(made)), [h for _, _, h in made])
    if limits.bucket_limit:
        own = limits.limited(own)
    keys = [format_series(labels).encode() for labels, _, _ in made]
    size = len(batch.buffer)
    ends = size + np.cumsum([len(k) for k in keys], dtype=np.int64)
    starts = np.concatenate([np.array([size], dtype=np.int64), ends[:-1]])
    buffer = np.concatenate([batch.buffer, np.frombuffer(b"".join(keys), dtype=np.uint8)])
    longer = replace(
        batch,
        buffer=buffer,
        key_start=np.concatenate([batch.key_start, starts]),
        key_end=np.concatenate([batch.key_end, ends]),
        hashes=np.concatenate([batch.hashes, hash_regions(buffer, starts, ends, np.uint64(batch.keyspace.id))]),
        offsets=np.arange(rows + len(made) + 1, dtype=np.int64),
        timestamps=np.concatenate([batch.timestamps, np.array([t for _, t, _ in made], dtype=np.int64)]),
        values=np.concatenate([batch.values, own.sums]),
        histograms=own if batch.histograms is None else Histograms.joined([batch.histograms, own]),
        exemplars=[*batch.exemplars, *(e._replace(row=rows + e.row) for e in moved)],
        starts=None if exposition.batch.starts is None else np.concatenate([_starts_of(batch), exposition.batch.starts[first_of]]),
    )
    return Exposition(longer, np.concatenate([explicit, stamped]), exposition.metadata_hash)
