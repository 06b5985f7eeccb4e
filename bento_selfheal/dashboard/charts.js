// The charts over time: one cursor for all, states as a ribbon, what was done as marks that can be pressed.

// Whole seconds at the least, and what people count in.
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2419200, 4838400];
const HEIGHT = 170;
const NEAR = 8; // pixels between a mark and the pointer that presses it
const LONGEST_STEP = 5; // usual steps between two figures; where more lie between, nothing was measured
const SHORTEST_GAP = 30; // seconds
const LEAST_LIFT = 0.01; // that the axis shows, also where nothing is gained or lost
const PANNED = 0.5; // of what is shown
const STATES = { HEALTHY: "--good", DRIFTING: "--warn", HEALING: "--busy", RETRAIN_NEEDED: "--bad", ROLLED_BACK: "--undone" };
const MARKS = { promote: ["▲", "--good"], rollback: ["▼", "--undone"], retrain_needed: ["!", "--bad"], quarantine: ["⊘", "--bad"] };

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fixed = (digits) => (_, value) => (value == null ? "–" : value.toFixed(digits));

export const stateColor = (state) => STATES[state] ?? "--muted";

/** Columns of the measurements, for uPlot: one x for all, null where a figure is missing. */
function columns(measurements, names) {
  const rows = measurements.map((m) => m.figures);
  return [measurements.map((m) => m.time), ...names.map((name) => rows.map((f) => f[name] ?? null))];
}

/** Where a series has no figure for longer than usual, as pixels: the line breaks there. */
function gaps(u, series) {
  const times = u.data[0].filter((_, i) => u.data[series][i] != null);
  const most = longest(times), found = [];
  for (let i = 1; i < times.length; i++) {
    if (times[i] - times[i - 1] > most) found.push([u.valToPos(times[i - 1], "x", true), u.valToPos(times[i], "x", true)]);
  }
  return found;
}

/** The longest time between two figures that is still one line. */
function longest(times) {
  const steps = times.slice(1).map((time, i) => time - times[i]).sort((a, b) => a - b);
  return Math.max(LONGEST_STEP * (steps[steps.length >> 1] ?? 0), SHORTEST_GAP);
}

function line(label, stroke, digits, more = {}) {
  return { label, stroke: color(stroke), width: 1.6, gaps, points: { show: false }, value: fixed(digits), ...more };
}

export class Charts {
  /** `pressed` is told of an event whose mark was pressed. */
  constructor(pressed) {
    this.pressed = pressed;
    this.shown = null;
    this.measurements = [];
    this.events = [];
    this.thresholds = {};
    this.plots = [];
    this.sync = uPlot.sync("selfheal");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
    this.observer = new ResizeObserver(() => this.resize());
  }

  /** Show other data; the first time there is any, the charts are built. */
  show(measurements, events, thresholds) {
    Object.assign(this, { measurements, events, thresholds });
    if (!this.plots.length || measurements.length < 2) this.build();
    for (const { plot, names } of this.plots) {
      plot.setData(this.data(names), !this.shown);
      describe(plot);
    }
    if (this.shown) this.zoom(this.shown);
  }

  /** Show a part of the time, ``[from, to]`` in seconds; all of it for null. */
  zoom(shown) {
    this.shown = shown;
    document.getElementById("zoomed").hidden = !shown;
    const times = this.measurements.map((m) => m.time);
    const [min, max] = shown ?? [times[0], times.at(-1)];
    for (const { plot } of this.plots) plot.setScale("x", { min, max });
  }

  /** Go to earlier (-1) or later (1) figures. */
  pan(way) {
    if (!this.shown) return;
    const [from, to] = this.shown, step = way * PANNED * (to - from);
    this.zoom([from + step, to + step]);
  }

  /** What was dragged over is shown; a press on a mark tells what it rests on. */
  listen(plot) {
    plot.over.addEventListener("dblclick", () => this.zoom(null));
    plot.over.addEventListener("click", (press) => {
      const x = press.clientX - plot.over.getBoundingClientRect().left;
      const marked = this.events.filter((event) => event.kind in MARKS || event.kind === "heal");
      const away = (event) => Math.abs(plot.valToPos(event.time, "x") - x);
      // A promotion stands where its heal does: the one with a sign comes first.
      const nearest = marked.toSorted((a, b) => away(a) - away(b) || (b.kind in MARKS) - (a.kind in MARKS))[0];
      if (nearest && away(nearest) <= NEAR) this.pressed(nearest);
    });
  }

