/**
 * The dev report of a task, as its manifest has it: metrics, classes, confusions, calibration.
 */

import { bar, confusion, reliability } from "../parts/charts.js";
import { card, h, table } from "../parts/dom.js";
import { count, metric, percent } from "../parts/format.js";

const MOST_CLASSES = 40;
const MOST_BESIDE = 6; // labels of a confusion matrix that has room beside the table

const COLUMNS = [
  { title: "Label" },
  { title: "Precision", number: true },
  { title: "Recall", number: true },
  { title: "F1", number: true },
  { title: "Count", number: true },
];

/** Return the card. */
export function report(details) {
  const found = details.evaluation ?? null;
  const metrics = Object.entries(details.metrics);
  if (found === null && !metrics.length)
    return card("Dev report", h("p.muted", {}, "This version was not measured on a dev set."));
  return card(
    "Dev report",
    h(
      "div.scores",
      {},
      metrics.map(([name, value]) => score(name, value, found)),
    ),
    found === null
      ? h("p.muted", {}, "This version was published without figures of its labels and answers.")
      : measured(details, found),
  );
}

function score(name, value, found) {
  const base = found !== null && found.metric === name && found.baseline !== null;
  return h(
    "div.score",
    {},
    h("p.tile-name", {}, name.replaceAll("_", " ")),
    h("p.score-value", {}, metric(value)),
    base && h("p.muted", {}, `baseline ${metric(found.baseline)}: ${found.baseline_answer}`),
  );
}

function measured(details, found) {
  const classes = found.classes.map((one, index) => ({ ...one, label: details.labels[index] }));
  return h(
    "div.stack-large",
    {},
    h("p.muted", {}, `Measured on ${count(found.examples)} rows of the dev set.`),
    classes.length > 0 &&
      h(
        `div.${found.confusion.length > 0 && classes.length <= MOST_BESIDE ? "columns.even" : "stack-large"}`,
        {},
        perClass(classes),
        found.confusion.length > 0 &&
          h("div", {}, h("h3", {}, "Confusions"), confusion(details.labels, found.confusion)),
      ),
    found.bins.length > 0 && calibration(found),
  );
}

function perClass(classes) {
  const shown = [...classes].sort((a, b) => a.f1 - b.f1);
  const rows = (some) =>
    some.map((one) => [
      one.label,
      share(one.precision),
      share(one.recall),
      h("span.share", {}, share(one.f1), bar(one.f1 ?? 0)),
      count(one.count),
    ]);
  const rest = shown.slice(MOST_CLASSES);
  return h(
    "div",
    {},
    h("h3", {}, "By label, the weakest first"),
    table({
      caption: "Precision, recall and F1 of each label",
      columns: COLUMNS,
      rows: rows(shown.slice(0, MOST_CLASSES)),
      name: "plain",
    }),
    rest.length > 0 &&
      h(
        "details.more",
        {},
        h("summary", {}, `${count(rest.length)} more`),
        table({ caption: "Further labels", columns: COLUMNS, rows: rows(rest), name: "plain" }),
      ),
  );
}

function share(value) {
  return value === null ? "–" : percent(value);
}

function calibration(found) {
  return h(
    "div",
    {},
    h("h3", {}, "Calibration"),
    h(
      "div.calibration",
      {},
      reliability(found.bins),
      h(
        "p.muted",
        {},
        found.calibration_error === null
          ? ""
          : `Expected calibration error ${percent(found.calibration_error)}. `,
        "Across: how sure the answers are. Up: how many of them are right. On the line, both agree.",
      ),
    ),
  );
}
