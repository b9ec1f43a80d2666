/**
 * Prometheus' text format, and what two samples of it say about the time between them.
 */

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

/** Read an exposition: by metric, its series as {labels, value}. */
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries(
      [...(match[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]),
    );
    if (!found.has(match[1])) found.set(match[1], []);
    found.get(match[1]).push({ labels, value: Number(match[3]) });
  }
  return found;
}

/** Add up the series of a metric whose labels pass. */
export function sum(sample, name, passes = () => true) {
  return (sample.get(name) ?? [])
    .filter(({ labels }) => passes(labels))
    .reduce((total, { value }) => total + value, 0);
}

/** Return how much a sum grew; a server that was started again begins at zero. */
export function growth(before, now, name, passes) {
  const [first, second] = [sum(before, name, passes), sum(now, name, passes)];
  return second >= first ? second - first : second;
}

/** Return the mean of what a histogram observed between two samples; null for nothing. */
export function mean(before, now, name, passes) {
  const observed = growth(before, now, `${name}_count`, passes);
  return observed ? growth(before, now, `${name}_sum`, passes) / observed : null;
}

/** Return a quantile of what a histogram observed between two samples, interpolated; null for nothing. */
export function quantile(before, now, name, share, passes) {
  const ends = [...new Set((now.get(`${name}_bucket`) ?? []).map(({ labels }) => labels.le))].sort(
    (a, b) => upper(a) - upper(b),
  );
  const counts = ends.map((le) =>
    growth(before, now, `${name}_bucket`, (labels) => labels.le === le && passes(labels)),
  );
  const wanted = share * (counts.at(-1) ?? 0);
  if (!wanted) return null;
  const index = counts.findIndex((total) => total >= wanted);
  const low = index ? upper(ends[index - 1]) : 0;
  const high = upper(ends[index]);
  if (high === Infinity) return low;
  const below = index ? counts[index - 1] : 0;
  return low + ((wanted - below) / (counts[index] - below)) * (high - low);
}

function upper(le) {
  return le === "+Inf" ? Infinity : Number(le);
}
