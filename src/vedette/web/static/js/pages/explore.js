// Explore: PromQL expressions, as lines, stacked, or as a table; native histograms as heat maps. What is shown is in the URL; every run is a step back.
import { html, useEffect, useMemo, useState } from "../html.js";
import { fetchApi, fetchRemembered, useLoad } from "../api.js";
import { explorationFrom, history, paramsOf, remember } from "../exploring.js";
import { columnsOf, seriesName, sharedLabels } from "../matrix.js";
import { Chart } from "../parts/chart.js";
import { Editor } from "../parts/editor.js";
import { HeatMap } from "../parts/heatmap.js";
import { Icon } from "../parts/icons.js";
import { QueryError } from "../parts/queryerror.js";
import { RangePicker } from "../parts/rangepicker.js";
import { NoSeries, ResultTable } from "../parts/resulttable.js";
import { Choice, Labels, Loading } from "../parts/states.js";
import { tokenize } from "../promql/lexer.js";
import { go, useRoute } from "../router.js";
import { formatDuration, formatTime, parseDuration, windowOf } from "../time.js";
import { unitOf } from "../units.js";

// A browser draws this many lines at ease; a reader can tell far fewer apart.
const MOST_LINES = 150;
const MOST_HEAT_MAPS = 8;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const letter = (i) => LETTERS[i % LETTERS.length];

// Every expression by itself: one that fails does not take the others with it.
async function run({ exprs, view, range, step }, now, signal) {
  const window = step ? { start: range.from ?? now - range.last, end: range.to ?? now, step } : windowOf(range, now, { points: 400 });
  const table = view === "table";
  const begun = performance.now();
  const answers = await Promise.all(
    exprs.map(async (expr) => {
      if (!expr.trim()) return { expr };
      try {
        const params = table ? { query: expr, time: range.to ?? now } : { query: expr, ...window };
        return { expr, ...(await fetchApi(table ? "query" : "query_range", params, { signal })) };
      } catch (error) {
        if (error.name === "AbortError") throw error;
        return { expr, error };
      }
    }),
  );
  return { answers, window, view, at: range.to ?? now, took: performance.now() - begun };
}

export function Explore() {
  const { params } = useRoute();
  const text = params.toString();
  const wanted = useMemo(() => explorationFrom(params), [text]);
  const [drafts, setDrafts] = useState(wanted.exprs);
  const [ran, setRan] = useState(() => Date.now() / 1000);
  useEffect(() => setDrafts(wanted.exprs), [text]);
  const asked = wanted.exprs.some((e) => e.trim());
  // The run that its reader has stopped; the server stops, too, once nobody waits for the answer.
  const [stopped, setStopped] = useState("");
  const halted = stopped === `${ran} ${text}`;
  const { data, error, loading } = useLoad(asked && !halted ? (signal) => run(wanted, ran, signal) : null, [text, ran, halted]);
  const running = loading && asked && !halted;

  const show = (changes) => {
    const next = { ...wanted, exprs: drafts, ...changes };
    if (next.exprs.some((e) => e.trim())) remember(next.exprs);
    setRan(Date.now() / 1000);
    go("/explore", paramsOf(next));
  };
  const runWith = (i, value) => show({ exprs: drafts.map((d, at) => (at === i ? value : d)) });
  const setDraft = (i, value) => setDrafts((old) => old.map((d, at) => (at === i ? value : d)));
  const remove = (i) => {
    const exprs = drafts.filter((_, at) => at !== i);
    setDrafts(exprs);
    if (exprs.some((e) => e.trim())) show({ exprs });
  };
  const onZoom = (from, to) => show({ range: from === undefined ? { last: 3600 } : { from, to } });
  const stale = drafts.length !== wanted.exprs.length || drafts.some((d, i) => d !== wanted.exprs[i]);

  return html`<div class="page explore">
    <div class="bar"><h1>Explore</h1>
      <${RangePicker} range=${wanted.range} onChange=${(range) => show({ range })} /></div>
    <section class="card queries" aria-label="Expressions">
      ${drafts.map((draft, i) => {
        const failed = asked && data?.answers[i]?.expr === draft ? data.answers[i].error : undefined;
        return html`<div class="query" key=${i}>
          ${drafts.length > 1 && html`<span class="query-letter" aria-hidden="true">${letter(i)}</span>`}
          <div class="query-field"><${Editor} id=${`expr-${i}`} label=${drafts.length > 1 ? `Expression ${letter(i)}` : "Expression"}
              value=${draft} error=${failed}
              onChange=${(value) => setDraft(i, value)} onRun=${(value) => runWith(i, value)} />
            ${failed ? html`<${QueryError} id=${`expr-${i}-error`} error=${failed} expr=${draft} />` : html`<${About}
                expr=${draft} />`}</div>
          ${drafts.length > 1 && html`<button type="button" class="icon-button" aria-label=${`Remove expression ${letter(i)}`}
              onClick=${() => remove(i)}><${Icon} name="close" /></button>`}
        </div>`;
      })}
      <div class="query-bar">
        <button type="button" class="button button-main" onClick=${() => show({})}>Run</button>
        <button type="button" class="button" onClick=${() => setDrafts([...drafts, ""])}><${Icon} name="plus"
            size=${14} />Expression</button>
        <${Choice} label="View" value=${wanted.view} onChange=${(view) => show({ view })}
          options=${[
            { value: "graph", label: "Lines" },
            { value: "stacked", label: "Stacked" },
            { value: "table", label: "Table" },
          ]} />
        ${wanted.view !== "table" && html`<${Step} step=${wanted.step} auto=${data?.window?.step} onChange=${(step) => show({ step })} />`}
        <span class="quiet query-says"
            role="status">${running ? "running…" : halted ? "stopped" : stale ? "Enter runs it" : data && asked ? summary(data) : ""}</span>
        ${running && html`<button type="button" class="button" onClick=${() => setStopped(`${ran} ${text}`)}>Stop</button>`}
      </div>
    </section>
    ${error && asked && html`<${QueryError} error=${error} expr="" />`}
    ${!asked ? html`<${Start} onPick=${(expr) => show({ exprs: [expr] })} />` : !data ? running && html`<${Loading}
        what="Running" />` : html`<${Result} data=${data} onZoom=${onZoom} />`}
  </div>`;
}

