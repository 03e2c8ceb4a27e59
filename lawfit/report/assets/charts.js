// Draws the figures of a page, each when it comes into view, and gives it its tools: logarithmic or linear axes, a
// picture, its numbers. The same in a report and on the dashboard; no inline handlers, and nothing leaves the origin.
//
// A figure is a `.plot` inside a <figure class="chart">. Its data is JSON in a block of the page (`data-figure`, the
// block's id) or behind an address of the dashboard (`data-source`, which also gives the table of its numbers).

const LEGEND_LINE = 20; // px
const AXIS_ROOM = 52; // px below the plot for ticks and title
const NARROW = 520; // px
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const partners = JSON.parse(document.getElementById("dark-colours")?.textContent || "{}");
const config = { responsive: true, displayModeBar: false };
const kept = new WeakMap(); // place -> figure as it was given
let drawing = 0;

// ---- what a figure is drawn from ----

const unpacked = async (id) => {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};

const script = (fill, element = document.createElement("script")) =>
  new Promise((resolve, reject) => {
    fill(element);
    element.onload = resolve;
    element.onerror = () => reject(new Error("plotly.js did not come"));
    if (!element.isConnected) document.head.append(element);
    if (!element.src) resolve();
  });

let plotlyComes;
const plotly = () =>
  (plotlyComes ??= window.Plotly
    ? Promise.resolve()
    : document.getElementById("packed-plotly")
      ? unpacked("packed-plotly").then((code) => script((element) => (element.textContent = code)))
      : script((element) => (element.src ||= document.documentElement.dataset.plotly), document.getElementById("plotly") ?? undefined));

let packComes;
const packedFigures = () => (packComes ??= unpacked("packed-figures").then(JSON.parse));

const figureOf = async (place) => {
  if (kept.has(place)) return kept.get(place);
  let figure;
  if (place.dataset.source) {
    const answer = await fetch(place.dataset.source, { headers: { Accept: "application/json" } });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.detail);
    figure = said.figure;
    showTable(place, said.table);
    const caption = place.closest("figure").querySelector("figcaption p");
    if (caption && said.caption) caption.textContent = said.caption; // what is shown is known only now
  } else {
    const block = document.getElementById(place.dataset.figure);
    figure = block ? JSON.parse(block.textContent) : (await packedFigures())[place.dataset.figure];
  }
  kept.set(place, figure);
  return figure;
};

const showTable = (place, said) => {
  const details = place.closest("figure").querySelector("details.numbers");
  if (!details || !said) return;
  const table = document.createElement("table");
  table.createCaption().textContent = said.caption;
  const head = table.createTHead().insertRow();
  const right = said.columns.map((column) => said.numbers.includes(column));
  said.columns.forEach((column, i) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = column;
    if (right[i]) cell.className = "number";
    head.append(cell);
  });
  const body = table.createTBody();
  for (const row of said.rows) {
    const line = body.insertRow();
    row.forEach((words, i) => {
      const cell = line.insertCell();
      cell.textContent = words;
      if (right[i]) cell.className = "number";
    });
  }
  const box = document.createElement("div");
  box.className = "scroll";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `${said.caption}, as a table`);
  box.append(table);
  details.querySelector(".scroll")?.remove();
  details.append(box);
  details.hidden = false;
};

// ---- drawing ----

const recolour = (value) => {
  if (typeof value === "string") return partners[value] || value;
  if (Array.isArray(value)) return value.map(recolour);
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recolour(inner)]));
  return value;
};

const shorten = (label, most) => {
  const bare = label.replace(/<\/?b>/g, "");
  if (bare.length <= most) return label;
  const cut = bare.slice(0, most - 1).trimEnd() + "…";
  return label === bare ? cut : `<b>${cut}</b>`;
};

const axesOf = (layout) => Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name));

