// PromQL text -> tokens that cover it without a gap, for colour and completion. It never fails: what is not PromQL is
// `other`. The server alone decides whether an expression is valid.
import { isFunction, isKeyword } from "./functions.js";

const RULES = [
  ["space", /\s+/y],
  ["comment", /#[^\n]*/y],
  // An unfinished string runs to the end of the line: that is how it looks while it is being typed.
  ["string", /"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`[^`]*`?/y],
  ["duration", /(?:\d+(?:ms|[smhdwy]))+(?![\w.])/y],
  ["number", /(?:0x[\da-fA-F]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?!\w)/y],
  ["word", /[a-zA-Z_:][\w:.]*/y],
  ["operator", /=~|!~|!=|==|>=|<=|[-+*/%^=<>@]/y],
  ["bracket", /[()[\]{}]/y],
  ["other", /[^]/uy],
];

// [{kind, text, start, end}]; a word is refined to function, keyword, label or metric by where it stands.
export function tokenize(text) {
  const tokens = [];
  for (let at = 0; at < text.length;) {
    for (const [kind, rule] of RULES) {
      rule.lastIndex = at;
      const found = rule.exec(text);
      if (!found) continue;
      tokens.push({ kind, text: found[0], start: at, end: at + found[0].length });
      at += found[0].length;
      break;
    }
  }
  return refined(tokens);
}

function refined(tokens) {
  const open = [];
  let before = null;
  for (const token of tokens) {
    if (token.kind === "space" || token.kind === "comment") continue;
    if (token.kind === "word") token.kind = kindOfWord(token, open);
    if (token.kind === "bracket") {
      if ("([{".includes(token.text)) open.push({ bracket: token.text, after: before });
      else open.pop();
    }
    before = token;
  }
  return tokens;
}

function kindOfWord(token, open) {
  const inner = open[open.length - 1];
  const list = inner?.bracket === "(" && inner.after?.kind === "keyword";
  if (inner?.bracket === "{" || list) return "label";
  const word = token.text.toLowerCase();
  if (isKeyword(word)) return "keyword";
  if (isFunction(word)) return "function";
  return word === "inf" || word === "nan" ? "number" : "metric";
}
