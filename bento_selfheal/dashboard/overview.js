// The Overview tab: is it drifting, does healing help, what should be done.

import { stateColor } from "./charts.js";
import { ago, at, counted, number, percent, signed, span, text, whole } from "./format.js";
import { QUIET, told } from "./told.js";
import { failing } from "./webhooks.js";

export const SAYS = {
  HEALTHY: "No drift",
  DRIFTING: "The data is drifting",
  HEALING: "A heal is training",
  RETRAIN_NEEDED: "Healing is not enough: a retrain is needed",
  ROLLED_BACK: "A promotion was undone",
};

/** Of more than two classes, precision, recall and F1 say nothing. */
export const many = (s) => (s?.classes ?? []).length > 2;

export function drawOverview({ status: s, events, previous, alarm }) {
  drawHead(s, events);
  drawControls(s, previous);
  drawTiles(s);
  text("advice", advice(s));
  alarm(troubled(s));
}

function drawHead(s, events) {
  const state = s.state ?? "…";
  at("state").textContent = state.replace("_", " ");
  at("state").className = `pill ${stateColor(state).slice(2)}`;
  at("headline").textContent = `${SAYS[state] ?? "No figures yet"}; ${verdict(s)}`;
  const last = events.findLast((e) => !QUIET.has(e.kind));
  const held = s.paused ? "Healing is paused. " : s.mode === "observe" ? "Observing: nothing is promoted. " : "";
  const why = s.retrain ? `${s.retrain}. ` : "";
  const anew = s.rebuilding ? "What was learned is built anew without erased rows; new labels wait. " : "";
  at("story").textContent = held + anew + why + (last ? `Last: ${told(last)}, ${ago(last.time)}.` : "Nothing has happened yet.");
}

function drawControls(s, previous) {
  at("pause").textContent = s.paused ? "Resume" : "Pause";
  at("observe").textContent = s.mode === "observe" && !s.paused ? "Promote again" : "Observe";
  for (const name of ["heal", "observe", "pause"]) at(name).disabled = false;
  at("rollback").disabled = !previous;
}

/** What the runner has not read, in words. */
const unread = (s) => `${counted(s.unread.labels, "label")} and ${counted(s.unread.requests, "request")}`;

/** Why there are no figures from labels; never that none has come while some wait. */
function unlabelled(s) {
  if (s.unread?.labels) return `${counted(s.unread.labels, "label")} came and are not read yet`;
  return s.labels?.joined ? `${counted(s.labels.joined, "label")} came, too few for a batch` : "no label has come yet";
}

/** What stands in the alarm at the top; empty where nothing is wrong. */
function troubled(s) {
  if (s.runner_alive === false) return "The healing runner is not running: predictions go on, but nothing heals.";
  if (s.behind) return `The healing runner is behind: ${unread(s)} not read, the oldest for ${span(s.behind.seconds)}. The reason: ${s.behind.reason}.`;
  if (s.trouble) return s.trouble;
  if (s.one_class?.alarm) return `The service no longer tells rows apart: ${s.one_class.reason}.`;
  if (s.one_sided?.alarm) return `Nothing is promoted: ${s.one_sided.reason}.`;
  if (s.worker.dropped_rows) return `${counted(s.worker.dropped_rows, "prediction")} not logged: the store was too slow.`;
  return failing(s.webhooks);
}

/** Whether healing helped, in words. */
function verdict(s) {
  if (!s.labelled_batches) return unlabelled(s);
  if (!s.promotions) return "nothing healed serves yet";
  if (s.lift.low > 0) return `healing helps: ${signed(s.lift.mean)} accuracy`;
  return s.lift.high < 0 ? `healing hurts: ${signed(s.lift.mean)} accuracy` : "no proven difference from the baseline";
}

/** What somebody who looks at five in the morning should do. */
function advice(s) {
  if (s.runner_alive === false) return "Look into the service's log for why the runner stopped. Predictions are answered meanwhile.";
  if (s.behind) return `Nothing of what came is lost. To let the runner catch up: ${s.behind.advice}.`;
  if (s.trouble) return "Mend what the alarm names; what has not been read waits in the store.";
  if (s.state === "RETRAIN_NEEDED") return "Retrain the model: the labelled rows were exported, and the event under Events says where.";
  if (s.paused) return "Press Resume when the reason for the pause has gone.";
  if (!s.labelled_batches && s.unread?.labels) return `Nothing yet: the runner reads ${counted(s.unread.labels, "label")}.`;
  if (!s.labelled_batches) return `Send labels: nothing heals without them. ${counted(s.labels?.waiting, "label")} wait for their prediction.`;
  if (s.lift.high < 0 && s.promotions) return "Roll back if the service does not do so itself: what is served is worse than the baseline.";
  const t = s.trial;
  if (s.state === "DRIFTING" && t?.log_e_needed) return `Wait for labels: the challenger has ${percent(Math.max(t.log_e / t.log_e_needed, 0))} of the evidence it needs.`;
  if (s.one_class?.alarm) return "Check what mistakes cost in the settings: at these costs everybody gets the same answer. If they are right, retrain the model.";
  if (s.state === "DRIFTING" && t) return "Nothing: challengers that labels have proven serve already, and learn on.";
  if (s.state === "DRIFTING") return "Nothing yet: challengers learn, and are promoted once labels prove them better.";
  if (failing(s.webhooks)) return "Mend the receiver of the webhook; what it was not told of is sent again.";
  return "Nothing.";
}

