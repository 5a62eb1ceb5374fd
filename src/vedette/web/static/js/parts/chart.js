// A plot of series over time with its legend. uPlot draws; this file gives it columns, colours, units, a synced cursor,
// zoom by dragging and a keyboard, and writes the values under the cursor into the legend.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { gridOf } from "../matrix.js";
import { formatTime } from "../time.js";
import { format } from "../units.js";
import { dashOf, seriesColour, useTheme } from "./colours.js";
import { columns, plotOptions } from "./plot.js";
import uPlot from "../../vendor/uplot.js";

const lastKnown = (values) => {
  for (let i = values.length - 1; i >= 0; i--) if (values[i] !== null) return values[i];
  return null;
};

// `series` is [{key, name, title, values, below}] (`below` draws downwards, as what leaves beside what comes), `window` the
// grid they are on, `unit` as in units.js, `floor`/`ceiling` fix the ends of the scale, `label` names the plot for a
// screen reader. `onZoom(from, to)` is called with seconds after a drag, with nothing to undo it.
export function Chart({ series, window, unit, stacked, floor, ceiling, label, height = 180, sync, onZoom }) {
  const theme = useTheme();
  const [hidden, setHidden] = useState(() => new Set());
  const box = useRef(null);
  const plot = useRef(null);
  const rows = useRef(null);
  const spoken = useRef(null);
  const readout = useRef(null);
  const visible = series.filter((s) => !hidden.has(s.key));
  const shown = stacked ? visible.reverse() : visible;
  const latest = useRef({});
  latest.current = { series, shown, window, unit, stacked, floor, ceiling, onZoom, readout };

  const writeLegend = (at) => {
    const now = latest.current;
    const cells = rows.current?.querySelectorAll("[data-value]") ?? [];
    cells.forEach((cell, i) => {
      const values = now.series[i]?.values;
      if (values) cell.textContent = format(at === null ? lastKnown(values) : values[at], now.unit);
    });
  };

  // Another set of series, another look or another theme is another plot; new values only are not.
  const shape = JSON.stringify([shown.map((s) => s.key), Boolean(stacked), unit, theme, height, sync]);
  useLayoutEffect(() => {
    const options = plotOptions(latest, {
      series: shown,
      all: series,
      height,
      sync,
      width: box.current.clientWidth || 300,
      onCursor: writeLegend,
    });
    plot.current = new uPlot(options, columns(shown, window, stacked), box.current);
    return () => {
      plot.current.destroy();
      plot.current = null;
    };
  }, [shape]);

  useLayoutEffect(() => {
    plot.current.setData(columns(shown, window, stacked));
    // A refresh under the reader's pointer must not take the values at the pointer away.
    const { idx, left } = plot.current.cursor;
    writeLegend(left >= 0 ? (idx ?? null) : null);
  }, [series, window, hidden]);

  useEffect(() => {
    const watch = new ResizeObserver(() => {
      const width = box.current?.clientWidth;
      if (width && plot.current && width !== plot.current.width) plot.current.setSize({ width, height });
    });
    watch.observe(box.current);
    return () => watch.disconnect();
  }, [height]);

  const step = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (!by || !plot.current) return;
    event.preventDefault();
    const times = gridOf(window);
    const from = plot.current.cursor.idx ?? (by < 0 ? times.length : -1);
    const at = Math.min(Math.max(from + by, 0), times.length - 1);
    plot.current.setCursor({ left: plot.current.valToPos(times[at], "x"), top: 10 });
    const values = shown.slice(0, 12).map((s) => `${s.name} ${format(s.values[at], unit)}`);
    spoken.current.textContent = `${formatTime(times[at])}: ${values.join(", ")}`;
  };

  const toggle = (key, event) => {
    setHidden((old) => {
      if (event.shiftKey || event.ctrlKey || event.metaKey) {
        const next = new Set(old);
        if (!next.delete(key)) next.add(key);
        return next;
      }
      // A click shows one series alone; a second click shows all again.
      const alone = series.every((s) => (s.key === key) !== old.has(s.key));
      return alone ? new Set() : new Set(series.filter((s) => s.key !== key).map((s) => s.key));
    });
  };

  const span = `${formatTime(window.start)} to ${formatTime(window.end)}`;
  const points = series.reduce((sum, s) => sum + s.values.reduce((n, v) => n + (v !== null), 0), 0);
  return html`<div class="chart" data-series=${series.length} data-points=${points}>
    <div class="plot" ref=${box} tabindex="0" role="group" aria-roledescription="plot" onKeyDown=${step} style=${`min-height:${height}px`}
      aria-label=${`${label}. ${series.length} series from ${span}. Arrow keys read values.`}>
      <div class="readout" ref=${readout} hidden></div></div>
    <div class="sr-only" aria-live="polite" ref=${spoken}></div>
    <${Legend} series=${series} hidden=${hidden} unit=${unit} stacked=${stacked} rows=${rows} onToggle=${toggle} />
  </div>`;
}

// A piece of the line itself, dash and all: colours repeat after eight.
function Swatch({ place, dashed }) {
  const dash = dashed ? dashOf(place) : undefined;
  return html`<svg class="swatch" viewBox="0 0 16 8" aria-hidden="true"><path d="M0 4h16" style=${`stroke:${seriesColour(place)}`}
      stroke-dasharray=${dash ? dash.map((n) => n * 0.8).join(" ") : null} /></svg>`;
}

function Legend({ series, hidden, unit, stacked, rows, onToggle }) {
  // What tells series apart often stands last in their names: entries are as wide as the longest needs, where there is room.
  const letters = series.reduce((most, s) => Math.max(most, s.name.length), 0);
  return html`<ul class="legend" ref=${rows} style=${`--letters:${letters}`} aria-label="Legend: a series and its value at the cursor">${series.map(
    (s, i) => html`<li key=${s.key} class=${hidden.has(s.key) ? "off" : ""}>
      <button type="button" aria-pressed=${!hidden.has(s.key)} onClick=${(event) => onToggle(s.key, event)}
        title=${`${s.title ?? s.name}\nClick: this series alone. Ctrl+click: hide or show it.`}>
        <${Swatch} place=${s.colour ?? i} dashed=${!stacked && s.colour === undefined} /><span class="legend-name">${s.name}</span></button>
      <span class="legend-value" data-value>${format(lastKnown(s.values), unit)}</span></li>`,
  )}</ul>`;
}
