"""The planner: its algebra against brute force, what it promises of runs against simulated ones, and its refusals."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
import pytest
from scipy.optimize import least_squares

from lawfit import pipeline
from lawfit.advise.draws import known_of, law_row, moments
from lawfit.advise.members import members_of
from lawfit.ask import NextQuestion, Target
from lawfit.documents.next_runs import NextRuns
from lawfit.errors import NotEnoughData
from lawfit.estimate.lr_batch.valley import excess
from lawfit.estimate.numerics.shapes import Exponentials
from lawfit.findings import Finding
from lawfit.planner import choose as choosing
from lawfit.planner import information as told_by
from lawfit.planner.choose import Asked, State, told_by_fit
from lawfit.planner.information import Design, Valley, information, seen_through
from lawfit.planner.knowledge import PARTS, Knowledge, of_fit, of_nothing
from lawfit.planner.means import read_means
from lawfit.planner.next_runs import LITTLE, Limits, next_runs, what_is_known
from lawfit.planner.pace import START_SECONDS
from lawfit.planner.planned import not_there, planned_of, rows_of, with_runs
from lawfit.records import Fit, Run, RunStatus
from lawfit.storage import Store
from lawfit.units import training_flops
from lawfit.words import tell
from tests.golden_stores import fitted

TARGET = Target(params=2e9, tokens=6e10)


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Of five sizes that deviate, two seeds each."""
    with fitted("five_sizes") as store:
        return next(each for each in store.fits() if each.kind == "lr_batch")


@pytest.mark.parametrize("scale", [(2e9, 6e10), (4e7, 1e9)])
def test_a_fit_is_known_as_its_answers_know_it(fit: Fit, scale: tuple[float, float]) -> None:
    """Mean and covariance of a scale's optimum: those of the choices, mixed, as `advise.draws` has them."""
    model = fit.payload["model"]
    known = of_fit(model)
    weights = np.array([member["weight"] for member in model["members"]])
    weights = weights / weights.sum()
    x, (where, place) = law_row(model, *scale), known_of(model, *scale)
    centres, of_law, own = moments(members_of(model), x, where, place)
    mean = weights @ centres
    cov = np.tensordot(weights, of_law + own, axes=1)
    cov += ((centres - mean).T * weights) @ (centres - mean)
    row = known.row(*scale)
    assert known.optimum(*scale) == pytest.approx(mean, abs=1e-9)
    assert row @ known.cov @ row.T + known.own_var(scale[0]) == pytest.approx(cov, abs=1e-9)


def test_what_is_told_is_what_conditioning_says() -> None:
    """Two measurements of rows of a Gaussian, against the textbook's formula through the precision matrix."""
    known = of_nothing(1e9, 2e10).with_sizes([1e7, 3e7])
    precision = np.linalg.inv(known.cov)
    for scale, sd in (((1e7, 4e8), 0.1), ((3e7, 2e9), 0.2)):
        row, told = known.row(*scale), np.array([[1.0, 0.3], [0.3, 2.0]]) / sd**2
        known = known.told(row, told)
        precision = precision + row.T @ told @ row
    assert known.cov == pytest.approx(np.linalg.inv(precision), rel=1e-6, abs=1e-9)


def test_a_scale_of_its_own_hides_what_its_runs_tell() -> None:
    """However many runs, of the law a scale tells no more than its own deviation lets through."""
    own = np.diag([0.04, 0.09])
    assert seen_through(1e9 * np.eye(2), own) == pytest.approx(np.linalg.inv(own), rel=1e-5)
    assert seen_through(np.zeros((2, 2)), own) == pytest.approx(np.zeros((2, 2)))
    told = np.array([[5.0, 1.0], [1.0, 3.0]])
    assert np.linalg.inv(seen_through(told, own)) == pytest.approx(np.linalg.inv(told) + own)


