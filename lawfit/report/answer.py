"""A recommendation as sections of HTML, the same in the report and on the page: answer, reasons, doubts, evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from lawfit.documents import Answer, part_of, setting_of
from lawfit.plots.shown import Table
from lawfit.report.charts import backtest_choice, cost_charts, law_charts, scaling_choice, surface_choice
from lawfit.report.html import chart_html, choice_html, list_html, pairs_html, table_html, tag, text
from lawfit.units import counted, format_lr, format_percent, format_quantity, format_scale
from lawfit.words import tell
from lawfit.words.answers import (
    LAW_STATUS_WORDS,
    QUANTITY_WORDS,
    STATUS_WORDS,
    at_batch_words,
    batch_range,
    is_simulated,
    optimum_words,
    other_law_rows,
    recipe_words,
)
from lawfit.words.parts import part_labels, words_of

if TYPE_CHECKING:
    from lawfit.estimate.observe.observations import Observations
    from lawfit.records import Fit

GLOSSARY: Final = (
    ("Scale (cell)", "One size of training run: a number of parameters and a number of training tokens."),
    ("Size", "One number of parameters; its scales at several horizons lie off the law together."),
    ("Optimum", "The learning rate and batch size at which the final loss of a scale is lowest."),
    ("Cost, regret", "Share of the loss given up by a setting: its loss over the best possible one, minus one."),
    ("Interval", "Range that holds the optimum of a new run with the stated probability, choice of analysis included."),
    (
        "Cheap zone",
        "Settings that cost less than the stated share of the loss, if the fitted optimum is right: see the interval.",
    ),
    ("Expected cost", "Cost averaged over everything that your runs leave open; the recommendation minimises it."),
    (
        "Critical batch",
        "Batch size beyond which more tokens per step hardly save steps; the definition used stands beside the number.",
    ),
    (
        "Timescale",
        "Share of the run over which AdamW averages its updates: batch / (learning rate x weight decay x tokens).",
    ),
    ("Backtest", "Scales are left out of the fit, predicted, and scored on the runs that were made there."),
    (
        "Borrowed",
        "What your runs cannot tell and published laws of like recipes, whose numbers were checked, stand in for.",
    ),
)


def simulated_banner(recipe: Mapping[str, Any]) -> str:
    """A banner where the runs come from no training; empty otherwise."""
    if not is_simulated(recipe):
        return ""
    words = "These runs are simulated: the numbers show how lawfit works, they were not measured on any model."
    return tag("p", f"<strong>SIMULATED</strong> {text(words)}", class_="banner", role="note")


def answer_section(document: Answer) -> str:
    """The card: what to use, how sure, what it costs, and what is worth doubting."""
    target = document["target"]
    ratio = format_quantity(target["tokens"] / target["params"])
    lead = (
        f"For {format_scale(target['params'], target['tokens'])} ({ratio} tokens per parameter), recipe "
        f"{document['recipe']['name']}"
    )
    values = "".join(_value_html(document, quantity) for quantity in ("lr", "batch_tokens"))
    regret, cost = document.get("expected_regret"), ""
    if regret is not None and regret["loss_fraction"] is not None:
        words = f"Expected cost of what is not known: {format_percent(regret['loss_fraction'])} of the loss"
        compute = regret.get("extra_compute_fraction")
        words += f", as if {format_percent(compute)} of the compute were lost." if compute is not None else "."
        cost = tag("p", text(words), class_="cost")
    if moved := (document.get("choices") or {}).get("words"):
        words = "Of the analyst's choices, what moves the answer most"
        cost += tag("details", tag("summary", words) + list_html([_sentence(line) for line in moved]), class_="notes")
    warnings = document.get("warnings") or []
    doubts = (
        tag("div", tag("h3", "Before you rely on it") + list_html([_sentence(w) for w in warnings]), class_="warnings")
        if warnings
        else ""
    )
    body = tag("h2", "Recommendation", id="answer-title") + tag("p", text(lead), class_="lead")
    body += tag("div", values, class_="values") + cost + doubts
    return tag("section", body, class_="answer", aria_labelledby="answer-title")


def _value_html(document: Answer, quantity: str) -> str:
    part, target = setting_of(document["recommendation"], quantity), document["target"]
    sequences, at_batch = part.get("sequences"), cast("Mapping[str, Any] | None", part.get("at_batch"))
    write = format_lr if quantity == "lr" else format_quantity
    imposed = part["status"] == "given"
    if quantity == "lr":
        value, unit = format_lr(part["value"]), ""
    else:
        value, unit = f"{part['value']:,.0f}", "tokens per step"
    rows = []
    if sequences is not None:
        length = target.get("seq_len")
        rows.append(("In sequences", f"{sequences:,.0f}" + (f" of {length:,} tokens" if length else "")))
    if part.get("low") is not None:
        rows.append(
            (f"{100 * part['level']:g} % interval", batch_range(part, f"{write(part['low'])} to {write(part['high'])}"))
        )
    for cost, zone in sorted((part.get("cheap_zone") or {}).items(), key=lambda item: float(item[0])):
        if zone is not None:
            rows.append(
                (f"Costs < {100 * float(cost):g} %", batch_range(part, f"{write(zone[0])} to {write(zone[1])}"))
            )
    if "yours" in part:
        share = f"{100 * part['yours']:.0f} %"
        rows.append(("From your runs", share if part["yours"] > 0.995 else f"{share}, rest borrowed"))
    if words := at_batch_words(at_batch):
        rows.append(("At this batch", words))
    status = "given by you" if imposed else STATUS_WORDS.get(part["status"], part["status"])
    head = tag("h3", text(QUANTITY_WORDS[quantity]))
    head += tag("p", tag("strong", text(value)) + (f" <span>{text(unit)}</span>" if unit else ""), class_="value")
    head += tag("p", text(status), class_=f"status {'good' if part['status'] in ('ok', 'given') else 'doubt'}")
    return tag("div", head + pairs_html(rows), class_="quantity")


def why_section(fit: Fit, document: Answer, observed: Observations) -> str:
    """The law through the cells, what being wrong costs, and the runs behind it."""
    pair = "".join(choice_html(scaling_choice(fit, document, quantity)) for quantity in ("lr", "batch_tokens"))
    costs = "".join(chart_html(chart) for chart in cost_charts(fit, document))
    body = tag("h2", "Why", id="why-title")
    level = f"{100 * fit.payload['law']['level']:g} %"
    words = (
        f"Across your scales the optimum moves as a power law in parameters and tokens, with these exponents ({level} "
    )
    body += tag("p", text(f"{words}intervals):"), class_="lead")
    body += tag("div", table_html(_law_table(fit.payload["law"]), "Exponents of the law"), class_="narrow")
    if sizes := document.get("sizes"):
        body += tag("h3", "Sizes and scales") + list_html([_sentence(line) for line in sizes["words"]])
    body += tag("div", pair, class_="pair") + tag("div", costs, class_="pair")
    body += choice_html(surface_choice(fit, observed))
    if other := other_law_rows(fit.payload):
        words = tag("summary", "Other laws of the field on your runs; none of them answers")
        body += tag("details", words + pairs_html(other))
    body += tag("details", tag("summary", "All scales") + table_html(_cells_table(fit.payload["cells"]), "All scales"))
    return tag("section", body, aria_labelledby="why-title")


def _law_table(law: Mapping[str, Any]) -> Table:
    """Exponents of the fitted law, with their intervals."""
    rows = []
    for quantity in ("lr", "batch_tokens"):
        row = law[quantity]
        exponents = (
            f"{row[name]:+.2f} ({row[f'{name}_low']:+.2f} to {row[f'{name}_high']:+.2f})"
            for name in ("params", "tokens")
        )
        rows.append((f"best {QUANTITY_WORDS[quantity].lower()}", *exponents))
    return Table(columns=("exponent of", "in parameters", "in tokens"), rows=tuple(rows))


def _cells_table(cells: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("parameters", "tokens", "runs", "diverged", "best run lr", "best run batch", "loss", "fitted lr",
               "fitted batch", "optimum")  # fmt: skip
    rows = tuple(
        (
            format_quantity(cell["params"]),
            format_quantity(cell["tokens"]),
            f"{cell['runs']:,}",
            f"{cell['diverged']:,}",
            format_lr(cell["best"]["lr"]),
            format_quantity(cell["best"]["batch_tokens"]),
            f"{cell['best']['loss']:.4f}",
            format_lr(cell["optimum"]["lr"]),
            format_quantity(cell["optimum"]["batch_tokens"]),
            optimum_words(cell["optimum"]["status"], cell["optimum"].get("near")),
        )
        for cell in cells
    )
    return Table(columns=columns, rows=rows, numbers=columns[:-1])


def further_section(document: Answer, laws: Mapping[str, Fit]) -> str:
    """Weight decay, critical batch size and expected loss: numbers with intervals, or what is missing for them."""
    if "missing" not in document:  # an answer of before there were any
        return ""
    blocks = "".join(_further_html(document, name) for name in part_labels())
    charts = "".join(chart_html(chart) for chart in law_charts(laws, document))
    alone = document["recommendation"]["lr"] is None
    body = tag("h2", "What these runs say" if alone else "What goes with it", id="further-title")
    if alone:
        body += "".join(tag("p", text(_sentence(words)), class_="lead") for words in document["warnings"])
    body += tag("div", blocks, class_="values thirds")
    body += tag("div", charts, class_="pair") if charts else ""
    return tag("section", body, aria_labelledby="further-title", class_="further")


def _further_html(document: Answer, name: str) -> str:
    part = part_of(document, name)
    head = tag("h3", text(part_labels()[name]))
    if part is None:
        missing = document["missing"].get(name) or "this fit has no law for it"
        words = tag("p", "not from these runs", class_="status doubt") + tag(
            "p", text(_sentence(missing)), class_="lack"
        )
        return tag("div", head + words, class_="quantity")
    said = words_of(name)
    unit = f" <span>{text(said.unit)}</span>" if said.unit else ""
    head += tag("p", tag("strong", text(said.write(part["value"]))) + unit, class_="value")
    status = LAW_STATUS_WORDS.get(part["status"], part["status"])
    head += tag("p", text(status), class_=f"status {'good' if part['status'] == 'ok' else 'doubt'}")
    notes = [*(part.get("lines") or []), *part["notes"]]
    if notes:
        listed = list_html([_sentence(note) for note in notes])
        rest = tag("details", tag("summary", "What to know before using it") + listed, class_="notes")
    return tag("div", head + pairs_html(said.rows(document, part)) + (rest if notes else ""), class_="quantity")


def published_table(document: Answer) -> Table | None:
    """What published laws would use at the target, and what each costs on the user's runs; None without any."""
    rows = tuple(
        (
            law.get("label") or law["law"],
            format_lr(law.get("lr")),
            "-" if (batch := law["batch_tokens"]) is None else format_quantity(batch),
            format_percent(law.get("regret_on_your_runs")),
            str(law.get("cells_scored") or "-"),
            "inside" if law.get("in_range") else "outside",
            law.get("cite") or "-",
        )
        for law in document.get("published") or []
    )
    columns = ("law", "learning rate", "batch", "cost on your runs", "scales", "target in its range", "source")
    return Table(columns=columns, rows=rows, numbers=columns[1:5]) if rows else None


