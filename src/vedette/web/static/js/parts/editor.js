// A field for a PromQL expression: coloured, completed as one types, run with Enter.
// The text is an ordinary <textarea>; its coloured twin lies behind it, and the caret and the selection are the browser's.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { contextOf, suggestionsFor } from "../promql/complete.js";
import { tokenize } from "../promql/lexer.js";

const NOTHING = { list: [], at: 0, chosen: false, context: null };

// `onChange(text)` while typing, `onRun(text)` at Enter. `id` makes the ids of the parts; `error` marks the field.
export function Editor({ id, value, onChange, onRun, error, label }) {
  const field = useRef(null);
  const popup = useRef(null);
  const caret = useRef(null);
  const asked = useRef(0);
  const [menu, setMenu] = useState(NOTHING);

  const close = () => {
    asked.current += 1;
    setMenu(NOTHING);
  };

  // `forced` shows what could stand here even where nothing has been typed yet.
  const suggest = async (text, cursor, forced) => {
    const ask = ++asked.current;
    const context = contextOf(text, cursor);
    const eager = context.kind === "label" || context.kind === "value" || context.kind === "window";
    if (context.kind === "none" || (!forced && !eager && context.typed.length < 1)) return setMenu(NOTHING);
    let list = [];
    try {
      list = await suggestionsFor(context);
    } catch (failure) {
      // Completion is a convenience: where it fails, running the expression will say what is wrong.
      console.warn("completion:", failure.message);
    }
    if (ask !== asked.current) return undefined;
    if (list.length === 1 && list[0].text === context.typed) list = [];
    return setMenu({ list, at: 0, chosen: false, context });
  };

  const accept = (candidate) => {
    const { from, to } = menu.context;
    // A function typed before its parenthesis keeps the one it has.
    const has = value[to] === "(" && candidate.insert.endsWith("()");
    const insert = has ? candidate.insert.slice(0, -2) : candidate.insert;
    const next = value.slice(0, from) + insert + value.slice(to);
    caret.current = from + insert.length - (has ? -1 : (candidate.back ?? 0));
    onChange(next);
    close();
  };

  useLayoutEffect(() => {
    if (caret.current === null) return;
    field.current.setSelectionRange(caret.current, caret.current);
    caret.current = null;
  }, [value]);

  // The field is as high as its text.
  useLayoutEffect(() => {
    field.current.style.height = "0";
    field.current.style.height = `${field.current.scrollHeight}px`;
  }, [value]);

  useEffect(() => {
    popup.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  }, [menu.at, menu.list]);

  const onKey = (event) => {
    const open = menu.list.length > 0;
    const move = (by) => setMenu((m) => ({ ...m, at: m.chosen || by < 0 ? (m.at + by + m.list.length) % m.list.length : 0, chosen: true }));
    if (event.isComposing) return;
    if (event.key === " " && event.ctrlKey) suggest(value, field.current.selectionStart, true);
    else if (open && event.key === "ArrowDown") move(1);
    else if (open && event.key === "ArrowUp") move(-1);
    else if (open && event.key === "Tab" && !event.shiftKey) accept(menu.list[menu.at]);
    else if (open && event.key === "Escape") close();
    // Enter takes a suggestion only when the reader has moved to one: otherwise it runs what was typed.
    else if (event.key === "Enter" && !event.shiftKey) {
      if (open && menu.chosen) accept(menu.list[menu.at]);
      else {
        close();
        onRun(value);
      }
    } else return;
    event.preventDefault();
  };

  const input = (event) => {
    onChange(event.target.value);
    suggest(event.target.value, event.target.selectionStart, false);
  };

  const open = menu.list.length > 0;
  const list = `${id}-list`;
  return html`<div class=${`editor${error ? " editor-bad" : ""}`}>
    <pre class="editor-paint" aria-hidden="true">${tokenize(value).map((t, i) => html`<span key=${i}
        class=${`t-${t.kind}`}>${t.text}</span>`)}${"\n"}</pre>
    <textarea id=${id} ref=${field} rows="1" spellcheck=${false} autocomplete="off" autocapitalize="off" autocorrect=${false}
        aria-label=${label}
      aria-autocomplete="list" aria-controls=${open ? list : null}
      aria-activedescendant=${open && menu.chosen ? `${list}-${menu.at}` : null}
      aria-invalid=${error ? "true" : null} aria-describedby=${error ? `${id}-error` : null}
      placeholder="PromQL, such as rate(node_cpu_seconds_total[5m])" value=${value} onInput=${input} onKeyDown=${onKey} onBlur=${close}
      onClick=${close}></textarea>
    <div class="sr-only" role="status">${open ? `${menu.list.length} suggestions, arrow keys choose` : ""}</div>
    ${
      open &&
      html`<ul class="suggestions" id=${list} role="listbox" aria-label="Suggestions" ref=${popup}>${menu.list.map(
        (candidate, i) => html`<li key=${candidate.kind + candidate.text} id=${`${list}-${i}`} role="option" aria-selected=${i === menu.at}
        onPointerDown=${(event) => (event.preventDefault(), accept(candidate))}>
        <span class="suggestion-text">${candidate.text}</span><span class="suggestion-kind">${candidate.kind}</span>
        ${candidate.detail && html`<span class="suggestion-detail">${candidate.detail}</span>`}</li>`,
      )}</ul>`
    }
  </div>`;
}
