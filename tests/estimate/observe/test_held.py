"""The level of each varying setting that an answer holds at: never an average over levels, never the worst one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lawfit.advise.prediction import recommend
from lawfit.ask import Target
from lawfit.errors import UnknownLevel
from lawfit.estimate.evidence import fit_decay
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.estimate.lr_batch.undetermined import undetermined
from lawfit.estimate.observe.held import Held, hold_settings
from lawfit.estimate.observe.observations import data_hash, observe
from lawfit.factors import asked_levels
from lawfit.findings import Finding, code_of, finding
from lawfit.ingest import IngestOptions, read_file
from lawfit.records import Run, RunStatus
from lawfit.simulate import FurtherTruth, Truth
from lawfit.words import tell
from tests.estimate.made_levels import DECAYS, SCALES, TRUTH, Level, made, with_level
from tests.estimate.simulated import RECIPE, fit_of, sweep

BETAS = (
    Level(value=0.9, lr_factor=0.6, excess=0.01),
    Level(value=0.95),
    Level(value=0.99, lr_factor=1.3, excess=0.002),
)
HALF = Level(value=0.95, excess=0.004, drift=-0.012)  # worse at 20 tokens per parameter, better at 60, and on average
ATTENTION = (Level(value="gqa"), Level(value="mla", lr_factor=0.8, excess=0.002))
ONE_LEVEL = (Level(value=0.1),)


def level_of(held: Held, name: str) -> str:
    (found,) = (setting.level for setting in held.settings if setting.name == name)
    return found


def level(setting: str, value: str) -> Finding:
    return finding("observe.level", setting=setting, level=value)


def held_at(held: Held) -> tuple[list[Finding], Finding]:
    """The levels of the note that says at which the answer holds, and why."""
    (note,) = (note for note in held.notes if code_of(note) == "observe.held")
    return [Finding(**each) for each in note.data["levels"]["data"]["levels"]], Finding(**note.data["why"])


def labelled(runs: Sequence[Run], label: Callable[[Run], dict[str, Any]]) -> list[Run]:
    return [replace(run, extra={**run.extra, **label(run)}) for run in runs]


def crossed() -> list[Run]:
    """Three weight decays by two values of beta2, each a full grid."""
    runs: list[Run] = []
    for decay in DECAYS:
        betas = [
            replace(beta, lr_factor=beta.lr_factor * decay.lr_factor, excess=beta.excess + decay.excess)
            for beta in BETAS[:2]
        ]
        for run in made(betas, column="beta2"):
            runs.append(replace(run, run_key=f"{len(runs)}", weight_decay=decay.value))
    return runs


class TestTheBestLevelIsHeld:
    @pytest.mark.parametrize(
        "levels", list(permutations(DECAYS)), ids=lambda levels: "-".join(str(x.value) for x in levels)
    )
    def test_in_whatever_order_the_runs_come(self, levels: tuple[Level, ...]) -> None:
        """With as many runs at each weight decay, the smallest was taken: 0, which is the worst one here."""
        held = hold_settings(made(levels))
        assert level_of(held, "weight_decay") == "0.1"
        assert {run.weight_decay for run in held.runs} == {0.1}
        bare = [finding("observe.bare_level", level=value) for value in ("0", "0.1", "0.3")]
        why = finding("observe.lowest_losses", levels=bare, lowest=6, compared=6)
        assert held_at(held) == ([level("weight_decay", "0.1")], why)
        assert tell(why) == "of 0, 0.1 and 0.3 its losses are the lowest (at 6 of 6 scales)"

    def test_lowest_at_exactly_half_of_the_scales_is_not_most(self) -> None:
        """Three scales of 20 tokens per parameter where 0.95 is worse, three of 60 where it is better by more."""
        held = hold_settings(made((Level(value=0.9), HALF), column="beta2"))
        assert level_of(held, "beta2") == "0.95"
        _, why = held_at(held)
        assert (why.data["lowest"], why.data["compared"]) == (3, 6)
        assert tell(why) == "of 0.9 and 0.95 its losses are the lowest on average (at 3 of 6 scales)"

    @pytest.mark.parametrize(
        "shares", [(1.0, 0.4, 0.7), (0.5, 0.4, 1.0), (0.4, 1.0, 0.4)], ids=lambda shares: " ".join(map(str, shares))
    )
    def test_however_many_runs_each_has(self, shares: tuple[float, ...]) -> None:
        runs = made([replace(level, share=share) for level, share in zip(DECAYS, shares, strict=True)])
        assert level_of(hold_settings(runs), "weight_decay") == "0.1"

    @pytest.mark.parametrize(
        ("column", "levels", "best"),
        [
            ("beta2", BETAS, "0.95"),
            ("attention", ATTENTION, "gqa"),
            ("a_word_of_their_own", ATTENTION, "gqa"),
            ("optimizer.beta2", BETAS, "0.95"),
            ("use_bias", (Level(value=True, excess=0.004), Level(value=False)), "false"),
        ],
    )
    def test_of_any_setting(self, column: str, levels: tuple[Level, ...], best: str) -> None:
        held = hold_settings(made(levels, column=column))
        assert level_of(held, column) == best
        assert len(held.runs) == 240

    def test_of_two_settings_at_once(self) -> None:
        held = hold_settings(crossed())
        assert [(setting.name, setting.level) for setting in held.settings] == [
            ("weight_decay", "0.1"),
            ("beta2", "0.95"),
        ]
        assert len(held.runs) == 240

    def test_more_runs_have_no_better_luck(self) -> None:
        """The lowest of many noisy losses is lower than that of few: levels are compared where both were run."""
        noisy = replace(TRUTH, noise=0.01)
        wins = 0
        for seed in range(20):
            runs = made([Level(value=0.9, share=0.3), Level(value=0.95)], column="beta2", truth=noisy, seed=seed)
            wins += level_of(hold_settings(runs), "beta2") == "0.9"
        assert 4 <= wins <= 16  # of two equal levels each is as good: a fair coin falls outside once in 400

    def test_every_run_is_used_or_listed_with_the_level_and_why(self) -> None:
        runs = made(DECAYS)
        found = observe(runs)
        assert found.runs_used + len(found.rejected) == len(runs)
        (reason,) = set(dict(found.rejected).values())
        assert code_of(reason) == "observe.another_level"
        assert reason.data == {
            "setting": "weight_decay",
            "others": ["0", "0.3"],
            "level": "0.1",
            "why": reason.data["why"],
        }
        assert code_of(reason.data["why"]) == "observe.lowest_losses"
        assert tell(reason).startswith("weight decay is 0 or 0.3; this fit uses the runs with 0.1: of 0, 0.1 and 0.3 ")

    def test_the_answer_is_that_of_the_level(self) -> None:
        """Two levels whose best learning rates lie a factor 3 apart: nothing in between, and not that of the other."""
        params, tokens = SCALES[-1]
        fit = fit_of(made(DECAYS), FitOptions(backtest=False))
        answer = recommend(fit, RECIPE, Target(params=params, tokens=tokens))
        assert answer["recommendation"]["lr"]["value"] == pytest.approx(TRUTH.optimum(params, tokens)[0], rel=0.12)
        assert [(s["name"], s["level"]) for s in answer["settings"]] == [("weight_decay", "0.1")]
        assert "observe.held" in map(code_of, answer["warnings"])


class TestRunsEnough:
    def test_a_level_of_one_learning_rate_cannot_carry_a_fit_and_that_it_is_better_is_said(self) -> None:
        runs = made([DECAYS[0], replace(DECAYS[1], rates=(4,), batches=(2,))])
        held = hold_settings(runs)
        assert level_of(held, "weight_decay") == "0"
        (note,) = (note.data for note in held.notes if code_of(note) == "observe.better_elsewhere")
        assert note["levels"]["data"]["levels"] == [level("weight_decay", "0.1").to_json()]
        assert (note["lowest"], note["compared"]) == (6, 6)
        assert 0.01 <= note["loss_fraction"] < 0.02

    @pytest.mark.parametrize("drift", [HALF.drift, 0.0], ids=["at half of the scales", "at all"])
    def test_only_what_is_better_at_most_scales_is_said(self, drift: float) -> None:
        few = replace(HALF, rates=(4,), batches=(2,), drift=drift, excess=HALF.excess if drift else -HALF.excess)
        held = hold_settings(made((Level(value=0.9), few), column="beta2"))
        assert level_of(held, "beta2") == "0.9"
        assert ("observe.better_elsewhere" in map(code_of, held.notes)) == (drift == 0.0)

    def test_half_the_learning_rates_can(self) -> None:
        runs = made([DECAYS[0], replace(DECAYS[1], rates=(1, 3, 5, 7))])
        assert level_of(hold_settings(runs), "weight_decay") == "0.1"

    def test_scales_without_the_level_are_counted(self) -> None:
        runs = made(DECAYS) + [replace(r, run_key=f"x{r.run_key}") for r in made(DECAYS[:1], scales=[(4e8, 8e9)])]
        (note,) = (note for note in hold_settings(runs).notes if code_of(note) == "observe.scales_lost")
        assert note.data["scales"] == 1
        assert tell(note) == "left out for want of runs at weight decay 0.1: 1 scale"


class TestNotStated:
    """Weight decay given for some runs only: what is not stated is a level of its own."""

    @pytest.mark.parametrize(
        ("levels", "kept"),
        [((Level(value=None, excess=0.01), DECAYS[1]), 0.1), ((Level(value=None), DECAYS[2]), None)],
        ids=["known is better", "unknown is better"],
    )
    def test_at_the_same_scales(self, levels: tuple[Level, ...], kept: float | None) -> None:
        held = hold_settings(made(levels))
        assert {run.weight_decay for run in held.runs} == {kept}
        assert len(held.runs) == 240
        reason = dict(held.rejected).popitem()[1].data
        assert "unknown" in (*reason["others"], reason["level"])

    def test_at_other_scales(self) -> None:
        silent = [replace(run, run_key=f"s{run.run_key}") for run in made([Level(value=None)], scales=SCALES[:2])]
        held = hold_settings([*silent, *made(ONE_LEVEL, scales=SCALES[2:])])
        assert {run.weight_decay for run in held.runs} == {0.1}
        (note,) = (note for note in held.notes if code_of(note) == "observe.scales_lost")
        assert note.data["scales"] == 2

    def test_another_setting_that_some_files_do_not_state_costs_no_scale(self) -> None:
        """Two files joined, the second without a column for the width: width follows the size of a model."""
        wide = labelled(made(ONE_LEVEL, scales=SCALES[:4]), lambda run: {"width": round(run.params**0.4)})
        plain = [replace(run, run_key=f"p{run.run_key}") for run in made(ONE_LEVEL, scales=SCALES[4:])]
        assert len(hold_settings([*wide, *plain]).runs) == 240


class TestWhatIsNoSetting:
    @pytest.mark.parametrize(
        "label",
        [
            lambda run: {"bits_per_byte": run.loss / math.log(2)},
            lambda run: {"wandb_name": f"run-{run.run_key}"},
            lambda run: {"a_result_of_theirs": round(10 * run.loss, 1)},
            lambda run: {"data_seed": run.seed},
            lambda run: {"hostname": f"node{int(run.run_key) % 3}"},
            lambda run: {"width": round(run.params**0.4), "n_layers": round(run.params**0.15)},
            lambda run: {"warmup_steps": round(0.01 * run.tokens / run.batch_tokens)},
            lambda run: {"min_lr": 0.1 * run.lr},
            lambda run: {"warmup_tokens_of_theirs": round(1e4 * run.lr * run.tokens / run.batch_tokens)},
            lambda run: {"betas": [0.9, 0.95]},
        ],
        ids=["metric", "name", "rounded metric", "seed", "host", "shape", "warmup", "min lr", "product", "constant"],
    )
    def test_is_not_held(self, label: Callable[[Run], dict[str, Any]]) -> None:
        held = hold_settings(labelled(made(ONE_LEVEL, seeds=2), label))
        assert (len(held.runs), held.settings, held.rejected) == (480, (), ())

    def test_a_column_by_which_losses_do_not_differ_tells_seeds(self) -> None:
        """A label of unknown meaning, given at random: in 19 of 20 sweeps the runs show that it is nothing."""
        kept = 0
        for seed in range(20):
            runs = made(ONE_LEVEL, seeds=2, scales=SCALES[:2])
            places = np.random.default_rng(seed).integers(3, size=len(runs))
            runs = [replace(run, extra={"place": f"room {k}"}) for run, k in zip(runs, places, strict=True)]
            held = hold_settings(runs)
            kept += len(held.runs) == len(runs)
            assert any("place" in tell(note) for note in held.notes)
        assert kept >= 16  # binomial(20, 0.95) is below 16 once in 400

    def test_weight_decay_that_follows_the_learning_rate_is_followed(self) -> None:
        held = hold_settings([replace(run, weight_decay=1e-4 / run.lr) for run in made(ONE_LEVEL)])
        assert len(held.runs) == 240
        assert held.notes == (finding("observe.decay_follows", axes=["lr"]),)
        assert tell(held.notes[0]) == "weight decay follows the learning rate in these runs, and so does the answer"

    def test_weight_decay_that_differs_between_scales_alone_is_said(self) -> None:
        held = hold_settings([replace(run, weight_decay=0.1 if run.params < 1e8 else 0.05) for run in made(ONE_LEVEL)])
        assert len(held.runs) == 240
        (note,) = held.notes
        assert code_of(note) == "observe.between_scales"
        at = [(row["data"]["level"], row["data"]["scales"]) for row in note.data["levels"]]
        assert (note.data["setting"], at) == ("weight_decay", [("0.05", 2), ("0.1", 4)])

    def test_a_random_search_keeps_all_runs_and_says_so(self, rng: np.random.Generator) -> None:
        """Every run has a weight decay of its own: one of them alone was a fit of one run."""
        held = hold_settings([replace(run, weight_decay=float(10 ** rng.uniform(-3, 0))) for run in made(ONE_LEVEL)])
        assert len(held.runs) == 240
        assert held.notes[0] == finding("observe.no_level_shared", setting="weight_decay", levels=240)

    def test_three_weight_decays_in_a_random_search_are_levels(self, rng: np.random.Generator) -> None:
        runs = []
        for k, run in enumerate(made(ONE_LEVEL)):
            level = DECAYS[k % 3]
            assert run.loss is not None
            lr = run.lr * float(np.exp(rng.uniform(-0.2, 0.2)))
            runs.append(replace(run, lr=lr, weight_decay=level.value, loss=run.loss * math.exp(level.excess)))
        assert level_of(hold_settings(runs), "weight_decay") == "0.1"


class TestHeldScaleByScale:
    def test_two_shapes_of_one_count_need_no_level(self) -> None:
        """A deep and a wide model share a parameter count: no seeds of each other, and no levels: two sizes."""
        runs = labelled(made(ONE_LEVEL), lambda run: {"n_layers": round(run.params**0.15)})
        params, tokens = SCALES[0]
        deep = made([Level(value=0.1, excess=-0.003)], scales=[(params, tokens)], seed=5)
        deep = [replace(run, run_key=f"deep{run.run_key}", extra={"n_layers": 40}) for run in deep]
        held = hold_settings([*runs, *deep])
        assert len(held.runs) == 280
        assert not held.rejected
        assert observe([*runs, *deep]).n_cells == observe(runs).n_cells + 1

    def test_a_sweep_of_one_factor_at_a_time_around_a_base_of_each_scale(self) -> None:
        """The base differs from scale to scale: none of its levels is that of the sweep, and no scale is lost."""
        runs = []
        for k, scale in enumerate(SCALES):
            base = {"weight_decay": (0.1, 0.2)[k % 2], "beta2": (0.95, 0.98)[k // 3]}
            mine = made([Level(value=base["beta2"])], column="beta2", scales=[scale])
            middle = [run for run in mine if run.lr == mine[22].lr and run.batch_tokens == mine[22].batch_tokens]
            aside = [replace(run, extra={"beta2": 0.9}) for run in middle]
            aside += [replace(run, weight_decay=0.0) for run in middle]
            at_base = [replace(run, weight_decay=run.weight_decay or base["weight_decay"]) for run in mine]
            aside = [run if run.weight_decay == 0 else replace(run, weight_decay=base["weight_decay"]) for run in aside]
            runs += [replace(run, run_key=f"{k} {j}") for j, run in enumerate([*at_base, *aside])]
        held = hold_settings(runs)
        assert len({(run.params, run.tokens) for run in held.runs}) == len(SCALES)
        assert len(held.runs) == len(SCALES) * 40
        assert {setting.level for setting in held.settings} == {""}


class TestAsked:
    def test_the_level_that_is_asked_for_is_held(self) -> None:
        runs = crossed()
        for at, decay, beta in ((["beta2=0.9"], 0.1, 0.9), (["wd=.3"], 0.3, 0.95), (["beta2=.90", "wd=0"], 0.0, 0.9)):
            held = hold_settings(runs, at)
            assert {(run.weight_decay, run.extra["beta2"]) for run in held.runs} == {(decay, beta)}
            assert code_of(held.notes[0]) == "observe.held_as_asked"
            assert {code_of(reason) for _, reason in held.rejected} >= {"observe.not_as_asked"}

    def test_a_level_that_all_runs_have_is_held_without_a_word(self) -> None:
        held = hold_settings(made([BETAS[1]], column="beta2"), ["beta2=0.95"])
        assert (len(held.runs), held.settings, held.notes) == (240, (), ())

    @pytest.mark.parametrize(
        ("at", "data"),
        [
            (["beta2=0.5"], {"setting": "beta2", "level": "0.5", "levels": ["0.9", "0.95"]}),
            (
                ["weight_decay=0.2", "beta2=0.9"],
                {"setting": "weight_decay", "level": "0.2", "levels": ["0", "0.1", "0.3"]},
            ),
            (["beta3=1"], {"name": "beta3", "axis": None, "varying": ["weight_decay", "beta2"]}),
            (["lr=0.001"], {"name": "lr", "axis": "lr", "varying": ["weight_decay", "beta2"]}),
        ],
    )
    def test_a_level_without_runs_is_refused_with_the_levels_there_are(
        self, at: list[str], data: dict[str, Any]
    ) -> None:
        with pytest.raises(UnknownLevel) as caught:
            hold_settings(crossed(), at)
        assert caught.value.finding.data == data
        assert code_of(caught.value.finding) == ("observe.no_setting" if "name" in data else "observe.no_level")

    @pytest.mark.parametrize(
        ("at", "words"),
        [
            ("beta2=0.5", "no run has beta2 0.5; there is 0.9 and 0.95"),
            ("beta3=1", "no run says its 'beta3', .*; settings that vary here: weight_decay, beta2"),
            ("lr=0.001", "'lr' is the learning rate, no setting held fixed"),
        ],
    )
    def test_such_a_refusal_in_words(self, at: str, words: str) -> None:
        with pytest.raises(UnknownLevel, match=words):
            hold_settings(crossed(), [at])

    def test_levels_that_never_met_are_refused_with_those_that_did(self) -> None:
        runs = [run for run in crossed() if run.weight_decay != 0.3 or run.extra["beta2"] == 0.95]
        with pytest.raises(UnknownLevel, match=r"there is 0.95 \(beside weight decay 0.3, as asked for\)") as caught:
            hold_settings(runs, ["weight_decay=0.3", "beta2=0.9"])
        assert code_of(caught.value.finding) == "observe.no_level_beside"
        assert caught.value.finding.data["why"]["data"]["levels"] == ["0.95"]

    @pytest.mark.parametrize(
        ("at", "words"),
        [
            (["beta2=0.9", "beta2=0.95"], "beta2 is asked for at two levels, 0.9 and 0.95"),
            (["wd=0.1", "weight_decay=0.3"], "weight_decay is asked for at two levels"),
            (["beta2"], "NAME=VALUE"),
            (["=0.9"], "NAME=VALUE"),
            (["beta2="], "NAME=VALUE"),
        ],
    )
    def test_what_contradicts_itself_or_cannot_be_read_is_a_mistake(self, at: list[str], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            asked_levels(at)

    def test_the_same_twice_is_once(self) -> None:
        assert asked_levels(["beta2=0.95", "beta2=.950"]) == (("beta2", "0.95"),)


def along_timescale(further: FurtherTruth, decays: Sequence[float], truth: Truth = TRUTH) -> list[Run]:
    """Grids whose loss depends on weight decay through the timescale, as AdamW's does."""
    runs: list[Run] = []
    for run in made(ONE_LEVEL, truth=truth):
        best = further.best_timescale(run.params, run.tokens)
        for decay in decays:
            tau = run.batch_tokens / (run.lr * decay * run.tokens)
            assert run.loss is not None
            excess = further.timescale_stiffness * math.log(tau / best) ** 2
            runs.append(
                replace(run, run_key=f"{len(runs)}", weight_decay=decay, loss=run.loss * math.exp(min(excess, 1.0)))
            )
    return runs


