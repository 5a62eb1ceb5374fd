"""The login page in a real browser: in, about, out; nothing wider than the window, readable in both themes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def locked_url(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[str]:
    """A server with one user."""
    folder, port = tmp_path_factory.mktemp("locked"), free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEDETTE_") and name not in ("PORT", "API_KEY")}
    env = {**kept, "VEDETTE_HOST_ENABLED": "false"}
    (folder / "data").mkdir()
    words = ("user", "add", "alice", "--role", "admin", "--data", "data")
    subprocess.run(
        [sys.executable, "-m", "vedette", *words], cwd=folder, env=env, input=PASSWORD, text=True, check=True, capture_output=True
    )
    command = [sys.executable, "-m", "vedette", "serve", "--data", "data", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually_ready(url, server, folder / "log")
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


def eventually_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    transport = httpx.HTTPTransport(retries=8)
    with httpx.Client(transport=transport, timeout=60) as client:
        for _ in range(100_000):
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                if client.get(url + "/-/ready").status_code == 200:
                    return
            except httpx.TransportError:
                continue
    pytest.fail("the server did not become ready")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    found = context.new_page()
    yield found
    context.close()


def log_in(page: Page, url: str, name: str = "alice", password: str = PASSWORD) -> None:
    page.goto(url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def test_in_about_and_out(page: Page, locked_url: str) -> None:
    log_in(page, locked_url + "/explore")
    expect(page).to_have_url(locked_url + "/explore")
    expect(page.locator(".who")).to_contain_text("alice")
    expect(page.locator(".who")).to_have_attribute("title", "alice: admin of tenant default")
    page.get_by_role("link", name="Alerts").click()
    expect(page).to_have_title("Alerts – Vedette")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    page.goto(locked_url + "/status")
    expect(page).to_have_url(locked_url + "/login?next=/status")


def test_a_wrong_password_is_said_and_the_name_stays(page: Page, locked_url: str) -> None:
    log_in(page, locked_url, password="wrong wrong")
    expect(page.get_by_role("alert")).to_have_text("Name or password is wrong.")
    expect(page.get_by_label("Name")).to_have_value("alice")


def test_it_works_without_scripts(browser: Browser, locked_url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, locked_url + "/targets")
    expect(page).to_have_url(locked_url + "/targets")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 320])
def test_it_fits_and_can_be_read(browser: Browser, locked_url: str, scheme: Any, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 640}, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(locked_url + "/login")
    wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert wide, "nothing is wider than the window"
    expect(page.get_by_label("Name")).to_be_focused()
    if shots := os.environ.get("VEDETTE_SHOTS"):
        page.screenshot(path=f"{shots}/login-{scheme}-{width}.png")
    assert complaints == []
    context.close()
