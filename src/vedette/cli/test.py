"""`vedette test promql` and `vedette test rules`: scripts and rule unit tests, run without a server.

Exit status 1 where anything failed. Not here: running them (`promql/testscript.py`, `rules/unittest.py`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import re2
import structlog

from vedette.errors import BadInput

_FEATURES = {
    "promql-experimental-functions": "experimental_functions",
    "promql-extended-range-selectors": "extended_range_selectors",
    "promql-binop-fill-modifiers": "fill_modifiers",
    "promql-duration-expr": "duration_expr",
}


def promql(paths: Sequence[Path], *, variants: bool) -> None:
    """Run `.test` files, and those in folders; each failure with its line, what was got and what was wanted."""
    from vedette.promql.testscript import run_script

    passed = failed = 0
    for path in _scripts(paths):
        try:
            outcomes = run_script(_text(path), str(path), variants=variants)
        except BadInput as error:
            print(error)
            failed += 1
            continue
        for outcome in outcomes:
            if outcome.passed:
                passed += 1
            else:
                failed += 1
                print(f"{path}:{outcome.line}: {outcome.expr}\n    {outcome.problem}")
    print(f"{passed} passed, {failed} failed")
    if failed:
        raise SystemExit(1)


def _scripts(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(path.rglob("*.test"))
        if not found:
            raise BadInput("no .test file in this folder", where=str(path))
        yield from found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", where=str(path)) from None


def rules(files: Sequence[Path], *, run: Sequence[str], features: Sequence[str], lenient: bool) -> None:
    """Run files of rule unit tests, printing what promtool prints; `run` are patterns of the groups of tests to run."""
    # Rules that fail are told with the tests they fail, not in a log.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    wanted = [_pattern(p) for p in run]
    failed = False
    for path in files:
        print("Unit Testing: ", path)
        try:
            failures = asyncio.run(_failures(path, wanted, features, lenient=lenient))
        except BadInput as error:
            failures = [f"    {error}"]
        if failures:
            failed = True
            print("  FAILED:")
            print("\n\n".join(failures))
        else:
            print("  SUCCESS")
        print()
    if failed:
        raise SystemExit(1)


def _pattern(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error:
        raise BadInput(f"not a regular expression: {text!r}", where="--run") from None


async def _failures(path: Path, wanted: Sequence[Any], features: Sequence[str], *, lenient: bool) -> list[str]:
    """What failed in one file. Raises `BadInput` where it, or a rule file, cannot be read."""
    from vedette import configfile
    from vedette.promql.settings import Features
    from vedette.rules import files as rule_files
    from vedette.rules import unittest, unittestfile

    for name in features:
        if name not in _FEATURES:
            raise BadInput(f"unknown feature {name!r}", where="--enable-feature", hint="expected one of " + ", ".join(sorted(_FEATURES)))
    enabled = Features(**{_FEATURES[name]: True for name in features})
    file = unittestfile.load(path, lenient=lenient)
    tests = [t for t in file.tests if not wanted or any(p.search(t.name) for p in wanted)]
    if not tests:
        return []
    paths, missing = unittestfile.rule_paths(file, path)
    for pattern in missing:
        print(f"  WARNING: no file match pattern {pattern}", file=sys.stderr)
    groups = [g for p in paths for g in rule_files.parse(configfile.read(p), name=str(p), features=enabled, lenient=lenient)]
    verdicts = [await unittest.run(file, groups, test, features=enabled) for test in tests]
    return [failure for verdict in verdicts for failure in verdict.failures]
