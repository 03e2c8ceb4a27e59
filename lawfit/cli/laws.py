"""`lawfit laws`: the published laws, and what each of them costs on your runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, RecipeOption, open_store
from lawfit.cli.output import heading, pairs, plain, print_json, progress, show, table, warning_list
from lawfit.units import counted, format_percent, format_quantity
from lawfit.words import told

app = typer.Typer(help="Published scaling laws: list them, show one, compare them on your runs.", no_args_is_help=True)

KIND_WORDS = {
    "lr_batch": "Learning rate (peak) and batch size",
    "critical_batch": "Critical batch size: beyond it, larger batches cost more tokens than they save time",
    "weight_decay": "Weight decay, or the AdamW timescale that it follows from",
    "optimizer": "Adam's beta2",
    "loss": "Loss",
    "allocation": "What a training budget is best spent on",
}
TARGET_WORDS = {
    "lr": "learning rate",
    "batch_tokens": "batch size",
    "critical_batch_tokens": "critical batch",
    "timescale": "timescale",
    "weight_decay": "weight decay",
    "beta2": "beta2",
    "loss": "loss",
    "optimal_params": "parameters",
    "optimal_tokens": "tokens",
    "optimal_flops_per_token": "FLOPs per token",
    "optimal_batch_tokens": "batch size",
    "optimal_steps": "steps",
    "least_tokens": "fewest tokens",
}
INPUT_WORDS = {
    "params": "parameters",
    "batch_tokens": "batch",
    "flops": "compute",
    "tokens_per_param": "tokens per parameter",
    "unique_tokens": "different tokens",
    "active_fraction": "active share of experts",
}
CHECKED_WORDS = {
    "V1": "read in the authors' own text, code or data",
    "V2": "read in a second source that restates it",
    "CALC": "computed by us from the authors' released data",
    "ABS": "read in an abstract alone, unverified",
    "MEM": "from memory, unverified",
}
AT_BATCH_WORDS = {
    "jointly_optimal": "at the batch size that is best too",
    "fixed": "at one fixed batch size",
    "input": "at any batch size: the batch is an input, or does not matter",
}
CONVENTION_WORDS = {
    "non_embedding": "all but the embedding and head tables (non-embedding)",
    "body_plus_head": "all but the embedding table; the head counts",
    "total": "all of them, both tables included",
    "active": "those that a token meets (mixture of experts)",
    "unknown": "the source does not say which are counted",
}
GIVES_WORDS = {
    ("lr", "batch_tokens"): "Laws that give both",
    ("lr",): "Laws of the learning rate alone",
    ("batch_tokens",): "Laws of the batch size alone, with the best learning rate tried there",
}
NEEDS_WORDS = {
    "anchor": "a tuned value to start from: only exponents are published, so it says how a value moves, not what it is",
    "loss": "the loss at the end of the run",
    "width": "the hidden width",
    "steps": "the steps of the run at a very large batch",
    "unique_tokens": "how many of the tokens are different",
    "active_fraction": "the share of experts that a token meets",
}
NAME_WIDTH = 44


@app.command("list")
def list_laws(as_json: JsonOption = False) -> None:
    """List the published laws that lawfit knows by what they are about, with what each takes and its source."""
    from lawfit import pipeline

    laws = pipeline.list_laws()
    if as_json:
        print_json({"schema": "lawfit.laws/1", "laws": laws})
        return
    columns = ("law", "name", "gives", "from", "source")
    parts: list[Any] = []
    for kind, words in KIND_WORDS.items():
        rows = [
            (
                law["id"] + ("" if law["verified"] else " (?)"),
                law["label"],
                ", ".join(TARGET_WORDS[target] for target in law["formulas"]),
                _takes(law),
                law["cite"],
            )
            for law in laws
            if law["kind"] == kind
        ]
        parts += [heading(words), table(columns, rows, wrap={"name": NAME_WIDTH}), plain("")]
    show(
        *parts,
        plain(
            f"{len(laws)} laws. (?) from memory or an abstract alone: shown, and lends nothing that was not read in a "
            "source. lawfit laws show LAW tells what one is."
        ),
    )


@app.command("show")
def show_law(
    law: Annotated[str, typer.Argument(help="Its id, as `lawfit laws list` prints it.")], as_json: JsonOption = False
) -> None:
    """Show one published law: formula, what its inputs count, where it was measured, caveats and source."""
    from lawfit import pipeline

    found = told(pipeline.show_law(law))
    if as_json:
        print_json({"schema": "lawfit.law/1", **found})
    else:
        show(_law(found))


@app.command("compare")
def compare(
    ctx: typer.Context, recipe: RecipeOption = None, as_json: JsonOption = False, database: DatabaseOption = None
) -> None:
    """Score each published law on your own runs, best first, by what it is about.

    Learning rate, batch and weight decay: the loss that following the law would have cost, at each scale. A scale
    counts as outside where your runs do not surround what the law recommends; its cost there is a lower bound. Loss
    and critical batch: how far the law is from what was measured.
    Exit code 4: no runs to score on.
    """
    from lawfit import pipeline

    store = open_store(ctx, database)
    with progress("scoring", quiet=as_json):
        document = told(pipeline.compare_laws(store, recipe))
    if as_json:
        print_json({"schema": "lawfit.comparison/2", **document})
        return
    convention = document["params_convention"].replace("_", "-")
    runs = f"{counted(document['runs_used'], 'run')} of {document['recipe']}"
    runs += f", {convention} parameters" if convention else ""
    show(
        heading(f"Published laws on {runs}"),
        plain(""),
        *_settings(document),
        *_weight_decay(document["weight_decay"]),
        *_loss(document["loss"]),
        *_critical(document["critical_batch"]),
        *_footnotes(document),
    )


@app.command("ratio")
def ratio(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe, by name or key.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="What it is set against, such as another optimizer.")],
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Say how many times the tokens of OTHER a recipe needs, to the same loss at the same size (arXiv 2505.02222).

    Above 1, OTHER needs less data. Read between runs of both, nothing extrapolated; by batch too, where both ran it:
    a ratio that grows with the batch says that OTHER stands larger batches. Exit code 4: no losses to compare.
    """
    from lawfit import pipeline

    store = open_store(ctx, database)
    with progress("comparing", quiet=as_json):
        document = told(pipeline.token_ratio(store, recipe, other))
    if as_json:
        print_json(document)
        return
    rows = [
        (
            format_quantity(row["params"]),
            format_quantity(row["tokens"]),
            document["recipe"] if row["run_of"] == "recipe" else document["other"],
            f"{row['loss']:.4f}",
            f"{row['ratio']:.2f}",
        )
        for row in document["scales"]
    ]
    parts: list[Any] = [
        plain(
            f"{document['recipe']} takes {_ratio_words(document)} the tokens of {document['other']} to the same loss"
        ),
        plain(""),
        heading("Loss by loss: each best run, set against the other recipe between two of its horizons"),
        table(("params", "tokens", "run of", "loss", "ratio"), rows, right=("params", "tokens", "loss", "ratio")),
    ]
    if document["by_batch"]:
        batches = [(format_quantity(row["batch_tokens"]), _ratio_words(row)) for row in document["by_batch"]]
        parts += [plain(""), heading("At one batch of both, tokens a step"), table(("batch", "ratio"), batches)]
    beside = document["beside"]
    notes = [*document["notes"]]
    if beside:
        notes.append(f"{beside} losses lie outside those of the other recipe's horizons and give no ratio")
    if notes:
        parts += [plain(""), warning_list(notes)]
    show(*parts)


