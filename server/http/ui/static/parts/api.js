/**
 * The server's routes: addresses below the one of the page, the key, and errors in words.
 *
 * The key is kept in the tab's session storage: it ends with the tab and is sent to this server alone.
 */

const STORED = "maskserve.key";
const ROOT = new URL(".", document.baseURI);

/** What a route answered instead of a result. */
export class ApiError extends Error {
  /** @param {number} status 0 where the server could not be reached. */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The key that the user entered; an empty text if there is none. */
export function key() {
  return sessionStorage.getItem(STORED) ?? "";
}

/**
 * Keep a key until the tab is closed; an empty one is forgotten.
 * @param {string} entered The key.
 * @param {object} options `again`: whether the page is to be shown again.
 */
export function keep(entered, { again = true } = {}) {
  if (entered) sessionStorage.setItem(STORED, entered);
  else sessionStorage.removeItem(STORED);
  dispatchEvent(new CustomEvent("key", { detail: { again } }));
}

/** Return the whole address of a route. */
export function address(path) {
  return new URL(path, ROOT).href;
}

/** Return the path of a task's route. */
export function taskPath(task, rest = "") {
  return `tasks/${encodeURIComponent(task)}${rest}`;
}

/**
 * Ask a route.
 * @param {string} path Below the root, without a slash at its start.
 * @param {object} options `body` (makes it a POST), `accept`, and `signal` to give up.
 * @returns {Promise<Response>} A reply that is not an error.
 * @throws {ApiError} It is one, or there is none.
 */
export async function ask(path, { body, accept = "application/json", signal, method } = {}) {
  const headers = { accept };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key()) headers.authorization = `Bearer ${key()}`;
  let reply;
  try {
    reply = await fetch(address(path), {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server can't be reached.");
  }
  if (!reply.ok) throw new ApiError(reply.status, await reason(reply));
  return reply;
}

/** Ask a route for JSON; see `ask`. */
export async function json(path, options) {
  const reply = await ask(path, options);
  return await reply.json();
}

/** Yield the lines of a reply of JSON lines as they come. */
export async function* lines(path, options) {
  const reply = await ask(path, { ...options, accept: "application/x-ndjson" });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const found = (rest + (value ?? "")).split("\n");
    rest = done ? "" : found.pop();
    for (const line of found) if (line) yield JSON.parse(line);
    if (done) return;
  }
}

async function reason(reply) {
  try {
    const body = await reply.json();
    if (typeof body.error === "string") return body.error;
  } catch {
    // a proxy's page, or nothing
  }
  return `The server answered ${reply.status}.`;
}
