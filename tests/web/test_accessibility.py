"""What a keyboard, a screen reader and weak eyes need, checked on every page: names, structure, contrast, focus."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

PATHS = [
    "/",
    "/explore",
    "/explore?g0.expr=node_load1",
    "/explore?g0.expr=up&g1.expr=rate(&g0.tab=table",
    "/alerts",
    "/logs",
    "/logs?view=errors",
    *(f"/alerts?view={v}" for v in ("standing", "silences", "history", "notifications", "made", "backtest")),
    "/targets",
    "/status",
]

# Answers a list of complaints. Contrast: WCAG 2.2 AA, 4.5:1 for text and 3:1 for large text, against the nearest painted ground.
AUDIT = r"""() => {
  const problems = [];
  const tell = (element, what) => problems.push(`${what}: ${element.outerHTML.slice(0, 120)}`);
  const seen = (e) => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && !e.closest('[aria-hidden="true"]');
  const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
  const named = (e) => (e.getAttribute("aria-label") || "").trim()
    || (e.getAttribute("aria-labelledby") || "").split(" ").some((id) => id && document.getElementById(id)?.textContent.trim())
    || [...(e.labels ?? [])].some((l) => l.textContent.trim())
    || (/^(BUTTON|A|SUMMARY)$/.test(e.tagName) && e.textContent.trim());
  const controls = "button, a[href], input, select, textarea, summary, [role=dialog], nav, [role=group], [role=listbox], [tabindex='0']";
  for (const e of all(controls)) if (!named(e)) tell(e, "no accessible name");
  for (const e of all("a")) if (!e.hasAttribute("href")) tell(e, "a link that leads nowhere");
  for (const e of all("img, svg[role=img]")) if (!named(e) && !e.getAttribute("alt")) tell(e, "no text in place of a picture");
  for (const e of document.querySelectorAll("svg:not([role=img])"))
    if (!e.closest('[aria-hidden="true"]')) tell(e, "neither named nor hidden");
  for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) tell(e, "a tab order of its own");
  for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "aria-activedescendant"])
    for (const e of document.querySelectorAll(`[${attribute}]`))
      for (const id of e.getAttribute(attribute).split(" "))
        if (!document.getElementById(id)) tell(e, `${attribute} names ${id}, which is not there`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((one, i) => ids.indexOf(one) !== i))) problems.push(`two elements are called ${id}`);
  if (all("main").length !== 1) problems.push("not exactly one main");
  if (all("h1").length !== 1) problems.push("not exactly one h1");
  if (!document.documentElement.lang || !document.title) problems.push("no language or no title");
  let level = 1;
  for (const e of all("main h1, main h2, main h3, main h4")) {
    const next = Number(e.tagName[1]);
    if (next > level + 1) tell(e, `a heading of level ${next} under level ${level}`);
    level = next;
  }
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3])).concat(1);
  const ground = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255, 1]);
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (a, b) => {
    const [hi, lo] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (hi + 0.05) / (lo + 0.05);
  };
  let measured = 0;
  for (const e of all("body *")) {
    const says = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!says || e.tagName === "OPTION" || e.matches("textarea, .sr-only, .sr-only *, :disabled")) continue;
    const style = getComputedStyle(e);
    const under = ground(e);
    const ratio = contrast(over(rgba(style.color), under), under);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    measured += 1;
    if (ratio < (large ? 3 : 4.5)) tell(e, `contrast ${ratio.toFixed(2)}`);
  }
  if (measured < 8) problems.push(`only ${measured} texts were measured`);
  return problems;
}"""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("viewer", [(1440, "light"), (390, "dark")], indirect=True, ids=["wide-light", "narrow-dark"])
def test_a_page_has_names_structure_and_contrast(viewer: Any, path: str) -> None:
    page = viewer.open(path)
    expect(page.locator(".spinner")).to_have_count(0)
    assert page.evaluate(AUDIT) == []


@pytest.mark.parametrize("viewer", [(1440, "light"), (1440, "dark")], indirect=True, ids=["light", "dark"])
def test_open_menus_and_dialogs_pass_too(viewer: Any) -> None:
    page = viewer.open("/explore")
    page.get_by_role("button", name="Custom").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(AUDIT) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("textbox", name="Expression").press_sequentially("node_")
    expect(page.get_by_role("option").first).to_be_visible()
    assert page.evaluate(AUDIT) == []


@pytest.mark.parametrize("viewer", [(1440, "light"), (1440, "dark")], indirect=True, ids=["light", "dark"])
def test_series_colours_stand_out_from_their_ground(viewer: Any) -> None:
    page = viewer.open("/status")
    ratios = page.evaluate(
        """async () => {
            const { resolve, seriesColour, SERIES_COLOURS } = await import("/static/js/parts/colours.js");
            const numbers = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
            const light = (c) => { const [x, y, z] = c.map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
                return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
            const card = light(numbers(resolve("var(--card)")));
            return Array.from({ length: SERIES_COLOURS }, (_, i) => { const own = light(numbers(resolve(seriesColour(i))));
                return (Math.max(own, card) + 0.05) / (Math.min(own, card) + 0.05); }); }"""
    )
    assert len(ratios) == 8
    assert min(ratios) >= 3, ratios


def test_the_keyboard_reaches_the_page_and_shows_where_it_is(viewer: Any) -> None:
    page = viewer.open("/alerts")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "(({ outlineStyle, outlineWidth }) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
        )
        assert outline[0] != "none" and outline[1] != "0px", page.evaluate("document.activeElement.outerHTML.slice(0, 120)")


def test_going_to_a_page_moves_the_focus_and_the_title(viewer: Any) -> None:
    page = viewer.open("/")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Targets").click()
    expect(page.locator("main")).to_be_focused()
    expect(page).to_have_title("Targets – Vedette")
    expect(page.get_by_role("link", name="Targets")).to_have_attribute("aria-current", "page")


def test_a_rule_opens_and_closes_by_keyboard(viewer: Any) -> None:
    page = viewer.open("/alerts")
    rule = page.locator('[data-rule="NeverFiring"]')
    rule.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(rule.locator(".rule-query")).to_be_visible()
    page.keyboard.press("Enter")
    expect(rule.locator(".rule-query")).to_have_count(0)
