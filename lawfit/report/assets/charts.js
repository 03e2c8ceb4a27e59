// Draws every chart of the page from the JSON beside it. Runs without inline handlers and fetches nothing.
"use strict";
(() => {
  const LEGEND_LINE = 20; // px
  const AXIS_ROOM = 52; // px below the plot for ticks and title
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const partners = JSON.parse(document.getElementById("dark-colours")?.textContent || "{}");
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg" },
  };

  const recolour = (value) => {
    if (typeof value === "string") return partners[value] || value;
    if (Array.isArray(value)) return value.map(recolour);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recolour(inner)]));
    return value;
  };

  // Less air and fewer labels where there is little width; returns the height of the plot itself.
  const fit = (figure, width) => {
    const layout = figure.layout;
    const narrow = width < 520;
    const plot = layout.height - layout.margin.t - layout.margin.b;
    if (narrow) {
      layout.margin.l = Math.min(layout.margin.l, 50);
      layout.margin.r = 6;
      layout.legend.font.size = 11;
      for (const axis of [layout.xaxis, layout.yaxis]) {
        axis.tickfont.size = 11;
        axis.title.font.size = 12;
      }
      // every second tick label of a crowded axis
      if (layout.xaxis.ticktext && layout.xaxis.ticktext.length > 5)
        layout.xaxis.ticktext = layout.xaxis.ticktext.map((label, i) => (i % 2 ? "" : label));
      if (layout.yaxis.ticktext && !layout.yaxis.type)
        layout.yaxis.ticktext = layout.yaxis.ticktext.map((label) => shorten(label, 19));
      for (const trace of figure.data) {
        if (!trace.marker?.colorbar) continue;
        Object.assign(trace.marker.colorbar, { thickness: 7, title: { text: "" } });
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

  const shorten = (label, most) => {
    const bare = label.replace(/<\/?b>/g, "");
    if (bare.length <= most) return label;
    const cut = bare.slice(0, most - 1).trimEnd() + "…";
    return label === bare ? cut : `<b>${cut}</b>`;
  };

  const draw = (place) => {
    const source = document.getElementById(place.dataset.figure).textContent;
    let figure = JSON.parse(source);
    if (dark.matches) figure = recolour(figure);
    const plot = fit(figure, place.clientWidth);
    place.textContent = "";
    place.dataset.width = place.clientWidth;
    return Plotly.newPlot(place, figure.data, figure.layout, config).then(() => makeRoom(place, plot));
  };

  const visible = () => [...document.querySelectorAll(".plot")].filter((place) => place.offsetParent !== null);
  const drawMissing = () =>
    Promise.all(visible().filter((place) => !place.dataset.width).map(draw)).then(() => {
      document.documentElement.dataset.charts = "drawn";
    });

  for (const choice of document.querySelectorAll("[data-choice]")) {
    const select = choice.querySelector("select");
    const show = () => {
      for (const chart of choice.querySelectorAll(".chart")) chart.hidden = chart.id !== select.value;
      drawMissing();
    };
    choice.querySelector(".chooser").hidden = false;
    select.addEventListener("change", show);
    for (const chart of choice.querySelectorAll(".chart")) chart.hidden = chart.id !== select.value;
  }
  const redrawAll = () => {
    for (const place of document.querySelectorAll(".plot")) delete place.dataset.width;
    drawMissing();
  };
  dark.addEventListener("change", redrawAll);
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const place of visible())
        if (Math.abs(place.clientWidth - Number(place.dataset.width)) > 60) draw(place);
    }, 150);
  });
  drawMissing();
})();
