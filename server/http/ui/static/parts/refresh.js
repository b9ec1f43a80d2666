/**
 * Work that is done again and again while a page is open and can be seen.
 */

const SHARE = 20; // pauses are so many times as long as the work, so that looking costs the server little

/**
 * Do some work now and after each pause, until `signal` aborts; while the tab is hidden it waits.
 * @param {() => Promise<void>} work What fails is passed to `failed`, and tried again unless a key is missing.
 */
export async function repeat(work, { signal, pause, failed = () => {} }) {
  while (!signal.aborted) {
    const began = performance.now();
    try {
      await work();
    } catch (error) {
      if (signal.aborted) return;
      failed(error);
      if (error.status === 401) return; // a page begins anew once there is a key
    }
    await wait(Math.max(pause, SHARE * (performance.now() - began)), signal);
    while (document.hidden && !signal.aborted) await event(document, "visibilitychange", signal);
  }
}

function wait(duration, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, duration);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}

function event(target, name, signal) {
  return new Promise((resolve) => {
    target.addEventListener(name, resolve, { once: true, signal });
    signal.addEventListener("abort", resolve, { once: true });
  });
}
