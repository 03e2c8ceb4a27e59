// The first page: a file is read, asked about, stored and fitted, step by step in one place.

import { ask, at, busy, jobEnded, swap } from "./page.js";

const words = JSON.parse(document.getElementById("words").textContent);
const reading = document.getElementById("reading");
const cards = document.getElementById("recipes");
const chooser = document.getElementById("file");
const drop = document.getElementById("upload");

const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes))
    if (key === "onclick") element.addEventListener("click", value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

const show = (...children) => {
  reading.replaceChildren(...children);
  reading.querySelector("h3")?.focus();
};

const title = (text) => make("h3", { tabindex: "-1" }, text);
const failure = (error) => make("p", { class: "failure", role: "alert" }, error.message);
const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

const reveal = () => {
  for (const element of document.querySelectorAll(".needs-js")) element.hidden = false;
};

// ---- a file ----

const send = (file, answers, dry) => {
  const query = new URLSearchParams([["name", file.name], ...answers, ["dry_run", String(dry)]]);
  return busy(ask(`/v1/uploads?${query}`, { method: "POST", body: file }));
};

const read = async (file, answers = []) => {
  show(title(`Reading ${file.name} …`));
  try {
    const told = await send(file, answers, true);
    confirm(file, answers, told.files);
  } catch (error) {
    if (error.said?.questions) askAbout(file, answers, error.said.questions);
    else show(title(`${file.name} cannot be taken`), failure(error));
  }
};

const columnsTable = (columns) => {
  const body = make("tbody");
  for (const [field, column] of Object.entries(columns))
    body.append(make("tr", {}, make("td", { "data-label": "what" }, words.fields[field]?.replace(/^the /, "") || field.replaceAll("_", " ")), make("td", { "data-label": "read from" }, column)));
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "what"), make("th", { scope: "col" }, "read from column")));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Columns as they were read" },
    make("table", { class: "folds" }, make("caption", {}, "Columns as they were read"), head, body));
};

const list = (items) => make("ul", { class: "plain" }, ...items.map((item) => make("li", {}, item)));

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

const confirm = (file, answers, files) => {
  const parts = files.map((told) => {
    const taken = told.inserted + told.updated;
    const refused = told.rejections.length;
    const summary = `${counted(told.rows, "row")}: ${counted(told.inserted, "new run")}` +
      (told.updated ? `, ${told.updated} updated` : "") + (told.unchanged ? `, ${told.unchanged} here already` : "") +
      (told.curve_points ? `, ${counted(told.curve_points, "curve point")}` : "") + (refused ? `, ${refused} not taken` : "");
    return { taken: taken + told.curve_points, elements: [
      make("p", {}, `${summary}. Recipe: ${told.recipes.join(", ") || "none"}.`),
      columnsTable(told.columns),
      ...(refused ? [make("details", {}, make("summary", {}, `Why ${refused} not`), list(told.rejections.slice(0, 20).map((row) => `${row.line ? `line ${row.line}: ` : ""}${row.reason}`)))] : []),
      ...(told.notes.length ? [make("details", {}, make("summary", {}, counted(told.notes.length, "note")), list(told.notes.map(sentence)))] : []),
    ] };
  });
  const taken = parts.reduce((sum, part) => sum + part.taken, 0);
  const store = make("button", { type: "button", class: "main", id: "store", onclick: () => keep(file, answers) }, "Store these runs");
  show(title(`${file.name}, as it was read`), ...parts.flatMap((part) => part.elements),
    taken ? make("p", { class: "actions" }, store) : make("p", {}, "Nothing in it is new."));
};

const keep = async (file, answers) => {
  try {
    const told = await send(file, answers, false);
    stored(told.files);
  } catch (error) {
    show(title(`${file.name} was not stored`), failure(error));
  }
};

const stored = async (files) => {
  const recipes = [...new Set(files.flatMap((told) => told.recipes))];
  const count = files.reduce((sum, told) => sum + told.inserted + told.updated, 0);
  await swap(cards, "/home/cards");
  reveal();
  for (const element of document.querySelectorAll(".only-empty")) element.remove();
  const buttons = recipes.map((recipe) => make("button", { type: "button", class: "main", "data-fit": recipe, id: `fit-stored-${recipe}` }, recipes.length > 1 ? `Fit ${recipe}` : "Fit it"));
  show(title(`${counted(count, "run")} stored`), make("p", {}, "Next, lawfit finds the law that these runs follow. It takes seconds to a few minutes, and goes on if you leave this page."),
    make("p", { class: "actions" }, ...buttons), make("div", { class: "job", "aria-live": "polite" }));
  buttons[0]?.focus();
};

// ---- questions ----