// Less air and fewer labels where there is little width; returns the height of the plot itself.
const fit = (figure, width) => {
  const layout = figure.layout;
  const plot = layout.height - layout.margin.t - layout.margin.b;
  if (width < NARROW) {
    layout.margin.l = Math.min(layout.margin.l, 50);
    layout.margin.r = 6;
    layout.legend.font.size = 11;
    for (const name of axesOf(layout)) {
      const axis = layout[name];
      (axis.tickfont ??= {}).size = 11;
      if (axis.title) (axis.title.font ??= {}).size = 12;
    }
    // every second tick label of a crowded axis
    if (layout.xaxis.ticktext && layout.xaxis.ticktext.length > 5)
      layout.xaxis.ticktext = layout.xaxis.ticktext.map((label, i) => (i % 2 ? "" : label));
    if (layout.yaxis.ticktext && !layout.yaxis.type)
      layout.yaxis.ticktext = layout.yaxis.ticktext.map((label) => shorten(label, 19));
    for (const trace of figure.data) {
      const bar = trace.marker?.colorbar || trace.colorbar;
      if (bar) Object.assign(bar, { thickness: 7, title: { text: "" } });
    }
  }
  layout.margin.b = AXIS_ROOM + LEGEND_LINE;
  layout.height = plot + layout.margin.t + layout.margin.b;
  return plot;
};

// How tall the legend became is known only once it is there.
const makeRoom = (place, plot) => {
  const legend = place.querySelector(".legend");
  const tall = legend ? Math.ceil(legend.getBBox().height) + 6 : 0;
  const bottom = AXIS_ROOM + tall;
  const top = place.layout.margin.t;
  return Plotly.relayout(place, { "margin.b": bottom, height: plot + top + bottom });
};

const report = () => (document.documentElement.dataset.charts = drawing ? "drawing" : "drawn");

export const draw = async (place) => {
  place.dataset.state = "drawing";
  drawing += 1;
  report();
  try {
    const [given] = await Promise.all([figureOf(place), plotly()]);
    const figure = dark.matches ? recolour(given) : structuredClone(given);
    const plot = fit(figure, place.clientWidth);
    place.textContent = "";
    place.dataset.width = place.clientWidth;
    await Plotly.newPlot(place, figure.data, figure.layout, config);
    await makeRoom(place, plot);
    giveTools(place, figure.layout);
    place.dataset.state = "drawn";
    place.dispatchEvent(new CustomEvent("lawfit:drawn", { bubbles: true }));
  } catch (error) {
    place.dataset.state = "failed";
    place.textContent = `This figure could not be drawn: ${error.message}`;
  } finally {
    drawing -= 1;
    report();
  }
};

// ---- tools ----

const button = (words, label, press) => {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = words;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", press);
  return made;
};

// Values along an axis, of every trace.
const valuesAlong = (place, letter) =>
  place._fullData.filter((trace) => trace.visible === true).flatMap((trace) => [...(trace[letter] || [])]);

const switchable = (place, letter) => {
  const axis = place._fullLayout[`${letter}axis`];
  if (!axis || !["log", "linear"].includes(axis.type)) return false;
  if (axis.type === "log") return true;
  if (axis.tickmode === "array") return false; // names, not numbers
  const values = valuesAlong(place, letter);
  return values.length > 0 && values.every((value) => typeof value === "number" && value > 0);
};

const switched = (axis, first) => {
  const log = axis.type !== "log";
  const range = axis.range.map((end) => (log ? Math.log10(end) : 10 ** end));
  const whole = range.every(Number.isFinite);
  if (first.type === (log ? "log" : "linear"))
    return { type: first.type, range: first.range, tickvals: first.tickvals, ticktext: first.ticktext, tickmode: first.tickmode };
  const small = Math.max(...axis.range.map((end) => (log ? end : 10 ** end))) < 0.1;
  return { type: log ? "log" : "linear", range: whole ? range : null, autorange: !whole, tickvals: null, ticktext: null,
    tickmode: "auto", exponentformat: small ? "e" : "B", nticks: 8 };
};

const axisSwitch = (place, letter, firsts) => {
  const log = () => place._fullLayout[`${letter}axis`].type === "log";
  const made = button(`log ${letter}`, `Logarithmic ${letter} axis`, () => {
    const changes = {};
    for (const name of axesOf(place._fullLayout).filter((each) => each[0] === letter))
      for (const [key, value] of Object.entries(switched(place._fullLayout[name], firsts[name])))
        changes[`${name}.${key}`] = value;
    Plotly.relayout(place, changes).then(() => made.setAttribute("aria-pressed", log()));
  });
  made.setAttribute("aria-pressed", log());
  return made;
};

