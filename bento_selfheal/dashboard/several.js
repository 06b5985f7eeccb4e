// The models of a service with several: what `/status` says of each.

const EVERY = 3000;
const at = (id) => document.getElementById(id);
const signed = (value) => (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(3);

function cell(row, content, className = "") {
  const made = row.insertCell();
  made.className = className;
  made.append(content ?? "–");
}

function lift(found) {
  return found?.mean == null ? "–" : `${signed(found.mean)} (${signed(found.low)} to ${signed(found.high)})`;
}

function draw(models) {
  const body = at("models").tBodies[0], names = Object.keys(models);
  const troubled = names.filter((name) => models[name].attention.length);
  at("headline").textContent = troubled.length ? `${troubled.length} of ${names.length} models need attention: ${troubled.join(", ")}` : `${names.length} models, none needs attention`;
  body.replaceChildren();
  for (const name of names) {
    const found = models[name], row = body.insertRow(), link = document.createElement("a");
    link.href = `${found.path}selfheal/`;
    link.textContent = name;
    cell(row, link);
    cell(row, found.serves ? found.state : "does not serve");
    cell(row, lift(found.lift), "number");
    cell(row, found.serving_version, "number");
    cell(row, found.predicted_rows?.toLocaleString("en"), "number");
    cell(row, found.labels?.toLocaleString("en"), "number");
    cell(row, found.attention.join("; ") || "nothing");
  }
}

function alarm(text) {
  at("alert").textContent = text;
  at("alert").hidden = !text;
}

async function look() {
  if (at("token").open) return;
  const token = sessionStorage.getItem("token");
  try {
    const answer = await fetch("status", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    const said = await answer.json().catch(() => ({}));
    if (answer.status === 401 || answer.status === 403) return ask(said.error);
    if (!answer.ok) throw new Error(said.error || `${answer.status} ${answer.statusText}`);
    draw(said.models);
    alarm("");
  } catch (error) {
    alarm(`The service does not answer: ${error.message}. Trying again.`);
  }
}

/** The token is kept for this tab alone, also for the pages of the models. */
function ask(why) {
  at("token-text").textContent = `${why}. It is kept until this tab is closed.`;
  at("token").onclose = () => {
    const given = at("token-given").value.trim();
    at("token-given").value = "";
    if (given) sessionStorage.setItem("token", given);
    look();
  };
  at("token").showModal();
}

look();
setInterval(look, EVERY);
