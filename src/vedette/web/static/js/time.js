// Ranges, steps and durations. Times are Unix seconds; durations are seconds.
import { useEffect, useState } from "./html.js";

const UNITS = [
  ["y", 31536000],
  ["w", 604800],
  ["d", 86400],
  ["h", 3600],
  ["m", 60],
  ["s", 1],
  ["ms", 0.001],
];

// "1h30m", "15s", or a bare number of seconds -> seconds; null for anything else.
export function parseDuration(text) {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed) || null;
  if (!/^(\d+(ms|[smhdwy]))+$/.test(trimmed)) return null;
  let total = 0;
  for (const [, count, unit] of trimmed.matchAll(/(\d+)(ms|[smhdwy])/g)) total += Number(count) * UNITS.find((u) => u[0] === unit)[1];
  return total || null;
}

// Seconds -> "1h30m", exact to the millisecond, as PromQL writes it.
export function formatDuration(seconds) {
  let rest = Math.round(seconds * 1000) / 1000;
  let text = "";
  for (const [unit, size] of UNITS) {
    // Years and weeks only where they come out even: "30d" reads better than "4w2d".
    if ((unit === "y" || unit === "w") && rest % size !== 0) continue;
    const count = Math.floor(rest / size + 1e-9);
    if (count > 0) {
      text += count + unit;
      rest = Math.round((rest - count * size) * 1000) / 1000;
    }
  }
  return text || "0s";
}

const STEPS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

// A round step giving at most `points` points over `seconds`, and no shorter than `least`.
export function stepFor(seconds, { points = 400, least = 1 } = {}) {
  const wanted = Math.max(seconds / points, least);
  return STEPS.find((s) => s >= wanted) ?? Math.ceil(wanted / 86400) * 86400;
}

// The evaluation window {start, end, step} of a range {last} or {from, to}, its ends on multiples of the step so that
// a refresh adds a point and moves none.
export function windowOf(range, now, { points, least } = {}) {
  const end = range.last ? now : range.to;
  const start = range.last ? now - range.last : range.from;
  const step = stepFor(end - start, { points, least });
  return { start: Math.floor(start / step) * step, end: Math.floor(end / step) * step, step };
}

// The range that URL parameters ask for: `range=1h`, or `from` and `to` in Unix seconds; `fallback` (seconds) otherwise.
export function rangeFrom(params, fallback) {
  const from = Number(params.get("from"));
  const to = Number(params.get("to"));
  if (from > 0 && to > from) return { from, to };
  return { last: parseDuration(params.get("range") ?? "") ?? fallback };
}

// The URL parameters of a range.
export function rangeParams(range) {
  if (range.last) return { range: formatDuration(range.last), from: null, to: null };
  return { range: null, from: Math.round(range.from), to: Math.round(range.to) };
}

const pad = (n) => String(n).padStart(2, "0");

// Local wall time: "2026-03-01 14:05:09".
export function formatTime(seconds) {
  const t = new Date(seconds * 1000);
  const date = `${t.getFullYear()}-${pad(t.getMonth() + 1)}-${pad(t.getDate())}`;
  return `${date} ${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}`;
}

// The value of an <input type="datetime-local">, and back.
export const toLocalInput = (seconds) => formatTime(seconds).replace(" ", "T");
export const fromLocalInput = (text) => new Date(text).getTime() / 1000;

// "just now", "12 s ago", "3 min ago", "2 h ago", "5 d ago"; "never" for the zero time.
export function formatAgo(seconds, now) {
  if (!(seconds > 0)) return "never";
  const age = now - seconds;
  if (age < -1) return `in ${coarse(-age)}`;
  return age < 1 ? "just now" : `${coarse(age)} ago`;
}

// A duration in its largest sensible unit: "850 ms", "12 s", "3 min", "2 h", "5 d".
export function coarse(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

// RFC 3339 -> Unix seconds; 0 for Go's zero time and for what is not a time.
export function fromRfc3339(text) {
  const ms = Date.parse(text ?? "");
  return ms > 0 ? ms / 1000 : 0;
}

// The time now, moving every `seconds`; 0 stands still. Stands still too while the tab is hidden, and catches up after.
export function useNow(seconds) {
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    if (!seconds) return undefined;
    const tick = () => document.hidden || setNow(Date.now() / 1000);
    const timer = setInterval(tick, seconds * 1000);
    document.addEventListener("visibilitychange", tick);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", tick);
    };
  }, [seconds]);
  return [now, () => setNow(Date.now() / 1000)];
}
