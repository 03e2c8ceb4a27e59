// Playing the plan of this page in worlds drawn from what is known, before its runs are paid for.

import { ask, busy, jobEnded } from "./page.js";

const section = document.querySelector("[data-rehearse]");
const shown = document.getElementById("rehearsed");
const stop = document.getElementById("stop-rehearsal");
const buttons = section ? [...section.querySelectorAll("button[data-worlds]")] : [];
let running;

const send = (path, body) =>
  ask(path, { method: "POST", headers: { Accept: "application/json", "Content-Type": "application/json" }, body: JSON.stringify(body) });

const told = (job) => {
  if (running !== job.id) return;
  shown.textContent = `${job.doing || "waiting for its turn"}: ${Math.round(100 * job.progress)} %`;
};

const rehearse = async (refit) => {
  for (const each of buttons) each.disabled = true;
  shown.textContent = "keeping the plan …";
  try {
    const plan = await send(`/v1/plans/next?${section.dataset.rehearse}`, {});
    const begun = await send(`/v1/plans/next/${plan.id}/rehearsals`, { refit });
    running = begun.id;
    stop.hidden = false;
    const job = await jobEnded(begun.id, told);
    if (job.state !== "done") throw new Error(job.problem || `the rehearsal was ${job.state}`);
    const words = job.result.words;
    shown.textContent = `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
  } catch (error) {
    shown.textContent = `It was not rehearsed: ${error.message}`;
  } finally {
    running = undefined;
    stop.hidden = true;
    for (const each of buttons) each.disabled = false;
  }
};

for (const button of buttons) {
  button.addEventListener("click", () => busy(rehearse(button.dataset.worlds === "fitted")));
}

stop?.addEventListener("click", () => running && send(`/v1/jobs/${running}/cancel`, {}));
