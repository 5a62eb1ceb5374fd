"""Every page in a real browser over a real server: what it shows, in both themes, wide and on a phone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

LOOKS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
VIEWS = [f"/alerts?view={view}" for view in ("standing", "silences", "history", "notifications", "made", "backtest")]
PATHS = ["/", "/explore?g0.expr=node_load1&g0.range_input=15m", "/alerts", *VIEWS, "/targets", "/status"]
HOST_PANELS = ["CPU by mode", "Memory", "Load", "Disk space used"]


def settled(page: Page) -> None:
    """Wait until nothing on the page is loading."""
    expect(page.locator(".spinner")).to_have_count(0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("viewer", LOOKS, indirect=True, ids=lambda look: f"{look[0]}-{look[1]}")
def test_a_page_stands_in_every_look_and_never_scrolls_sideways(viewer: Any, path: str) -> None:
    page = viewer.open(path)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    expect(page.locator(".notice-error")).to_have_count(0)


@pytest.mark.parametrize("viewer", [(390, "light"), (1440, "dark")], indirect=True)
def test_the_reference_of_the_api_never_scrolls_sideways(viewer: Any) -> None:
    page = viewer.page
    page.goto(viewer.url + "/docs")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("viewer", [(390, "light")], indirect=True)
def test_what_to_do_with_a_rule_stands_side_by_side_on_a_phone(viewer: Any) -> None:
    page = viewer.open("/alerts")
    row = page.locator(".rule-query").first
    explore, backtest = (row.get_by_role("link", name=name).bounding_box() for name in ("Explore", "Backtest"))
    assert explore["y"] == backtest["y"]
    assert row.locator("pre").bounding_box()["y"] < explore["y"]


def test_a_page_opened_with_its_credentials_in_the_url_works(viewer: Any) -> None:
    """http://any:KEY@host/ is how a link carries an API key; a browser refuses to ask for URLs relative to it."""
    viewer.url = viewer.url.replace("://", "://any:key@")
    page = viewer.open("/targets")
    settled(page)
    expect(page.locator(".notice-error")).to_have_count(0)
    expect(page.get_by_text("vedette").first).to_be_visible()


def test_the_theme_follows_the_system_until_one_is_chosen(viewer: Any) -> None:
    page = viewer.open("/status")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.get_by_role("button", name=re.compile("Theme: as the system")).click()
    assert page.evaluate(ground) == light
    page.reload()
    assert page.evaluate(ground) == light, "the choice outlives the page"
    page.get_by_role("button", name=re.compile("Theme: light")).click()
    assert page.evaluate(ground) == dark


@pytest.mark.parametrize("panel", HOST_PANELS)
def test_the_overview_plots_this_host(viewer: Any, panel: str) -> None:
    page = viewer.open("/?range=15m")
    chart = page.locator(f'[data-panel="{panel}"] .chart')
    expect(chart).to_be_visible()
    assert int(chart.get_attribute("data-points")) > 0
    painted = """(canvas) => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let coloured = 0;
        for (let i = 0; i < pixels.length; i += 4) {
            const [r, g, b, a] = pixels.slice(i, i + 4);
            if (a > 100 && Math.max(r, g, b) - Math.min(r, g, b) > 60) coloured += 1;
        }
        return coloured; }"""
    assert chart.locator("canvas").evaluate(painted) > 20, "no coloured line on the canvas"


def test_tiles_say_what_is_now(viewer: Any) -> None:
    page = viewer.open("/")
    expect(page.locator('[data-tile="Memory"] .tile-value')).to_have_text(re.compile(r"^[\d.]+%$"))
    expect(page.locator('[data-tile="CPU"] .tile-detail')).to_have_text(re.compile(r"^\d+ cores?$"))
    expect(page.locator('[data-tile="Uptime"] .tile-value')).to_have_text(re.compile(r"^[\d.]+(s|min|h|d)$"))


