// The answer of an instant query as a table: series and value, largest or smallest first when asked.
import { html, useState } from "../html.js";
import { bucketsOf } from "../heat.js";
import { numberOf, seriesName } from "../matrix.js";
import { formatTime } from "../time.js";
import { format, unitOf } from "../units.js";
import { Empty, Labels } from "./states.js";

const FIRST_ROWS = 200;
const ARROWS = { "": "↕", descending: "↓", ascending: "↑" };

// `data` is the API's {resultType, result} of `expr`.
export function ResultTable({ data, expr }) {
  const [order, setOrder] = useState("");
  const [all, setAll] = useState(false);
  if (data.resultType === "scalar" || data.resultType === "string") {
    return html`<p class="scalar mono">${data.result[1]} <span
        class="quiet">${data.resultType} at ${formatTime(data.result[0])}</span></p>`;
  }
  if (data.result.length === 0) return html`<${NoSeries} />`;
  const rows = [...data.result];
  if (order && data.resultType === "vector") {
    const value = (row) => (row.value ? numberOf(row.value[1]) : NaN);
    rows.sort((a, b) => (order === "descending" ? -1 : 1) * (value(a) - value(b)));
  }
  const unit = unitOf(expr);
  const shown = all ? rows : rows.slice(0, FIRST_ROWS);
  const next = { "": "descending", descending: "ascending", ascending: "" };
  return html`<div class="scroll"><table class="results">
    <thead><tr><th>Series</th><th class="number" aria-sort=${order || "none"}>
      <button type="button" class="sort"
          onClick=${() => setOrder(next[order])}>Value ${ARROWS[order]}</button></th></tr></thead>
    <tbody>${shown.map(
      (
        row,
      ) => html`<tr key=${seriesName(row.metric)}><td>${row.metric.__name__ && html`<span
          class="mono metric">${row.metric.__name__}</span> `}<${Labels} labels=${row.metric} />
        ${Object.keys(row.metric).length === 0 && html`<span class="quiet">no labels</span>`}</td>
        <td class="number mono"><${Value} row=${row} unit=${unit} /></td></tr>`,
    )}</tbody></table>
    ${shown.length < rows.length && html`<button type="button" class="button show-all"
        onClick=${() => setAll(true)}>Show all ${rows.length} series</button>`}</div>`;
}

function Value({ row, unit }) {
  if (row.value) {
    const short = format(numberOf(row.value[1]), unit);
    return html`${row.value[1]}${unit !== "plain" && html` <span class="quiet">${short}</span>`}`;
  }
  if (row.values)
    return row.values.map(([time, value]) => html`<div key=${time}>${value} <span class="quiet">@ ${formatTime(time)}</span></div>`);
  const histogram = row.histogram?.[1] ?? row.histograms?.at(-1)?.[1];
  return histogram ? html`<${Buckets} histogram=${histogram} />` : "";
}

// A native histogram: its count and sum, and on demand its buckets.
function Buckets({ histogram }) {
  const buckets = histogram.buckets ?? [];
  const peak = bucketsOf(histogram).reduce((most, b) => Math.max(most, Math.abs(b.count)), 0);
  const brackets = [["(", "]"], ["[", ")"], ["(", ")"], ["[", "]"]];
  return html`<details class="buckets"><summary>count ${histogram.count}, sum ${histogram.sum} <span
      class="quiet">native histogram, ${buckets.length} ${buckets.length === 1 ? "bucket" : "buckets"}</span></summary>
    <table><tbody>${buckets.map(([rule, low, high, count]) => {
      const [first, last] = brackets[rule];
      const width = peak > 0 ? Math.round((100 * Math.abs(numberOf(count))) / peak) : 0;
      return html`<tr key=${low + high}><td class="number">${first}${low}, ${high}${last}</td><td class="number">${count}</td>
        <td class="bucket-bar" aria-hidden="true"><span style=${`width:${width}%`}></span></td></tr>`;
    })}</tbody></table></details>`;
}

export function NoSeries() {
  return html`<${Empty}
      title="The query ran and found no series.">Check the names of metrics and labels (completion knows them), widen a matcher,
    or choose another time: an instant query looks back five minutes.<//>`;
}
