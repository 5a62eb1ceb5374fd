"""The page of log lines in a real browser: what is found, opened, counted, followed; and what it says where there is nothing."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect
from tests.web.conftest import HOSTILE

LOOKS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def lines(ui_url: str) -> str:
    """Some lines of the last minutes, in a service of their own."""
    rows = [
        {
            "ts": time.time() - 20 * i,
            "level": level,
            "service": "shop",
            "message": f"{level} number {i} of {HOSTILE}",
            "metadata": {"n": i, "who": HOSTILE},
        }
        for i, level in enumerate(["info", "info", "warn", "error", "debug"] * 30)
    ]
    rows += [{"level": "error", "service": "jobs", "message": f"job {i} raised KeyError: 'x{i}'"} for i in range(7)]
    answer = httpx.post(f"{ui_url}/api/v1/logs", content="\n".join(map(json.dumps, rows)))
    assert answer.status_code == 200, answer.text
    return ui_url


@pytest.mark.parametrize("path", ["/logs?service=shop", "/logs?view=errors", "/logs?service=nobody", "/logs?live=1&service=shop"])
@pytest.mark.parametrize("viewer", LOOKS, indirect=True, ids=lambda look: f"{look[0]}-{look[1]}")
def test_the_page_stands_in_every_look_and_never_scrolls_sideways(viewer: Any, lines: str, path: str) -> None:
    page = viewer.open(path)
    expect(page.locator(".spinner")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    expect(page.locator(".notice-error")).to_have_count(0)


def test_lines_filters_and_what_a_line_holds(viewer: Any, lines: str) -> None:
    page = viewer.open("/logs?service=shop")
    expect(page.locator(".lines-total")).to_have_text("150 lines in this range")
    expect(page.locator(".line")).to_have_count(100)
    page.get_by_role("button", name="Older lines").click()
    expect(page.locator(".line")).to_have_count(150)
    page.get_by_role("button", name="Errors", exact=True).last.click()
    expect(page.locator(".lines-total")).to_have_text("30 lines in this range")
    assert "level=error" in page.url
    page.get_by_role("searchbox", name="Search messages").fill("NUMBER 3 ")
    page.keyboard.press("Enter")
    expect(page.locator(".line")).to_have_count(1)
    expect(page.locator(".line-fields")).to_contain_text("n=3")
    page.locator(".line summary").click()
    expect(page.locator(".line-fields")).to_have_count(0)
    expect(page.locator(".line-body")).to_contain_text(HOSTILE)
    expect(page.locator(".line-whole")).to_have_text(f"error number 3 of {HOSTILE}")
    assert page.title() == "Logs – Vedette", "markup in lines stays text"
    page.get_by_role("button", name="3", exact=True).click()
    expect(page.locator(".lines-total")).to_have_text("1 line in this range")
    assert "field=n%3D3" in page.url
    page.get_by_role("button", name="No longer only n=3").click()
    page.locator(".line-body").get_by_role("link", name="Metrics of shop").click()
    expect(page.locator("h1")).to_have_text("Explore")


def test_counts_over_time_can_be_chosen(viewer: Any, lines: str) -> None:
    page = viewer.open("/logs?service=shop")
    bars = page.locator("button.histogram-column")
    expect(bars.first.locator(".histogram-part").first).to_be_visible()
    assert bars.count() > 20
    expect(page.locator(".histogram-key")).to_have_text(re.compile("error.*warn.*info.*debug"))
    bars.first.click()
    expect(page.locator(".lines-total")).not_to_have_text("150 lines in this range")
    assert "from=" in page.url


def test_new_lines_are_followed(viewer: Any, lines: str) -> None:
    page = viewer.open("/logs?service=live")
    expect(page.get_by_text("No line matches.")).to_be_visible()
    page.get_by_role("button", name="Follow").click()
    expect(page.get_by_text("Following.")).to_be_visible()
    httpx.post(f"{lines}/api/v1/logs", content=json.dumps({"service": "live", "level": "warn", "message": "just now"}))
    expect(page.locator(".line-message").first).to_have_text("just now")
    httpx.post(f"{lines}/api/v1/logs", content=json.dumps({"service": "live", "level": "warn", "message": "and another"}))
    expect(page.locator(".line-message").first).to_have_text("and another")
    page.get_by_role("button", name="Following").click()
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")


def test_errors_are_grouped(viewer: Any, lines: str) -> None:
    page = viewer.open("/logs?view=errors&service=jobs")
    row = page.locator("tr[data-error]")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("KeyError")
    expect(row.locator("td").first).to_have_text("7")


def test_an_empty_page_says_what_to_do(viewer: Any, lines: str) -> None:
    page = viewer.open("/logs?from=1000000000&to=1000003600")
    expect(page.locator(".state")).to_contain_text("No log lines in this range.")
    expect(page.locator(".state code")).to_contain_text("/api/v1/logs")
    page = viewer.open("/logs?text=nowhere+to+be+found")
    page.get_by_role("button", name="Show all lines").click()
    expect(page.locator(".line").first).to_be_visible()
    page = viewer.open("/logs?view=errors&service=jobs&text=nowhere+to+be+found")
    page.get_by_role("button", name="Show all errors").click()
    expect(page.locator("tr[data-error]").first).to_be_visible()


@pytest.mark.parametrize("viewer", [(390, "light")], indirect=True)
def test_on_a_phone_a_message_has_the_whole_width_and_the_range_its_own_line(viewer: Any, lines: str) -> None:
    page = viewer.open("/logs?service=shop")
    page.locator(".line summary").first.click()
    message = page.locator(".line-whole")
    expect(message).to_be_visible()
    opened = message.bounding_box()
    beside = page.locator(".line-service").first.bounding_box()
    assert opened["y"] >= beside["y"] + beside["height"] - 1
    assert opened["width"] > 300
    first, last = (page.locator(".histogram-foot > span:not(.histogram-key)").nth(i).bounding_box() for i in (0, 1))
    assert first["y"] == last["y"]
    assert first["x"] < last["x"]
