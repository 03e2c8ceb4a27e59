"""The first look at a fit and at a recommendation: what was found, how far to trust it, what to run next.

`--verbose` shows all of it (`card`, `fit.summary`), with what its words mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lawfit.cli.card import card, target_lines, values
from lawfit.cli.output import OURS, PLAIN, explained, heading, pairs, plain, warning_list
from lawfit.documents import Answer, setting_of
from lawfit.units import counted, format_lr, format_percent, format_quantity
from lawfit.words import tell, told
from lawfit.words.answers import STATUS_WORDS, is_simulated
from lawfit.words.parts import law_labels, part_labels, part_words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lawfit.records import Fit

WARNINGS_SHOWN: Final = 1
LONGEST: Final = 90  # characters of a sentence; the whole of it is a word away
RUNS_SHOWN: Final = 2


def answer_card(document: Answer, *, verbose: bool) -> list[RenderableType]:
    """A first look, or all of it with what its words mean."""
    return explained(card(document)) if verbose else brief_answer(document)


def brief_answer(document: Answer) -> list[RenderableType]:
    """What `lawfit predict` shows."""
    document = told(document)
    parts: list[RenderableType] = []
    if is_simulated(document["recipe"]):
        parts += [heading("SIMULATED runs, not a measurement"), plain("")]
    parts.append(target_lines(document))
    recommendation = document["recommendation"]
    if recommendation["lr"] is not None:
        parts += [plain(""), values(document, zones=1)]
    labels = part_labels() if "missing" in document else {}
    rows = [(label, part_words(document, name, brief=True)) for name, label in labels.items()]
    if recommendation["lr"] is None:
        rows.insert(0, ("Settings", f"none: {document['missing'].get('lr', '')}"))
    else:
        rows += list(_standing(document))
    rows += _runs(document.get("runs_that_would_help") or [])
    parts += [plain(""), pairs([row for row in rows if row[1]]), *cut_warnings(document.get("warnings") or [])]
    parts += [plain(""), plain(f"Fit {document['evidence']['fit_id']}; answer {document['id']}; --verbose says all")]
    return parts


def _standing(document: Answer) -> Iterator[tuple[str, str]]:
    """How far to trust it, and what the methods cost where the runs could check."""
    parts = {name: setting_of(document["recommendation"], name) for name in ("lr", "batch_tokens")}
    said = {name: STATUS_WORDS.get(part["status"], part["status"]) for name, part in parts.items()}
    far = {k: v for part in parts.values() for k, v in part["extrapolation_decades"].items() if v >= 0.005}
    names = {"params": "parameters", "tokens": "tokens", "batch_tokens": "batch"}
    beyond = ", ".join(f"{names[name]} {10**decades:.3g}x" for name, decades in far.items())
    where = f" ({beyond})" if beyond else ""
    alike = parts["batch_tokens"]["status"] in (parts["lr"]["status"], "given")
    yield "Trust", said["lr"] + where if alike else f"learning rate {said['lr']}; batch {said['batch_tokens']}{where}"
    if (regret := document.get("expected_regret")) and regret["loss_fraction"] is not None:
        yield (
            "Being wrong",
            f"{format_percent(regret['loss_fraction'])} of the loss on average",
        )
    yield "Checked", _checked(document["backtest"])


def _checked(rows: Sequence[Mapping[str, Any]]) -> str:
    """The backtest in a line: ours, and the plain method beside it."""
    cost = {row["method"]: row["mean_regret"] for row in rows if row["mean_regret"] is not None}
    if OURS not in cost:
        return ""
    beside = f", argmin + OLS {format_percent(cost[PLAIN])}" if PLAIN in cost else ""
    scales = next(row["cells"] for row in rows if row["method"] == OURS)
    return f"at {counted(scales, 'scale')} left out of the fit it cost {format_percent(cost[OURS])} of the loss{beside}"


def _runs(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for at, row in enumerate(rows[:RUNS_SHOWN]):
        lr, batch = (
            f"{write(min(row[name]))} to {write(max(row[name]))}" if len(row[name]) > 1 else write(row[name][0])
            for name, write in (("lr", format_lr), ("batch_tokens", format_quantity))
        )
        scale = f"{format_quantity(row['params'])} parameters on {format_quantity(row['tokens'])} tokens"
        yield "" if at else "Runs to add", f"{scale}, lr {lr}, batch {batch}: {row['why']}"


def cut_warnings(warnings: Sequence[str]) -> list[RenderableType]:
    """The first of them, and how many more there are."""
    if not warnings:
        return []
    left = len(warnings) - WARNINGS_SHOWN
    shown = [_cut(warning) for warning in warnings[:WARNINGS_SHOWN]]
    if left > 0:
        shown[-1] += f" ({left} more: --verbose)"
    return [plain(""), warning_list(shown)]


def _cut(words: str) -> str:
    """The beginning of a sentence, at the end of a word."""
    return words if len(words) <= LONGEST else f"{words[:LONGEST].rpartition(' ')[0]} ..."


def brief_fit(stored: Fit) -> list[RenderableType]:
    """What `lawfit fit` shows."""
    from lawfit.cli.fit import law_words, status_words
    from lawfit.pipeline import answering

    payload = told(stored.payload)
    rows = [("Recipe", stored.recipe_name)]
    if "runs_used" in payload:
        left_out = sum(item["count"] for item in payload.get("rejected") or [])
        runs = f"{payload['runs_used']:,} at {counted(len(payload.get('cells') or []), 'scale')}"
        runs += f", {payload['diverged']:,} of them diverged" if payload.get("diverged") else ""
        rows.append(("Runs", runs + (f"; {left_out:,} left out" if left_out else "")))
    for name, label in (("lr", "Best lr"), ("batch_tokens", "Best batch")):
        if law := (payload.get("law") or {}).get(name):
            rows.append((label, law_words(law)))
    rows.append(("Trust", status_words(stored.status)))
    if stored.kind == "lr_batch":
        rows += [("" if at else "Not used", _cut(tell(each))) for at, each in enumerate(answering.doubts(stored)[:2])]
        splits = (payload.get("backtest") or {}).get("splits") or []
        rows.append(("Checked", _checked(splits[0]["rows"]) if splits else "too few scales to leave any out"))
    else:
        rows.append((law_labels().get(stored.kind, stored.kind), payload["words"]))
    laws, missing = payload.get("laws") or {}, payload.get("missing") or {}
    for kind, label in law_labels().items():
        if kind in missing:
            rows.append((label, _cut(f"no law: {missing[kind]}")))
        elif kind in laws:
            rows.append((label, laws[kind]["words"]))
    mend = tell(answering.to_mend(stored))
    rows += [("Runs to add", mend)] if mend else []
    grids = [] if mend else (payload.get("next_grid") or [])
    rows += _runs(grids)
    warnings = [*(payload.get("warnings") or []), *told(answering.remarks(stored))]
    return [pairs([row for row in rows if row[1]]), *cut_warnings(warnings)]
