// The models of a service with several: what `/status` says of each.

import { at, fill, make, signed, whole } from "./format.js";
import { ask, asking, askToken, Denied } from "./service.js";

const EVERY = 3000;

function lift(found) {
  return found?.mean == null ? "–" : `${signed(found.mean)} (${signed(found.low)} to ${signed(found.high)})`;
}

function draw(models) {
  const names = Object.keys(models), troubled = names.filter((name) => models[name].attention.length);
  at("headline").textContent = troubled.length ? `${troubled.length} of ${names.length} models need attention: ${troubled.join(", ")}` : `${names.length} models, none needs attention`;
  const rows = Object.entries(models).map(([name, found]) => {
    const link = make("a", name);
    link.href = `${found.path}selfheal/`;
    return [
      link, found.serves ? found.state ?? "–" : "does not serve", lift(found.lift), String(found.serving_version ?? "–"),
      whole(found.predicted_rows), whole(found.labels), found.attention.join("; ") || "nothing",
    ];
  });
  fill("models", rows, ["", "", "number", "number", "number", "number", "wrap"], "No models.");
}

function alarm(text) {
  at("alert").textContent = text;
  at("alert").hidden = !text;
}

async function look() {
  if (asking()) return;
  try {
    draw((await ask("models", "status")).models);
    alarm("");
  } catch (error) {
    // The token is kept for this tab alone, also for the pages of the models.
    if (error instanceof Denied) askToken("models", error, look);
    else alarm(`The service does not answer: ${error.message}. Trying again.`);
  }
}

look();
setInterval(look, EVERY);
