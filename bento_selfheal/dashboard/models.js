// The Models tab: what serves beside the baseline, the challenger on trial, candidates, and the snapshots.

import { ago, at, fill, make, number, percent, text, whole } from "./format.js";
import { drawCandidates } from "./candidates.js";
import { many } from "./overview.js";

const WHOLE_TABLE = 12;

export function drawModels({ status: s, snapshots, confirm }) {
  drawFigures(s);
  drawCalibration(s.newest?.calibration ?? []);
  drawConfusion(s);
  drawGate(s);
  drawCanary(s.canary);
  drawCandidates(s, confirm);
  drawSnapshots(s, snapshots, confirm);
}

function drawFigures(s) {
  const n = s.newest ?? {}, ranks = n.ranking ?? {}, last = s.last;
  const rows = [
    ["accuracy, newest batch", number(last?.champion.accuracy), number(last?.shadow.accuracy)],
    ["accuracy, all labels", number(last && s.champion.accuracy), number(last && s.shadow.accuracy)],
    ["AUC", number(ranks.served?.auc), number(ranks.frozen?.auc)],
    ["average precision", number(ranks.served?.average_precision), number(ranks.frozen?.average_precision)],
    ["cost of 1,000 rows", number(last && 1000 * s.cost.champion, 0), number(last && 1000 * s.cost.shadow, 0)],
  ];
  if (n.alarms) rows.push(["recall, with as many alarms", percent(n.alarms.recall, 1), percent(n.alarms.frozen_recall, 1)]);
  if (!many(s)) rows.push(["F1, all labels", number(last && s.champion.f1), number(last && s.shadow.f1)]);
  rows.push(["always the commonest class", number(s.majority), number(s.majority)]);
  fill("figures", rows, ["", "number", "number"], "No label has come yet.");
  text("figures-rows", n.rows ? `ranking and recall on the newest ${whole(n.rows)} labels` : "no label has come yet");
}

