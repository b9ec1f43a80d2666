/**
 * The same request for a terminal and for Python, to copy.
 */

import { address, key } from "./api.js";
import { button, h, put } from "./dom.js";

const LANGUAGES = { curl, Python: python };
const KEY = "YOUR_KEY"; // the key itself is never shown

/** Return {element, show}: `show({path, body})` renews the commands. */
export function snippets() {
  const code = h("pre.code", { tabindex: "0" });
  const copied = h("span.muted", { role: "status" });
  let language = "curl";
  let request = null;
  const choose = h(
    "div.segments",
    { role: "group", "aria-label": "Language" },
    Object.keys(LANGUAGES).map((name) =>
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(name === language),
          on: {
            click: (event) => {
              language = name;
              for (const one of choose.children)
                one.setAttribute("aria-pressed", String(one === event.currentTarget));
              draw();
            },
          },
        },
        name,
      ),
    ),
  );
  const draw = () => request && put(code, LANGUAGES[language](request));
  const copy = async () => {
    put(copied, (await toClipboard(code)) ? "Copied" : "Selected: copy it with the keyboard");
    setTimeout(() => put(copied), 2000);
  };
  return {
    element: h(
      "div.stack",
      {},
      h("div.row", {}, choose, h("span.spacer", {}), copied, button("Copy", copy)),
      code,
    ),
    show: (wanted) => {
      request = wanted;
      draw();
    },
  };
}

async function toClipboard(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    // not over plain HTTP, or not allowed
    getSelection().selectAllChildren(element);
    return false;
  }
}

function curl({ path, body }) {
  const lines = [`curl ${quoted(address(path))}`, "-H 'Content-Type: application/json'"];
  if (key()) lines.push(`-H 'Authorization: Bearer ${KEY}'`);
  lines.push(`-d ${quoted(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}

function quoted(text) {
  return /^[\w:/.?=&%-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function python({ path, body }) {
  return [
    "import requests",
    "",
    "reply = requests.post(",
    `    ${literal(address(path))},`,
    `    json=${literal(body)},`,
    ...(key() ? [`    headers={"Authorization": "Bearer ${KEY}"},`] : []),
    "    timeout=30,",
    ")",
    "reply.raise_for_status()",
    "print(reply.json())",
  ].join("\n");
}

/** Return a value as Python writes it; a text of JSON is one of Python, too. */
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value)
      .map(([name, inner]) => `${JSON.stringify(name)}: ${literal(inner)}`)
      .join(", ")}}`;
  }
  return JSON.stringify(value);
}
