"""What all rooms' tests share: free ports, the conformance data, Debian's binaries. Nothing here knows Vedette."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# A kernel's first call compiles it, so an example has no deadline; what it costs is bench/'s business.
# CI tries the same examples each time, so that it tells of the change and not of luck; everybody else tries new ones.
hypothesis.settings.register_profile("vedette", deadline=None, max_examples=100, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("vedette")

_ROOT = Path(__file__).resolve().parent.parent

# Where a binary comes from, for the skip that names it.
_PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "victoria-metrics": "victoria-metrics",
    "chromium": "chromium",
    "redis-server": "redis-server",
}


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function giving a TCP port of 127.0.0.1 that was free a moment ago and that it has not given before."""
    given: set[int] = set()

    def pick() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return pick


_CONFORMANCE = Path(os.environ.get("VEDETTE_CONFORMANCE") or _ROOT.parent / "shared" / "conformance")


@pytest.fixture(scope="session")
def conformance() -> Path:
    """The conformance data (`VEDETTE_CONFORMANCE`, or ../shared/conformance beside the repository); skips without it."""
    if not _CONFORMANCE.is_dir():
        pytest.skip(f"no conformance data at {_CONFORMANCE}: set VEDETTE_CONFORMANCE to where it is")
    return _CONFORMANCE


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each file that `@pytest.mark.conformance_files(GLOB)` finds, as its argument `conformance_file`.

    The data comes in parts, so which files there are is found out, not listed. Without any the test is left with the
    pattern, for `conformance` to skip.
    """
    marker = metafunc.definition.get_closest_marker("conformance_files")
    if marker is not None:
        (pattern,) = marker.args
        found = sorted(_CONFORMANCE.glob(pattern)) or [_CONFORMANCE / pattern]
        metafunc.parametrize("conformance_file", found, ids=[path.name for path in found])


@pytest.fixture(scope="session")
def debian_binary() -> Callable[[str], str]:
    """A function giving the path of a Debian binary; skips the test, naming the package, where it is not installed."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed: apt install {_PACKAGES[name]}")
        return found

    return find
