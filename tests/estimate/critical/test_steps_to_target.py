"""E4: Zhang's numbers from the raw steps, and the same from loss curves."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import FitError
from lawfit.estimate.critical.batch import measured_optima
from lawfit.estimate.critical.steps_to_target import (
    LossCurve,
    StepsTable,
    common_targets,
    first_crossing,
    fit_steps_table,
    steps_table_from_curves,
)
from lawfit.estimate.numerics.optimum_law import fit_optimum_law, separate_params_from_tokens
from lawfit.findings import code_of, finding
from lawfit.laws.critical_batch import ZHANG, Hyperbola

ZHANG_STEPS = {  # arXiv 2410.21676, the authors' notebook; batches of 64, 128, ..., 16384 sequences of 512 tokens
    85: (46000, 23000, 13282, 7000, 3840, 2528, 1917, 1600, 1600),
    151: (96000, 49000, 24000, 12000, 7128, 4350, 2940, 2400, 2300),
    302: (196000, 90000, 46000, 23400, 13300, 7224, 4980, 3400, 2879),
    604: (311000, 166000, 81000, 37440, 21320, 11400, 7199, 4700, 3800),
}
ZHANG_LOSSES = {85: 3.42, 151: 3.24, 302: 3.07, 604: 2.92}
G10 = {85: 745.3200, 151: 955.1581, 302: 1393.7269, 604: 1888.5222}


def zhang_table(sizes: tuple[int, ...] = (85, 151, 302, 604)) -> StepsTable:
    rows = [
        (1e6 * size, 64 * 512 * 2.0**k, steps, ZHANG_LOSSES[size])
        for size in sizes
        for k, steps in enumerate(ZHANG_STEPS[size])
    ]
    params, batch, steps_column, target = np.array(rows).T
    return StepsTable.of(params, batch, steps_column, target)


def test_g10_zhang_from_the_raw_steps() -> None:
    found = fit_steps_table(zhang_table())
    sequences = {round(f.params / 1e6): f.critical(ZHANG).value_tokens / 512 for f in found.fits if f.params}
    assert sequences == pytest.approx(G10, rel=1e-4)  # the tolerance of the golden table
    log_n, log_b = np.log(list(sequences)), np.log(list(sequences.values()))
    slope, level = np.polyfit(log_n, log_b, 1)
    assert slope == pytest.approx(0.481999, rel=1e-4)
    assert np.exp(level) == pytest.approx(86.9287, rel=1e-4)


def test_g10_from_the_published(shared_data: Path) -> None:
    """The same from the file as a user has it."""
    with (shared_data / "public" / "critical_batch_size_steps_to_target.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("n_params", "batch_size_tokens", "steps_to_target", "target_loss")
    table = StepsTable.of(*([float(row[name]) for row in rows] for name in names))
    assert len(table) == 36
    sequences = [f.critical(ZHANG).value_tokens / 512 for f in fit_steps_table(table).fits]
    assert sequences == pytest.approx(list(G10.values()), rel=1e-4)


@pytest.mark.parametrize("name", ["params", "tokens"])
def test_three_sizes_predict_the_fourth(name: str) -> None:
    """Fitted on 85M to 302M, the law gives 604M within 15 % and inside its interval."""
    small = [f.critical(ZHANG) for f in fit_steps_table(zhang_table((85, 151, 302))).fits]
    held_out = fit_steps_table(zhang_table((604,))).fits[0].critical(ZHANG)
    optima, _ = measured_optima(small)
    at = {"params": 604e6, "tokens": held_out.tokens}[name]
    said = fit_optimum_law(optima, (name,)).predict(**{name: at})
    assert said.value == pytest.approx(held_out.value_tokens, rel=0.15)
    assert said.low <= held_out.value_tokens <= said.high
    assert said.high / said.low < 3  # an interval that says something


def test_zhang_cannot_tell_params_from_tokens() -> None:
    """Trap 2: target, size and horizon grew together along one line."""
    optima, _ = measured_optima([f.critical(ZHANG) for f in fit_steps_table(zhang_table()).fits])
    said = separate_params_from_tokens(optima)
    assert said.verdict == "not_separable"
    assert code_of(said.sentence) == "numerics.grew_together"


def test_targets_are_never_pooled() -> None:
    """Trap 7: rows of two targets are two curves, also at one size."""
    first = zhang_table((85,))
    both = StepsTable.of(
        np.tile(first.params, 2),
        np.tile(first.batch_tokens, 2),
        np.concatenate([first.steps, 3 * first.steps]),
        np.concatenate([first.target_loss, first.target_loss - 0.2]),
    )
    fits = fit_steps_table(both).fits
    assert [f.target_loss for f in fits] == pytest.approx([3.22, 3.42])
    assert fits[0].curve.steps_min == pytest.approx(3 * fits[1].curve.steps_min, rel=1e-5)


def test_a_group_that_cannot_be_fitted_is_named() -> None:
    table = zhang_table((85,))
    lonely = StepsTable.of(
        np.append(table.params, 9e6),
        np.append(table.batch_tokens, 65536),
        np.append(table.steps, 10),
        np.append(table.target_loss, 4),
    )
    found = fit_steps_table(lonely)
    assert len(found.fits) == 1
    assert len(found.refused) == 1
    why = finding("critical.few_batches", batches=1, needed=3)
    assert found.refused[0] == finding("critical.curve_refused", params=9e6, loss=4.0, why=why)


TRUTH = Hyperbola(steps_min=1000.0, tokens_min=4e8)  # to a loss of 3; doubling batch 4e5
BATCHES = 32768.0 * 2.0 ** np.arange(8)


def curve(batch: float, lr: float, best_lr: float, rng: np.random.Generator, noise: float = 0.0) -> LossCurve:
    """Loss 3 (S / S_3)^-0.1 with S_3 by the hyperbola, slower off the best learning rate."""
    slow = 1 + 0.3 * np.log2(lr / best_lr) ** 2
    steps = np.arange(50, 60_001, 50, dtype=float)
    loss = 3.0 * (steps / (float(TRUTH.steps(batch)) * slow)) ** -0.1
    return LossCurve(
        params=1e8, batch_tokens=batch, lr=lr, steps=steps, loss=loss * np.exp(noise * rng.standard_normal(len(steps)))
    )


def curves(rng: np.random.Generator, noise: float = 0.0) -> list[LossCurve]:
    return [curve(batch, lr, 2e-3, rng, noise) for batch in BATCHES for lr in (1e-3, 2e-3, 4e-3)]


def test_curves_give_the_table_that_made_them(rng: np.random.Generator) -> None:
    table = steps_table_from_curves(curves(rng), 3.0)
    assert len(table) == len(BATCHES)
    assert table.steps == pytest.approx(TRUTH.steps(table.batch_tokens), rel=1e-6)  # linear in logs: exact
    assert table.notes == ()
    fit = fit_steps_table(table).fits[0]
    assert fit.curve.doubling_batch_tokens == pytest.approx(TRUTH.doubling_batch_tokens, rel=1e-4)


def test_noise_in_a_curve_does_not_bring_the_crossing_forward(rng: np.random.Generator) -> None:
    """0.5 % noise: a running minimum would cross some 15 % early; isotonic regression stays within a few percent."""
    exact = float(TRUTH.steps(BATCHES[2]))
    found = [first_crossing(c.steps, c.loss, 3.0) for c in (curve(BATCHES[2], 1, 1, rng, 0.005) for _ in range(30))]
    assert np.mean(np.log(np.array(found) / exact)) == pytest.approx(0.0, abs=0.03)


def test_many_targets_at_once(rng: np.random.Generator) -> None:
    """Along this family of curves every target has the same doubling batch; they count as one group in a law."""
    targets = common_targets(curves(rng), 4)[1e8]
    found = fit_steps_table(steps_table_from_curves(curves(rng), targets))
    assert len(found.fits) == 4
    assert [f.curve.doubling_batch_tokens for f in found.fits] == pytest.approx([4e5] * 4, rel=1e-3)
    optima, _ = measured_optima([f.critical() for f in found.fits])
    assert optima.groups == 1


def test_law_in_the_loss(rng: np.random.Generator) -> None:
    """B_crit = B* / L^(1/0.21), Kaplan's form: sizes at several targets each, read off one set of runs per size."""
    rows = []
    for params, losses in (
        (1e8, (3.4, 3.2, 3.0)),
        (2e8, (3.2, 3.0, 2.8)),
        (4e8, (3.0, 2.8, 2.6)),
        (8e8, (2.8, 2.6, 2.4)),
    ):
        for loss in losses:
            steps = 1e3 * (1 + 2e8 * loss**-4.76 / (BATCHES * 8)) * np.exp(0.03 * rng.standard_normal(len(BATCHES)))
            rows += [(params, b * 8, s, loss) for b, s in zip(BATCHES, steps, strict=True)]
    params_column, batch, steps_column, target = np.array(rows).T
    found = fit_steps_table(StepsTable.of(params_column, batch, steps_column, target))
    optima, _ = measured_optima([f.critical() for f in found.fits])
    law = fit_optimum_law(optima, ("loss",))
    assert law.groups == 4
    low, high = law.exponent_interval("loss")
    assert low < -4.76 < high
    assert high - low < 4