def others_section(document: Answer) -> str:
    """`published_table`, with what it is."""
    table = published_table(document)
    if table is None:
        return ""
    body = tag("h2", "What others would say", id="others-title")
    words = "Published laws at your target, cheapest on your own runs first. A dash: not given, or it cannot be scored."
    body += tag("p", text(words), class_="lead")
    body += table_html(table, "Published laws at your target")
    return tag("section", body, aria_labelledby="others-title")


def backtest_section(fit: Fit) -> str:
    """How far one may trust the fit, against other methods."""
    choice = backtest_choice(fit)
    if choice is None:
        content = tag("p", "There are too few scales to leave some out: nothing backs this fit but the fit itself.")
    else:
        content = choice_html(choice)
    return tag("section", tag("h2", "Backtest", id="backtest-title") + content, aria_labelledby="backtest-title")


def next_section(fit: Fit) -> str:
    """Runs that would turn bounds into optima; empty where every scale shows its optimum."""
    grids = fit.payload.get("next_grid") or []
    if not grids:
        return ""
    rows = tuple(
        (
            format_scale(grid["params"], grid["tokens"]),
            ", ".join(format_lr(lr) for lr in grid["lr"]),
            ", ".join(format_quantity(batch) for batch in grid["batch_tokens"]),
            tell(grid["why"]),
        )
        for grid in grids
    )
    table = Table(columns=("scale", "learning rates", "batches (tokens)", "why"), rows=rows)
    body = tag("h2", "Runs to add", id="next-title") + table_html(table, "Runs to add")
    return tag("section", body, aria_labelledby="next-title")


