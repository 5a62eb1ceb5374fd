// How a plot is drawn: the options and the columns that uPlot takes. No markup here, and no data fetched.
import { gridOf } from "../matrix.js";
import { formatTime } from "../time.js";
import { format, gridSpacings } from "../units.js";
import { dashOf, faded, resolve, seriesColour } from "./colours.js";

// Below this distance in CSS pixels the cursor picks out a series.
const FOCUS_PX = 28;
// The place of the grey among the series colours: what is there only to compare with is filled faintly.
export const GREY = 7;
// A drag shorter than this is a click.
const LEAST_DRAG_PX = 6;

// Tick labels must not round: 0.25 and 0.3 are different places.
const AXIS_DIGITS = 6;

const drawable = (value) => (value === null || Number.isFinite(value) ? value : null);

// [times, ...values] as uPlot takes them. Stacked, each series stands on those after it (uPlot draws the last on top, and the
// lowest must be: where those above it are zero, its line is the one to see). `below` ones hang under zero.
export function columns(series, window, stacked) {
  const times = gridOf(window);
  if (!stacked) return [times, ...series.map((s) => s.values.map((v) => drawable(v) && (s.below ? -v : v)))];
  const floor = new Array(times.length).fill(0);
  const stand = (s) =>
    s.values.map((v, i) => {
      const value = drawable(v);
      if (value !== null) floor[i] += value;
      return value === null ? null : floor[i];
    });
  return [times, ...[...series].reverse().map(stand).reverse()];
}

// A point with no neighbour has no line: it must be drawn as a dot or it is not seen.
function lonelyPoints(u, seriesIndex) {
  const values = u.data[seriesIndex];
  const lonely = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null) lonely.push(i);
  }
  return lonely;
}

function seriesOptions(series, all, stacked) {
  return series.map((s) => {
    const place = s.colour ?? all.indexOf(s);
    const stroke = resolve(seriesColour(place));
    const alone = all.length === 1;
    return {
      label: s.name,
      stroke,
      width: 1.5,
      dash: stacked || s.colour !== undefined ? undefined : dashOf(place),
      fill: stacked || alone || s.below !== undefined ? faded(stroke, stacked && s.colour !== GREY ? 0.5 : 0.14) : undefined,
      fillTo: 0,
      points: { show: true, size: 5, fill: stroke, filter: (u, i) => lonelyPoints(u, i) },
    };
  });
}

// A filled area between a stacked series and the one it stands on.
function bandsOf(series, stacked) {
  return stacked ? series.slice(1).map((_, i) => ({ series: [i + 1, i + 2] })) : [];
}

const pad = (n) => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const dayOf = (seconds) => new Date(seconds * 1000).toDateString();
const severalDays = (u) => dayOf(u.scales.x.min) !== dayOf(u.scales.x.max);

// Tick labels in local time: the clock, and the date under the first tick of each day.
function timeLabels(u, splits, _axis, _space, spacing) {
  let day = null;
  const dated = severalDays(u);
  return splits.map((seconds) => {
    if (seconds === null) return null;
    const t = new Date(seconds * 1000);
    const date = `${t.getDate()} ${MONTHS[t.getMonth()]}`;
    if (spacing >= 86400) return date;
    const clock = `${pad(t.getHours())}:${pad(t.getMinutes())}${spacing < 60 ? `:${pad(t.getSeconds())}` : ""}`;
    const turned = dated && t.toDateString() !== day;
    day = t.toDateString();
    return turned ? `${clock}\n${date}` : clock;
  });
}

function scaleY(now) {
  return (_u, low, high) => {
    if (low === null || high === null) return [0, 1];
    const bottom = now().floor === undefined ? low : Math.min(now().floor, low);
    const top = now().ceiling === undefined ? high : Math.max(now().ceiling, high);
    // A flat line stands in the middle of a scale as wide as its own value.
    const spread = top - bottom || Math.abs(top) || 1;
    const roomBelow = bottom === now().floor ? 0 : spread * 0.08;
    const roomAbove = top === now().ceiling ? 0 : spread * 0.08;
    return [bottom - roomBelow, top + roomAbove];
  };
}

// The name and value of the series under the cursor, and the time, in a small box that stays inside the plot.
function writeReadout(u, now, focused) {
  const readout = now.readout.current;
  const at = u.cursor.idx;
  if (!readout) return;
  // Only the plot under the pointer has one: on those that follow it, the legend is enough.
  readout.hidden = at === null || at === undefined || u.cursor.left < 0 || !u.cursor.event;
  if (readout.hidden) return;
  const series = focused === null ? null : now.shown[focused - 1];
  const time = formatTime(u.data[0][at]);
  readout.textContent = series ? `${time}\n${series.title ?? series.name}: ${format(series.values[at], now.unit)}` : time;
  const left = u.cursor.left + u.bbox.left / devicePixelRatio;
  const width = readout.offsetWidth;
  readout.style.left = `${left + 14 + width > u.width ? Math.max(0, left - width - 14) : left + 14}px`;
}

// `latest.current` is the component's newest state, read at draw time so that new values need no new plot.
export function plotOptions(latest, { series, all, height, width, sync, onCursor }) {
  const now = () => latest.current;
  const ink = resolve("var(--ink-quiet)");
  const line = resolve("var(--line-faint)");
  const unit = now().unit;
  let focused = null;
  const axis = {
    stroke: ink,
    font: "11px system-ui, sans-serif",
    ticks: { stroke: line, size: 4, width: 1 },
    grid: { stroke: line, width: 1 },
  };
  return {
    width,
    height,
    padding: [8, 16, 0, 0],
    legend: { show: false },
    focus: { alpha: 0.35 },
    series: [{}, ...seriesOptions(series, all, now().stacked)],
    bands: bandsOf(series, now().stacked),
    scales: { x: { time: true, range: () => [now().window.start, now().window.end] }, y: { range: scaleY(now) } },
    axes: [
      { ...axis, values: timeLabels, space: 70, size: (u) => (severalDays(u) ? 36 : 22) },
      {
        ...axis,
        values: (_u, splits) =>
          splits.map((v) => (v === null ? null : format(now().series.some((s) => s.below) ? Math.abs(v) : v, unit, AXIS_DIGITS))),
        incrs: gridSpacings(unit),
        space: 32,
        size: (_u, labels) => Math.max(38, 12 + 6.4 * Math.max(0, ...(labels ?? []).map((l) => l?.length ?? 0))),
      },
    ],
    cursor: {
      y: false,
      focus: { prox: series.length > 1 ? FOCUS_PX : -1 },
      points: { size: 7 },
      drag: { x: true, y: false, setScale: false },
      sync: sync ? { key: sync, setSeries: false, scales: ["x", null] } : undefined,
      bind: {
        dblclick: () => () => {
          now().onZoom?.();
          return null;
        },
      },
    },
    hooks: {
      setCursor: [
        (u) => {
          const at = u.cursor.idx;
          onCursor(at === null || at === undefined || u.cursor.left < 0 ? null : at);
          writeReadout(u, now(), focused);
        },
      ],
      setSeries: [
        (u, index, options) => {
          if (!("focus" in (options ?? {}))) return;
          focused = options.focus ? index : null;
          writeReadout(u, now(), focused);
        },
      ],
      setSelect: [
        (u) => {
          const { left, width: wide } = u.select;
          if (wide === 0) return;
          // Those that follow the pointer select along with it: only the plot under it answers.
          if (u.cursor.event && wide >= LEAST_DRAG_PX) now().onZoom?.(u.posToVal(left, "x"), u.posToVal(left + wide, "x"));
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        },
      ],
    },
  };
}
