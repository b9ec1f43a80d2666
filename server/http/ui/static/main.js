/**
 * The console: which page is shown, and what stands above all of them.
 *
 * The page is chosen by what follows the # of the address, so the server knows one page only. Every page is a
 * function that fills the main part and stops its work when the signal that it gets aborts.
 */

import { all } from "./pages/all.js";
import { live } from "./pages/live.js";
import { memory } from "./pages/memory.js";
import { task } from "./pages/task.js";
import { tasks } from "./pages/tasks.js";
import { ask, key } from "./parts/api.js";
import { askForKey } from "./parts/dialogs.js";
import { h, put, say } from "./parts/dom.js";
import { repeat } from "./parts/refresh.js";
import { empty } from "./parts/states.js";

const ROUTES = [
  [/^\/?$/, "tasks", "Tasks", tasks],
  [/^\/tasks\/([^/]+)$/, "tasks", "Task", task],
  [/^\/memory$/, "memory", "Memory", memory],
  [/^\/all$/, "all", "Ask all tasks", all],
  [/^\/live$/, "live", "Live", live],
];
const THEMES = ["system", "light", "dark"];
const HEALTH_PAUSE = 5000; // milliseconds

const main = document.getElementById("main");
let leaving = new AbortController();

function show({ focus }) {
  leaving.abort();
  leaving = new AbortController();
  const path = location.hash.replace(/^#/, "");
  const route = ROUTES.find(([pattern]) => pattern.test(path));
  const [pattern, section, name, page] = route ?? [null, "", "Not found", notFound];
  const given = (pattern?.exec(path) ?? []).slice(1).map(decoded);
  for (const link of document.querySelectorAll("[data-page]")) {
    if (link.dataset.page === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${given[0] ?? name} · maskserve`;
  const place = h("div.page", {});
  put(main, place);
  page(place, leaving.signal, ...given);
  if (focus) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function notFound(place) {
  put(
    place,
    h("h1", {}, "Not found"),
    empty("There is no such page", "The tasks are ", h("a", { href: "#/" }, "here"), "."),
  );
}

function showHealth() {
  const place = document.getElementById("health");
  const tell = (tone, text, why = "") => {
    place.className = `health ${tone}`;
    place.title = why;
    say(place.querySelector(".health-text"), text);
  };
  repeat(
    async () => {
      const status = await (await ask("health/ready")).json();
      tell("good", status.status);
    },
    {
      signal: new AbortController().signal,
      pause: HEALTH_PAUSE,
      failed: (error) => tell("bad", error.status ? "not ready" : "unreachable", error.message),
    },
  );
}

function showKey() {
  const control = document.getElementById("key");
  const draw = () => {
    control.setAttribute("aria-label", key() ? "Key: entered" : "Key: none");
    control.classList.toggle("on", Boolean(key()));
  };
  control.addEventListener("click", () => askForKey());
  addEventListener("key", ({ detail }) => {
    draw();
    if (detail.again) show({ focus: false });
  });
  draw();
}

function showTheme() {
  const control = document.getElementById("theme");
  const draw = () => {
    document.documentElement.dataset.theme = theme;
    control.setAttribute("aria-label", `Colours: ${theme === "system" ? "as the system" : theme}`);
  };
  let { theme } = document.documentElement.dataset; // as theme.js found it
  control.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem("maskserve.theme", theme);
    draw();
  });
  draw();
}

document.querySelector(".skip").addEventListener("click", (event) => {
  // "#main" would be a page
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => show({ focus: true }));
showTheme();
showKey();
showHealth();
show({ focus: false });
