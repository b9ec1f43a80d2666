/**
 * Results of a task: for each kind what a reply looks like.
 */

import { bar } from "./charts.js";
import { h, table } from "./dom.js";
import { digits, percent } from "./format.js";

const SHOWN = 12;
const TINTS = 8;

const VIEWS = {
  "sequence-classification": scores,
  "multiple-choice": choices,
  "multi-label-classification": decisions,
  regression: values,
  reranking: ranks,
  embedding: similarities,
  "token-classification": entities,
};

/**
 * Return the view of a reply.
 * @param {object} task `kind`, and where they are known `labels` and `thresholds`.
 * @param {*} reply The JSON that the task's route answered.
 * @param {object} body What it was asked.
 * @param {number} most How many entries are shown at first.
 */
export function resultOf(task, reply, body, most = SHOWN) {
  const view = VIEWS[task.kind];
  return view
    ? view(reply, { task, body, most })
    : h("pre.code", { tabindex: "0" }, JSON.stringify(reply, null, 2));
}

/** Return text with the entities in it marked; their places count characters, not UTF-16 units. */
export function marked(text, found) {
  const characters = Array.from(text);
  const tints = tintsOf(found.map((entity) => entity.entity_group));
  const pieces = [];
  let end = 0;
  for (const entity of found) {
    pieces.push(characters.slice(end, entity.start).join(""));
    pieces.push(
      h(
        `mark.tint-${tints.get(entity.entity_group)}`,
        {},
        characters.slice(entity.start, entity.end).join(""),
        h("span.mark-label", {}, `\u00a0${entity.entity_group}`),
      ),
    );
    end = entity.end;
  }
  return h("p.marked", {}, pieces, characters.slice(end).join(""));
}

function tintsOf(names) {
  return new Map([...new Set(names)].map((name, index) => [name, index % TINTS]));
}

function scores(reply, { most }) {
  return bars(
    reply.map(({ label, score }) => ({ name: label, share: score, value: percent(score) })),
    most,
  );
}

function choices(reply, { most }) {
  return bars(
    reply.map(({ text, score }) => ({ name: text, share: score, value: percent(score) })),
    most,
  );
}

function decisions(reply, { task, most }) {
  const known = Array.isArray(task.labels);
  const threshold = (label) => (known ? (task.thresholds?.[task.labels.indexOf(label)] ?? 0.5) : null);
  const shown = bars(
    reply.map(({ label, score, predicted }) => ({
      name: label,
      share: score,
      value: percent(score),
      mark: threshold(label),
      given: predicted,
    })),
    most,
  );
  return [shown, known && note("A label is given from its threshold on, the upright mark.")];
}

function ranks(reply, { most }) {
  return bars(
    reply.map(({ text, label, score }) => ({ name: text ?? label, share: score, value: digits(score) })),
    most,
  );
}

function similarities(reply, { body, most }) {
  const found = reply.map((cosine, index) => ({
    name: body.inputs.sentences[index],
    share: cosine,
    value: cosine.toFixed(3),
  }));
  const shown = bars(
    found.sort((a, b) => b.share - a.share),
    most,
  );
  return [shown, note("Cosine of the two vectors: 1 for the same direction, 0 for nothing in common.")];
}

function values(reply) {
  return h(
    "dl.values",
    {},
    reply.map(({ label, score }) => h("div", {}, h("dt", {}, label), h("dd", {}, digits(score, 4)))),
  );
}

function entities(reply, { body, most }) {
  const rows = reply
    .slice(0, most)
    .map(({ entity_group: group, word, score }) => [word, group, percent(score)]);
  const columns = [{ title: "Text" }, { title: "Label" }, { title: "Score", number: true }];
  return h(
    "div.stack",
    {},
    marked(body.inputs, reply),
    reply.length
      ? most === SHOWN && table({ caption: "Entities", columns, rows, name: "plain" })
      : h("p.muted", {}, "Nothing was found in this text."),
  );
}

/** Names with bars, the first one stressed; what is beyond `most` can be unfolded. */
function bars(entries, most) {
  const item = ({ name, share, value, mark = null, given = null }, index) =>
    h(
      `li${isStressed(given, index) ? ".best" : ""}`,
      {},
      h(
        "span.bar-name",
        {},
        name,
        given &&
          h("span.given", {}, h("span", { "aria-hidden": "true" }, "✓"), h("span.hidden", {}, " given")),
      ),
      h("span.bar-value", {}, value),
      bar(share, { mark }),
    );
  const rest = entries.slice(most);
  return h(
    "div",
    {},
    h("ol.bars", {}, entries.slice(0, most).map(item)),
    rest.length > 0 &&
      h(
        "details.more",
        {},
        h("summary", {}, `${rest.length} more`),
        h(
          "ol.bars",
          { start: most + 1 },
          rest.map((entry, index) => item(entry, index + most)),
        ),
      ),
  );
}

function note(text) {
  return h("p.muted.note", {}, text);
}

function isStressed(given, index) {
  return given === null ? index === 0 : given;
}
