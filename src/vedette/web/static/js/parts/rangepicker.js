// The time range that all plots of a page share, and how often they renew themselves.
import { html, useEffect, useRef, useState } from "../html.js";
import { formatDuration, formatTime, fromLocalInput, parseDuration, toLocalInput } from "../time.js";
import { Icon } from "./icons.js";

const RANGES = [900, 3600, 21600, 86400, 604800];
const NAMES = { 86400: "24h", 604800: "7d" };
export const REFRESHES = [0, 5, 10, 30, 60];

// `range` is {last} or {from, to}; `onChange` is given the next. `children` stand at the end of the bar.
export function RangePicker({ range, onChange, refresh, onRefresh, onNow }) {
  const usual = range.last && RANGES.includes(range.last);
  return html`<div class="range">
    <div class="choice" role="group" aria-label="Time range">
      ${RANGES.map(
        (seconds) =>
          html`<button type="button" key=${seconds} aria-pressed=${range.last === seconds}
              onClick=${() => onChange({ last: seconds })}>${NAMES[seconds] ?? formatDuration(seconds)}</button>`,
      )}
      <${Custom} range=${range} active=${!usual} onChange=${onChange} />
    </div>
    ${
      onRefresh &&
      html`<label class="field-inline"><span class="sr-only">Refresh every</span>
      <select value=${String(range.last ? refresh : 0)} disabled=${!range.last}
          onChange=${(event) => onRefresh(Number(event.target.value))} title="Refresh every">
        ${REFRESHES.map((seconds) => html`<option key=${seconds}
            value=${String(seconds)}>${seconds ? `every ${formatDuration(seconds)}` : "paused"}</option>`)}
      </select></label>
    <button type="button" class="icon-button" onClick=${onNow} aria-label="Refresh now" title="Refresh now"><${Icon}
        name="refresh" /></button>`
    }
  </div>`;
}

function Custom({ range, active, onChange }) {
  const [open, setOpen] = useState(false);
  const root = useRef(null);
  useEffect(() => {
    if (!open) return undefined;
    const away = (event) => root.current.contains(event.target) || setOpen(false);
    addEventListener("pointerdown", away);
    return () => removeEventListener("pointerdown", away);
  }, [open]);
  const text = !active
    ? "Custom"
    : range.last
      ? formatDuration(range.last)
      : `${formatTime(range.from).slice(5, 16)} – ${formatTime(range.to).slice(5, 16)}`;
  const onKey = (event) => event.key === "Escape" && setOpen(false);
  return html`<span class="custom" ref=${root} onKeyDown=${onKey}>
    <button type="button" aria-pressed=${active} aria-expanded=${open} aria-haspopup="dialog"
        onClick=${() => setOpen(!open)}>${text}</button>
    ${open && html`<${CustomForm} range=${range} onDone=${(next) => (setOpen(false), onChange(next))} />`}
  </span>`;
}

function CustomForm({ range, onDone }) {
  const now = Date.now() / 1000;
  const [last, setLast] = useState(range.last ? formatDuration(range.last) : "");
  const [from, setFrom] = useState(toLocalInput(range.last ? now - range.last : range.from));
  const [to, setTo] = useState(toLocalInput(range.last ? now : range.to));
  const [problem, setProblem] = useState("");
  const first = useRef(null);
  useEffect(() => first.current.focus(), []);
  const submitLast = (event) => {
    event.preventDefault();
    const seconds = parseDuration(last);
    if (seconds) onDone({ last: seconds });
    else setProblem("A duration looks like 45m, 2h or 1d12h.");
  };
  const submitFixed = (event) => {
    event.preventDefault();
    const next = { from: fromLocalInput(from), to: fromLocalInput(to) };
    if (next.from > 0 && next.to > next.from) onDone(next);
    else setProblem("The end must be after the start.");
  };
  return html`<div class="popover" role="dialog" aria-label="Custom time range">
    <form onSubmit=${submitLast}>
      <label>The last<input ref=${first} value=${last} placeholder="90m" onInput=${(e) => setLast(e.target.value)}
          autocomplete="off" /></label>
      <button type="submit" class="button">Show</button>
    </form>
    <form onSubmit=${submitFixed}>
      <label>From<input type="datetime-local" step="1" value=${from} onInput=${(e) => setFrom(e.target.value)} /></label>
      <label>To<input type="datetime-local" step="1" value=${to} onInput=${(e) => setTo(e.target.value)} /></label>
      <button type="submit" class="button">Show</button>
    </form>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <p class="quiet">Times are ${Intl.DateTimeFormat().resolvedOptions().timeZone}. Dragging over a plot chooses a range too.</p>
  </div>`;
}
