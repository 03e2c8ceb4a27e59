"""What published laws lend beside exponents and levels of learning rate and batch (`priors`), as Gaussians.

One law measured each of these, or two that agree, so there is no spread between laws to tell the width: the widths here
are ours, set so that another recipe may be another one. Where nobody lends, because all are withheld or of another kind
of recipe (`lenders`), an exponent gets a vague Gaussian around zero, which no law had a part in: wide enough for every
exponent of its kind that was published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lawfit.findings import Finding, finding
from lawfit.laws.lenders import lenders, may_lend
from lawfit.laws.published import published_law

# Power Lines' exponent is one recipe's: this spans a constant timescale (0, arXiv 2405.13698) within two of them.
TIMESCALE_SD: Final = 0.3
CRITICAL_SD: Final = 0.15  # of one study; another agrees to 0.01 in tokens, as we remember it
LEAST_TOKENS_SD: Final = 3.0  # a curve of another text and tokenizer is another one
LOSS_EXPONENT_SD: Final = 1.5  # the same, of the critical batch in the loss
# Nats per token go with bytes per token, and source code is easier to predict than prose.
ASYMPTOTE_LOG_SD: Final = 0.6
# One law has it, of one corpus: a factor 4.5 either way.
EXCESS_PARAMS_LOG_SD: Final = 1.5
# Where nobody lends: published exponents of sizes and tokens lie between -0.8 and 0.95, those of a loss reach -6.3.
VAGUE_SD: Final = 0.5
VAGUE_LOSS_SD: Final = 6.0


@dataclass(frozen=True, kw_only=True)
class Lent:
    """An exponent of another recipe: N(mean, sd); for an asymptote, of its natural log."""

    mean: float
    sd: float
    laws: tuple[str, ...]  # ids; empty: nobody lends, and the Gaussian is the vague one

    @property
    def gaussian(self) -> tuple[float, float]:
        return self.mean, self.sd

    def words(self) -> Finding:
        """Where it comes from, to stand behind "its exponent"."""
        if not self.laws:
            return finding("published.vague", mean=self.mean, sd=self.sd)
        return finding("published.lent", mean=self.mean, sd=self.sd, laws=self.laws)


def timescale_exponent(without: Sequence[str] = ()) -> Lent:
    """Of the best AdamW timescale in tokens per parameter."""
    return _exponent("timescale", "tokens", TIMESCALE_SD, VAGUE_SD, without)


def critical_exponents(inputs: Sequence[str], without: Sequence[str] = (), *, widening: float = 1.0) -> dict[str, Lent]:
    """Of the critical batch, by input of the law.

    In params beside tokens it is the one measured with tokens held; alone, along one path, a law in params has the
    exponent of tokens. `widening` multiplies what is lent, not what is vague.
    """
    alone = len(inputs) == 1
    return {
        name: _exponent(
            "critical_batch",
            "tokens" if alone and name == "params" else name,
            widening * (LOSS_EXPONENT_SD if name == "loss" else CRITICAL_SD),
            VAGUE_LOSS_SD if name == "loss" else VAGUE_SD,
            without,
        )
        for name in inputs
    }


def least_tokens_exponent(without: Sequence[str] = ()) -> Lent:
    """Of the batch that reaches a loss with the fewest tokens, in that loss."""
    return _exponent("least_tokens_batch", "loss", LEAST_TOKENS_SD, VAGUE_LOSS_SD, without)


def log_asymptote(without: Sequence[str] = ()) -> Lent | None:
    """Of the loss, ln nats per token; None where nobody lends one: then the runs alone must show it."""
    bodies: dict[str, list[float]] = {}
    found = lenders("loss", without)
    for law in found:
        bodies.setdefault(law.evidence, []).append(float(np.log(law.formulas["loss"].coefficients["E"])))
    if not bodies:
        return None
    return Lent(mean=_one_vote_each(bodies), sd=ASYMPTOTE_LOG_SD, laws=tuple(law.id for law in found))


def excess_params_scale(without: Sequence[str] = ()) -> Lent | None:
    """Of the data-constrained form's R*_N, its natural log; None where nobody lends it."""
    for law in lenders("loss", without):
        if law.id == "data_constrained":
            mean = float(np.log(law.formulas["loss"].coefficients["params_scale"]))
            return Lent(mean=mean, sd=EXCESS_PARAMS_LOG_SD, laws=(law.id,))
    return None


def published_timescale(params: Sequence[float], tokens: Sequence[float], without: Sequence[str] = ()) -> list[float]:
    """Best AdamW timescales by Power Lines (level from memory: to compare, not to lend); empty where it is withheld."""
    law = published_law("power_lines_timescale")
    if not may_lend(law.id, "timescale", without):
        return []
    return [float(law.evaluate("timescale", params=n, tokens=d)) for n, d in zip(params, tokens, strict=True)]


def _exponent(of: str, name: str, sd: float, vague_sd: float, without: Sequence[str]) -> Lent:
    bodies: dict[str, list[float]] = {}
    laws = []
    for law in lenders(of, without):
        rows = [row.value for row in law.exponents if row.of == of and dict(row.along) == {name: 1.0}]
        if rows:
            laws.append(law.id)
            bodies.setdefault(law.evidence, []).extend(rows)
    if not laws:
        return Lent(mean=0.0, sd=vague_sd, laws=())
    return Lent(mean=_one_vote_each(bodies), sd=sd, laws=tuple(laws))


def _one_vote_each(bodies: Mapping[str, Sequence[float]]) -> float:
    """Laws that were fitted on the same runs have one vote together."""
    return float(np.mean([np.mean(values) for values in bodies.values()]))
