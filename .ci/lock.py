"""Write the two lock files: what `pyproject.toml` asks for, with all that follows from it, at exact versions.

`lock.py wanted` prints the requirements to install into an empty venv; `lock.py write`, run by that venv's Python,
writes `requirements.lock` (to run) and `requirements-dev.lock` (what tests and linters need on top). Run it on the
oldest supported Python: a backport that newer ones do without does them no harm, the reverse would be missing.
No addresses and no hashes: which index serves the packages is the installer's affair.
"""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def wanted() -> tuple[list[Requirement], list[Requirement]]:
    """What pyproject.toml asks for: (to run, with every extra; to develop)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = [line for name, lines in project["project"]["optional-dependencies"].items() if name != "all" for line in lines]
    run = [Requirement(line) for line in [*project["project"]["dependencies"], *extras]]
    dev = [Requirement(line) for line in project["dependency-groups"]["dev"]]
    return run, dev


def closure(roots: list[Requirement]) -> dict[str, str]:
    """Canonical name -> lock line of everything installed that `roots` lead to, in order of the name."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    queue = [(r, "", str(r.marker) if r.marker else "") for r in roots]
    while queue:
        requirement, extra, marker = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        line = f"{name}=={metadata.version(name)}" + (f" ; {marker}" if marker else "")
        # Reached without a marker, a package is needed everywhere, whatever other way leads to it.
        if name not in found or not marker:
            found[name] = line
        for wanted_extra in ["", *requirement.extras]:
            if (name, wanted_extra) in seen:
                continue
            seen.add((name, wanted_extra))
            needs = (Requirement(text) for text in metadata.requires(name) or [])
            queue.extend((need, wanted_extra, marker) for need in needs)
    return dict(sorted(found.items()))


def write() -> None:
    """Write both lock files beside pyproject.toml."""
    run, dev = wanted()
    to_run = closure(run)
    to_develop = {name: line for name, line in closure([*run, *dev]).items() if name not in to_run}
    for path, lines, what in (
        ("requirements.lock", to_run, "What Vedette runs on"),
        ("requirements-dev.lock", to_develop, "What its tests and linters need on top of requirements.lock"),
    ):
        text = f"# {what}, at exact versions; written by `make lock`.\n" + "".join(f"{line}\n" for line in lines.values())
        (ROOT / path).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}: {len(lines)} packages\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["wanted"]:
        sys.stdout.write("".join(f"{r}\n" for group in wanted() for r in group))
    elif sys.argv[1:] == ["write"]:
        write()
    else:
        sys.exit("usage: lock.py wanted|write")
