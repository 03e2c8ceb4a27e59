"""The printed recommendation: from the JSON document of a prediction to something one can act on.

The document is the contract (`pipeline.recommend`); nothing is computed here beyond units and wording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawfit.cli.output import (
    backtest_table,
    format_count,
    heading,
    is_terminal,
    pairs,
    plain,
    table,
    warning_list,
)
from lawfit.documents import Answer, SettingCost, given, part_of, setting_of
from lawfit.documents.answer import EvidenceUsed, PublishedRow, Recommendation
from lawfit.units import counted, format_lr, format_percent, format_quantity
from lawfit.words import told
from lawfit.words.answers import (
    INPUT_WORDS,
    STATUS_WORDS,
    at_batch_words,
    batch_range,
    is_simulated,
    recipe_words,
    settings_words,
)
from lawfit.words.parts import part_labels, part_words, third_asked

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LAWS_SHOWN = 8  # the cheapest on the user's runs; the rest is in the JSON document


def card(document: Answer) -> list[RenderableType]:
    """What `lawfit predict` shows: the recommendation, then what published laws say, then the backtest and warnings."""
    from rich.console import Group

    document = told(document)
    lines: list[RenderableType] = [target_lines(document)]
    if document["recommendation"]["lr"] is not None:
        lines += [plain(""), values(document)]
    if "missing" in document:
        lines += [plain(""), _further(document)]
    if document["recommendation"]["lr"] is not None:
        lines += [plain(""), _meaning(document)]
    head: RenderableType = Group(*lines)
    if is_terminal():
        from rich import box
        from rich.panel import Panel

        head = Panel(head, title="[bold]Recommendation[/bold]", title_align="left", box=box.ROUNDED, padding=(1, 2))
    parts: list[RenderableType] = [head]
    if is_simulated(document["recipe"]):
        parts = [
            _strong("SIMULATED runs: the numbers show the path, not a measurement", "bold yellow"),
            plain(""),
            head,
        ]
    if document.get("warnings"):
        parts += [plain(""), warning_list(document["warnings"])]
    if document.get("published"):
        title = heading("What published laws would use here, and what each costs on your runs")
        parts += [plain(""), title, *_published(document["published"])]
    if document.get("backtest"):
        title = heading("Backtest: scales left out of the fit, scored on the runs you made there")
        parts += [plain(""), title, backtest_table(document["backtest"])]
    seen = ("See again", f"lawfit predictions show {document['id']}")
    parts += [plain(""), pairs([*evidence_lines(document["evidence"]), seen])]
    return parts


def target_lines(document: Answer | SettingCost) -> Table:
    """What was asked, and of which recipe."""
    target, recipe = document["target"], document["recipe"]
    ratio = target["tokens"] / target["params"]
    limits = []
    if target.get("batch_tokens"):
        limits.append(f"batch given: {format_count(target['batch_tokens'])} tokens")
    if target.get("max_batch_tokens"):
        limits.append(f"batch at most {format_count(target['max_batch_tokens'])} tokens")
    if target.get("batch_multiple"):
        unit = "sequences" if target.get("seq_len") else "tokens"
        limits.append(f"batch in multiples of {target['batch_multiple']:,} {unit}")
    scale = f"{format_quantity(target['params'])} parameters on {format_quantity(target['tokens'])} tokens"
    rows = [
        ("Target", f"{scale} ({format_quantity(ratio)} tokens per parameter)"),
        ("Recipe", recipe["name"] + (f" ({held})" if (held := recipe_words(recipe)) else "")),
    ]
    rows += [("" if i else "Holds at", line) for i, line in enumerate(settings_words(document))]
    limits += third_asked(target)
    if limits:
        rows.append(("Asked", ", ".join(limits)))
    return pairs(rows)


def values(document: Answer, zones: int | None = None) -> Table:
    """Learning rate and batch side by side, with so many of the ranges that cost little."""
    recommendation = document["recommendation"]
    lr, batch = given(recommendation["lr"]), given(recommendation["batch_tokens"])
    imposed = bool(document["target"].get("batch_tokens"))
    seq_len = document["target"].get("seq_len")
    rows = [("", _bold("Peak learning rate"), _bold("Batch size, per step" + (" (given)" if imposed else "")))]
    batch_value = f"{batch['value']:,.0f} tokens"
    rows.append(("Use", _strong(format_lr(lr["value"])), _strong(batch_value)))
    if batch.get("sequences") is not None:
        rows.append(
            ("", plain(""), plain(f"{batch['sequences']:,.0f} sequences" + (f" of {seq_len:,}" if seq_len else "")))
        )
    level = f"{100 * lr['level']:g} % interval"
    rows.append((level, plain(_range(lr, format_lr)), plain(batch_range(batch, _range(batch, format_count)))))
    for cost in sorted({*(lr.get("cheap_zone") or {}), *(batch.get("cheap_zone") or {})}, key=float)[:zones]:
        label = f"Costs below {100 * float(cost):g} %"
        rows.append(
            (label, plain(_zone(lr, cost, format_lr)), plain(batch_range(batch, _zone(batch, cost, format_count))))
        )
    rows.append(("Expected cost", plain(_cost(lr)), plain(_cost(batch))))
    rows.append(("From your runs", plain(_yours(lr)), plain(_yours(batch))))
    from rich.table import Table

    grid = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
    grid.add_column(style="dim" if is_terminal() else "", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    for label, *cells in rows:
        grid.add_row(plain(label), *cells)
    return grid


def _further(document: Answer) -> Table:
    rows = []
    for name, label in part_labels().items():
        if words := part_words(document, name):
            rows += [(label, words), *(("", line) for line in (part_of(document, name) or {}).get("lines") or [])]
    return pairs(rows)


def _meaning(document: Answer) -> Table:
    recommendation, regret = document["recommendation"], document.get("expected_regret")
    rows = []
    if regret is not None and regret["loss_fraction"] is not None:
        compute = regret.get("extra_compute_fraction")
        words = f"{format_percent(regret['loss_fraction'])} of the loss, on average over what the runs leave open"
        rows.append(
            ("Being wrong", words + (f"; as if {format_percent(compute)} of the compute were lost" if compute else ""))
        )
    rows += [
        ("" if at else "Moves it most", line)
        for at, line in enumerate((document.get("choices") or {}).get("words", []))
    ]
    if len(rows) > 1 and "Moves it most" in dict(rows):
        rows.append(("", "each choice by its central value, before the shading for risk that is in the value to use"))
    sizes = document.get("sizes")
    rows += [("" if at else "Sizes", line) for at, line in enumerate(sizes["words"] if sizes else [])]
    rows.append(("Distance", _distance(recommendation)))
    lr, batch = (_standing(setting_of(recommendation, name)) for name in ("lr", "batch_tokens"))
    if lr == batch:
        rows.append(("Standing", lr))
    else:
        rows += [("Standing", f"learning rate {lr}"), ("", f"batch {batch}")]
    if words := at_batch_words(given(recommendation["lr"]).get("at_batch")):
        rows.append(("lr at batch", words))
    return pairs(rows)


def _standing(part: Mapping[str, Any]) -> str:
    status = str(part.get("status"))
    if status == "given":
        return "as you gave it; its column shows what would be best"
    return STATUS_WORDS.get(status, status)


def _distance(recommendation: Recommendation) -> str:
    farthest: dict[str, float] = {}
    for part in ("lr", "batch_tokens"):
        for name, decades in setting_of(recommendation, part)["extrapolation_decades"].items():
            farthest[name] = max(farthest.get(name, 0.0), abs(decades or 0.0))
    outside = [
        f"{INPUT_WORDS.get(name, name)} {10**decades:.3g}x ({decades:.2f} decades)"
        for name, decades in farthest.items()
        if decades >= 0.005
    ]
    return f"{', '.join(outside)} beyond your runs" if outside else "within the range of your runs in each"


def _published(published: Sequence[PublishedRow]) -> list[RenderableType]:
    def order(law: PublishedRow) -> tuple[bool, float]:
        regret = law.get("regret_on_your_runs")
        return regret is None, regret or 0.0

    rows = [
        (
            law["law"],
            format_lr(law.get("lr")),
            format_count(law.get("batch_tokens")),
            format_percent(law.get("regret_on_your_runs")),
            str(law.get("cells_scored") or "-"),
            "inside" if law.get("in_range") else "outside",
            law.get("cite") or "-",
        )
        for law in sorted(published, key=order)[:LAWS_SHOWN]
    ]
    columns = ("law", "lr", "batch", "cost", "scales", "its range", "source")
    parts: list[RenderableType] = [table(columns, rows, right=("lr", "batch", "cost", "scales"))]
    more = f"{len(published) - LAWS_SHOWN} more with --json; " if len(published) > LAWS_SHOWN else ""
    return [*parts, plain(f"{more}lawfit laws show LAW tells what a law is")]


def evidence_lines(evidence: EvidenceUsed) -> list[tuple[str, str]]:
    """What the answer rests on."""
    runs = f"{counted(evidence['runs_used'], 'run')} at {counted(evidence['cells'], 'scale')}"
    if evidence.get("diverged"):
        runs += f", {evidence['diverged']:,} of them diverged"
    rows = [("Evidence", runs)] if evidence["runs_used"] else []
    rows += [("", f"left out: {item['count']:,} ({item['reason']})") for item in evidence.get("rejected") or []]
    for label, lines in (("Borrowed", evidence["borrowed"]), ("Not borrowed", evidence.get("not_lent") or [])):
        rows += [("" if i else label, sentence) for i, sentence in enumerate(lines)]
    if found := evidence.get("certificate"):
        rows.append(("Certificate" if found["certified"] else "Not certified", found["words"]))
        rows += [("", sentence) for sentence in (*found["reasons"], *found["warnings"])]
    made = str(evidence["created_at"])[:16].replace("T", " ")
    rows.append(("Fit", f"{evidence['fit_id']} of {made} UTC, lawfit {evidence['code_version']}"))
    return rows


def _bold(text: str) -> Any:
    from rich.text import Text

    return Text(text, style="bold")


def _strong(text: str, style: str = "bold green") -> Any:
    from rich.text import Text

    return Text(text, style=style)


def _range(part: Mapping[str, Any], write: Any) -> str:
    if part.get("low") is None or part.get("high") is None:
        return "-"
    return f"{write(part['low'])} to {write(part['high'])}"


def _zone(part: Mapping[str, Any], cost: str, write: Any) -> str:
    zone = (part.get("cheap_zone") or {}).get(cost)
    return f"{write(zone[0])} to {write(zone[1])}" if zone else "-"


def _cost(part: Mapping[str, Any]) -> str:
    return "-" if part.get("expected_regret") is None else f"{format_percent(part['expected_regret'])} of loss"


def _yours(part: Mapping[str, Any]) -> str:
    share = part.get("yours")
    return "-" if share is None else f"{100 * share:.0f} %"
