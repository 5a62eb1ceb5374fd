// What is wrong now, in one row: firing alerts and targets that are down. When all is well it says so and takes one line.
import { html } from "../html.js";
import { fetchApi, useLoad } from "../api.js";
import { Link } from "../router.js";
import { formatAgo, fromRfc3339 } from "../time.js";
import { Icon } from "./icons.js";
import { Failed } from "./states.js";

const MOST = 6;

async function load(signal) {
  const [alerts, targets] = await Promise.all([fetchApi("alerts", {}, { signal }), fetchApi("targets", { state: "active" }, { signal })]);
  const list = alerts.data.alerts ?? [];
  const active = targets.data.activeTargets ?? [];
  return {
    firing: list.filter((a) => a.state === "firing"),
    pending: list.filter((a) => a.state === "pending"),
    down: active.filter((t) => t.health === "down"),
    targets: active.length,
  };
}

const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

// `told`: the page says already that the server does not answer.
export function Trouble({ now, told }) {
  const { data, error } = useLoad(load, [now]);
  if (error) return told ? null : html`<${Failed} error=${error} />`;
  if (!data) return html`<div class="trouble" aria-busy="true"></div>`;
  const { firing, pending, down } = data;
  return html`<section class="trouble" aria-label="Alerts and targets">
    <div class=${`trouble-part ${firing.length ? "is-bad" : pending.length ? "is-warn" : "is-good"}`} data-firing=${firing.length}>
      <h2><${Icon} name=${firing.length ? "alerts" : pending.length ? "info" : "check"} />
        <${Link} to="/alerts"
            params=${firing.length ? { state: "firing" } : {}}>
            ${firing.length ? `${count(firing.length, "alert")} firing` : "No alert is firing"}<//>
        ${pending.length > 0 && html`<span class="quiet">${pending.length} pending</span>`}</h2>
      ${firing.length > 0 && html`<ul>${firing.slice(0, MOST).map((a) => html`<${FiringAlert} key=${JSON.stringify(a.labels)} alert=${a}
          now=${now} />`)}</ul>`}
      <${More} n=${firing.length - MOST} to="/alerts" />
    </div>
    <div class=${`trouble-part ${down.length ? "is-bad" : "is-good"}`} data-down=${down.length}>
      <h2><${Icon} name=${down.length ? "warning" : "check"} />
        <${Link} to="/targets" params=${down.length ? { health: "down" } : {}}>${
          down.length ? `${count(down.length, "target")} down` : data.targets ? `${data.targets > 1 ? "All " : ""}${count(data.targets, "target")} up` : "No targets yet"
        }<//>${down.length > 0 && html`<span class="quiet">of ${data.targets}</span>`}</h2>
      ${
        down.length > 0 &&
        html`<ul>${down
          .slice(0, MOST)
          .map(
            (t) =>
              html`<li key=${t.scrapeUrl}><strong>${t.labels.job}</strong> <span class="mono">${t.labels.instance}</span><div
                  class="quiet clip" title=${t.lastError}>${t.lastError}</div></li>`,
          )}</ul>`
      }
      <${More} n=${down.length - MOST} to="/targets" />
    </div>
  </section>`;
}

function FiringAlert({ alert, now }) {
  const { alertname, severity, instance } = alert.labels;
  const says = alert.annotations.summary ?? alert.annotations.description ?? "";
  return html`<li><strong>${alertname}</strong> ${severity && html`<span class="severity">${severity}</span>`}
    <span class="quiet">${[!says && instance, formatAgo(fromRfc3339(alert.activeAt), now)].filter(Boolean).join(" · ")}</span>
    ${says && html`<div class="quiet clip" title=${says}>${says}</div>`}</li>`;
}

const More = ({ n, to }) => (n > 0 ? html`<${Link} to=${to} class="more">and ${n} more<//>` : null);
