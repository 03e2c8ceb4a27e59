"""Cell by cell: statuses, edges, and the grid that would settle what the sweep does not show."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from lawfit.estimate.lr_batch.backtest import observed_surfaces_of
from lawfit.estimate.lr_batch.cells import STEP, STEPS_BEYOND, CellReport, locate_cells, next_grids
from lawfit.estimate.lr_batch.ensemble import fit_ensemble
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.findings import Finding, found_of
from lawfit.records import OptimumStatus, Run
from lawfit.simulate import Truth
from tests.estimate.simulated import NINE, nine_scales, run, sweep

TRUTH = Truth()


def located(runs: list[Run] | tuple[Run, ...]) -> tuple[Observations, list[CellReport]]:
    observed = observe(runs)
    return observed, locate_cells(observed, fit_ensemble(observed, observed_surfaces_of(observed)))


@cache
def located_where(keep: str, share: float) -> tuple[Observations, list[CellReport]]:
    return located(where(keep, share))


def where(keep: str, share: float) -> list[Run]:
    """The runs of a centred grid whose learning rate (or batch) is below or above a share of the best."""
    kept = []
    for each in sweep(misplacement=0.0, lr_steps=9, batch_steps=7).runs:
        best_lr, best_batch = TRUTH.optimum(each.params, each.tokens)
        ratio = each.lr / best_lr if keep.startswith("lr") else each.batch_tokens / best_batch
        if (ratio < share) == keep.endswith("below"):
            kept.append(each)
    return kept


def edges_of(why: Finding) -> set[str]:
    """The edges that a scale's runs to add are beyond."""
    return {found_of(each).data["edge"] for each in why.data.get("findings", [why])}


def test_a_centred_grid_shows_its_optima() -> None:
    _, cells = located(sweep(misplacement=0.0, lr_steps=7, batch_steps=7).runs)
    assert {c.status for c in cells} == {OptimumStatus.INSIDE}
    for cell in cells:
        best_lr, best_batch = TRUTH.optimum(cell.params, cell.tokens)
        assert np.log(cell.lr / best_lr) == pytest.approx(0, abs=0.15)
        assert np.log(cell.batch_tokens / best_batch) == pytest.approx(0, abs=0.25)
        assert cell.edges == ()


@pytest.mark.parametrize(
    ("keep", "share", "edge"),
    [
        pytest.param("lr below", 0.6, "lr_high", id="lr_high"),
        pytest.param("lr above", 1.6, "lr_low", id="lr_low"),
        pytest.param("batch below", 0.6, "batch_high", id="batch_high"),
        pytest.param("batch above", 1.6, "batch_low", id="batch_low"),
    ],
)
def test_an_optimum_outside_the_sweep_is_at_its_edge(keep: str, share: float, edge: str) -> None:
    observed, cells = located_where(keep, share)
    assert all(edge in c.edges and c.status is OptimumStatus.AT_EDGE for c in cells)
    grids = next_grids(observed, cells)
    assert len(grids) == len(cells)
    for index, grid in enumerate(grids):
        rows = observed.rows_of(index)
        gone = observed.diverged_cell == index
        name = "lr" if edge.startswith("lr") else "batch_tokens"
        tried = np.exp(observed.log_lr[rows] if name == "lr" else observed.log_batch[rows])
        if name == "lr":
            tried = np.concatenate([tried, np.exp(observed.diverged_log_lr[gone])])
        beyond = [x for x in grid[name] if (x > tried.max() * 1.1 if edge.endswith("high") else x < tried.min() / 1.1)]
        assert STEPS_BEYOND[0] <= len(beyond) <= STEPS_BEYOND[1]
        assert np.diff(np.log(beyond)) == pytest.approx(STEP, abs=0.01)
        best = cells[index].seen_lr if name == "lr" else cells[index].batch_tokens
        furthest = max(beyond) / best if edge.endswith("high") else best / min(beyond)
        assert furthest > 0.99 or len(beyond) == STEPS_BEYOND[1]  # past the optimum,
        assert furthest < 4.3  # and no further than it takes
        assert grid["params"] == observed.params[index]
        assert edge in edges_of(grid["why"])


def test_a_diverged_run_brackets_from_above() -> None:
    rates = [1e-3 * 2**i for i in range(5)]
    losses = [3.30, 3.15, 3.06, 3.02, 3.015]
    open_ended = [run(f"{i}", lr, 1e5, y) for i, (lr, y) in enumerate(zip(rates, losses, strict=True))]
    closed = [*open_ended, run("d", 3.2e-2, 1e5, None)]
    assert "lr_high" in located(open_ended)[1][0].edges
    assert "lr_high" not in located(closed)[1][0].edges


