"""What a sweep of weight decay says, slice by slice: optimum, edges, flat, too few."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import NotEnoughData
from lawfit.estimate.weight_decay import sweep as weight_decay
from lawfit.estimate.weight_decay.sweep import (
    AS_LARGE,
    AS_SMALL,
    NEXT_RATIO,
    DecayOptimum,
    DecayRuns,
    locate_weight_decay,
)
from lawfit.findings import finding
from lawfit.laws.timescale import DecayConvention
from lawfit.records import OptimumStatus, Run, RunStatus

GRID = np.array([0.01, 0.03, 0.1, 0.3, 1.0])


def sweep(decays: np.ndarray, best: float, *, loss: np.ndarray | None = None) -> DecayRuns:
    """One slice: a parabola of log loss in ln weight decay; 0 costs as much as a tenth of the smallest."""
    positive = decays > 0
    at = np.where(positive, decays, decays[positive].min() / 10 if positive.any() else 1.0)
    y = 3.0 * np.exp(0.004 * np.log(at / best) ** 2) if loss is None else loss
    ones = np.ones(len(decays))
    return DecayRuns.of(1e8 * ones, 2e9 * ones, 2.5e5 * ones, 3e-3 * ones, decays, y)


def only(runs: DecayRuns) -> DecayOptimum:
    found = locate_weight_decay(runs)
    assert len(found) == 1
    return found[0]


def test_a_parabola_is_found_between_its_neighbours() -> None:
    said = only(sweep(GRID, 0.15))
    assert said.status is OptimumStatus.INSIDE
    assert said.weight_decay == pytest.approx(0.15, rel=0.02)  # the parabola is of the loss, the truth of its log
    assert (said.low, said.high) == (0.03, 0.3)
    assert said.timescale == pytest.approx(2.5e5 / (3e-3 * said.weight_decay * 2e9))
    assert said.timescale_bracket == pytest.approx((2.5e5 / (3e-3 * 0.3 * 2e9), 2.5e5 / (3e-3 * 0.03 * 2e9)))


EDGES = {
    "as small as tried": (GRID, 0.001, AS_SMALL),
    "as large as tried": (GRID, 10.0, AS_LARGE),
    "none at all is best": (np.array([0.0, 0.1, 0.2, 0.3]), 0.003, AS_SMALL),
}


@pytest.mark.parametrize(("decays", "best", "bound"), EDGES.values(), ids=EDGES)
def test_an_edge_is_a_bound_with_what_to_try_next(decays: np.ndarray, best: float, bound: str) -> None:
    """Trap 5: no vertex outside what was tried."""
    said = only(sweep(decays, best))
    assert said.status is OptimumStatus.AT_EDGE
    assert said.bound == bound
    assert said.weight_decay == (decays.min() if bound == AS_SMALL else decays.max())
    assert said.next_weight_decay
    smallest = decays[decays > 0].min()
    assert all(v > decays.max() if bound == AS_LARGE else 0 < v < smallest for v in said.next_weight_decay)


def test_between_none_and_another_value_it_is_inside_but_not_resolved() -> None:
    """0, 0.1 and 0.2, as in the Marin sweeps: 0.1 is best, and how much smaller the best may be is not known."""
    said = only(sweep(np.array([0.0, 0.1, 0.2]), 0.1))
    assert said.status is OptimumStatus.INSIDE
    assert (said.low, said.weight_decay, said.high) == (0.0, 0.1, 0.2)
    assert said.timescale_bracket[1] == np.inf
    assert all(0 < v < 0.1 for v in said.next_weight_decay)


def test_a_flat_sweep_does_not_tell() -> None:
    said = only(sweep(GRID, 0.1, loss=3.0 + 1e-4 * np.array([1.0, -1.0, 0.5, 0.0, 1.0])))
    assert said.status is OptimumStatus.FLAT


def test_two_values_are_too_few() -> None:
    said = only(sweep(GRID[:2], 0.03))
    assert said.status is OptimumStatus.TOO_FEW
    assert len(said.next_weight_decay) == 4


def test_a_diverged_neighbour_brackets_the_best() -> None:
    """Trap 9: the largest weight decay diverged, so the one below it is not at the edge; and it is counted."""
    loss = np.array([3.3, 3.2, 3.1, 3.0, np.nan])
    said = only(sweep(GRID, 0.1, loss=loss))
    assert said.status is OptimumStatus.INSIDE
    assert (said.weight_decay, said.high) == (0.3, 1.0)
    assert said.diverged == 1
    assert 1.0 in said.tried


def test_every_run_diverged() -> None:
    said = only(sweep(GRID, 0.1, loss=np.full(5, np.nan)))
    assert said.status is OptimumStatus.TOO_FEW
    assert json.loads(json.dumps(said.to_json(), allow_nan=False))["weight_decay"] is None


def test_seeds_are_averaged_and_half_lost_is_lost() -> None:
    decays = np.tile(GRID, 2)
    loss = np.concatenate([3.0 + 0.1 * np.abs(np.log(GRID / 0.1)), 3.02 + 0.1 * np.abs(np.log(GRID / 0.1))])
    loss[4] = np.nan  # of the two seeds at 1.0 one diverged
    said = only(sweep(decays, 0.1, loss=loss))
    assert said.loss == pytest.approx(np.sqrt(3.0 * 3.02), rel=2e-2)  # the parabola's lowest, of the mean
    assert said.runs == 10
    assert said.diverged == 1


def test_slices_are_kept_apart() -> None:
    """Learning rate or batch at which it was swept is part of the answer."""
    first, second = sweep(GRID, 0.1), sweep(GRID, 0.3)
    both = DecayRuns.of(
        *(np.concatenate([getattr(first, n), getattr(second, n)]) for n in ("params", "tokens", "batch_tokens")),
        np.concatenate([first.lr, 2 * second.lr]),
        np.concatenate([GRID, GRID]),
        np.concatenate([first.loss, second.loss]),
    )
    found = locate_weight_decay(both)
    assert [round(o.weight_decay, 1) for o in found] == [0.1, 0.3]


def test_rounded_settings_are_one() -> None:
    """A table prints one learning rate in two ways, and tokens in whole steps."""
    runs = sweep(GRID, 0.1)
    lr, tokens = runs.lr.copy(), runs.tokens.copy()
    lr[::2] *= 1.0007
    tokens[1::2] *= 1.004
    again = DecayRuns.of(runs.params, tokens, runs.batch_tokens, lr, runs.weight_decay, runs.loss)
    assert only(again).runs == 5


def test_independent_weight_decay_is_converted() -> None:
    runs = sweep(GRID, 0.1)
    independent = DecayRuns.of(
        runs.params, runs.tokens, runs.batch_tokens, runs.lr, runs.weight_decay * runs.lr, runs.loss,
        convention=DecayConvention.INDEPENDENT,
    )  # fmt: skip
    assert independent.weight_decay == pytest.approx(runs.weight_decay, rel=1e-14)


def test_cost_is_read_off_the_runs() -> None:
    part = next(sweep(np.array([0.0, 0.1, 0.2, 0.4]), 0.1, loss=np.exp([1.1, 1.0, 1.02, 1.06])).slices())
    assert part.cost(0.1) == (pytest.approx(0.0), False)
    assert part.cost(0.05) == (pytest.approx(0.05), False)  # half-way to no weight decay
    assert part.cost(0.1 * 2**1.5) == (pytest.approx(0.04), False)  # half-way in logs
    assert part.cost(1.0) == (pytest.approx(0.06), True)  # beyond what was tried: at least that
    without = next(sweep(np.array([0.1, 0.2, 0.4]), 0.1).slices())
    assert without.cost(0.01)[1]


def run(key: str, decay: float | None, **changes: object) -> Run:
    values = {
        "params": 1e8,
        "tokens": 2e9,
        "batch_tokens": 2.5e5,
        "lr": 3e-3,
        "loss": 3.0,
        "status": RunStatus.FINISHED,
    }
    return Run(run_key=key, weight_decay=decay, **{**values, **changes})  # type: ignore[arg-type]


def test_of_runs_counts_what_it_leaves_out() -> None:
    runs = [
        run("a", 0.1),
        run("b", None),
        run("c", 0.2, excluded="typo"),
        run("d", 0.3, loss=None, status=RunStatus.DIVERGED),
    ]
    found = DecayRuns.of_runs(runs)
    assert found.weight_decay.tolist() == [0.1, 0.3]
    assert np.isnan(found.loss[1])
    assert found.notes == (finding("weight_decay.silent", runs=2),)
    with pytest.raises(NotEnoughData) as caught:
        DecayRuns.of_runs([run("b", None)])
    assert caught.value.finding == finding("weight_decay.none_stated", runs=1)


BAD = {
    "negative weight decay": ({"weight_decay": [-0.1, 0.1]}, "zero or positive"),
    "a loss of zero": ({"loss": [0.0, 3.0]}, "NaN for a diverged run"),
    "no batch": ({"batch_tokens": [0.0, 1e5]}, "batch_tokens must be positive"),
    "columns differ": ({"lr": [1e-3]}, "differ in length"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_columns_are_named(change: dict[str, list[float]], message: str) -> None:
    columns = {"params": [1e8] * 2, "tokens": [2e9] * 2, "batch_tokens": [1e5] * 2, "lr": [1e-3] * 2}
    columns |= {"weight_decay": [0.1, 0.2], "loss": [3.0, 3.1]}
    with pytest.raises(ValueError, match=message):
        DecayRuns.of(**{**columns, **change})


def test_marin_one_factor_sweeps(shared_data: Path) -> None:
    """AdamW: 0, 0.1 and 0.2 at the tuned learning rate. Bracketed at five scales, edges at the larger ones."""
    with (shared_data / "public" / "marin_optimizer_sweep.csv").open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["optimizer"] == "adamw"
            and row["has_result"] == "1"
            and row["changed_param"] in ("baseline", "weight_decay")
        ]
    names = ("n_params", "n_tokens", "batch_size_tokens", "learning_rate", "weight_decay")
    loss = [np.nan if row["diverged"] == "1" else float(row["final_loss"]) for row in rows]
    found = locate_weight_decay(DecayRuns.of(*([float(row[name]) for row in rows] for name in names), loss))
    by_status = {status: [o for o in found if o.status is status] for status in OptimumStatus}
    assert len(by_status[OptimumStatus.INSIDE]) == 5
    assert all((o.low, o.weight_decay, o.high) == (0.0, 0.1, 0.2) for o in by_status[OptimumStatus.INSIDE])
    assert [(round(o.params / 1e6), o.bound) for o in by_status[OptimumStatus.AT_EDGE]] == [
        (537, AS_LARGE),
        (1208, AS_LARGE),
    ]
    assert by_status[OptimumStatus.AT_EDGE][0].diverged == 1  # no weight decay at all diverged there
    assert len(by_status[OptimumStatus.TOO_FEW]) == 6


@pytest.mark.parametrize(
    ("tried", "upwards", "further"),
    [
        ([0.1, 0.2, 0.4], True, (0.8, 1.6)),
        ([0.1, 0.2, 0.4], False, (0.025, 0.05)),
        ([0.0, 0.1, 0.3], False, (0.1 / 9, 0.1 / 3)),
        ([0.0, 0.1], True, (0.1 * NEXT_RATIO, 0.1 * NEXT_RATIO**2)),
        ([0.0], True, (0.1,)),
    ],
)
def test_two_values_further_on_at_the_ratio_of_the_sweep(
    tried: list[float], upwards: bool, further: tuple[float, ...]
) -> None:
    assert weight_decay._beyond(np.array(tried), upwards=upwards) == pytest.approx(further)
