// What happened: each step of each alert, and each notification that was sent, failed or was kept quiet, with its reason.
import { html, useState } from "../html.js";
import { ask, useLoad } from "../api.js";
import { Badge, Choice, Empty, Failed, Labels, Loading } from "../parts/states.js";
import { setParams, useRoute } from "../router.js";
import { formatTime, fromRfc3339, useNow } from "../time.js";
import { format } from "../units.js";

const REFRESH = 15;
const PAGE = 50;
const KINDS = { firing: "bad", pending: "warn", resolved: "good", acknowledged: "warn", unacknowledged: "quiet" };
const OUTCOMES = { sent: "good", failed: "bad", muted: "quiet" };

// A log, read from its end backwards: `path` and what it is called for, `rows` of an answer, `row` draws one.
function Log({ path, name, label, tones, rows, head, row, empty }) {
  const { params } = useRoute();
  const filter = params.get("filter") ?? "";
  const chosen = params.get(name) ?? "";
  const [now] = useNow(REFRESH);
  const [older, setOlder] = useState({ rows: [], cursor: undefined });
  const asked = { filter, [name]: chosen, limit: PAGE };
  const { data, error } = useLoad((signal) => ask(path, { params: asked, signal }), [filter, chosen, now]);
  const [problem, setProblem] = useState();
  const forget = (changes) => (setOlder({ rows: [], cursor: undefined }), setParams(changes, { replace: true }));
  const cursor = older.cursor === undefined ? data?.next_cursor : older.cursor;
  const more = () =>
    ask(path, { params: { ...asked, cursor } }).then(
      (found) => setOlder({ rows: [...older.rows, ...rows(found)], cursor: found.next_cursor }),
      setProblem,
    );
  const options = [{ value: "", label: "All" }, ...Object.keys(tones).map((value) => ({ value, label: value[0].toUpperCase() + value.slice(1) }))];
  const shown = data ? [...rows(data), ...older.rows] : [];
  return html`<div class="view">
    <div class="bar"><${Choice} label=${label} value=${chosen} options=${options} onChange=${(value) => forget({ [name]: value })} />
      <input type="search" class="search wide-search" placeholder='Matchers, such as alertname="Down"' aria-label="Filter by matchers" value=${filter}
        onChange=${(event) => forget({ filter: event.target.value })} /></div>
    ${(error ?? problem) && html`<${Failed} error=${error ?? problem} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && shown.length === 0 && empty(Boolean(filter || chosen))}
    ${shown.length > 0 && html`<section class="card scroll" aria-label=${label}><table class="cards"><thead>${head}</thead><tbody>${shown.map(row)}</tbody></table></section>`}
    ${shown.length > 0 && cursor && html`<button type="button" class="button" onClick=${more}>Show older ones</button>`}
  </div>`;
}

export function History() {
  return html`<${Log} path="/api/v1/alerts/history" name="kind" label="Steps" tones=${KINDS} rows=${(found) => found.events}
    head=${html`<tr><th>When</th><th class="c-state">Step</th><th class="wide">Alert</th><th class="number">Value</th></tr>`}
    row=${(e, i) => html`<tr key=${`${e.at}${e.fingerprint}${e.kind}${i}`}>
      <td data-th="When" class="nowrap">${formatTime(fromRfc3339(e.at))}</td>
      <td data-th="Step"><${Badge} tone=${KINDS[e.kind]}>${e.kind}<//></td>
      <td data-th="Alert" class="wide"><strong>${e.labels.alertname}</strong> <${Labels} labels=${e.labels} without=${["alertname"]} />
        ${e.note && html`<p class="quiet">${e.note}</p>`}</td>
      <td data-th="Value" class="number mono">${e.value === null ? "" : format(e.value)}</td></tr>`}
    empty=${(narrowed) =>
      narrowed
        ? html`<${Empty} title="Nothing of that kind happened.">Choose All, or other matchers.<//>`
        : html`<${Empty} title="No alert has fired yet.">Each step of each alert enters here: pending, firing, acknowledged, resolved.<//>`} />`;
}

export function Notifications() {
  return html`<${Log} path="/api/v1/notifications" name="outcome" label="Outcomes" tones=${OUTCOMES} rows=${(found) => found.notifications}
    head=${html`<tr><th>When</th><th class="c-state">Outcome</th><th>Receiver</th><th class="wide">Why</th></tr>`}
    row=${(n, i) => html`<tr key=${`${n.at}${n.group_key}${n.channel}${i}`}>
      <td data-th="When" class="nowrap">${formatTime(fromRfc3339(n.at))}</td>
      <td data-th="Outcome"><${Badge} tone=${OUTCOMES[n.outcome]}>${n.outcome}<//></td>
      <td data-th="Receiver">${n.receiver} <span class="quiet">${n.channel}</span></td>
      <td data-th="Why" class="wide">${n.detail || n.reason}${n.outcome === "failed" && html` <span class="label">${n.reason}</span>`}
        <p class="quiet mono">${n.group_key} · ${n.firing} firing${n.resolved ? `, ${n.resolved} resolved` : ""}</p></td></tr>`}
    empty=${(narrowed) =>
      narrowed
        ? html`<${Empty} title="No notification of that kind.">Choose All, or other matchers.<//>`
        : html`<${Empty} title="Nobody was told of anything yet.">Each notification enters here: sent, failed with its reason, or kept quiet and
          why. Receivers stand in <code>alertmanager.yml</code> (<code>--alertmanager-config</code>).<//>`} />`;
}
