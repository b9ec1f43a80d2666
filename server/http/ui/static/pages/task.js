/**
 * Page of one task: what it is, how good it is, its versions, and a text to try.
 */

import { ask, json, taskPath } from "../parts/api.js";
import { askForKey } from "../parts/dialogs.js";
import { button, card, h, put } from "../parts/dom.js";
import { NONE, bytes, count, date, digest, kind, metric, percent } from "../parts/format.js";
import { chip, failure, loading, state } from "../parts/states.js";
import { report } from "./report.js";
import { trial } from "./try.js";
import { versions } from "./versions.js";

const MOST_LABELS = 60;

/** Show the page; see main.js. */
export function task(place, signal, name) {
  const draw = () => {
    put(place, crumb(name), h("h1", {}, name), loading(`task ${name}`));
    load(place, signal, name, draw);
  };
  draw();
}

async function load(place, signal, name, again) {
  try {
    const details = await json(taskPath(name), { signal });
    if (!signal.aborted) show(place, signal, details, again);
  } catch (error) {
    if (signal.aborted) return;
    const waits = error.status === 503;
    put(
      place,
      crumb(name),
      h("h1", {}, name),
      waits ? unserved(name, error, again) : failure(error, again),
      waits && versions({ name, signal, changed: again }),
    );
  }
}

function crumb(name) {
  return h(
    "nav.crumb",
    { "aria-label": "Where this is" },
    h("a", { href: "#/" }, "Tasks"),
    h("span", { "aria-hidden": "true" }, " / "),
    h("span", {}, name),
  );
}

function unserved(name, error, again) {
  const load = async () => {
    try {
      await ask(taskPath(name, "/load"), { method: "POST" });
      again();
    } catch (refused) {
      const why = "Loading a task needs the admin key.";
      if (refused.status === 401 && (await askForKey(why, { again: false }))) await load();
      else put(said, refused.message);
    }
  };
  const said = h("p.problem", { role: "status" });
  return h(
    "div.notice.wait",
    { role: "alert" },
    h("p", {}, error.message),
    h("div.row", {}, button("Load it", load), button("Look again", again)),
    said,
  );
}

function show(place, signal, details, again) {
  const [attempt, call] = trial(details, signal);
  put(
    place,
    crumb(details.task),
    h(
      "div.title",
      {},
      h("h1", {}, details.task),
      h(
        "div.chips",
        {},
        state("serving", details.problem),
        details.masks !== "ready" && chip(details.masks, "wait"),
        chip(`version ${details.version}`),
        details.pinned && chip("pinned", "wait"),
        chip(kind(details.kind)),
        details.pair && details.kind !== "reranking" && chip("pairs of texts"),
        details.ensemble && chip(`ensemble of ${details.ensemble.members.length}`),
        details.signs && chip("signs of a finetuned copy"),
      ),
    ),
    details.problem && h("div.notice.wait", { role: "alert" }, h("p", {}, details.problem)),
    h(
      "div.columns",
      {},
      h("div.stack-large", {}, attempt, call),
      h("div.stack-large", {}, about(details), labels(details)),
    ),
    report(details),
    versions({ name: details.task, signal, changed: again }),
  );
}

function about(details) {
  const facts = [
    [
      "Dev metric",
      details.metric && `${details.metric.replaceAll("_", " ")} ${metric(details.metrics[details.metric])}`,
    ],
    ["Base", details.base],
    ["Made of", details.signs?.name],
    ["Learned", date(details.created)],
    ["In service since", date(details.loaded)],
    ["Longest input", `${count(details.max_length)} tokens`],
    ["Masks", bytes(details.mask_bytes)],
    ["Head", details.head_bytes > 0 && bytes(details.head_bytes)],
    ["Sparsity", details.sparsity !== null && percent(details.sparsity, 2)],
    ["Bits changed", details.flipped_share !== null && percent(details.flipped_share, 2)],
    ["Seed", details.seed],
    ["Precision", details.precision],
    ["Digest", h("code", { title: details.digest }, digest(details.digest))],
  ];
  const shown = facts.filter(
    ([, value]) => value !== null && value !== undefined && value !== false && value !== "",
  );
  return card(
    "About",
    h(
      "dl.facts",
      {},
      shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
    details.training && unfold("How it was learned", details.training),
    details.ensemble && members(details.ensemble),
  );
}

function unfold(title, values) {
  return h(
    "details.more",
    {},
    h("summary", {}, title),
    h(
      "dl.facts",
      {},
      Object.entries(values).map(([name, value]) =>
        h(
          "div",
          {},
          h("dt", {}, name.replaceAll("_", " ")),
          h("dd", {}, value === null ? NONE : String(value)),
        ),
      ),
    ),
  );
}

function members({ combine, members: every }) {
  return h(
    "details.more",
    {},
    h("summary", {}, `Members, combined by ${combine}`),
    h(
      "dl.facts",
      {},
      every.map((one) =>
        h("div", {}, h("dt", {}, `${one.task} v${one.version}`), h("dd", {}, `seed ${one.seed}`)),
      ),
    ),
  );
}

function labels(details) {
  if (!details.labels.length) return null;
  const rest = details.labels.slice(MOST_LABELS);
  const item = (label, index) =>
    h(
      "li",
      {},
      label,
      details.thresholds && h("span.muted", { title: "threshold" }, ` ≥ ${details.thresholds[index]}`),
    );
  return card(
    `Labels (${count(details.labels.length)})`,
    h("ul.labels", {}, details.labels.slice(0, MOST_LABELS).map(item)),
    rest.length > 0 &&
      h(
        "details.more",
        {},
        h("summary", {}, `${count(rest.length)} more`),
        h(
          "ul.labels",
          {},
          rest.map((label, index) => item(label, index + MOST_LABELS)),
        ),
      ),
  );
}