  selected(u) {
    const { left, width } = u.select;
    if (width > NEAR) this.zoom([u.posToVal(left, "x"), u.posToVal(left + width, "x")]);
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  data(names) {
    const [times, ...series] = columns(this.measurements, names.filter((n) => !n.startsWith("=")));
    const flat = names.filter((n) => n.startsWith("=")).map((n) => times.map(() => this.thresholds[n.slice(1)] ?? null));
    return [times, ...series, ...flat];
  }

  build() {
    for (const { plot } of this.plots) plot.destroy();
    this.plots = [];
    if (this.measurements.length < 2) return empty();
    this.add("chart-accuracy", ["accuracy", "shadow_accuracy", "challenger_accuracy"], [
      line("served", "--champion", 3, { width: 2.2 }),
      line("baseline", "--shadow", 3, { dash: [5, 4] }),
      line("challenger", "--challenger", 3),
    ], { range: [0, 1], hooks: { drawClear: [(u) => this.ribbon(u)], draw: [(u) => this.marks(u)] } });
    this.add("chart-lift", ["lift", "lift_low", "lift_high", "lift_mean"], [
      line("batch", "--shadow", 3, { width: 1 }),
      line("low", "--champion", 3, { width: 0 }),
      line("high", "--champion", 3, { width: 0 }),
      line("mean", "--champion", 3, { width: 2.2 }),
    ], { range: liftRange, bands: [{ series: [3, 2], fill: color("--band") }], hooks: { draw: [(u) => zero(u)] } });
    this.add("chart-z", ["z", "=fidi_threshold"], [line("z", "--champion", 2), threshold(2)], {});
    this.add("chart-conflicts", ["conflicts", "=conflict_min"], [line("rows", "--champion", 0), threshold(0)], {});
    this.add("chart-delay", ["delay_seconds"], [line("delay", "--champion", 1)], {});
    this.add("chart-cost", ["cost", "shadow_cost"], [
      line("served", "--champion", 3, { width: 2.2 }), line("baseline", "--shadow", 3, { dash: [5, 4] }),
    ], {});
  }

  add(id, names, series, { range, bands, hooks }) {
    const place = document.getElementById(id);
    place.replaceChildren();
    const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 }, font: "11px system-ui" };
    const y = range ? { range } : { range: (_, low, high) => uPlot.rangeNum(Math.min(low ?? 0, 0), high ?? 1, 0.1, true) };
    const plot = new uPlot({
      width: place.clientWidth || 300, height: HEIGHT, bands, hooks: { ...hooks, setSelect: [(u) => this.selected(u)] },
      cursor: { sync: { key: this.sync.key }, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: true }, y },
      axes: [{ ...axis, values: times, incrs: STEPS, size: 32, space: 72 }, { ...axis, size: 46 }],
      series: [{ value: (_, at) => (at == null ? "–" : new Date(at * 1000).toLocaleTimeString("en-GB")) }, ...series],
    }, this.data(names), place);
    describe(plot);
    this.listen(plot);
    this.plots.push({ plot, names, place });
    this.observer.observe(place);
  }

  resize() {
    for (const { plot, place } of this.plots) {
      if (place.clientWidth && Math.abs(plot.width - place.clientWidth) > 1) plot.setSize({ width: place.clientWidth, height: HEIGHT });
    }
  }

  /** The states as a ribbon at the foot of the chart. */
  ribbon(u) {
    const { ctx, bbox } = u, tall = 9 * devicePixelRatio;
    const most = longest(this.measurements.map((m) => m.time));
    ctx.save();
    this.measurements.forEach((m, i) => {
      const after = this.measurements[i + 1]?.time ?? m.time, next = after - m.time > most ? m.time : after;
      const from = u.valToPos(m.time, "x", true), to = u.valToPos(next, "x", true);
      ctx.fillStyle = color(stateColor(m.figures.state));
      ctx.fillRect(from, bbox.top + bbox.height - tall, Math.max(to - from, 1), tall);
    });
    ctx.restore();
  }

  /** Heals as ticks at the head of the chart; promotions and rollbacks as lines with a sign. */
  marks(u) {
    const { ctx, bbox } = u, ratio = devicePixelRatio;
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui`;
    ctx.textAlign = "center";
    for (const event of this.events) {
      const x = u.valToPos(event.time, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      const [sign, name] = MARKS[event.kind] ?? [null, "--challenger"];
      if (!sign && event.kind !== "heal") continue;
      ctx.fillStyle = ctx.strokeStyle = color(name);
      ctx.lineWidth = ratio;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + (sign ? bbox.height : 6 * ratio));
      ctx.globalAlpha = sign ? 0.55 : 0.9;
      ctx.stroke();
      ctx.globalAlpha = 1;
      if (sign) ctx.fillText(sign, x, bbox.top + 11 * ratio);
    }
    ctx.restore();
  }
}

/** The chart in words, for those who hear the page: its newest figures, and between which they lay. */
function describe(plot) {
  const said = plot.series.slice(1).map((series, i) => {
    const values = plot.data[i + 1].filter((value) => value != null);
    if (!values.length) return `${series.label}: nothing yet`;
    const [newest, least, most] = [values.at(-1), Math.min(...values), Math.max(...values)].map((v) => series.value(plot, v));
    return least === most ? `${series.label} ${newest}` : `${series.label} ${newest} now, between ${least} and ${most}`;
  });
  const title = plot.root.closest("figure").querySelector("figcaption").textContent.trim();
  const canvas = plot.ctx.canvas;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${title}: ${said.join("; ")}`);
  plot.root.querySelector(".u-legend").setAttribute("aria-hidden", "true"); // it follows the pointer
}

/** Of the batches and their mean: the interval of the first few batches is as wide as can be. */
function liftRange(u) {
  const values = [...u.data[1], ...u.data[4], -LEAST_LIFT, LEAST_LIFT].filter((value) => value != null);
  return uPlot.rangeNum(Math.min(...values), Math.max(...values), 0.15, true);
}

/** Times of the axis: as exact as what is shown is short. */
function times(u, splits) {
  const shown = u.scales.x.max - u.scales.x.min;
  return splits.map((at) => {
    const date = new Date(at * 1000);
    if (shown > 172800) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    return date.toLocaleTimeString("en-GB", shown > 1200 ? { hour: "2-digit", minute: "2-digit" } : {});
  });
}

function empty() {
  for (const place of document.querySelectorAll("figure > div")) {
    place.replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: "no figures in this time" }));
  }
}

function threshold(digits) {
  return line("threshold", "--bad", digits, { width: 1, dash: [4, 4] });
}

/** A line at zero: above it healing helps. */
function zero(u) {
  const y = u.valToPos(0, "y", true);
  u.ctx.save();
  u.ctx.strokeStyle = color("--muted");
  u.ctx.beginPath();
  u.ctx.moveTo(u.bbox.left, y);
  u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
  u.ctx.stroke();
  u.ctx.restore();
}
