"""`lawfit laws`: the published laws, and what each of them costs on your runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, RecipeOption, open_store
from lawfit.cli.output import heading, pairs, print_json, progress, show, table
from lawfit.units import format_percent, format_quantity

app = typer.Typer(help="Published scaling laws: list them, show one, compare them on your runs.", no_args_is_help=True)

CHECKED_WORDS = {
    "V1": "read in the authors' own text, code or data",
    "V2": "read in a second source that restates it",
    "CALC": "computed by us from the authors' released data",
    "MEM": "from memory, unverified: shown, never used",
}
AT_BATCH_WORDS = {
    "jointly_optimal": "at the batch size that is best too",
    "fixed": "at one fixed batch size",
    "input": "at any batch size: the batch is an input",
    "none": "gives no learning rate",
}


@app.command("list")
def list_laws(as_json: JsonOption = False) -> None:
    """List the published laws that lawfit knows, with their source and how well each was checked."""
    from lawfit import pipeline

    laws = pipeline.list_laws()
    if as_json:
        print_json({"schema": "lawfit.laws/1", "laws": laws})
        return
    rows = [
        (
            law["id"],
            law["label"],
            ", ".join(name.replace("_tokens", "") for name in law["formulas"]),
            "yes" if law["verified"] else "no",
            law["cite"],
        )
        for law in laws
    ]
    show(table(("law", "name", "gives", "verified", "source"), rows))


@app.command("show")
def show_law(
    law: Annotated[str, typer.Argument(help="Its id, as `lawfit laws list` prints it.")], as_json: JsonOption = False
) -> None:
    """Show one published law: formula, what its inputs count, where it was measured, caveats and source."""
    from lawfit import pipeline

    found = pipeline.show_law(law)
    if as_json:
        print_json({"schema": "lawfit.law/1", **found})
    else:
        show(_law(found))


@app.command("compare")
def compare(
    ctx: typer.Context, recipe: RecipeOption = None, as_json: JsonOption = False, database: DatabaseOption = None
) -> None:
    """Score each published law on your own runs: what its learning rate and batch would have cost at each scale.

    A law is scored where your runs surround what it recommends; "outside" counts the scales where they do not.
    Exit code 4: no runs to score on.
    """
    from lawfit import pipeline

    store = open_store(ctx, database)
    with progress("scoring", quiet=as_json):
        document = pipeline.compare_laws(store, recipe)
    if as_json:
        print_json({"schema": "lawfit.comparison/1", **document})
        return

    def order(row: Mapping[str, Any]) -> tuple[bool, float]:
        return row["mean_regret"] is None, row["mean_regret"] or 0.0

    rows = [
        (
            row["law"],
            format_percent(row["mean_regret"]),
            format_percent(row["worst_regret"]),
            str(row["cells_scored"]),
            str(row["cells_outside"]),
            row["cite"],
        )
        for row in sorted(document["laws"], key=order)
    ]
    columns = ("law", "mean cost", "worst cost", "scales", "outside", "source")
    show(
        heading(f"What each published law costs on {document['runs_used']:,} runs of {document['recipe']}, in loss"),
        table(columns, rows, right=columns[1:5]),
    )


def _law(law: Mapping[str, Any]) -> Any:
    rows = [("Law", f"{law['label']} ({law['id']})"), ("Source", law["cite"])]
    for name, label in (("form", "Formula"), ("coefficients", "Numbers")):
        rows.append((label, CHECKED_WORDS.get(law[f"{name}_checked"], law[f"{name}_checked"])))
    for target, formula in law["formulas"].items():
        rows.append((target.replace("_", " "), _formula_words(formula, law["inputs"])))
    rows.append(("Holds", AT_BATCH_WORDS.get(law["at_batch"], law["at_batch"])))
    if law["needs"]:
        rows.append(("Also needs", ", ".join(law["needs"])))
    for i, (name, spec) in enumerate(law["inputs"].items()):
        low, high = ("?" if bound is None else format_quantity(bound) for bound in (spec["low"], spec["high"]))
        rows.append(
            ("Inputs" if i == 0 else "", f"{name}: {spec['convention'].replace('_', '-')}, measured {low} to {high}")
        )
    rows += [
        ("Held fixed" if i == 0 else "", f"{name}: {value}") for i, (name, value) in enumerate(law["context"].items())
    ]
    rows += [("Caveats" if i == 0 else "", caveat) for i, caveat in enumerate(law["caveats"])]
    return pairs(rows)


def _formula_words(formula: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    def x(name: str) -> str:
        unit = inputs[name]["unit"]
        return name if unit == 1 else f"({name} / {unit:.10g})"

    const = "c" if formula["const"] is None else f"{formula['const']:.6g}"
    if formula["law"] == "affine_log":
        words = const + "".join(f" {slope:+.6g} ln {x(name)}" for name, slope in formula["exponents"].items())
    else:
        words = " x ".join([const, *(f"{x(name)}^{power:.6g}" for name, power in formula["exponents"].items())])
    if formula["output_unit"] == "sequences":
        words += f" sequences of {formula['seq_len']:,.0f} tokens"
    if formula["cap"] is not None:
        words += f", at most {formula['cap']:g}"
    if formula["rounding"]:
        words += f", rounded to a {formula['rounding'].replace('_', ' ')}"
    if formula["definition"]:
        extra = formula["definition"]
        words += (
            f" (extra fraction {extra['fraction']:g} over a batch of {extra['reference_batch_tokens']:,.0f} tokens)"
        )
    return words + ("; c comes from a tuned run" if formula["const"] is None else "")
