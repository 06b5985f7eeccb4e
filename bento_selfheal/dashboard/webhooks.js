// Webhooks on the Events tab: who is told, and who is not at the moment.

import { at, counted, fill, span, whole } from "./format.js";

const WIDTHS = ["", "", "number", "number", "number", ""];

/** The first webhook that fails, in words; empty where none does. */
export function failing(hooks) {
  const hook = (hooks ?? []).find((one) => one.failing);
  return hook ? `Webhook ${hook.name} fails: ${hook.failing}. ${counted(hook.waiting, "event")} ${hook.waiting === 1 ? "waits" : "wait"} for it.` : "";
}

export function drawWebhooks({ status: s }) {
  const hooks = s.webhooks ?? [];
  at("webhooks").hidden = !hooks.length;
  const rows = hooks.map((h) => [
    h.name, `${h.template}, ${h.host}: ${h.kinds.join(", ")}`, whole(h.delivered),
    h.waiting ? `${whole(h.waiting)}, for ${span(h.oldest_seconds)}` : "0", whole(h.given_up),
    h.failing || "works",
  ]);
  fill("webhook-list", rows, WIDTHS, "None.");
}
