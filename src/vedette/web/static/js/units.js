// Numbers as people read them: three significant digits, a unit, SI or IEC prefixes.

const IEC = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const SI = ["", "k", "M", "G", "T", "P", "E"];

function digits(value) {
  const magnitude = Math.abs(value);
  if (magnitude >= 100 || magnitude === 0) return String(Math.round(value));
  if (magnitude < 1e-4) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

function prefixed(value, radix, prefixes, suffix) {
  let size = Math.abs(value);
  let power = 0;
  // 999.6 would round to "1000": move on to the next prefix before that.
  while (size >= radix - 0.5 && power < prefixes.length - 1) {
    size /= radix;
    power += 1;
  }
  const unit = prefixes[power] + suffix;
  return `${digits(Math.sign(value) * size)}${unit ? ` ${unit}` : ""}`;
}

function duration(value) {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 120) return `${digits(value)} s`;
  if (size < 7200) return `${digits(value / 60)} min`;
  if (size < 172800) return `${digits(value / 3600)} h`;
  return `${digits(value / 86400)} d`;
}

const FORMATS = {
  plain: (v) => prefixed(v, 1000, SI, ""),
  percent: (v) => `${Math.abs(v) >= 10 || v === 0 ? v.toFixed(0) : v.toFixed(1)} %`,
  bytes: (v) => prefixed(v, 1024, IEC, "B"),
  "bytes/s": (v) => prefixed(v, 1024, IEC, "B/s"),
  "per second": (v) => `${prefixed(v, 1000, SI, "")}/s`,
  seconds: duration,
};

// `value` with `unit` (a key of FORMATS; `plain` when unknown). NaN and the infinities by their PromQL names, null as a dash.
export function format(value, unit = "plain") {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return (FORMATS[unit] ?? FORMATS.plain)(value);
}

// Spacings between grid lines that come out even in the unit: powers of two for bytes, clock units for seconds.
export function gridSpacings(unit) {
  if (unit === "bytes" || unit === "bytes/s") return Array.from({ length: 61 }, (_, power) => 2 ** power);
  if (unit === "seconds") {
    const small = [];
    for (let power = -9; power < 0; power++) for (const lead of [1, 2, 5]) small.push(Number(`${lead}e${power}`));
    return [...small, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800, 2592000, 31536000];
  }
  return undefined;
}

// The unit an expression's values have, where its metric's name says so without doubt; `plain` otherwise.
export function unitOf(expr) {
  const text = expr.trim();
  const whole = /^[a-zA-Z_:][\w:]*(\{[^{}]*\})?$/.test(text) || /^(sum|avg|min|max|topk|bottomk)\b[^*/+%-]*$/.test(text);
  if (!whole) return "plain";
  const rate = /\b(rate|irate)\s*\(/.test(text);
  if (/_bytes(_total)?\b/.test(text)) return rate ? "bytes/s" : "bytes";
  if (/_seconds\b/.test(text) && !rate && !/_seconds_(total|count|bucket)\b/.test(text)) return "seconds";
  return rate ? "per second" : "plain";
}
