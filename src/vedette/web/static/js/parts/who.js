// Who is logged in, and the way out. Nothing where the server asks nobody.
import { fetchApi, useLoad } from "../api.js";
import { html } from "../html.js";
import { base } from "../router.js";
import { Icon } from "./icons.js";

export function Who() {
  const { data } = useLoad((signal) => fetchApi("auth/me", {}, { signal }).then((answer) => answer.data), []);
  if (!data || data.kind === "open") return null;
  const says = `${data.name}: ${data.role} of tenant ${data.tenant}`;
  // Only a session can be ended here: what the browser or a proxy adds by itself it would add again.
  const out =
    data.kind === "session" &&
    html`<form method="post" action=${`${base}/logout`}><button type="submit" class="icon-button" aria-label="Log out" title="Log out"><${Icon}
          name="leave" size=${18} /></button></form>`;
  return html`<div class="who" title=${says}><span class="clip">${data.name}</span>${out}</div>`;
}
