"""Explore: writing, completing, running and reading expressions, by keyboard and by URL."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.wire import remote_write


def field(page: Page) -> Any:
    return page.get_by_role("textbox", name="Expression")


def chart(page: Page) -> Any:
    return page.get_by_label("Plot").locator(".chart")


def test_enter_runs_what_was_typed_and_the_url_keeps_it(viewer: Any) -> None:
    page = viewer.open("/explore")
    field(page).press_sequentially("node_load1")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"g0\.expr=node_load1&"))
    expect(chart(page)).to_have_attribute("data-series", "1")
    assert int(chart(page).get_attribute("data-points")) > 0
    field(page).fill("node_load5")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("node_load5"))
    page.go_back()
    expect(field(page)).to_have_value("node_load1")


def test_a_prometheus_link_opens_with_its_query_range_and_view(viewer: Any) -> None:
    page = viewer.open("/graph?g0.expr=up&g0.tab=1&g0.range_input=6h&g1.expr=node_load1&g1.tab=0")
    expect(page.get_by_role("textbox", name="Expression A")).to_have_value("up")
    expect(page.get_by_role("textbox", name="Expression B")).to_have_value("node_load1")
    expect(page.get_by_role("button", name="Table")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="6h", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("region", name="up").locator("tbody tr").first).to_be_visible()


def test_a_query_that_takes_long_is_stopped_and_run_again(viewer: Any) -> None:
    held = []
    viewer.page.route("**/api/v1/query_range*", lambda route: held.append(route))
    page = viewer.open("/explore?g0.expr=node_load1")
    says = page.locator(".query-says")
    expect(says).to_have_text("running…")
    with page.expect_event("requestfailed", lambda request: "query_range" in request.url):
        page.get_by_role("button", name="Stop").click()
    expect(says).to_have_text("stopped")
    expect(page.locator(".spinner")).to_have_count(0)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    page.unroute("**/api/v1/query_range*")
    page.get_by_role("button", name="Run").click()
    expect(chart(page)).to_have_attribute("data-series", "1")
    assert held, "the first was on its way"


def test_a_legend_has_room_for_what_tells_series_apart(viewer: Any) -> None:
    """It often stands last: of a histogram's buckets the names were cut before `le`."""
    long = "a note of eighty letters, at the end of which stands what tells one from another: "
    one, two = (f'label_replace(node_load{i}, "note", "{long}{i}", "", "")' for i in (1, 5))
    page = viewer.open("/explore?g0.expr=" + quote(f"{one} or {two}"))
    expect(page.locator(".legend-name")).to_have_count(2)
    assert page.evaluate("[...document.querySelectorAll('.legend-name')].filter((n) => n.scrollWidth > n.clientWidth + 1).length") == 0


def test_an_error_points_into_the_expression(viewer: Any) -> None:
    page = viewer.open("/explore?g0.expr=" + quote("sum(node_load1) node_load5"))
    error = page.get_by_role("alert")
    expect(error).to_contain_text("unexpected identifier")
    source, caret = error.locator(".pointer").inner_text().split("\n")[:2]
    assert source == "sum(node_load1) node_load5"
    assert caret.index("^") == source.index("node_load5")
    expect(field(page)).to_have_attribute("aria-invalid", "true")
    expect(field(page)).to_have_attribute("aria-describedby", error.get_attribute("id"))


def test_one_expression_that_fails_does_not_take_the_other_with_it(viewer: Any) -> None:
    page = viewer.open("/explore?g0.expr=node_load1&g1.expr=" + quote("rate("))
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(chart(page)).to_have_attribute("data-series", "1")


