// What could stand at the cursor of a PromQL expression: `contextOf` finds what is being typed there, `suggestionsFor`
// asks the API for candidates and ranks them.
import { fetchRemembered } from "../api.js";
import { AGGREGATIONS, FUNCTIONS, GROUPINGS, OPERATORS, RANGE_FUNCTIONS } from "./functions.js";
import { tokenize } from "./lexer.js";

const MOST = 80;
// The score up to which a candidate merely has the letters in order.
const SCATTERED = 1000;
const WINDOWS = ["1m", "5m", "10m", "15m", "30m", "1h", "6h", "1d", "7d"];

// {kind, typed, from, to, metric, label, quote}: `kind` is metric, operator, label, value, window or none; [from, to) is
// what a suggestion replaces and `typed` the part of it before the cursor.
export function contextOf(text, cursor) {
  const tokens = tokenize(text).filter((t) => t.kind !== "space");
  const before = tokens.filter((t) => t.start < cursor);
  const last = before[before.length - 1];
  if (last?.kind === "comment") return { kind: "none" };
  // A bracket or a comma is complete in itself: at its end, the next thing begins.
  const touching = last && last.end >= cursor && last.kind !== "bracket" && last.kind !== "other" ? last : null;
  const past = touching ? before.slice(0, -1) : before;
  const open = unclosed(past);
  const inner = open[open.length - 1];
  const place = (kind, extra = {}) => ({ kind, typed: "", from: cursor, to: cursor, ...extra });
  const word = touching && ["metric", "function", "keyword", "label", "number", "duration"].includes(touching.kind);
  const typing = word ? { typed: text.slice(touching.start, cursor), from: touching.start, to: touching.end } : {};

  if (inner?.bracket === "{") return inBraces(text, cursor, { past, touching, inner, place, typing });
  if (touching?.kind === "string") return { kind: "none" };
  if (inner?.bracket === "[") return place("window", typing);
  if (inner?.bracket === "(" && inner.after?.kind === "keyword") return place("label", { ...typing, metric: nearestMetric(tokens) });
  if (touching?.kind === "number" || touching?.kind === "duration") return { kind: "none" };
  const previous = past[past.length - 1];
  if (word) return place(endsOperand(previous) ? "operator" : "metric", typing);
  // After `}`, `)` or a metric and a space an operator may follow; it is offered only when asked for.
  return place(endsOperand(last) ? "operator" : "metric");
}

function unclosed(tokens) {
  const open = [];
  tokens.forEach((token, i) => {
    if (token.kind !== "bracket") return;
    if ("([{".includes(token.text)) open.push({ bracket: token.text, after: tokens[i - 1], at: i });
    else open.pop();
  });
  return open;
}

const endsOperand = (token) =>
  Boolean(token) &&
  (["metric", "number", "duration", "string"].includes(token.kind) || (token.kind === "bracket" && ")]}".includes(token.text)));

const nearestMetric = (tokens) => tokens.find((t) => t.kind === "metric")?.text;

function inBraces(text, cursor, { past, touching, inner, place, typing }) {
  const metric = inner.after?.kind === "metric" ? inner.after.text : undefined;
  const previous = past[past.length - 1];
  const afterOperator = previous?.kind === "operator";
  if (touching?.kind === "string" && afterOperator) {
    const label = past[past.length - 2]?.text;
    const quote = touching.text[0];
    const closed = touching.text.length > 1 && touching.text.endsWith(quote);
    if (closed && cursor === touching.end) return { kind: "none" };
    // A string still open seems to run to the end of the line; what follows the cursor is not part of it.
    const to = closed ? touching.end - 1 : cursor;
    return place("value", { typed: text.slice(touching.start + 1, cursor), from: touching.start + 1, to, metric, label, quote, closed });
  }
  if (touching?.kind === "string") return { kind: "none" };
  if (touching?.kind === "operator") return place("value", { metric, label: previous?.text, quote: "" });
  if (afterOperator) return place("value", { metric, label: past[past.length - 2]?.text, quote: "" });
  if (previous?.kind === "label" && !touching) return { kind: "none" };
  return place("label", { ...typing, metric });
}

