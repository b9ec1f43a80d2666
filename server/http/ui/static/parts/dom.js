/**
 * Elements, made without HTML text: whatever users or stores write is text and nothing else.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 * @param {string} tag Its name; a class may follow a dot: "div.card".
 * @param {object} props Attributes; `on` has listeners, `vars` has CSS variables. null, undefined and false
 *   leave an attribute out, true leaves it empty.
 * @param {...(Node|string|number|null|Array)} children Texts become text nodes; null is left out.
 */
export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElement(name), classes, props, children);
}

/** Make an SVG element; see `h`. */
export function s(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElementNS(SVG, name), classes, props, children);
}

function fill(element, classes, props, children) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "vars") {
      for (const [variable, setting] of Object.entries(value)) element.style.setProperty(variable, setting);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat(Infinity).filter(isShown));
  return element;
}

function isShown(child) {
  return child !== null && child !== undefined && child !== false;
}

/** Replace what is in an element. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(isShown));
  return element;
}

/** Replace what is in an element; a link or a heading of a column that has the focus keeps it. */
export function renew(element, ...children) {
  const focused = element.contains(document.activeElement) ? mark(document.activeElement) : null;
  put(element, ...children);
  if (focused) element.querySelector(focused)?.focus({ preventScroll: true });
}

function mark(element) {
  const name = ["data-column", "href"].find((one) => element.hasAttribute(one));
  return name ? `[${name}="${CSS.escape(element.getAttribute(name))}"]` : null;
}

/** Change the text of an element that is read aloud; the same text is not said again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Make a table that stays one for screen readers when a narrow page lays its rows out as blocks.
 * @param {object} options `caption` (read, not shown), `columns` ({title, number, name of a class}), `rows`
 *   (arrays of cells, or {cells, props}), and `header`: whether the first cell of a row names the row.
 */
export function table({ caption, columns, rows, header = true, name = "" }) {
  const heads = columns.map((column) =>
    h(
      `th${column.number ? ".number" : ""}`,
      { role: "columnheader", scope: "col", "aria-sort": column.sort },
      column.head ?? column.title,
    ),
  );
  return h(
    `table${name && `.${name}`}`,
    { role: "table" },
    h("caption.hidden", {}, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
    h(
      "tbody",
      { role: "rowgroup" },
      rows.map((row) => tableRow(row, columns, header)),
    ),
  );
}

function tableRow(row, columns, header) {
  const { cells, props = {} } = Array.isArray(row) ? { cells: row } : row;
  return h(
    "tr",
    { role: "row", ...props },
    cells.map((cell, index) => {
      const column = columns[index];
      const first = header && index === 0;
      return h(
        `${first ? "th" : "td"}${column.number ? ".number" : ""}${column.name ? `.${column.name}` : ""}`,
        {
          role: first ? "rowheader" : "cell",
          scope: first ? "row" : null,
          "data-title": first ? null : column.title,
        },
        cell,
      );
    }),
  );
}

let fields = 0;

/** Make a label above a control. */
export function field(label, control, hint = null) {
  control.id ||= `field-${(fields += 1)}`;
  return h(
    "div.field",
    {},
    h("label", { for: control.id }, label, hint && h("span.hint", {}, ` ${hint}`)),
    control,
  );
}

/** Make a card: a section with a heading. */
export function card(title, ...children) {
  const id = `card-${(fields += 1)}`;
  return h("section.card", { "aria-labelledby": id }, h("h2", { id }, title), children);
}

/** Make a button. */
export function button(text, press, { kind = "secondary", ...props } = {}) {
  return h(`button.button.${kind}`, { type: "button", ...props, on: { click: press } }, text);
}