class TestAdvised:
    """Where the runs carry a law of weight decay, the level is the one nearest to its advice at the largest scale."""

    @pytest.mark.parametrize(("timescale", "expected"), [(0.02, 0.3), (0.05, 0.1)])
    def test_the_nearest_to_the_advice_at_the_largest_scale(self, timescale: float, expected: float) -> None:
        # the best weight decay falls fast with tokens per parameter: the small scales want more than the largest
        further = FurtherTruth(timescale=timescale, timescale_exponent=0.4, timescale_stiffness=0.02)
        runs = along_timescale(further, (0.03, 0.1, 0.3, 1.0))
        law = fit_decay(runs).fit
        assert law is not None
        held = hold_settings(runs)
        chosen = float(level_of(held, "weight_decay"))
        params, tokens = SCALES[-1]
        apart = {}  # each level against the advice at its own best run
        for decay in {run.weight_decay for run in runs}:
            mine = [r for r in runs if (r.params, r.tokens, r.weight_decay) == (params, tokens, decay)]
            best = min(mine, key=lambda run: run.loss or math.inf)
            advised = law.predict(params, tokens, best.batch_tokens, best.lr).weight_decay
            apart[decay] = abs(math.log((decay or math.nan) / advised))
        assert chosen == min(apart, key=apart.__getitem__) == expected
        _, why = held_at(held)
        advice = why if code_of(why) == "observe.nearest_to_advice" else Finding(**why.data["findings"][0])
        assert (advice.data["params"], advice.data["tokens"]) == (params, tokens)
        assert tell(advice).endswith("the law of weight decay advises at 180M parameters on 10.8B tokens")
        assert hold_settings(runs, decay_law=law).settings == held.settings  # a law given is the law fitted

    def test_the_level_of_the_highest_losses_is_never_the_advice(self) -> None:
        further = FurtherTruth(timescale=0.05, timescale_exponent=0.4, timescale_stiffness=0.02)
        runs = along_timescale(further, (0.03, 0.1, 0.3, 1.0))
        advised = level_of(hold_settings(runs), "weight_decay")
        law = fit_decay(runs).fit
        spoilt = [replace(r, loss=1.1 * (r.loss or 1)) if f"{r.weight_decay:g}" == advised else r for r in runs]
        assert level_of(hold_settings(spoilt, decay_law=law), "weight_decay") != advised


