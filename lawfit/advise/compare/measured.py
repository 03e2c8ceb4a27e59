"""Published laws of the loss and of the critical batch, by how far they are from what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.counted import Counts
from lawfit.advise.scored import Scale, Unanswered, about, answers
from lawfit.errors import NotEnoughData
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import finding
from lawfit.laws.critical_batch import Definition, convert
from lawfit.laws.published import PublishedLaw, published_laws

Floats = NDArray[np.float64]
Compared = tuple[dict[str, Any], list[dict[str, Any]]]  # rows with what stands beside them, laws without an answer

MIN_SCALES = 3  # of losses: two cannot tell a slope from a level and noise


def compare_loss(observed: Observations | None, counts: Counts) -> Compared:
    """Laws of the loss against the lowest loss of each scale, best shape first.

    Nats per token go with the tokenizer and the text, so a law of another one is off by a factor that means nothing:
    `level` is that factor (yours over the law's), `shape_error` what is left beside it, as the spread of log loss.

    Raises
    ------
    NotEnoughData
        Fewer than three scales.
    """
    cells = 0 if observed is None else observed.n_cells
    if observed is None or cells < MIN_SCALES:
        raise NotEnoughData(finding("compare.few_scales", needed=MIN_SCALES, scales=cells))
    order = np.argsort(observed.params * observed.tokens, kind="stable")
    measured = observed.lowest_log_loss()[order]
    scale = Scale(
        params=observed.params[order],
        tokens=observed.tokens[order],
        given={"unique_tokens": observed.tokens[order]},  # taken as seen once
    )

    def row(law: PublishedLaw) -> dict[str, Any]:
        off = measured - np.log(answers(law, "loss", counts, scale))
        return {
            "error": float(np.mean(np.abs(off))),
            "level": float(np.exp(np.mean(off))),
            "shape_error": float(np.sqrt(np.mean((off - off.mean()) ** 2))),
            "scales": len(off),
        }

    rows, missing = _rows("loss", counts, scale, row)
    return {"rows": sorted(rows, key=lambda r: r["shape_error"]), "scales": cells}, missing


def compare_critical(payload: Mapping[str, Any] | None, counts: Counts) -> Compared:
    """Laws of the critical batch against those that were measured, nearest first, in one definition.

    `error` is the mean factor that a law is off by, less one; `level` the mean of yours over the law's.

    Raises
    ------
    NotEnoughData
        The recipe has no stored fit of the critical batch, or none of its curves shows one.
    """
    if payload is None:
        raise NotEnoughData(finding("compare.no_critical_batch"))
    measured = [
        row
        for row in payload["routes"][payload["route"]]["measured"]
        if row["params"] is not None and row["low_tokens"] and row["high_tokens"] is not None
    ]
    if not measured:
        raise NotEnoughData(finding("compare.one_sided"))
    measured.sort(key=lambda row: row["params"] * row["tokens"])
    value = np.array([row["value_tokens"] for row in measured], dtype=float)
    mine = Definition.from_json(measured[0]["definition"])
    given = {}
    if all(row["loss"] is not None for row in measured):
        given["loss"] = np.array([row["loss"] for row in measured], dtype=float)
    scale = Scale(
        params=np.array([row["params"] for row in measured], dtype=float),
        tokens=np.array([row["tokens"] for row in measured], dtype=float),
        given=given,
    )

    def row(law: PublishedLaw) -> dict[str, Any]:
        definition = Definition.from_json(law.formulas["critical_batch_tokens"].definition)
        carried = law.formulas["critical_batch_tokens"].needs_anchor
        if carried and len(value) < 2:
            raise Unanswered(finding("compare.one_scale"))
        said = answers(law, "critical_batch_tokens", counts, _anchored(scale, value, mine, definition))
        try:
            off = (np.log(value) - np.log(convert(said, definition, mine)))[1 if carried else 0 :]
        except ValueError:
            raise Unanswered(finding("compare.below_definition", definition=definition.words())) from None
        return {
            "error": float(np.expm1(np.mean(np.abs(off)))),
            "worst_error": float(np.expm1(np.max(np.abs(off)))),
            "level": float(np.exp(np.mean(off))),
            "scales": len(off),
            "definition": definition.words(),
            "carried": carried,
        }

    rows, missing = _rows("critical_batch", counts, scale, row)
    found = {"rows": sorted(rows, key=lambda r: r["error"]), "measured": len(value), "definition": mine.words()}
    return found, missing


def _anchored(scale: Scale, value: Floats, mine: Definition, theirs: Definition) -> Scale:
    """What was measured, in the law's own definition, for a law of exponents alone."""
    return Scale(
        params=scale.params,
        tokens=scale.tokens,
        given=scale.given,
        anchors={"critical_batch_tokens": convert(value, mine, theirs)},
    )


def _rows(
    kind: str, counts: Counts, scale: Scale, row: Callable[[PublishedLaw], dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows, missing = [], []
    for law in published_laws().values():
        if law.kind != kind:
            continue
        try:
            rows.append({**about(law, counts, scale), **row(law)})
        except Unanswered as error:
            missing.append({"law": law.id, "label": law.label, "reason": error.finding})
    return rows, missing