/** What was said against how often it came true: on the diagonal where probabilities can be believed. */
function drawCalibration(bins) {
  const svg = (tag, facts, words) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(facts)) element.setAttribute(name, value);
    if (words !== undefined) element.append(words);
    return element;
  };
  const x = (p) => 30 + 210 * p, y = (p) => 220 - 210 * p;
  const chart = svg("svg", { viewBox: "0 0 262 240", role: "img", "aria-label": `calibration: ${bins.map((b) => `said ${percent(b.said)}, came true ${percent(b.true)}`).join("; ")}` });
  chart.append(svg("rect", { x: x(0), y: y(1), width: 210, height: 210, class: "frame" }), svg("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "diagonal" }));
  for (const p of [0, 0.5, 1]) {
    chart.append(svg("text", { x: x(p), y: 234, "text-anchor": "middle" }, percent(p)), svg("text", { x: 27, y: y(p) + 3, "text-anchor": "end" }, (100 * p).toFixed(0)));
  }
  chart.append(svg("polyline", { points: bins.map((b) => `${x(b.said)},${y(b.true)}`).join(" "), class: "curve" }));
  const most = Math.max(...bins.map((b) => b.rows), 1);
  for (const b of bins) {
    const point = svg("circle", { cx: x(b.said), cy: y(b.true), r: 2 + 4 * Math.sqrt(b.rows / most) });
    point.append(svg("title", {}, `said ${percent(b.said, 1)}, came true ${percent(b.true, 1)}, ${whole(b.rows)} rows`));
    chart.append(point);
  }
  at("calibration").replaceChildren(bins.length ? chart : make("p", "no label has come yet", "empty"));
}

/** Labels against decisions: a table of few classes, the commonest mistakes of many. */
function drawConfusion(s) {
  const cells = s.newest?.confusion ?? [], classes = s.classes ?? [], place = at("confusion");
  if (!cells.length) return place.replaceChildren(make("p", "no label has come yet", "empty"));
  const name = (i) => String(classes[i] ?? i);
  const table = make("table", null, "grid"), body = table.createTBody(), head = table.createTHead().insertRow();
  if (classes.length > WHOLE_TABLE) {
    for (const words of ["label", "answered", "rows"]) head.append(make("th", words, words === "rows" ? "number" : ""));
    for (const c of cells.filter((one) => one.label !== one.decided).slice(0, 20)) {
      const row = body.insertRow();
      row.append(make("td", name(c.label), "wrap"), make("td", name(c.decided), "wrap"), make("td", whole(c.rows), "number"));
    }
    return place.replaceChildren(table);
  }
  head.append(make("th", "label ↓ answered →"), ...classes.map((_, i) => make("th", name(i), "number")));
  for (const [label] of classes.entries()) {
    const row = body.insertRow(), own = cells.filter((c) => c.label === label), sum = own.reduce((total, c) => total + c.rows, 0);
    row.append(make("th", name(label)));
    for (const [decided] of classes.entries()) {
      const rows = own.find((c) => c.decided === decided)?.rows ?? 0, cell = make("td", whole(rows), "number shaded");
      cell.style.setProperty("--share", sum ? rows / sum : 0);
      cell.title = `${percent(sum ? rows / sum : 0)} of the rows labelled ${name(label)} were answered ${name(decided)}`;
      row.append(cell);
    }
  }
  place.replaceChildren(table);
}

function drawGate(s) {
  const t = s.trial;
  at("gate-version").textContent = t?.version ? `snapshot ${t.version}, trial ${t.trial}` : "";
  const share = !t ? 0 : t.log_e_needed ? Math.min(Math.max(t.log_e / t.log_e_needed, 0), 1) : 1;
  at("gate-bar").style.width = `${100 * share}%`;
  at("gate").querySelector(".meter").setAttribute("aria-valuenow", Math.round(100 * share));
  if (!t) return text("gate-text", "No challenger is on trial.");
  const gain = `loss ${t.mean_gain >= 0 ? "lower" : "higher"} by ${Math.abs(t.mean_gain).toFixed(4)} ± ${t.standard_error.toFixed(4)} on ${whole(t.rows)} labels that neither was trained on`;
  text("gate-text", t.log_e_needed
    ? `Evidence ${t.log_e.toFixed(2)} of ${t.log_e_needed.toFixed(2)}: ${gain}.`
    : `This challenger has passed the gate; its newer snapshots are promoted until labels speak against it: ${gain}.`);
}

function drawCanary(c) {
  at("canary-text").hidden = !c;
  if (!c) return;
  const next = c.next_share < 1 ? percent(c.next_share) : "all";
  text("canary-text", `Snapshot ${c.version} answers ${percent(c.share)} of the requests first, since ${ago(c.since)}: ${whole(c.labels)} of ${whole(c.labels_needed)} labels of its answers until it answers ${next}; loss ${c.mean_regret > 0 ? "higher" : "lower"} by ${Math.abs(c.mean_regret).toFixed(4)} ± ${c.standard_error.toFixed(4)} than what answers the others, on ${whole(c.compared)} labels.`);
}

function drawSnapshots(s, snapshots, confirm) {
  const rows = snapshots.toReversed().map((one) => {
    const row = make("tr", null, one.serving ? "serving" : ""), version = make("td", String(one.version));
    if (one.serving) version.append(make("span", "serving", "tag good"));
    const share = one.share ?? 0, first = share > 0 && share < 1;
    if (first) version.append(make("span", percent(share), "tag busy"));
    if (one.previous) version.append(make("span", "previous", "tag busy"));
    const made = make("td", ago(one.time)), action = make("td", null);
    made.title = `${one.tag}\n${one.reason}`;
    if (!one.serving || first) {
      const canary = first && !one.serving;
      const button = make("button", canary ? "Let it answer all" : "Roll back to this", "small");
      button.addEventListener("click", () => (canary ? answerAll : rollBack)(s, one, confirm));
      action.append(button);
    }
    row.append(version, make("td", one.phase), make("td", whole(one.rows), "number"), make("td", number(one.accuracy), "number"), make("td", number(one.f1), "number of-two"), made, action);
    return row;
  });
  at("snapshots").tBodies[0].replaceChildren(...rows);
}

function answerAll(s, snapshot, confirm) {
  confirm(`Let snapshot ${snapshot.version} answer all requests?`, `It answers ${percent(snapshot.share)} now. All workers serve it within a second, whatever the labels say.`, "Let it answer all", "rollback", { version: snapshot.version });
}

export function rollBack(s, snapshot, confirm) {
  const figures = snapshot.rows ? `accuracy ${number(snapshot.accuracy)}${many(s) ? "" : ` and F1 ${number(snapshot.f1)}`} on ${whole(snapshot.rows)} labels` : "not measured by any label yet";
  confirm(`Roll back to snapshot ${snapshot.version}?`, `It is ${snapshot.phase}: ${figures}. All workers serve it within a second; healing continues from there.`, "Roll back", "rollback", { version: snapshot.version });
}