def _ratio_words(found: Mapping[str, Any]) -> str:
    """``1.18 times (1.10 to 1.26; 8 losses at 3 sizes)``."""
    spread = "no interval" if found["low"] is None else f"{found['low']:.2f} to {found['high']:.2f}"
    losses = counted(found["losses"], "loss", "losses")
    return f"{found['ratio']:.2f} times ({spread}; {losses} at {counted(found['sizes'], 'size')})"


def _takes(law: Mapping[str, Any]) -> str:
    names = dict.fromkeys(name for formula in law["formulas"].values() for name in formula["inputs"])
    said = [INPUT_WORDS.get(name, name) for name in names]
    if any(formula["needs_anchor"] for formula in law["formulas"].values()):
        said.append("a tuned value")
    return ", ".join(said) or ("a schedule" if law["kind"] == "loss" else "nothing: one value")


def _settings(document: Mapping[str, Any]) -> list[Any]:
    rows = document["laws"]
    title = "Learning rate and batch size: loss that following a law would have cost"
    if not rows:
        return _nothing(title, document["reason"])
    columns = ("law", "mean cost", "worst cost", "scales", "outside", "at a batch of", "parameters", "source")
    parts: list[Any] = [heading(title)]
    for gives, words in GIVES_WORDS.items():
        texts = [
            (
                _name(row),
                format_percent(row["mean_regret"]),
                format_percent(row["worst_regret"]),
                str(row["cells_scored"]),
                str(row["cells_outside"]),
                row["at_batch"],
                row["counts"],
                row["cite"],
            )
            for row in rows
            if tuple(row["gives"]) == gives
        ]
        if texts:
            parts += [plain(words), table(columns, texts, right=columns[1:5]), plain("")]
    return parts


