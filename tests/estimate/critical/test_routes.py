"""The critical batch by every route that a recipe's data support, and what is missing for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.estimate.critical.routes import CURVES, DATA_LAWS, STEPS_TABLE, CriticalLaws
from lawfit.estimate.evidence import Evidence, prepare
from lawfit.estimate.observe.held import hold_settings
from lawfit.estimate.weight_decay.sweep import DecayRuns, locate_weight_decay
from lawfit.findings import code_of, finding
from lawfit.kinds import KINDS
from lawfit.kinds.critical_batch import critical_laws
from lawfit.kinds.fitting import fit_all_laws
from lawfit.laws.critical_batch import DOUBLING, ZHANG, Definition, convert
from lawfit.records import OptimumStatus, Run, RunStatus, StepsToTarget
from lawfit.storage import Store
from lawfit.words import tell
from tests.estimate.critical.test_steps_to_target import ZHANG_LOSSES, ZHANG_STEPS
from tests.estimate.critical.test_three_term import TRUTH as SURFACE


def a_run(key: int, params: float, tokens: float, batch: float, lr: float, decay: float, loss: float | None) -> Run:
    return Run(
        run_key=str(key),
        params=params,
        tokens=tokens,
        batch_tokens=batch,
        lr=lr,
        weight_decay=decay,
        loss=loss,
        status=RunStatus.DIVERGED if loss is None else RunStatus.FINISHED,
    )


def laws(runs: Sequence[Run] = (), **stored: Any) -> CriticalLaws:
    return critical_laws(prepare(Evidence(runs=runs, **stored)))


def grid(rng: np.random.Generator, *, decays: tuple[float, ...] = (0.1,)) -> list[Run]:
    runs = []
    for params in (5e7, 1e8, 2e8, 4e8):
        for ratio in (10, 30, 90):
            tokens = params * ratio
            best = 2.0 ** np.round(np.log2(float(SURFACE.optimal_batch_tokens(tokens))))  # one grid for all horizons
            for batch in best * 2.0 ** np.arange(-2, 6):
                for factor in (0.5, 1.0, 2.0):
                    for decay in decays:
                        log = np.log(factor) ** 2 * 0.01 + 0.005 * np.log(decay / 0.1) ** 2
                        loss = float(SURFACE(params, batch, tokens / batch)) * np.exp(
                            log + 5e-4 * rng.standard_normal()
                        )
                        runs.append(a_run(len(runs), params, tokens, batch, 1e-3 * factor, decay, float(loss)))
    return runs


def test_a_grid_of_finished_runs(rng: np.random.Generator) -> None:
    found = laws(grid(rng))
    assert found.answering == DATA_LAWS
    assert found.routes[DATA_LAWS].measured[0].estimator == "E5"
    assert set(found.missing) == {STEPS_TABLE, CURVES}


def test_only_a_table_of_steps() -> None:
    found = critical_laws(prepare(Evidence(runs=(), targets=zhang_rows())), ZHANG)
    assert found.answering == STEPS_TABLE
    assert found.routes[STEPS_TABLE].definition == ZHANG
    assert {CURVES, DATA_LAWS} == set(found.missing)


def zhang_rows() -> list[StepsToTarget]:
    return [
        StepsToTarget(
            run_key=f"{size}-{k}",
            params=1e6 * size,
            batch_tokens=64 * 512 * 2.0**k,
            steps=steps,
            target_loss=ZHANG_LOSSES[size],
        )
        for size, column in ZHANG_STEPS.items()
        for k, steps in enumerate(column)
    ]


def test_a_critical_batch_is_stated_in_zhangs_definition_too() -> None:
    """G10: B* of the raw steps, and a law of its own through them: slope 0.482 in params (arXiv 2410.21676)."""
    found = laws(targets=zhang_rows())
    own, also = found.routes[STEPS_TABLE], found.restated[STEPS_TABLE]
    assert (own.definition, also.definition) == (DOUBLING, ZHANG)
    golden = (745.3200, 955.1581, 1393.7269, 1888.5222)  # sequences of 512 tokens
    assert [c.value_tokens / 512 for c in also.measured] == pytest.approx(golden, rel=1e-6)
    for one, other in zip(own.measured, also.measured, strict=True):
        assert other.value_tokens == pytest.approx(float(convert(one.value_tokens, DOUBLING, ZHANG)), rel=1e-9)
    low, high = also.laws["params"].exponent_interval("params")
    assert low < 0.482 < high
    assert also.laws["params"].exponents["params"] == pytest.approx(0.482, abs=0.02)
    assert own.laws["params"].exponents["params"] > 0.6  # the reference makes Zhang's law flatter
    alone = critical_laws(prepare(Evidence(runs=(), targets=zhang_rows())), ZHANG)
    assert also.laws["tokens"].exponents == alone.routes[STEPS_TABLE].laws["tokens"].exponents


def test_a_reference_above_all_batches_is_not_stated_and_that_is_said() -> None:
    small = [replace(row, batch_tokens=row.batch_tokens / 1000) for row in zhang_rows()]
    found = laws(targets=small)
    assert STEPS_TABLE in found.routes
    assert not found.restated
    assert code_of(found.unstated[STEPS_TABLE]) == "laws.beyond_tried"
    assert found.unstated[STEPS_TABLE].data["reference_batch_tokens"] == 131072
    own = Definition(fraction=0.2, reference_batch_tokens=131.072)
    scaled = critical_laws(prepare(Evidence(runs=(), targets=small), also=own)).restated[STEPS_TABLE]
    assert scaled.measured[0].value_tokens * 1000 / 512 == pytest.approx(745.32, rel=1e-5)


def test_curves_of_a_decaying_schedule_are_not_read(rng: np.random.Generator) -> None:
    runs = grid(rng)[:24]
    steps = np.arange(1.0, 200.0)
    curves = {run.run_key: (steps, 4.0 * (steps * run.batch_tokens / 1e6) ** -0.05) for run in runs}
    decaying = laws(runs, curves=curves, schedule="cosine to 10 %")
    assert "decays from the start (schedule 'cosine to 10 %')" in tell(decaying.missing[CURVES])
    assert laws(runs, schedule="cosine to 10 %").missing[CURVES] == decaying.missing[CURVES]
    assert laws(runs).missing[CURVES] == finding("laws.no_curves")
    constant = laws(runs, curves=curves, schedule="constant")
    assert constant.missing.get(CURVES) != decaying.missing[CURVES]


def test_other_weight_decays_do_not_enter_the_batch_laws(rng: np.random.Generator) -> None:
    """Trap 7: runs at another setting than most share move the best batch; they are for the law of weight decay."""
    plain = grid(rng)
    spoilt = [
        a_run(100_000 + i, run.params, run.tokens, run.batch_tokens, run.lr, 1.0, 2 * run.loss)
        for i, run in enumerate(plain[:50])
        if run.loss
    ]
    with_them, alone = laws([*plain, *spoilt]), laws(plain)
    assert with_them.routes[DATA_LAWS].measured == alone.routes[DATA_LAWS].measured


def test_nothing_at_all_says_what_each_law_takes() -> None:
    found = laws()
    assert found.answering is None
    assert set(found.missing) == {STEPS_TABLE, CURVES, DATA_LAWS}
    whole = fit_all_laws(Evidence(runs=()), on_request=["three_term"])
    assert whole.fitted == ()
    assert set(whole.missing) == {kind.id for kind in KINDS}
    assert all((*found.missing.values(), *whole.missing.values()))


def test_a_sweep_that_changes_one_setting_at_a_time(shared_data: Path, tmp_path: Path) -> None:
    """Trap 7: the Marin runs at another beta2 or warmup are not repeats of the run at the same weight decay."""
    with Store.open(tmp_path / "marin.db") as store:
        pipeline.ingest(store, shared_data / "public" / "marin_optimizer_sweep.csv")
        runs = store.runs(store.recipe("marin_optimizer_sweep-adamw").key)
    held = hold_settings(runs, free=("weight_decay",))
    assert len(held.runs) < len(runs)
    assert "beta2" in {setting.name for setting in held.settings}
    found = locate_weight_decay(DecayRuns.of_runs(held.runs))
    inside = [o for o in found if o.status is OptimumStatus.INSIDE]
    assert len(inside) == 5
    assert all((o.low, o.weight_decay, o.high) == (0.0, 0.1, 0.2) for o in inside)


def test_a_warmup_that_follows_the_steps_is_no_factor() -> None:
    runs = [
        replace(a_run(k, 1e8, 2e9, 2.0**k * 1e4, 1e-3, 0.1, 3.0), extra={"warmup_steps": 1000 / 2**k, "seed": k})
        for k in range(6)
    ]
    held = hold_settings(runs, free=("weight_decay",))
    assert (list(held.runs), held.settings, held.notes) == (runs, (), ())
