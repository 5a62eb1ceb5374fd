// What Explore shows, as URL parameters. They are those of Prometheus' own graph page, so that its links (an alert's
// `generatorURL`, say) open here with the same query, and links from here open there.
import { formatDuration, parseDuration } from "./time.js";

const DEFAULT_RANGE = 3600;
const VIEWS = { 0: "graph", 1: "table", graph: "graph", table: "table", stacked: "stacked" };

// Unix seconds -> "2026-03-01 14:05:09" in UTC, as Prometheus writes `end_input`.
const utc = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ");

// URLSearchParams -> {exprs, view, range, step}; `step` null is automatic. Several expressions share the first one's settings.
export function explorationFrom(params) {
  const exprs = [];
  for (let i = 0; params.has(`g${i}.expr`); i++) exprs.push(params.get(`g${i}.expr`));
  const last = parseDuration(params.get("g0.range_input") ?? "") ?? DEFAULT_RANGE;
  const end = params.get("g0.end_input") ?? params.get("g0.moment_input");
  const to = end ? Date.parse(`${end.replace(" ", "T")}${end.endsWith("Z") ? "" : "Z"}`) / 1000 : NaN;
  const tab = VIEWS[params.get("g0.tab")] ?? "graph";
  const stacked = tab === "graph" && (params.get("g0.stacked") === "1" || params.get("g0.display_mode") === "stacked");
  return {
    exprs: exprs.length ? exprs : [""],
    view: stacked ? "stacked" : tab,
    range: to > 0 ? { from: to - last, to } : { last },
    step: parseDuration(params.get("g0.step_input") ?? ""),
  };
}

// The reverse; empty expressions are dropped.
export function paramsOf({ exprs, view, range, step }) {
  const params = {};
  exprs.filter((e) => e.trim()).forEach((expr, i) => (params[`g${i}.expr`] = expr));
  params["g0.tab"] = view === "table" ? "table" : "graph";
  if (view === "stacked") params["g0.stacked"] = "1";
  params["g0.range_input"] = formatDuration(range.last ?? Math.round(range.to - range.from));
  if (!range.last) params["g0.end_input"] = utc(range.to);
  if (step) params["g0.step_input"] = String(step);
  return params;
}

const HISTORY = "vedette.history";
const REMEMBERED = 12;

// The expressions run last in this browser, newest first.
export function history() {
  try {
    const known = JSON.parse(localStorage.getItem(HISTORY) ?? "[]");
    return Array.isArray(known) ? known.filter((e) => typeof e === "string") : [];
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
}

export function remember(exprs) {
  const ran = exprs.filter((e) => e.trim());
  const kept = [...ran, ...history().filter((e) => !ran.includes(e))].slice(0, REMEMBERED);
  localStorage.setItem(HISTORY, JSON.stringify(kept));
}
