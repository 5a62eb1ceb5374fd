import { html } from "../html.js";
export function Status() { return html`<p>todo</p>`; }