def test_the_overview_names_what_is_wrong(viewer: Any) -> None:
    page = viewer.open("/")
    trouble = page.get_by_label("Alerts and targets")
    expect(trouble).to_contain_text("AlwaysFiring")
    expect(trouble).to_contain_text("The value is 42")
    expect(trouble).to_contain_text("127.0.0.1:9")
    trouble.get_by_role("link", name=re.compile("firing")).click()
    expect(page).to_have_url(re.compile(r"/alerts\?state=firing$"))


def test_a_range_is_shared_by_all_plots_and_kept_in_the_url(viewer: Any) -> None:
    page = viewer.open("/")
    page.get_by_role("button", name="6h", exact=True).click()
    expect(page).to_have_url(re.compile(r"range=6h"))
    expect(page.locator('[data-panel="Memory"] .plot')).to_have_attribute("aria-label", re.compile("series from"))
    page.go_back()
    expect(page.get_by_role("button", name="15m", exact=True)).to_have_attribute("aria-pressed", "true")


def test_a_custom_range_says_what_is_wrong_with_it(viewer: Any) -> None:
    page = viewer.open("/")
    page.get_by_role("button", name="Custom").click()
    page.get_by_label("The last").fill("ninety")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("A duration looks like")
    page.get_by_label("The last").fill("90m")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"range=1h30m"))


def test_dragging_over_a_plot_zooms_all_of_them(viewer: Any) -> None:
    page = viewer.open("/?range=15m")
    over = page.locator('[data-panel="Memory"] .u-over')
    expect(over).to_be_visible()
    box = over.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 40, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"from=\d+&to=\d+"))
    start, end = (int(n) for n in re.search(r"from=(\d+)&to=(\d+)", page.url).groups())
    assert 300 < end - start < 420


def test_the_cursor_is_shared_and_the_legend_follows_it(viewer: Any) -> None:
    page = viewer.open("/?range=1h&refresh=0")
    over = page.locator('[data-panel="Load"] .u-over')
    expect(over).to_be_visible()
    expect(page.locator('[data-panel="Memory"] .u-over')).to_be_visible()
    value = page.locator('[data-panel="Memory"] [data-value]').first
    assert value.inner_text() != "–"
    box = over.bounding_box()
    # At the left end, long before the server started, nothing has a value.
    page.mouse.move(box["x"] + 3, box["y"] + 20)
    expect(value).to_have_text("–")
    expect(page.locator('[data-panel="Load"] .readout')).to_be_visible()
    expect(page.locator('[data-panel="Memory"] .readout')).to_be_hidden()


def test_arrow_keys_read_a_plot_aloud(viewer: Any) -> None:
    page = viewer.open("/?range=15m&refresh=0")
    plot = page.locator('[data-panel="Load"] .plot')
    plot.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator('[data-panel="Load"] [aria-live]')).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d [\d:]{8}: 1 min [\d.]+"))


def test_a_legend_entry_shows_one_series_alone_and_then_all(viewer: Any) -> None:
    page = viewer.open("/?range=15m&refresh=0")
    entry = page.locator('[data-panel="Load"] .legend button').first
    entry.click()
    expect(page.locator('[data-panel="Load"] .legend .off')).to_have_count(3)
    entry.click()
    expect(page.locator('[data-panel="Load"] .legend .off')).to_have_count(0)


def test_alerts_show_their_instances_and_filter_by_state(viewer: Any) -> None:
    page = viewer.open("/alerts")
    firing = page.locator('[data-rule="AlwaysFiring"]')
    expect(firing).to_have_attribute("data-state", "firing")
    expect(firing.locator("tbody tr")).to_have_count(1)
    expect(firing).to_contain_text("The value is 42")
    expect(firing.get_by_role("link", name="https://example.org/runbook")).to_be_visible()
    page.get_by_role("group", name="State").get_by_role("button", name=re.compile("^Pending")).click()
    # The default alerts watch this machine: on a busy one, another may be pending too.
    expect(page.locator('[data-rule]:not([data-state="pending"])')).to_have_count(0)
    pending = page.locator('[data-rule="LongPending"]')
    expect(pending).to_contain_text("127.0.0.1:9 does not answer")
    assert pending.locator('a[href^="javascript"]').count() == 0
    page.get_by_role("group", name="State").get_by_role("button", name=re.compile("^Recording")).click()
    expect(page.locator('[data-rule="broken:up:sum"]')).to_be_visible()


