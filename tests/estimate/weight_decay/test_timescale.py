"""The best timescale of each scale, its law, and weight decay from it, on simulated truth and on measured runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.numerics.optimum_law import OptimumLaw
from lawfit.estimate.weight_decay.sweep import AS_LARGE, DecayRuns
from lawfit.estimate.weight_decay.timescale import RATIO, TimescaleFit, fit_timescale
from lawfit.findings import as_json, code_of, finding
from lawfit.laws.timescale import TimescaleLaw, timescale
from lawfit.records import FitStatus, OptimumStatus
from lawfit.words import tell
from tests.benchmarks.decay_rules import score_largest_size

TRUTH = TimescaleLaw(const=1.1, exponent=-0.5)
SCALES = ((1e8, 1e9), (1e8, 4e9), (3e8, 6e9), (3e8, 24e9), (1e9, 8e10))
DECAYS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)


def simulate(
    rng: np.random.Generator,
    *,
    scales: tuple[tuple[float, float], ...] = SCALES,
    rates: tuple[float, ...] = (0.5, 1.0, 2.0),
    noise: float = 0.001,
    lr_slope: float = 0.0,
    decays: tuple[float, ...] = DECAYS,
) -> DecayRuns:
    """An asymmetric valley in ln tau that ends on a plateau towards no weight decay: not the form that is fitted."""
    rows = []
    for params, tokens in scales:
        best = float(TRUTH.tau(params, tokens))
        batch = 1e-4 * tokens
        for factor in rates:
            lr = 3e-3 * factor
            for decay in decays:
                u = (
                    np.log(float(timescale(batch, lr, decay, tokens)) / best) - lr_slope * np.log(factor)
                    if decay
                    else 12
                )
                h = 0.004 * 2 * (np.exp(min(-0.8 * u, 12)) - 1 + 0.8 * u) / 0.64
                excess = 0.05 * (1 - np.exp(-h / 0.05)) if u > 0 else min(h, 2.0)
                loss = 3.0 * np.exp(0.01 * np.log(factor) ** 2 + excess + noise * rng.standard_normal())
                rows.append((params, tokens, batch, lr, decay, loss))
    n, d, b, x, w, y = np.array(rows).T
    return DecayRuns.of(n, d, b, x, w, y)


def test_recovers_scales_and_law(rng: np.random.Generator) -> None:
    fit = fit_timescale(simulate(rng))
    assert fit.status is FitStatus.OK
    assert fit.certificate is not None
    assert fit.certificate.certified
    assert len(fit.scales) == len(SCALES)
    for scale in fit.scales:
        truth = float(TRUTH.tau(scale.params, scale.tokens))
        assert scale.status is OptimumStatus.INSIDE
        assert scale.log_sd < 0.3
        # 0.1 % noise; the fitted form has no plateau, which may cost a third of a grid step (1.1 nats)
        assert abs(np.log(scale.timescale / truth)) < 0.35
    assert fit.law is not None
    low, high = fit.law.exponent_interval(RATIO)
    assert low <= TRUTH.exponent <= high
    assert high - low < 0.5


def test_weight_decay_follows_from_lr_batch_and_tokens(rng: np.random.Generator) -> None:
    fit = fit_timescale(simulate(rng))
    said = fit.predict(5e8, 2e10, 2e6, 1e-3)
    truth = float(TRUTH.weight_decay(5e8, 2e10, 2e6, 1e-3))
    assert said.low <= truth <= said.high
    assert said.high / said.low < 2.5
    assert said.independent == pytest.approx(1e-3 * said.weight_decay)
    assert fit.predict(5e8, 2e10, 4e6, 1e-3).weight_decay == pytest.approx(2 * said.weight_decay)  # linear in batch
    assert fit.predict(5e8, 2e10, 2e6, 2e-3).weight_decay == pytest.approx(said.weight_decay / 2)
    assert fit.predict(5e8, 5e12, 2e6, 1e-3).decades[RATIO] == pytest.approx(np.log10(5e12 / 5e8 / 80))


def test_slope_along_the_learning_rate_is_seen(rng: np.random.Generator) -> None:
    """The same weight decay best at every learning rate is a timescale that falls as 1 / lr, and is not hidden."""
    fit = fit_timescale(simulate(rng, lr_slope=-0.6))
    assert fit.lr_slope is not None
    value, sd = fit.lr_slope
    assert value + 2 * sd < 0
    none = fit_timescale(simulate(rng)).lr_slope
    assert none is not None
    assert abs(none[0]) < 2.5 * none[1]
    assert fit_timescale(simulate(rng, rates=(1.0,))).lr_slope is None


def test_one_ratio_leaves_the_exponent_open(rng: np.random.Generator) -> None:
    """Trap 2: every scale at 20 tokens per parameter. The level is fitted, the exponent lent, and that is said."""
    fit = fit_timescale(simulate(rng, scales=((1e8, 2e9), (3e8, 6e9), (1e9, 2e10))))
    assert fit.status is FitStatus.SPARSE
    assert code_of(fit.sentences[0]) == "weight_decay.lent_exponent"
    assert fit.sentences[0].data["why"] == finding("numerics.same_input", inputs=[RATIO]).to_json()
    assert "lent by published laws (-0.527, sd 0.3: power_lines_timescale)" in tell(fit.sentences[0])
    assert fit.lent_by == ("power_lines_timescale",)
    near, far = (fit.predict(1e9, 1e9 * ratio, 2e6, 1e-3) for ratio in (20, 320))
    assert np.log(far.high / far.low) > 2 * np.log(near.high / near.low)


def test_edges_bound_and_do_not_enter_the_law(rng: np.random.Generator) -> None:
    """Trap 5: a scale whose best weight decay is the largest tried says so, and is left out."""
    small = simulate(rng, scales=SCALES[-1:], decays=(0.0, 0.003, 0.01, 0.03))
    fit = fit_timescale(joined(simulate(rng, scales=SCALES[:4]), small))
    edge = next(s for s in fit.scales if s.params == 1e9)
    assert (edge.status, edge.bound) == (OptimumStatus.AT_EDGE, AS_LARGE)
    assert edge.log_sd == np.inf
    assert fit.law is not None
    assert fit.law.groups == 4
    (said,) = (each for each in fit.sentences if code_of(each) == "weight_decay.open")
    assert said.data == {"status": "at_edge", "bound": AS_LARGE, "scales": [[1e9, pytest.approx(8e10)]]}


def test_learning_rates_and_seeds_of_a_scale_are_one_scale(rng: np.random.Generator) -> None:
    """Trap 6: repeating every run does not add scales to the law, nor narrow its exponent below the scatter."""
    runs = simulate(rng)
    fit, twice = fit_timescale(runs), fit_timescale(joined(runs, runs))
    assert fit.law is not None
    assert twice.law is not None
    assert twice.law.groups == fit.law.groups == len(SCALES)
    widths = [law.predict(**{RATIO: 20.0}) for law in (fit.law, twice.law)]
    assert np.log(widths[1].high / widths[1].low) > 0.75 * np.log(widths[0].high / widths[0].low)


def test_a_batch_in_sequences_is_visible_in_the_level(rng: np.random.Generator) -> None:
    """Trap 8: tau is of order one; a batch in sequences makes it smaller by the sequence length (2048)."""
    runs = simulate(rng)
    wrong = DecayRuns.of(runs.params, runs.tokens, runs.batch_tokens / 2048, runs.lr, runs.weight_decay, runs.loss)
    fit = fit_timescale(wrong)
    assert "weight_decay.implausible" in map(code_of, fit.sentences)
    assert "weight_decay.implausible" not in map(code_of, fit_timescale(runs).sentences)


def test_nothing_varied_is_refused_with_what_to_run(rng: np.random.Generator) -> None:
    with pytest.raises(NotEnoughData) as caught:
        fit_timescale(simulate(rng, decays=(0.1,)))
    assert code_of(caught.value.finding) == "weight_decay.never_varies"


def test_no_law_says_what_is_missing(rng: np.random.Generator) -> None:
    fit = fit_timescale(simulate(rng, decays=(0.0, 0.1, 0.2)))
    assert fit.law is None
    assert fit.status is FitStatus.UNCERTIFIED
    assert [code_of(each) for each in fit.sentences[:2]] == ["weight_decay.no_scale", "weight_decay.open"]
    assert fit.sentences[1].data["status"] == "inside"
    with pytest.raises(FitError) as caught:
        fit.predict(1e9, 2e10, 1e6, 1e-3)
    assert caught.value.finding.data["findings"] == as_json(fit.sentences)


def test_scored_on_the_runs_of_the_largest_size(rng: np.random.Generator) -> None:
    rows = {row.method: row for row in score_largest_size(simulate(rng), {"truth": TRUTH})}
    ours = rows["law fitted on the smaller sizes"]
    assert ours.slices == 3
    assert ours.mean < 0.004  # interpolation between grid points 1.1 nats apart: a few 0.1 %
    assert ours.mean < rows["no weight decay"].mean
    assert abs(ours.mean - rows["truth"].mean) < 0.002
    with pytest.raises(NotEnoughData, match="two sizes"):
        score_largest_size(simulate(rng, scales=SCALES[:2]))


def test_survives_json(rng: np.random.Generator) -> None:
    fit = fit_timescale(simulate(rng))
    document = json.loads(json.dumps(as_json(fit.to_json()), allow_nan=False))
    assert fit.law is not None
    again = OptimumLaw.from_json(document["law"])
    assert again.predict(**{RATIO: 50.0}) == fit.law.predict(**{RATIO: 50.0})
    assert json.dumps(as_json(fit.predict(1e9, 2e10, 1e6, 1e-3).to_json()), allow_nan=False)


class TestCertificate:
    """What the law may be trusted with, as every fit says it."""

    def test_of_a_law_that_the_scales_carry(self, rng: np.random.Generator) -> None:
        report = fit_timescale(simulate(rng)).certificate
        assert report is not None
        assert report.certified
        assert (report.search.starts, report.search.agreeing) == (9, 9)  # three starts in each of three windows
        assert report.search.gradient_norm < 1e-2
        assert report.condition_number < 10  # centred: level and exponent are nearly independent
        assert (report.clusters, report.rows) == (5, 90)
        assert len(report.influence) == 5
        assert json.loads(json.dumps(report.to_json(), allow_nan=False))["certified"]

    def test_one_ratio_names_the_sweep_that_settles_the_exponent(self, rng: np.random.Generator) -> None:
        fit = fit_timescale(simulate(rng, scales=((1e8, 2e9), (3e8, 6e9), (1e9, 2e10))))
        report = fit.certificate
        assert report is not None
        assert (report.certified, report.weak) == (False, ("exponent",))
        assert report.condition_number == np.inf
        (needed, *_) = report.needed_runs
        ratio = needed.inputs["tokens"] / needed.inputs["params"]
        assert min(abs(ratio / far - 1) for far in (2.5, 160.0)) < 1e-9  # as far from 20 as is offered
        assert needed.sd_with_run < 0.5 < needed.sd
        assert finding("weight_decay.sweep_needed", **needed.inputs) in fit.sentences
        assert needed.inputs["params"] == 1e8

    def test_a_scale_that_bends_the_law_is_named(self, rng: np.random.Generator) -> None:
        """One scale's weight decays written ten times too small: its timescale comes out ten times too long."""
        scales = tuple(
            (1e8 * k, 1e8 * k * r)
            for k, r in [(1, 10), (2, 14), (3, 20), (4, 28), (5, 40), (6, 56), (8, 80), (10, 112)]
        )
        runs = simulate(rng, scales=scales, rates=(1.0,))
        wrong = runs.params == 4e8
        spoilt = DecayRuns.of(
            runs.params,
            runs.tokens,
            runs.batch_tokens,
            runs.lr,
            np.where(wrong, 0.1, 1.0) * runs.weight_decay,
            runs.loss,
        )
        report = fit_timescale(spoilt).certificate
        assert report is not None
        assert report.influence[0].group == "400M params on 11.2B tokens"
        assert abs(report.influence[0].shift) > 2 * abs(report.influence[1].shift)

    def test_a_law_that_bends_is_seen(self, rng: np.random.Generator) -> None:
        """Twelve scales whose timescale falls, then rises, with the ratio."""
        ratios = np.geomspace(5, 500, 12)
        columns = [[], [], [], [], [], []]  # type: ignore[var-annotated]
        for k, ratio in enumerate(ratios):
            part = simulate(rng, scales=((1e8 * 1.3**k, 1e8 * 1.3**k * float(ratio)),), rates=(1.0,))
            bend = np.exp(0.5 * np.log(ratio / 50) ** 2)
            for column, values in zip(
                columns,
                (part.params, part.tokens, part.batch_tokens, part.lr, part.weight_decay / bend, part.loss),
                strict=True,
            ):
                column.append(values)
        report = fit_timescale(DecayRuns.of(*(np.concatenate(c) for c in columns))).certificate
        assert report is not None
        assert report.lack_of_fit is not None
        assert report.lack_of_fit.column == "ln tokens per parameter squared"
        assert report.lack_of_fit.p_value < 0.01
        assert "numerics.structure" in map(code_of, report.warnings)


