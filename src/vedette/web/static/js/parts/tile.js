// A figure of now, its course over the time range behind it, and a word in colour where it is high.
import { html } from "../html.js";
import { fetchApi, useLoad } from "../api.js";
import { columnsOf, numberOf } from "../matrix.js";
import { fill } from "../panels.js";
import { windowOf } from "../time.js";
import { format } from "../units.js";

const POINTS = 60;

const first = (answer) => (answer.data.result.length ? numberOf(answer.data.result[0].value[1]) : null);

async function load(tile, now, window, variables, signal) {
  const ask = (expr) => fetchApi("query", { query: fill(expr, variables), time: now }, { signal });
  const coarse = windowOf({ from: window.start, to: window.end }, now, { points: POINTS, least: window.step });
  const [value, detail, course] = await Promise.all([
    ask(tile.expr).then(first),
    tile.detail ? ask(tile.detail).then(first) : null,
    tile.plain
      ? []
      : fetchApi("query_range", { query: fill(tile.expr, variables), ...coarse }, { signal }).then((a) => columnsOf(a.data.result, coarse)),
  ]);
  return { value, detail, course: course[0]?.values ?? [] };
}

export function Tile({ tile, now, window, variables }) {
  const { data, error } = useLoad((signal) => load(tile, now, window, variables, signal), [now, window.start, window.end, variables.host]);
  const value = data?.value ?? null;
  const high = highness(tile, value);
  const text = data ? format(value, tile.unit) : "…";
  const [, number, unit] = text.match(/^(\S+)\s?(.*)$/);
  return html`<div class=${`tile${high ? (high === "high" ? " tile-warn" : " tile-bad") : ""}`} data-tile=${tile.title}>
    <div class="tile-title">${tile.title}${high && html`<span class="tile-high">${high}</span>`}</div>
    <div class="tile-value">${number}<span class="tile-unit">${unit}</span></div>
    <div class="tile-detail">${error && !error.general ? error.message : detailOf(tile, data)}</div>
    ${data && html`<${Course} values=${data.course} ceiling=${tile.ceiling} />`}
  </div>`;
}

// The word for a value over the tile's thresholds; "" below them, and for a tile without any.
function highness({ warn, bad }, value) {
  if (value === null || bad === undefined || value < warn) return "";
  return value < bad ? "high" : "very high";
}

// The small print: never empty, so that tiles are equally high.
function detailOf(tile, data) {
  if (data && data.value === null) return "not reported";
  return data?.detail != null && tile.of ? tile.of(data.detail, format) : "\u00a0";
}

// The line behind a figure: decoration, since the plots below say it with axes.
function Course({ values, ceiling }) {
  const known = values.filter((v) => v !== null && Number.isFinite(v));
  if (known.length < 2) return null;
  const top = Math.max(...known, ceiling ?? 0) || 1;
  const place = (v, i) => `${((i / (values.length - 1)) * 100).toFixed(2)},${(30 - (v / top) * 28).toFixed(2)}`;
  const runs = [];
  let run = [];
  values.forEach((v, i) => {
    if (v !== null && Number.isFinite(v)) run.push(place(v, i));
    if ((v === null || i === values.length - 1) && run.length) {
      runs.push(run);
      run = [];
    }
  });
  return html`<svg class="course" viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true">${runs.map((r) => {
    const [from] = r[0].split(",");
    const [to] = r[r.length - 1].split(",");
    return html`<path class="course-area" d=${`M${from},30L${r.join("L")}L${to},30Z`} /><path class="course-line"
        d=${`M${r.join("L")}`} />`;
  })}</svg>`;
}