def test_a_search_without_a_match_offers_the_way_back(viewer: Any) -> None:
    page = viewer.open("/alerts?search=nothing-is-called-this")
    page.get_by_role("button", name="Show all rules").click()
    expect(page.locator('[data-rule="NeverFiring"]')).to_be_visible()


def test_an_alert_is_acknowledged_and_taken_back(viewer: Any) -> None:
    page = viewer.open("/alerts")
    instances = page.locator('[data-rule="AlwaysFiring"] tbody')
    expect(instances.get_by_role("link", name="Deal with it")).to_be_visible()
    # Each cell is as high as its row, or the line between two rows would have gaps.
    bottoms = "body => [...body.rows].map(row => new Set([...row.cells].map(cell => cell.getBoundingClientRect().bottom)).size)"
    assert set(instances.evaluate(bottoms)) == {1}
    instances.get_by_role("link", name="Deal with it").click()
    row = page.locator('[data-alert="AlwaysFiring"]')
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Acknowledge").click()
    form = page.get_by_role("form", name="Acknowledge")
    form.get_by_label("Your name").fill("Alice")
    form.get_by_label("Note").fill("on it")
    form.get_by_label("For").fill("soon")
    form.get_by_role("button").click()
    expect(form.get_by_role("alert")).to_contain_text("duration")
    form.get_by_label("For").fill("2h")
    form.get_by_role("button").click()
    expect(row).to_contain_text("Acknowledged by Alice: on it, until")
    expect(row.locator(".badge")).to_have_text("acknowledged")
    row.get_by_role("button", name="Take back").click()
    expect(row.locator(".badge")).to_have_text("firing")
    page.get_by_role("button", name="History").click()
    expect(page.locator("tbody tr").first).to_contain_text("unacknowledged")
    viewer.complaints[:] = [c for c in viewer.complaints if "status of 422" not in c]


def test_a_silence_shows_what_it_matches_is_made_and_ended(viewer: Any) -> None:
    page = viewer.open("/alerts?view=silences")
    expect(page.locator(".state")).to_contain_text("amtool silence add")
    page.get_by_role("button", name="New silence").click()
    form = page.get_by_role("form", name="Silence")
    form.get_by_label("Matchers").fill('alertname=~".+"')
    expect(form.get_by_role("status")).to_contain_text("standing alerts would be silenced")
    form.get_by_role("button").click()
    expect(form.get_by_role("alert")).to_contain_text("silence every alert")
    form.get_by_label("Matchers").fill('alertname="AlwaysFiring"')
    expect(form.get_by_role("status")).to_contain_text("1 of")
    expect(form.get_by_label("It covers every alert")).to_have_count(0)
    form.get_by_label("For", exact=True).fill("30m")
    form.get_by_label("Comment").fill("Looking into it")
    form.get_by_label("Matchers").fill('alertname="AlwaysFiring", severity="page"')
    expect(form.get_by_role("status")).to_contain_text("1 of")
    expect(form.get_by_label("For", exact=True)).to_have_value("30m")
    form.get_by_role("button").click()
    expect(page.get_by_label("Silences", exact=True)).to_contain_text("Looking into it")
    page.get_by_role("button", name="Standing").click()
    expect(page.locator('[data-alert="AlwaysFiring"] .badge')).to_have_text("silenced")
    page.get_by_role("button", name="Silences").click()
    page.get_by_role("button", name="End it").click()
    expect(page.locator(".state")).to_contain_text("No silence is active")
    viewer.complaints[:] = [c for c in viewer.complaints if "status of 400" not in c]