def test_marin_lion_sweeps_carry_a_law(shared_data: Path) -> None:
    """Seven to eleven weight decays per scale: the best timescale falls with tokens per parameter."""
    fit = marin(shared_data, "lion")
    assert fit.status is FitStatus.OK
    assert fit.law is not None
    low, high = fit.law.exponent_interval(RATIO)
    assert low <= -0.527 <= high  # Power Lines, of AdamW
    assert high < 0


def test_marin_adamw_sweeps_do_not(shared_data: Path) -> None:
    """One factor, three values with 0 among them: five scales bracketed, two at an edge, and no law out of it."""
    fit = marin(shared_data, "adamw")
    assert fit.law is None
    words = " ".join(map(tell, fit.sentences))
    assert "fewer than three positive ones do not say where (134M params on 2.68B tokens, " in words
    assert "as large as tried (537M params on 10.7B tokens, 1.21B params on 24.2B tokens)" in words
    assert "5 sweeps with worse neighbours on both sides say only that the best timescale lies above 0.031" in words
    assert words.endswith("with which Power Lines' law agrees in 5")


def marin(shared_data: Path, optimizer: str) -> TimescaleFit:
    with (shared_data / "public" / "marin_optimizer_sweep.csv").open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["optimizer"] == optimizer
            and row["has_result"] == "1"
            and row["changed_param"] in ("baseline", "weight_decay")
        ]
    names = ("n_params", "n_tokens", "batch_size_tokens", "learning_rate", "weight_decay")
    loss = [np.nan if row["diverged"] == "1" else float(row["final_loss"]) for row in rows]
    return fit_timescale(DecayRuns.of(*([float(row[name]) for row in rows] for name in names), loss))


def joined(*parts: DecayRuns) -> DecayRuns:
    names = ("params", "tokens", "batch_tokens", "lr", "weight_decay", "loss")
    return DecayRuns.of(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
