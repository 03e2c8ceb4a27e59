"""The coefficients of a fitted law of learning rate and batch with their covariance, averaged over the choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.law_terms import LAW_TERMS

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """``ln optimum = sum of coefficient x term``, terms as in `law_terms.law_design`: of ln lr, then of ln batch."""

    names: tuple[tuple[str, str], ...]  # (10,) quantity and term
    values: Floats  # (10,)
    cov: Floats  # (10, 10) within each choice and between them
    params_at_centre: float  # where every term but the constant is nought, or nearly
    tokens_at_centre: float

    @property
    def sd(self) -> Floats:
        return np.sqrt(np.diag(self.cov))

    @property
    def correlation(self) -> Floats:
        """(10, 10); of a coefficient that has no spread, nought."""
        sd = self.sd
        scale = np.outer(sd, sd)
        return np.where(scale > 0, self.cov / np.where(scale > 0, scale, 1.0), 0.0)


def coefficients(model: Mapping[str, Any]) -> Coefficients:
    """From ``Fit.payload["model"]``: the mean over its choices of analysis, and the covariance of that mixture."""
    weights = np.array([member["weight"] for member in model["members"]])
    weights = weights / weights.sum()
    laws = np.array([member["law"] for member in model["members"]])
    within = np.array([member["cov"] for member in model["members"]])
    mean = weights @ laws
    apart = laws - mean
    return Coefficients(
        names=tuple((quantity, term) for quantity in ("lr", "batch_tokens") for term in LAW_TERMS),
        values=mean,
        cov=np.tensordot(weights, within, axes=1) + (apart.T * weights) @ apart,
        params_at_centre=float(np.exp(model["centre"][0])),
        tokens_at_centre=float(np.exp(model["centre"][1])),
    )