/** How far categories, missing values and hidden vectors are from training, and which too far. */
function far(signal) {
  if (signal.distance_limit == null) return "";
  const where = signal.differing.length ? ` on ${signal.differing.slice(0, 3).join(", ")}` : "";
  return `, distance ${number(signal.distance, 2)} of ${number(signal.distance_limit, 2)}${where}`;
}

function drawTiles(s) {
  const signal = s.signals ?? {}, over = signal.drifting || signal.z > signal.fidi_threshold;
  text("drift-now", over ? "drifting" : "calm", over ? "warn" : "good");
  const feature = signal.feature ? ` on ${signal.feature}` : "";
  text("drift-now-why", `z ${number(signal.z, 2)} of ${signal.fidi_threshold}${feature}, conflicts ${signal.conflicts ?? "–"} of ${signal.conflict_min}${far(signal)}`);
  drawAccuracy(s);
  const lift = s.lift ?? {};
  text("lift", s.labelled_batches ? signed(lift.mean) : "–", lift.low > 0 ? "good" : lift.high < 0 ? "bad" : "");
  text("lift-why", s.labelled_batches > 1 ? `95 % interval ${signed(lift.low)} to ${signed(lift.high)}` : "too few labelled batches for an interval");
  const first = s.canary ? ` (${s.canary.version}: ${percent(s.canary.share)})` : "";
  text("serving", s.serving ? `snapshot ${s.serving.version}${first}` : "–");
  text("serving-why", `${s.serving?.phase ?? ""}, since ${ago(s.worker.serving_since)}. ${counted(s.heals, "heal")}, ${counted(s.promotions, "promotion")}, ${counted(s.rollbacks, "rollback")}`);
  const share = s.predicted_rows ? s.labels.joined / s.predicted_rows : null;
  text("labelled", percent(share));
  text("labelled-why", `${whole(s.labels?.joined ?? 0)} of ${counted(s.predicted_rows, "row")}, ${s.labels?.delay_seconds == null ? "no delay known" : `${span(s.labels.delay_seconds)} late`}`);
  const cost = s.cost;
  text("cost", s.last ? number(1000 * cost.champion, 0) : "–", s.last && cost.champion > cost.shadow ? "bad" : "");
  text("cost-why", s.last ? `baseline ${number(1000 * cost.shadow, 0)}; ${mistakes(s)}` : "");
  drawRanking(s.newest ?? {});
}

function drawAccuracy(s) {
  const last = s.last;
  const estimate = s.unread?.labels ? null : s.estimate?.accuracy;  // labels may contradict it
  text("accuracy", last ? number(last.champion.accuracy) : estimate == null ? "–" : `≈ ${number(estimate)}`);
  text("accuracy-why", last
    ? `newest batch; baseline ${number(last.shadow.accuracy)}. All ${whole(s.champion.tp + s.champion.tn + s.champion.fp + s.champion.fn)} labels: ${number(s.champion.accuracy)}, always the commonest class ${number(s.majority)}`
    : `${estimate == null ? "" : "estimated: "}${unlabelled(s)}`);
}

/** Whether rows are ranked well, and what the alarms catch; accuracy alone can be had by flagging nobody. */
function drawRanking(newest) {
  const both = newest.ranking, alarms = newest.alarms, rows = `newest ${counted(newest.rows ?? 0, "label")}`;
  text("ranking", both ? number(both.served.auc) : "–", both && both.served.auc < both.frozen.auc - 0.01 ? "bad" : "");
  text("ranking-why", both
    ? `AUC, baseline ${number(both.frozen.auc)}; average precision ${number(both.served.average_precision)}, baseline ${number(both.frozen.average_precision)}; ${rows}`
    : "too few labels of each class");
  at("caught-tile").hidden = newest.alarms === null && newest.rows > 0;
  text("caught", alarms ? percent(alarms.recall) : "–", alarms && alarms.recall < alarms.frozen_recall - 0.02 ? "bad" : "");
  text("caught-why", alarms
    ? `with alarms on ${percent(alarms.share, 1)} of the rows, ${percent(alarms.precision)} of them right; baseline ${percent(alarms.frozen_recall)} with as many`
    : "no label has come yet");
}

/** What mistakes cost, in words. */
function mistakes(s) {
  const { miss_cost: miss, alarm_cost: other } = s.thresholds;
  if (many(s)) return `a wrong answer ${s.classes[0]} costs ${miss}, any other wrong answer ${other}`;
  return `a miss costs ${miss}, a false alarm ${other}; threshold ${number(s.operating_point.threshold, 2)}`;
}
