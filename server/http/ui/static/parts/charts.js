/**
 * Small charts: bars, sparklines, and the picture of what is held in memory.
 */

import { h, s } from "./dom.js";
import { bytes, count, percent, plural } from "./format.js";

const MOST_COPIES = 200; // more are drawn as one block
const FINE = 0.006; // a narrower part of the picture has no gap to the next one

/** A bar for a share of one; the number beside it says the same. */
export function bar(share, { mark = null, tone = "" } = {}) {
  const width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return h(
    `span.meter${tone && `.${tone}`}`,
    { "aria-hidden": "true", vars: { "--share": width } },
    mark === null ? null : h("span.meter-mark", { vars: { "--mark": `${mark * 100}%` } }),
  );
}

/**
 * A line of values over time, the newest at the right; where a value is null there is a gap.
 * @param {Array<number|null>} values At most `most` of them.
 * @param {object} options `most` values fit; `ceiling` is the least height, in values.
 */
export function sparkline(values, { most, ceiling = 0 }) {
  const highest = Math.max(ceiling, ...values.map((value) => value ?? 0)) || 1;
  const offset = most - values.length;
  const runs = [[]];
  values.forEach((value, index) => {
    if (value === null) runs.push([]);
    else runs.at(-1).push([((offset + index) / (most - 1)) * 100, 30 - (value / highest) * 28]);
  });
  const drawn = runs.filter((run) => run.length > 0);
  const line = (run) => run.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L");
  return s(
    "svg.sparkline",
    { viewBox: "0 0 100 31", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("line.sparkline-floor", { x1: 0, x2: 100, y1: 30.5, y2: 30.5 }),
    drawn.map((run) =>
      s("path.sparkline-area", {
        d: `M${run[0][0].toFixed(2)} 30L${line(run)}L${run.at(-1)[0].toFixed(2)} 30Z`,
      }),
    ),
    drawn.map((run) => s("path.sparkline-line", { d: `M${line(run)}${run.length === 1 ? "h0.4" : ""}` })),
  );
}

/**
 * Return what each version in service holds, with the name of its task, and whether it has others beside it.
 * @param {object} report Reply of GET /memory.
 */
export function versionsOf(report) {
  return Object.entries(report.tasks).flatMap(([task, { others, ...held }]) =>
    [held, ...others].map((version) => ({ ...version, task, shared: others.length > 0 })),
  );
}

/**
 * What the tasks take here beside what finetuned copies would take, to one scale.
 * @param {object} report Reply of GET /memory.
 */
export function memoryPicture(report) {
  const versions = versionsOf(report);
  const copies = versions.map((version) => version.finetuned_bytes);
  const masks = versions.map((version) => version.resident_bytes);
  const widest = Math.max(report.finetuned.bytes, report.total.resident_bytes);
  const held = report.total.resident_bytes;
  const own = masks.reduce((sum, value) => sum + value, 0);
  return h(
    "div.memory",
    {},
    strip(
      `${plural(copies.length, "finetuned copy").replace("copys", "copies")}, fp32`,
      report.finetuned.bytes,
      "what the same tasks would take",
      blocks(copies, "copy", 0, widest),
    ),
    strip(`One base and ${plural(masks.length, "mask")}, ${report.precision}`, held, "held by this server", [
      block("base", 0, report.base.resident_bytes, widest),
      ...blocks(masks, "mask", report.base.resident_bytes, widest),
    ]),
    h(
      "ul.legend",
      {},
      legend("base", `base ${bytes(report.base.resident_bytes)}`),
      legend("mask", `masks and heads ${bytes(own)}`),
      legend("copy", `copies ${bytes(report.finetuned.bytes)}`),
    ),
  );
}

function strip(title, total, what, shapes) {
  return h(
    "div.strip",
    {},
    h(
      "p.strip-text",
      {},
      h("span", {}, title),
      h("span.strip-total", {}, h("strong", {}, bytes(total)), ` ${what}`),
    ),
    s("svg.strip-bar", { role: "img", "aria-label": `${title}: ${bytes(total)}, ${what}` }, shapes),
  );
}

/** Return one rectangle for each size, or one for all where there are too many to tell apart. */
function blocks(sizes, name, start, widest) {
  const total = sizes.reduce((sum, value) => sum + value, 0);
  if (sizes.length > MOST_COPIES) return [block(name, start, total, widest)];
  let left = start;
  return sizes.map((size) => {
    const shape = block(name, left, size, widest);
    left += size;
    return shape;
  });
}

function block(name, left, size, widest) {
  const fine = size / widest < FINE;
  return s(`rect.${name}${fine ? ".fine" : ""}`, {
    x: `${(left / widest) * 100}%`,
    width: `${(size / widest) * 100}%`,
    y: 0,
    height: "100%",
  });
}

function legend(name, text) {
  return h("li", {}, h(`span.swatch.${name}`, { "aria-hidden": "true" }), text);
}

/** Shares of a whole, side by side, with their names and numbers below. */
export function parts(entries, show) {
  const total = entries.reduce((sum, [, value]) => sum + value, 0) || 1;
  return h(
    "div.parts",
    {},
    h(
      "div.parts-bar",
      { "aria-hidden": "true" },
      entries.map(([, value], index) =>
        h(`span.part-${index}`, { vars: { "--share": `${(value / total) * 100}%` } }),
      ),
    ),
    h(
      "ul.legend",
      {},
      entries.map(([name, value], index) => legend(`part-${index}`, `${name} ${show(value)}`)),
    ),
  );
}

/**
 * A confusion matrix: a row for each right label, a column for each predicted one.
 * @param {string[]} labels Names of both.
 * @param {number[][]} counts Rows of counts.
 */
export function confusion(labels, counts) {
  const sums = counts.map((row) => row.reduce((sum, value) => sum + value, 0) || 1);
  return h(
    "div.scroll",
    { tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
    h(
      "table.confusion",
      {},
      h("caption.hidden", {}, "Rows are the right labels, columns the predicted ones."),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("td.corner", {}, "right \\ predicted"),
          labels.map((label) => h("th", { scope: "col" }, label)),
        ),
      ),
      h(
        "tbody",
        {},
        counts.map((row, right) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, labels[right]),
            row.map((value, predicted) =>
              h(
                `td${cell(value, right === predicted)}`,
                {
                  vars: { "--share": `${Math.round((value / sums[right]) * 38)}%` },
                  title: `${labels[right]} taken for ${labels[predicted]}: ${count(value)}, ${percent(value / sums[right])}`,
                },
                count(value),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

function cell(value, right) {
  if (!value) return ".zero";
  return right ? ".right" : ".wrong";
}

/** How often answers of each confidence are right, beside the diagonal of a calibrated model. */
export function reliability(bins) {
  const x = (value) => 8 + value * 88;
  const y = (value) => 92 - value * 88;
  const most = Math.max(...bins.map((bin) => bin.count));
  return s(
    "svg.reliability",
    {
      viewBox: "0 0 100 100",
      role: "img",
      "aria-label": `Reliability: ${bins.map((bin) => `confidence ${percent(bin.confidence, 0)}, right ${percent(bin.accuracy, 0)}`).join("; ")}`,
    },
    s("path.axis", { d: "M8 4V92H96" }),
    s("line.diagonal", { x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
    s("polyline.reliability-line", {
      points: bins.map((bin) => `${x(bin.confidence)},${y(bin.accuracy)}`).join(" "),
    }),
    bins.map((bin) =>
      s("circle", {
        cx: x(bin.confidence),
        cy: y(bin.accuracy),
        r: 1.2 + 2.4 * Math.sqrt(bin.count / most),
      }),
    ),
  );
}
