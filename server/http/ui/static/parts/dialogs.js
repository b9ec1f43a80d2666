/**
 * Dialogs: for the key, and before something is changed.
 */

import { keep, key } from "./api.js";
import { button, field, h } from "./dom.js";

/**
 * Ask for the key.
 * @param {string} why What needs it.
 * @param {object} options `again`: whether the page is to be shown again with it; not where an action goes on.
 * @returns {Promise<boolean>} Whether the user gave one.
 */
export function askForKey(why = "Every request to this server carries it.", { again = true } = {}) {
  const input = h("input", {
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "none",
    required: true,
    pattern: "[ -~]+",
    title: "printable ASCII",
  });
  const forget = key()
    ? button(
        "Forget the key",
        () => {
          keep("");
          forget.closest("dialog").close("no");
        },
        { kind: "quiet" },
      )
    : null;
  return open({
    title: "Key of this server",
    content: [
      h("p", {}, why, " It is kept in this tab alone, until the tab is closed."),
      field("Client key or admin key", input),
    ],
    confirm: "Use this key",
    left: forget,
    accept: () => keep(input.value.trim(), { again }),
  });
}

/** Ask whether to do something; resolves to the answer. */
export function confirm({ title, text, action, tone = "primary" }) {
  return open({ title, content: h("p", {}, text), confirm: action, tone });
}

/**
 * Ask for the share of the requests that a version is to get.
 * @returns {Promise<?{share: number, shadow: boolean}>} null if the user gave none.
 */
export async function askForShare({ title, text }) {
  const share = h("input", { type: "number", min: 0, max: 100, step: "any", value: 10, required: true });
  const shadow = h("input", { type: "checkbox", checked: true });
  const agreed = await open({
    title,
    content: [
      h("p", {}, text),
      field("Per cent of the requests", share, "0: only those that name the version"),
      h("label.row", {}, shadow, "Compare it with the other version (shadow)"),
    ],
    confirm: "Share requests",
  });
  return agreed ? { share: share.valueAsNumber, shadow: shadow.checked } : null;
}

function open({ title, content, confirm: label, tone = "primary", left = null, accept = () => {} }) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" });
    const submit = (event) => {
      event.preventDefault();
      dialog.close("yes");
    };
    dialog.append(
      h(
        "form",
        { on: { submit } },
        h("h2", { id: "dialog-title" }, title),
        content,
        h(
          "div.row.end",
          {},
          left,
          button("Cancel", () => dialog.close("no")),
          h(`button.button.${tone}`, { type: "submit" }, label),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      const agreed = dialog.returnValue === "yes";
      if (agreed) accept();
      resolve(agreed);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