def test_why_nobody_is_told_is_said(viewer: Any) -> None:
    page = viewer.open("/alerts?view=standing&filter=alertname%3D%22AlwaysFiring%22")
    page.get_by_role("button", name="Why?").click()
    expect(page.locator(".why")).to_contain_text("Nobody is configured to be told")
    page.get_by_label("Filter alerts by matchers").fill('alertname="Nobody"')
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Show all alerts").click()
    expect(page.locator('[data-alert="AlwaysFiring"]')).to_be_visible()


def test_the_history_is_filtered_by_step_and_matchers_and_notifications_say_what_to_do(viewer: Any) -> None:
    page = viewer.open("/alerts?view=history")
    page.get_by_role("group", name="Steps").get_by_role("button", name="Firing").click()
    expect(page.locator('tbody tr:not(:has-text("firing"))')).to_have_count(0)
    page.get_by_label("Filter by matchers").fill('alertname="LongPending"')
    page.keyboard.press("Enter")
    expect(page.locator(".state")).to_contain_text("Nothing of that kind happened")
    page.get_by_role("group", name="Steps").get_by_role("button", name="Pending").click()
    expect(page.locator("tbody tr").first).to_contain_text("LongPending")
    viewer.open("/alerts?view=notifications")
    expect(page.locator(".state")).to_contain_text("alertmanager.yml")


def test_targets_say_why_one_is_down(viewer: Any) -> None:
    page = viewer.open("/targets?health=down")
    expect(page.locator('[data-health="up"]')).to_have_count(0)
    row = page.locator('[data-health="down"]').first
    expect(row).to_contain_text("127.0.0.1:9")
    expect(row.locator(".target-error")).not_to_be_empty()
    expect(row).to_contain_text("payments")


def test_data_stays_text(viewer: Any) -> None:
    for path in ("/targets", "/alerts", "/", "/explore?g0.expr=up&g0.tab=table"):
        page = viewer.open(path)
        settled(page)
        assert page.locator("main img").count() == 0
        assert "broken-in" not in page.title()
    viewer.open("/targets")
    expect(viewer.page.locator("main")).to_contain_text("<img src=x")


def test_status_shows_build_storage_cardinality_and_configuration(viewer: Any) -> None:
    page = viewer.open("/status")
    expect(page.get_by_label("Build")).to_contain_text("version")
    expect(page.get_by_label("Running")).not_to_contain_text("GOMEMLIMIT")
    expect(page.get_by_label("Storage", exact=True)).to_contain_text(re.compile(r"series in memory\s*[\d,]+"))
    expect(page.get_by_role("table", name="Metrics with the most series").locator("tr").first).to_be_visible()
    expect(page.get_by_label("Configuration text")).to_contain_text("scrape_configs")
    flags = page.get_by_label("Flags", exact=True)
    name = flags.locator("dt", has_text="track.buckets")
    lines = name.evaluate("(e) => { const r = document.createRange(); r.selectNodeContents(e); return r.getClientRects().length; }")
    assert lines == 1, "a long value breaks, its name does not"
    before = flags.locator("dt").count()
    flags.get_by_label("Search flags").fill("retention")
    expect(flags.locator("dt").first).to_contain_text("retention")
    assert flags.locator("dt").count() < before


def test_a_server_that_goes_away_is_said_to(viewer: Any) -> None:
    page = viewer.open("/alerts")
    expect(page.locator('[data-rule="AlwaysFiring"]')).to_be_visible()
    page.route("**/api/**", lambda route: route.abort())
    page.goto(viewer.url + "/targets")
    expect(page.get_by_role("alert")).to_contain_text("Vedette does not answer")
    expect(page.get_by_role("alert")).to_contain_text("Check that Vedette is running")
    page.unroute("**/api/**")
    viewer.complaints[:] = [c for c in viewer.complaints if "net::ERR_FAILED" not in c]


