// What every page does: progress after a button, the focus kept, parts of a page exchanged, texts copied.
// Pages import from here what they need.

import { takeUp } from "./charts.js";

const root = document.documentElement.dataset.root || "";

// Path below which the service is shown: `at("/v1/fits")`.
export const at = (path) => root + path;

// ---- progress and focus ----

const bar = document.getElementById("progress");
let atWork = 0;

// While a promise runs, the page says that something is being done.
export const busy = async (promise) => {
  atWork += 1;
  bar.hidden = false;
  try {
    return await promise;
  } finally {
    atWork -= 1;
    bar.hidden = atWork > 0 ? false : true;
  }
};

const FOCUS = "lawfit-focus";

document.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  bar.hidden = false;
  const pressed = event.submitter;
  if (pressed) {
    pressed.setAttribute("aria-busy", "true");
    if (pressed.dataset.busy) pressed.textContent = pressed.dataset.busy;
  }
  const id = (pressed || document.activeElement)?.id;
  if (id) sessionStorage.setItem(FOCUS, JSON.stringify({ path: location.pathname, id }));
});
window.addEventListener("pageshow", () => {
  bar.hidden = atWork === 0;
  for (const pressed of document.querySelectorAll("[aria-busy=true]")) pressed.removeAttribute("aria-busy");
});

const restoreFocus = () => {
  const kept = JSON.parse(sessionStorage.getItem(FOCUS) || "null");
  sessionStorage.removeItem(FOCUS);
  const alert = document.querySelector("main [role=alert]");
  if (kept?.path === location.pathname) document.getElementById(kept.id)?.focus({ preventScroll: true });
  if (alert && kept) alert.scrollIntoView({ block: "nearest" });
};

// ---- questions to the service ----

// What the service says to a question, as JSON; its refusals are errors with the sentence, and with `said`, the whole.
export const ask = async (path, options = {}) => {
  const answer = await fetch(at(path), { headers: { Accept: "application/json" }, ...options });
  const said = await answer.json();
  if (answer.ok) return said;
  throw Object.assign(new Error(said.detail), { said, status: answer.status });
};

// Put a fragment of HTML in the place of what an element holds; the focus stays on what has the same id.
export const swap = async (element, path, options = {}) => {
  const answer = await fetch(at(path), { headers: { Accept: "text/html", "X-Fragment": "yes" }, ...options });
  const html = await answer.text();
  options.signal?.throwIfAborted();
  const focused = document.activeElement?.id;
  element.innerHTML = html;
  takeUp(element);
  if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus({ preventScroll: true });
  return answer.ok;
};

// One question at a time: a later one ends the one before. `latest((signal) => fetch(..., { signal }))`
export const latest = () => {
  let controller;
  return async (question) => {
    controller?.abort();
    controller = new AbortController();
    try {
      return await question(controller.signal);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      return undefined;
    }
  };
};

// Wait for a job: calls `tell` with it again and again, and gives it when it has ended.
export const jobEnded = async (id, tell) => {
  for (;;) {
    const job = await ask(`/v1/jobs/${id}`);
    tell(job);
    if (!["queued", "running", "cancelling"].includes(job.state)) return job;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
};

// ---- small things ----

document.addEventListener("click", async (event) => {
  const pressed = event.target.closest("[data-copy]");
  if (!pressed) return;
  const words = pressed.textContent;
  await navigator.clipboard.writeText(document.getElementById(pressed.dataset.copy).textContent);
  pressed.textContent = "Copied";
  setTimeout(() => (pressed.textContent = words), 1500);
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

restoreFocus();
