/**
 * The traffic of a task: versions side by side with their shares and how a shadow agrees; it is set, promoted
 * and aborted with the admin key.
 */

import { askForShare, confirm } from "../parts/dialogs.js";
import { button, h } from "../parts/dom.js";
import { count, digits, metric, plural } from "../parts/format.js";
import { chip } from "../parts/states.js";

const WHOLE = 100;

/** Return what is to be said about the traffic; null if there is none. */
export function traffic(found, act) {
  const told = found.traffic;
  if (!told) return null;
  if (!told.active) {
    return h("div.notice.wait", {}, h("p", {}, `Traffic was aborted: ${told.aborted.reason}`));
  }
  return h(
    "div.traffic",
    { role: "group", "aria-label": "Traffic" },
    h("h3", {}, "Requests are shared"),
    shares(told).map((line) => h("p", {}, line)),
    !told.followed && h("p.problem", {}, "This server does not follow it."),
    told.shadow && h("p", {}, agreement(told)),
    told.versions.map(
      (one) => one.problem && h("p.problem", {}, `Version ${one.version} is not served here: ${one.problem}`),
    ),
    told.abort && h("p.muted", {}, rule(told.abort)),
    h(
      "div.actions",
      {},
      told.versions
        .filter((one) => one.version !== told.stable)
        .map((one) => button(`Promote v${one.version}`, () => promote(one.version, act))),
      button("Abort", () => abort(told.stable, act)),
    ),
  );
}

/** Return the chips of a version in a list. */
export function roles(found, number) {
  const told = found.traffic;
  if (!told?.active) return [];
  const one = told.versions.find((candidate) => candidate.version === number);
  const shadow = told.shadow?.version === number;
  return [
    one && (one.weight || !shadow) && chip(one.weight ? weight(one) : "by name", "wait"),
    shadow && chip("shadow", "wait"),
  ];
}

/** Return the button that gives a version a share of the requests; null where that makes no sense. */
export function sharing(found, number, act) {
  const stable = found.traffic?.active ? found.traffic.stable : found.served;
  if (stable === null || number === stable || found.pinned !== null) return null;
  const give = async () => {
    const chosen = await askForShare({
      title: `Requests for version ${number}`,
      text: `Version ${stable} gets the others. Every server that follows the store does so, until a version is promoted or it is aborted.`,
    });
    if (!chosen) return;
    const weights = { [stable]: WHOLE - chosen.share, [number]: chosen.share };
    const plan = chosen.shadow ? { weights, stable, shadow: number } : { weights, stable };
    await act("/traffic", plan, "PUT");
  };
  return button("Share", give, { "aria-label": `Give version ${number} a share of the requests` });
}

function shares({ versions, shadow }) {
  return versions
    .filter((one) => one.weight || one.version !== shadow?.version)
    .map((one) => {
      const gets = one.weight ? `gets ${weight(one)}` : "answers by name";
      const failed = one.failed_rows ? `, ${count(one.failed_rows)} failed` : "";
      return `Version ${one.version} ${gets} (${plural(one.rows, "input")} here${failed})`;
    });
}

/** Return a weight, which is one in per cent, without zeros at its end. */
function weight(one) {
  return `${Number(one.weight.toPrecision(3))} %`;
}

/** Return a share of one in per cent, without zeros at its end. */
function share(value) {
  return `${digits(value * WHOLE, 4)} %`;
}

function agreement({ shadow, stable }) {
  const name = `Version ${shadow.version} as a shadow of version ${stable}`;
  if (!shadow.rows) return `${name}: nothing was compared yet.`;
  const agrees = shadow.agreement === null ? "" : ` agrees on ${share(shadow.agreement)} of`;
  return `${name}${agrees} ${plural(shadow.rows, "input")}; scores differ by ${metric(shadow.difference)}.`;
}

function rule({ agreement: least, errors, rows }) {
  const bounds = [
    least !== null && `agreement below ${share(least)}`,
    errors !== null && `failures above ${share(errors)}`,
  ];
  return `A server aborts it at ${bounds.filter(Boolean).join(" or ")}, judged after ${plural(rows, "input")}.`;
}

async function promote(number, act) {
  const agreed = await confirm({
    title: `Promote version ${number}?`,
    text: "The store calls it current from now on, and every server that follows the store serves it alone.",
    action: `Promote version ${number}`,
  });
  if (agreed) await act("/traffic/promote", { version: number });
}

async function abort(stable, act) {
  const agreed = await confirm({
    title: "Abort?",
    text: `Every server that follows the store serves version ${stable} alone.`,
    action: `Return to version ${stable}`,
  });
  if (agreed) await act("/traffic/abort", { reason: "by an operator, in the console" });
}
