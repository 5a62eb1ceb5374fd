"""Which series `limit_ratio` keeps: a number in [0, 1) for each, by a hash of its labels, the same as in Prometheus.

Prometheus hashes labels as it holds them in memory (its `stringlabels`): names and values in order of the names, each
behind its length in one byte, or, from 255 on, in a byte 255 and three bytes, the least first.
"""

from __future__ import annotations

import itertools

import numpy as np

from vedette.kernels.xxhash import xxh64
from vedette.model.labeltable import LabelTable
from vedette.promql.values import Floats

_LONG = 255


def _sized(text: str) -> bytes:
    raw = text.encode()
    return (bytes([len(raw)]) if len(raw) < _LONG else b"\xff" + len(raw).to_bytes(3, "little")) + raw


def ratio_offsets(labels: LabelTable) -> Floats:
    """Where each series stands in [0, 1): float64[n]."""
    # A text stands in many series: each is encoded once.
    used = np.unique(np.concatenate([labels.names, labels.values])).tolist()
    encoded = {symbol: _sized(labels.symbols.text(symbol)) for symbol in used}
    rows = []
    bounds = labels.offsets.tolist()
    names, values = labels.names.tolist(), labels.values.tolist()
    for lo, hi in itertools.pairwise(bounds):
        rows.append(b"".join([encoded[s] for pair in zip(names[lo:hi], values[lo:hi], strict=True) for s in pair]))
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(r) for r in rows], out=offsets[1:])
    hashes = np.empty(len(rows), dtype=np.uint64)
    xxh64(np.frombuffer(bytearray(b"".join(rows)), dtype=np.uint8), offsets, hashes)
    return hashes.astype(np.float64) / float(1 << 64)
