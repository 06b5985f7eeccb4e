// Questions before something is done, evidence, and short messages.

import { ago, at, make, text } from "./format.js";
import { evidence, told } from "./told.js";

/** Ask first; then do it, and show what the service says. */
export function confirm(title, words, yes, act) {
  const dialog = at("ask");
  text("ask-title", title);
  text("ask-text", words);
  at("ask-yes").textContent = yes;
  dialog.onclose = async () => {
    if (dialog.returnValue !== "yes") return;
    try {
      const said = await act();
      toast(said.command ? `requested: ${said.command}` : said.candidate ? `${said.tag}: ${said.state}` : `snapshot ${said.version} is promoted`);
    } catch (error) {
      toast(`refused: ${error.message}`);
    }
  };
  dialog.returnValue = "";
  dialog.showModal();
}

export function toast(words) {
  text("toast", words);
  at("toast").hidden = false;
  setTimeout(() => { at("toast").hidden = true; }, 4000);
}

/** What an event rests on. */
export function showEvidence(event) {
  text("evidence-title", told(event));
  text("evidence-time", `${new Date(event.time * 1000).toLocaleString("en-GB")}, ${ago(event.time)}`);
  at("evidence-facts").replaceChildren(Object.keys(event.detail).length ? evidence(event) : make("p", "Nothing more is known of it.", "muted"));
  at("evidence").showModal();
}
