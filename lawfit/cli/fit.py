"""`lawfit fit`: from the stored runs to a stored fit."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli.conventions import DEFINITIONS, definition
from lawfit.cli.gathered import Options, gathers
from lawfit.cli.options import AtOption, DatabaseOption, JsonOption, RecipeOption, VerboseOption, open_store
from lawfit.cli.output import (
    backtest_table,
    explained,
    format_count,
    heading,
    note,
    pairs,
    plain,
    print_json,
    progress,
    show,
    table,
    warning_list,
)
from lawfit.factors import asked_levels
from lawfit.records import FitStatus
from lawfit.units import counted, format_lr, format_quantity
from lawfit.words import tell, told
from lawfit.words.answers import FIT_STATUS_WORDS, other_law_rows
from lawfit.words.parts import law_labels

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lawfit.records import Fit
    from lawfit.storage import Store

CELL_WORDS = {
    "inside": "",
    "at_edge": "at the edge of the sweep",
    "flat": "too flat to place",
    "too_few": "too few runs",
}


@dataclass(frozen=True, kw_only=True)
class Choice(Options):
    """What is fitted, and by what."""

    without_law: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAW",
            help="A published law that must lend nothing to any law of the fit: it was fitted on these runs. "
            "All that was fitted on the same runs goes with it; repeatable.",
        ),
    ] = None
    at: AtOption = None
    critical_definition: Annotated[
        str,
        typer.Option(
            metavar="DEFINITION", help=f"A critical batch is stated by doubling, and also by this: {DEFINITIONS}."
        ),
    ] = "zhang"
    three_term: Annotated[
        bool,
        typer.Option("--three-term", help="Also fit the surface of the loss in parameters, batch and steps (seconds)."),
    ] = False

    def checked(self) -> dict[str, Any]:
        """As `pipeline.refit` takes it; what cannot be is a usage error."""
        try:
            asked_levels(self.at or ())
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        definition(self.critical_definition)
        return {
            "without_laws": self.without_law or (),
            "at": self.at or (),
            "critical_definition": self.critical_definition,
            "on_request": ("three_term",) if self.three_term else (),
        }


@gathers
def fit(
    ctx: typer.Context,
    recipe: RecipeOption = None,
    *,
    choice: Choice,
    every: Annotated[
        bool, typer.Option("--all", help="Fit every recipe of the store; one that cannot be fitted says why.")
    ] = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Fit how the best learning rate and batch size move with parameters and tokens, and store the fit.

    The laws of loss, critical batch size and weight decay are fitted too where the recipe's data support them; for
    each other one it says what is missing. Every run of the recipe that is not excluded is used; diverged runs count
    as an upper bound of the learning rate.
    Settings that vary inside the recipe (weight decay, beta2, the kind of attention) are held at one level: the one
    that --at asks for, or the one that is advised or has the lowest losses. Runs at others are left out and counted.
    Each fit comes with a backtest: scales are left out, predicted, and scored on the runs that were made there.
    Exit code 4: too little evidence for any answer.
    """
    from lawfit import pipeline

    if every and recipe is not None:
        raise typer.BadParameter("--all fits every recipe; leave --recipe out")
    checked = choice.checked()  # said before the store is opened
    store = open_store(ctx, database)
    refit: Callable[..., Fit] = partial(pipeline.refit, store, **checked)
    if every:
        _fit_all(store, refit, verbose=verbose, as_json=as_json)
        return
    with progress("fitting", quiet=as_json) as advance:
        stored = refit(recipe, progress=advance)
    if as_json:
        print_json({"schema": "lawfit.fit/1", **stored.to_json()})
    else:
        show(*fit_card(stored, verbose=verbose))
        note(f"stored as fit {stored.id}{_next(store, stored)}")


def _next(store: Store, fit: Fit) -> str:
    """The next command to type, where the fit may be used."""
    from lawfit.pipeline import answering

    several = f" --recipe {shlex.quote(fit.recipe_name)}" if len(store.recipes()) > 1 else ""
    if fit.status == FitStatus.UNCERTIFIED:
        alone = f"; its law of the loss answers: lawfit plan{several} --flops C" if answering.loss_answers(fit) else ""
        look = f"look at it with lawfit predict --fit {fit.id} --params N --tokens D"
        return f", which no learning rate comes from; {look}{alone}"
    return f"; next: lawfit predict{several} --params N --tokens D"