def test_a_batch_that_never_arrives_is_named(rng: np.random.Generator) -> None:
    slow = curve(1024.0, 2e-3, 2e-3, rng)
    table = steps_table_from_curves([*curves(rng), slow], 3.0)
    assert finding("critical.not_reached", params=1e8, batch_tokens=1024.0, loss=3.0) in table.notes
    assert 1024.0 not in table.batch_tokens


def test_best_learning_rate_at_the_edge_is_noted(rng: np.random.Generator) -> None:
    two = [curve(batch, lr, 8e-3, rng) for batch in BATCHES for lr in (1e-3, 2e-3)]
    assert doubts_of(two) == ["critical.lr_at_edge"]
    # the best printed with other digits than the outermost rate: the same rate, so the edge all the same
    twice = [curve(batch, lr, 8e-3, rng) for batch in BATCHES for lr in (1e-3, 2e-3, 2.001e-3)]
    assert doubts_of(twice) == ["critical.lr_at_edge"]
    one = [curve(batch, lr, 2e-3, rng) for batch in BATCHES for lr in (2e-3, 2.001e-3)]
    assert doubts_of(one) == ["critical.one_lr"]


def doubts_of(tried: list[LossCurve]) -> list[str]:
    return [code_of(note.data["doubt"]) for note in steps_table_from_curves(tried, 3.0).notes]


def test_no_curve_reaches_the_target(rng: np.random.Generator) -> None:
    with pytest.raises(FitError) as caught:
        steps_table_from_curves(curves(rng), 0.5)
    assert code_of(caught.value.finding) == "critical.none_reaches"
    assert caught.value.finding.data["curves"] == 24


def test_another_metrics_step_axis_is_refused() -> None:
    """Trap 11: evaluation losses on the training metric's steps have repeats, or another length."""
    with pytest.raises(ValueError, match="another metric"):
        first_crossing([10, 20, 20, 30], [4.0, 3.5, 3.4, 3.0], 3.2)
    with pytest.raises(ValueError, match="one loss per step"):
        first_crossing([10, 20, 30], [4.0, 3.0], 3.2)


def test_a_curve_that_starts_below_the_target_shows_no_crossing() -> None:
    assert np.isnan(first_crossing([10, 20, 30], [2.9, 2.8, 2.7], 3.0))


def test_gaps_and_infinities_in_a_curve_are_skipped() -> None:
    assert first_crossing([10, 20, 40, 80], [4.0, np.nan, 2.0, np.inf], 2.0 * np.sqrt(2)) == pytest.approx(20.0)
