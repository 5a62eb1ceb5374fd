// Standing alerts, whoever raised them: acknowledge one, silence what is like it, ask why somebody was told or not.
import { html, useState } from "../html.js";
import { ask, useLoad } from "../api.js";
import { Annotations, filterOf } from "../parts/alert.js";
import { Icon } from "../parts/icons.js";
import { Badge, Empty, Failed, Labels, Loading } from "../parts/states.js";
import { setParams, useRoute } from "../router.js";
import { coarse, formatTime, fromRfc3339, useNow } from "../time.js";
import { SilenceForm } from "./silences.js";

const REFRESH = 10;
const MOST = 200;

export function Standing() {
  const { params } = useRoute();
  const filter = params.get("filter") ?? "";
  const [now] = useNow(REFRESH);
  const [turn, setTurn] = useState(0);
  const load = (signal) => ask("/api/v2/alerts", { params: { filter, limit: MOST + 1 }, signal });
  const { data: alerts, error } = useLoad(load, [filter, now, turn]);
  const shown = (alerts ?? []).slice(0, MOST);
  return html`<div class="view">
    <div class="bar"><input type="search" class="search wide-search" placeholder='Matchers, such as service="db", severity=~"page|critical"'
        aria-label="Filter alerts by matchers" value=${filter}
        onChange=${(event) => setParams({ filter: event.target.value }, { replace: true })} /></div>
    ${error && html`<${Failed} error=${error} />`}
    ${!alerts && !error && html`<${Loading} />`}
    ${
      alerts?.length === 0 &&
      html`<${Empty} title=${filter ? "No alert stands that passes these matchers." : "No alert stands."}>${
        filter
          ? html`<button type="button" class="button" onClick=${() => setParams({ filter: null }, { replace: true })}>Show all alerts</button>`
          : html`Rules raise alerts, and so does whoever posts to <code>/api/v2/alerts</code>: a Prometheus, for one.`
      }<//>`
    }
    ${
      shown.length > 0 &&
      html`<section class="card scroll" aria-label="Standing alerts"><table class="cards">
      <thead><tr><th class="c-state">State</th><th class="wide">Alert</th><th class="c-time">Since</th><th>Told to</th></tr></thead>
      <tbody>${shown.map((alert) => html`<${Row} key=${alert.fingerprint} alert=${alert} now=${now} changed=${() => setTurn((n) => n + 1)} />`)}</tbody>
      </table></section>`
    }
    ${alerts?.length > MOST && html`<p class="quiet">The first ${MOST} are shown: narrow them by matchers.</p>`}
  </div>`;
}

function stateOf({ status, acknowledgement }) {
  if (status.silencedBy.length) return { tone: "quiet", word: "silenced" };
  if (status.inhibitedBy.length) return { tone: "quiet", word: "inhibited" };
  if (acknowledgement) return { tone: "warn", word: "acknowledged" };
  return { tone: "bad", word: "firing" };
}

function Row({ alert, now, changed }) {
  const [open, setOpen] = useState("");
  const state = stateOf(alert);
  const ack = alert.acknowledgement;
  const turn = (what) => setOpen(open === what ? "" : what);
  const button = (what, says) =>
    html`<button type="button" class="button" aria-expanded=${open === what} onClick=${() => turn(what)}>${says}</button>`;
  const done = () => (setOpen(""), changed());
  return html`<tr data-alert=${alert.labels.alertname}>
    <td data-th="State"><${Badge} tone=${state.tone}>${state.word}<//></td>
    <td data-th="Alert" class="wide"><strong>${alert.labels.alertname}</strong> <${Labels} labels=${alert.labels} without=${["alertname"]} />
      <${Annotations} annotations=${alert.annotations} />
      ${ack && html`<p class="quiet">Acknowledged by ${ack.author || "somebody"}${ack.note ? `: ${ack.note}` : ""}${ack.expiresAt ? `, until ${formatTime(fromRfc3339(ack.expiresAt))}` : ""}</p>`}
      <div class="acts">${ack ? html`<${TakeBack} alert=${alert} done=${done} />` : button("acknowledge", "Acknowledge")}
        ${button("silence", "Silence")} ${button("why", "Why?")}</div>
      ${open === "acknowledge" && html`<${Acknowledge} alert=${alert} done=${done} />`}
      ${open === "silence" && html`<${SilenceForm} filter=${filterOf(alert.labels)} done=${done} />`}
      ${open === "why" && html`<${Why} alert=${alert} />`}</td>
    <td data-th="Since" class="nowrap" title=${formatTime(fromRfc3339(alert.startsAt))}>${coarse(Math.max(1, now - fromRfc3339(alert.startsAt)))}</td>
    <td data-th="Told to">${alert.receivers.map((r) => r.name).join(", ") || html`<span class="quiet">nobody</span>`}</td></tr>`;
}

function Acknowledge({ alert, done }) {
  const [error, setError] = useState();
  const submit = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    try {
      await ask(`/api/v1/alerts/${alert.fingerprint}/acknowledge`, { body: given });
      done();
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<form class="form" onSubmit=${submit} aria-label="Acknowledge">
    <label>Your name<input name="author" autocomplete="name" /></label>
    <label class="grow">Note<input name="note" placeholder="What you are doing about it" /></label>
    <label>For<input name="duration" placeholder="as long as it stands" size="16" /></label>
    <button class="button button-main">Acknowledge</button>
    <p class="quiet">It is not told again until it resolves, unless it gets worse.</p>
    ${error && html`<p class="problem" role="alert">${error.message}</p>`}
  </form>`;
}

function TakeBack({ alert, done }) {
  const [error, setError] = useState();
  const act = () => ask(`/api/v1/alerts/${alert.fingerprint}/acknowledge`, { method: "DELETE" }).then(done, setError);
  return html`<button type="button" class="button" onClick=${act}>Take back</button>
    ${error && html`<span class="problem" role="alert">${error.message}</span>`}`;
}

function Why({ alert }) {
  const load = (signal) => ask("/api/v1/alerts/explain", { params: { filter: filterOf(alert.labels) }, signal });
  const { data, error } = useLoad(load, [alert.fingerprint]);
  if (error) return html`<${Failed} error=${error} />`;
  if (!data) return html`<${Loading} />`;
  const found = data.alerts.find((a) => a.fingerprint === alert.fingerprint);
  if (!found) return html`<p class="quiet">It stands no longer.</p>`;
  return html`<div class="why" role="status">
    ${found.routes.length === 0 && html`<p>Nobody is configured to be told: name a receiver in <code>alertmanager.yml</code>.</p>`}
    ${found.routes.map(
      (route) => html`<dl class="facts" key=${route.group_key}>
      <div><dt>receiver</dt><dd>${route.receiver}</dd></div>
      <div><dt>group</dt><dd class="mono">${route.group_key}</dd></div>
      ${route.quiet.map((q) => html`<div key=${q.stage}><dt>kept quiet</dt><dd><${Icon} name="info" /> ${q.reason}</dd></div>`)}
      ${route.channels.map(
        (c) => html`<div key=${c.channel}><dt>${c.channel}</dt><dd>${c.news}${c.last_told ? `; last told ${formatTime(fromRfc3339(c.last_told))}` : ""}</dd></div>`,
      )}
      ${route.next_flush && html`<div><dt>looked at next</dt><dd>${formatTime(fromRfc3339(route.next_flush))}</dd></div>`}
    </dl>`,
    )}
  </div>`;
}
