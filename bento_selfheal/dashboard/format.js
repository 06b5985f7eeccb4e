// How figures are written, and small helpers to put them on the page.

export const at = (id) => document.getElementById(id);

const WHOLE = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** A count, with its thousands apart. */
export const whole = (value) => (value == null ? "–" : WHOLE.format(value));
export const counted = (count, noun) => `${whole(count ?? 0)} ${noun}${count === 1 ? "" : "s"}`;
export const number = (value, digits = 3) => (value == null ? "–" : value.toFixed(digits));
/** A figure as it is, without the digits of its rounding. */
export const exact = (value) => (typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value ?? "–"));
export const signed = (value) => (value == null ? "–" : (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(3));
export const percent = (share, digits = 0) => (share == null ? "–" : `${(100 * share).toFixed(digits)} %`);

export function text(id, value, style = "") {
  at(id).textContent = value;
  at(id).classList.remove("good", "warn", "bad");
  if (style) at(id).classList.add(style);
}

export function ago(seconds) {
  const past = Math.max(Date.now() / 1000 - seconds, 0);
  if (past < 60) return `${Math.round(past)} s ago`;
  if (past < 3600) return `${Math.round(past / 60)} min ago`;
  return past < 172800 ? `${(past / 3600).toFixed(1)} h ago` : `${Math.round(past / 86400)} days ago`;
}

export function span(seconds) {
  if (seconds == null) return "–";
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(1)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${(seconds / 86400).toFixed(1)} days`;
}

export function make(tag, content, className = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.append(content ?? "");
  return element;
}

/** A row of a table that says that there is none. */
export function nothing(words, width) {
  const cell = make("td", words, "muted");
  cell.colSpan = width;
  return make("tr", cell);
}

/** Fill a table: each row a list of cells, text or elements; the classes are those of its columns. */
export function fill(id, rows, classes, none) {
  const filled = rows.map((cells) => {
    const row = make("tr", null);
    cells.forEach((cell, i) => row.append(cell instanceof HTMLTableCellElement ? cell : make("td", cell, classes[i])));
    return row;
  });
  at(id).tBodies[0].replaceChildren(...(filled.length ? filled : [nothing(none, classes.length)]));
}
