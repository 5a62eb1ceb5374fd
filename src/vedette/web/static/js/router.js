// The address bar as the state of a page: path and parameters in, links and pushes out.
// What a page shows is in its URL, so that a link to it, the back button and a reload all show the same.
import { html, useEffect, useState } from "./html.js";

// Where Vedette is mounted ("" or "/prefix"), as the server wrote it into the page.
export const base = document.querySelector('meta[name="base"]').content;

// Pages of Prometheus, and the page here that answers the same question.
const FORMER = {
  "/graph": "/explore",
  "/query": "/explore",
  "/rules": "/alerts",
  "/service-discovery": "/targets",
  "/tsdb-status": "/status",
  "/config": "/status",
  "/flags": "/status",
  "/runtime-info": "/status",
};

const watchers = new Set();

function here() {
  const path = location.pathname.slice(base.length).replace(/\/+$/, "") || "/";
  return { path: FORMER[path] ?? path, params: new URLSearchParams(location.search) };
}

let current = here();

function changed() {
  current = here();
  for (const watch of watchers) watch(current);
}

addEventListener("popstate", changed);

// The current {path, params}; the component is drawn again when they change.
export function useRoute() {
  const [route, setRoute] = useState(current);
  useEffect(() => {
    watchers.add(setRoute);
    setRoute(current);
    return () => watchers.delete(setRoute);
  }, []);
  return route;
}

// The URL of a page; parameters that are null, undefined or "" are left out.
export function href(path, params = {}) {
  const query = new URLSearchParams();
  const pairs = params instanceof URLSearchParams ? [...params] : Object.entries(params);
  for (const [name, value] of pairs) if (value !== null && value !== undefined && value !== "") query.append(name, value);
  const text = query.toString();
  return base + path + (text ? `?${text}` : "");
}

// Go to a page without loading it anew. `replace` leaves no step in the history: for settings, not for places.
export function go(path, params, { replace = false } = {}) {
  const url = href(path, params);
  if (url === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  changed();
}

// Change some parameters of the current page and keep the others.
export function setParams(changes, options) {
  const params = Object.fromEntries(current.params);
  go(current.path, { ...params, ...changes }, options);
}

// A link to a page: an ordinary one for a new tab or a screen reader, without a page load otherwise.
export function Link({ to, params, children, ...rest }) {
  const follow = (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(to, params);
    scrollTo(0, 0);
  };
  return html`<a href=${href(to, params)} onClick=${follow} ...${rest}>${children}</a>`;
}
