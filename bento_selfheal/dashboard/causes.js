// Why it drifts: what is known of the causes of each drift, for the Drift tab and for events.

import { ago, at, make, nothing, number, percent } from "./format.js";

const KINDS = new Set(["drifting", "drift_explained"]);
const SHOWN = 20;
const HEAD = ["input", "what differs", "divergence", "expected", "z", "missing now", "before", "unseen", "meaning z", "share of the gain"];
const WHAT = { values: "values", missing: "missing values", unseen: "new values", input: "where it lies" };

/** What an event says of causes; undefined where it says nothing. */
export const causesOf = (event) => (event.kind === "drift_explained" ? event.detail : event.detail.causes);

/** Why it drifts, in a sentence; it says itself where labels do not tell. */
function story({ kind, sentence }) {
  const said = sentence.includes(kind) ? sentence : `${kind}: ${sentence}`;
  return `${said[0].toUpperCase()}${said.slice(1)}.`;
}

/** The inputs that tell most, a row each. */
export function causeTable(causes) {
  const table = make("table", null, "grid"), head = make("tr", null);
  HEAD.forEach((name, i) => head.append(make("th", name, i > 1 ? "number" : "")));
  table.createTHead().append(head);
  const body = table.createTBody();
  body.append(...(causes.columns.length ? causes.columns.map(row) : [nothing("No rows have come yet.", HEAD.length)]));
  return make("div", table, "scroll");
}

function row(one) {
  const moved = one.moved ? WHAT[one.of] : "–", meant = one.meaning_changed ? "what it means" : "";
  const cells = [
    number(one.divergence, 4), number(one.expected, 4), number(one.z, 1), percent(one.missing, 1), percent(one.missing_before, 1),
    percent(one.unseen, 1), number(one.meaning_z, 1), percent(one.gain_share),
  ];
  const out = make("tr", make("td", one.name, "wrap"));
  out.append(make("td", one.moved && meant ? `${moved}, ${meant}` : meant || moved, one.moved || meant ? "warn" : "muted"));
  out.append(...cells.map((cell) => make("td", cell, "number")));
  return out;
}

/** Each drift and what was found out of it, newest first; those that were opened stay so. */
export function drawCauses({ status: s, events }) {
  at("causes-story").textContent = s.causes ? story(s.causes) : "No drift has been seen yet.";
  at("causes").replaceChildren(...(s.causes ? [causeTable(s.causes)] : []));
  const list = at("drifts"), open = new Set([...list.querySelectorAll("details[open]")].map((one) => one.dataset.seq));
  const items = events.filter((event) => KINDS.has(event.kind) && causesOf(event)).slice(-SHOWN).toReversed().map((event) => {
    const causes = causesOf(event), more = make("details", make("summary", story(causes)));
    more.dataset.seq = event.seq;
    more.open = open.has(String(event.seq));
    more.append(causeTable(causes));
    const item = make("li", make("time", ago(event.time), "muted"));
    item.append(more);
    return item;
  });
  list.replaceChildren(...(items.length ? items : [make("li", "No drift has been seen yet.", "muted")]));
}
