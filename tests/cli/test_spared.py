"""What a server spares itself: it has none of the terminal's libraries, and whoever wants them finds them all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vedette.cli.spared import spared

LOADED = """
import sys
import vedette.cli.main
sys.argv = ["vedette", "serve", "--host", "0.0.0.0", "--enable-feature", "magic"]
try:
    vedette.cli.main.main()
except SystemExit as end:
    assert end.code == 2
assert "vedette.app" in sys.modules
loaded = [name for name in ("rich", "pygments", "typer", "pydantic", "sqlalchemy.orm") if name in sys.modules]
assert not loaded, loaded
import httpx, structlog
assert structlog.dev.plain_traceback and httpx.Client
from rich.console import Console
Console(stderr=True).print("[b]here[/b]")
"""


@pytest.fixture
def absent() -> str:
    """A module of the standard library that nothing has imported."""
    name = "colorsys"
    sys.modules.pop(name, None)
    return name


def test_what_is_spared_cannot_be_imported_within_and_can_be_after(absent: str) -> None:
    with spared(absent), pytest.raises(ModuleNotFoundError, match=absent):
        __import__(absent)
    assert __import__(absent).rgb_to_hsv(0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)


def test_what_is_there_already_stays_and_works(absent: str) -> None:
    before = __import__(absent)
    with spared(absent):
        assert __import__(absent) is before
    assert sys.modules[absent] is before


def test_a_failure_within_leaves_nothing_behind(absent: str) -> None:
    with pytest.raises(RuntimeError, match="inside"), spared(absent):
        raise RuntimeError("inside")
    assert absent not in sys.modules


def test_a_server_not_at_a_terminal_has_none_of_the_terminals_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    warned, refused, here = done.stderr.splitlines()
    assert "magic" in warned and not done.stdout, "the log is on stderr from the start"
    assert refused.startswith("vedette: ") and "authentication" in refused and here == "here"