@pytest.mark.parametrize(
    "design",
    [
        Design(rates=5, batches=4, lr_step=2.0, batch_step=2.0),
        Design(rates=3, batches=3, lr_step=1.5, batch_step=1.5, seeds=2),
    ],
)
def test_information_is_what_simulated_grids_leave(
    design: Design, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spread of the place that least squares finds, valley known and level free, over 300 simulated grids."""
    monkeypatch.setattr(told_by, "APART", (1e-6, 1e-6, 1e-6))
    q, noise = Exponentials().prior_mean, 0.0003  # so little that the place moves where slopes hardly do
    (told,) = information(q[None], design, np.full((1, 2, 2), 0.0), noise=noise, misfit=0.0)
    u, v = (np.tile(axis.ravel(), design.seeds) for axis in np.meshgrid(*design.offsets(), indexing="ij"))
    kept = excess(u, v, q) < told_by.FAR
    u, v = u[kept], v[kept]
    found = []
    for _ in range(300):
        loss = excess(u, v, q) + noise * rng.standard_normal(len(u))
        off = least_squares(lambda x, loss=loss: excess(u - x[0], v - x[1], q) + x[2] - loss, np.zeros(3))
        found.append(off.x[:2])
    assert np.cov(np.transpose(found)) == pytest.approx(np.linalg.inv(told), rel=0.3)


def test_more_seeds_tell_more_and_doubt_of_the_valley_less() -> None:
    q, spread = Exponentials().prior_mean[None], np.diag([0.04, 0.04])[None]
    one, two = (
        information(q, Design(rates=4, batches=4, lr_step=2, batch_step=2, seeds=seeds), spread) for seeds in (1, 2)
    )
    assert np.all(np.linalg.eigvalsh(two - one) > 0)
    assert np.all(np.linalg.eigvalsh(2 * one - two) >= -1e-9)  # what is not known of the valley stays
    wide = information(q, Design(rates=4, batches=4, lr_step=2, batch_step=2), spread, misfit=0.8)
    assert np.trace(wide[0]) < np.trace(one[0])


def test_runs_of_a_fit_are_what_its_scales_know_more_than_the_laws(fit: Fit) -> None:
    """Known at a scale: by the laws and by its own runs, together."""
    model = fit.payload["model"]
    known = of_fit(model)
    weights = np.array([member["weight"] for member in model["members"]])
    for k, (scale, own) in enumerate(told_by_fit(known, model).items()):
        assert np.all(np.linalg.eigvalsh(own) >= 0)
        row = known.row(*scale)
        laws = np.linalg.inv(row @ known.cov @ row.T + known.own_var(scale[0]))
        stored = np.tensordot(weights, np.array([m["scales"]["cov"][k] for m in model["members"]]), axes=1)
        assert np.linalg.det(np.linalg.inv(laws + own)) == pytest.approx(np.linalg.det(stored / weights.sum()), rel=0.1)


@pytest.mark.parametrize("budget", ["1e20flops", "36runs", "5gpu-hours", "$40"])
def test_the_budget_holds_and_each_grid_helps(fit: Fit, budget: str) -> None:
    means = read_means(budget, 4e14, 2.0)
    found = next_runs(fit, TARGET, means, limits=Limits(max_params=1.5e8))
    assert 0 < found["budget"]["spent"] <= means.amount
    rows = rows_of(found["grids"])
    flops = sum(training_flops(row["params"], row["tokens"]) for row in rows)
    packs = [(grid, batch) for grid in found["grids"] for batch in grid["batch_tokens"]]
    hours = (len(packs) * START_SECONDS + flops / 4e14) / 3600  # a start for each batch of each scale
    spent = {"flops": flops, "runs": len(rows), "gpu-hours": hours, "$": 2 * hours}[means.unit]
    assert found["budget"]["spent"] == pytest.approx(spent, rel=1e-5)
    assert found["budget"]["gpu_hours"] == pytest.approx(hours, rel=1e-5)
    regrets = [found["now"]["expected_regret"], *(grid["after"]["expected_regret"] for grid in found["grids"])]
    assert regrets == sorted(regrets, reverse=True)
    assert regrets[-1] == found["after"]["expected_regret"] > found["now"]["floor"]
    assert max(grid["params"] for grid in found["grids"]) <= 1.5e8
    assert found == next_runs(fit, TARGET, means, limits=Limits(max_params=1.5e8))


def test_a_larger_budget_leaves_less_open(fit: Fit) -> None:
    left = [next_runs(fit, TARGET, read_means(f"{flops}flops"))["after"] for flops in ("1e19", "1e20", "1e21")]
    for name in ("expected_regret", "lr_factor", "batch_factor"):
        values = [after[name] for after in left]  # type: ignore[literal-required]
        assert values == sorted(values, reverse=True)
        assert values[-1] < 0.9 * values[0]


def test_what_is_open_names_why(fit: Fit) -> None:
    """Where one exponent alone is open, grids are said to tell that one; a size of its own is new."""
    known = of_fit(fit.payload["model"])
    cov = 1e-6 * np.eye(len(known.cov))
    at = PARTS.index("tokens")
    cov[at, at] = cov[at + len(PARTS), at + len(PARTS)] = 0.01
    state = State(knowledge=Knowledge(**{**vars(known), "cov": cov}))
    from lawfit.planner.choose import choose

    asked = Asked(target=TARGET, valley=Valley.of_fit(fit.payload["model"]), means=read_means("30runs"))
    grids = choose(asked, state, [(4e7, 4e7 * ratio) for ratio in (5, 20, 80)])
    assert {grid.part for grid in grids} == {"tokens"}
    assert grids[0].scale == (4e7, 3.2e9)  # the far horizon


@pytest.mark.parametrize(
    ("budget", "words"),
    [("a lot", "write 1e19flops"), ("20", "write 1e19flops"), ("$20flops", "write"), ("0runs", "buys nothing"),
     ("3gpu-hours", "flops_per_second"), ("$200", "flops_per_second")],
)  # fmt: skip
def test_budgets_that_are_none(budget: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_means(budget)


@pytest.mark.parametrize("budget", ["64runs", "64 runs", "1e19 FLOPs", "20 gpu-hours", "20gpuh", "$1,200", "1.5k runs"])
def test_budgets_as_people_write_them(budget: str) -> None:
    assert read_means(budget, 4e14, 2.0).amount in (64, 1e19, 20, 1200, 1500)


def test_nothing_to_buy_and_nothing_to_learn(fit: Fit) -> None:
    with pytest.raises(NotEnoughData, match="buys no grid"):
        next_runs(fit, TARGET, read_means("5runs"))
    inside = Target(params=4e7, tokens=2e8)
    with pytest.raises(NotEnoughData, match=r"nothing worth running|buys no grid"):
        next_runs(fit, inside, read_means("1e17flops"))


def test_a_plan_comes_from_the_newest_usable_fit(fit: Fit) -> None:
    asked = NextQuestion(params=TARGET.params, tokens=TARGET.tokens, budget="1e20flops")
    with fitted("five_sizes") as store:
        (recipe,) = store.recipes()
        document = pipeline.plan_next(store, recipe.recipe.name, asked, keep=False)
        assert document["fit_id"] == fit.id
        assert document["warnings"] == []
    with Store.open(":memory:") as empty:
        assert pipeline.plan_next(empty, None, asked)["fit_id"] is None


def test_runs_under_way_count_as_made(fit: Fit) -> None:
    """What a plan promised is where the next one begins; and the same runs are not named again."""
    means = read_means("40runs")
    first = next_runs(fit, TARGET, means)
    second = next_runs(fit, TARGET, means, under_way=rows_of(first["grids"]))
    for name in ("expected_regret", "lr_factor", "batch_factor"):
        assert second["now"][name] == pytest.approx(first["after"][name], rel=0.02)
    assert second["after"]["expected_regret"] < second["now"]["expected_regret"]
    assert second["under_way"] == rows_of(first["grids"])
    settings = [{tuple(row.values())[:4] for row in rows_of(plan["grids"])} for plan in (first, second)]
    assert not settings[0] & settings[1]


def test_runs_tell_what_their_grid_tells(fit: Fit) -> None:
    model = fit.payload["model"]
    known = of_fit(model).with_sizes([1e8])
    state, valley = State(knowledge=known, told=told_by_fit(known, model)), Valley.of_fit(model)
    scale, design = (1e8, 3e9), Design(rates=4, batches=3, lr_step=2, batch_step=2)
    lr, batch = np.exp(known.optimum(*scale))
    of_lr, of_batch = (np.exp(axis) for axis in design.offsets())
    rows = [
        {"params": scale[0], "tokens": scale[1], "lr": lr * u, "batch_tokens": batch * v}
        for u in of_lr
        for v in of_batch
    ]
    after = with_runs(state, valley, planned_of(rows)).knowledge
    row, own = known.row(*scale), known.own_var(scale[0])
    (told,) = information(
        valley.at(scale[1])[None],
        design,
        (row @ known.cov @ row.T + own)[None],
        noise=valley.noise,
        misfit=valley.misfit,
    )
    assert after.cov == pytest.approx(known.told(row, seen_through(told, own)).cov, rel=1e-6, abs=1e-12)
    assert np.array_equal(with_runs(state, valley, []).knowledge.cov, known.cov)


def test_no_batch_below_a_sequence(fit: Fit) -> None:
    """Grids are made where all of their batches can be; where none can, that is said."""
    means = read_means("60runs")
    free = next_runs(fit, TARGET, means)
    seq_len = int(2.1 * min(batch for grid in free["grids"] for batch in grid["batch_tokens"]))
    held = next_runs(fit, TARGET, means, limits=Limits(seq_len=seq_len))
    for grid in held["grids"]:
        steps = np.diff(np.log(grid["batch_tokens"]))
        assert min(grid["batch_tokens"]) >= seq_len
        assert max(steps) < np.log(4.5), "three at a factor of 3 at most, moved by whole sequences"
    with pytest.raises(NotEnoughData, match="shorter sequences"):
        next_runs(fit, TARGET, means, limits=Limits(seq_len=10**8))


def test_no_run_is_named_that_is_there(fit: Fit) -> None:
    """The same settings and seed are the same run, which a launcher leaves out: a grid that comes again has other
    seeds, whether its first is under way or made."""
    means = read_means("60runs")
    rows = rows_of(next_runs(fit, TARGET, means)["grids"])
    made = [
        Run(run_key=str(k), status=RunStatus.FINISHED, loss=3.0, **{**row, "seed": int(row["seed"])})
        for k, row in enumerate(rows)
    ]
    for again in (next_runs(fit, TARGET, means, there=made), next_runs(None, TARGET, means, under_way=rows)):
        named = rows_of(again["grids"])
        assert len({tuple(row.values()) for row in named}) == len(named)
        assert not_there(named, rows) == named
    seedless = [dict(row, seed=None) for row in rows]
    assert not_there(rows, seedless) == []


@pytest.mark.parametrize("budget", ["1" + " " * 60_000 + "x", "$" * 500, "1e18" + "0" * 5000 + "flops"])
def test_a_long_budget_is_refused_at_once(budget: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        read_means(budget)


def test_one_grid_less_than_worth_it_is_a_plan_that_says_so(fit: Fit) -> None:
    """As the budget falls a plan brings less, then says that it is little, and only far below is refused with numbers:
    what a run more or less moves by a few percent turns no plan into a refusal."""
    said = []
    for flops in np.geomspace(1e19, 1e15, 7):
        try:
            document = next_runs(fit, TARGET, read_means(f"{flops:.3g}flops"))
        except NotEnoughData as error:
            said.append(str(error))
            continue
        share = 1 - document["after"]["expected_regret"] / document["now"]["expected_regret"]
        little = any("little is to be had" in tell(warning) for warning in document["warnings"])
        assert little == (share * document["now"]["expected_regret"] < LITTLE * gainable(document))
        said.append("little" if little else "plan")
    kinds = [kind for kind, _ in itertools.groupby("refused" if len(each) > 6 else each for each in said)]
    assert kinds == ["plan", "little", "refused"]


def gainable(document: NextRuns) -> float:
    return document["now"]["expected_regret"] - document["now"]["floor"]


def test_a_grid_too_small_to_count_is_refused_with_what_it_would_bring(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "LEAST_GAINS", (0.99,))
    with pytest.raises(NotEnoughData, match="by 0") as refused:
        next_runs(fit, TARGET, read_means("12runs"))
    found = refused.value.finding
    assert isinstance(found, Finding)
    assert 0 < found.data["gain"] < found.data["regret"] - found.data["floor"]


@pytest.mark.parametrize("off", [1.0, 1.01])
def test_a_target_with_runs_of_its_own_is_known_by_them(fit: Fit, off: float) -> None:
    """What a plan begins with at a scale of the fit is what the answer there rests on: mean and covariance of that
    scale by all runs, not of the laws alone."""
    model = fit.payload["model"]
    k = len(model["scales"]) // 2
    params, tokens = model["scales"][k][0], off * model["scales"][k][1]
    target = Target(params=params, tokens=tokens)
    state, valley = what_is_known(fit, target)
    asked = Asked(target=target, valley=valley, means=read_means("1runs"))
    outlook = asked.outlook(state)
    assert outlook.regret < 0.9 * asked.outlook(State(knowledge=state.knowledge)).regret
    weights = np.array([member["weight"] for member in model["members"]])
    weights = weights / weights.sum()
    cov = np.tensordot(weights, np.array([m["scales"]["cov"][k] for m in model["members"]]), axes=1)
    factor = np.exp(1.6448536 * state.knowledge.inflation * np.sqrt(np.diag(cov)))
    # at the scale itself they are the same; a hair beside it the laws say a hair more or less
    assert [outlook.lr_factor, outlook.batch_factor] == pytest.approx(factor, rel=0.02)
    x, (where, place) = law_row(model, params, tokens), known_of(model, params, tokens)
    assert where == "scale"
    assert state.optimum((params, tokens)) == pytest.approx(weights @ moments(members_of(model), x, where, place)[0])


class TestFirstSweep:
    """What is planned where nothing was run: from what its fit will begin with."""

    ASKED: Final = NextQuestion(params=1.2e7, tokens=2e8, budget="54runs", max_params=3.5e6)

    def test_it_begins_in_the_middle_of_its_runs(self) -> None:
        target = Target(params=1.2e7, tokens=2e8)
        state, _ = what_is_known(None, target, 3.5e6, None)
        smallest, largest = 3.5e6 / 16, target.params * 0.05**0.5
        middle = (smallest * largest) ** 0.5
        assert state.knowledge.centre == pytest.approx(np.log([middle, 20 * middle]))
        short, _ = what_is_known(None, target, 3.5e6, 5e6)
        assert short.knowledge.centre == pytest.approx(np.log([middle, 5e6]))
        with Store.open("sqlite://") as store:
            plan = pipeline.plan_next(store, None, self.ASKED)
        sizes = np.log([grid["params"] for grid in plan["grids"]])
        assert abs(sizes.mean() - np.log(middle)) < np.log(3)

    def test_now_is_what_published_laws_say_at_the_target(self) -> None:
        with Store.open("sqlite://") as store:
            plans = [
                pipeline.plan_next(store, None, NextQuestion(params=1e9, tokens=2e10, budget="45runs", max_params=most))
                for most in (1e8, 3e6)
            ]
        valley = Valley(shape=None)
        asked = Asked(target=Target(params=1e9, tokens=2e10), valley=valley, means=read_means("45runs"))
        there = asked.outlook(State(knowledge=of_nothing(1e9, 2e10)))
        for plan in plans:
            assert plan["now"]["expected_regret"] == pytest.approx(there.regret, rel=1e-4)
        near, far = (plan["after"]["expected_regret"] < plan["now"]["expected_regret"] for plan in plans)
        assert (near, far) == (True, False)  # a fit of runs so far below knows less than the laws
        said = [[tell(warning) for warning in plan["warnings"]] for plan in plans]
        assert not any("rather take what the laws say" in warning for warning in said[0])
        assert any("rather take what the laws say" in warning for warning in said[1])

    @pytest.mark.slow
    def test_it_promises_what_fits_of_it_know(self) -> None:
        """In drawn worlds (`tests.benchmarks.first_sweeps` has more of them): by the ln of half the intervals."""
        with Store.open("sqlite://") as store:
            plan = pipeline.plan_next(store, None, self.ASKED)
            played = pipeline.rehearse(store, plan, worlds=8, refit=True, seed=1)
        for name in ("lr_factor", "batch_factor"):
            promised, got = np.log(plan["after"][name]), np.log(played[name])  # type: ignore[literal-required]
            assert got / promised < 1.5  # where published laws are believed at the target: 1.4 to 2
            assert got / promised > 0.75
        assert played["realised"] < 2.5 * played["promised"]
