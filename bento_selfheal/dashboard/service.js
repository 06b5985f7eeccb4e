// What the page asks the service for.

import { at, text } from "./format.js";

const BASE = new URL("../", import.meta.url);
const TOKENS = { review: "review-token" };
const TOKEN = "token";

export class Denied extends Error {}

/** The service's answer, or its error. What may be asked is the token's to say: the browser sends none by itself. */
export async function ask(view, path, body) {
  const token = sessionStorage.getItem(TOKENS[view] ?? TOKEN) ?? sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = body === undefined ? { headers } : { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(new URL(path, BASE), options);
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401 || answer.status === 403) throw new Denied(said.error);
  if (!answer.ok) throw new Error(said.error || said.detail || `${answer.status} ${answer.statusText}`);
  return said;
}

export const asking = () => at("token").open;

/** Ask for the token of a view, once at a time; it is kept for this tab alone. */
export function askToken(view, error, then) {
  const dialog = at("token");
  if (dialog.open) return;
  text("token-title", view === "review" ? "Feedback token" : "Operator token");
  text("token-text", `${error.message}. It is kept until this tab is closed.`);
  dialog.onclose = () => {
    const given = at("token-given").value.trim();
    at("token-given").value = "";
    if (given) sessionStorage.setItem(TOKENS[view] ?? TOKEN, given);
    then();
  };
  dialog.showModal();
}
