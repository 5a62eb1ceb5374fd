// Writes plain data as YAML, the way rule files look. Texts that YAML could read as something else are quoted as JSON quotes them.

const PLAIN = /^[A-Za-z_][A-Za-z0-9_ ./()*+-]*[A-Za-z0-9_)]$|^[A-Za-z_]$|^\d+(ms|[smhdwy])$/;
const WORDS = /^(true|false|yes|no|on|off|null|y|n)$/i;

function scalar(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  return PLAIN.test(value) && !WORDS.test(value) ? value : JSON.stringify(value);
}

const isEmpty = (value) => (Array.isArray(value) ? value.length === 0 : Object.keys(value).length === 0);

// The lines of a value at `indent`; a list stands at the indent of its key, as people write rule files.
function lines(value, indent) {
  const pad = " ".repeat(indent);
  if (Array.isArray(value))
    return value.flatMap((item) => {
      if (typeof item !== "object" || item === null || isEmpty(item)) return [`${pad}- ${leaf(item)}`];
      const [first, ...rest] = lines(item, indent + 2);
      return [`${pad}- ${first.slice(indent + 2)}`, ...rest];
    });
  return Object.entries(value).flatMap(([key, item]) => {
    const name = `${pad}${scalar(key)}:`;
    if (typeof item === "string" && item.includes("\n") && !/^[ \n]|[^\S\n]\n|\r|\n$/.test(item))
      return [`${name} |-`, ...item.split("\n").map((line) => (line ? `${pad}  ${line}` : ""))];
    if (typeof item !== "object" || item === null || isEmpty(item)) return [`${name} ${leaf(item)}`];
    return [name, ...lines(item, Array.isArray(item) ? indent : indent + 2)];
  });
}

const leaf = (value) => (Array.isArray(value) ? "[]" : typeof value === "object" && value !== null ? "{}" : scalar(value));

// `value` (objects, arrays, strings, numbers, booleans, null) as a YAML document.
export function toYaml(value) {
  return typeof value !== "object" || value === null || isEmpty(value) ? `${leaf(value)}\n` : `${lines(value, 0).join("\n")}\n`;
}