class TestIdentity:
    def test_the_order_of_rows_and_columns_does_not_matter(self, rng: np.random.Generator) -> None:
        runs = labelled(crossed(), lambda run: {"attention": "gqa" if int(run.run_key) % 2 else "mla", "z": 1})
        mixed = [
            replace(runs[i], extra=dict(sorted(runs[i].extra.items(), key=lambda _: rng.random())))
            for i in rng.permutation(len(runs))
        ]
        one, other = hold_settings(runs), hold_settings(mixed)
        assert one.settings == other.settings
        assert {run.run_key for run in one.runs} == {run.run_key for run in other.runs}

    def test_the_hash_of_the_data_holds_what_the_choice_depends_on(self) -> None:
        runs = made(BETAS, column="beta2", scales=SCALES[:1])
        other = [with_level(runs[0], "beta2", 0.97), *runs[1:]]
        assert data_hash(runs) != data_hash(other)
        measured = [replace(runs[0], extra={**runs[0].extra, "bits_per_byte": 1.0}), *runs[1:]]
        assert data_hash(runs) == data_hash(measured)

    def test_held_runs_hold_no_more_to_choose(self) -> None:
        once = hold_settings(crossed())
        again = hold_settings(once.runs)
        assert (again.runs, again.settings) == (once.runs, ())

    def test_a_fit_made_of_scales_knows_its_level(self) -> None:
        found = observe(made(DECAYS))
        assert found.subset([0, 2]).settings == found.settings