def _weight_decay(found: Mapping[str, Any]) -> list[Any]:
    title = "Weight decay: loss that following a law would have cost"
    if not found["rows"]:
        return _nothing(title, found.get("reason", ""))
    rows = [
        (
            _name(row),
            format_percent(row["mean_regret"]),
            format_percent(row["worst_regret"]),
            str(row["slices"]),
            str(row["outside"]),
            row["counts"],
            row["cite"],
        )
        for row in found["rows"]
    ]
    rows += [
        (
            row["label"],
            format_percent(row["mean_regret"]),
            format_percent(row["worst_regret"]),
            str(row["slices"]),
            str(row["outside"]),
            "-",
            "",
        )
        for row in found["baselines"]
    ]
    columns = ("law", "mean cost", "worst cost", "sweeps", "outside", "parameters", "source")
    return [heading(title), table(columns, rows, right=columns[1:5]), plain("")]


def _loss(found: Mapping[str, Any]) -> list[Any]:
    title = "Loss: how far a law is from the lowest loss of each scale"
    if not found["rows"]:
        return _nothing(title, found.get("reason", ""))
    rows = [
        (
            _name(row),
            format_percent(row["shape_error"]),
            f"{row['level']:.3f}",
            str(row["scales"]),
            row["counts"],
            row["cite"],
        )
        for row in found["rows"]
    ]
    columns = ("law", "shape off by", "level", "scales", "parameters", "source")
    words = "level: your loss over the law's; other tokenizers and texts move it, so the shape is judged without it."
    return [heading(title), table(columns, rows, right=columns[1:4]), plain(words), plain("")]


def _critical(found: Mapping[str, Any]) -> list[Any]:
    title = "Critical batch size: how far a law is from what was measured"
    if not found["rows"]:
        return _nothing(title, found.get("reason", ""))
    rows = [
        (
            _name(row),
            f"{1 + row['error']:.2f}x",
            f"{1 + row['worst_error']:.2f}x",
            f"{row['level']:.2f}",
            str(row["scales"]),
            row["counts"],
            row["cite"],
        )
        for row in found["rows"]
    ]
    columns = ("law", "off by", "at most", "level", "measured", "parameters", "source")
    words = f"level: yours over the law's, each law converted to the batch that needs {found['definition']}."
    return [heading(title), table(columns, rows, right=columns[1:5]), plain(words), plain("")]