def test_metrics_and_functions_are_completed_and_tab_takes_one(viewer: Any) -> None:
    page = viewer.open("/explore")
    field(page).press_sequentially("rat")
    expect(page.get_by_role("option").first).to_contain_text("rate")
    page.keyboard.press("Tab")
    expect(field(page)).to_have_value("rate()")
    page.keyboard.type("node_cpu_sec")
    expect(page.get_by_role("option").first).to_contain_text("node_cpu_seconds_total")
    page.keyboard.press("Tab")
    page.keyboard.type("{mo")
    expect(page.get_by_role("option")).to_have_text(["modelabel"])
    page.keyboard.press("Tab")
    page.keyboard.type('="sys')
    expect(page.get_by_role("option")).to_have_text(["systemvalue"])
    page.keyboard.press("Tab")
    page.keyboard.type("}[5")
    page.keyboard.press("Tab")
    page.keyboard.type("]")
    expect(field(page)).to_have_value('rate(node_cpu_seconds_total{mode="system"}[5m])')
    page.keyboard.press("Enter")
    expect(chart(page)).to_be_visible()


def test_arrows_choose_a_suggestion_enter_takes_it_escape_closes(viewer: Any) -> None:
    page = viewer.open("/explore")
    field(page).press_sequentially("node_load")
    expect(page.get_by_role("option")).to_have_count(3)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    chosen = page.locator('[role=option][aria-selected="true"]')
    expect(field(page)).to_have_attribute("aria-activedescendant", chosen.get_attribute("id"))
    name = chosen.locator(".suggestion-text").inner_text()
    page.keyboard.press("Enter")
    expect(field(page)).to_have_value(name)
    expect(page.get_by_role("option")).to_have_count(0)
    page.keyboard.press("Control+a")
    page.keyboard.type("node_l")
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("option")).to_have_count(0)