// A choice with an input for each part that a person has to fill in.
const choiceOf = (name, question, index) => {
  const id = `${name}-${index}`;
  const radio = make("input", { type: "radio", name, id, required: true, checked: question.safe === index });
  const label = make("label", { for: id });
  const fills = [];
  for (const part of question.words[index].split(/(\{[A-Z]+\})/)) {
    const blank = /^\{([A-Z]+)\}$/.exec(part)?.[1];
    if (!blank) {
      label.append(part);
      continue;
    }
    const input = make("input", { type: "text", class: "fill", "aria-label": words.fill_in[blank], placeholder: words.fill_in[blank] });
    input.addEventListener("input", () => (radio.checked = true));
    fills.push([blank, input]);
    label.append(input);
  }
  return { radio, fills, line: make("p", { class: "choice-line" }, radio, label) };
};

const askAbout = (file, answers, questions) => {
  const asked = questions.map((question, number) => {
    const choices = question.choices.map((_, index) => choiceOf(`question-${number}`, question, index));
    const set = make("fieldset", {}, make("legend", {}, sentence(question.question)), ...choices.map((choice) => choice.line));
    return { question, choices, set };
  });
  const form = make("form", { class: "questions" }, ...asked.map((each) => each.set),
    make("p", { class: "actions" }, make("button", { type: "submit", class: "main", id: "answered" }, "Read it so")));
  // What is chosen has to be filled in.
  form.addEventListener("change", () => {
    for (const choice of asked.flatMap((each) => each.choices))
      for (const [, input] of choice.fills) input.required = choice.radio.checked;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = [];
    for (const { question, choices } of asked) {
      const chosen = choices.findIndex((choice) => choice.radio.checked);
      if (chosen < 0) continue;
      const fills = [...choices[chosen].fills];
      for (const { option, value } of question.choices[chosen]) {
        const filled = value.split("=").map((part) => (fills.length && part === fills[0][0] ? fills.shift()[1].value.trim() : part));
        given.push([option, filled.join("=")]);
      }
    }
    read(file, [...answers, ...given]);
  });
  show(title(`${counted(questions.length, "question")} about ${file.name}`), form);
};

chooser?.addEventListener("change", () => chooser.files[0] && read(chooser.files[0]));
for (const kind of ["dragover", "dragenter"])
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
});

// ---- the shipped sweep ----

document.getElementById("shipped")?.addEventListener("click", async (event) => {
  event.target.disabled = true;
  try {
    const told = await busy(ask("/v1/uploads/shipped", { method: "POST" }));
    stored(told.files);
  } catch (error) {
    event.target.disabled = false;
    show(title("The shipped sweep was not stored"), failure(error));
  }
});

// ---- a fit ----

const fit = async (pressed, going) => {
  const recipe = pressed.dataset.fit;
  const place = pressed.closest("section").querySelector(".job");
  pressed.disabled = true;
  const line = make("progress", { max: "1", value: "0", "aria-label": `Fit of ${recipe}` });
  const doing = make("span", {}, "waiting for its turn");
  place.replaceChildren(make("p", { class: "fitting" }, line, doing));
  try {
    const begun = going ?? await ask("/v1/fits", { method: "POST", headers: { "Content-Type": "application/json", Accept: "application/json" }, body: JSON.stringify({ recipe }) });
    const job = await busy(jobEnded(begun.id, (told) => {
      line.value = told.progress;
      doing.textContent = told.state === "queued" ? "waiting for its turn" : `${Math.round(100 * told.progress)} %${told.doing ? `, ${told.doing}` : ""}`;
    }));
    if (job.state !== "done") throw new Error(job.problem || "the fit was cancelled");
    const link = make("a", { class: "main", id: "to-advisor", href: at(`/advisor?recipe=${encodeURIComponent(recipe)}`) }, "Ask the advisor");
    place.replaceChildren(make("p", {}, `${recipe} is fitted. `, link));
    pressed.remove();
    if (!cards.contains(place)) await swap(cards, "/home/cards");
    reveal();
    if (!going) link.focus();
  } catch (error) {
    pressed.disabled = false;
    place.replaceChildren(failure(error));
  }
};

document.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-fit]");
  if (pressed) fit(pressed);
});

// Fits that were begun before this page was opened, here or elsewhere.
const follow = async () => {
  const { jobs } = await ask("/v1/jobs");
  for (const job of jobs.filter((each) => each.kind === "fit" && ["queued", "running"].includes(each.state))) {
    const button = cards.querySelector(`[data-key="${CSS.escape(job.asked.recipe)}"]:not(:disabled)`);
    if (button) fit(button, job);
  }
};

reveal();
if (cards.hasAttribute("data-later")) await swap(cards, "/home/cards").then(reveal); // compares runs with their fits
if (cards.querySelector("[data-fit]")) await follow();
