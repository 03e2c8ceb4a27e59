// The advisor: sliders and numbers together, the answer as they move, the setting that is dragged, settings to paste.

import { ask, at, busy, latest, swap } from "./page.js";

const form = document.getElementById("target");
const answer = document.getElementById("answer");
const more = document.getElementById("more");
const RESTS = 350; // ms without a change after which what takes longer is asked for

// ---- a number and its slider ----

const SUFFIXES = [["T", 12], ["B", 9], ["M", 6], ["k", 3]];

// 3 digits, as people write them: 50.1M
const written = (value) => {
  const [suffix, power] = SUFFIXES.find(([, each]) => value >= 0.9995 * 10 ** each) || ["", 0];
  return `${Number((value / 10 ** power).toPrecision(3))}${suffix}`;
};

const numberOf = (text) => {
  const match = /^\s*(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)\s*([kmbgt]?)\s*$/i.exec(text);
  if (!match) return NaN;
  const powers = { "": 0, k: 3, m: 6, b: 9, g: 9, t: 12 };
  return Number(match[1]) * 10 ** powers[match[2].toLowerCase()];
};

for (const slider of document.querySelectorAll("input[type=range]")) {
  const field = document.getElementById(slider.dataset.of);
  slider.addEventListener("input", () => {
    field.value = written(10 ** Number(slider.value));
    slider.setAttribute("aria-valuetext", field.value);
    changed();
  });
  field.addEventListener("input", () => {
    const value = numberOf(field.value);
    if (value > 0) {
      slider.value = Math.log10(value);
      slider.setAttribute("aria-valuetext", field.value);
    }
  });
}

// ---- the answer ----

const said = () => {
  const pairs = [...new FormData(form)].filter(([, value]) => value.trim() !== "");
  return new URLSearchParams(pairs).toString();
};

const first = latest();
const rest = latest();
let resting;

const changed = () => {
  const query = said();
  history.replaceState(null, "", `${at("/advisor")}?${query}`);
  clearTimeout(resting);
  more.classList.add("stale");
  first((signal) => swap(answer, `/advisor/answer?${query}`, { signal })).then(() => {
    offer();
    const title = answer.querySelector("h2")?.textContent;
    if (title) document.title = `${title} · lawfit`;
  });
  resting = setTimeout(() => {
    rest((signal) => busy(swap(more, `/advisor/more?${query}`, { signal }))).then((came) => {
      if (came === undefined) return;
      more.classList.remove("stale");
      begin();
    });
  }, RESTS);
};

form?.addEventListener("change", (event) => {
  if (event.target.type !== "range") changed();
});
form?.addEventListener("submit", (event) => {
  event.preventDefault();
  changed();
});

// Buttons that need this script.
const offer = () => {
  for (const pressed of document.querySelectorAll(".needs-js")) pressed.hidden = false;
};

document.addEventListener("click", async (event) => {
  const pressed = event.target.closest("[data-copy-link], [data-keep]");
  if (!pressed) return;
  if (pressed.dataset.keep === undefined) {
    await navigator.clipboard.writeText(location.href);
    pressed.textContent = "Copied";
    return;
  }
  try {
    const kept = await busy(ask(`/v1/predictions?${pressed.dataset.keep}`, { method: "POST" }));
    pressed.textContent = `Kept as ${kept.id}`;
    pressed.disabled = true;
  } catch (error) {
    pressed.textContent = error.message;
  }
});

// ---- a setting of one's own ----

const cost = latest();

const askCost = (yours) => {
  const query = new URLSearchParams(yours.dataset.query);
  query.delete("batch_tokens");
  query.set("lr", document.getElementById("your-lr").value);
  query.set("batch_tokens", document.getElementById("your-batch").value);
  const decay = document.getElementById("your-decay").value.trim();
  if (decay) query.set("weight_decay", decay);
  return cost((signal) => swap(document.getElementById("your-cost"), `/advisor/setting?${query}`, { signal }));
};

// Typed, whether or not the figure is there yet.
document.addEventListener("change", (event) => {
  const yours = event.target.closest(".yours");
  if (yours) askCost(yours);
});

// A ring over the figure: dragged, or moved by arrow keys; the inputs say where it is.
const giveRing = (yours, place) => {
  place.querySelector(".ring")?.remove();
  const lr = document.getElementById("your-lr");
  const batch = document.getElementById("your-batch");
  const ring = document.createElement("button");
  ring.type = "button";
  ring.className = "ring";
  ring.setAttribute("aria-label", "Your setting: drag it, or move it with the arrow keys");
  place.append(ring);
  const axes = () => [place._fullLayout.xaxis, place._fullLayout.yaxis];

  const put = () => {
    const [x, y] = axes();
    const left = x._offset + x.d2p(numberOf(lr.value));
    const top = y._offset + y.d2p(numberOf(batch.value));
    ring.style.left = `${Math.min(Math.max(left, x._offset), x._offset + x._length)}px`;
    ring.style.top = `${Math.min(Math.max(top, y._offset), y._offset + y._length)}px`;
  };
  const move = (left, top) => {
    const [x, y] = axes();
    const inside = (value, axis) => Math.min(Math.max(value - axis._offset, 0), axis._length);
    lr.value = x.p2d(inside(left, x)).toExponential(2).replace("e-", "e-");
    batch.value = written(y.p2d(inside(top, y)));
    put();
    askCost(yours);
  };
  ring.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    ring.focus();
    ring.setPointerCapture(event.pointerId);
  });
  ring.addEventListener("pointermove", (event) => {
    if (!ring.hasPointerCapture(event.pointerId)) return;
    const box = place.getBoundingClientRect();
    move(event.clientX - box.left, event.clientY - box.top);
  });
  ring.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-4, 0], ArrowRight: [4, 0], ArrowUp: [0, -4], ArrowDown: [0, 4] }[event.key];
    if (!step) return;
    event.preventDefault();
    move(parseFloat(ring.style.left) + step[0], parseFloat(ring.style.top) + step[1]);
  });
  for (const field of [lr, batch]) field.addEventListener("change", put);
  place.on("plotly_afterplot", put);
  put();
};

document.addEventListener("lawfit:drawn", (event) => {
  const yours = event.target.closest("section")?.querySelector("[data-valley]");
  if (yours) giveRing(yours, event.target);
});

// ---- settings of a training program ----

const config = latest();

const showConfig = async () => {
  const box = document.getElementById("config");
  if (!box) return;
  const query = new URLSearchParams(box.dataset.query);
  query.set("world_size", document.getElementById("world_size").value || "1");
  const text = document.getElementById("config-text");
  try {
    const program = document.getElementById("program").value;
    const told = await config((signal) => ask(`/v1/configs/${program}?${query}`, { signal }));
    if (told) text.textContent = told.text;
    text.classList.remove("says");
  } catch (error) {
    text.textContent = error.message;
    text.classList.add("says"); // a sentence, which is read whole
  }
};

// What the lower part needs when it has come: settings when they come into view.
const begin = () => {
  offer();
  const box = document.getElementById("config");
  if (!box) return;
  box.addEventListener("change", showConfig);
  box.addEventListener("submit", (event) => event.preventDefault());
  new IntersectionObserver((entries, watcher) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    showConfig();
  }).observe(box);
};
begin();
