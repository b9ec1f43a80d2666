/**
 * What a page shows before, instead of and beside its contents: loading, nothing, errors, states of tasks.
 */

import { ApiError } from "./api.js";
import { askForKey } from "./dialogs.js";
import { button, h } from "./dom.js";

/** Lines where text will be. */
export function loading(what) {
  return h(
    "div.skeleton",
    { role: "status" },
    h("span.hidden", {}, `Loading ${what}`),
    [70, 100, 92, 60].map((width) =>
      h("div.skeleton-line", { "aria-hidden": "true", vars: { "--width": `${width}%` } }),
    ),
  );
}

/** What to do where there is nothing. */
export function empty(title, ...text) {
  return h("div.empty", {}, h("p.empty-title", {}, title), h("p", {}, text));
}

/** Why something could not be shown, and what to do. */
export function failure(error, again = null) {
  if (error instanceof ApiError && error.status === 401) {
    return h(
      "div.empty",
      { role: "alert" },
      h("p.empty-title", {}, "This server asks for a key"),
      h("p", {}, "A client key shows tasks and lets you try them. The admin key also changes them."),
      button("Enter a key", () => askForKey(), { kind: "primary" }),
    );
  }
  return h(
    "div.notice.bad",
    { role: "alert" },
    h("p", {}, error.message),
    again && button("Try again", again),
  );
}

const TONES = { serving: "good", loading: "wait", failed: "bad", unloaded: "off" };

/** The state of a task: a dot and the word. */
export function state(name, problem = null) {
  const tone = problem && name === "serving" ? "wait" : (TONES[name] ?? "good");
  return h(`span.state.${tone}`, {}, h("span.dot", { "aria-hidden": "true" }), name);
}

/** A small word on a tint. */
export function chip(text, tone = "plain") {
  return h(`span.chip.${tone}`, {}, text);
}
