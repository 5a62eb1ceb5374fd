"""Rules made in the browser: written, checked, tried on history, saved, changed with their versions, deleted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

MANAGED = "/api/v1/rules/managed"
GROUP = """name: web
interval: 1h
rules:
- alert: Unreachable
  expr: up == 0
  for: 2s
  annotations:
    summary: '{{ $labels.instance }} is gone'
"""


@pytest.fixture
def api(ui_url: str) -> Iterator[httpx.Client]:
    """The server's API; groups that a test leaves behind are deleted, so that the next finds an empty page. Versions count on."""
    with httpx.Client(base_url=ui_url, timeout=30) as client:
        yield client
        for group in client.get(MANAGED).json()["groups"]:
            client.delete(f"{MANAGED}/{group['namespace']}/{group['name']}")


def made(api: httpx.Client, text: str = GROUP, author: str = "alice") -> None:
    answer = api.post(MANAGED, content=text, params={"author": author}, headers={"Content-Type": "application/yaml"})
    assert answer.status_code in (200, 201), answer.text


def text_of(page: Page, form: str) -> Any:
    return page.get_by_role("form", name=form).locator("textarea")


def test_a_group_is_checked_made_and_stands_among_the_rules(viewer: Any, api: httpx.Client) -> None:
    page = viewer.open("/alerts?view=made")
    expect(page.locator(".state")).to_contain_text("No rules were made here yet")
    page.get_by_role("button", name="New group").click()
    form = page.get_by_role("form", name="New group")
    text_of(page, "New group").fill(GROUP.replace("up == 0", "up =="))
    form.get_by_role("button", name="Check").click()
    expect(form.get_by_role("alert")).to_contain_text("could not parse expression")
    form.get_by_role("button", name="Make it").click()
    expect(form.get_by_role("alert").last).to_contain_text("line 5")
    text_of(page, "New group").fill(GROUP)
    form.get_by_role("button", name="Check").click()
    expect(form.get_by_role("status")).to_have_text("It is right: 1 rule.")
    form.get_by_label("Your name").fill("Alice")
    form.get_by_role("button", name="Make it").click()
    group = page.locator('[data-made="web"]')
    expect(group).to_contain_text(re.compile(r"version \d+ by Alice"))
    expect(group).to_contain_text("up == 0")
    expect(form).to_have_count(0)
    viewer.open("/alerts?search=Unreachable")
    expect(page.locator('[data-rule="Unreachable"]')).to_be_visible()
    viewer.complaints[:] = [c for c in viewer.complaints if "status of 422" not in c]


def test_a_change_makes_a_version_and_the_one_before_can_come_back(viewer: Any, api: httpx.Client) -> None:
    text = GROUP.replace("web", "mended")
    made(api, text)
    page = viewer.open("/alerts?view=made")
    group = page.locator('[data-made="mended"]')
    group.get_by_role("button", name="Edit").click()
    area = text_of(page, "Change mended")
    assert yaml.safe_load(area.input_value()) == yaml.safe_load(text)
    area.fill(text.replace("up == 0", "up == 1"))
    group.get_by_label("Your name").fill("Bob")
    group.get_by_role("button", name="Save as version 2").click()
    expect(group).to_contain_text("version 2 by Bob")
    expect(group).to_contain_text("up == 1")
    group.get_by_role("button", name="Versions").click()
    expect(group.locator(".made-version")).to_have_count(2)
    group.get_by_text("Version 1 by alice").click()
    group.get_by_role("button", name="Go back to version 1").click()
    expect(group).to_contain_text("version 3 by")
    expect(group).to_contain_text("up == 0")


def test_somebody_elses_change_is_not_overwritten(viewer: Any, api: httpx.Client) -> None:
    text = GROUP.replace("web", "shared")
    made(api, text)
    page = viewer.open("/alerts?view=made")
    group = page.locator('[data-made="shared"]')
    group.get_by_role("button", name="Edit").click()
    expect(text_of(page, "Change shared")).to_be_visible()
    api.put(f"{MANAGED}/default/shared", content=text.replace("2s", "3s"), params={"author": "carol"})
    group.get_by_role("button", name="Save as version 2").click()
    expect(group.get_by_role("alert")).to_contain_text("version")
    viewer.complaints[:] = [c for c in viewer.complaints if "status of 409" not in c]
    assert api.get(f"{MANAGED}/default/shared").json()["author"] == "carol"


def test_a_group_is_deleted_and_exported(viewer: Any, api: httpx.Client) -> None:
    made(api)
    made(api, GROUP.replace("web", "kept"))
    page = viewer.open("/alerts?view=made")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as a rule file").click()
    assert [g["name"] for g in yaml.safe_load(download.value.path().read_text())["groups"]] == ["kept", "web"]
    group = page.locator('[data-made="web"]')
    group.get_by_role("button", name="Delete", exact=True).click()
    group.get_by_role("button", name="Delete web").click()
    expect(group).to_have_count(0)
    expect(page.locator('[data-made="kept"]')).to_be_visible()


