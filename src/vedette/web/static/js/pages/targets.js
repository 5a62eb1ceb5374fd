import { html } from "../html.js";
export function Targets() { return html`<p>todo</p>`; }
