"""HTML pages over `pipeline` and `lawfit.plots`. They work without JavaScript, which draws figures and saves clicks.

To add a page (`/things`):

- `things_page.py` with a router, included in `api/app.py`; its function ends in `common.page(request, "things.html",
  title=..., scripts=("things.js",), recipe=..., ...)`. The menu is `common.MENU`. Paths that take a processor for long
  are named in `_COSTLY` of `api/app.py`.
- `templates/things.html` extends `base.html` (blocks: heading, lead, content). Filters: quantity, lr, percent, counted,
  sentence; `scale(params, tokens)`. Links and forms begin with `{{ root }}`. `parts.html` has macros:
  `recipe_choice` (a select; `data-submit` on any input sends its form on a change), `refusal`, `empty` (no runs yet).
- A failure: raise a `LawfitError` or an `HTTPException`, and it becomes a page with its sentence (`common.failure`).
- A figure: `charts.chart_html` / `choice_html` of `lawfit.report.html` puts it into the page with its data and table;
  `chart_place(id, title, caption, source)` only its place: what `source` answers (`Response(chart_json(chart),
  media_type="application/json")`) is fetched when it comes into view. Put either into a template with `|safe`. Axis
  switch, PNG, SVG, CSV and table come by themselves. `.pair` holds two side by side.
- A script: `static/things.js`, a module: `import { ask, at, busy, jobEnded, latest, swap } from "./page.js"` and
  `import { draw, takeUp } from "./charts.js"`. A part of a page is `common.fragment`, put in place by `swap`. After
  drawing, `.plot` sends the event `lawfit:drawn`; its plotly figure is the element itself. `data-copy="ID"` on a button
  copies an element's text; `data-busy="Fitting ..."` on a submit button is what it says meanwhile. No inline scripts.
- Style: tokens and parts in `lawfit/report/assets/lawfit.css` (which reports share), what pages alone have in
  `static/page.css`. Colours of figures: `plots.style.COLOURS`, sizes by `scale_colours`, each with a partner on dark.
- Tests: `tests/dashboard/conftest.py` has one server and one browser for the session (`site`, `browser`), and
  `looks_right(seen)`: axe, console, width, origin.
"""
