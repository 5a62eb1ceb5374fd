import { html } from "../html.js";
export function Alerts() { return html`<p>todo</p>`; }
