"""A batch as remote write requests, one for each lane, so that what one series sends stays in order."""

from __future__ import annotations

from collections.abc import Sequence

import cramjam
import numpy as np
from numpy.typing import NDArray

from vedette.kernels import write_request as kernel
from vedette.model.labels import Labels
from vedette.model.samples import MetricMetadata, SampleBatch
from vedette.storage.names import Names
from vedette.storage.queue import Item
from vedette.storage.series import writable
from vedette.wire import remote_write

_I64 = np.int64


def requests(names: Names, batch: SampleBatch, rows: NDArray[np.int64], lanes: int, metadata: Sequence[MetricMetadata]) -> list[Item]:
    """The requests of a batch whose rows are the series `rows` (below 0: left out), with `metadata` in each.

    Float samples go by a kernel, native histograms one by one.
    """
    floats, native = _apart(batch)
    used = np.unique(rows[rows >= 0])
    keys, key_offsets = names.canonical_of(used)
    place = np.where(rows >= 0, np.searchsorted(used, rows), -1)
    # By handles, which stay when series are numbered anew: what one series sends stays in one lane.
    lane_of = names.handles(rows) % lanes
    lengths = np.diff(batch.offsets)
    columns = (writable(floats.offsets, _I64), writable(floats.timestamps, _I64), writable(floats.values, np.float64).view(_I64))
    items = []
    for lane in range(lanes):
        mine = (rows >= 0) & (lane_of == lane)
        body = _encoded(keys, key_offsets, np.where(mine, place, -1), columns)
        if native is not None:
            body += _histograms(names, batch, rows, mine)
        # With every lane's samples, since version 2.0 tells it of series; alone where there are none.
        if metadata and (body or (lane == 0 and not (rows >= 0).any())):
            body += _plain(remote_write.render([], [0], [], np.zeros(0), metadata=metadata))
        if body:
            samples = int(lengths[mine].sum())
            items.append(Item(batch.keyspace.tenant, lane, samples, bytes(cramjam.snappy.compress_raw(body))))
    return items


def _apart(batch: SampleBatch) -> tuple[SampleBatch, NDArray[np.int64] | None]:
    """(the batch's float samples, the places of its native histograms)."""
    if batch.histograms is None:
        return batch, None
    good = np.ones(batch.sample_count, dtype=np.bool_)
    good[batch.histograms.at] = False
    return batch.only(good), batch.histograms.at


def _encoded(
    keys: NDArray[np.uint8],
    key_offsets: NDArray[np.int64],
    place: NDArray[np.int64],
    columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> bytes:
    offsets, times, bits = columns
    size = int(kernel.encode(keys, key_offsets, place, offsets, times, bits, np.empty(0, np.uint8)))
    out = np.empty(size, dtype=np.uint8)
    kernel.encode(keys, key_offsets, place, offsets, times, bits, out)
    return out.tobytes()


def _histograms(names: Names, batch: SampleBatch, rows: NDArray[np.int64], mine: NDArray[np.bool_]) -> bytes:
    assert batch.histograms is not None
    row_of = np.searchsorted(batch.offsets, batch.histograms.at, side="right") - 1
    chosen = np.flatnonzero(mine[row_of])
    if len(chosen) == 0:
        return b""
    series = [Labels.decode(key) for key in names.keys_of(rows[row_of[chosen]])]
    times = batch.timestamps[batch.histograms.at[chosen]]
    values = [batch.histograms.sample(j) for j in chosen.tolist()]
    return _plain(remote_write.render(series, np.arange(len(series) + 1), times, values))


def _plain(body: bytes) -> bytes:
    return bytes(cramjam.snappy.decompress_raw(body))
