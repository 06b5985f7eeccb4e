// The Segments tab: whether healing leaves anybody worse off.

import { counted, fill, make, number, text, whole } from "./format.js";

const points = (value) => `${value >= 0 ? "+" : "−"}${Math.abs(100 * value).toFixed(1)}`;

export function drawSegments({ status: s }) {
  const segments = s.segments ?? [], left = segments.filter((one) => one.left_out);
  text("segments-story", story(segments, left));
  const rows = segments.map((one) => [
    one.segment, whole(one.rows), whole(one.labels), number(one.frozen), number(one.served),
    one.lift && one.labels > 1 ? `${points(one.lift.mean)} [${points(one.lift.low)}, ${points(one.lift.high)}]` : "–",
    one.drift == null ? "–" : `${one.drift.toFixed(1)} σ`,
    make("td", one.verdict, one.left_out ? "wrap warn" : ""),
  ]);
  fill("segment-list", rows, ["wrap", ...Array(6).fill("number"), ""], "No segments are watched.");
}

function story(segments, left) {
  if (!segments.length) return "The setting SELFHEAL_SEGMENTS names the segments that no heal may make worse; none is set.";
  if (!left.length) return `No heal has made any of the ${counted(segments.length, "segment")} worse by more than it may. Lift is in points.`;
  return `${counted(left.length, "segment")} of ${segments.length} keep the answers from before, as healing would make them worse. Lift is in points.`;
}
