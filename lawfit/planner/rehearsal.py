"""A plan played before it is run, as a document: what it would bring in drawn worlds, beside what it promises."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.prediction import recommend
from lawfit.ask import Target
from lawfit.documents import setting_of
from lawfit.documents.next_runs import NextRuns, Rehearsal
from lawfit.errors import FitError
from lawfit.findings import as_json, finding
from lawfit.planner.next_runs import what_is_known
from lawfit.planner.planned import Planned, planned_of, rows_of
from lawfit.planner.rehearse import World, cost_of, draw_worlds, play
from lawfit.records import Fit, Recipe, Run, RunStatus
from lawfit.units import six_digits

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]
FitAgain = Callable[[Sequence[Run]], Fit]

_LOSS: Final = (2.0, -0.07, -0.07)  # ln loss where no run says it: level, and exponents of parameters and tokens
_SEEDS: Final = 1000  # of made runs, from here on: nobody's
_MOST: Final = 0.8  # of the runs
_SAME: Final = 0.02  # ln: scales that close are one


def rehearsal_of(
    document: NextRuns,
    fit: Fit | None,
    worlds: int,
    *,
    seed: int,
    progress: Progress,
    recipe: Recipe | None = None,
    runs: Sequence[Run] = (),
    fit_again: FitAgain | None = None,
) -> Rehearsal:
    """Play a plan in worlds drawn from what was known when it was made.

    Parameters
    ----------
    fit : that the plan was made from
    recipe, runs, fit_again : of the plan, those there are, and what fits these with the planned ones; left out: laws
        are updated by what each scale's losses tell, and nothing is fitted

    Raises
    ------
    FitError
        In no world could the runs be fitted.
    """
    said = document["target"]
    target = Target(params=said["params"], tokens=said["tokens"], level=said["level"])
    asked = document["asked"]
    state, valley = what_is_known(fit, target, asked.get("max_params"), asked.get("max_tokens"))
    # what is under way is played, too: nobody knows yet what comes of it
    scale, planned = (target.params, target.tokens), planned_of([*document["under_way"], *rows_of(document["grids"])])
    made = draw_worlds(state, valley, scale, planned, worlds, rng=np.random.default_rng(seed))
    doing = "playing the plan in worlds drawn from what is known"
    played = play(
        state, valley, scale, planned, made, level=target.level, progress=lambda share: progress(doing, share)
    )  # fmt: skip
    before = float(played.before.mean())
    if fit_again is None:
        rows = np.column_stack(
            [played.regrets, played.held_lr, played.held_batch, played.lr_factor, played.batch_factor]
        )
    else:
        losses = _lowest_losses(fit, [each.scale for each in planned])
        held = recipe or Recipe(name="first sweep")
        rows = _refitted(held, list(runs), fit_again, target, planned, losses, made, progress)
    return _told(document, rows, before, worlds, seed, refitted=fit_again is not None)


def _told(document: NextRuns, rows: Floats, before: float, worlds: int, seed: int, *, refitted: bool) -> Rehearsal:
    regrets, held_lr, held_batch, *factors = rows.T
    lr_factor, batch_factor = (six_digits(float(np.exp(np.log(factor).mean()))) for factor in factors)
    spread = float(regrets.std(ddof=1)) if len(regrets) > 1 else 0.0
    found: dict[str, Any] = {
        "worlds": worlds,
        "seed": seed,
        "refitted": refitted,
        "before": six_digits(before),
        "promised": document["after"]["expected_regret"],
        "realised": six_digits(float(regrets.mean())),
        "standard_error": six_digits(spread / math.sqrt(len(regrets))),
        "level": document["target"]["level"],
        "held": {"lr": float(held_lr.mean()), "batch_tokens": float(held_batch.mean())},
        "lr_factor": lr_factor,
        "batch_factor": batch_factor,
        "failed": worlds - len(regrets),
    }
    found["words"] = as_json(finding("plan_next.rehearsed", **found))
    return found  # type: ignore[return-value]


def _refitted(
    recipe: Recipe,
    there: list[Run],
    fit_again: FitAgain,
    target: Target,
    planned: Sequence[Planned],
    lowest: Sequence[float],
    worlds: Sequence[World],
    progress: Progress,
) -> Floats:
    """(worlds, 5) regret, whether intervals held, and their half-widths, by fits of all runs there would be."""
    rows, failed = list[tuple[float, ...]](), None
    for number, world in enumerate(worlds):
        progress("fitting the runs of each world", number / len(worlds))
        try:
            again = fit_again([*there, *_made_runs(planned, lowest, world, there)])
        except FitError as error:
            failed = error
            continue
        settings = recommend(again, recipe, target)["recommendation"]
        parts = setting_of(settings, "lr"), setting_of(settings, "batch_tokens")
        truth = np.exp(world.target).tolist()
        held = [part["low"] <= best <= part["high"] for part, best in zip(parts, truth, strict=True)]
        factors = [math.sqrt(part["high"] / part["low"]) for part in parts]
        rows.append((cost_of(world, *(math.log(part["value"]) for part in parts)), *held, *factors))
    if not rows and failed is not None:
        raise failed
    return np.array(rows, dtype=float)


def _lowest_losses(fit: Fit | None, scales: Sequence[tuple[float, float]]) -> list[float]:
    """ln of the lowest loss of each scale: that of its runs, or on the line through those of the others."""
    cells, level = [] if fit is None else fit.payload["cells"], np.array(_LOSS)
    if len(cells) > len(level):
        x = np.log([[math.e, cell["params"], cell["tokens"]] for cell in cells])
        level = np.linalg.lstsq(x, np.log([cell["best"]["loss"] for cell in cells]), rcond=None)[0]
    found = []
    for scale in scales:
        there = [math.log(cell["best"]["loss"]) for cell in cells if _same(cell, scale)]
        found.append(there[0] if there else float(level @ np.log([math.e, *scale])))
    return found


def _made_runs(planned: Sequence[Planned], lowest: Sequence[float], world: World, there: Sequence[Run]) -> list[Run]:
    """The planned runs with the losses that they have in a world, and further settings as most runs have them."""
    like = _as_most(there)
    found = []
    for number, (each, losses, low) in enumerate(zip(planned, world.losses, lowest, strict=True)):
        params, tokens = each.scale
        settings = zip(each.log_lr.tolist(), each.log_batch.tolist(), losses.tolist(), strict=True)
        for place, (log_lr, log_batch, loss) in enumerate(settings):
            one = replace(
                like, run_key=f"made-{number}-{place}", params=params, tokens=tokens, lr=math.exp(log_lr),
                batch_tokens=math.exp(log_batch), loss=math.exp(low + loss), status=RunStatus.FINISHED,
                seed=_SEEDS + place, steps=None, excluded=None,
            )  # fmt: skip
            found.append(one)
    return found


def _as_most(there: Sequence[Run]) -> Run:
    """A run with the weight decay that most have, and of further columns those that are settings: most have one value.

    Tokens that were read, counts of parameters and the like belong to the run and say wrong things of another.
    """
    decays = Counter(run.weight_decay for run in there)
    extra = {}
    for name in dict.fromkeys(name for run in there for name in run.extra):
        ((value, count),) = Counter(run.extra.get(name) for run in there).most_common(1)
        if count > _MOST * len(there):
            extra[name] = value
    decay = decays.most_common(1)[0][0] if there else None
    return Run(
        run_key="", params=1.0, tokens=1.0, batch_tokens=1.0, lr=1.0, status=RunStatus.FINISHED, loss=1.0,
        weight_decay=decay, extra=extra,
    )  # fmt: skip


def _same(cell: Any, scale: tuple[float, float]) -> bool:
    return max(abs(math.log(cell["params"] / scale[0])), abs(math.log(cell["tokens"] / scale[1]))) < _SAME
