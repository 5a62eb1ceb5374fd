"""`vedette test promql` and `vedette test rules`: scripts and rule unit tests, run without a server.

Exit status 1 where anything failed. Not here: running them (`promql/testscript.py`, `rules/unittest.py`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import re2
import structlog

from vedette.cli.junit import Report, Suite
from vedette.errors import BadInput

if TYPE_CHECKING:
    from vedette.rules import unittest

_DELAYED, _ALWAYS = "promql-delayed-name-removal", ("promql-at-modifier", "promql-negative-offset", "no-default-scrape-port")
"""A flag that is not of the language's syntax, and those of what is always so."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of `test rules`: patterns of the groups of tests to run, features of Prometheus, what to tell, and where as JUnit's."""

    run: Sequence[str] = ()
    features: Sequence[str] = ()
    lenient: bool = False
    diff: bool = False
    debug: bool = False
    junit: Path | None = None


def rules(files: Sequence[Path], asked: Asked) -> None:
    """Run files of rule unit tests, printing what promtool prints, and where it does."""
    # Rules that fail are told with the tests they fail, not in a log.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    wanted = [_pattern(p) for p in asked.run]
    failed = False
    report = Report()
    for path in files:
        print("Unit Testing: ", path)
        suite = report.suite(str(path))
        try:
            failures = asyncio.run(_failures(path, wanted, asked, suite))
        except BadInput as error:
            suite.abort(str(error))
            failures = [f"    {error}"]
        if failures:
            failed = True
            sys.stdout.flush()
            print("  FAILED:", *failures, sep="\n", file=sys.stderr, flush=True)
            print("\n" * (len(failures) - 1))
        else:
            print("  SUCCESS")
        print()
    if asked.junit is not None:
        report.write(asked.junit)
    if failed:
        raise SystemExit(1)


def _pattern(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error:
        raise BadInput(f"not a regular expression: {text!r}", where="--run") from None


def _manner(asked: Asked) -> unittest.Manner:
    from vedette.promql.settings import Features
    from vedette.rules import unittest

    names = [name for given in asked.features for name in given.split(",") if name]
    for name in names:
        if name not in (*_FEATURES, _DELAYED, *_ALWAYS):
            print(f"  WARNING: unknown feature {name!r}: expected one of {', '.join(sorted((*_FEATURES, _DELAYED)))}", file=sys.stderr)
    enabled = Features(**{_FEATURES[name]: True for name in names if name in _FEATURES})
    return unittest.Manner(features=enabled, delayed_name_removal=_DELAYED in names, diff=asked.diff, debug=asked.debug)


async def _failures(path: Path, wanted: Sequence[Any], asked: Asked, suite: Suite) -> list[str]:
    """What failed in one file. Raises `BadInput` where it, or a rule file, cannot be read."""
    from vedette import configfile
    from vedette.rules import files as rule_files
    from vedette.rules import unittest, unittestfile

    manner = _manner(asked)
    file = unittestfile.load(path)
    paths, missing = unittestfile.rule_paths(file, path)
    for pattern in missing:
        print(f"  WARNING: no file match pattern {pattern}", file=sys.stderr)
    tests = [(t.name or f"unnamed#{i}", t) for i, t in enumerate(file.tests) if not wanted or any(p.search(t.name) for p in wanted)]
    if not tests:
        return []
    groups = [g for p in paths for g in rule_files.parse(configfile.read(p), name=str(p), features=manner.features, lenient=asked.lenient)]
    failures: list[str] = []
    for name, test in tests:
        if asked.debug:
            print(f"DEBUG: Starting test {name}", file=sys.stderr)
        verdict = await unittest.run(file, groups, test, manner=manner)
        if asked.debug:
            print(verdict.dump, f"DEBUG: Test {name} finished", sep="\n", file=sys.stderr)
        suite.case(name, verdict.failures)
        failures += verdict.failures
    return failures
