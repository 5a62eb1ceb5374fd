// Numbers as people read them: three significant digits, a unit, SI or IEC prefixes.

const IEC = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const SI = ["", "k", "M", "G", "T", "P", "E"];

function digits(value, significant) {
  const magnitude = Math.abs(value);
  if (magnitude === 0) return "0";
  if (magnitude < 1e-4) return value.toExponential(1);
  // Digits before the point are never rounded away: 1023 is not 1020.
  return String(Number(value.toPrecision(Math.max(significant, Math.floor(Math.log10(magnitude)) + 1))));
}

function prefixed(value, radix, prefixes, suffix, significant) {
  let size = Math.abs(value);
  let power = 0;
  // 999.6 would round to "1000": move on to the next prefix before that.
  while (size >= radix - 0.5 && power < prefixes.length - 1) {
    size /= radix;
    power += 1;
  }
  const unit = prefixes[power] + suffix;
  return `${digits(Math.sign(value) * size, significant)}${unit ? ` ${unit}` : ""}`;
}

function duration(value, significant) {
  const shown = (n) => digits(n, significant);
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${shown(value * 1e6)} µs`;
  if (size < 1) return `${shown(value * 1e3)} ms`;
  if (size < 120) return `${shown(value)} s`;
  if (size < 7200) return `${shown(value / 60)} min`;
  if (size < 172800) return `${shown(value / 3600)} h`;
  return `${shown(value / 86400)} d`;
}

const FORMATS = {
  plain: (v, s) => prefixed(v, 1000, SI, "", s),
  // Of a percentage, a tenth is as fine as anyone reads: two digits below 10, whole ones above.
  percent: (v, s) => `${s > 3 ? digits(v, s) : Math.abs(v) >= 9.95 ? v.toFixed(0) : String(Number(v.toFixed(1)))} %`,
  bytes: (v, s) => prefixed(v, 1024, IEC, "B", s),
  "bytes/s": (v, s) => prefixed(v, 1024, IEC, "B/s", s),
  "per second": (v, s) => `${prefixed(v, 1000, SI, "", s)}/s`,
  seconds: duration,
};

// `value` with `unit` (a key of FORMATS; `plain` when unknown), to so many significant digits. NaN and the infinities by
// their PromQL names, null as a dash.
export function format(value, unit = "plain", significant = 3) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return (FORMATS[unit] ?? FORMATS.plain)(value, significant);
}

// Spacings between grid lines that come out even in the unit: powers of two for bytes, clock units for seconds.
export function gridSpacings(unit) {
  if (unit === "bytes" || unit === "bytes/s") return Array.from({ length: 61 }, (_, power) => 2 ** power);
  if (unit === "seconds") {
    const small = [];
    for (let power = -9; power < 0; power++) for (const lead of [1, 2, 5]) small.push(Number(`${lead}e${power}`));
    return [
      ...small,
      1,
      2,
      5,
      10,
      15,
      30,
      60,
      120,
      300,
      600,
      900,
      1800,
      3600,
      7200,
      14400,
      21600,
      43200,
      86400,
      172800,
      604800,
      2592000,
      31536000,
    ];
  }
  return undefined;
}

// The unit an expression's values have, where its metric's name says so without doubt; `plain` otherwise.
export function unitOf(expr) {
  const text = expr.trim();
  const whole = /^[a-zA-Z_:][\w:]*(\{[^{}]*\})?$/.test(text) || /^(sum|avg|min|max|topk|bottomk|rate|irate)\b[^*/+%-]*$/.test(text);
  if (!whole) return "plain";
  const rate = /\b(rate|irate)\s*\(/.test(text);
  if (/_bytes(_total)?\b/.test(text)) return rate ? "bytes/s" : "bytes";
  if (/_seconds\b/.test(text) && !rate) return "seconds";
  // Seconds in a second are a share, not a rate.
  return rate && !/_seconds(_total|_sum)?\b/.test(text) ? "per second" : "plain";
}
