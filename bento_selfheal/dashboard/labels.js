// The Labels tab: how many rows have a label, how late, and who sent it.

import { counted, fill, make, percent, span, text, whole } from "./format.js";

export function drawLabels({ status: s, confirm }) {
  const l = s.labels ?? {}, share = s.predicted_rows ? l.joined / s.predicted_rows : null;
  text("coverage", percent(share, 1));
  text("coverage-why", `${whole(l.joined ?? 0)} of ${counted(s.predicted_rows, "row")} that were answered; ${s.review?.known ?? ""}`);
  text("delay", span(l.delay_seconds));
  text("delay-why", `from answer to label, newest labelled batch${waits(s.unreported)}`);
  text("waiting", whole(l.waiting ?? 0));
  text("waiting-why", `wait for their prediction; ${counted(s.unread?.labels ?? 0, "label")} not read yet, ${whole(l.unmatched ?? 0)} given up`);
  text("revised", whole((l.corrected ?? 0) + (l.retracted ?? 0)));
  text("revised-why", `${whole(l.corrected ?? 0)} corrected, ${whole(l.retracted ?? 0)} taken back, ${whole(l.refused ?? 0)} refused, ${whole(l.new_class ?? 0)} of an unknown class`);
  drawSources(s.sources ?? {}, confirm);
}

/** Rows that wait until they are old enough, where one class is never reported. */
function waits(unreported) {
  if (!unreported) return "";
  const age = unreported.age_seconds == null ? "no row is old enough yet" : `rows count ${span(unreported.age_seconds)} after their answer`;
  const lost = unreported.lost ? `, ${counted(unreported.lost, "request")} lost before that` : "";
  return `; ${age}, ${counted(unreported.early, "label")} held until then, ${whole(unreported.late)} late${lost}`;
}

function drawSources(sources, confirm) {
  const rows = Object.entries(sources).map(([name, s]) => {
    const button = make("button", s.quarantined ? "Release" : "Forget", "small");
    button.addEventListener("click", () => s.quarantined
      ? confirm(`Release ${name}?`, "Its later labels are learned from, and judged anew.", "Release", "release", { source: name })
      : confirm(`Forget ${name}?`, "Its labels are removed from the training buffer, and its new labels are ignored.", "Forget", "forget", { source: name }));
    const standing = make("td", s.quarantined ? `quarantined: ${s.quarantined}` : "trusted", s.quarantined ? "wrap bad" : "");
    return [name, whole(s.labels), standing, button];
  });
  fill("sources", rows, ["wrap", "number", "", ""], "No feedback names a source.");
}