const quoted = (value) => {
  const words = value === null || value === undefined ? "" : String(value);
  return /[",\n]/.test(words) ? `"${words.replaceAll('"', '""')}"` : words;
};

// The number that a point is coloured by, if any.
const shade = (trace, i) => (typeof trace.marker?.color === "object" ? trace.marker.color[i] : "");

// Every number that is drawn, a line each.
const csvOf = (place) => {
  const title = (letter) => place.layout[`${letter}axis`]?.title?.text || letter;
  const lines = [["series", title("x"), title("y"), "value"]];
  for (const trace of place._fullData.filter((each) => each.visible !== false)) {
    if (trace.z)
      trace.z.forEach((row, i) => row.forEach((value, j) => lines.push([trace.name, trace.x[j], trace.y[i], value])));
    else [...(trace.x || [])].forEach((x, i) => lines.push([trace.name, x, trace.y[i], shade(trace, i)]));
  }
  return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
};

const save = (content, type, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

const giveTools = (place, layout) => {
  const chart = place.closest("figure");
  const title = chart.querySelector("h2, h3, h4")?.textContent || "the figure";
  chart.querySelector(".tools")?.remove();
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.setAttribute("role", "group");
  tools.setAttribute("aria-label", `Axes and downloads of: ${title}`);
  const firsts = Object.fromEntries(axesOf(place._fullLayout).map((name) => {
    const { type, range, tickvals, ticktext, tickmode } = place._fullLayout[name];
    return [name, structuredClone({ type, range: [...range], tickvals: layout[name]?.tickvals ?? tickvals ?? null, ticktext: ticktext ?? null, tickmode })];
  }));
  for (const letter of ["x", "y"]) if (switchable(place, letter)) tools.append(axisSwitch(place, letter, firsts));
  for (const format of ["png", "svg"])
    tools.append(button(format.toUpperCase(), `Download as ${format.toUpperCase()}: ${title}`, () =>
      Plotly.downloadImage(place, { format, filename: chart.id, scale: format === "png" ? 2 : 1, width: place.clientWidth, height: place.layout.height })));
  tools.append(button("CSV", `Download the numbers as CSV: ${title}`, () => save(csvOf(place), "text/csv", `${chart.id}.csv`)));
  place.before(tools);
};

// ---- when to draw ----

const NEAR = 250; // px beyond the window

const inView = (place) => {
  const { top, bottom } = place.getBoundingClientRect();
  return place.offsetParent !== null && bottom > -NEAR && top < innerHeight + NEAR;
};

const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries)
      if (entry.isIntersecting && !entry.target.dataset.state) draw(entry.target);
  },
  { rootMargin: `${NEAR}px` },
);

const shown = (root = document) => [...root.querySelectorAll(".plot")].filter((place) => place.offsetParent !== null);

// Every figure that is not hidden, at once: before printing, and for tests.
export const drawAll = () => Promise.all(shown().filter((place) => !place.dataset.state).map(draw));

// Take up the figures of a part of the page that has just come.
export const takeUp = (root = document) => {
  for (const choice of root.querySelectorAll("[data-choice]")) offer(choice);
  for (const place of root.querySelectorAll(".plot"))
    if (inView(place)) draw(place); // its data is asked for now, before plotly.js runs
    else seen.observe(place);
};

// One of several figures at a time.
const offer = (choice) => {
  const select = choice.querySelector("select");
  const show = () => {
    for (const chart of choice.querySelectorAll(".chart")) chart.hidden = chart.id !== select.value;
  };
  choice.querySelector(".chooser").hidden = false;
  select.addEventListener("change", () => {
    show();
    for (const place of shown(choice)) if (!place.dataset.state) draw(place);
  });
  show();
};

dark.addEventListener("change", () => {
  for (const place of document.querySelectorAll(".plot[data-state=drawn]")) draw(place);
});
let waiting;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    for (const place of shown())
      if (place.dataset.state === "drawn" && Math.abs(place.clientWidth - Number(place.dataset.width)) > 60) draw(place);
  }, 150);
});
window.addEventListener("beforeprint", drawAll);
window.addEventListener("lawfit:draw-all", drawAll);
takeUp();
report();
