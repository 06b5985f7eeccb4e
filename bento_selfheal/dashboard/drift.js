// The Drift tab: every signal with its limit, what differs, and the rules.

import { drawCauses } from "./causes.js";
import { fill, make, number, percent, text } from "./format.js";

export function drawDrift({ status: s, events }) {
  drawCauses({ status: s, events });
  const signal = s.signals ?? {};
  text("drift-story", story(s, signal));
  const verdict = (over) => make("td", over ? "beyond its limit" : "calm", over ? "warn" : "good");
  const agreement = s.agreement ?? {};
  const rows = [
    ["FIDI: z of the sensitive feature", signal.feature || "–", number(signal.z, 2), number(signal.fidi_threshold, 2), verdict(signal.z > signal.fidi_threshold)],
    ["rows that conflict with a rule", "–", String(signal.conflicts ?? "–"), String(signal.conflict_min ?? "–"), verdict(signal.conflicts >= signal.conflict_min)],
    ["agreement of rules and model", "–", percent(agreement.now), percent(agreement.usual), make("td", agreement.z == null ? "–" : `z ${number(agreement.z, 2)}`)],
  ];
  if (signal.distance_limit != null) {
    rows.push(["distance from the training rows", signal.differing.slice(0, 5).join(", ") || "–", number(signal.distance, 2), number(signal.distance_limit, 2), verdict(signal.distance > signal.distance_limit)]);
  }
  fill("signals", rows, ["wrap", "wrap", "number", "number", ""], "No rows have come yet.");
  const share = (value) => percent(value);
  fill("rules", (s.rules ?? []).map((r) => [r.rule, share(r.coverage), share(r.precision), share(r.trust)]), ["wrap", "number", "number", "number"], "The package has no rules.");
}

function story(s, signal) {
  const changed = s.change ? `A change was seen by ${Object.keys(s.change).join(", ") || "a detector"}. ` : "";
  const fallen = signal.error ? "Labels say that answers have become worse. " : "";
  return changed + fallen + (signal.drifting ? "The rows differ from those that the model was trained on." : "The rows look like those that the model was trained on.");
}
