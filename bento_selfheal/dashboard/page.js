// What the page shows; everything comes from the service's own endpoints. Each tab has a module of its own.

import { Charts, stateColor } from "./charts.js";
import { confirm, showEvidence, toast } from "./dialogs.js";
import { drawDrift } from "./drift.js";
import { Events } from "./events.js";
import { ago, at, make } from "./format.js";
import { drawLabels } from "./labels.js";
import { drawModels, rollBack } from "./models.js";
import { drawOverview, many, SAYS } from "./overview.js";
import { Review } from "./review.js";
import { drawSegments } from "./segments.js";
import { ask, asking, askToken, Denied } from "./service.js";
import { drawThresholds } from "./thresholds.js";
import { drawWebhooks } from "./webhooks.js";

const VIEWS = ["overview", "drift", "segments", "labels", "models", "events", "review"];
const EVERY = 2000;
const POINTS = 1000;
const HOUR = 3600;
const RANGES = { "15 min": 900, "1 h": HOUR, "6 h": 21600, "24 h": 86400, "7 d": 604800, "90 d": 7776000 };

const charts = new Charts(showEvidence);
const events = new Events();
const now = { view: "overview", status: null, range: HOUR, auto: true, measurements: [], snapshots: [], stale: true };
const call = (path, body) => ask(now.view, path, body);

// -- reading ---------------------------------------------------------------------------------------

let turn = Promise.resolve();

/** Look again; one look after the other, or what is new would be added twice. */
function refresh() {
  turn = turn.then(look);
  return turn;
}

async function look() {
  if (asking() || now.view === "review") return;
  try {
    const status = await call("status");
    const [, fresh] = await Promise.all([readFigures(), events.read(call)]);
    if (fresh || now.stale) now.snapshots = await call("snapshots");
    now.stale = false;
    now.status = status;
    draw();
  } catch (error) {
    if (!denied(error)) alarm(`The service does not answer: ${error.message}. Trying again.`);
  }
}

/** Read the figures since the last look. Until there are any, or a time was chosen, look for the shortest time that has some. */
async function readFigures() {
  const since = (range) => Date.now() / 1000 - range;
  const read = (range, after) => call(`history?since=${since(range)}&after=${after}&limit=${POINTS}`);
  if (!now.auto) {
    const fresh = await read(now.range, now.measurements.at(-1)?.seq ?? 0);
    now.measurements = [...now.measurements, ...fresh].filter((m) => m.time >= since(now.range));
    return;
  }
  for (const range of Object.values(RANGES).filter((one) => one >= HOUR)) {
    now.measurements = await read(range, 0);
    if (now.measurements.length < 2) continue;
    now.auto = false;
    return choose(range);
  }
}

async function live() {
  await refresh();
  setTimeout(live, EVERY);
}

function denied(error) {
  if (error instanceof Denied) askToken(now.view, error, () => (now.view === "review" ? review.next() : refresh()));
  return error instanceof Denied;
}

function alarm(message) {
  at("alert").hidden = !message;
  at("alert").textContent = message;
}

// -- showing ---------------------------------------------------------------------------------------

const DRAW = { drift: drawDrift, segments: drawSegments, labels: drawLabels, models: (now) => { drawModels(now); drawThresholds(now); }, events: (now) => { events.draw(); drawWebhooks(now); } };

function draw() {
  const s = now.status, previous = now.snapshots.find((one) => one.previous);
  document.body.classList.toggle("many-classes", many(s));
  drawOverview({ status: s, events: events.all, previous, alarm });
  DRAW[now.view]?.({ status: s, snapshots: now.snapshots, events: events.all, confirm: request });
  charts.show(now.measurements, events.all, s.signals ?? {});
  at("model").textContent = s.model ?? "";
  at("worker").textContent = `worker ${s.worker.pid} serves snapshot ${s.worker.serving_version}`;
}

// -- asking ----------------------------------------------------------------------------------------

