// Targets: what is scraped, whether it answers, and what it said when it did not.
import { html } from "../html.js";
import { fetchApi, useLoad } from "../api.js";
import { Badge, Choice, Empty, Failed, Labels, Loading } from "../parts/states.js";
import { setParams, useRoute } from "../router.js";
import { formatAgo, formatTime, fromRfc3339, useNow } from "../time.js";
import { format } from "../units.js";

const REFRESH = 10;
const TONES = { up: "good", down: "bad", unknown: "quiet" };
const RANK = { down: 0, unknown: 1, up: 2 };

async function load(signal) {
  const { data } = await fetchApi("targets", {}, { signal });
  return { active: data.activeTargets ?? [], dropped: data.droppedTargets ?? [], droppedCounts: data.droppedTargetCounts ?? {} };
}

const matches = (target, sought) =>
  !sought ||
  [target.scrapeUrl, target.scrapePool, target.lastError, JSON.stringify(target.labels)]
    .join(" ")
    .toLowerCase()
    .includes(sought.toLowerCase());

export function Targets() {
  const { params } = useRoute();
  const [now] = useNow(REFRESH);
  const { data, error } = useLoad(load, [now]);
  const health = params.get("health") ?? "all";
  const sought = params.get("search") ?? "";
  const active = data?.active ?? [];
  const shown = active.filter((t) => (health === "all" || t.health === health) && matches(t, sought));
  const pools = new Map();
  for (const target of shown) pools.set(target.scrapePool, [...(pools.get(target.scrapePool) ?? []), target]);
  const count = (h) => active.filter((t) => t.health === h).length;
  const options = [
    { value: "all", label: "All", count: active.length },
    { value: "up", label: "Up", count: count("up") },
    { value: "down", label: "Down", count: count("down") },
    ...(count("unknown") ? [{ value: "unknown", label: "Not yet scraped", count: count("unknown") }] : []),
  ];
  const sorted = [...pools].sort(([a, left], [b, right]) => worst(left) - worst(right) || a.localeCompare(b));
  const droppedCount = Object.values(data?.droppedCounts ?? {}).reduce((sum, n) => sum + n, 0) || data?.dropped.length || 0;
  return html`<div class="page targets">
    <div class="bar"><h1>Targets</h1>
      <${Choice} label="Health" value=${health} options=${options}
          onChange=${(value) => setParams({ health: value === "all" ? null : value }, { replace: true })} />
      <input type="search" class="search" placeholder="Search addresses, labels, errors" aria-label="Search targets" value=${sought}
        onInput=${(event) => setParams({ search: event.target.value }, { replace: true })} />
    </div>
    ${error && html`<${Failed} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${
      data &&
      active.length === 0 &&
      html`<${Empty} title="Nothing is scraped.">Add a job under <code>scrape_configs</code> in the configuration and reload it
      (<code>POST /-/reload</code> or SIGHUP), or push: remote write to <code>/api/v1/write</code> needs no target.<//>`
    }
    ${
      active.length > 0 &&
      shown.length === 0 &&
      html`<${Empty} title="No target matches.">
      <button type="button" class="button"
          onClick=${() => setParams({ health: null, search: null }, { replace: true })}>Show all targets</button><//>`
    }
    ${sorted.map(([pool, targets]) => html`<${Pool} key=${pool} pool=${pool} targets=${targets} now=${now} />`)}
    ${droppedCount > 0 && html`<${Dropped} targets=${data.dropped} count=${droppedCount} />`}
  </div>`;
}

const worst = (targets) => Math.min(...targets.map((t) => RANK[t.health] ?? 1));

function Pool({ pool, targets, now }) {
  const up = targets.filter((t) => t.health === "up").length;
  const sorted = [...targets].sort((a, b) => (RANK[a.health] ?? 1) - (RANK[b.health] ?? 1) || a.scrapeUrl.localeCompare(b.scrapeUrl));
  return html`<section class="card pool" aria-label=${`Job ${pool}`}>
    <header><h2>${pool}</h2><span class="quiet">${up} of ${targets.length} up</span></header>
    <div class="scroll"><table class="cards">
      <thead><tr><th class="endpoint">Endpoint</th><th class="c-state">Health</th><th class="wide">Labels</th><th
          class="c-time">Last scrape</th><th class="number c-figure">Took</th><th class="number c-figure">Every</th></tr></thead>
      <tbody>${sorted.map((target) => html`<${Target} key=${target.scrapeUrl + JSON.stringify(target.labels)} target=${target}
          now=${now} />`)}</tbody>
    </table></div>
  </section>`;
}

function Target({ target, now }) {
  const at = fromRfc3339(target.lastScrape);
  // A target that relabelling left as it was needs no second set of labels.
  const changed = Object.entries(target.discoveredLabels ?? {}).some(([name, value]) => target.labels[name] !== value);
  return html`<tr data-health=${target.health}>
    <td data-th="Endpoint" class="mono endpoint"><${Endpoint} url=${target.scrapeUrl} /></td>
    <td data-th="Health"><${Badge} tone=${TONES[target.health] ?? "quiet"}>${target.health}<//></td>
    <td data-th="Labels" class="wide"><${Labels} labels=${target.labels} />
      ${target.lastError && html`<div class="target-error">${target.lastError}</div>`}
      ${changed && html`<details class="discovered"><summary>Before relabelling</summary><${Labels}
          labels=${target.discoveredLabels} /></details>`}</td>
    <td data-th="Last scrape" class="nowrap" title=${at ? formatTime(at) : ""}>${formatAgo(at, now)}</td>
    <td data-th="Took" class="number">${at ? format(target.lastScrapeDuration, "seconds") : "–"}</td>
    <td data-th="Every" class="number">${target.scrapeInterval ?? "–"}</td>
  </tr>`;
}

// A target that is not scraped over HTTP (this host, Vedette itself) has an address that is no link.
function Endpoint({ url }) {
  return /^https?:\/\//.test(url) ? html`<a href=${url} rel="noreferrer noopener" target="_blank">${url}</a>` : url;
}

function Dropped({ targets, count }) {
  return html`<details class="card dropped"><summary>${count} dropped by relabelling</summary>
    <ul>${targets.map((t, i) => html`<li key=${i}><${Labels} labels=${t.discoveredLabels} /></li>`)}</ul></details>`;
}
