/**
 * What a page shows before, instead of and beside its contents: loading, nothing, errors, states of tasks.
 */

import { ApiError, key } from "./api.js";
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

/** What is shown of a server without tasks; `text` says what else is known. */
export function noTasks(...text) {
  const list = h("a", { href: "#/" }, "Tasks");
  return empty("No task is served", text, list, " shows what the store has, and how to add one.");
}

/** What is said of work that is done again by itself; see `repeat`. */
export const TRIES_AGAIN = "This page tries again by itself.";

/**
 * Why something could not be shown, and what to do.
 * @param {Error} error Of a route; a missing key is asked for.
 * @param {?Function} again What a button does; none for null.
 * @param {?string} remark A sentence below the reason.
 */
export function failure(error, again = null, remark = null) {
  if (error instanceof ApiError && error.status === 401) {
    return h(
      "div.empty",
      { role: "alert" },
      h("p.empty-title", {}, key() ? "The server does not take this key" : "This server asks for a key"),
      h("p", {}, "A client key shows tasks and lets you try them. The admin key also changes them."),
      button(key() ? "Enter another key" : "Enter a key", () => askForKey(), { kind: "primary" }),
    );
  }
  return h(
    "div.notice.bad",
    { role: "alert" },
    h("div", {}, h("p", {}, error.message), remark && h("p", {}, remark)),
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
