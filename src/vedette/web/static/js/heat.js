// Native histograms over time as a picture of heat: which part of a scale each bucket covers, and how much is in it.
// Reckoning alone; `parts/heatmap.js` draws.
import { gridOf, numberOf } from "./matrix.js";

// Of the whole scale a bucket that has no end or lies around zero takes so much, where others are smaller.
const BAND = 1 / 24;

const spansZero = (bucket) => bucket.low < 0 && bucket.high > 0;
const finite = (bucket) => Number.isFinite(bucket.low) && Number.isFinite(bucket.high);

// The buckets of a histogram as the API writes it that hold anything: [{low, high, count}].
export function bucketsOf(histogram) {
  return (histogram.buckets ?? [])
    .map(([, low, high, count]) => ({ low: numberOf(low), high: numberOf(high), count: numberOf(count) }))
    .filter((b) => !(b.low > b.high) && b.count !== 0 && !Number.isNaN(b.count));
}

// Where values stand on a scale that is logarithmic to both sides of zero: `place(value)`, from `bottom` to `top`, and the
// values to mark. Buckets that have no end, and the one around zero, get a band of their own.
export function scaleOf(buckets) {
  // Each bound once: there may be as many buckets as points, and few bounds.
  const edges = [...new Set(buckets.filter((b) => !spansZero(b)).flatMap((b) => [b.low, b.high]))];
  const sizes = edges.map(Math.abs).filter((size) => size > 0 && Number.isFinite(size));
  const least = sizes.length ? Math.min(...sizes) : 1;
  const smallest = buckets.reduce((height, b) => {
    const own = finite(b) && b.low * b.high > 0 ? Math.abs(Math.log2(b.high / b.low)) : 0;
    return own > 0 ? Math.min(height, own) : height;
  }, Infinity);
  const most = sizes.length ? Math.max(...sizes) : 1;
  const band = Math.max(Number.isFinite(smallest) ? smallest : 0, BAND * Math.log2(most / least)) || 1;
  const within = (value) => {
    const size = Math.abs(value);
    return size < least ? 0 : Math.sign(value) * (band + Math.log2(size / least));
  };
  const ends = edges.filter(Number.isFinite).map(within);
  const around = buckets.some(spansZero);
  const below = buckets.some((b) => b.high <= 0);
  const above = buckets.some((b) => b.low >= 0);
  const zero = [below || !above ? -band : 0, above || !below ? band : 0];
  if (around) ends.push(...zero);
  if (!ends.length) ends.push(0, band);
  let bottom = Math.min(...ends);
  let top = Math.max(...ends);
  // The lowest of buckets with bounds of their own has no end; where all are positive, it is taken to begin at zero.
  const open = buckets.some((b) => b.low === -Infinity && b.high <= 0);
  if (buckets.some((b) => b.low === -Infinity)) bottom = open ? bottom - band : Math.min(bottom, 0);
  if (buckets.some((b) => b.high === Infinity)) top += band;
  const place = (value) => (value === Infinity ? top : value === -Infinity ? bottom : within(value));
  const cover = (b) => (spansZero(b) && b.low !== -Infinity ? zero : [place(b.low), place(b.high)]);
  return { place, cover, bottom, top, marks: marksOf(place, sizes, bottom, top) };
}

// Powers of ten on both sides, and zero: at most six of them, those that are on the scale.
function marksOf(place, sizes, bottom, top) {
  const zero = bottom <= 0 && top >= 0 ? [0] : [];
  if (!sizes.length) return zero;
  const least = Math.min(...sizes);
  const first = Math.floor(Math.log10(least));
  const last = Math.ceil(Math.log10(Math.max(...sizes)));
  const powers = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  const inside = (values) =>
    values
      .filter((size) => size >= least)
      .flatMap((size) => [-size, size])
      .filter((v) => place(v) >= bottom && place(v) <= top);
  let found = inside(powers);
  if (found.length < 3) found = inside(powers.flatMap((power) => [power, 2 * power, 5 * power]));
  found = [...found, ...zero].sort((a, b) => a - b);
  const every = Math.ceil(found.length / 6);
  return found.filter((_, i) => i % every === 0);
}

// One series of an answer -> {labels, cells, peak, scale}: a cell is {at, low, high, from, to, count}, `at` a place on the window's
// grid, `low` and `high` places on the scale, `from` and `to` the bucket's bounds.
export function heatOf(series, window) {
  const count = gridOf(window).length;
  const columns = [];
  for (const [time, histogram] of series.histograms ?? []) {
    const at = Math.round((time - window.start) / window.step);
    if (at >= 0 && at < count) columns.push({ at, buckets: bucketsOf(histogram) });
  }
  const scale = scaleOf(columns.flatMap((c) => c.buckets));
  const cells = columns.flatMap(({ at, buckets }) =>
    buckets.map((b) => {
      const [low, high] = scale.cover(b);
      return { at, low, high, from: b.low, to: b.high, count: b.count };
    }),
  );
  const peak = cells.reduce((most, cell) => (Number.isFinite(cell.count) ? Math.max(most, Math.abs(cell.count)) : most), 0);
  return { labels: series.metric, cells, peak, scale };
}

// How strongly a cell is drawn, from 0 to 1: small counts stay visible beside large ones.
export const strengthOf = (count, peak) => (peak > 0 ? 0.12 + 0.88 * Math.sqrt(Math.min(Math.abs(count) / peak, 1)) : 0);
