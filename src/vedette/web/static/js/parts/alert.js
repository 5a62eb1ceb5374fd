// What several views show of an alert: its annotations, and the filter that finds it.
import { html } from "../html.js";

// Matchers, as Alertmanager writes them, that exactly these labels pass.
export const filterOf = (labels) =>
  Object.entries(labels)
    .map(([name, value]) => `${/^[a-zA-Z_]\w*$/.test(name) ? name : JSON.stringify(name)}=${JSON.stringify(value)}`)
    .join(",");

// Only a web address becomes a link: an annotation is data, and `javascript:` is an address too.
const isWebAddress = (text) => /^https?:\/\/\S+$/.test(text);

export function Annotations({ annotations }) {
  const pairs = Object.entries(annotations ?? {});
  if (!pairs.length) return null;
  return html`<dl class="annotations">${pairs.map(
    ([name, value]) =>
      html`<div key=${name}><dt>${name}</dt><dd>${isWebAddress(value) ? html`<a href=${value} rel="noreferrer noopener"
          target="_blank">${value}</a>` : value}</dd></div>`,
  )}</dl>`;
}