def _nothing(title: str, reason: str) -> list[Any]:
    return [heading(title), plain(f"nothing to score: {reason}"), plain("")]


def _name(row: Mapping[str, Any]) -> str:
    return row["law"] + (" *" if row["carried"] else "") if "carried" in row else str(row["law"])


def _footnotes(document: Mapping[str, Any]) -> list[Any]:
    """What the marks mean, and the laws that could not be scored, by reason."""
    kinds = [document["laws"], *(document[kind]["rows"] for kind in ("weight_decay", "loss", "critical_batch"))]
    rows = [row for kind in kinds for row in kind]
    said = []
    if any(row.get("carried") for row in rows):
        said.append(("*", "exponents alone: carried from your best run at the smallest scale, scored at the others"))
    words = {"converted": "", "not converted": "", "not said": ""}
    for row in rows:
        if row["counts"] in words and not words[row["counts"]]:
            words[row["counts"]] = row["counts_words"]
    said += [(how, f"for example {example}") for how, example in words.items() if example]
    reasons: dict[str, list[str]] = {}
    for missing in document["not_scored"]:
        reasons.setdefault(missing["reason"], []).append(missing["law"])
    left = [(", ".join(laws), reason) for reason, laws in reasons.items()]
    parts = [pairs(said), plain("")] if said else []
    if left:
        parts += [heading("Not scored"), table(("laws", "why"), left, wrap={"laws": 48, "why": 66})]
    return parts


def _law(law: Mapping[str, Any]) -> Any:
    rows = [("Law", f"{law['label']} ({law['id']})"), ("About", KIND_WORDS[law["kind"]]), ("Source", law["cite"])]
    for name, label in (("form", "Formula"), ("coefficients", "Numbers")):
        rows.append((label, CHECKED_WORDS.get(law[f"{name}_checked"], law[f"{name}_checked"])))
    rows += [("Lends" if i == 0 else "", words) for i, words in enumerate(_lends(law))]
    for target, formula in law["formulas"].items():
        expression = formula["expression"].removeprefix(f"{target} = ").replace(" * ", " x ")
        rows.append((TARGET_WORDS[target].capitalize(), expression))
        if formula["sd"]:
            spread = ", ".join(f"{name} {value:g}" for name, value in formula["sd"].items())
            rows.append(("", f"standard errors: {spread}"))
    if law["at_batch"] in AT_BATCH_WORDS:
        fixed = law["fixed_batch_tokens"]
        rows.append(("Holds", AT_BATCH_WORDS[law["at_batch"]] + (f", {fixed:,.0f} tokens" if fixed else "")))
    rows += [("Also needs" if i == 0 else "", NEEDS_WORDS.get(needed, needed)) for i, needed in enumerate(law["needs"])]
    rows += [("Inputs" if i == 0 else "", text) for i, text in enumerate(_inputs(law["inputs"]))]
    rows += [
        ("Held fixed" if i == 0 else "", f"{name.replace('_', ' ')}: {value}")
        for i, (name, value) in enumerate(law["context"].items())
    ]
    rows += [("Caveats" if i == 0 else "", caveat) for i, caveat in enumerate(law["caveats"])]
    return pairs(rows)


def _lends(law: Mapping[str, Any]) -> list[str]:
    """What the law lends to fits of your runs, and what it does not because nobody read it in a source."""
    said = list(law["lends"].values())
    if not law["verified"]:
        said.append("nothing else: its numbers were not read in a source" if said else "nothing: it was not verified")
    return said or ["nothing"]


def _inputs(inputs: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    said = []
    for name, spec in inputs.items():
        counted = spec["convention"]
        if name == "params":
            counted = CONVENTION_WORDS.get(counted, counted)
        low, high = ("?" if bound is None else format_quantity(bound) for bound in (spec["low"], spec["high"]))
        ends = "where it was measured is not said" if low == high == "?" else f"measured {low} to {high}"
        said.append(f"{INPUT_WORDS.get(name, name)}: {counted}; {ends}")
    return said
