/**
 * Page of all tasks: how many, how busy, how large, and a list to search and sort.
 */

import { json } from "../parts/api.js";
import { button, h, put, renew, say, table } from "../parts/dom.js";
import { NONE, bytes, count, digits, kind, metric, milliseconds, plural, rate } from "../parts/format.js";
import { repeat } from "../parts/refresh.js";
import { TRIES_AGAIN, empty, failure, loading, state } from "../parts/states.js";

const PAUSE = 3000; // milliseconds
const STEP = 100; // rows that are shown at once
const TILES = ["Tasks in service", "Requests per second", "Held in memory", "As finetuned copies"];

const COLUMNS = [
  { title: "Task", of: (task) => task.task, up: true },
  {
    title: "State",
    name: "state-cell",
    of: (task) => (task.state === "serving" && !task.problem ? 1 : 0),
    up: true,
  },
  { title: "Version", of: (task) => task.version ?? 0, number: true },
  { title: "Dev metric", of: (task) => task.metric_value ?? -Infinity, number: true },
  { title: "Bytes", of: (task) => task.bytes ?? 0, number: true },
  { title: "Requests/s", of: (task) => task.requests_per_second ?? 0, number: true },
  { title: "p95", of: (task) => task.p95_ms ?? 0, number: true },
];

/** Show the page; see main.js. */
export function tasks(place, signal) {
  const view = { column: 0, up: true, most: STEP, found: null, text: "", held: "", memory: null };
  const tiles = h("div.tiles", {}, TILES.map(blank));
  const search = h("input", {
    type: "search",
    id: "search",
    placeholder: "Filter by name, kind or state",
    "aria-label": "Filter tasks",
    autocomplete: "off",
    spellcheck: "false",
  });
  const counted = h("p.muted", { role: "status" });
  const list = h("div.list", {}, loading("tasks"));
  const draw = () => drawList(view, search.value, list, counted, draw);
  search.addEventListener("input", () => {
    view.most = STEP;
    draw();
  });
  const toolbar = h("div.toolbar", {}, search, counted);
  put(place, h("h1", {}, "Tasks"), tiles, toolbar, list);
  repeat(
    async () => {
      const found = await json("tasks", { signal });
      const held = JSON.stringify(found.tasks.map(({ task, bytes: own }) => [task, own]));
      if (held !== view.held) Object.assign(view, { held, memory: await json("memory", { signal }) });
      const text = JSON.stringify(found);
      if (text !== view.text) Object.assign(view, { found, text });
      counted.classList.remove("problem");
      drawTiles(view, tiles);
      toolbar.hidden = !found.tasks.length && !found.not_served.length;
      if (view.found === found) draw(); // else a text that is being marked would be lost
    },
    {
      signal,
      pause: PAUSE,
      failed: (error) => {
        view.text = ""; // all is drawn anew once there is an answer
        if (view.found === null || error.status === 401) {
          put(list, failure(error, null, TRIES_AGAIN));
          put(tiles).hidden = toolbar.hidden = true;
        } else {
          say(counted, `${error.message} Below is what it said last.`);
          counted.classList.add("problem");
        }
      },
    },
  );
}

function drawTiles({ found, memory }, tiles) {
  const perSecond = found.tasks.reduce((sum, task) => sum + task.requests_per_second, 0);
  const { ratio, ratio_in_precision: near } = memory.finetuned;
  const [served, requests, held, copies] = TILES;
  tiles.hidden = false;
  put(
    tiles,
    tile(served, count(found.tasks.length), ...health(found)),
    tile(requests, digits(perSecond), "in the last half minute"),
    tile(
      held,
      bytes(memory.total.resident_bytes),
      `base ${bytes(memory.base.resident_bytes)}, ${memory.precision}`,
    ),
    tile(
      copies,
      ratio === null ? NONE : `${digits(ratio, 3)} ×`,
      ratio === null
        ? "no tasks yet"
        : near === ratio
          ? "of this memory"
          : `of this memory; in ${memory.precision} ${digits(near, 3)} ×`,
    ),
  );
}