def evidence_pairs(document: Answer, notes: Sequence[str] = ()) -> list[tuple[str, str]]:
    """What the answer rests on, so that it can be made again."""
    evidence, recipe = document["evidence"], document["recipe"]
    runs = f"{counted(evidence['runs_used'], 'run')} at {counted(evidence['cells'], 'scale')}"
    runs += f", {evidence['diverged']:,} of them diverged" if evidence["diverged"] else ""
    pairs = [("Recipe", f"{recipe['name']} ({recipe_words(recipe) or 'nothing known of what it holds fixed'})")]
    if recipe.get("loss_column"):
        pairs.append(("Loss", f"column {recipe['loss_column']}"))
    if evidence["runs_used"]:
        pairs.append(("Runs", runs))
    if found := evidence.get("certificate"):
        said = [found["words"], *found["reasons"], *found["warnings"]]
        pairs.append(("Certificate" if found["certified"] else "Not certified", " ".join(map(_sentence, said))))
    pairs += [("Left out", f"{item['count']:,}: {item['reason']}") for item in evidence.get("rejected") or []]
    pairs += [("Borrowed", sentence) for sentence in evidence.get("borrowed") or []]
    pairs += [("Not borrowed", sentence) for sentence in evidence.get("not_lent") or []]
    pairs += [("Note", note) for note in notes]
    made = str(evidence["created_at"])[:16].replace("T", " ")
    pairs += [
        ("Fit", f"{evidence['fit_id']}, made {made} UTC by lawfit {evidence['code_version']}"),
        ("Data", f"hash {evidence['data_hash']}"),
        ("Recommendation", str(document["id"])),
    ]
    return pairs