function summary({ answers, took, view, at }) {
  if (answers.every((a) => !a.data)) return "";
  const series = answers.reduce(
    (sum, a) => sum + (Array.isArray(a.data?.result) && a.data.resultType !== "scalar" ? a.data.result.length : 0),
    0,
  );
  return `${series} series in ${Math.round(took)} ms${view === "table" ? `, at ${formatTime(at)}` : ""}`;
}

function Step({ step, auto, onChange }) {
  const [text, setText] = useState(step ? formatDuration(step) : "");
  useEffect(() => setText(step ? formatDuration(step) : ""), [step]);
  const bad = text.trim() !== "" && parseDuration(text) === null;
  const commit = () => bad || (parseDuration(text) ?? null) === step || onChange(parseDuration(text));
  return html`<label class="field-inline">Step <input class="step" value=${text}
      placeholder=${auto ? `auto, ${formatDuration(auto)}` : "auto"} aria-invalid=${bad ? "true" : null}
    title=${bad ? "A duration, such as 30s or 5m; empty for automatic" : "Distance between points; empty for automatic"}
    onInput=${(e) => setText(e.target.value)} onBlur=${commit} onKeyDown=${(e) => e.key === "Enter" && commit()} /></label>`;
}

// What the first metric of an expression is, in its own words.
function About({ expr }) {
  const metric = useMemo(() => tokenize(expr).find((t) => t.kind === "metric")?.text, [expr]);
  const { data } = useLoad(metric ? () => fetchRemembered("metadata") : null, [metric]);
  const known = metric && data ? (data[metric] ?? data[metric.replace(/_(bucket|count|sum|total)$/, "")])?.[0] : null;
  return known?.help
    ? html`<div class="about clip" title=${known.help}><span class="mono">${metric}</span> <em>${known.type}</em> ${known.help}</div>`
    : null;
}

function Result({ data, onZoom }) {
  const good = data.answers.filter((a) => a.data);
  const notes = data.answers.flatMap((a) => [...(a.warnings ?? []), ...(a.infos ?? [])]);
  return html`${
    notes.length > 0 &&
    html`<div class="notice notice-warn"><${Icon} name="info" /><ul>${notes.map((note) => html`<li key=${note}>${note}</li>`)}</ul></div>`
  }
    ${
      data.view === "table"
        ? data.answers.map(
            (a, i) =>
              a.data &&
              html`<section class="card" key=${i} aria-label=${a.expr}>
          ${data.answers.length > 1 && html`<header class="result-head"><span class="query-letter">${letter(i)}</span><code
              class="clip">${a.expr}</code></header>`}
          <${ResultTable} data=${a.data} expr=${a.expr} /></section>`,
          )
        : good.length > 0 && html`<${Plot} data=${data} onZoom=${onZoom} />`
    }`;
}

