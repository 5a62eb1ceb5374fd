// Line icons, drawn by path so that they take the colour of the text around them. All are decoration: the text
// beside them, or the label of their button, says the same.
import { html } from "../html.js";

const PATHS = {
  overview: "M3 13h4l3-9 4 16 3-7h4",
  explore: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM20 20l-4.9-4.9",
  alerts: "M6 16V11a6 6 0 0 1 12 0v5l2 2H4zM10 21h4",
  logs: "M4 6h10M4 10h16M4 14h13M4 18h8",
  targets: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 11.9v.2",
  status: "M4 5h16v6H4zM4 13h16v6H4zM8 8h.01M8 16h.01",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  auto: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 3v18M12 7h5M12 11h7M12 15h6.5",
  refresh: "M20 11a8 8 0 0 0-14.3-4L4 9M4 4v5h5M4 13a8 8 0 0 0 14.3 4L20 15M20 20v-5h-5",
  leave: "M14 4h5v16h-5M4 12h10M10.5 8.5L14 12l-3.5 3.5",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  check: "M5 12.5l4.5 4.5L19 7.5",
  warning: "M12 4L2.5 20h19zM12 10v4M12 17v.01",
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v5M12 8v.01",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
};

export function Icon({ name, size = 16 }) {
  return html`<svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8"
    stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}

// The mark of the house: a V that keeps watch under a light.
export function Mark() {
  return html`<svg class="mark" width="22" height="22" viewBox="0 0 32 32" fill="none" aria-hidden="true">
    <path d="M6 10l10 16 10-16" stroke="currentColor" stroke-width="3.6" stroke-linecap="round" stroke-linejoin="round" />
    <circle class="mark-light" cx="16" cy="8" r="3.4" /></svg>`;
}
