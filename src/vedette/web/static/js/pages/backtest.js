// Backtest: a rule run over what is stored. When it would have fired, as a timeline, and whom it would have told.
import { Fragment, html, useRef, useState } from "../html.js";
import { askLines } from "../api.js";
import { Badge, Empty, Labels } from "../parts/states.js";
import { useRoute } from "../router.js";
import { coarse, formatTime, fromRfc3339 } from "../time.js";
import { format } from "../units.js";

const PATH = "/api/v1/rules/backtest";
const MOST_LANES = 40;
const MOST_ROWS = 100;
const TICKS = 5;
const FIRST = `alert: HighLoad
expr: node_load1 > 2
for: 5m
`;

export function Backtest() {
  const { params } = useRoute();
  const [text, setText] = useState(params.get("text") ?? FIRST);
  const [progress, setProgress] = useState();
  const [result, setResult] = useState();
  const [error, setError] = useState();
  const stop = useRef(null);
  const submit = async (event) => {
    event.preventDefault();
    const { since } = Object.fromEntries(new FormData(event.target));
    stop.current = new AbortController();
    setProgress({ done: 0, total: 0, rule: "" });
    setError(undefined);
    try {
      await askLines(PATH, { text, params: { since }, signal: stop.current.signal }, (line) => {
        if (line.progress) setProgress(line.progress);
        else if (line.error) setError(new Error(line.error));
        else setResult(line.result);
      });
    } catch (problem) {
      if (problem.name !== "AbortError") setError(problem);
    } finally {
      setProgress(undefined);
    }
  };
  return html`<div class="view">
    <section class="card pad"><form class="form" onSubmit=${submit} aria-label="Backtest">
      <label class="grow wide-field">A rule, a group, or a rule file<textarea name="text" class="mono rule-text" spellcheck="false" required
          rows=${Math.min(20, Math.max(5, text.split("\n").length))} value=${text} onInput=${(event) => setText(event.target.value)}></textarea></label>
      <label>Over the last<input name="since" defaultValue="1d" size="6" required /></label>
      ${
        progress
          ? html`<button type="button" class="button" onClick=${() => stop.current.abort()}>Stop</button>
            <p class="quiet" role="status"><span class="spinner" aria-hidden="true"></span>${
              progress.total ? `${progress.rule}: ${Math.round((100 * progress.done) / progress.total)}%` : "Beginning"
            }…</p>`
          : html`<button class="button button-main">Run it over history</button>`
      }
      <p class="quiet">Routes, inhibition, silences and times of quiet are those in force. Nothing is sent.</p>
      ${error && html`<p class="problem" role="alert">${error.message}</p>`}
    </form></section>
    ${result && html`<${Result} result=${result} />`}
  </div>`;
}

function Result({ result }) {
  const span = [fromRfc3339(result.start), fromRfc3339(result.end)];
  const fired = result.rules.reduce((n, rule) => n + rule.fired, 0);
  return html`<${Fragment}>
    <p role="status">${fired === 0 ? "Nothing would have fired" : `${fired} ${fired === 1 ? "alert" : "alerts"} would have fired`} from ${formatTime(
        span[0],
      )} to ${formatTime(span[1])}${result.configured ? `, and ${result.notification_count} ${result.notification_count === 1 ? "notification" : "notifications"} gone out` : ""}${result.muted_count ? `; ${result.muted_count} kept quiet` : ""}.</p>
    ${result.rules.map((rule) => html`<${Ran} key=${`${rule.group}/${rule.name}`} rule=${rule} span=${span} told=${result.notifications} />`)}
    <${Told} result=${result} />
  <//>`;
}

const percent = (at, [start, end]) => `${Math.min(100, Math.max(0, (100 * (at - start)) / (end - start)))}%`;