def _fit_all(store: Store, refit: Callable[..., Fit], *, verbose: bool, as_json: bool) -> None:
    """Every recipe in turn; one without enough data does not keep the others from their fits."""
    from lawfit.errors import FitError, NotEnoughData

    fits: list[Fit] = []
    failed: dict[str, str] = {}
    # those at a constant rate first: their critical batch size serves their sister recipes
    names = [(found.recipe.schedule != "constant", found.recipe.name) for found in store.recipes()]
    for number, (_, name) in enumerate(sorted(names)):
        with progress(name, quiet=as_json) as advance:
            try:
                made = refit(name, progress=advance)
            except FitError as error:
                failed[name] = str(error)
                continue
        fits.append(made)
        if not as_json:
            show(*([plain("")] if number else []), *fit_card(made, verbose=verbose))
    if not names:
        store.recipe(None)  # says that there is nothing, and what to type
    if not fits:
        raise NotEnoughData("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    if as_json:
        fitted = [{"schema": "lawfit.fit/1", **made.to_json()} for made in fits]
        print_json({"schema": "lawfit.fits/1", "fits": fitted, "failed": failed})
        return
    for name, reason in failed.items():
        note(f"{name}: {reason}")
    note(f"{counted(len(fits), 'recipe')} fitted; next: lawfit predict --recipe NAME")


def fit_card(stored: Fit, *, verbose: bool) -> list[RenderableType]:
    """A first look, or all of it with what its words mean."""
    from lawfit.cli.brief import brief_fit

    return explained(summary(stored)) if verbose else brief_fit(stored)


def summary(stored: Fit) -> list[RenderableType]:
    """What a fit found: the laws, the scales they rest on, the backtest, warnings and the runs to add."""
    from lawfit.pipeline import answering

    payload = told(stored.payload)
    parts: list[RenderableType] = [_head(stored, payload)]
    if payload.get("cells"):
        parts += [plain(""), heading("Scales, and where the loss is lowest at each"), _cells(payload["cells"])]
    for split in (payload.get("backtest") or {}).get("splits") or []:
        parts += [
            plain(""),
            heading(f"Backtest, {split['name']}: scored on the runs left out"),
            backtest_table(split["rows"]),
        ]
    if other := other_law_rows(payload):
        parts += [plain(""), heading("Other laws of the field on these runs; none of them answers"), pairs(other)]
    if payload.get("next_grid"):
        parts += [plain(""), heading("Runs that would help most"), _next_grid(payload["next_grid"])]
    if warnings := [*(payload.get("warnings") or []), *told(answering.remarks(stored))]:
        parts += [plain(""), warning_list(warnings)]
    return parts


def _head(stored: Fit, payload: Mapping[str, Any]) -> RenderableType:
    from lawfit.pipeline import answering

    rows = [("Recipe", stored.recipe_name)]
    if "runs_used" in payload:
        runs = f"{payload['runs_used']:,} used"
        rows.append(("Runs", runs + (f", {payload['diverged']:,} of them diverged" if payload.get("diverged") else "")))
    rows += [("", f"left out: {item['count']:,} ({item['reason']})") for item in payload.get("rejected") or []]
    law = payload.get("law") or {}
    for name, label in (("lr", "Best lr"), ("batch_tokens", "Best batch"), ("lr_given_batch", "lr at a batch")):
        if law.get(name):
            rows.append((label, law_words(law[name])))
    if payload.get("lr_at_batch"):
        rows.append(("" if law.get("lr_given_batch") else "lr at a batch", _at_batch_words(payload["lr_at_batch"])))
    rows += [("" if at else "Sizes", line) for at, line in enumerate(told(answering.size_words(stored)))]
    if payload.get("words"):  # a fit of another law
        rows.append((law_labels().get(stored.kind, stored.kind), payload["words"]))
        rows += [("", line) for line in payload.get("lines") or []]
    rows.append(("Standing", status_words(stored.status)))
    if found := payload.get("certificate") if stored.kind == "lr_batch" else None:
        used = stored.status != FitStatus.UNCERTIFIED
        rows.append(("Certificate" if used else "Not certified", found["words"]))
        rows += [("", sentence) for sentence in (*told(answering.doubts(stored)), *found["warnings"])]
        if mend := answering.to_mend(stored):
            rows.append(("To add", tell(mend)))
    rows += further_rows(payload)
    return pairs(rows)


def _at_batch_words(chosen: Mapping[str, Any]) -> str:
    """What `predict --batch-tokens` will answer from, and why."""
    laws = chosen["laws"] if "laws" in chosen else {"saturating": chosen["saturating"]}  # of before 2026-11-29
    name, law = next(iter(laws.items()), ("", None))
    if chosen["form"] == "surface" or law is None:
        return f"away from the best batch it comes from the joint surface alone: {chosen['why']}"
    return (
        "the further from the best batch, the more (up to half) of it comes from "
        f"{law_words(_named(law)).removeprefix('moves as ')} {_BEND_WORDS[name]}, noise batch "
        f"{format_quantity(law['noise_batch_tokens'])} tokens on {format_quantity(law['at_tokens'])}, moving as "
        f"tokens^{law['noise_tokens_exponent']:+.2f}: {chosen['why']}"
    )


_BEND_WORDS = {
    "saturating": "/ (1 + noise batch / batch)",
    "surge": "x 2 / (root of noise batch / batch + root of batch / noise batch)",
}


def _named(law: Mapping[str, Any]) -> dict[str, Any]:
    """Exponents of a law along the batch by input, as those of the other laws are."""
    return {
        f"{name}{end}": law[f"{name}_exponent{end}"] for name in ("params", "tokens") for end in ("", "_low", "_high")
    }


def further_rows(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A line for each further law: what it says, or what it would take."""
    laws, missing = payload.get("laws") or {}, payload.get("missing") or {}
    rows = []
    for kind, name in law_labels().items():
        if kind in missing:
            rows.append((name, f"no law: {missing[kind]}"))
        elif kind in laws:
            rows.append((name, laws[kind]["words"] + _lent(laws[kind])))
            rows += [("", line) for line in laws[kind].get("lines") or []]
    return rows


def _lent(law: Mapping[str, Any]) -> str:
    """What stands beside the runs in a further law whose runs do not carry it alone."""
    if law["status"] != "sparse":
        return ""
    if "lent_by" not in law:  # a fit of before that was kept
        return "; in part from published laws"
    if law["lent_by"] is None:
        return ""
    return "; in part from " + (f"published laws ({', '.join(law['lent_by'])})" if law["lent_by"] else "a vague prior")


def status_words(status: FitStatus) -> str:
    """How far a fit may be used."""
    return FIT_STATUS_WORDS.get(str(status), str(status))


def law_words(law: Mapping[str, Any]) -> str:
    """``moves as parameters^-0.74 (-0.99 to -0.49) x tokens^+0.19``."""
    factors = []
    for name, label in (("params", "parameters"), ("tokens", "tokens"), ("batch_tokens", "batch")):
        if law.get(name) is None:
            continue
        low, high = law.get(f"{name}_low"), law.get(f"{name}_high")
        spread = f" ({low:+.2f} to {high:+.2f})" if low is not None and high is not None else ""
        factors.append(f"{label}^{law[name]:+.2f}{spread}")
    return "moves as " + " x ".join(factors) if factors else "constant"


def _cells(cells: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows = []
    for cell in cells:
        best, optimum = cell.get("best") or {}, cell.get("optimum") or {}
        status = str(optimum.get("status") or "")
        rows.append(
            (
                format_quantity(cell["params"]),
                format_quantity(cell["tokens"]),
                f"{cell['runs']:,}",
                f"{cell['diverged']:,}",
                "-" if best.get("loss") is None else f"{best['loss']:.4f}",
                format_lr(best.get("lr")),
                format_count(best.get("batch_tokens")),
                format_lr(optimum.get("lr")),
                format_count(optimum.get("batch_tokens")),
                CELL_WORDS.get(status, status),
            )
        )
    columns = ("params", "tokens", "runs", "div.", "best loss", "its lr", "batch", "fitted lr", "batch ", "")
    return table(columns, rows, right=columns[:-1])


def _next_grid(grid: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows = [
        (
            format_quantity(item["params"]),
            format_quantity(item["tokens"]),
            ", ".join(format_lr(lr) for lr in item["lr"]),
            ", ".join(format_count(batch) for batch in item["batch_tokens"]),
            str(item.get("why") or ""),
        )
        for item in grid
    ]
    return table(("params", "tokens", "learning rates", "batches", "why"), rows, right=("params", "tokens"))