class TestTiedLearningRate:
    def test_a_rule_from_batch_to_learning_rate_leaves_it_open(self) -> None:
        by_batch: dict[tuple[float, float, float], Run] = {}
        for run in made(ONE_LEVEL):
            by_batch.setdefault((run.params, run.tokens, run.batch_tokens), run)
        tied = [replace(run, lr=1e-5 * run.batch_tokens**0.5) for run in by_batch.values()]
        why = undetermined(observe(tied))["lr"]
        assert code_of(why) == "lr_batch.tied"
        assert why.data["batch_exponent"] == pytest.approx(0.5)
        assert "as batch^0.5); what is said of it comes from published laws" in tell(why)

    @pytest.mark.parametrize("batches", [None, (2,)], ids=["grid", "one batch"])
    def test_a_sweep_of_learning_rates_does_not(self, batches: tuple[int, ...] | None) -> None:
        assert undetermined(observe(made([Level(value=0.1, batches=batches)]))) == {}


def case(shared_data: Path, name: str, **options: Any) -> list[Run]:
    (sweep,) = read_file(shared_data / "cases" / name, IngestOptions(**options)).sweeps
    return list(sweep.runs)


class TestRealTables:
    def test_batch_by_beta2_with_the_learning_rate_tied_to_the_batch(self, shared_data: Path) -> None:
        """c24: 64 sequences are best at the best beta2 (0.9722 against 0.9725 at 128), and no learning rate is."""
        columns = {"batch_size": "batch_sequences", "eval/paloma/c4_en/bpb": "loss"}
        found = observe(case(shared_data, "c24_batch_by_beta2_bpb.csv", column_map=columns))
        assert [(setting.name, setting.level) for setting in found.settings] == [("beta2", "0.995")]
        assert found.seeds.max() == 1
        larger = found.rows_of(1)
        best = larger.start + int(found.log_loss[larger].argmin())
        assert np.exp(found.log_batch[best]) / 4096 == pytest.approx(64)
        assert np.exp(found.log_loss[best]) == pytest.approx(0.9722)
        assert undetermined(found)["lr"].data["batch_tokens"] == pytest.approx(262_144)

    def test_two_kinds_of_attention_are_no_seeds(self, shared_data: Path) -> None:
        """c06b, the differing column under its own name and under one that says nothing."""
        columns = {"batch_size": "batch_sequences", "eval/paloma/macro_loss": "loss"}
        runs = case(shared_data, "c06b_lr_absolute.csv", column_map=columns)
        strange = [replace(run, extra={"of_theirs": run.extra["attention"]}) for run in runs]
        for table, name in ((runs, "attention"), (strange, "of_theirs")):
            assert level_of(hold_settings(table), name) == "gqa"
            assert {r.extra[name] for r in hold_settings(table, [f"{name}=mla"]).runs} == {"mla"}

    def test_four_designs_of_one_total_size_are_no_seeds(self, shared_data: Path) -> None:
        """c09: the name stands for the numbers that go with it."""
        options: dict[str, Any] = {"batch_unit": "sequences", "column_map": {"N": "params"}}
        runs = case(shared_data, "c09_sparse_designs_share_total_params.csv", **options)
        (setting,) = hold_settings(runs).settings
        assert setting.name == "moe_name"
        assert {"topk", "num_experts", "Na"} == set(setting.also)
        assert len(hold_settings(runs).runs) == len(runs) / 4

    @pytest.mark.parametrize("name", ["step_law_dense.csv", "step_law_more_scales.csv"])
    def test_a_grid_of_one_recipe_is_used_whole(self, shared_data: Path, name: str) -> None:
        (sweep,) = read_file(shared_data / "public" / name).sweeps
        held = hold_settings(sweep.runs)
        assert (len(held.runs), held.settings, held.notes) == (len(sweep.runs), (), ())

    def test_a_sweep_of_one_factor_at_a_time_loses_no_scale(self, shared_data: Path) -> None:
        (sweep,) = (
            s
            for s in read_file(shared_data / "public" / "marin_optimizer_sweep.csv").sweeps
            if s.recipe.name.endswith("-adamw")
        )
        held = hold_settings([run for run in sweep.runs if run.status is RunStatus.FINISHED])
        scales = {(run.params, run.tokens) for run in sweep.runs}
        assert {(run.params, run.tokens) for run in held.runs} == scales
        for scale in scales:  # one level of everything inside a scale
            mine = [run for run in held.runs if (run.params, run.tokens) == scale]
            for name in ("beta1", "beta2", "epsilon", "max_grad_norm", "warmup_steps"):
                assert len({run.extra[name] for run in mine}) == 1
            assert len({run.weight_decay for run in mine}) == 1


