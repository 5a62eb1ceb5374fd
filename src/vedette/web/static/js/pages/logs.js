// Logs: lines that match, newest first, with their counts by level over time; the live tail; and errors, grouped.
import { Fragment, html, useEffect, useRef, useState } from "../html.js";
import { fetchApi, useLoad } from "../api.js";
import { Icon } from "../parts/icons.js";
import { RangePicker } from "../parts/rangepicker.js";
import { Badge, Choice, Empty, Failed, Loading } from "../parts/states.js";
import { base, Link, setParams, useRoute } from "../router.js";
import { formatAgo, formatTime, fromRfc3339, rangeFrom, rangeParams, useNow } from "../time.js";

// From the gravest: the order in which they are stacked, and their looks.
const LEVELS = ["fatal", "error", "warn", "info", "debug", "trace", "unknown"];
const TONES = { fatal: "bad", error: "bad", warn: "warn", info: "good" };
const PAGE = 100;
// Lines of the live tail that are kept on the page.
const MOST_LIVE = 500;
const LEVEL_CHOICES = [
  { value: "", label: "All" },
  { value: "error", label: "Errors" },
  { value: "warn", label: "Warnings and up" },
  { value: "info", label: "Info and up" },
];
const TRENDS = { new: "bad", increasing: "bad", decreasing: "good", stable: "quiet" };

const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

// What the URL asks for as the API's parameters.
function asked(params, now) {
  const range = rangeFrom(params, 3600);
  const end = range.last ? now : range.to;
  const start = range.last ? now - range.last : range.from;
  return {
    filters: { text: params.get("text"), min_level: params.get("level"), service: params.get("service"), field: params.get("field") },
    times: { start: start.toFixed(3), end: end.toFixed(3) },
  };
}

export function Logs() {
  const { params } = useRoute();
  const [now, renew] = useNow(0);
  const range = rangeFrom(params, 3600);
  const view = params.get("view") ?? "lines";
  const live = params.get("live") === "1" && view === "lines";
  const change = (changes) => setParams(changes, { replace: true });
  const views = [
    { value: "lines", label: "Lines" },
    { value: "errors", label: "Errors" },
  ];
  return html`<div class="page logs">
    <div class="bar"><h1>Logs</h1>
      <${Choice} label="View" value=${view} options=${views} onChange=${(v) => change({ view: v === "lines" ? null : v, live: null })} />
      <span class="push"><${RangePicker} range=${range} onChange=${(next) => (change(rangeParams(next)), renew())} /></span>
      <button type="button" class="icon-button" onClick=${renew} aria-label="Refresh now" title="Refresh now"><${Icon} name="refresh" /></button>
    </div>
    <${Filters} params=${params} now=${now} change=${change} view=${view} live=${live} />
    ${view === "errors" ? html`<${Errors} params=${params} now=${now} />` : html`<${Lines} params=${params} now=${now} live=${live} />`}
  </div>`;
}

function Filters({ params, now, change, view, live }) {
  const { times } = asked(params, now);
  const { data } = useLoad((signal) => fetchApi("logs/services", times, { signal }).then((a) => a.data.services), [times.start, times.end]);
  const service = params.get("service") ?? "";
  const names = (data ?? []).map((s) => s.service).filter(Boolean);
  if (service && !names.includes(service)) names.push(service);
  return html`<div class="bar">
    <input type="search" class="search" placeholder="Search messages" aria-label="Search messages" value=${params.get("text") ?? ""}
      onChange=${(event) => change({ text: event.target.value })} />
    <label class="field-inline"><span class="sr-only">Service</span><select value=${service}
        onChange=${(event) => change({ service: event.target.value })}>
      <option value="">all services</option>${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
    ${
      params.get("field") &&
      html`<button type="button" class="button" onClick=${() => change({ field: null })} aria-label=${`No longer only ${params.get("field")}`}><span
          class="mono clip">${params.get("field")}</span><${Icon} name="close" size=${12} /></button>`
    }
    ${
      view === "lines" &&
      html`<${Choice} label="Level" value=${params.get("level") ?? ""} options=${LEVEL_CHOICES} onChange=${(level) => change({ level })} />`
    }
    ${
      view === "lines" &&
      html`<button type="button" class=${live ? "button button-main" : "button"} aria-pressed=${live}
        onClick=${() => change({ live: live ? null : "1" })}>${live ? "Following" : "Follow"}</button>`
    }
    ${service && html`<${Link} class="button" to="/explore" params=${{ "g0.expr": `{service=${JSON.stringify(service)}}` }}>Metrics of ${service}<//>`}
  </div>`;
}

function Lines({ params, now, live }) {
  const { filters, times } = asked(params, now);
  const query = { ...filters, ...times };
  const key = JSON.stringify(query);
  const first = useLoad((signal) => fetchApi("logs", { ...query, limit: PAGE }, { signal }).then((a) => a.data), [key]);
  const counts = useLoad((signal) => fetchApi("logs/histogram", query, { signal }).then((a) => a.data), [key]);
  const [more, setMore] = useState({ key, rows: [], next: undefined, error: null });
  const tail = useTail(filters, live);
  const older = more.key === key ? more : { rows: [], next: undefined, error: null };
  const next = older.next === undefined ? first.data?.next : older.next;
  const load = async () => {
    try {
      const { data } = await fetchApi("logs", { ...query, limit: PAGE, cursor: next });
      setMore({ key, rows: [...older.rows, ...data.logs], next: data.next, error: null });
    } catch (error) {
      setMore({ ...older, key, error });
    }
  };
  if (first.error) return html`<${Failed} error=${first.error} />`;
  if (!first.data) return html`<${Loading} />`;
  const rows = [...tail.rows, ...first.data.logs, ...older.rows];
  const filtered = Object.values(filters).some(Boolean);
  return html`<${Fragment}>
    ${counts.data && first.data.total > 0 && html`<${Histogram} data=${counts.data} />`}
    ${live && html`<p class="quiet" role="status">${tail.says}</p>`}
    ${
      rows.length === 0
        ? html`<${Nothing} filtered=${filtered} />`
        : html`<section class="card lines" aria-label="Lines"><p class="quiet lines-total">${count(first.data.total, "line")} in this range${
            tail.rows.length ? `, ${tail.rows.length} since` : ""
          }</p>
      ${rows.map((row, i) => html`<${Line} key=${`${row.timestamp}:${rows.length - i}`} row=${row} />`)}
      ${older.error && html`<${Failed} error=${older.error} />`}
      ${next && html`<button type="button" class="button show-all" onClick=${load}>Older lines</button>`}</section>`
    }
  <//>`;
}

