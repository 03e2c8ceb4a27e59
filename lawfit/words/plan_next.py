"""What the planner says: why these runs, and why none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lawfit.units import counted, format_flops, format_lr, format_percent, format_quantity
from lawfit.words import Sentence

_TELLS: Final[Mapping[str, str]] = {
    "level": "tells where the laws lie",
    "params": "tells how the optimum moves with size",
    "tokens": "tells how the optimum moves with the horizon",
    "bend": "tells whether the laws bend on the way to the target",
    "few_tokens": "tells what few tokens per parameter do",
    "size": "tells how far single sizes lie off the laws",
}


_BESIDE: Final = 1.05  # packs at a time: as good as one


def budget_words(amount: float, unit: str) -> str:
    """``1e19 FLOPs``, ``20 GPU-hours``, ``64 runs``, ``$200``."""
    if unit == "$":
        return f"${amount:,.6g}"
    if unit == "flops":
        return f"{format_flops(amount)} FLOPs"
    return f"{amount:,.6g} {'GPU-hours' if unit == 'gpu-hours' else unit}"


def _too_little(data: Mapping[str, Any]) -> str:
    return (
        f"{budget_words(data['amount'], data['unit'])} buys no grid of nine runs at any scale that tells something of "
        "this target; name a larger budget"
    )


def _rehearsed(data: Mapping[str, Any]) -> str:
    held, share = data["held"], f"{100 * data['level']:g} %"
    how = (
        "every run's loss was made there, and all runs were fitted anew, as a fit of the store is"
        if data["refitted"]
        else "every run's loss was made there and each scale's optimum worked out again from its losses; the laws were "
        "updated by these optima, not fitted anew"
    )
    doubt = format_percent(2 * data["standard_error"])
    failed = f"; in {data['failed']} of them no fit could be made" if data["failed"] else ""
    return (
        f"played in {data['worlds']} worlds drawn from what is known: the setting advised after the runs gave up "
        f"{format_percent(data['realised'])} of the loss on average (within {doubt}, two "
        f"standard errors), where {format_percent(data['promised'])} is promised and without the runs it was "
        f"{format_percent(data['before'])}; {share} intervals held the drawn optimum in {100 * held['lr']:.0f} % "
        f"(learning rate) and {100 * held['batch_tokens']:.0f} % (batch) of the worlds{failed}; {how}"
    )


def _decay_so_far(data: Mapping[str, Any]) -> str:
    # plans of before 2026-12 did not keep the value
    value = f"{data['published']:.2g}, the value of a" if "published" in data else "the value of a"
    return (
        f"your runs leave open which weight decay is best; kept at {data['held']:g} at the target it is expected to "
        f"give up {format_percent(data['expected_regret'])} of the loss, and {value} published timescale, its level "
        f"taken as known to a factor of {data['level']:.1f}, {format_percent(data['published_regret'])}"
    )


def _sweep_words(sweeps: Sequence[Mapping[str, Any]]) -> str:
    first = sweeps[0]
    values = ", ".join(f"{value:g}" for value in first["weight_decay"])
    seeds = f" ({len(first['seeds'])} seeds each)" if len(first["seeds"]) > 1 else ""
    where = " and ".join(
        f"{scale_words(each['params'], each['tokens'])} (learning rate {format_lr(each['lr'][0])}, batch "
        f"{format_quantity(each['batch_tokens'][0])})"
        for each in sweeps
    )
    return f"{sum(each['runs'] for each in sweeps)} runs at weight decay {values}{seeds}, of {where}"


def _weight_decay(data: Mapping[str, Any]) -> str:
    said = _decay_so_far(data)
    if not data["sweeps"]:
        return (
            f"{said}; a sweep is not planned: none at two sizes of your runs both fits into a tenth of the budget and "
            "is sure to bring more than the better of these two, as scales differ by as much"
        )
    sweeps = _sweep_words(data["sweeps"])
    gain, lost, least = (format_percent(data[name]) for name in ("gain", "lost", "least"))
    if data["planned"]:
        return (
            f"{said}; {sweeps}, beside your runs at {data['held']:g} there, tell the best timescale and are expected "
            f"to take off {gain} more than the better of these two would, even were the kept one near the best; two "
            f"sizes, as one alone can mislead; what the sweep costs takes {lost} from what the grids bring"
        )
    return (
        f"{said}; a sweep is not planned: {sweeps}, would take off {gain} more than the better of these two, were the "
        f"kept one near the best, and its cost {lost} from what the grids bring (it must bring {least} more than that)"
    )


WORDS: Final[Mapping[str, Sentence]] = {
    "weight_decay": _weight_decay,
    "why": lambda data: f"{'a new size: ' if data['new_size'] else ''}{_TELLS[data['part']]}",
    "too_little": _too_little,
    "nothing_to_learn": "nothing worth running: the best grid within this budget and these sizes would cut the "
    "expected regret at the target ({regret:pct}, of which {floor:pct} is the target's own deviation) by {gain:pct}, "
    "and less than {least:pct} is not worth one; a larger budget or larger sizes would tell more",
    "laws_know_more": "published laws alone are expected to give up {now:pct} at this target, and a fit of these runs "
    "{after:pct}, as they lie far below it: until larger ones are made, rather take what the laws say",
    "little": "little is to be had for this budget: these runs are expected to cut {regret:pct} of the loss by "
    "{gain:pct}, {share:pct} of what runs could gain at all (below {least:pct} this is said); a larger budget or "
    "larger sizes would tell more",
    "hardly": "hardly worth running: the target lies among the runs, and the setting advised there is expected to give "
    "up {regret:pct} of the loss already (below {worth:pct} this is said)",
    "inside": "nothing worth running: the target lies among the runs, and the setting advised there is expected to "
    "give up {regret:pct} of the loss, less than {worth:pct}; ask for a target beyond them",
    "other_kind": "fit {fit_id} is of another law ({kind}): a plan is made from one of learning rate and batch",
    "other_plan": "plan {plan_id} is of recipe '{recipe}': only runs of the recipe that is planned for can be "
    "under way",
    "long_sequences": "no grid can be made: the best batches that are foretold at sizes within reach lie near or below "
    "one sequence of {seq_len:q} tokens; train with shorter sequences (seq_len), or raise the largest size",
    "no_scales": "no run can be made within these limits, whatever the budget: sizes from {smallest:q} to {largest:q} "
    "parameters, on 2 to 1,000 tokens per parameter and at most {longest:q}, each run for at most {share:share} of the "
    "target's FLOPs; raise the largest size or the longest horizon, or name a larger target",
    "no_such_size": "the largest size is to be {most:q} parameters, and the smallest model that can be made here has "
    "{least:q}; name a larger one",
    "nothing_yet": "there is no fit that may be used, so this is a first sweep, around what published laws say; fit "
    "after it and plan again",
    "no_usable_fit": "recipe '{recipe}' has runs, and no fit of them may be used: {why}",
    "no_shapes": "no grid file: lawfit's trainer makes models of layers, width, heads and inner width, and no run of "
    "recipe '{recipe}' states these, so it was trained by another program; take the rows of the plan to that one",
    "no_such_model": "no grid file: lawfit's trainer makes no model of {params:q} parameters as recipe '{recipe}' has "
    "it ({why}); take the rows of the plan to the program that trained it",
    "counted_otherwise": "no grid file: a model of the shape that recipe '{recipe}' states for {params:,.0f} "
    "parameters has {count:,} as lawfit's trainer counts and builds them, so it is another architecture or another "
    "count; take the rows of the plan to the program that trained it",
    "other_optimizer": "no grid file: recipe '{recipe}' is trained with {optimizer}, and lawfit's trainer has "
    "{optimizers:join and}; take the rows of the plan to the program that trained it",
    "rehearsed": _rehearsed,
    "one_weight_decay": "all your runs have weight decay {weight_decay:g}, and so have these: which one is best stays "
    "open; four values of it at one small size, at its best learning rate and batch, would begin to tell",
    "one_grid": "the budget buys little more than one grid; a larger one would spread over several scales",
}


def scale_words(params: float, tokens: float) -> str:
    """``3.2M on 120M``."""
    return f"{format_quantity(params)} on {format_quantity(tokens)}"


def _measured(pace: Mapping[str, Any] | None) -> str:
    """By what GPU-hours are counted, where earlier runs tell it."""
    if pace is None or not pace["packs"]:
        return ""
    beside = pace.get("at_a_time", 1.0)
    at_a_time = f", {beside:.1f} at a time on a GPU" if beside >= _BESIDE else ""
    return (
        f" (at the pace of {pace['packs']} {'runs' if pace.get('alone') else 'packs of runs'} trained here{at_a_time})"
    )


def spent_words(document: Mapping[str, Any]) -> str:
    """``202 runs (16 of them of weight decay), 1.96e18 FLOPs, 3.1 GPU-hours, $7.75``, as far as it is known."""
    budget = document["budget"]
    of_decay = sum(sweep["runs"] for sweep in document.get("weight_decay", {}).get("sweeps", ()))
    among = f" ({of_decay} of them of weight decay)" if of_decay else ""
    parts = [counted(budget["runs"], "run") + among, f"{format_flops(budget['flops'])} FLOPs"]
    if budget["gpu_hours"] is not None:
        parts.append(f"{budget['gpu_hours']:.3g} GPU-hours{_measured(budget.get('pace'))}")
    if budget["dollars"] is not None:
        parts.append(f"${budget['dollars']:,.2f}")
    return ", ".join(parts)


def expected_words(there: Mapping[str, Any]) -> str:
    """What is expected of the setting advised at the target."""
    return (
        f"learning rate within x{there['lr_factor']:.2f}, batch within x{there['batch_factor']:.2f}, "
        f"expected regret {format_percent(there['expected_regret'])}"
    )


def promise_words(document: Mapping[str, Any]) -> str:
    """What the runs are expected to bring, in one sentence."""
    now, after = document["now"], document["after"]
    return (
        f"these {spent_words(document)} are expected to bring the interval of the learning rate from "
        f"x{now['lr_factor']:.2f} to x{after['lr_factor']:.2f}, that of the batch from x{now['batch_factor']:.2f} to "
        f"x{after['batch_factor']:.2f}, and the expected regret from {format_percent(now['expected_regret'])} to "
        f"{format_percent(after['expected_regret'])} of the loss"
    )
