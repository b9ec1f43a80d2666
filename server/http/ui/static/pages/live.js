/**
 * Page of what happens now: rates and latencies between two looks at GET /metrics.
 */

import { ask, json } from "../parts/api.js";
import { parts, sparkline } from "../parts/charts.js";
import { card, h, put } from "../parts/dom.js";
import { NONE, count, digits, milliseconds, percent, plural } from "../parts/format.js";
import { growth, mean, parse, quantile, sum } from "../parts/metrics.js";
import { repeat } from "../parts/refresh.js";
import { TRIES_AGAIN, failure } from "../parts/states.js";

const PAUSE = 2000; // milliseconds between looks, at least
const MOST = 120; // points of a line

const total = ({ stage }) => stage === "total";

/** What is shown: a name, its value from two samples (null for none), how it is written, and a remark. */
const SERIES = [
  {
    name: "Predictions",
    unit: "per second",
    value: ({ before, now, seconds }) =>
      growth(before, now, "maskserve_stage_seconds_count", total) / seconds,
  },
  {
    name: "Latency",
    unit: "p95",
    show: milliseconds,
    value: ({ before, now }) => thousandfold(quantile(before, now, "maskserve_stage_seconds", 0.95, total)),
  },
  {
    name: "Tokens",
    unit: "per second",
    value: ({ before, now, seconds }) => growth(before, now, "maskserve_tokens_total") / seconds,
  },
  {
    name: "Batch fill",
    unit: "tokens a batch",
    value: ({ before, now }) => mean(before, now, "maskserve_batch_tokens"),
    remark: (sample, limits) => fill(sample, limits),
  },
  {
    name: "Queue",
    unit: "rows waiting",
    value: ({ now }) => sum(now, "maskserve_queue_rows"),
    remark: ({ now }) => `oldest waits ${milliseconds(sum(now, "maskserve_queue_oldest_seconds") * 1000)}`,
  },
  {
    name: "Refused or failed",
    unit: "per second",
    value: ({ before, now, seconds }) =>
      growth(before, now, "maskserve_requests_total", ({ status }) => status >= "400") / seconds,
    remark: ({ now }) =>
      `${count(sum(now, "maskserve_dropped_requests_total"))} dropped from the queue since the start`,
  },
  {
    name: "Swaps",
    unit: "since the last look",
    value: ({ before, now }) => growth(before, now, "maskserve_swaps_total"),
    remark: ({ now }) =>
      `${count(sum(now, "maskserve_swaps_total"))} since the start, ${plural(sum(now, "maskserve_load_failures_total"), "load")} failed`,
  },
  {
    name: "Tasks a batch",
    unit: "mean",
    value: ({ before, now }) => mean(before, now, "maskserve_batch_tasks"),
  },
];

/** Why the server closed a batch, as the label `closed` has it. */
const CLOSED = {
  idle: "nothing more waited",
  waited: "waited long enough",
  full_rows: "rows were full",
  full_tokens: "tokens were full",
  drained: "the server ends",
};

function thousandfold(seconds) {
  return seconds === null ? null : seconds * 1000;
}

function fill({ before, now }, limits) {
  const tokens = mean(before, now, "maskserve_batch_tokens");
  const rows = mean(before, now, "maskserve_batch_rows");
  return tokens === null
    ? `at most ${count(limits.max_batch_tokens)} tokens`
    : `${percent(tokens / limits.max_batch_tokens)} of what fits, ${digits(rows)} rows`;
}

/** Show the page; see main.js. */
export function live(place, signal) {
  const body = h("div.stack-large", {}, h("div.charts", {}, SERIES.map(blank)));
  put(
    place,
    h("h1", {}, "Live"),
    h(
      "p.lead",
      {},
      `What the whole server does, looked at every few seconds; a line is the last ${MOST} looks.`,
    ),
    body,
  );
  const history = SERIES.map(() => []);
  let before = null;
  let limits = null;
  repeat(
    async () => {
      limits ??= await json("info", { signal });
      const text = await (await ask("metrics", { signal, accept: "text/plain" })).text();
      const now = parse(text);
      const at = performance.now();
      if (before !== null) {
        const sample = { before: before.now, now, seconds: (at - before.at) / 1000 };
        SERIES.forEach((series, index) => {
          history[index].push(series.value(sample));
          history[index].splice(0, history[index].length - MOST);
        });
        draw(body, history, sample, limits);
      }
      before = { now, at };
    },
    {
      signal,
      pause: PAUSE,
      failed: (error) => {
        before = null;
        put(body, failure(error, null, TRIES_AGAIN));
      },
    },
  );
}

function draw(body, history, sample, limits) {
  put(
    body,
    h(
      "div.charts",
      {},
      SERIES.map((series, index) => chart(series, history[index], sample, limits)),
    ),
    h("div.columns.even", {}, stages(sample), closed(sample)),
  );
}

/** A chart before there are two looks. */
function blank({ name, unit }) {
  return h(
    "section.chart.blank",
    { "aria-label": name, "aria-busy": "true" },
    h("h2.tile-name", {}, name),
    h("p.tile-value", {}, NONE, h("span.unit", {}, ` ${unit}`)),
    sparkline([], { most: MOST }),
    h("p.tile-remark", {}),
  );
}

function chart({ name, unit, show = digits, remark }, values, sample, limits) {
  const last = values.at(-1);
  const known = values.filter((value) => value !== null);
  return h(
    "section.chart",
    { "aria-label": name },
    h("h2.tile-name", {}, name),
    h("p.tile-value", {}, last === null ? NONE : show(last), h("span.unit", {}, ` ${unit}`)),
    sparkline(values, { most: MOST, ceiling: 1 }),
    h("p.tile-remark", {}, remark ? remark(sample, limits) : `highest ${known.length ? show(Math.max(...known)) : NONE}`),
  );
}

function stages({ before, now }) {
  const entries = ["tokenize", "queue", "compute"].map((stage) => [
    stage,
    (mean(before, now, "maskserve_stage_seconds", (labels) => labels.stage === stage) ?? 0) * 1000,
  ]);
  return card(
    "Where the time of a prediction goes",
    entries.some(([, value]) => value)
      ? parts(entries, milliseconds)
      : h("p.muted", {}, "No prediction since the last look."),
  );
}

function closed({ before, now }) {
  const reasons = [...new Set((now.get("maskserve_batches_total") ?? []).map(({ labels }) => labels.closed))];
  const entries = reasons.map((reason) => [
    CLOSED[reason] ?? reason,
    growth(before, now, "maskserve_batches_total", (labels) => labels.closed === reason),
  ]);
  const seen = entries.filter(([, value]) => value);
  return card(
    "Why batches were closed",
    seen.length ? parts(seen, count) : h("p.muted", {}, "No batch since the last look."),
  );
}
