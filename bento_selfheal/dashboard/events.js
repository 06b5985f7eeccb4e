// The Events tab: what happened, newest first, each with what it rests on.

import { ago, at, make } from "./format.js";
import { evidence, told } from "./told.js";

const PAGE = 1000;
const KEPT = 2000;
const FIRST = 50;
const MORE = 200;

export class Events {
  constructor() {
    this.all = [];
    this.shown = FIRST;
    this.older = false;
    this.open = new Set();
  }

  /** Read what happened since the last look; whether there was anything. At first, and after a long absence, the newest page instead of all in between. */
  async read(call) {
    const last = this.all.at(-1)?.seq;
    let events = last === undefined ? null : await call(`events?after=${last}&limit=${PAGE}`);
    if (!events || events.length === PAGE) {
      events = await call(`events?limit=${PAGE}`);
      Object.assign(this, { all: [], shown: FIRST, older: events.length === PAGE });
    }
    this.keep([...this.all, ...events]);
    return events.length > 0;
  }

  /** Keep the newest events only, unless somebody reads back. */
  keep(events) {
    const most = Math.max(KEPT, this.shown + PAGE);
    this.older ||= events.length > most;
    this.all = events.slice(-most);
  }

  /** Show more events; where all that were loaded are shown, load the page before them. */
  async back(call) {
    if (this.shown + MORE > this.all.length && this.older) {
      const page = await call(`events?before=${this.all[0].seq}&limit=${PAGE}`);
      this.all = [...page, ...this.all];
      this.older = page.length === PAGE;
    }
    this.shown += MORE;
    this.draw();
  }

  draw() {
    const items = this.all.slice(-this.shown).toReversed().map((event) => this.item(event));
    at("event-list").replaceChildren(...(items.length ? items : [make("li", "Nothing has happened yet.", "muted")]));
    at("older").hidden = !this.older && this.all.length <= this.shown;
  }

  item(event) {
    const item = make("li", make("time", ago(event.time), "muted")), more = make("details", null);
    item.firstChild.title = new Date(event.time * 1000).toLocaleString("en-GB");
    more.append(make("summary", told(event)));
    more.open = this.open.has(event.seq);
    if (more.open) more.append(evidence(event));
    more.addEventListener("toggle", () => {
      this.open[more.open ? "add" : "delete"](event.seq);
      if (more.open && more.children.length === 1) more.append(evidence(event));
    });
    item.append(more);
    return item;
  }
}