// Higher is better; 0 is no match. The start of the name, then the start of a part of it, then anywhere, then scattered.
export function score(candidate, typed) {
  if (!typed) return 1;
  const name = candidate.toLowerCase();
  const sought = typed.toLowerCase();
  const at = name.indexOf(sought);
  if (at === 0) return 40_000 - name.length;
  if (at > 0) return (/[_:.\-/]/.test(name[at - 1]) ? 30_000 : 20_000) - name.length;
  let from = 0;
  for (const letter of sought) {
    from = name.indexOf(letter, from) + 1;
    if (from === 0) return 0;
  }
  return Math.max(1, SCATTERED - name.length);
}

function ranked(candidates, typed) {
  const found = candidates.map((c) => ({ ...c, rank: score(c.text, typed) })).filter((c) => c.rank > 0);
  // Scattered letters are a last resort: beside real matches they are noise.
  const close = found.filter((c) => c.rank > SCATTERED);
  return (close.length ? close : found).sort((a, b) => b.rank - a.rank || a.text.localeCompare(b.text)).slice(0, MOST);
}

const words = (table, kind, after = "") => Object.entries(table).map(([text, detail]) => ({ text, insert: text + after, detail, kind }));

// What a metric name can be selected by, where the name is one.
const selecting = (metric) => (metric ? { "match[]": [metric.replace(/[^\w:.]/g, "")] } : {});

async function metrics() {
  const [names, metadata] = await Promise.all([fetchRemembered("label/__name__/values"), fetchRemembered("metadata").catch(() => ({}))]);
  return names.map((text) => {
    // A histogram's or a summary's series carry the metadata of the name they are derived from.
    const known = (metadata[text] ?? metadata[text.replace(/_(bucket|count|sum|total)$/, "")])?.[0];
    return { text, insert: text, kind: known?.type && known.type !== "unknown" ? known.type : "metric", detail: known?.help ?? "" };
  });
}

// Candidates for a context, best first: [{text, insert, detail, kind}]. `back` in one moves the cursor back after it.
export async function suggestionsFor(context) {
  const { kind, typed } = context;
  if (kind === "metric") {
    const functions = [
      ...words(AGGREGATIONS, "aggregation", "()"),
      ...words(RANGE_FUNCTIONS, "function", "()"),
      ...words(FUNCTIONS, "function", "()"),
    ];
    const list = [...(await metrics()), ...functions.map((f) => ({ ...f, back: 1 }))];
    // Exactly one word typed in full is no suggestion, and neither is the whole list before anything is typed.
    return typed ? ranked(list, typed).filter((c, _, all) => all.length > 1 || c.text !== typed) : ranked(list, "");
  }
  if (kind === "operator")
    return ranked([...words(OPERATORS, "operator", " "), ...words(GROUPINGS, "grouping", " ()").map((g) => ({ ...g, back: 1 }))], typed);
  if (kind === "window")
    return ranked(
      WINDOWS.map((text) => ({ text, insert: text, detail: "", kind: "window" })),
      typed,
    );
  if (kind === "label") {
    const names = await fetchRemembered("labels", selecting(context.metric));
    return ranked(
      names.filter((n) => n !== "__name__").map((text) => ({ text, insert: text, detail: "", kind: "label" })),
      typed,
    );
  }
  if (kind === "value" && context.label) {
    const values = await fetchRemembered(`label/${encodeURIComponent(context.label)}/values`, selecting(context.metric));
    return ranked(
      values.map((text) => ({ text, insert: quoted(text, context), detail: "", kind: "value" })),
      typed,
    );
  }
  return [];
}

// A label value as it goes into the text: with quotes where none are open, and with the closing one where it is missing.
function quoted(value, { quote, closed }) {
  const open = quote || '"';
  const escaped = open === "`" ? value : value.replaceAll("\\", "\\\\").replaceAll(open, `\\${open}`).replaceAll("\n", "\\n");
  return `${quote ? "" : open}${escaped}${closed ? "" : open}`;
}
