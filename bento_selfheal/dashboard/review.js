// The Review tab: shows one row after the other, and sends the label that a key or a button gives it.

import { exact } from "./format.js";

const ROWS = 10;
const AGAIN = 10_000;
const MINE = 540_000; // milliseconds, within the ten minutes for which a row is nobody else's
const UNDO = "u";
const SKIP = "s";

/** The keys of each class: its own digit where all have one, else 1 to 9 and 0; and its first letter where no other begins so. */
export function keysOf(classes) {
  const names = classes.map((one) => String(one).toLowerCase());
  const digits = names.every((name) => /^\d$/.test(name));
  const taken = (letter) => names.filter((name) => name[0] === letter).length > 1 || [UNDO, SKIP].includes(letter);
  return names.map((name, i) => {
    const keys = digits ? [name] : i < 10 ? [String((i + 1) % 10)] : [];
    return /^\p{L}/u.test(name) && !taken(name[0]) ? [...keys, name[0]] : keys;
  });
}

export class Review {
  /** `page` gives `at`, `make`, `call`, `ago`, `toast`, and `denied`, which is told of an error and returns whether it was one of access. */
  constructor(page) {
    Object.assign(this, page);
    this.rows = [];
    this.done = [];
    this.classes = [];
    this.left = null;
    this.busy = false;
    this.open = false;
    this.at("review-undo").addEventListener("click", () => this.undo());
    this.at("review-skip").addEventListener("click", () => this.skip());
    document.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** Begin to ask for rows, or stop. */
  show(open) {
    this.open = open;
    clearTimeout(this.timer);
    if (open) this.next();
  }

  /** The row to look at, fetched if there is none; rows that may be somebody else's by now are let go. */
  async next() {
    clearTimeout(this.timer);
    this.rows = this.rows.filter((row) => row.until > Date.now());
    if (!this.rows.length && this.open && !document.hidden) await this.fetch();
    this.draw();
    if (!this.rows.length && this.open) this.timer = setTimeout(() => this.next(), AGAIN);
  }

  async fetch() {
    try {
      const said = await this.call(`review?limit=${ROWS}`);
      const until = Date.now() + MINE;
      this.rows = said.rows.map((row) => ({ ...row, until }));
      Object.assign(this, { left: said.left, budget: said.budget, rule: said.rule, trouble: "" });
      if (said.classes.join() !== this.classes.join()) this.drawClasses(said.classes);
    } catch (error) {
      this.trouble = error.message;
      this.denied(error);
    }
  }

  pressed(event) {
    if (!this.open || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (document.querySelector("dialog[open]") || event.target.closest("input, textarea, select")) return;
    const key = event.key.toLowerCase();
    const place = this.keys?.findIndex((keys) => keys.includes(key)) ?? -1;
    if (key === UNDO) this.undo();
    else if (key === SKIP) this.skip();
    else if (place >= 0) this.label(this.classes[place]);
  }

  /** One thing after the other: a second key must not label the row that comes next. */
  async alone(work) {
    if (this.busy) return;
    this.busy = true;
    try {
      await work();
    } catch (error) {
      if (!this.denied(error)) this.toast(`Not saved: ${error.message}`);
    } finally {
      this.busy = false;
    }
  }

  label(name) {
    return this.alone(async () => {
      const [row] = this.rows;
      if (!row) return;
      const said = await this.call("feedback", { items: [{ prediction_id: row.prediction_id, label: name }] });
      this.rows.shift();
      const [other] = said.conflicts;
      if (other) this.toast(`Somebody else labelled that row ${other.kept}, which stands.`);
      else this.done.push({ row, name });
      await this.next();
      this.tell(other ? "" : `Labelled ${name}. `);
    });
  }

  skip() {
    return this.alone(async () => {
      if (!this.rows.shift()) return;
      await this.next();
      this.tell("Skipped. ");
    });
  }

  /** Take the last label back, and show its row again. */
  undo() {
    return this.alone(async () => {
      const last = this.done.at(-1);
      if (!last) return;
      const said = await this.call("feedback", { items: [{ prediction_id: last.row.prediction_id, retract: true }] });
      this.done.pop();
      if (said.conflicts.length) return this.toast("Somebody else's label stands for that row by now.");
      this.rows.unshift({ ...last.row, until: Infinity });
      this.draw();
      this.tell(`The label ${last.name} is taken back. `);
    });
  }

  // -- showing -------------------------------------------------------------------------------------

  draw() {
    const [row] = this.rows;
    this.at("review-one").hidden = !row;
    this.at("review-none").hidden = Boolean(row);
    this.at("review-undo").disabled = !this.done.length;
    this.at("review-skip").disabled = !row;
    this.at("review-left").textContent = this.leftToday();
    if (!row) this.at("review-none").textContent = this.whyNone();
    else this.drawRow(row);
  }

  drawRow(row) {
    this.at("review-said").textContent = this.said(row);
    this.at("review-why").textContent = `Why this one: ${row.why}. Answered ${this.ago(row.time)}.`;
    const facts = Object.entries(row.features).map(([name, value]) => {
      const fact = this.make("div", this.make("dt", name));
      fact.append(this.make("dd", exact(value)));
      return fact;
    });
    this.at("review-row").replaceChildren(...facts);
  }

  drawClasses(classes) {
    this.classes = classes;
    this.keys = keysOf(classes);
    const buttons = classes.map((name, i) => {
      const button = this.make("button", this.make("span", String(name)));
      button.type = "button";
      button.setAttribute("aria-label", `Label ${name}`);
      button.setAttribute("aria-keyshortcuts", this.keys[i].join(" "));
      for (const key of this.keys[i]) button.append(this.make("kbd", key));
      button.addEventListener("click", () => this.label(name));
      return button;
    });
    this.at("review-labels").replaceChildren(...buttons);
  }

  said(row) {
    const many = Array.isArray(row.probability);
    const chance = many ? row.probability[this.classes.indexOf(row.decision)] : row.probability;
    const whose = many ? row.decision : this.classes[1];
    return `The model says ${row.decision}; probability of ${whose}: ${chance.toFixed(3)}`;
  }

  /** What is left of the budget, with the rows that are here already. */
  leftToday() {
    return this.left == null ? "" : `${this.left + this.rows.length} of ${this.budget} left today`;
  }

  whyNone() {
    if (this.trouble) return `The rows could not be read: ${this.trouble}. Trying again.`;
    if (this.rule === "all") return "Every row's label is asked for, so there is no queue. To be asked for the rows whose labels help most, start the service with SELFHEAL_REVIEW=queue and SELFHEAL_REVIEW_BUDGET, the rows that you can label in a day.";
    if (this.left === 0) return "Today's rows are all labelled or with somebody. More come at 0:00 UTC; a higher SELFHEAL_REVIEW_BUDGET gives more a day.";
    return "Nothing to label now. Rows come as predictions are made, and what somebody else has comes back after ten minutes; this page looks again by itself.";
  }

  /** For screen readers: what was done, and what is shown now. */
  tell(what) {
    const [row] = this.rows;
    this.at("review-told").textContent = what + (row ? `${this.said(row)}. ${this.leftToday()}` : this.whyNone());
  }
}
