"""Scripts of our own in the language of Prometheus' `.test` files, one for each part of the language: `scripts/*.test`."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.promql.testscript import run_script

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.test"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    outcomes = run_script(path.read_text(encoding="utf-8"), path.name, variants=True)
    failed = [f"{path.name}:{o.line}: {o.expr}: {o.problem}" for o in outcomes if not o.passed]
    assert not failed, "\n".join(failed)
    assert outcomes
