"""Every law of one recipe: which are fitted, with what standing, and what is said of the others."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.estimate.evidence import Evidence
from lawfit.estimate.loss import law as loss_law
from lawfit.kinds import LOSS
from lawfit.kinds.fitting import fit_all_laws
from lawfit.records import Run, RunStatus
from lawfit.words import tell


def runs_of(loss_params: float, rng: np.random.Generator) -> list[Run]:
    """Three learning rates at each of 16 scales; the loss falls with tokens, and with parameters as asked."""
    return [
        Run(
            run_key=f"{params:.0f}-{tokens:.0f}-{lr}",
            params=params,
            tokens=tokens,
            batch_tokens=65536.0,
            lr=lr,
            status=RunStatus.FINISHED,
            loss=float((1.8 + loss_params / params**0.35 + 400 / tokens**0.3 + cost) * np.exp(rng.normal(0, 5e-4))),
        )
        for params in np.geomspace(1e6, 1e8, 4)
        for tokens in np.geomspace(1e8, 1e10, 4)
        for lr, cost in ((1e-3, 0.02), (2e-3, 0.0), (4e-3, 0.02))
    ]


@pytest.mark.soak
def test_a_loss_law_is_a_formula_only_where_every_parameter_is_determined(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_law, "LOSS_RESAMPLES", 40)
    for loss_params in (100.0, 0.0):  # the second: parameters have no effect
        (law,) = (law for law in fit_all_laws(Evidence(runs=runs_of(loss_params, rng))).fitted if law.kind == LOSS.id)
        weak = set(law.payload["fit"]["certificate"]["weak"])
        assert ("loss = " in tell(law.payload["words"])) is not bool(weak)
    assert {"A", "alpha"} <= weak
