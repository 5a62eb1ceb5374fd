// The Prometheus-compatible HTTP API of the same origin: a path and parameters in, the envelope's `data` out.
// Every failure becomes an ApiError that says what happened and what the reader can do.
import { useEffect, useRef, useState } from "./html.js";
import { base } from "./router.js";

export class ApiError extends Error {
  // `kind` is Prometheus' errorType, or `unreachable`, `auth`, `protocol` where no envelope came.
  constructor(kind, message, status = 0) {
    super(message);
    this.kind = kind;
    this.status = status;
  }

  get hint() {
    return HINTS[this.kind] ?? "";
  }

  // Whether it says something of the whole server rather than of one question: a page with many parts says it once.
  get general() {
    return ["unreachable", "auth", "protocol", "unavailable"].includes(this.kind);
  }
}

const HINTS = {
  unreachable: "Check that Vedette is running and that this machine can reach it. This page keeps trying.",
  auth: "Reload the page to log in, or ask whoever runs Vedette for access.",
  protocol: "Something between this page and Vedette answered in its place: a proxy, perhaps, or another server on this port.",
  timeout: "Shorten the time range, lengthen the step, or select fewer series with a matcher.",
  unavailable: "Vedette is starting or shutting down. This page keeps trying.",
  internal: "This is a fault of the server: its log has the details.",
};

// Longer than this, a query goes in the body: proxies cut long URLs.
const LONGEST_QUERY_STRING = 1800;

// GET `path` (POST where the parameters are long). Arrays become repeated parameters. Answers {data, warnings, infos}.
export async function fetchApi(path, params = {}, { signal } = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined && one !== null && one !== "") query.append(name, one);
  }
  const text = query.toString();
  const long = text.length > LONGEST_QUERY_STRING;
  // Not relative: a page opened as http://name:key@host/ may not ask for a URL that holds its credentials.
  const url = `${location.origin}${base}/api/v1/${path}${text && !long ? `?${text}` : ""}`;
  let response;
  try {
    response = await fetch(url, long ? { method: "POST", body: query, signal } : { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable", "Vedette does not answer.");
  }
  return unwrap(response);
}

async function unwrap(response) {
  let body;
  try {
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response.status === 401 || response.status === 403) throw new ApiError("auth", "You may not see this.", response.status);
    throw new ApiError("protocol", `The answer was not JSON (HTTP status ${response.status}).`, response.status);
  }
  if (body.status === "success") return { data: body.data, warnings: body.warnings ?? [], infos: body.infos ?? [] };
  const auth = response.status === 401 || response.status === 403;
  const message = body.error ?? body.detail ?? body.message ?? `HTTP status ${response.status}`;
  throw new ApiError(auth ? "auth" : (body.errorType ?? "protocol"), String(message), response.status);
}

// Ask an operation whose answer is plain JSON (Alertmanager's API, the alerting ones), or change something by it: `body`, which is sent
// as JSON, or `text`, which is YAML, makes it a POST.
export async function ask(path, how) {
  const response = await send(path, how);
  const found = await answerOf(response);
  if (response.ok) return found;
  throw refused(found, response);
}

// Ask an operation that answers in lines of JSON, and tell `heard` of each.
export async function askLines(path, how, heard) {
  const response = await send(path, { ...how, accept: "application/x-ndjson" });
  if (!response.ok) throw refused(await answerOf(response), response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) heard(JSON.parse(line));
    if (done) return;
  }
}

async function send(path, { method, body, text: yaml, params = {}, signal, accept } = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== undefined && value !== null && value !== "") query.append(name, value);
  const text = query.toString();
  const sent = yaml ?? (body === undefined ? undefined : JSON.stringify(body));
  const how = { method: method ?? (sent === undefined ? "GET" : "POST"), signal, body: sent, headers: {} };
  if (sent !== undefined) how.headers["Content-Type"] = yaml === undefined ? "application/json" : "application/yaml";
  if (accept) how.headers.Accept = accept;
  try {
    return await fetch(`${location.origin}${base}${path}${text ? `?${text}` : ""}`, how);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable", "Vedette does not answer.");
  }
}

const refused = (found, { status }) => new ApiError(status === 401 || status === 403 ? "auth" : "refused", refusal(found, status), status);

async function answerOf(response) {
  const text = await response.text();
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError("protocol", `The answer was not JSON (HTTP status ${response.status}).`, response.status);
  }
}

// Alertmanager's API refuses with a JSON string, the others with `detail`: a text, or a list of places and messages.
function refusal(found, status) {
  if (typeof found === "string") return found;
  const detail = found?.detail ?? found?.error;
  if (Array.isArray(detail)) return detail.map((d) => `${d.loc.slice(1).join(".")}: ${d.msg}`).join("; ");
  return String(detail ?? `HTTP status ${status}`);
}

// Run `load(signal)` when `deps` change and keep its last good answer while the next is on its way.
// Answers {data, error, loading}; an answer that was overtaken is dropped. `load` null is "not now".
export function useLoad(load, deps) {
  const [state, setState] = useState({ data: undefined, error: undefined, loading: true });
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    if (!latest.current) return undefined;
    const stop = new AbortController();
    setState((s) => ({ ...s, loading: true }));
    latest.current(stop.signal).then(
      (data) => stop.signal.aborted || setState({ data, error: undefined, loading: false }),
      (error) => {
        if (stop.signal.aborted || error.name === "AbortError") return;
        if (!(error instanceof ApiError)) console.error(error);
        setState((s) => ({ data: s.data, error, loading: false }));
      },
    );
    return () => stop.abort();
  }, deps);
  return state;
}

// Answers that hardly change (metric names, metadata), asked for once a minute at most.
const remembered = new Map();
const REMEMBER_MS = 60_000;

export function fetchRemembered(path, params = {}) {
  const key = `${path}?${JSON.stringify(params)}`;
  const known = remembered.get(key);
  if (known && Date.now() - known.at < REMEMBER_MS) return known.answer;
  const answer = fetchApi(path, params).then((a) => a.data);
  remembered.set(key, { at: Date.now(), answer });
  // A failure is not remembered, or one lost request would mute completion for a minute.
  answer.catch(() => remembered.delete(key));
  return answer;
}