def test_a_table_is_sorted_by_value(viewer: Any) -> None:
    page = viewer.open("/explore?g0.tab=table&g0.expr=" + quote("node_cpu_seconds_total"))
    page.get_by_role("button", name=re.compile("Value")).click()
    cells = page.locator(".results tbody td.number")
    values = [float(text.split()[0]) for text in cells.all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert len(values) > 4


@pytest.mark.parametrize(
    ("expr", "shown"),
    [("scalar(vector(7))", "7 scalar"), ('"text"', "text string"), ("vector(1) / 0", "+Inf"), ("no_such_metric", "found no series")],
)
def test_answers_that_are_no_vector_of_numbers(viewer: Any, expr: str, shown: str) -> None:
    page = viewer.open("/explore?g0.tab=table&g0.expr=" + quote(expr))
    expect(page.locator("main")).to_contain_text(shown)


def test_stacked_is_another_view_of_the_same_query(viewer: Any) -> None:
    page = viewer.open("/explore?g0.range_input=15m&g0.expr=" + quote("sum by (mode) (rate(node_cpu_seconds_total[1m]))"))
    expect(chart(page)).to_be_visible()
    series = chart(page).get_attribute("data-series")
    page.get_by_role("button", name="Stacked").click()
    expect(page).to_have_url(re.compile(r"g0\.stacked=1"))
    expect(chart(page)).to_have_attribute("data-series", series)


def test_a_step_is_a_duration(viewer: Any) -> None:
    page = viewer.open("/explore?g0.expr=node_load1&g0.range_input=15m")
    expect(chart(page)).to_be_visible()
    page.get_by_label("Step").fill("soon")
    expect(page.get_by_label("Step")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Step").fill("30s")
    page.get_by_label("Step").press("Enter")
    expect(page).to_have_url(re.compile(r"g0\.step_input=30(&|$)"))


def test_what_was_run_is_offered_again(viewer: Any) -> None:
    page = viewer.open("/explore?")
    page.get_by_role("button", name=re.compile("^up")).click()
    expect(page).to_have_url(re.compile(r"g0\.expr=up&"))
    viewer.open("/explore")
    expect(page.get_by_role("heading", name="Run lately in this browser")).to_be_visible()
    expect(page.locator(".picks").nth(1).get_by_role("button", name="up", exact=True)).to_be_visible()


def test_many_series_are_cut_with_a_word_about_it(viewer: Any) -> None:
    page = viewer.open("/explore?g0.range_input=15m&g0.expr=" + quote('{__name__=~"node_.+"}'))
    expect(page.get_by_text(re.compile(r"Showing 150 of \d+ series"))).to_be_visible()
    expect(chart(page)).to_have_attribute("data-series", "150")


def test_expressions_are_added_and_removed(viewer: Any) -> None:
    page = viewer.open("/explore?g0.expr=node_load1")
    page.get_by_role("button", name="Expression", exact=True).click()
    page.get_by_role("textbox", name="Expression B").fill("node_load5")
    page.keyboard.press("Enter")
    expect(chart(page)).to_have_attribute("data-series", "2")
    page.get_by_role("button", name="Remove expression A").click()
    expect(field(page)).to_have_value("node_load5")
    expect(chart(page)).to_have_attribute("data-series", "1")


@pytest.fixture(scope="module")
def heat(ui_url: str) -> str:
    """The name of a metric of native histograms: ten series, written for the last ten minutes."""
    layout = Layout(1, 0.001, (), np.array([-3, -2, -1, 4], dtype=np.int32), NO_BUCKETS)
    begin = int(time.time() * 1000) - 600_000
    growing = [np.array([6.0 * k, 3.0 * k, k, 2 * k, k, k, k]) for k in range(1, 41)]
    labels = [Labels.of(__name__="heat_seconds", route=f"/{i}") for i in range(10)]
    times = [begin + 15_000 * k for k in range(40)]
    body = remote_write.render(labels, list(range(0, 401, 40)), times * 10, [Histogram(layout, cells) for cells in growing] * 10)
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    answer = httpx.post(f"{ui_url}/api/v1/write", content=body, headers=headers, timeout=30)
    assert answer.status_code == 204, answer.text
    return "heat_seconds"


def painted(page: Page) -> int:
    """How many points of the first heat map have a colour."""
    script = "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0).length"
    return int(page.locator(".heat canvas").first.evaluate(script))


def test_native_histograms_are_a_heat_map(viewer: Any, heat: str) -> None:
    expr = quote(f'rate({heat}{{route="/3"}}[1m])')
    page = viewer.open(f"/explore?g0.range_input=15m&g0.expr={expr}&g1.expr={quote(f'histogram_count({heat})')}")
    maps = page.get_by_role("region", name="Heat maps").locator(".heat")
    expect(maps).to_have_count(1)
    expect(maps.locator("figcaption")).to_have_text(re.compile(r'^\{route="/3"\}'))
    expect(page.get_by_role("img", name=re.compile("as a heat map"))).to_be_visible()
    cells = int(maps.get_attribute("data-cells"))
    assert cells > 0 and cells % 5 == 0, "four buckets and the one around zero at each moment"
    assert painted(page) > 1000
    expect(chart(page)).to_have_attribute("data-series", "10")
    # The lowest band is that around zero; the last moment with a rate is some way from the right border.
    canvas = page.locator(".heat canvas")
    size = canvas.bounding_box()
    canvas.hover(position={"x": size["width"] * 0.6, "y": size["height"] - 3})
    expect(maps.locator(".readout")).to_have_text(re.compile(r"-1 ms to 1 ms: \S+"))
    page.get_by_role("heading", name="Explore").hover()
    expect(maps.locator(".readout")).to_have_count(0)


def test_many_heat_maps_are_cut_with_a_word_about_it(viewer: Any, heat: str) -> None:
    page = viewer.open(f"/explore?g0.range_input=15m&g0.expr={heat}")
    expect(page.get_by_text("Showing 8 of 10 series of native")).to_be_visible()
    expect(page.locator(".heat")).to_have_count(8)


def test_a_table_has_the_buckets_of_a_native_histogram(viewer: Any, heat: str) -> None:
    page = viewer.open(f"/explore?g0.tab=1&g0.expr={quote(f'sum({heat})')}")
    cell = page.locator(".buckets")
    expect(cell.locator("summary")).to_contain_text("native histogram, 5 buckets")
    cell.locator("summary").click()
    first, second = cell.locator("tr").all_inner_texts()[:2]
    assert first.split("\t")[:2] == ["[-0.001, 0.001]", "400"]
    assert second.split("\t")[1] == "800"
    widths = [bar.bounding_box()["width"] for bar in cell.locator(".bucket-bar span").all()]
    assert widths[1] == max(widths) == pytest.approx(2 * widths[0], rel=0.02)
