"""What is compiled ahead of use, and that it ends when the server does."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette import warm

# On a new machine nothing is compiled yet.
pytestmark = pytest.mark.timeout(600)


def test_stops_between_steps_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(len(list(tmp_path.iterdir())))
        return len(asked) > warm.INGEST_STEPS + 2

    ingest, rest = warm.in_two(stopped)
    ingest()
    rest()
    assert len(asked) == warm.INGEST_STEPS + 4, "one step of the rest was taken"
    assert set(asked) == {1}, "the storage it works on"
    assert not list(tmp_path.iterdir())


def test_how_many_steps_there_are() -> None:
    """The bar of `vedette warmup` ends at its end."""
    remaining = warm.steps()
    assert sum(1 for _, step in remaining if step() is None) == warm.STEPS
