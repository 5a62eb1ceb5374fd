// Silences: those that hold, are to come or have ended; and the form that makes one, which shows what it would match first.
import { html, useEffect, useState } from "../html.js";
import { ask, useLoad } from "../api.js";
import { Badge, Choice, Empty, Failed, Labels, Loading } from "../parts/states.js";
import { setParams, useRoute } from "../router.js";
import { formatTime, fromRfc3339, parseDuration, useNow } from "../time.js";

const REFRESH = 10;
const TONES = { active: "warn", pending: "quiet", expired: "quiet" };

const said = (m) => `${m.name}${m.isEqual ? (m.isRegex ? "=~" : "=") : m.isRegex ? "!~" : "!="}${JSON.stringify(m.value)}`;

export function Silences() {
  const { params } = useRoute();
  const state = params.get("state") ?? "active";
  const [now] = useNow(REFRESH);
  const [turn, setTurn] = useState(0);
  const [making, setMaking] = useState(false);
  const { data: silences, error } = useLoad((signal) => ask("/api/v2/silences", { signal }), [now, turn]);
  const of = (s) => (silences ?? []).filter((one) => one.status.state === s);
  const options = Object.keys(TONES).map((value) => ({ value, label: value[0].toUpperCase() + value.slice(1), count: of(value).length }));
  const shown = of(state);
  const done = () => (setMaking(false), setTurn((n) => n + 1));
  return html`<div class="view">
    <div class="bar"><${Choice} label="State" value=${state} options=${options}
        onChange=${(value) => setParams({ state: value === "active" ? null : value }, { replace: true })} />
      <button type="button" class="button" aria-expanded=${making} onClick=${() => setMaking(!making)}>New silence</button></div>
    ${making && html`<section class="card pad"><${SilenceForm} filter="" done=${done} /></section>`}
    ${error && html`<${Failed} error=${error} />`}
    ${!silences && !error && html`<${Loading} />`}
    ${
      silences &&
      shown.length === 0 &&
      html`<${Empty} title=${`No silence is ${state}.`}>A silence keeps quiet about alerts for a time: make one here, from an alert under
      Standing, or with <code>amtool silence add</code>.<//>`
    }
    ${
      shown.length > 0 &&
      html`<section class="card scroll" aria-label="Silences"><table class="cards">
      <thead><tr><th class="c-state">State</th><th class="wide">Matchers</th><th>Until</th><th>By</th><th><span
          class="sr-only">Actions</span></th></tr></thead>
      <tbody>${shown.map(
        (one) => html`<tr key=${one.id}>
        <td data-th="State"><${Badge} tone=${TONES[one.status.state]}>${one.status.state}<//></td>
        <td data-th="Matchers" class="wide"><span class="labels">${one.matchers.map(
          (m) => html`<span class="label" key=${said(m)}>${said(m)}</span>`,
        )}</span><p>${one.comment}</p>
          ${one.recurs && html`<p class="quiet">Recurs: <code>${JSON.stringify(one.recurs)}</code></p>`}
          ${one.endsWhenResolved && html`<p class="quiet">Ends when its alerts have resolved.</p>`}</td>
        <td data-th="Until" class="nowrap">${formatTime(fromRfc3339(one.endsAt))}</td>
        <td data-th="By">${one.createdBy}</td>
        <td data-th="" class="acts">${one.status.state !== "expired" && html`<${End} id=${one.id} done=${done} />`}</td></tr>`,
      )}</tbody></table></section>`
    }
  </div>`;
}

function End({ id, done }) {
  const [error, setError] = useState();
  const act = () => ask(`/api/v2/silence/${id}`, { method: "DELETE" }).then(done, setError);
  return html`<button type="button" class="button" onClick=${act}>End it</button>
    ${error && html`<span class="problem" role="alert">${error.message}</span>`}`;
}

// Asks for the matchers, for how long, by whom and why; shows what would be silenced while one types.
export function SilenceForm({ filter, done }) {
  const [text, setText] = useState(filter);
  const [seen, setSeen] = useState({});
  const [error, setError] = useState();
  useEffect(() => {
    if (!text.trim()) return setSeen({});
    const stop = new AbortController();
    const wait = setTimeout(() => {
      ask("/api/v1/silences/preview", { body: { filter: [text] }, signal: stop.signal }).then(
        (found) => setSeen({ found }),
        (problem) => problem.name === "AbortError" || setSeen({ problem }),
      );
    }, 250);
    return () => (clearTimeout(wait), stop.abort());
  }, [text]);
  const submit = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    const seconds = parseDuration(given.duration);
    if (!seconds) return setError(new Error("A duration looks like 30m, 2h or 1d."));
    try {
      const now = Date.now();
      const body = {
        matchers: [],
        filter: [text],
        startsAt: new Date(now).toISOString(),
        endsAt: new Date(now + seconds * 1000).toISOString(),
        createdBy: given.author,
        comment: given.comment,
        endsWhenResolved: given.ends === "on",
        confirm: given.confirm === "on",
      };
      await ask("/api/v2/silences", { body });
      done();
    } catch (problem) {
      setError(problem);
    }
  };
  const { found, problem } = seen;
  return html`<form class="form" onSubmit=${submit} aria-label="Silence">
    <label class="grow wide-field">Matchers<input name="filter" class="mono" value=${text} placeholder='service="db"' required
        onInput=${(event) => setText(event.target.value)} /></label>
    <label>For<input name="duration" defaultValue="2h" size="6" required /></label>
    <label>Your name<input name="author" autocomplete="name" /></label>
    <label class="grow">Comment<input name="comment" placeholder="Why" /></label>
    <label class="check"><input type="checkbox" name="ends" /> End it when the alerts have resolved</label>
    ${found?.needs_confirmation && html`<label class="check problem"><input type="checkbox" name="confirm" /> It covers every alert, and that is meant</label>`}
    <button class="button button-main">Silence</button>
    ${problem && html`<p class="problem" role="alert">${problem.message}</p>`}
    ${error && html`<p class="problem" role="alert">${error.message}</p>`}
    ${
      found &&
      html`<div class="preview" role="status"><p>${found.count === 0 ? "No alert that stands matches." : `${found.count} of ${found.standing} standing alerts would be silenced:`}</p>
      <ul>${found.alerts.slice(0, 5).map((a) => html`<li key=${a.fingerprint}><${Labels} labels=${a.labels} /></li>`)}</ul>
      ${found.count > 5 && html`<p class="quiet">and ${found.count - 5} more</p>`}</div>`
    }
  </form>`;
}