function Nothing({ filtered }) {
  if (filtered)
    return html`<${Empty} title="No line matches."><button type="button" class="button"
        onClick=${() => setParams({ text: null, level: null, service: null, field: null }, { replace: true })}>Show all lines</button> Or choose a longer time range.<//>`;
  return html`<${Empty} title="No log lines in this range.">Send some:
    <code>curl -d '{"level":"info","service":"shop","message":"hello"}' ${location.origin}${base}/api/v1/logs</code>. Agents for Loki,
    Elasticsearch and OpenTelemetry, syslog and files work too: see the page Logs of the documentation.<//>`;
}

// A line; opened, all of its message and its fields.
function Line({ row }) {
  const [open, setOpen] = useState(false);
  const fields = Object.entries(row.fields);
  return html`<details class="line" data-level=${row.level} open=${open}>
    <summary onClick=${(event) => (event.preventDefault(), setOpen(!open))}>
      <time class="quiet mono nowrap" title=${row.timestamp}>${formatTime(fromRfc3339(row.timestamp)).slice(open ? 0 : 5)}</time>
      <${Badge} tone=${TONES[row.level] ?? "quiet"}>${row.level}<//>
      ${row.service && html`<span class="line-service">${row.service}</span>`}
      <span class=${`mono ${open ? "line-whole" : "clip"} line-message`}>${row.message || "(no message)"}</span>
      ${!open && fields.length > 0 && html`<span class="mono quiet clip line-fields">${glimpse(fields)}</span>`}
    </summary>
    ${
      open &&
      html`<div class="line-body"><dl class="facts">${fields.map(
        ([name, value]) => html`<div key=${name}><dt class="mono">${name}</dt><dd class="mono"><${Value} name=${name} value=${value} /></dd></div>`,
      )}</dl>
      ${fields.length === 0 && html`<p class="quiet">No further fields.</p>`}
      ${
        row.service &&
        html`<${Link} class="button" to="/explore" params=${{ "g0.expr": `{service=${JSON.stringify(row.service)}}` }}>Metrics of ${row.service}<//>`
      }</div>`
    }
  </details>`;
}

// What fits beside a message of its fields: often the half of what it says.
function glimpse(fields) {
  const texts = fields.slice(0, 8).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return texts.join("  ").slice(0, 400);
}

// A field's value; pressed, it is what is looked for.
function Value({ name, value }) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (value === null || typeof value === "object" || text === "") return text;
  const only = () => setParams({ field: `${name}=${text}` });
  return html`<button type="button" class="field-value" title="Only lines with this value" onClick=${only}>${text}</button>`;
}

