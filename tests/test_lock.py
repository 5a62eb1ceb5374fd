"""The lock files hold what pyproject.toml asks for, at exact versions, and nothing that points at a particular index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LINE = re.compile(r"[a-z0-9-]+==[^\s;@]+( ; .+)?\Z")


def _locked(name: str) -> dict[str, Requirement]:
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(LINE.match(line) for line in lines), "exact versions, no addresses"
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


@pytest.mark.parametrize("development", [False, True])
def test_every_dependency_is_locked_at_a_version_that_satisfies_it(development: bool) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = [line for name, lines in project["project"]["optional-dependencies"].items() if name != "all" for line in lines]
    to_run = [*project["project"]["dependencies"], *extras]
    wanted = [Requirement(line) for line in (project["dependency-groups"]["dev"] if development else to_run)]
    locked = _locked("requirements.lock") | (_locked("requirements-dev.lock") if development else {})
    for requirement in wanted:
        found = locked.get(canonicalize_name(requirement.name))
        assert found is not None, f"{requirement.name} is not locked: make lock"
        version = str(found.specifier).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: locked at {version}: make lock"


def test_the_lock_of_development_adds_to_the_other() -> None:
    assert not _locked("requirements.lock").keys() & _locked("requirements-dev.lock").keys()
