// A click on a dot or a line of a figure opens its run: inside `data-runs-of`, the name of the recipe. Points carry the
// key of their run as `customdata`; who cannot click has the links of the table beside the figure.

import { at } from "./page.js";

export const runAddress = (recipe, key) =>
  at(`/runs/${encodeURIComponent(recipe)}/${key.split("/").map(encodeURIComponent).join("/")}`);

document.addEventListener("lawfit:drawn", (event) => {
  const place = event.target;
  const recipe = place.closest("[data-runs-of]")?.dataset.runsOf;
  if (!recipe) return;
  place.removeAllListeners?.("plotly_click");
  place.on("plotly_click", ({ points }) => {
    const key = points[0].customdata;
    if (typeof key === "string") location.assign(runAddress(recipe, key));
  });
});
