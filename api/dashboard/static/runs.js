// Choosing runs, taking some out of the fits with a reason, putting them back, and fitting again.

import { ask, at, busy, jobEnded } from "./page.js";
import "./run-links.js";

const section = document.querySelector("[data-runs-of]");
const recipe = section?.dataset.runsOf;
const done = document.getElementById("done");

const boxes = () => [...document.querySelectorAll("input[name=run]")];
const chosen = () => boxes().filter((box) => box.checked || box.type === "hidden").map((box) => box.value);

document.getElementById("all")?.addEventListener("change", (event) => {
  for (const box of boxes()) box.checked = event.target.checked;
});

document.getElementById("chosen")?.addEventListener("submit", (event) => {
  if (chosen().length) return;
  event.preventDefault();
  say("Choose one run or more: the boxes at the left of the table.");
});

const say = (words, offer) => {
  done.textContent = words;
  if (offer) done.append(" ", offer);
};

const send = (path, body) =>
  busy(ask(path, { method: "POST", headers: { Accept: "application/json", "Content-Type": "application/json" }, body: JSON.stringify(body) }));

const fitButton = () => {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "quiet";
  made.id = "refit";
  made.textContent = "Fit again";
  made.addEventListener("click", async () => {
    made.disabled = true;
    try {
      const job = await send("/v1/fits", { recipe });
      const ended = await busy(jobEnded(job.id, (now) => (made.textContent = `${now.doing || "waiting"} ${Math.round(100 * now.progress)} %`)));
      if (ended.state !== "done") throw new Error(ended.problem || `the fit was ${ended.state}`);
      const link = document.createElement("a");
      link.href = at(`/laws?recipe=${encodeURIComponent(recipe)}`);
      link.textContent = "what changed";
      say("Fitted again without the excluded runs:", link);
      link.focus();
    } catch (error) {
      say(`It was not fitted: ${error.message}`);
    }
  });
  return made;
};

const mark = async (path, body, words) => {
  const keys = chosen();
  if (!keys.length) return say("Choose one run or more: the boxes at the left of the table.");
  try {
    const said = await send(path, { recipe, run_keys: keys, ...body });
    sessionStorage.setItem("lawfit-marked", `${said.changed} of ${said.matched.length} ${words}. Stored fits stay as they are.`);
    location.reload();
  } catch (error) {
    say(error.message);
  }
};

document.getElementById("exclude")?.addEventListener("click", () => {
  const reason = document.getElementById("reason");
  if (!reason.value.trim()) {
    reason.setAttribute("aria-invalid", "true");
    reason.focus();
    return say("An exclusion needs a reason: it is shown beside every fit that leaves the run out.");
  }
  return mark("/v1/runs/exclude", { reason: reason.value.trim() }, "excluded");
});
document.getElementById("restore")?.addEventListener("click", () => mark("/v1/runs/restore", {}, "restored"));

const marked = sessionStorage.getItem("lawfit-marked");
if (marked && done) {
  sessionStorage.removeItem("lawfit-marked");
  say(marked, fitButton());
}
