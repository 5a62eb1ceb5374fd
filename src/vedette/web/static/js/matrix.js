// Answers of /query_range as columns on one common grid of times, and names for their series.

// {start, end, step} -> the grid's times in seconds, both ends included.
export function gridOf(window) {
  const count = Math.floor((window.end - window.start) / window.step + 1e-9) + 1;
  return Array.from({ length: count }, (_, i) => window.start + i * window.step);
}

// A matrix result -> [{labels, values}], `values` with one number for each grid time and null where there is no sample.
export function columnsOf(result, window) {
  const count = gridOf(window).length;
  return result
    .filter((series) => series.values)
    .map((series) => {
      const values = new Array(count).fill(null);
      for (const [time, text] of series.values) {
        const at = Math.round((time - window.start) / window.step);
        if (at >= 0 && at < count) values[at] = numberOf(text);
      }
      return { labels: series.metric, values };
    });
}

// A sample value as the API writes it ("NaN", "+Inf", "-Inf", "1e+06") -> number.
export function numberOf(text) {
  if (text === "+Inf" || text === "Inf") return Infinity;
  return text === "-Inf" ? -Infinity : Number(text);
}

const quote = (value) => `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`;
const LEGACY_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const labelName = (name) => (LEGACY_NAME.test(name) ? name : quote(name));

// A label set as PromQL selects it: `up{instance="a",job="b"}`, leaving out the labels named in `without`.
export function seriesName(labels, without = new Set()) {
  const { __name__: metric = "", ...rest } = labels;
  const pairs = Object.entries(rest).filter(([name]) => !without.has(name));
  const inner = pairs.map(([name, value]) => `${labelName(name)}=${quote(value)}`);
  const bare = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(metric);
  if (metric && !bare) inner.unshift(quote(metric));
  const body = inner.length || !metric ? `{${inner.join(", ")}}` : "";
  return (bare ? metric : "") + body;
}

// The labels that all of these sets share, name and value: what a legend need not repeat.
export function sharedLabels(sets) {
  if (sets.length < 2) return {};
  const shared = { ...sets[0] };
  for (const set of sets) for (const name of Object.keys(shared)) if (set[name] !== shared[name]) delete shared[name];
  return shared;
}

// Matchers for a selector, values quoted: {instance: "a"} -> `instance="a"`.
export function matcher(name, value) {
  return `${labelName(name)}=${quote(value)}`;
}
