/**
 * Page of the memory: one base and slivers of masks beside the bars of as many finetuned copies.
 */

import { json } from "../parts/api.js";
import { memoryPicture, versionsOf } from "../parts/charts.js";
import { button, card, h, put, renew, table } from "../parts/dom.js";
import { NONE, bytes, count, digits, plural } from "../parts/format.js";
import { repeat } from "../parts/refresh.js";
import { TRIES_AGAIN, failure, loading, noTasks } from "../parts/states.js";
import { tile } from "./tasks.js";

const PAUSE = 5000; // milliseconds
const STEP = 50; // rows that are shown at once

const COLUMNS = [
  { title: "Task" },
  { title: "Masks", number: true },
  { title: "Head and signs", number: true },
  { title: "Held", number: true },
  { title: "Finetuned copy", number: true },
  { title: "Smaller by", number: true },
];

/** Show the page; see main.js. */
export function memory(place, signal) {
  let most = STEP;
  const body = h("div.stack-large", {}, loading("the memory"));
  put(
    place,
    h("h1", {}, "Memory"),
    h(
      "p.lead",
      {},
      "All tasks share one frozen encoder. A task adds one bit for each masked weight and a small head.",
    ),
    body,
  );
  const draw = (report) =>
    renew(
      body,
      picture(report),
      listed(report, most, () => {
        most += STEP;
        draw(report);
      }),
    );
  repeat(async () => draw(await json("memory", { signal })), {
    signal,
    pause: PAUSE,
    failed: (error) => put(body, failure(error, null, TRIES_AGAIN)),
  });
}

function picture(report) {
  const { finetuned, base, total } = report;
  if (!finetuned.copies)
    return noTasks(`The base ${base.name} takes ${bytes(base.resident_bytes)}. `);
  const ready = Object.values(report.tasks).filter((task) => task.masks === "ready").length;
  const held = versionsOf(report).filter((version) => version.masks === "ready").length;
  const each = (total.resident_bytes - base.resident_bytes) / Math.max(1, held);
  const tasks = Object.keys(report.tasks).length;
  return h(
    "div.stack-large",
    {},
    card("To scale", memoryPicture(report)),
    h(
      "div.tiles",
      {},
      tile("Copies in fp32", `${digits(finetuned.ratio, 3)} ×`, "of what is held here"),
      report.precision !== "fp32" &&
        tile(
          `Copies in ${report.precision}`,
          `${digits(finetuned.ratio_in_precision, 3)} ×`,
          "of what is held here",
        ),
      tile("A further task", bytes(each), `a finetuned copy: ${bytes(base.parameters * 4)}`),
      tile(
        "Whole process",
        report.process_bytes === null ? NONE : bytes(report.process_bytes),
        "with interpreter, libraries, work space",
      ),
      ready < tasks && tile("Masks in memory", count(ready), `of ${plural(tasks, "task")}, the last used`),
    ),
  );
}

function listed(report, most, more) {
  const versions = versionsOf(report).sort((a, b) => b.resident_bytes - a.resident_bytes);
  if (!versions.length) return null;
  const rows = versions
    .slice(0, most)
    .map((held) => [
      h(
        "span.task-name",
        {},
        h("a.row-link", { href: `#/tasks/${encodeURIComponent(held.task)}` }, held.task),
        held.shared && h("span.sub", {}, `version ${held.version}`),
        held.members > 1 && h("span.sub", {}, `${held.members} masks together`),
        held.masks !== "ready" && h("span.sub", {}, held.masks),
      ),
      bytes(held.packed_mask_bytes),
      bytes(held.head_bytes + held.sign_bytes),
      bytes(held.resident_bytes),
      bytes(held.finetuned_bytes),
      held.resident_bytes ? `${digits(held.finetuned_bytes / held.resident_bytes, 3)} ×` : NONE,
    ]);
  return card(
    "By task",
    table({ caption: "Bytes of each task", name: "tasks", columns: COLUMNS, rows }),
    versions.length > most && button(`Show ${Math.min(STEP, versions.length - most)} more`, more),
  );
}
