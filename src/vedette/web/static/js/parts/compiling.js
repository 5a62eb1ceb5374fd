// What a new machine waits for: kernels that are compiled, once. Says how far that is for as long as it is so; then it asks no more.
import { html, useEffect, useState } from "../html.js";
import { ask } from "../api.js";
import { Icon } from "./icons.js";

const EVERY_MS = 2000;

// `onReady` is called when a server that was starting has become ready: what could not be answered can be now.
export function Compiling({ onReady }) {
  const [health, setHealth] = useState(null);
  useEffect(() => {
    const stop = new AbortController();
    let timer;
    let starting = false;
    async function look() {
      let found = null;
      try {
        found = await ask("/health", { signal: stop.signal });
      } catch (error) {
        // Each page says by itself that the server does not answer. One that was starting is asked again.
        if (error.name === "AbortError" || !starting) return;
      }
      if (stop.signal.aborted) return;
      setHealth(found);
      if (found && starting && found.status !== "starting") onReady();
      starting = found ? found.status === "starting" : starting;
      if (starting || found?.kernels) timer = setTimeout(look, EVERY_MS);
    }
    look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, []);
  const kernels = health?.kernels;
  if (!kernels) return null;
  const seconds = Math.max(1, Math.round(kernels.seconds_left));
  return html`<div class=${`notice compiling ${health.status === "starting" ? "is-starting" : ""}`} role="status">
    <${Icon} name="info" />
    <div><strong>${health.status === "starting" ? "Vedette is starting for the first time on this machine." : "Kernels are being compiled."}</strong>
      <div>${kernels.compiled} of ${kernels.of} steps of compiling are done, about ${seconds} s to go. ${
        health.status === "starting"
          ? "The usual queries are answered well before that."
          : "A query that needs what is not compiled yet waits a few seconds for it."
      } Later starts need none of this.</div>
      <progress max=${kernels.of} value=${kernels.compiled} aria-label="Compiled"></progress></div>
  </div>`;
}
