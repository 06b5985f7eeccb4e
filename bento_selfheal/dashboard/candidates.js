// The candidates on the Models tab: how far each has come, what speaks for it, and what it failed.

import { fill, make, number, percent, whole } from "./format.js";

const points = (value) => `${value >= 0 ? "+" : "−"}${Math.abs(100 * value).toFixed(1)}`;

export function drawCandidates(s, confirm) {
  const rows = (s.candidates ?? []).map((one) => {
    const e = one.evidence, c = one.counts, failed = (c.failed ?? 0) + (c.late ?? 0) + (c.lost ?? 0);
    return [
      make("td", one.tag, "wrap"), one.state === "won" ? "is being promoted" : `${one.step + 1} of ${one.ramp.length}`, percent(one.share),
      e.labels ? `${whole(e.labels)} (${whole(e.labels_at_step)} at this step)` : "0",
      e.labels ? `${points(e.lift.mean)} [${points(e.lift.low)}, ${points(e.lift.high)}]` : "–",
      e.labels ? number(e.log_e, 2) : "–", whole(failed), c.served ? `${number(1000 * c.waited / c.served, 1)} ms` : "–", actions(one, confirm),
    ];
  });
  fill("candidate-list", rows, ["wrap", "", ...Array(6).fill("number"), ""], "No retrained model is a candidate: bento-selfheal candidate TAG begins one.");
}

function actions(one, confirm) {
  const cell = make("td", null);
  const add = (words, title, text, path) => {
    const button = make("button", words, "small");
    button.addEventListener("click", () => confirm(title, text, words, path, { tag: String(one.id) }));
    cell.append(button);
  };
  if (one.state === "won") return cell; // it is being deployed
  add("Promote", `Promote ${one.tag}?`, "It serves at once, whatever the evidence, and a healed line of it begins.", "candidates/promote");
  add("Withdraw", `Withdraw ${one.tag}?`, "Within a second it answers nothing any more. Its evidence is kept.", "candidates/withdraw");
  return cell;
}
