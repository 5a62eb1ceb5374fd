// What a page shows when it has nothing to show: still loading, empty (and what to do next), failed (and what to do).
import { html } from "../html.js";
import { ApiError } from "../api.js";
import { Icon } from "./icons.js";

export function Loading({ what = "Loading" }) {
  return html`<div class="state" role="status"><span class="spinner" aria-hidden="true"></span>${what}…</div>`;
}

// `title` says what is absent, the children what to do about it.
export function Empty({ title, children }) {
  return html`<div class="state"><strong>${title}</strong><div class="state-more">${children}</div></div>`;
}

export function Failed({ error }) {
  const known = error instanceof ApiError;
  return html`<div class="notice notice-error" role="alert">
    <${Icon} name="warning" />
    <div><strong>${known ? error.message : "This page has a fault."}</strong>
      <div>${known ? error.hint : `${error.message}. The browser's console has the details; please report it.`}</div></div>
  </div>`;
}

// A badge for a state; `tone` is good, warn, bad or quiet. The word carries the meaning, the colour only repeats it.
export function Badge({ tone, children }) {
  return html`<span class=${`badge badge-${tone}`}>${children}</span>`;
}

// A label set as a row of chips; the metric name is left out.
export function Labels({ labels, without = [] }) {
  const pairs = Object.entries(labels).filter(([name]) => name !== "__name__" && !without.includes(name));
  return html`<span class="labels">${pairs.map(
    ([name, value]) => html`<span class="label" key=${name}><span class="label-name">${name}=</span>${`"${value}"`}</span>`,
  )}</span>`;
}

// Numbers beside a filter's choices. `options` is [{value, label, count}]; exactly one is chosen.
export function Choice({ label, options, value, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>${options.map(
    (
      option,
    ) => html`<button type="button" key=${option.value} aria-pressed=${option.value === value} onClick=${() => onChange(option.value)}>
      ${option.label}${option.count === undefined ? null : html`<span class="count">${option.count}</span>`}</button>`,
  )}</div>`;
}
