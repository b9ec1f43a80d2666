/**
 * Colours that the user chose, before anything is painted: no module, so that the page waits for it.
 */

document.documentElement.dataset.theme = localStorage.getItem("maskserve.theme") ?? "system";
