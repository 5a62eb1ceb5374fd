// Status: which Vedette this is, how it runs, what fills its index, and the settings in force.
import { html, useState } from "../html.js";
import { fetchApi, useLoad } from "../api.js";
import { Icon } from "../parts/icons.js";
import { Empty, Failed, Loading } from "../parts/states.js";
import { formatAgo, formatTime, fromRfc3339, useNow } from "../time.js";
import { format } from "../units.js";

const REFRESH = 30;

// One part of the page: it fails, loads and renews by itself.
function Part({ title, path, every, wide, children }) {
  const [now] = useNow(every ? REFRESH : 0);
  const { data, error } = useLoad((signal) => fetchApi(path, {}, { signal }).then((a) => a.data), [now]);
  return html`<section class=${`card part${wide ? " part-wide" : ""}`} aria-label=${title}><h2>${title}</h2>
    ${error && html`<${Failed} error=${error} />`}
    ${data ? children(data, now) : !error && html`<${Loading} />`}</section>`;
}

export function Status() {
  return html`<div class="page status"><div class="bar"><h1>Status</h1></div>
    <div class="parts">
      <${Part} title="Build" path="status/buildinfo">${(data) => html`<${Facts} of=${data} />`}<//>
      <${Part} title="Running" path="status/runtimeinfo" every>${(data, now) => html`<${Facts} of=${data} now=${now} />`}<//>
      <${Part} title="Storage" path="status/tsdb" every>${(data) => html`<${Head} stats=${data.headStats ?? {}} />`}<//>
      <${Part} title="What fills the index" path="status/tsdb" every wide>${(data) => html`<${Cardinality} data=${data} />`}<//>
      <${Part} title="Flags" path="status/flags" wide>${(data) => html`<${Flags} flags=${data} />`}<//>
      <${Part} title="Configuration" path="status/config" wide>${(data) => html`<${Config} yaml=${data.yaml ?? ""} />`}<//>
    </div>
  </div>`;
}

// Prometheus' names for what is not Go here.
const RENAMED = {
  CWD: "working directory",
  goVersion: "runtime",
  goroutineCount: "tasks and threads",
  GOMAXPROCS: "processors",
  corruptionCount: "corrupt records",
};
// Figures of Go's runtime, which is elsewhere.
const ELSEWHERE = new Set(["GOMEMLIMIT", "GOGC", "GODEBUG"]);

// "storageRetention" and "storage_retention" -> "storage retention".
const words = (name) => RENAMED[name] ?? name.replaceAll("_", " ").replace(/([a-z])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);

function shown(name, value, now) {
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value)) {
    const at = fromRfc3339(value);
    return at ? `${formatTime(at)}${now ? ` (${formatAgo(at, now)})` : ""}` : "never";
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number" && /bytes$/i.test(name)) return format(value, "bytes");
  return String(value);
}

function Facts({ of, now }) {
  const pairs = Object.entries(of).filter(
    ([name, value]) => value !== "" && value !== null && typeof value !== "object" && !ELSEWHERE.has(name),
  );
  return html`<dl class="facts">${pairs.map(([name, value]) => html`<div
      key=${name}><dt>${words(name)}</dt><dd>${shown(name, value, now)}</dd></div>`)}</dl>`;
}

function Head({ stats }) {
  const { numSeries, numLabelPairs, chunkCount, minTime, maxTime, ...rest } = stats;
  const time = (ms) => (ms > 0 && ms < 9e15 ? formatTime(ms / 1000) : "nothing yet");
  const facts = [
    ["series in memory", numSeries?.toLocaleString("en")],
    ["label pairs", numLabelPairs?.toLocaleString("en")],
    ["chunks", chunkCount?.toLocaleString("en")],
    ["oldest sample in memory", time(minTime)],
    ["newest sample", time(maxTime)],
    ...Object.entries(rest)
      .filter(([, v]) => typeof v !== "object")
      .map(([name, value]) => [words(name), shown(name, value)]),
  ].filter(([, value]) => value !== undefined);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

const TABLES = [
  ["seriesCountByMetricName", "Metrics with the most series", "plain"],
  ["labelValueCountByLabelName", "Labels with the most values", "plain"],
  ["memoryInBytesByLabelName", "Labels with the most memory", "bytes"],
  ["seriesCountByLabelValuePair", "Pairs with the most series", "plain"],
];

function Cardinality({ data }) {
  const tables = TABLES.filter(([key]) => data[key]?.length);
  if (!tables.length) return html`<${Empty} title="The index is empty.">It fills with the first scrape or write.<//>`;
  return html`<div class="cardinality">${tables.map(([key, title, unit]) => html`<${Bars} key=${key} title=${title} rows=${data[key]}
      unit=${unit} />`)}</div>`;
}

function Bars({ title, rows, unit }) {
  const top = Math.max(...rows.map((row) => row.value), 1);
  return html`<table class="bars"><caption>${title}</caption>
    <tbody>${rows.map(
      (
        row,
      ) => html`<tr key=${row.name}><th scope="row" class="mono"><span class="bar-fill"
          style=${`width:${((row.value / top) * 100).toFixed(1)}%`}></span><span class="bar-name">${row.name}</span></th>
        <td class="number">${unit === "bytes" ? format(row.value, unit) : row.value.toLocaleString("en")}</td></tr>`,
    )}</tbody></table>`;
}

function Flags({ flags }) {
  const [sought, setSought] = useState("");
  const pairs = Object.entries(flags).sort(([a], [b]) => a.localeCompare(b));
  const kept = pairs.filter(([name, value]) => `${name} ${value}`.toLowerCase().includes(sought.toLowerCase()));
  return html`<input type="search" class="search" placeholder="Search flags" aria-label="Search flags" value=${sought}
      onInput=${(e) => setSought(e.target.value)} />
    ${kept.length === 0 ? html`<p class="quiet">No flag matches.</p>` : html`<dl
        class="facts facts-columns">${kept.map(([name, value]) => html`<div key=${name}><dt class="mono">${name}</dt><dd
        class="mono">${String(value) || "–"}</dd></div>`)}</dl>`}`;
}

function Config({ yaml }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(yaml);
      setSaid("Copied.");
    } catch (error) {
      // Without https, or with the permission refused, there is no clipboard.
      setSaid(`Select the text and copy it: the browser refused (${error.message}).`);
    }
  };
  if (!yaml.trim())
    return html`<${Empty}
        title="No configuration file is in force.">Vedette runs on its defaults. Give it
      one with <code>vedette serve --config prometheus.yml</code>.<//>`;
  return html`<div class="config"><button type="button" class="button" onClick=${copy}><${Icon} name="copy" size=${14} />Copy</button>
    <span class="quiet" role="status">${said}</span><pre tabindex="0" aria-label="Configuration text">${yaml}</pre></div>`;
}
