// Rules made over the API: groups with their versions and authors; made, checked, tried on history, changed, deleted, exported.
import { Fragment, html, useState } from "../html.js";
import { ask, useLoad } from "../api.js";
import { Badge, Empty, Failed, Loading } from "../parts/states.js";
import { base, Link } from "../router.js";
import { formatAgo, formatTime, fromRfc3339, useNow } from "../time.js";
import { toYaml } from "../yaml.js";

const REFRESH = 30;
const PATH = "/api/v1/rules/managed";
const FIRST = `name: web
interval: 30s
rules:
- alert: ServiceDown
  expr: up == 0
  for: 5m
  labels:
    severity: critical
  annotations:
    summary: "{{ $labels.instance }} does not answer"
`;

const at = (group) => `${PATH}/${encodeURIComponent(group.namespace)}/${encodeURIComponent(group.name)}`;

export function Made() {
  const [now] = useNow(REFRESH);
  const [turn, setTurn] = useState(0);
  const [making, setMaking] = useState(false);
  const { data, error } = useLoad((signal) => ask(PATH, { signal }), [now, turn]);
  const groups = data?.groups ?? [];
  const done = () => (setMaking(false), setTurn((n) => n + 1));
  return html`<div class="view">
    <div class="bar"><p class="quiet grow">Rules made here take effect at once, beside those of files, and look the same to whoever asks.</p>
      ${groups.length > 0 && html`<a class="button" href=${`${base}/api/v1/rules/export`} download="rules.yml">Export as a rule file</a>`}
      <button type="button" class="button button-main" aria-expanded=${making} onClick=${() => setMaking(!making)}>New group</button></div>
    ${making && html`<section class="card pad"><${Editor} text=${FIRST} done=${done} /></section>`}
    ${error && html`<${Failed} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${
      data &&
      groups.length === 0 &&
      !making &&
      html`<${Empty} title="No rules were made here yet.">Make a group with the button above, or post one to <code>${PATH}</code>. Rules of files stand under Rules.<//>`
    }
    ${groups.map((group) => html`<${Group} key=${`${group.namespace}/${group.name}`} group=${group} now=${now} changed=${done} />`)}
  </div>`;
}

function Group({ group, now, changed }) {
  const [open, setOpen] = useState("");
  const turn = (what) => setOpen(open === what ? "" : what);
  const done = () => (setOpen(""), changed());
  const text = toYaml(group.group);
  const button = (what, says) =>
    html`<button type="button" class="button" aria-expanded=${open === what} onClick=${() => turn(what)}>${says}</button>`;
  return html`<section class="card group" aria-label=${`Group ${group.name}`} data-made=${group.name}>
    <header><h2>${group.name}</h2><span class="quiet mono">${group.namespace}</span>
      <span class="quiet group-facts" title=${formatTime(fromRfc3339(group.changed_at))}>version ${group.version} by ${group.author}, ${formatAgo(fromRfc3339(group.changed_at), now)}</span></header>
    <ul class="made-rules">${(group.rules ?? []).map(
      (rule, i) => html`<li key=${i}><strong class=${rule.kind === "recording" ? "mono" : ""}>${rule.name}</strong> ${
        rule.kind === "recording" && html`<${Badge} tone="quiet">recording<//>`
      } <code>${rule.expr}</code>
        ${rule.analysis && html`<span class="quiet">${rule.analysis}</span>`}</li>`,
    )}</ul>
    <div class="acts made-acts">${button("edit", "Edit")} ${button("versions", "Versions")}
      <${Link} class="button" to="/alerts" params=${{ view: "backtest", text }}>Try on history<//> ${button("delete", "Delete")}</div>
    ${open === "edit" && html`<div class="made-open"><${Editor} text=${text} group=${group} done=${done} /></div>`}
    ${open === "versions" && html`<div class="made-open"><${Versions} group=${group} done=${done} /></div>`}
    ${open === "delete" && html`<div class="made-open"><${Delete} group=${group} done=${done} /></div>`}
  </section>`;
}

// The text of a group, new or changed: checked on demand, saved with the version that it was made from, so that nobody's change is lost.
function Editor({ text: given, group, done }) {
  const [text, setText] = useState(given);
  // The version that the text is of: the page behind may learn of a newer one meanwhile.
  const [version] = useState(group?.version);
  const [found, setFound] = useState();
  const [error, setError] = useState();
  const [busy, setBusy] = useState(false);
  const act = async (what) => {
    setBusy(true);
    setError(undefined);
    try {
      await what();
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  const check = () => act(async () => setFound(await ask("/api/v1/rules/validate", { text })));
  const submit = (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(event.target));
    act(async () => {
      const [path, method, more] = group ? [at(group), "PUT", { version }] : [PATH, "POST", { namespace: fields.namespace }];
      await ask(path, { method, text, params: { author: fields.author, ...more } });
      done();
    });
  };
  return html`<form class="form" onSubmit=${submit} aria-label=${group ? `Change ${group.name}` : "New group"}>
    <label class="grow wide-field">Group, as it stands in a rule file<textarea name="text" class="mono rule-text" spellcheck="false" required
        rows=${Math.min(24, Math.max(8, text.split("\n").length))} value=${text}
        onInput=${(event) => (setText(event.target.value), setFound(undefined))}></textarea></label>
    ${!group && html`<label>Namespace<input name="namespace" defaultValue="default" required size="12" /></label>`}
    <label>Your name<input name="author" autocomplete="name" /></label>
    <button type="button" class="button" disabled=${busy} onClick=${check}>Check</button>
    <${Link} class="button" to="/alerts" params=${{ view: "backtest", text }}>Try on history<//>
    <button class="button button-main" disabled=${busy}>${group ? `Save as version ${version + 1}` : "Make it"}</button>
    ${found && html`<${Verdict} found=${found} />`}
    ${error && html`<p class="problem" role="alert">${error.message}</p>`}
  </form>`;
}

function Verdict({ found }) {
  if (found.valid) {
    const count = found.rules.length;
    return html`<p class="good" role="status">It is right: ${count} ${count === 1 ? "rule" : "rules"}.</p>`;
  }
  return html`<ul class="problem" role="alert">${found.errors.map(
    (e, i) => html`<li key=${i}>${e.where.replace(/^body:/, "line ")}: ${e.problem}${e.hint ? ` (${e.hint})` : ""}</li>`,
  )}</ul>`;
}

function Versions({ group, done }) {
  const { data, error } = useLoad((signal) => ask(`${at(group)}/versions`, { signal }), [group.version]);
  const [problem, setProblem] = useState();
  if (error) return html`<${Failed} error=${error} />`;
  if (!data) return html`<${Loading} />`;
  const restore = (version) =>
    ask(at(group), { method: "PUT", body: version.group, params: { version: group.version } }).then(done, setProblem);
  return html`<${Fragment}>${data.versions.map(
    (version) => html`<details class="made-version" key=${version.version}><summary>Version ${version.version} by ${version.author}, ${formatTime(fromRfc3339(version.changed_at))}${version.deleted ? ": deleted" : ""}</summary>
      ${version.group && html`<pre class="made-text">${toYaml(version.group)}</pre>`}
      ${
        version.group &&
        version.version !== group.version &&
        html`<button type="button" class="button" onClick=${() => restore(version)}>Go back to version ${version.version}</button>`
      }</details>`,
  )}
  ${problem && html`<p class="problem" role="alert">${problem.message}</p>`}<//>`;
}

function Delete({ group, done }) {
  const [error, setError] = useState();
  const submit = (event) => {
    event.preventDefault();
    const { author } = Object.fromEntries(new FormData(event.target));
    ask(at(group), { method: "DELETE", params: { author, version: group.version } }).then(done, setError);
  };
  return html`<form class="form" onSubmit=${submit} aria-label=${`Delete ${group.name}`}>
    <p>Its alerts end, and nobody is told by it any more. Its versions stay readable.</p>
    <label>Your name<input name="author" autocomplete="name" /></label>
    <button class="button button-main">Delete ${group.name}</button>
    ${error && html`<p class="problem" role="alert">${error.message}</p>`}
  </form>`;
}