/** Return what is said of the tasks that are not as they should be, and its tone. */
function health({ tasks: served, not_served: others }) {
  const those = (name) => others.filter((task) => task.state === name).length;
  const broken = served.filter((task) => task.problem).length + those("failed");
  if (broken) return [`${plural(broken, "task")} with a problem`, "bad"];
  const states = [...new Set(others.map((task) => task.state))];
  const told = states.map((name) => `${count(those(name))} ${name}`).join(", ");
  return [told || (served.length ? "no problem" : "none yet")];
}

/** A tile before its number is known. */
function blank(name) {
  return h("div.tile.blank", {}, h("p.tile-name", {}, name), h("p.tile-value", {}), h("p.tile-remark", {}));
}

/** A number with a name above and a remark below. */
export function tile(name, value, remark, tone = "") {
  return h(
    `div.tile${tone && `.${tone}`}`,
    {},
    h("p.tile-name", {}, name),
    h("p.tile-value", {}, value),
    h("p.tile-remark", {}, remark),
  );
}

function drawList(view, wanted, list, counted, draw) {
  if (view.found === null) return;
  const every = [...view.found.tasks, ...view.found.not_served];
  if (!every.length) {
    put(
      list,
      empty(
        "No task yet",
        "The store is empty. A task that is learned with ",
        h("code", {}, "maskserve learn"),
        " or uploaded appears here by itself.",
      ),
    );
    return;
  }
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const matching = every.filter((task) => words.every((word) => searched(task).includes(word)));
  const { of } = COLUMNS[view.column];
  matching.sort((a, b) => compare(of(a), of(b)) * (view.up ? 1 : -1) || compare(a.task, b.task));
  say(
    counted,
    matching.length === every.length
      ? plural(every.length, "task")
      : `${count(matching.length)} of ${plural(every.length, "task")}`,
  );
  renew(
    list,
    matching.length
      ? table({
          caption: "Tasks",
          name: "tasks",
          columns: COLUMNS.map((column, index) => heading(column, index, view, draw)),
          rows: matching.slice(0, view.most).map(row),
        })
      : empty("Nothing matches", `No task has “${wanted}” in its name, kind or state.`),
    matching.length > view.most &&
      button(`Show ${Math.min(STEP, matching.length - view.most)} more`, () => {
        view.most += STEP;
        draw();
      }),
  );
}

function searched(task) {
  return `${task.task} ${task.kind ?? ""} ${task.state} ${task.masks ?? ""} ${task.problem ? "problem" : ""}`.toLowerCase();
}

function compare(a, b) {
  return typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
}

function heading(column, index, view, draw) {
  const chosen = view.column === index;
  const press = () => {
    view.up = chosen ? !view.up : (column.up ?? false);
    view.column = index;
    draw();
  };
  const sort = chosen ? (view.up ? "ascending" : "descending") : "none";
  return {
    ...column,
    sort,
    head: h("button.sort", { type: "button", "data-column": index, on: { click: press } }, column.title),
  };
}

function row(task) {
  const name = h(
    "span.task-name",
    {},
    h("a.row-link", { href: `#/tasks/${encodeURIComponent(task.task)}` }, task.task),
    task.kind &&
      h("span.sub", {}, kind(task.kind) + (task.pair && task.kind !== "reranking" ? ", pairs" : "")),
    task.state === "unloaded"
      ? h("span.sub", {}, "out of service until it is loaded on its page")
      : task.problem && h("span.sub.problem", {}, task.problem),
  );
  return [
    name,
    h(
      "span",
      {},
      state(task.state, task.problem),
      task.masks && task.masks !== "ready" && h("span.sub", {}, task.masks),
    ),
    h("span", {}, task.version ? `v${task.version}` : NONE, task.pinned ? h("span.sub", {}, "pinned") : null),
    h(
      "span",
      {},
      metric(task.metric_value),
      task.metric && h("span.sub", {}, task.metric.replaceAll("_", " ")),
    ),
    task.bytes === undefined ? NONE : bytes(task.bytes),
    rate(task.requests_per_second),
    milliseconds(task.p95_ms),
  ];
}
