/**
 * Inputs of a task: for each kind the fields of a form, and the request that they make.
 *
 * A form is {element, request}: `request()` returns {path, body}.
 */

import { button, field, h } from "./dom.js";

const FEWEST_CHOICES = 2;

const FORMS = {
  "sequence-classification": texts,
  "multi-label-classification": texts,
  regression: texts,
  "token-classification": words,
  "multiple-choice": choices,
  reranking: documents,
  embedding: sentences,
};

/** Return the form of a task; of a kind that this page does not know, a field for the whole body. */
export function formOf(details) {
  return (FORMS[details.kind] ?? anything)(details);
}

/** Return the body that asks a task about one text, cut where it is too long; null where more is needed. */
export function bodyFor(task, { text, second, choices: given }) {
  switch (task.kind) {
    case "token-classification":
      return { inputs: text, parameters: {} };
    case "multiple-choice":
      return given.length < FEWEST_CHOICES ? null : { context: text, choices: given, truncate: true };
    case "embedding":
      return null;
    default:
      if (!(task.kind in FORMS)) return null;
      if (task.pair) return second ? { inputs: [text, second], truncate: true } : null;
      return { inputs: text, truncate: true };
  }
}

/** A field for running text. */
export function textArea(value, { rows = 3, ...props } = {}) {
  const area = h("textarea", { rows, spellcheck: "false", ...props });
  area.value = value;
  return area;
}

function predict(details, body) {
  return { path: `predict/${encodeURIComponent(details.task)}`, body };
}

function texts(details) {
  const given = details.example.inputs;
  if (!details.pair) {
    const text = textArea(typeof given === "string" ? given : "", { required: true });
    return { element: field("Text", text), request: () => predict(details, { inputs: text.value }) };
  }
  const [first, second] = given.map((part) => textArea(part, { rows: 2, required: true }));
  return {
    element: h("div.stack", {}, field("First text", first), field("Second text", second)),
    request: () => predict(details, { inputs: [first.value, second.value] }),
  };
}

function words(details) {
  const text = textArea((details.example.tokens ?? []).join(" "), { required: true });
  return {
    element: field("Text", text),
    request: () => predict(details, { inputs: text.value, parameters: {} }),
  };
}

function choices(details) {
  const context = textArea(details.example.context ?? "", { rows: 2, required: true });
  const list = lineFields("Choice", details.example.choices ?? ["", ""], FEWEST_CHOICES);
  return {
    element: h("div.stack", {}, field("Context", context), list.element),
    request: () => predict(details, { context: context.value, choices: list.values() }),
  };
}

function documents(details) {
  const [query, first] = details.example.inputs;
  const area = textArea(query, { rows: 2, required: true });
  const list = lineFields("Document", [first, ""], 1);
  return {
    element: h("div.stack", {}, field("Query", area), list.element),
    request: () => ({
      path: `predict/${encodeURIComponent(details.task)}/rerank`,
      body: { query: area.value, texts: list.values().filter(Boolean), return_text: true },
    }),
  };
}

function sentences(details) {
  const source = textArea(details.example.inputs, { rows: 2, required: true });
  const list = lineFields("Sentence", ["Please give me a refund.", "The film was too long."], 1);
  return {
    element: h("div.stack", {}, field("Text", source), list.element),
    request: () => ({
      path: `predict/${encodeURIComponent(details.task)}/similarity`,
      body: { inputs: { source_sentence: source.value, sentences: list.values().filter(Boolean) } },
    }),
  };
}

function anything(details) {
  const area = textArea(JSON.stringify(details.example, null, 2), { rows: 8, required: true });
  area.classList.add("code");
  return {
    element: field(`Body of POST /predict/${details.task}`, area, "JSON"),
    request: () => {
      try {
        return predict(details, JSON.parse(area.value));
      } catch (error) {
        throw new Error(`This is not JSON: ${error.message}`);
      }
    },
  };
}

/** Any number of one-line fields, that can be added and taken away. */
function lineFields(name, given, fewest) {
  const list = h("ol.lines", {});
  const inputs = () => [...list.querySelectorAll("input")];
  const number = () => {
    [...list.children].forEach((item, index) => {
      const input = item.querySelector("input");
      input.setAttribute("aria-label", `${name} ${index + 1}`);
      input.required = index === 0;
      const remove = item.querySelector("button");
      remove.setAttribute("aria-label", `Remove ${name.toLowerCase()} ${index + 1}`);
      remove.disabled = list.children.length <= fewest;
    });
  };
  const add = (value) => {
    const input = h("input", { type: "text", spellcheck: "false", autocomplete: "off" });
    input.value = value;
    const item = h(
      "li",
      {},
      input,
      button(
        "×",
        () => {
          item.remove();
          number();
          inputs()[0].focus();
          list.dispatchEvent(new Event("input", { bubbles: true }));
        },
        { kind: "quiet" },
      ),
    );
    list.append(item);
    number();
    return input;
  };
  given.forEach(add);
  return {
    element: h(
      "fieldset.lines-group",
      {},
      h("legend", {}, `${name}s`),
      list,
      button(`Add a ${name.toLowerCase()}`, () => add("").focus(), { kind: "quiet" }),
    ),
    values: () => inputs().map((input) => input.value),
  };
}
