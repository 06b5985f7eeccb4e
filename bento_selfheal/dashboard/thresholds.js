// Thresholds and costs, which operators change while the service runs.

import { at } from "./format.js";

const NAMES = ["miss_cost", "alarm_cost", "capacity", "rollback_f1_drop", "rollback_acc_drop"];
let asked = null;
let inForce = {};

const field = (name) => at(`threshold-${name}`);
const given = (name) => (field(name).value.trim() === "" ? null : Number(field(name).value));
const changes = () => Object.fromEntries(NAMES.filter((name) => given(name) !== inForce[name]).map((name) => [name, given(name)]));

/** Show what is in force, except in a field that somebody is changing. */
export function drawThresholds({ status: s, confirm }) {
  asked = confirm;
  for (const name of NAMES) {
    const input = field(name), before = inForce[name];
    if (input.dataset.shown === undefined || given(name) === before) input.value = s.thresholds[name] ?? "";
    input.dataset.shown = "yes";
  }
  inForce = s.thresholds;
  at("threshold-change").disabled = !Object.keys(changes()).length;
}

at("thresholds").addEventListener("input", () => { at("threshold-change").disabled = !Object.keys(changes()).length; });
at("thresholds").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = changes();
  if (!asked || !Object.keys(wanted).length) return;
  const words = Object.entries(wanted).map(([name, value]) => `${name} ${inForce[name] ?? "none"} → ${value ?? "none"}`).join(", ");
  asked("Change thresholds?", `${words}. The audit keeps your name.`, "Change", "thresholds", wanted);
});
