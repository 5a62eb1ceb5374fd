// Alerts: every rule by its group, with what is firing on top; and in further views what stands, silences, and what happened.
import { Fragment, html, useState } from "../html.js";
import { fetchApi, useLoad } from "../api.js";
import { numberOf } from "../matrix.js";
import { Icon } from "../parts/icons.js";
import { Annotations, filterOf } from "../parts/alert.js";
import { Badge, Choice, Empty, Failed, Labels, Loading } from "../parts/states.js";
import { go, Link, setParams, useRoute } from "../router.js";
import { coarse, formatAgo, formatDuration, formatTime, fromRfc3339, useNow } from "../time.js";
import { format } from "../units.js";
import { toYaml } from "../yaml.js";
import { Backtest } from "./backtest.js";
import { History, Notifications } from "./happened.js";
import { Made } from "./made.js";
import { Silences } from "./silences.js";
import { Standing } from "./standing.js";

const REFRESH = 10;
const TONES = { firing: "bad", pending: "warn", inactive: "good", unknown: "quiet" };
const RANK = { firing: 0, pending: 1, inactive: 2, unknown: 3 };
// Rules with more active instances than this show the first ones.
const MOST_INSTANCES = 20;

async function load(signal) {
  return (await fetchApi("rules", {}, { signal })).data.groups ?? [];
}

const matches = (rule, group, sought) => {
  if (!sought) return true;
  const text = [
    rule.name,
    rule.query,
    group.name,
    JSON.stringify(rule.labels ?? {}),
    JSON.stringify((rule.alerts ?? []).map((a) => a.labels)),
  ].join(" ");
  return text.toLowerCase().includes(sought.toLowerCase());
};

const VIEWS = { rules: Rules, standing: Standing, silences: Silences, history: History, notifications: Notifications, made: Made, backtest: Backtest };
const NAMES = { made: "Made here" };

export function Alerts() {
  const { params } = useRoute();
  const view = params.get("view") ?? "rules";
  const View = VIEWS[view] ?? Rules;
  const options = Object.keys(VIEWS).map((value) => ({ value, label: NAMES[value] ?? value[0].toUpperCase() + value.slice(1) }));
  // What one view was asked for means nothing to the next.
  const turn = (value) => go("/alerts", { view: value === "rules" ? null : value });
  return html`<div class="page alerts">
    <div class="bar"><h1>Alerts</h1><${Choice} label="View" value=${view} options=${options} onChange=${turn} /></div>
    <${View} key=${view} />
  </div>`;
}

function Rules() {
  const { params } = useRoute();
  const [now] = useNow(REFRESH);
  const { data: groups, error } = useLoad(load, [now]);
  const state = params.get("state") ?? "all";
  const sought = params.get("search") ?? "";
  const recording = state === "recording";
  const rules = (groups ?? []).flatMap((group) => group.rules.map((rule) => ({ rule, group })));
  const alerting = rules.filter(({ rule }) => rule.type === "alerting");
  const count = (s) => alerting.filter(({ rule }) => rule.state === s).length;
  const kept = ({ rule, group }) =>
    (recording ? rule.type === "recording" : rule.type === "alerting" && (state === "all" || rule.state === state)) &&
    matches(rule, group, sought);
  const shown = (groups ?? [])
    .map((group) => ({ group, rules: group.rules.filter((rule) => kept({ rule, group })) }))
    .filter((g) => g.rules.length);
  // Groups with trouble first, in the order of the files otherwise.
  shown.sort((a, b) => worst(a.rules) - worst(b.rules));
  const options = [
    { value: "all", label: "All", count: alerting.length },
    ...["firing", "pending", "inactive"].map((value) => ({ value, label: value[0].toUpperCase() + value.slice(1), count: count(value) })),
    { value: "recording", label: "Recording", count: rules.length - alerting.length },
  ];
  return html`<${Fragment}>
    <div class="bar">
      <${Choice} label="State" value=${state} options=${options}
          onChange=${(value) => setParams({ state: value === "all" ? null : value }, { replace: true })} />
      <input type="search" class="search" placeholder="Search names, labels, queries" aria-label="Search alerts" value=${sought}
        onInput=${(event) => setParams({ search: event.target.value }, { replace: true })} />
    </div>
    ${error && html`<${Failed} error=${error} />`}
    ${!groups && !error && html`<${Loading} />`}
    ${
      groups &&
      rules.length === 0 &&
      html`<${Empty} title="No rules are loaded.">Name rule files under <code>rule_files</code> in the configuration, then reload it
      (<code>POST /-/reload</code> or SIGHUP). <code>vedette check rules FILE</code> tells whether a file is right.<//>`
    }
    ${
      groups &&
      rules.length > 0 &&
      shown.length === 0 &&
      html`<${Empty} title=${`No ${state === "all" ? "" : `${state} `}rule${sought ? " matches the search" : ""}.`}>
      <button type="button" class="button"
          onClick=${() => setParams({ state: null, search: null }, { replace: true })}>Show all rules</button><//>`
    }
    ${shown.map(({ group, rules: list }) => html`<${Group} key=${`${group.file}:${group.name}`} group=${group} rules=${list}
        now=${now} />`)}
  <//>`;
}

const worst = (rules) => Math.min(...rules.map((rule) => (rule.health === "err" ? 0 : (RANK[rule.state] ?? 3))));

