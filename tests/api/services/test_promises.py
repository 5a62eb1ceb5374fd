"""`docs/services.md` names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent.parent


def test_the_promises_are_held_by_tests_that_exist() -> None:
    page = (TESTS.parent / "docs" / "services.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", page))
    assert len(names) > 30
    assert not [name for name in names if f"def {name}(" not in code]
    files = set(re.findall(r"`((?:\w+/)*test_\w+\.py)`", page))
    assert len(files) > 8
    assert not [name for name in files if not (TESTS / name).is_file()]
