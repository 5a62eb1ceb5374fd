"""Named arrays in a file: packed where they are small, mapped where they are large, each held to its checksum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vedette.errors import Corrupt
from vedette.storage import sections
from vedette.storage.sections import Sections

RANDOM = np.random.default_rng(2)
ARRAYS = {
    "ascending": np.cumsum(RANDOM.integers(0, 9, 5000)),
    "pairs": np.tile(np.arange(11, dtype=np.int32), 400),
    "keys": np.sort(RANDOM.integers(0, 1 << 40, 300)).astype(np.uint64),
    "noise": RANDOM.integers(0, 256, 900).astype(np.uint8),
    "texts": np.frombuffer(b"instance host_1 host_2 host_3" * 20, dtype=np.uint8),
    "few": np.array([1, 2, 3]),
    "none": np.zeros(0, dtype=np.uint32),
    "large": RANDOM.integers(0, 1 << 60, 3_000_000),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "index"
    path.write_bytes(sections.render(ARRAYS))
    return path


def test_arrays_come_back_as_they_were_and_can_be_handed_to_kernels(file):
    found = Sections(file)
    for name, array in ARRAYS.items():
        got = found.take(name, array.dtype.type)
        assert got.dtype == array.dtype and np.array_equal(got, array), name
        # Kernels would be compiled a second time for an array that is read-only.
        assert got.flags.writeable and got.flags.c_contiguous, name
        assert found.take(name, array.dtype.type) is got


def test_what_can_be_packed_is_and_the_pieces_are_the_file(file):
    packing = {name: sections._packed(array)[0] for name, array in ARRAYS.items()}
    assert packing == {"ascending": "p", "pairs": "z", "keys": "p", "noise": "", "texts": "z", "few": "", "none": "", "large": ""}
    assert b"".join(sections.pieces(ARRAYS)) == file.read_bytes()
    small = {name: array for name, array in ARRAYS.items() if name != "large"}
    assert len(sections.render(small)) < sum(a.nbytes for a in small.values()) / 4


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="says what is resident, on Linux")
def test_a_large_array_does_not_stay_resident_for_having_been_checked(file):
    def resident() -> int:
        at, size = 0, 0
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if "-" in line.split(" ")[0]:
                at = str(file) in line
            elif at and line.startswith("Rss:"):
                size += int(line.split()[1]) * 1024
        return size

    found = Sections(file)
    large = found.take("large", np.int64)
    assert resident() < 2 << 20
    assert np.array_equal(large, ARRAYS["large"])
    assert resident() > 20 << 20


@pytest.mark.parametrize("name", [name for name, array in ARRAYS.items() if len(array)])
def test_damage_is_told_with_its_place_and_harms_no_other_array(file, name):
    offset, size, _, _ = Sections(file)._entries[name]
    raw = bytearray(file.read_bytes())
    raw[offset + size // 2] ^= 1
    file.write_bytes(raw)
    found = Sections(file)
    with pytest.raises(Corrupt, match="does not match its checksum") as caught:
        found.take(name, ARRAYS[name].dtype.type)
    assert (caught.value.path, caught.value.offset) == (file, offset)
    others = [n for n in ARRAYS if n != name]
    assert all(np.array_equal(found.take(n, ARRAYS[n].dtype.type), ARRAYS[n]) for n in others)


def test_what_is_not_there_or_is_of_another_type_is_told(file):
    found = Sections(file)
    with pytest.raises(Corrupt, match="section 'absent' is missing"):
        found.take("absent", np.int64)
    with pytest.raises(Corrupt, match="section 'pairs' holds i4z"):
        found.take("pairs", np.int64)
    file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(Corrupt, match="ends inside its header"):
        Sections(file)


def test_bytes_that_are_packed_by_nothing_known_are_refused(file):
    for packing in (sections.ZSTD, sections.PCODEC):
        with pytest.raises(ValueError):
            sections._unpacked(packing, memoryview(b"neither one nor the other"))
