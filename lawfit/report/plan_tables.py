"""A plan in words and tables, the same on the command line, in the report and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.documents import Plan, given
from lawfit.documents.plan import TimePart
from lawfit.plots.shown import Table
from lawfit.units import format_duration, format_flops, format_percent, format_quantity
from lawfit.words.advice import third_words

LEVELS: Final = ("0.001", "0.01")  # cheap zones, as the document keys them


def budget_words(document: Plan) -> list[str]:
    """The compute, what it counts, and what it is in GPU time."""
    budget, asked = document["budget"], document["asked"]
    convention = budget["convention"]
    words = f"{format_flops(budget['flops'])} FLOPs = {convention['words']} ({convention['left_out']})"
    lines = [words]
    if asked.get("inference_tokens"):
        lines.append(
            f"{format_flops(budget['training_flops'])} of it for training, {format_flops(budget['inference_flops'])} "
            f"to serve {format_quantity(asked['inference_tokens'])} tokens"
        )
    if budget["gpu_hours"] is not None:
        spent = f"{format_quantity(budget['gpu_hours'])} GPU-hours at {format_flops(asked['flops_per_second'])} FLOP/s"
        if budget["seconds"] is not None and asked.get("gpus"):
            spent += f"; {format_duration(budget['seconds'])} on {asked['gpus']:,} GPUs"
        lines.append(spent)
    elif budget["seconds"] is not None:
        lines.append(f"{format_duration(budget['seconds'])} at {format_quantity(asked['tokens_per_second'])} tokens/s")
    return lines


def scale_table(document: Plan) -> Table:
    """Parameters, tokens and loss of the plan, with intervals and what being off costs."""
    plan, optimum = document["plan"], document["optimum"]
    loss = document["settings"]["expected_loss"]
    shown = "-" if loss is None else _four(loss["value"])
    rows = [
        (
            "Plan",
            format_quantity(plan["params"]),
            format_quantity(plan["tokens"]),
            _three(plan["tokens_per_param"]),
            shown,
        )
    ]
    columns = ("", "parameters", "training tokens", "tokens per parameter", "loss, nats per token")
    if optimum is None:
        return Table(columns=columns, rows=(*rows, ("", "", "", "", _range(loss, _four))), numbers=())
    if _of_ones_own(document):
        rows.append(
            (
                "Compute-optimal",
                format_quantity(optimum["params"]["value"]),
                format_quantity(optimum["tokens"]["value"]),
                _three(optimum["tokens_per_param"]["value"]),
                _four(optimum["loss"]["value"]),
            )
        )
    rows.append(
        (
            f"{100 * optimum['params']['level']:g} % interval",
            _given(document, "params", _range(optimum["params"], format_quantity)),
            _given(document, "tokens", _range(optimum["tokens"], format_quantity)),
            _range(optimum["tokens_per_param"], _three),
            _range(optimum["loss"] if _of_ones_own(document) else loss, _four),
        )
    )
    for share in LEVELS:
        low, high = optimum["cheap_zone"][share]
        rows.append((f"Costs below {100 * float(share):g} %", _span(low, high, format_quantity), "", "", ""))
    return Table(columns=columns, rows=tuple(rows), numbers=())


def _of_ones_own(document: Plan) -> bool:
    """Whether a size or tokens were given for a budget, and not the budget looked for that they are best of."""
    return bool(document["asked"].keys() & {"params", "tokens"}) and "budget" not in (document["optimum"] or {})


def _given(document: Plan, name: str, words: str) -> str:
    """The interval of what was asked from is none."""
    return "given" if "budget" in (document["optimum"] or {}) and document["asked"].get(name) else words


def cost_words(document: Plan) -> str:
    """What the plan costs against the best split, and what not knowing that split costs."""
    optimum, plan = document["optimum"], document["plan"]
    if optimum is None:
        return "not known: these runs do not say how this budget is best split"
    best = not (document["asked"].get("inference_tokens") or _of_ones_own(document))
    if best or plan["cost"] is None or plan["cost"] < 5e-5:
        return f"{format_percent(optimum['expected_regret'])} of the loss, on average over what the runs leave open"
    return f"{format_percent(plan['cost'])} of the loss against the best split of this budget"


def alternatives_table(document: Plan) -> Table:
    """Other sizes for the same budget; then what each needs for the plan's loss."""
    rows = document["alternatives"]
    level = f"{100 * document['asked']['level']:g} % interval"
    columns = ("parameters", "tokens", "per param.", "loss", "costs", level, "same loss: tokens", "compute")
    return Table(
        columns=columns,
        rows=tuple(
            (
                format_quantity(row["params"]),
                format_quantity(row["tokens"]),
                _three(row["tokens_per_param"]),
                _four(row["loss"]),
                "plan" if row["planned"] else _signed(row["cost"]),
                "" if row["planned"] else _cost_range(row),
                "never" if row["same_loss"]["tokens"] is None else format_quantity(row["same_loss"]["tokens"]),
                "-" if row["same_loss"]["compute_ratio"] is None else f"{row['same_loss']['compute_ratio']:.2f}x",
            )
            for row in rows
        ),
        numbers=(*columns[:5], *columns[6:]),
        strong=next(i for i, row in enumerate(rows) if row["planned"]),
    )