// Bars of counts by level over time; a span without lines is a gap. Its figures are a table for those who cannot see it.
function Histogram({ data }) {
  const start = Math.floor(data.start / data.step) * data.step;
  const spans = Math.max(1, Math.ceil((data.end - start) / data.step));
  const columns = Array.from({ length: spans }, () => null);
  for (const span of data.spans) columns[Math.round((span.time - start) / data.step)] = span;
  const sum = (span) => Object.values(span.counts).reduce((a, b) => a + b, 0);
  const top = Math.max(1, ...data.spans.map(sum));
  const present = LEVELS.filter((level) => data.spans.some((span) => span.counts[level]));
  const zoom = (span) => setParams({ from: Math.floor(span.time), to: Math.ceil(span.time + data.step), range: null });
  return html`<section class="card histogram" aria-label="Lines over time">
    <div class="histogram-bars">${columns.map((span, i) =>
      span
        ? html`<button type="button" key=${i} class="histogram-column" onClick=${() => zoom(span)} title=${`${formatTime(span.time)}: ${present
            .filter((level) => span.counts[level])
            .map((level) => `${span.counts[level]} ${level}`)
            .join(", ")}`} aria-label=${`${formatTime(span.time)}: ${count(sum(span), "line")}. Show this span.`}>
          ${[...present].reverse().map(
            (level) =>
              span.counts[level] &&
              html`<span key=${level} class=${`histogram-part level-${level}`} style=${`height:${((span.counts[level] / top) * 100).toFixed(2)}%`}></span>`,
          )}</button>`
        : html`<span key=${i} class="histogram-column"></span>`,
    )}</div>
    <div class="histogram-foot quiet"><span>${formatTime(start)}</span><span class="histogram-key">${present.map(
      (level) => html`<span key=${level}><span class=${`histogram-swatch level-${level}`}></span>${level}</span>`,
    )}</span><span>${formatTime(data.end)}</span></div>
  </section>`;
}

// The live tail: {rows, says}, the newest first. The server tells how many lines it left out where they come too fast.
function useTail(filters, live) {
  const [state, setState] = useState({ rows: [], says: "" });
  const waiting = useRef([]);
  const key = JSON.stringify(filters);
  useEffect(() => {
    setState({ rows: [], says: live ? "Waiting for lines…" : "" });
    if (!live) return undefined;
    const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
    const source = new EventSource(`${location.origin}${base}/api/v1/logs/tail?${query}`);
    let skipped = 0;
    // Drawn a few times a second, however many come.
    const timer = setInterval(() => {
      if (!waiting.current.length) return;
      const rows = waiting.current.splice(0).reverse();
      const says = `Following${skipped ? `; ${skipped.toLocaleString("en")} lines left out, since they come too fast` : ""}.`;
      setState((old) => ({ rows: [...rows, ...old.rows].slice(0, MOST_LIVE), says }));
    }, 300);
    source.onopen = () => setState((old) => ({ ...old, says: "Following." }));
    source.onmessage = (event) => waiting.current.push(JSON.parse(event.data));
    source.addEventListener("skipped", (event) => (skipped += JSON.parse(event.data).lines));
    source.onerror = () => setState((old) => ({ ...old, says: "Not connected; trying again…" }));
    return () => {
      source.close();
      clearInterval(timer);
      waiting.current = [];
    };
  }, [key, live]);
  return state;
}

function Errors({ params, now }) {
  const { filters, times } = asked(params, now);
  const query = { text: filters.text, service: filters.service, field: filters.field, ...times };
  const { data, error } = useLoad((signal) => fetchApi("errors", query, { signal }).then((a) => a.data), [JSON.stringify(query)]);
  if (error) return html`<${Failed} error=${error} />`;
  if (!data) return html`<${Loading} />`;
  const filtered = [filters.text, filters.service, filters.field].some(Boolean);
  if (!data.errors.length)
    return html`<${Empty} title="No errors in this range.">Lines of level <code>error</code> and <code>fatal</code> are grouped here by what they have in common. ${
      filtered &&
      html`<button type="button" class="button"
          onClick=${() => setParams({ text: null, service: null, field: null }, { replace: true })}>Show all errors</button> Or choose a longer time range.`
    }<//>`;
  return html`<section class="card" aria-label="Errors"><div class="scroll"><table class="cards">
    <thead><tr><th class="number">Count</th><th>Trend</th><th class="wide">Error</th><th>Services</th><th>Last seen</th></tr></thead>
    <tbody>${data.errors.map(
      (e) => html`<tr key=${e.fingerprint} data-error=${e.fingerprint}>
        <td data-th="Count" class="number mono">${e.count.toLocaleString("en")}</td>
        <td data-th="Trend"><${Badge} tone=${TRENDS[e.trend] ?? "quiet"}>${e.trend}<//></td>
        <td data-th="Error" class="wide"><strong>${e.exception || e.type}</strong><div class="mono line-whole">${e.message}</div></td>
        <td data-th="Services">${Object.keys(e.services).filter(Boolean).join(", ") || "–"}</td>
        <td data-th="Last seen" class="nowrap" title=${`first ${formatTime(fromRfc3339(e.first_seen))}, last ${formatTime(fromRfc3339(e.last_seen))}`}>${formatAgo(fromRfc3339(e.last_seen), Date.now() / 1000)}</td></tr>`,
    )}</tbody></table></div></section>`;
}