// One lane a label set: pale while it was pending, full while it fired.
function Ran({ rule, span, told }) {
  const lanes = new Map();
  for (const firing of rule.firings) {
    const key = JSON.stringify(firing.labels);
    lanes.set(key, [...(lanes.get(key) ?? []), firing]);
  }
  const shown = [...lanes.values()].slice(0, MOST_LANES);
  const ours = told.filter((t) => t.alerts.some((a) => a.labels.alertname === rule.name));
  return html`<section class="card group" aria-label=${`Rule ${rule.name}`} data-backtest=${rule.name}>
    <header><h2>${rule.name}</h2><code class="clip">${rule.expr}</code>
      <span class="quiet group-facts">${rule.evaluations.toLocaleString("en")} evaluations${rule.failures ? `, ${rule.failures} failed` : ""} · fired ${rule.fired}× · pending only ${rule.pending_only}×</span></header>
    ${rule.errors.length > 0 && html`<p class="problem pad">${formatTime(fromRfc3339(rule.errors[0].at))}: ${rule.errors[0].error}</p>`}
    ${rule.fired === 0 && html`<div class="pad"><${Empty} title="It would have stayed quiet.">Lower its threshold, shorten its <code>for</code>, or look further back.<//></div>`}
    ${
      shown.length > 0 &&
      html`<div class="timeline pad">
      ${shown.map((firings) => html`<${Lane} key=${JSON.stringify(firings[0].labels)} firings=${firings} span=${span} />`)}
      ${ours.length > 0 && html`<div class="lane"><span class="lane-name quiet">notifications</span><div class="lane-time">${ours
        .slice(0, MOST_ROWS)
        .map((t, i) => html`<i class="lane-tick" key=${i} style=${{ left: percent(fromRfc3339(t.at), span) }}></i>`)}</div></div>`}
      <div class="lane lane-axis"><span></span><div class="lane-time">${Array.from({ length: TICKS }, (_, i) => {
        const at = span[0] + ((span[1] - span[0]) * i) / (TICKS - 1);
        return html`<span class="lane-at" key=${i} style=${{ left: percent(at, span) }}>${formatTime(at).slice(5, 16)}</span>`;
      })}</div></div>
      ${lanes.size > shown.length && html`<p class="quiet">and ${lanes.size - shown.length} more label sets</p>`}</div>
      <div class="scroll"><table class="cards"><thead><tr><th>Fired</th><th>Lasted</th><th class="wide">Labels</th><th class="number">Value</th></tr></thead>
      <tbody>${rule.firings.slice(0, MOST_ROWS).map(
        (f, i) => html`<tr key=${i}><td data-th="Fired" class="nowrap">${formatTime(fromRfc3339(f.fired_at))}</td>
        <td data-th="Lasted" class="nowrap">${f.resolved_at ? coarse(Math.max(1, fromRfc3339(f.resolved_at) - fromRfc3339(f.fired_at))) : "to the end"}</td>
        <td data-th="Labels" class="wide"><${Labels} labels=${f.labels} without=${["alertname"]} /></td>
        <td data-th="Value" class="number mono">${f.value === null ? "" : format(f.value)}</td></tr>`,
      )}</tbody></table></div>
      ${rule.firings.length > MOST_ROWS && html`<p class="quiet pad">The first ${MOST_ROWS} of ${rule.fired} are shown.</p>`}`
    }
  </section>`;
}

function Lane({ firings, span }) {
  const name = Object.entries(firings[0].labels)
    .filter(([label]) => label !== "alertname")
    .map(([label, value]) => `${label}=${value}`)
    .join(" ");
  const bar = (from, to, kind, says) =>
    html`<i class=${`lane-${kind}`} title=${says} style=${{ left: percent(from, span), right: `calc(100% - ${percent(to, span)})` }}></i>`;
  return html`<div class="lane"><span class="lane-name mono clip" title=${name}>${name || "(no labels)"}</span><div class="lane-time" role="img"
      aria-label=${`fired ${firings.length} times`}>${firings.map((f) => {
        const [pending, fired, ended] = [f.pending_at, f.fired_at, f.resolved_at].map((t) => (t ? fromRfc3339(t) : span[1]));
        return html`<${Fragment} key=${f.fired_at}>${pending < fired && bar(pending, fired, "pending", `pending from ${formatTime(pending)}`)}
          ${bar(fired, ended, "firing", `firing from ${formatTime(fired)} to ${formatTime(ended)}`)}<//>`;
      })}</div></div>`;
}

function Told({ result }) {
  if (!result.configured)
    return html`<p class="quiet">Whom it would have told is not known: no receiver is configured (<code>--alertmanager-config</code>).</p>`;
  const rows = result.notifications.slice(0, MOST_ROWS);
  return html`<${Fragment}>${
    rows.length > 0 &&
    html`<section class="card scroll" aria-label="Notifications"><table class="cards"><thead><tr><th>When</th><th class="c-state">Status</th><th>Receiver</th><th
      class="wide">Group</th></tr></thead><tbody>${rows.map(
        (t, i) => html`<tr key=${i}><td data-th="When" class="nowrap">${formatTime(fromRfc3339(t.at))}</td>
        <td data-th="Status"><${Badge} tone=${t.status === "firing" ? "bad" : "good"}>${t.status}<//></td>
        <td data-th="Receiver">${t.receiver} <span class="quiet">${t.channel}</span></td>
        <td data-th="Group" class="wide"><${Labels} labels=${t.group_labels} /> <span class="quiet">${t.alerts.length} ${t.alerts.length === 1 ? "alert" : "alerts"}; ${t.why}</span></td></tr>`,
      )}</tbody></table></section>`
  }
  ${
    result.muted.length > 0 &&
    html`<section class="card scroll" aria-label="Kept quiet"><table class="cards"><thead><tr><th>When</th><th>Receiver</th><th class="wide">Kept quiet</th></tr></thead>
    <tbody>${result.muted.slice(0, MOST_ROWS).map(
      (m, i) => html`<tr key=${i}><td data-th="When" class="nowrap">${formatTime(fromRfc3339(m.at))}</td><td data-th="Receiver">${m.receiver}</td>
      <td data-th="Kept quiet" class="wide"><${Labels} labels=${m.labels} /> <p class="quiet">${m.reason || m.stage}</p></td></tr>`,
    )}</tbody></table></section>`
  }<//>`;
}
