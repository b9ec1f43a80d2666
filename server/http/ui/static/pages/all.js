/**
 * Page that asks many tasks about one text; answers appear as they come.
 */

import { json, lines } from "../parts/api.js";
import { button, field, h, put } from "../parts/dom.js";
import { count, kind, plural } from "../parts/format.js";
import { bodyFor, textArea } from "../parts/inputs.js";
import { resultOf } from "../parts/results.js";
import { failure, loading, noTasks } from "../parts/states.js";

const MOST = 200; // tasks that are asked at once
const SHOWN = 3; // labels of each

/** Show the page; see main.js. */
export function all(place, signal) {
  const body = h("div.stack-large", {}, loading("tasks"));
  put(
    place,
    h("h1", {}, "Ask all tasks"),
    h("p.lead", {}, "One text for many tasks, in one request. Their rows share batches."),
    body,
  );
  const load = async () => {
    try {
      const found = await json("tasks", { signal });
      put(
        body,
        found.tasks.length ? form(found.tasks, signal) : noTasks(),
      );
    } catch (error) {
      if (!signal.aborted) put(body, failure(error, load));
    }
  };
  load();
}

function form(tasks, signal) {
  const text = textArea("Sofia Petrov never got her parcel, I want my money back", { required: true });
  const second = textArea("", { rows: 2 });
  const choices = textArea("", { rows: 3 });
  const filter = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const send = h("button.button.primary", { type: "submit" });
  const stop = button("Stop", () => asking?.abort(), { hidden: true });
  const left = h("p.muted", { role: "status" });
  const results = h("div.results", {});
  let asking = null;
  signal.addEventListener("abort", () => asking?.abort());
  const given = () => ({
    text: text.value,
    second: second.value.trim(),
    choices: choices.value.split("\n").filter((line) => line.trim()),
  });
  const asked = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const named = tasks.filter((task) =>
      words.every((word) => `${task.task} ${task.kind}`.toLowerCase().includes(word)),
    );
    const rows = named.map((task) => ({ task, body: bodyFor(task, given()) })).filter(({ body }) => body);
    return {
      rows: rows.slice(0, MOST),
      beyond: Math.max(0, rows.length - MOST),
      without: named.filter((task) => !rows.some((row) => row.task === task)),
    };
  };
  const renew = () => {
    const { rows, beyond, without } = asked();
    put(send, `Ask ${plural(rows.length, "task")}`);
    send.disabled = rows.length === 0;
    put(
      left,
      [
        beyond && `${count(beyond)} more than are asked at once; narrow the filter.`,
        without.length && `${plural(without.length, "task")} left out: ${needs(without)}.`,
      ]
        .filter(Boolean)
        .join(" "),
    );
  };
  const submit = async (event) => {
    event.preventDefault();
    asking?.abort();
    asking = new AbortController();
    send.disabled = true;
    stop.hidden = false;
    await answers(asked().rows, results, asking.signal);
    stop.hidden = true;
    renew();
  };
  renew();
  return [
    h(
      "form.card.stack",
      { on: { submit, input: renew } },
      field("Text", text),
      h(
        "details.more",
        {},
        h("summary", {}, "Second text, and choices"),
        h(
          "div.stack",
          {},
          field("Second text", second, "for tasks on pairs"),
          field("Choices", choices, "one a line, for multiple choice"),
        ),
      ),
      field("Tasks", filter, "a part of the name or kind; empty for all"),
      h("div.row", {}, send, stop, left),
    ),
    results,
  ];
}

/** Return what tasks need that are left out. */
function needs(tasks) {
  const named = {
    "multiple-choice": "multiple choice needs choices",
    embedding: "embeddings need texts to compare",
  };
  const missing = tasks.map(
    (task) => named[task.kind] ?? (task.pair ? "pairs need a second text" : "this page does not know the kind"),
  );
  return [...new Set(missing)].join(", ");
}

async function answers(rows, results, signal) {
  const cards = rows.map(({ task }) =>
    h(
      "article.result",
      { "aria-busy": "true" },
      h(
        "header",
        {},
        h("h2", {}, h("a", { href: `#/tasks/${encodeURIComponent(task.task)}` }, task.task)),
        h("span.sub", {}, kind(task.kind)),
      ),
      h("div.result-body", {}, h("div.skeleton-line", { "aria-hidden": "true", vars: { "--width": "80%" } })),
    ),
  );
  put(results, h("p.muted", { role: "status" }, "Asking ..."), h("div.result-grid", {}, cards));
  const began = performance.now();
  let done = 0;
  try {
    const inputs = rows.map(({ task, body }) => ({ task: task.task, ...body }));
    for await (const reply of lines("predict", { body: { inputs }, signal })) {
      const { task, body } = rows[reply.index];
      const shown = reply.error
        ? h("p.problem", {}, reply.error)
        : resultOf(task, reply.predictions, body, SHOWN);
      put(cards[reply.index].querySelector(".result-body"), shown);
      cards[reply.index].removeAttribute("aria-busy");
      done += 1;
    }
    put(
      results.firstChild,
      `${plural(done, "answer")} in ${count(Math.round(performance.now() - began))} ms, as this page saw it.`,
    );
  } catch (error) {
    if (error.name === "AbortError") put(results.firstChild, `Stopped after ${plural(done, "answer")}.`);
    else put(results, failure(error));
  }
}