def evidence_section(document: Answer, notes: Sequence[str] = ()) -> str:
    """`evidence_pairs`, as a section."""
    body = tag("h2", "Evidence", id="evidence-title") + pairs_html(evidence_pairs(document, notes))
    return tag("section", body, aria_labelledby="evidence-title", class_="evidence")


def glossary_section() -> str:
    body = tag("summary", tag("h2", "What the words mean", id="words-title")) + pairs_html(GLOSSARY)
    return tag("section", tag("details", body), aria_labelledby="words-title", class_="glossary")


def _sentence(words: str) -> str:
    """A warning as a sentence of its own."""
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def laws_alone_sections(document: Answer, laws: Mapping[str, Fit]) -> str:
    """A recipe without a finished run: what is known of it all the same."""
    parts = simulated_banner(document["recipe"]), further_section(document, laws), evidence_section(document)
    return "".join((*parts, glossary_section()))


def recommendation_sections(
    fit: Fit,
    document: Answer,
    observed: Observations,
    data_hash: str,
    laws: Mapping[str, Fit] | None = None,
) -> str:
    """Everything about one recommendation, in the order in which one asks.

    `laws` are the further fits, by kind. `data_hash` is that of the runs shown; when they are no longer those of the
    fit, the evidence says so.
    """
    notes = []
    if data_hash != fit.data_hash and not document["evidence"].get("runs_changed"):  # of which its warnings tell
        notes.append("the runs in the database have changed since this fit: run lawfit fit to use them")
    return "".join(
        (
            simulated_banner(document["recipe"]),
            answer_section(document),
            further_section(document, laws or {}),
            why_section(fit, document, observed),
            others_section(document),
            backtest_section(fit),
            next_section(fit),
            evidence_section(document, notes),
            glossary_section(),
        )
    )
