"""The queue on disk: what is put in is there until it is done with, whatever happens in between."""

from __future__ import annotations

import psutil
import pytest

from vedette.errors import Corrupt, LimitExceeded
from vedette.storage.disk import Disk
from vedette.storage.queue import Item, Queue


def item(n: int, *, tenant="default", lane=0, size=10) -> Item:
    return Item(tenant, lane, n, f"{n:05d}".encode() * (size // 5))


class Opened:
    """A queue and the entries it told of."""

    def __init__(self, directory, *, limit=1 << 20, disk=None):
        self.entries = []
        self.queue = Queue(directory, limit=limit, added=self.entries.extend, disk=disk)
        self.queue.open()

    def bodies(self):
        return [self.queue.read(e) for e in self.entries]


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "queue"


def test_what_is_put_is_read_back_in_order_also_after_a_restart(directory):
    first = Opened(directory)
    first.queue.put([item(1, tenant="älice", lane=3), item(2)])
    first.queue.put([item(3)])
    assert first.bodies() == [b"00001" * 2, b"00002" * 2, b"00003" * 2]
    assert first.queue.samples == 6
    # Not closed: as after `kill -9`.
    second = Opened(directory)
    assert second.bodies() == first.bodies()
    assert [(e.tenant, e.lane, e.samples) for e in second.entries] == [("älice", 3, 1), ("default", 0, 2), ("default", 0, 3)]
    assert second.queue.samples == 6


def test_reading_leaves_no_file_open(directory):
    """An outage of the server behind has entries read again and again."""
    opened = Opened(directory)
    opened.queue.put([item(n) for n in range(5)])
    before = psutil.Process().num_fds()
    for _ in range(20):
        opened.bodies()
    assert psutil.Process().num_fds() < before + 20


def test_what_is_done_with_does_not_come_back(directory):
    first = Opened(directory)
    first.queue.put([item(n) for n in range(1, 6)])
    first.queue.finish(first.entries[:2])
    first.queue.finish([first.entries[3]])
    assert first.queue.samples == 3 + 5
    second = Opened(directory)
    # The fourth comes again: it was done before the third, and only up to there all is done.
    assert second.bodies() == [b"00003" * 2, b"00004" * 2, b"00005" * 2]
    second.queue.finish(second.entries)
    second.queue.put([item(6)])
    third = Opened(directory)
    assert third.bodies() == [b"00006" * 2]


def test_segments_go_once_all_in_them_is_done(directory, monkeypatch):
    monkeypatch.setattr("vedette.storage.queue._SEGMENT", 1000)
    opened = Opened(directory)
    for n in range(20):
        opened.queue.put([item(n, size=500)])
    assert len(list(directory.glob("*.wal"))) >= 8
    before = opened.queue.nbytes
    opened.queue.finish(opened.entries[:15])
    assert opened.queue.nbytes < before / 2
    opened.queue.finish(opened.entries[15:])
    assert len(list(directory.glob("*.wal"))) == 1
    again = Opened(directory)
    assert again.entries == []
    again.queue.put([item(99)])
    assert Opened(directory).bodies() == [b"00099" * 2]


def test_more_than_the_limit_is_refused_until_there_is_room(directory, monkeypatch):
    monkeypatch.setattr("vedette.storage.queue._SEGMENT", 1000)
    opened = Opened(directory, limit=5000)
    with pytest.raises(LimitExceeded) as refused:
        for n in range(100):
            opened.queue.put([item(n, size=500)])
    assert refused.value.retry_after is not None
    held = len(opened.entries)
    assert 5 <= held <= 10
    opened.queue.finish(opened.entries[:])
    opened.queue.put([item(1, size=500)])
    assert len(opened.entries) == held + 1


class FullDisk(Disk):
    full = False

    def write(self, fd, data):
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(fd, data)


def test_a_full_disk_refuses_and_recovers(directory):
    disk = FullDisk()
    opened = Opened(directory, disk=disk)
    opened.queue.put([item(1)])
    disk.full = True
    with pytest.raises(LimitExceeded, match="No space left"):
        opened.queue.put([item(2)])
    disk.full = False
    opened.queue.put([item(3)])
    assert opened.bodies() == [b"00001" * 2, b"00003" * 2]
    # What was refused may come back after a restart, never instead of what was taken.
    assert {b"00001" * 2, b"00003" * 2} <= set(Opened(directory).bodies())


class WatchedDisk(Disk):
    """A disk that notes which files' last bytes it was made to keep."""

    def __init__(self):
        self.unsynced = set()
        self.unlinked = []

    def write(self, fd, data):
        self.unsynced.add(fd)
        return super().write(fd, data)

    def sync(self, fd):
        super().sync(fd)
        self.unsynced.discard(fd)

    def unlink(self, path):
        self.unlinked.append(path.name)
        super().unlink(path)


def test_what_is_put_is_synced_when_that_returns(directory):
    disk = WatchedDisk()
    opened = Opened(directory, disk=disk)
    for n in range(3):
        opened.queue.put([item(n), item(n)])
        assert not disk.unsynced, "a power cut now would lose what was acknowledged"


def test_segments_that_a_crash_left_behind_go_at_the_next_start(directory, monkeypatch):
    monkeypatch.setattr("vedette.storage.queue._SEGMENT", 1000)
    opened = Opened(directory)
    for n in range(6):
        opened.queue.put([item(n, size=500)])
    left = {path.name: path.read_bytes() for path in directory.glob("*.wal")}
    opened.queue.finish(opened.entries[:4])
    gone = left.keys() - {path.name for path in directory.glob("*.wal")}
    assert gone
    for name in gone:
        (directory / name).write_bytes(left[name])
    disk = WatchedDisk()
    again = Opened(directory, disk=disk)
    assert gone <= set(disk.unlinked)
    assert again.bodies() == [f"{n:05d}".encode() * 100 for n in (4, 5)]


def test_a_record_cut_off_at_the_end_was_never_acknowledged(directory):
    first = Opened(directory)
    first.queue.put([item(1), item(2)])
    (segment,) = directory.glob("*.wal")
    segment.write_bytes(segment.read_bytes()[:-5])
    second = Opened(directory)
    assert second.bodies() == [b"00001" * 2]
    assert second.queue.corrupt == 1
    second.queue.put([item(3)])
    assert Opened(directory).bodies() == [b"00001" * 2, b"00003" * 2]


def test_a_flipped_bit_costs_its_record_alone_and_is_told(directory):
    first = Opened(directory)
    first.queue.put([item(1), item(2), item(3)])
    (segment,) = directory.glob("*.wal")
    data = bytearray(segment.read_bytes())
    data[first.entries[1].offset + 25] ^= 4
    segment.write_bytes(data)
    with pytest.raises(Corrupt, match="checksum"):
        first.queue.read(first.entries[1])
    second = Opened(directory)
    assert second.bodies() == [b"00001" * 2, b"00003" * 2]
    assert second.queue.corrupt == 1


@pytest.mark.parametrize("content", [b"", b"short", bytes(20), b"\xff" * 20])
def test_a_torn_position_sends_all_again_rather_than_too_little(directory, content):
    first = Opened(directory)
    first.queue.put([item(1), item(2)])
    first.queue.finish(first.entries[:1])
    (directory / "position").write_bytes(content)
    assert Opened(directory).bodies() == [b"00001" * 2, b"00002" * 2]


def test_close_releases_and_may_be_repeated(directory):
    opened = Opened(directory)
    opened.queue.put([item(1)])
    opened.queue.close()
    opened.queue.close()
    assert Opened(directory).bodies() == [b"00001" * 2]
