/**
 * Numbers, bytes, times and names as people read them.
 */

const LOCALE = "en";
const UNITS = ["B", "kB", "MB", "GB", "TB"];
const whole = new Intl.NumberFormat(LOCALE);
const when = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });

export const NONE = "–";

/** 1234567 as "1,234,567". */
export function count(value) {
  return whole.format(value);
}

/** A number with so many significant digits: "12.3", "0.0123". */
export function digits(value, significant = 3) {
  if (value === 0) return "0";
  return Math.abs(value) >= 10 ** significant
    ? count(Math.round(value))
    : new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: significant }).format(value);
}

/** Bytes in decimal units: "8.92 MB". */
export function bytes(value) {
  const step = value < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(value) / 3));
  return `${digits(value / 1000 ** step)} ${UNITS[step]}`;
}

/** A share of one as "93.1 %". */
export function percent(share, decimals = 1) {
  return `${(share * 100).toFixed(decimals)} %`;
}

/** Milliseconds: "8.4 ms", "1.2 s"; null as a dash. */
export function milliseconds(value) {
  if (value === null || value === undefined) return NONE;
  return value < 1000 ? `${digits(value, 2)} ms` : `${digits(value / 1000, 2)} s`;
}

/** Requests per second; none as a dash. */
export function rate(value) {
  return value ? digits(value, value < 1 ? 1 : 3) : NONE;
}

/** A metric of a dev set, which has four decimals where it is a share. */
export function metric(value) {
  if (value === null || value === undefined) return NONE;
  return Math.abs(value) <= 1 ? value.toFixed(4) : digits(value, 5);
}

/** A time as the reader's clock has it. */
export function date(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? text : when.format(time);
}

/** The first characters of a digest. */
export function digest(text) {
  return text.replace(/^sha256:/, "").slice(0, 12);
}

/** A kind of task in words: "token classification", "multi-label classification". */
export function kind(name) {
  return name.replace(/-(?=[^-]*$)/, " ");
}

/** "1 task", "2 tasks". */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}
