"""Memory in small pieces goes back to the system when it is asked to, and asking harms nothing where that is not known."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vedette.storage import heap


def resident() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.skipif(heap._trim() is None, reason="the C library is not glibc")
def test_what_is_free_between_what_is_held_is_given_back():
    held = [bytearray(b"x" * 60_000) for _ in range(2000)]
    # Every tenth stays, so that the C library cannot shrink its heap by itself.
    kept = held[::10]
    held.clear()
    before = resident()
    heap.give_back()
    assert resident() < before - (50 << 20)
    assert all(piece == b"x" * 60_000 for piece in kept)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert heap._trim() is None
    heap.give_back()
