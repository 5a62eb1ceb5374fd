"""A Vedette with something to show, and a real browser to look at it.

The server is the one a user starts (`python -m vedette serve`), collecting from this machine, with a target that is down
and rules in every state. `VEDETTE_UI_URL` names one that runs already instead, given the same configuration.
Fixtures with a browser live as long as one test module: Playwright's synchronous interface keeps an event loop running in
this thread, beside which no asynchronous test could start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Markup in data must stay text: it is in a label, in an annotation and in a name that is not a Prometheus 2 one.
HOSTILE = "<img src=x onerror=document.title='broken-in'>"

CONFIG = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
vedette: {host: {interval: 1s}}
scrape_configs:
- job_name: broken
  static_configs: [{targets: ['127.0.0.1:9'], labels: {team: payments, note: "HOSTILE"}}]
""".replace("HOSTILE", HOSTILE)

RULES = """
groups:
- name: states
  interval: 1s
  rules:
  - alert: AlwaysFiring
    expr: vector(42)
    labels: {severity: page}
    annotations: {summary: "The value is {{ $value }}", runbook_url: "https://example.org/runbook", hostile: "HOSTILE"}
  - alert: LongPending
    expr: up{job="broken"} == 0
    for: 10h
    labels: {severity: info}
    annotations: {summary: "{{ $labels.instance }} does not answer", link: "javascript:alert(1)"}
  - alert: NeverFiring
    expr: vector(0) > 1
    for: 5m
  - record: broken:up:sum
    expr: sum(up{job="broken"})
""".replace("HOSTILE", HOSTILE)

# What must be there before the pages are looked at: a rate of the host's counters, every rule evaluated, the target tried.
READY = (
    # Plots stand on multiples of their step (15 s here): what is older than one is in them for certain.
    'count(rate(node_cpu_seconds_total{mode="idle"}[1m] offset 16s)) > 0',
    "count(node_filesystem_size_bytes offset 16s) > 0",
    'count(ALERTS{alertname="AlwaysFiring",alertstate="firing"}) > 0',
    'count(ALERTS{alertname="LongPending",alertstate="pending"}) > 0',
    'count(up{job="broken"} == 0) > 0',
)


def eventually(condition: Callable[[], Any], what: str, *, seconds: float) -> Any:
    """Poll until `condition()` is true; fail after `seconds`, naming `what` did not come about."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except httpx.TransportError:
            found = None
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    (folder / "prometheus.yml").write_text(CONFIG)
    (folder / "rules.yml").write_text(RULES)
    command = [sys.executable, "-m", "vedette", "serve", "--config", "prometheus.yml", "--data", "data", "--port", str(port)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEDETTE_") and name not in ("PORT", "API_KEY")}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=kept)


@pytest.fixture(scope="session")
def ui_url(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[str]:
    """The address of a Vedette whose data are in (`READY`)."""
    given = os.environ.get("VEDETTE_UI_URL")
    folder = tmp_path_factory.mktemp("ui")
    port = free_port()
    url = given or f"http://127.0.0.1:{port}"
    server = None if given else _start(folder, port)
    try:
        with httpx.Client(base_url=url, timeout=30) as client:

            def has(expr: str) -> bool:
                if server is not None and server.poll() is not None:
                    pytest.fail(f"the server ended with status {server.returncode}:\n{(folder / 'log').read_text()[-4000:]}")
                answer = client.get("/api/v1/query", params={"query": expr})
                return answer.status_code == 200 and bool(answer.json()["data"]["result"])

            for expr in READY:
                eventually(lambda expr=expr: has(expr), f"an answer to {expr}", seconds=90)
        yield url
    finally:
        if server is not None:
            server.terminate()
            server.wait(timeout=20)


@pytest.fixture(scope="module")
def browser(debian_binary: Callable[[str], str]) -> Iterator[Browser]:
    """A headless Chromium."""
    path = debian_binary("chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield found
        found.close()


@dataclass
class Viewer:
    """One reader's window: opens pages, and remembers what the browser complained of."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to a page and wait until its frame stands."""
        self.page.goto(self.url + path)
        expect(self.page.locator("main h1")).to_be_visible()
        return self.page


def listen(page: Page, into: list[str]) -> None:
    """Keep what goes wrong in a page. A refused query is an answer, though the browser logs its status as an error."""

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "status of 400" not in message.text:
            into.append(f"{message.type}: {message.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: into.append(f"uncaught: {error}"))


@pytest.fixture
def viewer(request: pytest.FixtureRequest, browser: Browser, ui_url: str) -> Iterator[Viewer]:
    """A window of 1440 x 900 in the light theme; parametrize indirectly with (width, theme) for another. Complaints fail the test."""
    width, theme = getattr(request, "param", (1440, "light"))
    height = 844 if width < 500 else 900
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme, timezone_id="UTC", locale="en-GB")
    page = context.new_page()
    found = Viewer(page, ui_url)
    listen(page, found.complaints)
    yield found
    context.close()
    assert found.complaints == []