def test_runs_that_cannot_be_told_apart_are_flat() -> None:
    _, cells = located([run(f"{i}{j}", 1e-3 * 2**i, 1e5 * 2**j, 3.0) for i in range(5) for j in range(4)])
    assert cells[0].status is OptimumStatus.FLAT


def test_three_runs_are_too_few() -> None:
    _, cells = located([run(f"{i}", 1e-3 * 2**i, 1e5, 3.0 + 0.02 * (i - 1) ** 2) for i in range(3)])
    assert cells[0].status is OptimumStatus.TOO_FEW


def test_a_batch_that_was_not_swept_has_no_edge() -> None:
    _, cells = located(sweep(NINE[:2], batch_steps=1, misplacement=0.0).runs)
    for cell in cells:
        assert not cell.batch_swept
        assert not any(edge.startswith("batch") for edge in cell.edges)


def test_next_grid_of_random_search_leaves_the_runs_behind() -> None:
    """Thirty random learning rates lie 7 % apart; steps of that would stay at the edge."""
    observed, cells = located(sweep(random=True, misplacement=0.9, seed=3).runs)
    grids = {(g["params"], g["tokens"]): g for g in next_grids(observed, cells)}
    edged = [c for c in cells if "lr_high" in c.edges or "lr_low" in c.edges]
    assert edged, "the seed gives no scale at an edge; take another"
    for cell in edged:
        rates = grids[cell.params, cell.tokens]["lr"]
        tried = np.exp(observed.log_lr[observed.rows_of(cells.index(cell))])
        if "lr_high" in cell.edges:
            assert rates[-1] > 3.9 * tried.max()
            assert rates[-1] > cell.seen_lr or len(rates) == STEPS_BEYOND[1]
        if "lr_low" in cell.edges:
            assert rates[0] < tried.min() / 3.9
            assert rates[0] < cell.seen_lr or len(rates) == STEPS_BEYOND[1]


@pytest.mark.parametrize("seq_len", [1024, 4096, 2**16])
def test_batches_to_add_are_whole_sequences_that_were_not_tried(seq_len: int) -> None:
    observed, cells = located_where("batch above", 1.6)
    grids = next_grids(observed, cells, seq_len)
    assert grids
    for grid in grids:
        index = [(c.params, c.tokens) for c in cells].index((grid["params"], grid["tokens"]))
        assert all(batch % seq_len == 0 and batch >= seq_len for batch in grid["batch_tokens"])
        if "batch_low" in edges_of(grid["why"]):
            assert min(grid["batch_tokens"]) < np.exp(observed.log_batch[observed.rows_of(index)].min())


def test_there_is_nothing_below_one_sequence() -> None:
    """The best batch is the smallest that can be run: an edge, and no run to add there."""
    losses = {1: 3.0, 2: 3.02, 4: 3.06, 8: 3.12}
    runs = [
        run(f"{i}{k}", 1e-3 * 2**i, 4096.0 * k, loss + 0.01 * (i - 2) ** 2)
        for i in range(5)
        for k, loss in losses.items()
    ]
    observed, cells = located(runs)
    assert cells[0].edges == ("batch_low",)
    assert next_grids(observed, cells, 4096) == []
    assert next_grids(observed, cells, 1024)[0]["batch_tokens"] == [1024.0, 2048.0]  # a step of 2 further is too small


@pytest.mark.parametrize("seeds", [1, 3])
def test_counts_are_of_runs(seeds: int) -> None:
    runs = sweep(truth=Truth(diverges_above=0.5), seeds=seeds).runs
    _, cells = located(runs)
    for cell in cells:
        here = [each for each in runs if (each.params, each.tokens) == (cell.params, cell.tokens)]
        assert cell.runs == len(here)
        assert cell.diverged == sum(each.loss is None for each in here) > 0


def test_best_run_is_an_observed_one() -> None:
    observed = nine_scales()
    runs = {(r.params, r.tokens): [] for r in sweep().runs}  # type: ignore[var-annotated]
    for each in sweep().runs:
        if each.loss is not None:
            runs[each.params, each.tokens].append((each.loss, each.lr, each.batch_tokens))
    for cell in locate_cells(observed, fit_ensemble(observed, observed_surfaces_of(observed))):
        found = cell.best_loss, cell.best_lr, cell.best_batch_tokens
        assert found == pytest.approx(min(runs[cell.params, cell.tokens]), rel=1e-9)