/** Ask first; then send it, and look again. */
function request(title, words, yes, path, body = {}) {
  confirm(title, words, yes, async () => {
    try {
      return await call(path, body);
    } finally {
      now.stale = true;
      refresh();
    }
  });
}

function listenActions() {
  at("heal").addEventListener("click", () => request("Heal now?", "Train one heal on the labels received so far, whatever the signals say. The gate decides on promotion as always.", "Heal", "heal"));
  at("rollback").addEventListener("click", () => rollBack(now.status, now.snapshots.find((one) => one.previous), request));
  at("pause").addEventListener("click", () => now.status.paused
    ? request("Resume healing?", "The service heals, promotes and rolls back by itself again.", "Resume", "resume")
    : request("Pause healing?", "Signals and metrics continue. The service neither heals nor promotes nor rolls back by itself until you resume; your own commands still work.", "Pause", "pause"));
  at("observe").addEventListener("click", () => now.status.mode === "observe" && !now.status.paused
    ? request("Promote again?", "Challengers that pass the gate are promoted again, unless the settings say observe.", "Promote again", "resume")
    : request("Observe only?", "Heals and metrics continue, but nothing is promoted or rolled back.", "Observe", "observe"));
  at("older").addEventListener("click", () => {
    turn = turn.then(() => events.back(call)).catch((error) => toast(`The older events could not be read: ${error.message}`));
  });
}

// -- the time that is shown ------------------------------------------------------------------------

const buttons = new Map();

function choose(range) {
  now.range = range;
  for (const [name, button] of buttons) button.setAttribute("aria-pressed", String(RANGES[name] === range));
}

function listenRanges() {
  for (const [name, range] of Object.entries(RANGES)) {
    const button = make("button", name, "small");
    button.addEventListener("click", () => {
      choose(range);
      Object.assign(now, { auto: false, measurements: [] });
      charts.zoom(null);
      refresh();
    });
    buttons.set(name, button);
    at("ranges").append(button);
  }
  choose(HOUR);
  at("earlier").addEventListener("click", () => charts.pan(-1));
  at("later").addEventListener("click", () => charts.pan(1));
  at("unzoom").addEventListener("click", () => charts.zoom(null));
  for (const state of Object.keys(SAYS)) {
    const entry = make("span", null), block = make("i", null);
    block.style.color = `var(${stateColor(state)})`;
    entry.append(block, state.replace("_", " ").toLowerCase());
    at("legend-states").append(entry);
  }
  at("legend-states").append("▲ promoted   ▼ rolled back   ╷ heal");
}

// -- views -----------------------------------------------------------------------------------------

const review = new Review({ at, make, call, ago, toast, denied });

/** Show the view that the address names. */
function showView() {
  const named = location.hash.slice(1);
  now.view = VIEWS.includes(named) ? named : VIEWS[0];
  for (const view of VIEWS) {
    const here = view === now.view, tab = at(`tab-${view}`);
    at(view).hidden = !here;
    tab.setAttribute("aria-selected", String(here));
    tab.tabIndex = here ? 0 : -1;
  }
  const plots = [...document.querySelectorAll(".charts")];
  for (const group of plots) group.hidden = group.dataset.view !== now.view;
  at("timeline").hidden = plots.every((group) => group.hidden);
  at("head").hidden = now.view === "review";
  alarm("");
  review.show(now.view === "review");
  if (now.status && now.view !== "review") draw();
  refresh();
}

/** Tabs as WAI-ARIA has them: the arrow keys go to the next one. */
function listenTabs() {
  for (const [i, view] of VIEWS.entries()) {
    const tab = at(`tab-${view}`);
    tab.addEventListener("click", () => { location.hash = view; });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const other = VIEWS[(i + step + VIEWS.length) % VIEWS.length];
      location.hash = other;
      at(`tab-${other}`).focus();
    });
  }
  addEventListener("hashchange", showView);
}

listenActions();
listenRanges();
listenTabs();
showView();
live();