function Group({ group, rules, now }) {
  const sorted = [...rules].sort((a, b) => (RANK[a.state] ?? 3) - (RANK[b.state] ?? 3));
  return html`<section class="card group" aria-label=${`Group ${group.name}`}>
    <header><h2>${group.name}</h2>
      ${group.file !== group.name && html`<span class="quiet mono clip" title=${group.file}>${group.file}</span>`}
      <span class="quiet group-facts">every ${formatDuration(group.interval)} · ran ${formatAgo(fromRfc3339(group.lastEvaluation), now)}${
        fromRfc3339(group.lastEvaluation) ? ` in ${format(Number(group.evaluationTime), "seconds")}` : ""
      }</span></header>
    ${sorted.map((rule, i) => html`<${Rule} key=${`${rule.name}:${i}`} rule=${rule} now=${now} />`)}
  </section>`;
}

function Rule({ rule, now }) {
  const alerts = rule.alerts ?? [];
  const busy = alerts.length > 0 || rule.health === "err";
  const [open, setOpen] = useState(null);
  const isOpen = open ?? busy;
  return html`<details class="rule" open=${isOpen} data-rule=${rule.name} data-state=${rule.state ?? rule.type}>
    <summary onClick=${(event) => (event.preventDefault(), setOpen(!isOpen))}>
      ${rule.type === "alerting" && html`<${Badge}
          tone=${TONES[rule.state] ?? "quiet"}>${rule.state}${alerts.length > 1 ? ` ×${alerts.length}` : ""}<//>`}
      <strong class=${rule.type === "recording" ? "mono" : ""}>${rule.name}</strong>
      ${rule.labels?.severity && html`<span class="severity">${rule.labels.severity}</span>`}
      ${rule.health === "err" && html`<${Badge} tone="bad">cannot be evaluated<//>`}
      <span class=${`quiet clip rule-says${alerts.length ? "" : " mono"}`}>
          ${alerts.length ? says(alerts[0]) : isOpen ? "" : rule.query}</span>
    </summary>
    ${isOpen && html`<${RuleBody} rule=${rule} alerts=${alerts} now=${now} />`}
  </details>`;
}

// What an alert says of itself, its template filled in. (A rule that is not active has only the template: its query says more.)
const says = ({ annotations }) => annotations?.summary ?? annotations?.description ?? "";

// The rule as a rule file has it, from what the API tells of it.
const textOf = (rule) =>
  toYaml({
    alert: rule.name,
    expr: rule.query,
    ...(rule.duration ? { for: formatDuration(rule.duration) } : {}),
    ...(rule.keepFiringFor ? { keep_firing_for: formatDuration(rule.keepFiringFor) } : {}),
    ...(Object.keys(rule.labels ?? {}).length ? { labels: rule.labels } : {}),
    ...(Object.keys(rule.annotations ?? {}).length ? { annotations: rule.annotations } : {}),
  });

function RuleBody({ rule, alerts, now }) {
  const [all, setAll] = useState(false);
  const shown = all ? alerts : alerts.slice(0, MOST_INSTANCES);
  const facts = [
    rule.duration > 0 && `for ${formatDuration(rule.duration)}`,
    rule.keepFiringFor > 0 && `keeps firing for ${formatDuration(rule.keepFiringFor)}`,
    fromRfc3339(rule.lastEvaluation) > 0 &&
      `ran ${formatAgo(fromRfc3339(rule.lastEvaluation), now)} in ${format(Number(rule.evaluationTime), "seconds")}`,
  ].filter(Boolean);
  return html`<div class="rule-body">
    ${rule.lastError && html`<div class="notice notice-error"><${Icon} name="warning" /><div>${rule.lastError}</div></div>`}
    <div class="rule-query"><pre>${rule.query}</pre><${Link} to="/explore" params=${{ "g0.expr": rule.query, "g0.tab": "graph" }}
        class="button">Explore<//>${
          rule.type === "alerting" &&
          html`<${Link} to="/alerts" params=${{ view: "backtest", text: textOf(rule) }} class="button">Backtest<//>`
        }</div>
    <div class="rule-facts"><span class="quiet">${facts.join(" · ")}</span> <${Labels} labels=${rule.labels ?? {}} /></div>
    ${alerts.length === 0 && html`<${Annotations} annotations=${rule.annotations} />`}
    ${
      alerts.length > 0 &&
      html`<div class="scroll"><table class="cards">
      <thead><tr><th class="c-state">State</th><th class="wide">Labels</th><th class="c-time">Since</th><th
          class="number c-figure">Value</th><th><span class="sr-only">Actions</span></th></tr></thead>
      <tbody>${shown.map(
        (alert) => html`<tr key=${JSON.stringify(alert.labels)}>
          <td data-th="State"><${Badge} tone=${TONES[alert.state] ?? "quiet"}>${alert.state}<//></td>
          <td data-th="Labels" class="wide"><${Labels} labels=${alert.labels} without=${["alertname"]} /><${Annotations}
              annotations=${alert.annotations} /></td>
          <td data-th="Since" class="nowrap"
              title=${formatTime(fromRfc3339(alert.activeAt))}>${coarse(Math.max(1, now - fromRfc3339(alert.activeAt)))}</td>
          <td data-th="Value" class="number mono" title=${alert.value}>${format(numberOf(alert.value))}</td>
          <td data-th="" class="acts">${
            alert.state === "firing" &&
            html`<${Link} class="button" to="/alerts" params=${{ view: "standing", filter: filterOf(alert.labels) }}>Deal with it<//>`
          }</td></tr>`,
      )}</tbody></table>
      ${shown.length < alerts.length && html`<button type="button" class="button show-all"
          onClick=${() => setAll(true)}>Show all ${alerts.length} instances</button>`}</div>`
    }
  </div>`;
}
