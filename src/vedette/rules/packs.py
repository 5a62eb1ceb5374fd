"""The rule packs that come along: the files of `alerts/`, which the package carries beside this module.

Not here: the five default alerts (`defaults.py`), whose thresholds are settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vedette.promql.parse import NO_FEATURES
from vedette.promql.settings import Features
from vedette.rules.files import DEFAULT_INTERVAL_MS, Group, load

FOLDER = Path(__file__).parent / "alerts"


def pack_groups(
    names: Sequence[str], *, interval_ms: int = DEFAULT_INTERVAL_MS, query_offset_ms: int = 0, features: Features = NO_FEATURES
) -> list[Group]:
    """The groups of the packs of these names, as those of files. Raises `BadInput` where the installation lacks them."""
    found: list[Group] = []
    for name in names:
        found += load(FOLDER / f"{name}.yml", interval_ms=interval_ms, query_offset_ms=query_offset_ms, features=features)
    return found
