"""limit_ratio keeps the series that Prometheus keeps: by XXH64 of the labels as Prometheus encodes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels.xxhash import xxh64
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.promql.sampling import ratio_offsets

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def rotated(x: int, by: int) -> int:
    return (x << by | x >> (64 - by)) & MASK


def naive(data: bytes) -> int:
    """The algorithm, step by step as its description has it."""

    def turn(lane: int, word: int) -> int:
        return rotated((lane + word * P2) & MASK, 31) * P1 & MASK

    rest, h = data, P5
    if len(data) >= 32:
        lanes = [(P1 + P2) & MASK, P2, 0, -P1 & MASK]
        while len(rest) >= 32:
            lanes = [turn(lane, int.from_bytes(rest[8 * i : 8 * i + 8], "little")) for i, lane in enumerate(lanes)]
            rest = rest[32:]
        h = sum(rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
        for lane in lanes:
            h = ((h ^ turn(0, lane)) * P1 + P4) & MASK
    h = (h + len(data)) & MASK
    while len(rest) >= 8:
        h = (rotated(h ^ turn(0, int.from_bytes(rest[:8], "little")), 27) * P1 + P4) & MASK
        rest = rest[8:]
    if len(rest) >= 4:
        h = (rotated(h ^ int.from_bytes(rest[:4], "little") * P1 & MASK, 23) * P2 + P3) & MASK
        rest = rest[4:]
    for byte in rest:
        h = rotated(h ^ byte * P5 & MASK, 11) * P1 & MASK
    h = (h ^ h >> 33) * P2 & MASK
    h = (h ^ h >> 29) * P3 & MASK
    return h ^ h >> 32


def hashes(*texts: bytes) -> list[int]:
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    out = np.empty(len(texts), dtype=np.uint64)
    xxh64(np.frombuffer(bytearray(b"".join(texts)), dtype=np.uint8), offsets, out)
    return [int(h) for h in out]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [  # published values
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_published_values(text: bytes, wanted: int) -> None:
    assert hashes(text) == [wanted] == [naive(text)]


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_the_kernel_beside_its_twin(texts: list[bytes]) -> None:
    assert hashes(*texts) == [naive(t) for t in texts]


def test_labels_are_encoded_with_their_lengths() -> None:
    long = "é" * 200  # 400 bytes
    rows = [Labels.of(__name__="m", a="1"), Labels(), Labels.of(__name__="m", a=long)]
    wanted = [
        b"\x08__name__\x01m\x01a\x011",
        b"",
        b"\x08__name__\x01m\x01a\xff\x90\x01\x00" + long.encode(),
    ]
    assert ratio_offsets(LabelTable.from_labels(rows)).tolist() == [naive(w) / 2.0**64 for w in wanted]
    assert len(ratio_offsets(LabelTable.from_labels([]))) == 0
