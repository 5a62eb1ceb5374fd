"""Debian's promtool asks Vedette: every `promtool query` verb."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e import patient

NOW = int(time.time()) // 60 * 60 - 600


@pytest.fixture(scope="module")
def server(module_launch: Any) -> Any:
    """Vedette holding two series of eleven samples."""
    vedette = module_launch.vedette()
    samples = [((NOW + 15 * i) * 1000, float(i)) for i in range(11)]
    answer = vedette.write([({"__name__": "requests_total", "shop_code": code, "job": "shop"}, samples) for code in ("200", "500")])
    assert answer.status_code == 204, answer.text
    return vedette


@pytest.fixture(scope="module")
def promtool(debian_binary: Callable[[str], str]) -> Callable[..., str]:
    """Run promtool and give what it printed; it must succeed."""
    binary = debian_binary("promtool")

    def run(*arguments: str) -> str:
        done = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=patient.SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_instant(server: Any, promtool: Callable[..., str]) -> None:
    shown = promtool("query", "instant", f"--time={NOW + 150}", server.url, "sum by (shop_code) (requests_total)")
    assert f'{{shop_code="200"}} => 10 @[{NOW + 150}]' in shown
    assert f'{{shop_code="500"}} => 10 @[{NOW + 150}]' in shown


def test_range(server: Any, promtool: Callable[..., str]) -> None:
    shown = promtool("query", "range", f"--start={NOW}", f"--end={NOW + 45}", "--step=15s", server.url, 'requests_total{shop_code="500"}')
    lines = shown.splitlines()
    assert lines[0] == 'requests_total{job="shop", shop_code="500"} =>'
    assert lines[1:] == [f"{i} @[{NOW + 15 * i}]" for i in range(4)]


def test_series(server: Any, promtool: Callable[..., str]) -> None:
    shown = promtool("query", "series", f"--start={NOW}", f"--end={NOW + 150}", '--match=requests_total{shop_code=~"2.."}', server.url)
    assert "requests_total" in shown
    assert "200" in shown
    assert "500" not in shown


def test_labels(server: Any, promtool: Callable[..., str]) -> None:
    assert promtool("query", "labels", server.url, "shop_code").split() == ["200", "500"]


def test_a_bad_query_is_told(server: Any, debian_binary: Callable[[str], str]) -> None:
    command = [debian_binary("promtool"), "query", "instant", server.url, "sum(("]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient.SECONDS, check=False)
    assert done.returncode != 0
    assert "bad_data" in done.stderr
    assert "parse error" in done.stderr
