// What the page shows and asks for; everything comes from the service's own endpoints.

import { Charts, stateColor } from "./charts.js";
import { Review } from "./review.js";

const BASE = new URL("../", location.href);
const TOKENS = { overview: "token", review: "review-token" };
const VIEWS = Object.keys(TOKENS);
const EVERY = 2000;
const POINTS = 1000;
const EVENTS_PAGE = 1000;
const EVENTS_KEPT = 2000;
const EVENTS_SHOWN = 200;
const RANGES = { "15 min": 900, "1 h": 3600, "6 h": 21600, "24 h": 86400, "7 d": 604800, "90 d": 7776000 };
const SAYS = {
  HEALTHY: "No drift",
  DRIFTING: "The data is drifting",
  HEALING: "A heal is training",
  RETRAIN_NEEDED: "Healing is not enough: a retrain is needed",
  ROLLED_BACK: "A promotion was undone",
};
const QUIET = new Set(["undecided", "change"]);

const charts = new Charts();
const now = { view: "overview", status: null, range: 3600, measurements: [], events: [], shown: EVENTS_SHOWN, older: false, snapshots: [], stale: true };
const at = (id) => document.getElementById(id);
const counted = (count, noun) => `${count ?? 0} ${noun}${count === 1 ? "" : "s"}`;
const number = (value, digits = 3) => (value == null ? "–" : value.toFixed(digits));
const signed = (value) => (value == null ? "–" : (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(3));

function text(id, value, style = "") {
  at(id).textContent = value;
  at(id).classList.remove("good", "warn", "bad");
  if (style) at(id).classList.add(style);
}

function ago(seconds) {
  const past = Math.max(Date.now() / 1000 - seconds, 0);
  if (past < 60) return `${Math.round(past)} s ago`;
  if (past < 3600) return `${Math.round(past / 60)} min ago`;
  return past < 172800 ? `${(past / 3600).toFixed(1)} h ago` : `${Math.round(past / 86400)} days ago`;
}

function span(seconds) {
  if (seconds == null) return "–";
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function make(tag, content, className = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.append(content ?? "");
  return element;
}

class Denied extends Error {}

/** The service's answer, or its error. What may be asked is the token's to say: the browser sends none by itself. */
async function call(path, body) {
  const token = sessionStorage.getItem(TOKENS[now.view]) ?? sessionStorage.getItem(TOKENS.overview);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = body === undefined ? { headers } : { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(new URL(path, BASE), options);
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401 || answer.status === 403) throw new Denied(said.error);
  if (!answer.ok) throw new Error(said.error || said.detail || `${answer.status} ${answer.statusText}`);
  return said;
}

/** Ask for the token of a view, once at a time; it is kept for this tab alone. */
function askToken(error) {
  const dialog = at("token"), view = now.view;
  if (dialog.open) return;
  text("token-title", view === "review" ? "Feedback token" : "Operator token");
  text("token-text", `${error.message}. It is kept until this tab is closed.`);
  dialog.onclose = () => {
    const given = at("token-given").value.trim();
    at("token-given").value = "";
    if (given) sessionStorage.setItem(TOKENS[view], given);
    if (now.view === "review") review.next();
    else refresh();
  };
  dialog.showModal();
}

// -- reading ---------------------------------------------------------------------------------------

let turn = Promise.resolve();

/** Look again; one look after the other, or what is new would be added twice. */
function refresh() {
  turn = turn.then(look);
  return turn;
}

async function look() {
  if (at("token").open || now.view !== "overview") return;
  try {
    const status = await call("status");
    const since = Date.now() / 1000 - now.range;
    const after = now.measurements.at(-1)?.seq ?? 0;
    const [fresh, events] = await Promise.all([
      call(`history?since=${since}&after=${after}&limit=${POINTS}`),
      newEvents(),
    ]);
    if (events.length || now.stale) now.snapshots = await call("snapshots");
    now.stale = false;
    now.measurements = [...now.measurements, ...fresh].filter((m) => m.time >= since);
    keepEvents([...now.events, ...events]);
    now.status = status;
    alarm("");
    draw();
  } catch (error) {
    if (error instanceof Denied) return askToken(error);
    alarm(`The service does not answer: ${error.message}. Trying again.`);
  }
}

/** Events since the last look. At first, and after a long absence, the newest page instead of all in between. */
async function newEvents() {
  const last = now.events.at(-1)?.seq;
  if (last !== undefined) {
    const events = await call(`events?after=${last}&limit=${EVENTS_PAGE}`);
    if (events.length < EVENTS_PAGE) return events;
  }
  const newest = await call(`events?limit=${EVENTS_PAGE}`);
  Object.assign(now, { events: [], shown: EVENTS_SHOWN, older: newest.length === EVENTS_PAGE });
  return newest;
}

/** Keep the newest events only, unless somebody reads back. */
function keepEvents(events) {
  const most = Math.max(EVENTS_KEPT, now.shown + EVENTS_PAGE);
  now.older ||= events.length > most;
  now.events = events.slice(-most);
}

/** Show more events; where all that were loaded are shown, load the page before them. */
async function olderEvents() {
  try {
    if (now.shown + EVENTS_SHOWN > now.events.length && now.older) {
      const page = await call(`events?before=${now.events[0].seq}&limit=${EVENTS_PAGE}`);
      now.events = [...page, ...now.events];
      now.older = page.length === EVENTS_PAGE;
    }
    now.shown += EVENTS_SHOWN;
    drawEvents();
  } catch (error) {
    toast(`The older events could not be read: ${error.message}`);
  }
}

async function live() {
  await refresh();
  setTimeout(live, EVERY);
}

function alarm(message) {
  at("alert").hidden = !message;
  at("alert").textContent = message;
}

// -- showing ---------------------------------------------------------------------------------------

function draw() {
  const s = now.status;
  drawHead(s);
  drawTiles(s);
  drawGate(s);
  drawSnapshots();
  drawEvents();
  drawSources(s.sources ?? {});
  drawRules(s.rules ?? []);
  charts.show(now.measurements, now.events, s.signals ?? {});
  at("model").textContent = s.model ?? "";
  at("worker").textContent = `worker ${s.worker.pid} serves snapshot ${s.worker.serving_version}`;
}

function drawHead(s) {
  const state = s.state ?? "…";
  at("state").textContent = state.replace("_", " ");
  at("state").className = "pill";
  document.body.classList.toggle("many-classes", many());
  at("state").classList.add(stateColor(state).slice(2));
  at("headline").textContent = `${SAYS[state] ?? "No figures yet"}; ${verdict(s)}`;
  const last = now.events.findLast((e) => !QUIET.has(e.kind));
  const held = s.paused ? "Healing is paused. " : s.mode === "observe" ? "Observing: nothing is promoted. " : "";
  const why = s.retrain ? `${s.retrain}. ` : "";
  const anew = s.rebuilding ? "What was learned is built anew without erased rows; new labels wait. " : "";
  at("story").textContent = held + anew + why + (last ? `Last: ${told(last)}, ${ago(last.time)}.` : "Nothing has happened yet.");
  if (s.runner_alive === false) alarm("The healing runner is not running: predictions go on, but nothing heals.");
  else if (s.trouble) alarm(s.trouble);
  else if (s.one_class?.alarm) alarm(`The service no longer tells rows apart: ${s.one_class.reason}.`);
  else if (s.one_sided?.alarm) alarm(`Nothing is promoted: ${s.one_sided.reason}.`);
  else if (s.worker.dropped_rows) alarm(`${s.worker.dropped_rows} predictions were not logged: the store was too slow.`);
  at("pause").textContent = s.paused ? "Resume" : "Pause";
  at("observe").textContent = s.mode === "observe" && !s.paused ? "Promote again" : "Observe";
  for (const name of ["heal", "observe", "pause"]) at(name).disabled = false;
  at("rollback").disabled = !previous();
}

/** Of more than two classes, precision, recall and F1 say nothing. */
const many = () => (now.status?.classes ?? []).length > 2;

/** Whether healing helped, in words. */
function verdict(s) {
  if (!s.labelled_batches) return "no label has come yet";
  if (!s.promotions) return "nothing healed serves yet";
  if (s.lift.low > 0) return `healing helps: ${signed(s.lift.mean)} accuracy`;
  return s.lift.high < 0 ? `healing hurts: ${signed(s.lift.mean)} accuracy` : "no proven difference from the baseline";
}

/** Rows that wait until they are old enough, where one class is never reported. */
function waits(unreported) {
  if (!unreported) return "";
  const age = unreported.age_seconds == null ? "no row is old enough yet" : `rows count ${span(unreported.age_seconds)} after their answer`;
  const lost = unreported.lost ? `, ${counted(unreported.lost, "request")} lost before that` : "";
  return `; ${age}, ${counted(unreported.early, "label")} held until then, ${unreported.late} late${lost}`;
}

/** How far categories, missing values and hidden vectors are from training, and which too far. */
function far(signal) {
  if (signal.distance_limit == null) return "";
  const where = signal.differing.length ? ` on ${signal.differing.join(", ")}` : "";
  return `, distance ${number(signal.distance, 2)} of ${number(signal.distance_limit, 2)}${where}`;
}

function drawTiles(s) {
  const signal = s.signals ?? {}, over = signal.drifting || signal.z > signal.fidi_threshold;
  text("drift", over ? "drifting" : "calm", over ? "warn" : "good");
  const feature = signal.feature ? ` on ${signal.feature}` : "";
  text("drift-why", `z ${number(signal.z, 2)} of ${signal.fidi_threshold}${feature}, conflicts ${signal.conflicts ?? "–"} of ${signal.conflict_min}${far(signal)}`);
  const last = s.last, share = s.predicted_rows ? s.labels.joined / s.predicted_rows : null;
  text("accuracy", last ? number(last.champion.accuracy) : `≈ ${number(s.estimate?.accuracy)}`);
  text("accuracy-why", last
    ? `newest batch; baseline ${number(last.shadow.accuracy)}. All ${s.champion.tp + s.champion.tn + s.champion.fp + s.champion.fn} labels: ${number(s.champion.accuracy)}, always the commonest class ${number(s.majority)}${many() ? "" : `, F1 ${number(s.champion.f1)}`}`
    : "estimated: no label has come yet");
  const lift = s.lift ?? {};
  text("lift", s.labelled_batches ? signed(lift.mean) : "–", lift.low > 0 ? "good" : lift.high < 0 ? "bad" : "");
  text("lift-why", s.labelled_batches > 1 ? `95 % interval ${signed(lift.low)} to ${signed(lift.high)}` : "too few labelled batches for an interval");
  text("serving", s.serving ? `snapshot ${s.serving.version}` : "–");
  text("serving-why", `${s.serving?.phase ?? ""}, since ${ago(s.worker.serving_since)}. ${counted(s.heals, "heal")}, ${counted(s.promotions, "promotion")}, ${counted(s.rollbacks, "rollback")}`);
  text("labels", share == null ? "–" : `${(100 * share).toFixed(0)} %`);
  text("labels-why", `${s.labels?.joined ?? 0} joined, ${s.labels?.delay_seconds == null ? "no delay known" : `${span(s.labels.delay_seconds)} late`}, ${s.labels?.waiting ?? 0} waiting, ${s.labels?.unmatched ?? 0} unmatched${s.unread?.labels ? `, ${s.unread.labels} unread` : ""}${waits(s.unreported)}`);
  const cost = s.cost;
  text("cost", last ? number(1000 * cost.champion, 0) : "–", last && cost.champion > cost.shadow ? "bad" : "");
  text("cost-why", last ? `baseline ${number(1000 * cost.shadow, 0)}; ${mistakes(s)}` : "");
}

/** What mistakes cost, in words. */
function mistakes(s) {
  const { miss_cost: miss, alarm_cost: other } = s.thresholds;
  if (many()) return `a wrong answer ${s.classes[0]} costs ${miss}, any other wrong answer ${other}`;
  return `a miss costs ${miss}, a false alarm ${other}; threshold ${number(s.operating_point.threshold, 2)}`;
}

function drawGate(s) {
  const t = s.trial;
  at("gate-version").textContent = t?.version ? `snapshot ${t.version}, trial ${t.trial}` : "";
  const share = !t ? 0 : t.log_e_needed ? Math.min(Math.max(t.log_e / t.log_e_needed, 0), 1) : 1;
  at("gate-bar").style.width = `${100 * share}%`;
  at("gate").querySelector(".meter").setAttribute("aria-valuenow", Math.round(100 * share));
  if (!t) return text("gate-text", "No challenger is on trial.");
  const gain = `loss ${t.mean_gain >= 0 ? "lower" : "higher"} by ${Math.abs(t.mean_gain).toFixed(4)} ± ${t.standard_error.toFixed(4)} on ${t.rows} labels that neither was trained on`;
  text("gate-text", t.log_e_needed
    ? `Evidence ${t.log_e.toFixed(2)} of ${t.log_e_needed.toFixed(2)}: ${gain}.`
    : `This challenger has passed the gate; its newer snapshots are promoted until labels speak against it: ${gain}.`);
}

const previous = () => now.snapshots.find((s) => s.previous);

function drawSnapshots() {
  const rows = now.snapshots.toReversed().map((s) => {
    const row = make("tr", null, s.serving ? "serving" : "");
    const version = make("td", String(s.version));
    if (s.serving) version.append(make("span", "serving", "tag good"));
    if (s.previous) version.append(make("span", "previous", "tag busy"));
    const made = make("td", ago(s.time));
    made.title = `${s.tag}\n${s.reason}`;
    const action = make("td", null);
    if (!s.serving) {
      const button = make("button", "Roll back to this", "small");
      button.addEventListener("click", () => rollBack(s));
      action.append(button);
    }
    row.append(version, make("td", s.phase), make("td", String(s.rows), "number"), make("td", number(s.accuracy), "number"), make("td", number(s.f1), "number of-two"), made, action);
    return row;
  });
  at("snapshots").tBodies[0].replaceChildren(...rows);
}

const TELLS = {
  heal: (d) => `heal ${d.heal} trained snapshot ${d.version}${d.reason ? `: ${d.reason}` : ""}`,
  promote: (d) => `promoted snapshot ${d.version}: ${d.reason}`,
  rollback: (d) => d.by && d.by !== "runner" ? d.reason : `rolled back${d.from ? ` from ${d.from}` : ""} to ${d.version}: ${d.reason}`,
  drifting: (d) => `drifting: ${d.reason}${d.causes ? `; ${d.causes.sentence}` : ""}`,
  drift_explained: (d) => `${d.kind}: ${d.sentence}`,
  change: (d) => `change seen by ${(d.detectors ?? []).join(", ")}`,
  undecided: (d) => `snapshot ${d.version}'s trial ended undecided after ${d.rows} labels`,
  promotion_withheld: (d) => `snapshot ${d.version} is not promoted: ${d.reason}`,
  quarantine: (d) => `source ${d.source} quarantined, ${d.rows} rows forgotten: ${d.reason}`,
  release: (d) => d.quarantined ? `source ${d.source} released` : `source ${d.source} was not quarantined: nothing to release`,
  erased: (d) => `a row was erased`,
  rebuilt: (d) => `what was learned was built anew without erased rows, in ${number(d.seconds, 1)} s`,
  new_class: (d) => `labels of the class ${d.class}, which was not trained on: ${(100 * d.share).toFixed(1)}% of the newest are of such classes`,
  refused: (d) => `refused ${d.version ? `snapshot ${d.version}` : `heal ${d.heal}`}: ${d.reason}`,
  feed_failing: (d) => d.reason,
  feed_recovered: (d) => `feed ${d.feed} works again`,
  feed_rejected: (d) => `feed ${d.feed}: ${counted(d.rows, "row")} not kept; they are in ${d.folder}`,
  operating_point: (d) => `decision threshold ${number(d.threshold, 3)} (${d.kind}): ${d.reason}`,
  prediction_set_aside: (d) => `a logged prediction was set aside: ${d.error}`,
  row_set_aside: (d) => `a labelled row was set aside, the model cannot answer it: ${d.error ?? d.reason}`,
  step_failing: (d) => d.reason,
  step_recovered: () => "the healing step works again",
  one_class: (d) => d.reason,
  one_sided: (d) => d.reason,
  unreported_lost: (d) => `${counted(d.requests, "request")} lost: ${d.reason}`,
  retrain_needed: (d) => `a retraining is due: ${d.reason}; ${counted(d.rows, "row")} exported`,
  deployed: (d) => `${d.package} was deployed as snapshot ${d.version}`,
  heal_skipped: (d) => `no heal: ${d.reason}`,
  dropped: (d) => `${d.rows} predictions not logged: ${d.reason}`,
  inputs_dropped: (d) => `${d.rows} inputs not kept: ${d.reason}`,
  heal_asked: () => "a heal was asked for",
  pause: () => "healing paused", resume: () => "healing resumed", observe: () => "observing: nothing is promoted",
};

function told(event) {
  const tell = TELLS[event.kind];
  const rest = Object.entries(event.detail).map(([k, v]) => `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`);
  const by = tell && !["runner", "operator", undefined].includes(event.detail.by) ? `, by ${event.detail.by}` : "";
  return tell ? tell(event.detail) + by : `${event.kind.replaceAll("_", " ")}: ${rest.join(", ")}`;
}

function drawEvents() {
  const items = now.events.slice(-now.shown).toReversed().map((event) => {
    const item = make("li", make("span", ago(event.time), "muted"));
    item.append(make("span", told(event)));
    item.title = new Date(event.time * 1000).toLocaleString();
    return item;
  });
  at("events").replaceChildren(...(items.length ? items : [make("li", "Nothing has happened yet.", "muted")]));
  at("older").hidden = !now.older && now.events.length <= now.shown;
}

function drawSources(sources) {
  const rows = Object.entries(sources).map(([name, s]) => {
    const row = make("tr", make("td", name, "wrap")), action = make("td", null);
    if (s.quarantined) {
      const button = make("button", "Release", "small");
      button.addEventListener("click", () => ask(`Release ${name}?`, "Its later labels are learned from, and judged anew.", "Release", "release", { source: name }));
      action.append(button);
    } else {
      const button = make("button", "Forget", "small");
      button.addEventListener("click", () => ask(`Forget ${name}?`, "Its labels are removed from the training buffer, and its new labels are ignored.", "Forget", "forget", { source: name }));
      action.append(button);
    }
    row.append(make("td", String(s.labels), "number"), make("td", s.quarantined ? `quarantined: ${s.quarantined}` : "trusted", s.quarantined ? "wrap bad" : ""), action);
    return row;
  });
  at("sources").tBodies[0].replaceChildren(...(rows.length ? rows : [nothing("No feedback names a source.", 4)]));
}

function drawRules(rules) {
  const share = (value) => (value == null ? "–" : `${(100 * value).toFixed(0)} %`);
  const rows = rules.map((r) => {
    const row = make("tr", make("td", r.rule, "wrap"));
    row.append(make("td", share(r.coverage), "number"), make("td", share(r.precision), "number"), make("td", share(r.trust), "number"));
    return row;
  });
  at("rules").tBodies[0].replaceChildren(...(rows.length ? rows : [nothing("The package has no rules.", 4)]));
}

function nothing(words, width) {
  const cell = make("td", words, "muted");
  cell.colSpan = width;
  return make("tr", cell);
}

// -- asking ----------------------------------------------------------------------------------------

/** Ask first; then tell the service, and show what it says. */
function ask(title, words, yes, path, body = {}) {
  const dialog = at("ask");
  text("ask-title", title);
  text("ask-text", words);
  at("ask-yes").textContent = yes;
  dialog.onclose = async () => {
    if (dialog.returnValue !== "yes") return;
    try {
      const said = await call(path, body);
      toast(said.command ? `requested: ${said.command}` : `snapshot ${said.version} is promoted`);
    } catch (error) {
      toast(`refused: ${error.message}`);
    }
    now.stale = true;
    await refresh();
  };
  dialog.returnValue = "";
  dialog.showModal();
}

function rollBack(snapshot) {
  const figures = snapshot.rows ? `accuracy ${number(snapshot.accuracy)}${many() ? "" : ` and F1 ${number(snapshot.f1)}`} on ${snapshot.rows} labels` : "not measured by any label yet";
  ask(`Roll back to snapshot ${snapshot.version}?`, `It is ${snapshot.phase}: ${figures}. All workers serve it within a second; healing continues from there.`, "Roll back", "rollback", { version: snapshot.version });
}

function toast(words) {
  text("toast", words);
  at("toast").hidden = false;
  setTimeout(() => { at("toast").hidden = true; }, 4000);
}

function listen() {
  at("older").addEventListener("click", () => { turn = turn.then(olderEvents); });
  at("heal").addEventListener("click", () => ask("Heal now?", "Train one heal on the labels received so far, whatever the signals say. The gate decides on promotion as always.", "Heal", "heal"));
  at("rollback").addEventListener("click", () => rollBack(previous()));
  at("pause").addEventListener("click", () => now.status.paused
    ? ask("Resume healing?", "The service heals, promotes and rolls back by itself again.", "Resume", "resume")
    : ask("Pause healing?", "Signals and metrics continue. The service neither heals nor promotes nor rolls back by itself until you resume; your own commands still work.", "Pause", "pause"));
  at("observe").addEventListener("click", () => now.status.mode === "observe" && !now.status.paused
    ? ask("Promote again?", "Challengers that pass the gate are promoted again, unless the settings say observe.", "Promote again", "resume")
    : ask("Observe only?", "Heals and metrics continue, but nothing is promoted or rolled back.", "Observe", "observe"));
  for (const [name, seconds] of Object.entries(RANGES)) {
    const button = make("button", name, "small");
    button.setAttribute("aria-pressed", String(seconds === now.range));
    button.addEventListener("click", () => {
      now.range = seconds;
      now.measurements = [];
      for (const other of at("ranges").children) other.setAttribute("aria-pressed", String(other === button));
      refresh();
    });
    at("ranges").append(button);
  }
  for (const state of Object.keys(SAYS)) {
    const entry = make("span", null), block = make("i", null);
    block.style.color = `var(${stateColor(state)})`;
    entry.append(block, state.replace("_", " ").toLowerCase());
    at("legend-states").append(entry);
  }
  at("legend-states").append("▲ promoted   ▼ rolled back   ╷ heal");
}

// -- views -----------------------------------------------------------------------------------------

function denied(error) {
  if (error instanceof Denied) askToken(error);
  return error instanceof Denied;
}

const review = new Review({ at, make, call, ago, toast, denied });

/** Show the view that the address names. */
function showView() {
  now.view = location.hash === "#review" ? "review" : "overview";
  for (const view of VIEWS) {
    const here = view === now.view, tab = at(`tab-${view}`);
    at(view).hidden = !here;
    tab.setAttribute("aria-selected", String(here));
    tab.tabIndex = here ? 0 : -1;
  }
  alarm("");
  review.show(now.view === "review");
  if (now.view === "overview") refresh();
}

/** Tabs as WAI-ARIA has them: the arrow keys go to the next one. */
function listenTabs() {
  for (const [i, view] of VIEWS.entries()) {
    const tab = at(`tab-${view}`);
    tab.addEventListener("click", () => { location.hash = view; });
    tab.addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      const other = VIEWS[(i + 1) % VIEWS.length];
      location.hash = other;
      at(`tab-${other}`).focus();
    });
  }
  addEventListener("hashchange", showView);
}

listen();
listenTabs();
showView();
live();
