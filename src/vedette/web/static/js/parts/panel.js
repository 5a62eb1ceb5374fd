// A panel: a title, a plot of a few expressions over the page's time window, and a way to explore them.
import { html } from "../html.js";
import { fetchApi, useLoad } from "../api.js";
import { columnsOf } from "../matrix.js";
import { fill } from "../panels.js";
import { Link } from "../router.js";
import { formatDuration } from "../time.js";
import { Chart } from "./chart.js";
import { Empty, Failed, Loading } from "./states.js";
import { Icon } from "./icons.js";

// More lines than this tell nothing in a plot of this size; Explore shows them all.
const MOST_SERIES = 24;

async function load(panel, window, variables, signal) {
  const answers = await Promise.all(
    panel.queries.map((q) => fetchApi("query_range", { query: fill(q.expr, variables), ...window }, { signal })),
  );
  const series = answers.flatMap((answer, i) =>
    columnsOf(answer.data.result, window).map((s) => ({
      key: `${i}:${JSON.stringify(s.labels)}`,
      name: panel.queries[i].name(s.labels),
      // A quantile or a share of nothing (no request in the window, say) is NaN: on a dashboard that is a gap.
      values: s.values.map((v) => (Number.isNaN(v) ? null : v)),
      below: panel.queries[i].below,
      device: s.labels.device,
      colour: panel.queries[i].colour,
    })),
  );
  const known = series.filter((s) => s.values.some((v) => v !== null));
  return { window, series: placed(known, panel).slice(0, MOST_SERIES), total: known.length };
}

// In the panel's order; a thing drawn above and below the line has one colour.
function placed(series, panel) {
  const devices = [...new Set(series.filter((s) => s.below !== undefined).map((s) => s.device))];
  if (devices.length) return series.map((s) => ({ ...s, colour: devices.indexOf(s.device) }));
  const place = (name) => (panel.order?.includes(name) ? panel.order.indexOf(name) : (panel.order?.length ?? 0));
  if (panel.order) series.sort((a, b) => place(a.name) - place(b.name) || a.name.localeCompare(b.name));
  return series.map((s) => ({ ...s, colour: panel.order?.includes(s.name) ? place(s.name) : s.colour }));
}

// `variables` as `fill` takes them; `range` for the link to Explore; `empty` what to do where nothing came.
export function Panel({ panel, window, variables, range, onZoom, empty }) {
  const deps = [window.start, window.end, window.step, variables.host, variables.rate];
  const { data, error } = useLoad((signal) => load(panel, window, variables, signal), deps);
  const nothing = data && data.series.length === 0;
  if (nothing && panel.optional) return null;
  const params = { ...Object.fromEntries(panel.queries.map((q, i) => [`g${i}.expr`, fill(q.expr, variables)])), "g0.tab": "graph" };
  if (range.last) params["g0.range_input"] = formatDuration(range.last);
  if (panel.stacked) params["g0.stacked"] = "1";
  return html`<section class="panel" aria-label=${panel.title} data-panel=${panel.title}>
    <header><h3>${panel.title}</h3>
      <${Link} to="/explore" params=${params} class="panel-link" title="Explore" aria-label=${`Explore ${panel.title}`}><${Icon}
          name="explore" size=${14} /><//></header>
    ${error && !error.general && html`<${Failed} error=${error} />`}
    ${!data && (!error || error.general) && html`<${Loading} />`}
    ${nothing && html`<${Empty} title="No samples in this range yet.">${empty}<//>`}
    ${
      data &&
      !nothing &&
      html`<${Chart} series=${data.series} window=${data.window} unit=${panel.unit} stacked=${panel.stacked} floor=${panel.floor}
      ceiling=${panel.ceiling} label=${panel.title} sync="overview" onZoom=${onZoom} />`
    }
    ${data && data.total > MOST_SERIES && html`<p class="quiet">The first ${MOST_SERIES} of ${data.total} series; Explore shows more.</p>`}
  </section>`;
}
