// The overview: this host and Vedette itself, now and over a time range, with what is wrong at the top.
import { html, useEffect, useState } from "../html.js";
import { fetchApi, useLoad } from "../api.js";
import { matcher } from "../matrix.js";
import { HOST_PANELS, OWN_PANELS, OWN_PRESENCE, TILES } from "../panels.js";
import { Panel } from "../parts/panel.js";
import { RangePicker } from "../parts/rangepicker.js";
import { Empty, Failed } from "../parts/states.js";
import { Tile } from "../parts/tile.js";
import { Trouble } from "../parts/trouble.js";
import { Link, setParams, useRoute } from "../router.js";
import { formatDuration, parseDuration, rangeFrom, rangeParams, useNow, windowOf } from "../time.js";

const DEFAULT_RANGE = 900;
const DEFAULT_REFRESH = 10;
// A rate needs two samples in its window; four intervals forgive a late or a lost one.
const RATE_INTERVALS = 4;
const LEAST_RATE = 60;
const EARLY = "After a start the first points take two scrapes, and this page renews itself. Otherwise choose another range.";

// The hosts that report (by `instance`), and how often each is scraped.
async function loadHosts(signal) {
  const [hosts, targets, own] = await Promise.all([
    fetchApi("query", { query: "group by (instance, job) (node_memory_MemTotal_bytes)" }, { signal }),
    fetchApi("targets", { state: "active" }, { signal }),
    fetchApi("query", { query: OWN_PRESENCE }, { signal }),
  ]);
  const intervals = new Map((targets.data.activeTargets ?? []).map((t) => [t.labels.instance, parseDuration(t.scrapeInterval ?? "") ?? 0]));
  return {
    hosts: hosts.data.result.map((s) => s.metric.instance).sort(),
    // Vedette's own host first: it is what a reader who has set up nothing else wants to see.
    first: hosts.data.result.find((s) => s.metric.job === "node")?.metric.instance ?? hosts.data.result[0]?.metric.instance,
    own: own.data.result.length > 0,
    interval: (host) => intervals.get(host) ?? 0,
  };
}

export function Overview() {
  const { params } = useRoute();
  const range = rangeFrom(params, DEFAULT_RANGE);
  const refresh = params.has("refresh") ? Number(params.get("refresh")) : DEFAULT_REFRESH;
  const [now, renew] = useNow(range.last ? refresh : 0);
  // Hosts hardly come and go, but while there are none, or Vedette's own figures are not there yet, each refresh looks again.
  const [complete, setComplete] = useState(false);
  const { data: found, error } = useLoad(loadHosts, [complete ? Math.floor(now / 60) : now]);
  useEffect(() => setComplete(Boolean(found?.hosts.length && found.own)), [found]);
  const host = params.get("host") ?? found?.first ?? "";
  const interval = found?.interval(host) || 15;
  const window = windowOf(range, now, { points: 480, least: interval });
  const variables = {
    host: host ? matcher("instance", host) : "",
    rate: formatDuration(Math.max(RATE_INTERVALS * interval, window.step, LEAST_RATE)),
  };
  const setRange = (next) => setParams(rangeParams(next));
  const onZoom = (from, to) => setParams(from === undefined ? rangeParams({ last: DEFAULT_RANGE }) : rangeParams({ from, to }));
  const panels = (list, empty) =>
    list.map(
      (panel) =>
        html`<${Panel} key=${panel.title} panel=${panel} window=${window} variables=${variables} range=${range} onZoom=${onZoom}
            empty=${empty} />`,
    );
  return html`<div class="page overview">
    <div class="bar">
      <h1>Overview</h1>
      ${found && found.hosts.length > 1 && html`<${HostChoice} hosts=${found.hosts} host=${host} />`}
      <${RangePicker} range=${range} onChange=${setRange} refresh=${refresh} onNow=${renew}
        onRefresh=${(seconds) => setParams({ refresh: seconds === DEFAULT_REFRESH ? null : seconds }, { replace: true })} />
    </div>
    ${error && !found && html`<${Failed} error=${error} />`}
    <${Trouble} now=${now} told=${Boolean(error && !found)} />
    ${
      found &&
      html`${
        found.hosts.length === 0
          ? html`<${Empty} title="No host reports yet.">Vedette collects from this machine by itself within seconds of its
            start, unless <code>host.enabled</code> is <code>false</code>. For others, run a node exporter there and name it
            under <code>scrape_configs</code>; then look at <${Link} to="/targets">targets<//>.<//>`
          : html`<section class="stretch" aria-labelledby="host-now"><h2 id="host-now">Host <span class="quiet">${host}</span></h2>
            <div class="tiles">${TILES.map((tile) => html`<${Tile} key=${tile.title} tile=${tile} now=${now} window=${window}
                variables=${variables} />`)}</div>
            <div class="panels">${panels(HOST_PANELS, EARLY)}</div></section>`
      }
          <section class="stretch" aria-labelledby="own"><h2 id="own">Vedette itself</h2>
            ${
              found.own
                ? html`<div class="panels">${panels(OWN_PANELS, EARLY)}</div>`
                : html`<${Empty} title="Vedette's own metrics are not here yet.">They come some
                  seconds after the start, with <code>job="vedette"</code>: see whether that <${Link} to="/targets">target<//> is up.<//>`
            }</section>`
    }
  </div>`;
}

function HostChoice({ hosts, host }) {
  return html`<label class="field-inline">Host <select value=${host} onChange=${(event) => setParams({ host: event.target.value })}>
    ${hosts.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>`;
}
