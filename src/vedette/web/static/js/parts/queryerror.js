// An error of a query, pointing into its text where the server says where.
import { html } from "../html.js";
import { ApiError } from "../api.js";
import { Icon } from "./icons.js";

// `invalid parameter "query": 1:8: parse error: ...` -> {line, column, says}; line and column are null where there is none.
export function locate(message) {
  const found = /(?:^|\s)(\d+):(\d+): (?:parse error: )?/.exec(message);
  if (!found) return { line: null, column: null, says: message };
  return { line: Number(found[1]), column: Number(found[2]), says: message.slice(found.index + found[0].length) };
}

export function QueryError({ id, error, expr }) {
  const message = error instanceof ApiError ? error.message : String(error);
  const { line, column, says } = locate(message);
  const text = line === null ? null : expr.split("\n")[line - 1];
  return html`<div class="notice notice-error query-error" role="alert" id=${id}>
    <${Icon} name="warning" />
    <div><strong>${says}</strong>
      ${text != null && html`<pre class="pointer">${`${text}\n${" ".repeat(Math.min(Math.max(column - 1, 0), text.length))}^`}</pre>`}
      ${text != null && html`<span class="quiet">line ${line}, column ${column}</span>`}
      ${error.hint && html`<div class="quiet">${error.hint}</div>`}</div>
  </div>`;
}
