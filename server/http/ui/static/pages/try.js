/**
 * A text to try on one task: the form of its kind, the answer, and the same request to copy.
 */

import { ask } from "../parts/api.js";
import { card, h, put } from "../parts/dom.js";
import { digits } from "../parts/format.js";
import { formOf } from "../parts/inputs.js";
import { resultOf } from "../parts/results.js";
import { snippets } from "../parts/snippets.js";
import { failure } from "../parts/states.js";

/** Return the cards for trying and for copying. */
export function trial(details, signal) {
  const form = formOf(details);
  const code = snippets();
  const answer = h("div.answer", { "aria-live": "polite" });
  const send = h("button.button.primary", { type: "submit" }, "Predict");
  const renew = () => {
    try {
      code.show(form.request());
    } catch {
      // not JSON yet
    }
  };
  const submit = async (event) => {
    event?.preventDefault();
    send.disabled = true;
    try {
      const { path, body } = form.request();
      const reply = await ask(path, { body, signal });
      put(answer, resultOf(details, await reply.json(), body), timing(reply.headers));
    } catch (error) {
      if (!signal.aborted) put(answer, failure(error));
    } finally {
      send.disabled = false;
    }
  };
  const keys = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element.requestSubmit();
  };
  const element = h(
    "form.stack",
    { on: { submit, input: renew, keydown: keys } },
    form.element,
    h("div.row", {}, send, h("span.muted.keys", {}, "or Ctrl Enter")),
  );
  renew();
  return [card("Try it", element, answer), card("Call it", code.element)];
}

/** Say what answered, and where the time went. */
function timing(headers) {
  const stage = (name) => headers.get(`x-${name}-time`);
  const facts = [
    `version ${headers.get("x-task-version")}`,
    headers.get("x-precision"),
    stage("total") && `${digits(Number(stage("total")))} ms`,
    headers.get("x-compute-tokens") && `${headers.get("x-compute-tokens")} tokens`,
  ];
  return h("p.muted.timing", {}, facts.filter(Boolean).join(" · "));
}
