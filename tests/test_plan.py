"""What a reload puts in force, and what it says of the rest. What the files say is read in `test_settings.py`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from vedette.plan import _AT_ONCE, _AT_THE_START, _LATER, waiting
from vedette.settings import VedetteSection


def changed(section: str, **settings: Any) -> VedetteSection:
    base = VedetteSection()
    return dataclasses.replace(base, **{section: dataclasses.replace(getattr(base, section), **settings)})


@pytest.mark.parametrize(
    ("section", "setting", "value", "waits"),
    [
        ("server", "port", 9999, True),
        ("server", "log_level", "debug", True),
        ("storage", "data", Path("/elsewhere"), True),
        ("storage", "admin_api", True, False),
        ("promql", "max_concurrency", 3, True),
        ("access", "redis_url", "redis://x/0", True),
        ("access", "api_key", "another-key", False),
        ("logs", "query_memory", 1 << 20, True),
        ("logs", "retention", 1_000, False),
        ("host", "enabled", False, False),
        ("health", "cache_url", "redis://x/0", False),
    ],
)
def test_what_waits_for_the_next_start_is_named(section: str, setting: str, value: Any, waits: bool) -> None:
    found = waiting(VedetteSection(), changed(section, **{setting: value}))
    assert found == ([f"{section}.{setting}"] if waits else [])


def test_what_is_as_it_was_is_not() -> None:
    assert waiting(VedetteSection(), VedetteSection()) == []
    assert waiting(changed("server", port=1), changed("server", port=1)) == []


def test_every_name_in_the_lists_is_a_setting() -> None:
    sections = {f.name: {s.name for s in dataclasses.fields(getattr(VedetteSection(), f.name))} for f in dataclasses.fields(VedetteSection)}
    assert set(_AT_THE_START) <= set(sections)
    for section, names in {**_AT_ONCE, **_LATER}.items():
        assert set(names) <= sections[section], section
