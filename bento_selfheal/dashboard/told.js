// Events in words: one sentence each, and what is known of it on demand.

import { causesOf, causeTable } from "./causes.js";
import { counted, exact, make, number, percent } from "./format.js";

/** Kinds that are no news by themselves. */
export const QUIET = new Set(["undecided", "change"]);

/** What of the thresholds is another value now. */
function changes({ by, role, before = {}, ...values }) {
  const shown = (value) => (value === null ? "null" : exact(value));
  return Object.entries(values).filter(([name, value]) => before[name] !== value)
    .map(([name, value]) => (name in before ? `${name} ${shown(before[name])} → ${shown(value)}` : `${name} ${shown(value)}`));
}

const TELLS = {
  heal: (d) => `heal ${d.heal} trained snapshot ${d.version}${d.reason ? `: ${d.reason}` : ""}`,
  promote: (d) => `promoted snapshot ${d.version}: ${d.reason}`,
  canary: (d) => `snapshot ${d.version} answers ${percent(d.share)} of the requests, and snapshot ${d.from} the others: ${d.reason}`,
  canary_ended: (d) => `snapshot ${d.version} answers no share of the requests any more: ${d.reason}`,
  rollback: (d) => d.by && d.by !== "runner" ? d.reason : `rolled back${d.from ? ` from ${d.from}` : ""} to ${d.version}: ${d.reason}`,
  drifting: (d) => `drifting: ${d.reason}${d.causes ? `; ${d.causes.sentence}` : ""}`,
  drift_explained: (d) => `${d.kind}: ${d.sentence}`,
  change: (d) => `change seen by ${(d.detectors ?? []).join(", ")}`,
  undecided: (d) => `snapshot ${d.version}'s trial ended undecided after ${d.rows} labels`,
  segment_held_back: (d) => `left out of healing: ${d.reason}`,
  segment_released: (d) => `healed again: ${d.reason}`,
  segment_rolled_back: (d) => `snapshot ${d.version} serves instead of ${d.from}: ${d.reason}`,
  promotion_withheld: (d) => `snapshot ${d.version} is not promoted: ${d.reason}`,
  quarantine: (d) => `source ${d.source} quarantined, ${d.rows} rows forgotten: ${d.reason}`,
  release: (d) => d.quarantined ? `source ${d.source} released` : `source ${d.source} was not quarantined: nothing to release`,
  test: (d) => d.reason,
  erased: () => "a row was erased",
  rebuilt: (d) => `what was learned was built anew without erased rows, in ${number(d.seconds, 1)} s`,
  new_class: (d) => `labels of the class ${d.class}, which was not trained on: ${percent(d.share, 1)} of the newest are of such classes`,
  refused: (d) => `refused ${d.version ? `snapshot ${d.version}` : `heal ${d.heal}`}: ${d.reason}`,
  feed_failing: (d) => d.reason,
  feed_recovered: (d) => `feed ${d.feed} works again`,
  feed_rejected: (d) => `feed ${d.feed}: ${counted(d.rows, "row")} not kept; they are in ${d.folder}`,
  webhook_failing: (d) => `webhook ${d.hook} fails: ${d.reason}`,
  webhook_recovered: (d) => `webhook ${d.hook} works again`,
  webhook_lost: (d) => `webhook ${d.hook} was never told of ${counted(d.events, "event")}, which retention removed while it was away: ${Object.entries(d.kinds).map(([kind, n]) => `${exact(n)} ${kind}`).join(", ")}`,
  webhook_gave_up: (d) => `webhook ${d.hook} was never told of event ${d.event} (${d.kind}), in ${counted(d.attempts, "attempt")}: ${d.reason}`,
  thresholds: (d) => `thresholds changed: ${changes(d).join(", ")}`,
  thresholds_refused: (d) => `thresholds stay as they were: ${d.reason}`,
  would_promote: (d) => `would have promoted snapshot ${d.version}: ${d.reason}`,
  would_roll_back: (d) => `would have rolled back from ${d.version}: ${d.reason}`,
  rollback_withheld: (d) => `no rollback: ${d.reason}`,
  begun_anew: (d) => `what was learned is lost, and begins anew: ${d.reason}`,
  rows_set_aside: (d) => d.reason,
  operating_point: (d) => `decision threshold ${number(d.threshold, 3)} (${d.kind}): ${d.reason}`,
  prediction_set_aside: (d) => `a logged prediction was set aside: ${d.error}`,
  row_set_aside: (d) => `a labelled row was set aside, the model cannot answer it: ${d.error ?? d.reason}`,
  step_failing: (d) => d.reason,
  step_recovered: () => "the healing step works again",
  one_class: (d) => d.reason,
  one_sided: (d) => d.reason,
  unreported_lost: (d) => `${counted(d.requests, "request")} lost: ${d.reason}`,
  retrain_needed: (d) => `a retraining is due: ${d.reason}; ${d.export_error ? `no rows exported: ${d.export_error}` : `${counted(d.rows, "row")} exported${d.export ? ` to ${d.export}` : ""}`}`,
  deployed: (d) => `${d.package} was deployed as snapshot ${d.version}`,
  candidate_begun: (d) => `${d.package} is a candidate: it answers copies of live rows`,
  candidate_step: (d) => `the candidate ${d.package} answers ${percent(d.share)} of the requests: ${d.reason}`,
  candidate_won: (d) => `the candidate ${d.package} has won: ${d.reason}`,
  candidate_promoted: (d) => `the candidate ${d.package} serves: ${d.reason}`,
  candidate_withdrawn: (d) => `the candidate ${d.package} was withdrawn: ${d.reason}`,
  heal_skipped: (d) => `no heal: ${d.reason}`,
  dropped: (d) => `${d.rows} predictions not logged: ${d.reason}`,
  inputs_dropped: (d) => `${d.rows} inputs not kept: ${d.reason}`,
  heal_asked: () => "a heal was asked for",
  pause: () => "healing paused", resume: () => "healing resumed", observe: () => "observing: nothing is promoted",
};

/** An event in one sentence. */
export function told(event) {
  const tell = TELLS[event.kind];
  const rest = Object.entries(event.detail).map(([k, v]) => `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`);
  const by = tell && !["runner", "operator", undefined].includes(event.detail.by) ? `, by ${event.detail.by}` : "";
  return tell ? tell(event.detail) + by : `${event.kind.replaceAll("_", " ")}: ${rest.join(", ")}`;
}

function shown(value) {
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return value.map(shown).join(", ") || "none";
  return typeof value === "object" && value !== null ? JSON.stringify(value) : exact(value);
}

/** Everything that an event carries, by name. */
export function evidence(event) {
  const list = make("dl", null, "facts"), causes = causesOf(event);
  for (const [name, value] of Object.entries(event.detail)) {
    if (name === "causes" || name === "columns") continue;
    const pair = make("div", make("dt", name.replaceAll("_", " ")));
    pair.append(make("dd", shown(value)));
    list.append(pair);
  }
  if (!causes) return list;
  const both = make("div", list);
  both.append(causeTable(causes));
  return both;
}
