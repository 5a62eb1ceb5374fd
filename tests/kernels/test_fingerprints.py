"""Fingerprints of many label sets against their naive twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels.fingerprints import fnv1a
from vedette.model.labels import Labels


@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=20), max_size=4), max_size=6))
def test_as_one_by_one(sets: list[dict[str, str]]) -> None:
    labels = [Labels.of(s) for s in sets]
    keys = [one.encode() for one in labels]
    ends = np.cumsum([len(k) for k in keys], dtype=np.int64)
    assert fnv1a(b"".join(keys), ends).tolist() == [one.fingerprint() for one in labels]


@pytest.mark.parametrize("ends", [[4], [2, 1], [-1]])
def test_regions_outside_the_buffer_are_a_fault(ends: list[int]) -> None:
    with pytest.raises(AssertionError, match="outside"):
        fnv1a(b"abc", np.array(ends, dtype=np.int64))
