// The picture of one series of native histograms: time to the right, values upwards, the more observations the stronger.
import { html, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { heatOf, strengthOf } from "../heat.js";
import { gridOf, seriesName } from "../matrix.js";
import { formatTime } from "../time.js";
import { format } from "../units.js";
import { faded, resolve, seriesColour, useTheme } from "./colours.js";

const HEIGHT = 260;

// `series` is one of an answer's with `histograms`, on `window`; `unit` is that of what was observed.
export function HeatMap({ series, window, unit, name }) {
  const theme = useTheme();
  const box = useRef(null);
  const canvas = useRef(null);
  const [width, setWidth] = useState(0);
  const [readout, setReadout] = useState(null);
  const heat = useMemo(() => heatOf(series, window), [series, window]);
  const columns = gridOf(window).length;
  const { bottom, top } = heat.scale;
  const upwards = (place) => (top > bottom ? (top - place) / (top - bottom) : 0.5) * HEIGHT;

  useLayoutEffect(() => {
    const watch = new ResizeObserver(() => setWidth(box.current?.clientWidth ?? 0));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);

  useLayoutEffect(() => {
    if (!width) return;
    const dense = devicePixelRatio || 1;
    canvas.current.width = width * dense;
    canvas.current.height = HEIGHT * dense;
    const paint = canvas.current.getContext("2d");
    paint.scale(dense, dense);
    const colour = resolve(seriesColour(0));
    for (const cell of heat.cells) {
      paint.fillStyle = faded(colour, strengthOf(cell.count, heat.peak));
      const left = Math.floor((cell.at / columns) * width);
      const right = Math.floor(((cell.at + 1) / columns) * width);
      const high = upwards(cell.high);
      const height = upwards(cell.low) - high;
      // A gap tells tall buckets apart; among small ones it would be a pattern of its own.
      paint.fillRect(left, high, Math.max(right - left, 1), Math.max(height - (height > 6 ? 1 : 0), 1));
    }
  }, [heat, width, theme]);

  const look = (event) => {
    const area = canvas.current.getBoundingClientRect();
    const at = Math.floor(((event.clientX - area.left) / area.width) * columns);
    const place = top - ((event.clientY - area.top) / area.height) * (top - bottom);
    const cell = heat.cells.find((c) => c.at === at && c.low <= place && place <= c.high);
    const time = formatTime(window.start + at * window.step);
    setReadout(cell ? `${time}\n${format(cell.from, unit)} to ${format(cell.to, unit)}: ${format(cell.count)}` : null);
  };

  const span = `${formatTime(window.start)} to ${formatTime(window.end)}`;
  return html`<figure class="heat" data-cells=${heat.cells.length}>
    <figcaption class="mono clip" title=${name}>${name}</figcaption>
    <div class="heat-plot">
      <div class="heat-marks" aria-hidden="true">${heat.scale.marks.map(
        (value) => html`<span key=${value} style=${`top:${upwards(heat.scale.place(value))}px`}>${format(value, unit)}</span>`,
      )}</div>
      <div class="heat-field" ref=${box} style=${`height:${HEIGHT}px`} onPointerMove=${look} onPointerLeave=${() => setReadout(null)}>
        <canvas ref=${canvas} style=${`width:100%;height:${HEIGHT}px`} role="img"
          aria-label=${`Native histograms of ${seriesName(series.metric)}, ${span}, as a heat map. The table has their numbers.`}></canvas>
        ${readout && html`<div class="readout">${readout}</div>`}</div>
    </div>
    <div class="heat-times quiet" aria-hidden="true"><span>${formatTime(window.start)}</span><span>${formatTime(window.end)}</span></div>
  </figure>`;
}