def batches_table(time: TimePart) -> Table:
    """Batches that reach the plan's loss: more compute, fewer steps in a row."""
    rows = time["batches"]
    timed = rows[0]["seconds"] is not None
    columns: tuple[str, ...] = ("batch, tokens", "of critical", "tokens", "steps", "compute")
    columns += ("its interval", "serial time")
    texts = [
        (
            format_quantity(row["batch_tokens"]),
            f"{row['of_critical']:.2g}",
            format_quantity(row["tokens"]),
            f"{row['steps']:,.0f}",
            f"{row['compute_ratio']:.2f}x",
            ""
            if i == 0 or row["compute_ratio_low"] is None or row["compute_ratio_high"] is None
            else f"{row['compute_ratio_low']:.2f}x to {row['compute_ratio_high']:.2f}x",
            _share(row["time_ratio"]),
            *((format_duration(given(row["seconds"])),) if timed else ()),
        )
        for i, row in enumerate(rows)
    ]
    columns = (*columns, "takes") if timed else columns
    return Table(columns=columns, rows=tuple(texts), numbers=(*columns[:5], *columns[6:]), strong=0)


def frontier_table(time: TimePart) -> Table:
    """Sizes and batches that no other pair beats in both compute and serial time."""
    columns = ("parameters", "tokens", "batch, tokens", "steps", "compute", "serial time")
    return Table(
        columns=columns,
        rows=tuple(
            (
                format_quantity(row["params"]),
                format_quantity(row["tokens"]),
                format_quantity(row["batch_tokens"]),
                f"{row['steps']:,.0f}",
                f"{row['compute_ratio']:.2f}x",
                _share(row["time_ratio"]),
            )
            for row in time["frontier"]
        ),
        numbers=columns,
    )


def fastest_words(document: Plan) -> str:
    """The quickest batch on the machines that were described; empty where they were not."""
    time, asked = given(document["time"]), document["asked"]
    fastest = time["fastest"]
    if fastest is not None:
        return (
            f"a batch of {format_quantity(fastest['batch_tokens'])} tokens is the fastest at "
            f"{format_quantity(given(time['tokens_per_second']))} tokens/s and no step under "
            f"{time['step_seconds']:g} s: "
            f"{format_duration(given(fastest['seconds']))}, {fastest['compute_ratio']:.2f}x the compute"
        )
    if time["tokens_per_second"] is not None:
        return (
            "at a fixed speed more tokens take longer: the recommended batch is the fastest that keeps these machines "
            "busy; --step-seconds, the quickest step, says from which batch on they are"
        )
    if asked.get("step_seconds"):
        return "a step takes as long at every batch here, so larger is quicker, each time by less; compute pays for it"
    return ""


def _cost_range(row: Mapping[str, Any]) -> str:
    if row["cost_low"] is None or row["cost_high"] is None:
        return "-"
    return f"{_signed(row['cost_low'])} to {_signed(row['cost_high'])}"


def _signed(share: float) -> str:
    return f"{100 * share:+.2f} %" if abs(share) < 0.0995 else f"{100 * share:+.0f} %"


def _share(ratio: float) -> str:
    return f"{100 * ratio:.3g} %"


def _range(part: Mapping[str, Any] | None, write: Any) -> str:
    if not part or (part["low"] is None and part["high"] is None):
        return "no interval" if part else "-"
    return _span(part["low"], part["high"], write)


def _span(low: float | None, high: float | None, write: Any) -> str:
    if high is None:
        return f"{write(low)} or more"
    return f"{write(low)} to {write(high)}" if low is not None else f"{write(high)} or less"


def _three(value: float) -> str:
    return format_quantity(value)


def _four(value: float) -> str:
    return f"{value:.4g}"


def third_rows(document: Plan) -> list[tuple[str, str]]:
    """What the plan says of repeated tokens and of experts."""
    rows = []
    if part := document.get("third"):
        rows.append(("Epochs" if "epochs" in part else "Given", _asked_words(part)))
    if part := document.get("best_share"):
        rows.append(("Best sparsity", _share_words(part)))
    return rows


def _asked_words(part: Mapping[str, Any]) -> str:
    """One line: ``each of 10B tokens 4.2 times (2.9 to 6.8); between 2 and 9 times the loss is within 0.1 %``."""
    if "epochs" not in part:
        return third_words(part["input"], part["asked"])
    epochs = part["epochs"]
    span = "" if epochs["low"] is None else f" ({epochs['low']:.3g} to {epochs['high']:.3g})"
    said = f"each of {format_quantity(part['asked'])} unique tokens {epochs['value']:.3g} times{span}"
    if zone := part.get("cheap_zone", {}).get(LEVELS[0]):
        flat = "it is flat there: " if zone[1] > 2 * zone[0] else ""
        said += f"; {flat}from {zone[0]:.3g} to {zone[1]:.3g} times, size in step, the loss is within 0.1 %"
    return said


def _share_words(part: Mapping[str, Any]) -> str:
    """One line on the best share of active experts."""
    span = "" if part["low"] is None else f" ({part['low']:.2g} to {part['high']:.2g})"
    zone = part["cheap_zone"][LEVELS[0]]
    said = f"{part['value']:.2g} of the experts active{span}, at {format_quantity(part['params'])} parameters: loss "
    said += f"{part['loss']:.4g}"
    if part["at_edge"]:
        low, high = part["covered"]
        said += f"; that is the end of what the runs cover ({low:.2g} to {high:.2g}), so a bound"
    if zone[1] > 2 * zone[0]:
        said += f"; it is flat: from {zone[0]:.2g} to {zone[1]:.2g} the loss is within 0.1 %"
    return f"{said}; compute as {part['convention']}"
