"""Runs to observations: what is merged, what is kept apart, what is rejected, and that nothing goes unsaid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lawfit.errors import NotEnoughData
from lawfit.estimate.observe.observations import data_hash, observe, summarise_rejections
from lawfit.findings import code_of, finding
from lawfit.records import Run
from lawfit.words import tell
from tests.estimate.simulated import nine_scales, run, sweep


def cells_of(runs: list[Run]) -> list[tuple[float, float]]:
    found = observe(runs)
    return list(zip(found.params.tolist(), found.tokens.tolist(), strict=True))


def test_seeds_are_merged_by_mean_log_loss() -> None:
    found = observe([run("a", 1e-3, 1e5, 2.0, seed=0), run("b", 1e-3, 1e5, 8.0, seed=1), run("c", 2e-3, 1e5, 3.0)])
    np.testing.assert_allclose(np.exp(found.log_loss), [4.0, 3.0], rtol=1e-12)  # geometric mean
    np.testing.assert_array_equal(found.seeds, [2, 1])
    assert found.runs_used == 3
    assert found.seed_sd is None  # one repeat cannot tell a spread


def test_seed_sd_is_the_pooled_one(rng: np.random.Generator) -> None:
    losses = np.exp(rng.normal(1.0, 0.01, size=(6, 4)))
    runs = [
        run(f"{i}-{j}", 1e-3 * 2**i, 1e5, float(x), seed=j) for i, row in enumerate(losses) for j, x in enumerate(row)
    ]
    pooled = np.sqrt(np.log(losses).var(axis=1, ddof=1).mean())
    assert observe(runs).seed_sd == pytest.approx(pooled, rel=1e-9)


def test_seed_sd_of_each_cell_is_pooled_over_its_better_half(rng: np.random.Generator) -> None:
    found, expected = [], []
    for cell, sd in enumerate((0.01, 0.05)):
        noise = rng.normal(0.0, sd, size=(6, 3))
        losses = np.exp(1.0 + 0.5 * np.arange(6)[:, None] + noise)  # the order of the settings is beyond doubt
        found += [
            run(f"{cell}{i}{j}", 1e-3 * 2**i, 1e5, float(x), seed=j, params=1e8 * 4**cell)
            for i, row in enumerate(losses)
            for j, x in enumerate(row)
        ]
        expected.append(np.sqrt(np.log(losses[:3]).var(axis=1, ddof=1).mean()))
    np.testing.assert_allclose(observe(found).seed_sd_of_cells(), expected, rtol=1e-9)


def test_seed_sd_of_a_subset_knows_nothing_of_the_rest() -> None:
    quiet = [run(f"q{i}{s}", 1e-3 * 2**i, 1e5, 3.0 + 0.001 * s, seed=s) for i in range(4) for s in range(2)]
    loud = [run(f"l{i}{s}", 1e-3 * 2**i, 1e5, 3.0 + s, seed=s, params=1e9) for i in range(4) for s in range(2)]
    assert observe(quiet + loud).subset([0]).seed_sd == pytest.approx(observe(quiet).seed_sd)


@pytest.mark.parametrize(
    ("first", "second", "settings"),
    [(0.002760, 0.002762, 1), (0.002760, 0.002764, 1), (0.002760, 0.002770, 2), (0.00276, 0.00391, 2)],
)
def test_learning_rates_printed_two_ways_are_one(first: float, second: float, settings: int) -> None:
    assert len(observe([run("a", first, 1e5, 3.0), run("b", second, 1e5, 3.1)]).log_lr) == settings


def test_random_search_does_not_chain_into_one_setting(rng: np.random.Generator) -> None:
    """1,000 learning rates over a factor 7 lie 0.2 % apart: neighbours are close, the ends are not."""
    rates = np.exp(np.sort(rng.uniform(np.log(1e-3), np.log(7e-3), 1000)))
    found = observe([run(f"{i}", float(lr), 1e5, 3.0) for i, lr in enumerate(rates)])
    np.testing.assert_allclose(found.log_lr.min(), np.log(rates[0]), atol=0.002)
    np.testing.assert_allclose(found.log_lr.max(), np.log(rates[-1]), atol=0.002)
    nearest = np.abs(np.log(rates)[:, None] - found.log_lr[None, :]).min(axis=1)
    assert nearest.max() <= 0.002
    assert found.seeds.sum() == 1000


@pytest.mark.parametrize(
    ("tokens", "cells"), [((2e9, 2.01e9), 1), ((2e9, 2.03e9), 1), ((2e9, 2.2e9), 2)], ids=["0.5%", "1.5%", "10%"]
)
def test_tokens_rounded_to_whole_steps_are_one_scale(tokens: tuple[float, float], cells: int) -> None:
    runs = [run(f"{i}", 1e-3 * (i + 1), 1e5, 3.0, tokens=t) for i, t in enumerate(tokens)]
    assert len(cells_of(runs)) == cells


def test_params_that_differ_by_a_norm_layer_are_one_size() -> None:
    runs = [
        run("a", 1e-3, 1e5, 3.0, params=1e8),
        run("b", 2e-3, 1e5, 3.1, params=1.001e8),
        run("c", 1e-3, 1e5, 3.0, params=1.1e8),
    ]
    assert len(cells_of(runs)) == 2


def test_scales_keep_readable_numbers() -> None:
    assert cells_of([run("a", 1e-3, 1e5, 3.0, params=2e7, tokens=2e8)]) == [(2e7, 2e8)]


def test_scale_of_a_great_run_does_not_overflow() -> None:
    found = observe([run("a", 1e-3, 1e6, 2.0, params=1e12, tokens=int(5e13), steps=10**8)])
    assert found.params[0] * found.tokens[0] == pytest.approx(5e25, rel=1e-9)  # int64 ends at 9.2e18


class TestDivergence:
    def test_a_minority_is_noted_and_the_others_count(self) -> None:
        runs = [run("a", 1e-3, 1e5, 3.0), run("b", 1e-3, 1e5, 3.0), run("c", 1e-3, 1e5, None)]
        found = observe(runs)
        assert (len(found.log_loss), len(found.diverged_log_lr)) == (1, 0)
        assert found.seeds[0] == 2
        assert (found.runs_used, found.runs_diverged) == (3, 1)
        assert found.notes == (finding("observe.partly_diverged", settings=1),)

    def test_half_of_the_seeds_is_a_diverged_setting(self) -> None:
        runs = [run("a", 1e-3, 1e5, 3.0), run("b", 2e-3, 1e5, 3.0), run("c", 2e-3, 1e5, None)]
        found = observe(runs)
        np.testing.assert_allclose(np.exp(found.log_lr), [1e-3])
        np.testing.assert_allclose(np.exp(found.diverged_log_lr), [2e-3])

    def test_a_scale_where_all_diverged_is_left_out_and_said(self) -> None:
        runs = [run("a", 1e-3, 1e5, 3.0), run("b", 1e-3, 1e5, None, params=1e9), run("c", 2e-3, 1e5, None, params=1e9)]
        found = observe(runs)
        assert found.params.tolist() == [1e8]
        assert (found.runs_used, found.runs_diverged) == (1, 0)
        assert {key for key, _ in found.rejected} == {"b", "c"}
        (note,) = found.notes
        assert (code_of(note), note.data["scales"][0]["data"]["params"]) == ("observe.scales_diverged", 1e9)

    def test_all_diverged_is_no_answer(self) -> None:
        with pytest.raises(NotEnoughData) as caught:
            observe([run("a", 1e-3, 1e5, None), run("b", 2e-3, 1e5, None)])
        assert caught.value.finding == finding("observe.all_diverged", diverged=2)

    def test_half_of_every_setting_is_no_answer_either(self) -> None:
        runs = [run(f"{i}{s}", 1e-3 * 2**i, 1e5, 3.0 if s else None) for i in range(3) for s in range(2)]
        with pytest.raises(NotEnoughData) as caught:
            observe(runs)
        assert caught.value.finding == finding("observe.most_diverged", diverged=3, runs=6)


def test_no_run_at_all_is_no_answer() -> None:
    with pytest.raises(NotEnoughData) as caught:
        observe([])
    assert caught.value.finding == finding("observe.no_usable_run")


def test_excluded_runs_are_rejected_with_their_reason() -> None:
    found = observe([run("a", 1e-3, 1e5, 3.0), run("b", 2e-3, 1e5, 2.0, excluded="node failure")])
    assert found.rejected == (("b", finding("observe.excluded", why="node failure")),)
    assert found.runs_used == 1
    assert np.exp(found.log_loss).tolist() == pytest.approx([3.0])


def test_a_loss_without_logarithm_is_rejected() -> None:
    found = observe([run("a", 1e-3, 1e5, 3.0), run("b", 2e-3, 1e5, -0.5)])
    assert [key for key, _ in found.rejected] == ["b"]


def test_only_a_weight_decay_with_a_sweep_is_used() -> None:
    runs = [run(f"{i}", 1e-3 * 2**i, 1e5, 3.0, weight_decay=0.1) for i in range(3)]
    runs += [run("w", 1e-3, 1e5, 2.0, weight_decay=0.2), run("n", 1e-3, 1e5, 2.0)]
    found = observe(runs)
    assert found.runs_used == 3
    assert dict(found.rejected).keys() == {"w", "n"}
    # one reason for all of them, so that they are one line wherever reasons are counted
    (reason,) = set(dict(found.rejected).values())
    why = finding("observe.only_level")
    others = ["unknown", "0.2"]
    assert reason == finding("observe.another_level", setting="weight_decay", others=others, level="0.1", why=why)
    assert finding("observe.at_these_levels", kept=3, runs=5) in found.notes


def test_many_weight_decays_are_named_by_their_ends() -> None:
    runs = [run(f"{i}", 1e-3, 1e5, 2.9, weight_decay=0.1) for i in range(3)]
    runs += [run(f"w{i}", 1e-3, 1e5, 3.0, weight_decay=0.2 + i / 10) for i in range(8)]
    reason = dict(observe(runs).rejected)["w0"]
    assert reason.data["others"] == [f"{0.2 + i / 10:.12g}" for i in range(8)]
    assert tell(reason).startswith("weight decay is 0.2 to 0.9; this fit")


def test_one_number_in_two_conventions_is_two_weight_decays() -> None:
    """Trap 7: 0.1 coupled to the learning rate and 0.1 independent of it differ by a factor of the learning rate."""
    coupled = [run(f"c{i}", 1e-3 * 2**i, 1e5, 3.0, weight_decay=0.1) for i in range(3)]
    stated = [replace(r, run_key=f"s{r.run_key}", extra={"weight_decay_kind": "coupled"}) for r in coupled]
    other = [replace(r, run_key=f"i{r.run_key}", loss=3.1, extra={"weight_decay_kind": "independent"}) for r in coupled]
    found = observe([*coupled, *stated, *other])
    assert found.runs_used == 6  # not stated is as torch has it: coupled
    (reason,) = set(dict(found.rejected).values())
    assert (reason.data["others"], reason.data["level"]) == (["0.1 (independent)"], "0.1 (coupled)")
    assert code_of(reason.data["why"]) == "observe.lowest_losses"
    without = [replace(r, weight_decay=0.0, loss=3.0) for r in (*stated, *other)]
    assert observe(without).runs_used == 6  # no weight decay is the same in every convention


def test_every_run_is_used_or_rejected(rng: np.random.Generator) -> None:
    runs = list(sweep(missing=0.2, seeds=2).runs)
    runs += [run("x", 1e-3, 1e5, 3.0, excluded="bad"), run("y", 1e-3, 1e5, -1.0)]
    found = observe(runs)
    assert found.runs_used + len(found.rejected) == len(runs)


def test_reasons_are_counted_most_frequent_first() -> None:
    counted = summarise_rejections([("a", "rare"), ("b", "common"), ("c", "common")])
    assert counted == [{"reason": "common", "count": 2}, {"reason": "rare", "count": 1}]


class TestOrder:
    def test_rows_in_any_order_are_the_same_observations(self, rng: np.random.Generator) -> None:
        runs = list(sweep(seeds=2).runs)
        mixed = [runs[i] for i in rng.permutation(len(runs))]
        one, other = observe(runs), observe(mixed)
        np.testing.assert_array_equal(one.cell, other.cell)
        np.testing.assert_allclose(one.log_lr, other.log_lr, rtol=0, atol=1e-14)
        np.testing.assert_allclose(one.log_loss, other.log_loss, rtol=0, atol=1e-14)

    def test_hash_does_not_depend_on_it(self, rng: np.random.Generator) -> None:
        runs = list(sweep().runs)
        assert data_hash(runs) == data_hash([runs[i] for i in rng.permutation(len(runs))])

    @pytest.mark.parametrize(
        "change",
        [
            {"loss": 3.5},
            {"lr": 2e-3},
            {"batch_tokens": 2e5},
            {"excluded": "bad"},
            {"weight_decay": 0.1},
            {"tokens": 3e9},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_hash_depends_on_what_a_fit_sees(self, change: dict[str, object]) -> None:
        values = {"key": "a", "lr": 1e-3, "batch_tokens": 1e5, "loss": 3.0}
        assert data_hash([run(**values)]) != data_hash([run(**{**values, **change})])

    def test_hash_of_runs_with_one_key(self) -> None:
        """A diverged and a finished run of one key: None and a number have no order of their own."""
        runs = [run("a", 1e-3, 1e5, None), run("a", 1e-3, 1e5, 3.0)]
        assert data_hash(runs) == data_hash(runs[::-1])


def test_a_subset_is_what_those_scales_alone_would_give() -> None:
    runs = sweep().runs
    part = nine_scales().subset([1, 4])
    kept = set(zip(part.params.tolist(), part.tokens.tolist(), strict=True))
    alone = observe([r for r in runs if (r.params, r.tokens) in kept])
    for name in (
        "params",
        "tokens",
        "cell",
        "log_lr",
        "log_batch",
        "log_loss",
        "seeds",
        "diverged_cell",
        "diverged_log_lr",
    ):
        np.testing.assert_allclose(getattr(part, name), getattr(alone, name), rtol=0, atol=1e-12, err_msg=name)
    assert (part.runs_used, part.runs_diverged) == (alone.runs_used, alone.runs_diverged)


class TestHorizonsOfFewSteps:
    """A horizon is cut to whole steps: with 15 to 60 of them, runs of one horizon differ by 3 % and more."""

    def runs(
        self, horizons: tuple[float, ...] = (1e6, 4e6), batches: tuple[float, ...] = (2**14, 2**15, 2**16)
    ) -> list[Run]:
        return [
            run(
                f"{t:g} {b} {i}", 1e-3 * 2**i, float(b), 3.0 + 0.01 * (i - 2) ** 2, tokens=float(t // b * b), params=1e6
            )
            for t in horizons
            for b in batches
            for i in range(5)
        ]

    def test_are_one_scale(self) -> None:
        tokens = {r.tokens for r in self.runs((1e6,))}
        assert max(tokens) / min(tokens) > 1.015
        assert len(cells_of(self.runs())) == 2
        # 15, 30 and 61 steps; 7, 15 and 30: each horizon in its place
        assert len(cells_of(self.runs((5e5, 1e6, 2e6)))) == 3

    def test_stay_apart_where_they_are_far_apart(self) -> None:
        assert len(cells_of(self.runs((1e6, 1.3e6)))) == 2
        # with long runs a difference of 3 % is another horizon, as before
        assert len(cells_of(self.runs((1e8, 1.03e8)))) == 2

    def test_runs_of_a_few_steps_do_not_merge_everything(self) -> None:
        """Three steps against four: a step is a third of the run, and no reason to call them equal."""
        runs = [run(f"{k}", 1e-3, 2.0**16, 3.0, tokens=k * 2.0**16, params=1e6) for k in (2, 3, 4, 5, 6)]
        assert len(cells_of(runs)) == 5

    def test_order_of_the_runs_does_not_matter(self, rng: np.random.Generator) -> None:
        runs = self.runs((5e5, 1e6, 2e6, 4e6))
        shuffled = [runs[i] for i in rng.permutation(len(runs))]
        assert cells_of(shuffled) == cells_of(runs)
