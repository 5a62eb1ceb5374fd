import { html } from "../html.js";
export function Explore() { return html`<p>todo</p>`; }
