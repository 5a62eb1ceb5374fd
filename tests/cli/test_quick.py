"""Verbs that only ask a database, a file or a server come without what the server computes with: they answer at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import contextlib, sys
from pathlib import Path
from vedette.cli.main import main

heavy, verbs = sys.argv[1].split(","), [line.split() for line in sys.argv[2].splitlines()]
sys.stdin = open(sys.argv[3])
for words in verbs:
    sys.argv = ["vedette", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
    loaded = [name for name in heavy if name in sys.modules]
    assert not loaded, (words, loaded)
"""
COMPUTES = "numba,numpy,llvmlite,duckdb,starlette,uvicorn,httpx,lark"
RECORDS = """\
version
config
init-db
user add alice --role admin
user list
user change alice --role viewer
tenant add blue
tenant list
token create agent --role operator
token list
user remove alice
tenant remove blue
"""


def _run(verbs: str, directory: Path, *, heavy: str = COMPUTES) -> subprocess.CompletedProcess[str]:
    (directory / "data").mkdir()
    (directory / "stdin").write_text("correct horse battery staple\n")
    command = [sys.executable, "-c", RUN, heavy, verbs, str(directory / "stdin")]
    environment = {"PATH": "/usr/bin:/bin", "DATABASE_URL": f"sqlite:///{directory}/data/vedette.db", "HOME": str(directory)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=directory, env=environment)


def test_what_asks_the_records_imports_nothing_that_computes(tmp_path: Path) -> None:
    done = _run(RECORDS, tmp_path)
    assert done.returncode == 0, done.stderr
    for said in (
        "alice may log in as admin of tenant default",
        "alice: viewer of tenant default",
        "blue",
        "agent",
        "removed alice",
        "forgot blue",
    ):
        assert said in done.stdout, said


def test_the_check_sees_what_a_verb_does_import(tmp_path: Path) -> None:
    """Else the test above would pass whatever is imported."""
    done = _run("user list", tmp_path, heavy="sqlite3")
    assert done.returncode == 1 and "(['user', 'list'], ['sqlite3'])" in done.stderr


@pytest.mark.parametrize(
    "module",
    ["vedette.settings", "vedette.access.directory", "vedette.notify.alerting", "vedette.promql.settings", "vedette.model.matchers"],
)
def test_a_module_that_settings_rest_on_needs_no_numpy(module: str) -> None:
    code = f"import sys, {module}; print(*[m for m in ('numba', 'numpy', 'httpx', 'structlog') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "\n", f"{module} imports {done.stdout}"