def test_the_overview_says_once_that_the_server_is_gone_and_keeps_what_it_knew(viewer: Any) -> None:
    page = viewer.open("/")
    expect(page.locator('[data-panel="Memory"] .chart')).to_be_visible()
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(page.get_by_role("alert")).to_contain_text("Vedette does not answer")
    expect(page.locator('[data-panel="Memory"] .chart')).to_be_visible()
    page.unroute("**/api/**")
    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    viewer.complaints[:] = [c for c in viewer.complaints if "net::ERR_FAILED" not in c]


def test_a_first_start_says_how_far_it_is(viewer: Any) -> None:
    page, answers = viewer.page, []
    page.route("**/health", lambda route: route.fulfill(json=answers[0]))
    kernels = {"compiled": 12, "of": 75, "seconds_left": 34.2}
    answers[:] = [{"status": "starting", "kernels": kernels}]
    viewer.open("/targets")
    status = page.locator(".compiling")
    expect(status).to_contain_text("12 of 75 steps of compiling are done, about 34 s to go")
    expect(status).to_contain_text("starting for the first time")
    # Once it is ready, the page is asked for anew: what could not be answered can be.
    with page.expect_request("**/api/v1/targets*"):
        answers[:] = [{"status": "healthy", "kernels": kernels}]
    expect(status).to_contain_text("Kernels are being compiled")
    answers[:] = [{"status": "healthy"}]
    expect(status).to_have_count(0)


def test_an_answer_from_something_else_is_called_that(viewer: Any) -> None:
    viewer.page.route("**/api/v1/targets*", lambda route: route.fulfill(status=200, content_type="text/html", body="<h1>Login</h1>"))
    page = viewer.open("/targets")
    expect(page.get_by_role("alert")).to_contain_text("not JSON")


def test_empty_states_say_what_to_do_next(viewer: Any) -> None:
    def empty(data: str) -> Any:
        return lambda route: route.fulfill(status=200, content_type="application/json", body=f'{{"status":"success","data":{data}}}')

    viewer.page.route("**/api/v1/targets*", empty('{"activeTargets":[],"droppedTargets":[]}'))
    viewer.page.route("**/api/v1/rules*", empty('{"groups":[]}'))
    viewer.page.route("**/api/v1/query?*", empty('{"resultType":"vector","result":[]}'))
    expect(viewer.open("/targets").locator(".state")).to_contain_text("scrape_configs")
    expect(viewer.open("/alerts").locator(".state")).to_contain_text("rule_files")
    expect(viewer.open("/").locator(".state").first).to_contain_text("No host reports yet")
    expect(viewer.page.get_by_text("Vedette's own metrics are not here yet")).to_be_visible()


def test_without_a_host_the_overview_still_shows_what_vedette_says_of_itself(viewer: Any) -> None:
    """`host.enabled: false`: nothing is collected from this machine."""
    nothing = '{"status":"success","data":{"resultType":"vector","result":[]}}'
    viewer.page.route(re.compile("node_memory_MemTotal_bytes"), lambda route: route.fulfill(content_type="application/json", body=nothing))
    page = viewer.open("/")
    expect(page.locator(".state").first).to_contain_text("unless host.enabled is false")
    expect(page.get_by_label("Series in the head").locator(".chart")).to_be_visible()
    expect(page.get_by_role("heading", name="Host")).to_have_count(0)


def test_an_unknown_path_of_the_ui_leads_home(viewer: Any) -> None:
    page = viewer.page
    page.goto(viewer.url + "/explroe")
    expect(page).to_have_title("No such page – Vedette")
    page.locator("main").get_by_role("link", name="overview").click()
    expect(page.locator("h1")).to_have_text("Overview")
    viewer.complaints[:] = [said for said in viewer.complaints if "status of 404" not in said]  # the status of the page itself
