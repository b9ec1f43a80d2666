/**
 * The versions of a task: which is served, what changed, and with the admin key another one in its place.
 */

import { ask, json, taskPath } from "../parts/api.js";
import { askForKey, confirm } from "../parts/dialogs.js";
import { bar } from "../parts/charts.js";
import { button, card, h, put, table } from "../parts/dom.js";
import { NONE, bytes, count, date, digest, metric, percent } from "../parts/format.js";
import { chip, failure, loading } from "../parts/states.js";
import { roles, sharing, traffic } from "./traffic.js";

const MOST_ROWS = 50;

const COLUMNS = [
  { title: "Version", number: false },
  { title: "Published" },
  { title: "File", number: true },
  { title: "Digest" },
  { title: "Change" },
];
const LAYER_COLUMNS = [
  { title: "Layer" },
  { title: "Bits", number: true },
  { title: "Differing", number: true },
  { title: "Share", number: true },
];

/** Return the card; `changed` is called once another version is served. */
export function versions({ name, signal, changed }) {
  const body = h("div.stack", {}, loading("versions"));
  const said = h("p.problem", { role: "status" });
  const compared = h("div.compared", { "aria-live": "polite" });
  const act = async (path, given, method = "POST") => {
    try {
      await ask(taskPath(name, path), { body: given, method });
      changed();
    } catch (error) {
      if (error.status === 401) {
        const why = "Changing what is served needs the admin key.";
        if (await askForKey(why, { again: false })) await act(path, given, method);
      } else put(said, error.message);
    }
  };
  const compare = async (a, b) => {
    put(compared, loading("what changed"));
    try {
      put(compared, difference(await json(taskPath(name, `/versions/${a}/diff?to=${b}`), { signal })));
    } catch (error) {
      if (!signal.aborted) put(compared, failure(error));
    }
  };
  const load = async () => {
    try {
      put(body, listed(await json(taskPath(name, "/versions"), { signal }), { act, compare }));
    } catch (error) {
      if (!signal.aborted) put(body, failure(error, load));
    }
  };
  load();
  return card("Versions", body, said, compared);
}

function listed(found, { act, compare }) {
  const newest = [...found.versions].reverse();
  const rows = newest.slice(0, MOST_ROWS).map((version) => row(version, found, { act, compare }));
  return [
    found.pinned !== null &&
      h(
        "div.notice.wait",
        {},
        h("p", {}, `Pinned to version ${found.pinned}, whatever is current.`),
        button("Unpin", () => act("/pin", { version: null })),
      ),
    traffic(found, act),
    table({ caption: "Versions", columns: COLUMNS, rows, name: "versions" }),
    newest.length > MOST_ROWS &&
      h("p.muted", {}, `The newest ${MOST_ROWS} of ${count(newest.length)} are shown.`),
    found.problems.map((problem) => h("p.problem", {}, problem)),
  ];
}

function row(version, found, { act, compare }) {
  const number = version.version;
  const served = number === found.served;
  const pin = async () =>
    (await confirm({
      title: `Pin the task to version ${number}?`,
      text: "Every server of this store serves it, whatever is current, until it is unpinned. A restart changes nothing.",
      action: `Pin to version ${number}`,
    })) && act("/pin", { version: number });
  const rollback = async () =>
    (await confirm({
      title: `Make version ${number} current?`,
      text: "The store calls it current from now on, and every server that follows the store serves it.",
      action: `Make version ${number} current`,
    })) && act("/rollback", { version: number });
  return [
    h(
      "span.version",
      {},
      h("strong", {}, `v${number}`),
      served && chip("served", "good"),
      number === found.current && chip("current"),
      number === found.pinned && chip("pinned", "wait"),
      roles(found, number),
    ),
    date(version.published),
    bytes(version.bytes),
    h("code", { title: version.digest }, digest(version.digest)),
    h(
      "div.actions",
      {},
      !served &&
        found.served !== null &&
        button("Compare", () => compare(found.served, number), {
          "aria-label": `Compare version ${number} with the served one`,
        }),
      !(served && found.pinned === number) &&
        button("Pin", pin, { "aria-label": `Pin the task to version ${number}` }),
      number !== found.current &&
        button("Make current", rollback, {
          disabled: found.pinned !== null || Boolean(found.traffic?.active),
          "aria-label": `Make version ${number} current`,
        }),
      sharing(found, number, act),
    ),
  ];
}

function difference(found) {
  const [a, b] = found.versions;
  const facts = [
    [found.same_base, "base"],
    [found.same_labels, "labels"],
    [found.same_head, "head"],
  ].map(([same, what]) => chip(`${same ? "same" : "another"} ${what}`, same ? "plain" : "wait"));
  const most = Math.max(...found.layers.map((layer) => (layer.differing ?? 0) / layer.bits), 1e-9);
  return h(
    "div.difference.stack",
    {},
    h("h3", {}, `Version ${a} against version ${b}`),
    h(
      "p",
      {},
      h("strong", {}, count(found.differing)),
      ` of ${count(found.bits)} bits differ`,
      found.bits ? ` (${percent(found.differing / found.bits, 2)})` : "",
      ".",
    ),
    h("div.chips", {}, facts),
    h(
      "dl.facts",
      {},
      Object.entries(found.metrics).map(([name, [first, second]]) =>
        h(
          "div",
          {},
          h("dt", {}, name.replaceAll("_", " ")),
          h("dd", {}, `${metric(first)} → ${metric(second)}`),
        ),
      ),
    ),
    h(
      "details.more",
      {},
      h("summary", {}, `${count(found.layers.length)} layers`),
      table({
        caption: "Bits that differ by layer",
        columns: LAYER_COLUMNS,
        name: "plain",
        rows: found.layers.map((layer) => [
          h("code", {}, layer.name),
          count(layer.bits),
          layer.differing === null ? NONE : count(layer.differing),
          layer.differing === null
            ? NONE
            : h(
                "span.share",
                {},
                percent(layer.differing / layer.bits, 2),
                bar(layer.differing / layer.bits / most),
              ),
        ]),
      }),
    ),
  );
}