class TestRepeatedText:
    """Runs that read their text several times stand at the scale of fresh ones, and are no runs of it."""

    @staticmethod
    def runs(column: str, value: Callable[[Run], Any]) -> tuple[list[Run], list[Run]]:
        fresh = sweep().runs
        again = [replace(run, run_key=f"again {run.run_key}", lr=2 * run.lr) for run in fresh]
        return labelled(fresh, lambda run: {column: run.tokens if "nique" in column else 1}), labelled(
            again, lambda run: {column: value(run)}
        )

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("unique_tokens", lambda run: run.tokens / 8),
            ("config.Unique Tokens", lambda run: f"{run.tokens / 8:.6g}"),
            ("epochs", lambda _: 4),
            ("num_epochs", lambda _: "2.5"),
        ],
    )
    def test_fresh_runs_are_held(self, column: str, value: Callable[[Run], Any]) -> None:
        fresh, again = self.runs(column, value)
        for mixed in ([*fresh, *again], [*again, *fresh]):
            held = hold_settings(mixed)
            assert {run.run_key for run in held.runs} == {run.run_key for run in fresh}
            assert {key for key, _ in held.rejected} == {run.run_key for run in again}
            assert {code_of(reason) for _, reason in held.rejected} == {"observe.repeats"}
            assert finding("observe.read_once", again=len(again)) in held.notes

    def test_where_nearly_all_runs_repeat_they_are_the_sweep(self) -> None:
        fresh, again = self.runs("unique_tokens", lambda run: run.tokens / 8)
        one = [run for run in fresh if (run.params, run.tokens) == (fresh[0].params, fresh[0].tokens)]
        held = hold_settings([*again, *one])
        assert len(held.runs) == len(again) + len(one)
        assert finding("observe.fresh_are_few", again=len(again), runs=len(held.runs)) in held.notes

    def test_asked_for_they_are_taken(self) -> None:
        fresh, again = self.runs("epochs", lambda _: 4)
        held = hold_settings([*fresh, *again], ("epochs=4",))
        assert {run.run_key for run in held.runs} == {run.run_key for run in again}

    def test_a_little_more_than_once_is_once(self) -> None:
        fresh, again = self.runs("unique_tokens", lambda run: run.tokens / 1.01)
        assert not hold_settings([*fresh, *again]).rejected

    @pytest.mark.parametrize(("said", "noted"), [("many", True), (-5, True), (0, True), ("nan", False), ("", False)])
    def test_what_is_no_number_is_said(self, said: Any, noted: bool) -> None:
        held = hold_settings(labelled(sweep().runs, lambda _: {"unique_tokens": said}))
        assert ("observe.repeats_no_number" in map(code_of, held.notes)) == noted