def test_a_rule_is_run_over_history_and_shown_on_a_timeline(viewer: Any, api: httpx.Client) -> None:
    made(api)
    page = viewer.open("/alerts?view=made")
    page.get_by_role("link", name="Try on history").click()
    assert yaml.safe_load(text_of(page, "Backtest").input_value()) == yaml.safe_load(GROUP)
    text_of(page, "Backtest").fill("alert: Gone\nexpr: up{job='broken'} == 0\nfor: 1s\ninterval: 1s\n")
    page.get_by_label("Over the last").fill("10m")
    page.get_by_role("button", name="Run it over history").click()
    ran = page.locator('[data-backtest="Gone"]')
    expect(ran).to_contain_text("fired", timeout=30_000)
    expect(ran.locator(".lane-firing").first).to_be_visible()
    expect(ran.locator("tbody tr").first).to_contain_text("127.0.0.1:9")
    expect(ran.locator(".lane-at")).to_have_count(5)
    lane, bar = ran.locator(".lane-time").first.bounding_box(), ran.locator(".lane-firing").last.bounding_box()
    assert lane["x"] <= bar["x"] and bar["x"] + bar["width"] <= lane["x"] + lane["width"] + 2.5, "the bar stands within its lane"
    expect(page.locator("main [role=status]")).to_contain_text("would have fired from")
    expect(page.locator("main")).to_contain_text("no receiver is configured")


def test_a_quiet_rule_says_so_and_a_wrong_one_what_is_wrong(viewer: Any) -> None:
    page = viewer.open("/alerts?view=backtest&text=" + "alert%3A%20Never%0Aexpr%3A%20up%20%3E%202%0A")
    page.get_by_label("Over the last").fill("5m")
    run = page.get_by_role("button", name="Run it over history")
    run.click()
    expect(page.locator('[data-backtest="Never"] .state')).to_contain_text("It would have stayed quiet", timeout=30_000)
    text_of(page, "Backtest").fill("record: a\nexpr: up\n")
    run.click()
    expect(page.get_by_role("alert")).to_contain_text("no alerting rule")
    page.get_by_label("Over the last").fill("soon")
    text_of(page, "Backtest").fill("alert: Never\nexpr: up > 2\n")
    run.click()
    expect(page.get_by_role("alert")).to_contain_text("since")
    viewer.complaints[:] = [c for c in viewer.complaints if not re.search("status of 42[02]", c)]


def test_a_rule_in_force_leads_to_its_backtest(viewer: Any) -> None:
    page = viewer.open("/alerts?search=LongPending")
    page.locator('[data-rule="LongPending"]').get_by_role("link", name="Backtest").click()
    found = yaml.safe_load(text_of(page, "Backtest").input_value())
    assert found["alert"] == "LongPending"
    assert found["expr"] == 'up{job="broken"} == 0'
    assert found["for"] == "10h"
    assert found["labels"] == {"severity": "info"}
    assert found["annotations"]["summary"] == "{{ $labels.instance }} does not answer"


@pytest.fixture(scope="module")
def to_yaml(browser: Browser, ui_url: str) -> Any:
    page = browser.new_page()
    page.route("**/blank", lambda route: route.fulfill(content_type="text/html", body="<p>"))
    page.goto(ui_url + "/blank")
    return lambda value: page.evaluate("async (value) => (await import('/static/js/yaml.js')).toYaml(value)", value)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "g", "interval": "30s", "rules": [{"alert": "A", "expr": 'up{a="b"} == 0', "for": "5m", "labels": {"severity": "page"}}]},
        {"a": ["x", "y"], "b": [], "c": {}, "d": None, "e": True, "f": 1.5, "g": "1.5", "h": "true", "i": "null", "j": ""},
        {"text": "two\nlines: here\n\n- and # more", "tail": "ends\n", "lead": " leads\nmore", "tabs": "a \nb", "cr": "a\r\nb"},
        {"odd: key": "- x", "#": "a # b", "q": 'it\'s "quoted"', "colon": "a: b", "star": "*x", "pct": "%x", "at": "@x", "0": "zero"},
        {"deep": [[1, 2], [{"a": {"b": ["c"]}}], []], "template": "{{ $value | humanize }}", "ümlaut": "grün", "bang": "!x", "no": "no"},
        [{"a": "1d"}, "plain words (here)", "12:30:45", "2024-01-01", "0x1f", "1e3", "~", "=", "<<"],
        {},
        [],
        "x",
    ],
)
def test_what_is_written_as_yaml_reads_back(to_yaml: Any, value: Any) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


def test_a_group_looks_as_people_write_it(to_yaml: Any) -> None:
    assert to_yaml(yaml.safe_load(GROUP)) == GROUP.replace("'", '"').replace("up == 0", '"up == 0"')