function Plot({ data, onZoom }) {
  const { series, total, shared, histograms } = useMemo(() => linesOf(data), [data]);
  const heat = histograms.length > 0 && html`<${HeatMaps} found=${histograms} window=${data.window} />`;
  if (total === 0 && heat) return heat;
  if (total === 0) return html`<${NoSeries} />`;
  const units = new Set(data.answers.filter((a) => a.data).map((a) => unitOf(a.expr)));
  const unit = units.size === 1 ? [...units][0] : "plain";
  const stacked = data.view === "stacked";
  return html`<section class="panel big" aria-label="Plot">
    ${Object.keys(shared).length > 0 && html`<div class="shared"><span class="quiet">All have</span> ${shared.__name__ && html`<span
        class="mono">${shared.__name__}</span> `}<${Labels} labels=${shared} /></div>`}
    ${
      total > series.length &&
      html`<div class="notice notice-warn"><${Icon}
          name="info" /><div>Showing ${series.length} of ${total} series. Narrow the query with a
        matcher, or take the largest with <code>topk(20, …)</code>.</div></div>`
    }
    <${Chart} series=${series} window=${data.window} unit=${unit} stacked=${stacked} floor=${stacked ? 0 : undefined} height=${340}
        label="Result" onZoom=${onZoom} />
  </section>${heat}`;
}

// Native histograms, each series a picture by itself: their buckets need not be the same.
function HeatMaps({ found, window }) {
  const several = new Set(found.map((f) => f.expr)).size > 1;
  return html`<section class="panel big" aria-label="Heat maps">
    ${
      found.length > MOST_HEAT_MAPS &&
      html`<div class="notice notice-warn"><${Icon} name="info" /><div>Showing ${MOST_HEAT_MAPS} of ${found.length} series of native
        histograms. Add them up with <code>sum by (…) (…)</code>, or narrow the query with a matcher.</div></div>`
    }
    ${found.slice(0, MOST_HEAT_MAPS).map(({ expr, series }) => {
      const name = Object.keys(series.metric).length ? seriesName(series.metric) : expr;
      return html`<${HeatMap} key=${`${expr} ${name}`} series=${series} window=${window} unit=${observedUnit(expr)}
        name=${several && name !== expr ? `${name} of ${expr}` : name} />`;
    })}
    <p class="quiet">The stronger the colour, the more observations a bucket holds. <code>rate(…)</code> shows those of each moment.
      Lines come of <code>histogram_quantile(0.9, …)</code>, <code>histogram_count(…)</code> and <code>histogram_avg(…)</code>.</p>
  </section>`;
}

// What was observed has the unit that a metric's name ends in, whatever is made of the histograms.
const observedUnit = (expr) => (/_seconds\b/.test(expr) ? "seconds" : /_bytes\b/.test(expr) ? "bytes" : "plain");

// All expressions' series on one grid, named by what tells them apart.
function linesOf({ answers, window }) {
  const several = answers.filter((a) => a.data).length > 1;
  const all = answers.flatMap((a, i) => (a.data ? columnsOf(a.data.result, window).map((s) => ({ ...s, i })) : []));
  const shared = sharedLabels(all.map((s) => s.labels));
  const without = new Set(Object.keys(shared));
  const series = all.slice(0, MOST_LINES).map((s) => {
    const own = Object.fromEntries(Object.entries(s.labels).filter(([name]) => !without.has(name)));
    const name = Object.keys(own).length
      ? seriesName(own)
      : Object.keys(s.labels).length && all.length === 1
        ? seriesName(s.labels)
        : answers[s.i].expr;
    return {
      key: `${s.i}:${seriesName(s.labels)}`,
      name: several ? `${letter(s.i)} ${name}` : name,
      title: Object.keys(s.labels).length ? seriesName(s.labels) : answers[s.i].expr,
      values: s.values,
    };
  });
  const histograms = answers.flatMap(({ expr, data }) =>
    (data?.result.filter?.((s) => s.histograms) ?? []).map((series) => ({ expr, series })),
  );
  return { series, total: all.length, shared, histograms };
}

const EXAMPLES = [
  ["up", "which targets answer"],
  [
    '100 * sum by (instance) (rate(node_cpu_seconds_total{mode!="idle"}[5m])) / sum by (instance) (rate(node_cpu_seconds_total[5m]))',
    "how busy each host is, in percent",
  ],
  ['topk(10, count by (__name__) ({__name__=~".+"}))', "the metrics with the most series"],
  ["sum by (job) (scrape_samples_scraped)", "samples of each scrape, by job"],
];

function Start({ onPick }) {
  const recent = history();
  const list = (items) =>
    html`<ul class="picks">${items.map(
      ([expr, says]) =>
        html`<li key=${expr}><button type="button" onClick=${() => onPick(expr)}><code>${expr}</code>${says && html`<span
            class="quiet">${says}</span>`}</button></li>`,
    )}</ul>`;
  return html`<section class="card start"><h2>Write an expression above and press Enter, or start from one of these</h2>${list(EXAMPLES)}
    ${recent.length > 0 && html`<h2>Run lately in this browser</h2>${list(recent.map((expr) => [expr]))}`}
    <p class="quiet">Tab takes a suggestion, Ctrl+Space asks for some, Shift+Enter starts a new line.
      Drag over the plot to zoom in, double-click to zoom out.</p></section>`;
}
