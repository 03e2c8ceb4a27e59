"""The finished grids that `replay` plays again, and the rules that the planner is held against there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pandas as pd

from lawfit.ask import Target
from lawfit.errors import LawfitError
from lawfit.estimate.lr_batch.valley import excess
from lawfit.estimate.observe.observations import observe
from lawfit.planner.choose import State, told_by_fit
from lawfit.planner.information import APART, FAR, PLACES, Valley, seen_through, symmetric_root
from lawfit.planner.knowledge import Knowledge, of_fit, of_nothing
from lawfit.planner.next_runs import middle_of_first
from lawfit.records import Run, RunStatus
from lawfit.units import training_flops
from tests.benchmarks.own_unseen import DATA, FEWEST_TOKENS, WEIGHT_DECAY, fit_bowls, near
from tests.benchmarks.shared import (
    STEP_LAW,
    STEP_LAW_ALL,
    Floats,
    fitted_model,
    step_law_runs,
    yardstick,
)
from tests.benchmarks.unseen_scales import smooth_optima

Scale = tuple[float, float]
SHARE_KEPT: Final = 0.6  # of each scale's runs
LARGEST: Final = 5e8  # sizes from there on are judged
RULE_RUNS: Final = 16
ROUNDS: Final = 5
WINDOW: Final = 0.03  # of the quadratics that judge our own sweep, ln loss


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Runs that a method may choose of, by scale, and what judges its advice."""

    runs: tuple[Run, ...]
    excess: Mapping[Scale, Callable[[float, float], float]]  # of a setting (lr, batch) over the smooth optimum's loss
    optima: Mapping[Scale, tuple[float, float]]  # of the same scales: ln lr, ln batch
    without: Sequence[str]  # laws that must lend nothing

    @property
    def flops(self) -> float:
        return sum(map(flops_of, self.runs))

    @property
    def targets(self) -> list[Scale]:
        """Those that are judged, the middle one first: planned for all alike."""
        found = list(self.optima)
        return [found.pop(len(found) // 2), *found]

    def by_scale(self) -> dict[Scale, list[int]]:
        found: dict[Scale, list[int]] = {}
        for k, run in enumerate(self.runs):
            found.setdefault((run.params, run.tokens), []).append(k)
        return dict(sorted(found.items(), key=lambda item: item[0][0] * item[0][1]))


def flops_of(run: Run) -> float:
    return float(training_flops(run.params, run.tokens))


def log_setting(run: Run) -> tuple[float, float]:
    return float(np.log(run.lr)), float(np.log(run.batch_tokens))


# ---------------------------------------------------------------------------------------------- pools


@cache
def step_law_pool(seed: int) -> Pool:
    runs = step_law_runs(STEP_LAW_ALL)
    rng = np.random.default_rng(seed)
    small = [run for run in runs if run.params < LARGEST]
    scales = sorted({(run.params, run.tokens) for run in small})
    kept: list[Run] = []
    for scale in scales:
        here = [run for run in small if (run.params, run.tokens) == scale]
        chosen = rng.choice(len(here), round(SHARE_KEPT * len(here)), replace=False)
        kept += [here[k] for k in sorted(chosen)]
    large = [run for run in runs if run.params >= LARGEST]
    observed = observe(large)
    optima = np.log(smooth_optima(observed))
    surfaces = yardstick(large, observed)
    names = [(float(n), float(d)) for n, d in zip(observed.params, observed.tokens, strict=True)]

    def over_smooth(k: int) -> Callable[[float, float], float]:
        floor = float(surfaces[k].regret(*np.exp(optima[k])).regret)
        return lambda lr, batch: float(surfaces[k].regret(lr, batch).regret) - floor

    return Pool(
        runs=tuple(kept),
        excess={name: over_smooth(k) for k, name in enumerate(names)},
        optima={name: (float(optima[k, 0]), float(optima[k, 1])) for k, name in enumerate(names)},
        without=STEP_LAW,
    )


@cache
def own_pool(seed: int) -> Pool:
    """Judged by one quadratic in (ln lr, ln batch) for all scales of the largest size, each with an optimum of its own
    (`own_unseen`): their seeds scatter by more than the advice costs."""
    table = pd.read_csv(DATA / "proxy_sweep.csv")
    table = table[(table["weight_decay"] == WEIGHT_DECAY) & (table["diverged"] == 0)]
    large = table["n_params"] == table["n_params"].max()
    rng = np.random.default_rng(seed)
    small = table[~large].sample(frac=SHARE_KEPT, random_state=rng)
    judged = table[large & (table["n_tokens"] > FEWEST_TOKENS)].assign(
        n_tokens=lambda rows: rows["n_tokens"].map(lambda tokens: float(f"{tokens:.2g}"))
    )
    rows = near(judged, WINDOW)
    bowls = fit_bowls(rows, rng, resamples=10)
    names = [(float(n), float(d)) for n, d in rows.groupby(["n_params", "n_tokens"]).groups]

    def by_bowl(k: int) -> Callable[[float, float], float]:
        return lambda lr, batch: float(np.expm1(bowls.cost(k, (lr, batch))[0]))

    columns = ("run_id", "n_params", "n_tokens", "batch_size_tokens", "learning_rate", "final_loss")
    return Pool(
        runs=tuple(
            Run(
                run_key=key,
                params=n,
                tokens=float(f"{d:.2g}"),
                batch_tokens=batch,
                lr=lr,
                loss=loss,
                status=RunStatus.FINISHED,
            )
            for key, n, d, batch, lr, loss in small[list(columns)].itertuples(index=False)
        ),
        excess={name: by_bowl(k) for k, name in enumerate(names)},
        optima={name: (float(u), float(v)) for name, (u, v) in zip(names, bowls.optimum[0], strict=True)},
        without=(),
    )


POOLS = {"step_law": step_law_pool, "own": own_pool}

# ---------------------------------------------------------------------------------------------- rules without a plan


def whole(pool: Pool, budget: float, rng: np.random.Generator) -> list[int]:
    return list(range(len(pool.runs)))


def cheapest(pool: Pool, budget: float, rng: np.random.Generator) -> list[int]:
    found: list[int] = []
    for (params, tokens), here in pool.by_scale().items():
        some = rng.choice(here, min(RULE_RUNS, len(here)), replace=False)
        budget -= len(some) * training_flops(params, tokens)
        if budget < 0:
            break
        found += [int(k) for k in some]
    return found


def uniform(pool: Pool, budget: float, rng: np.random.Generator) -> list[int]:
    found = []
    for k in rng.permutation(len(pool.runs)):
        if flops_of(pool.runs[k]) <= budget:
            found.append(int(k))
            budget -= flops_of(pool.runs[k])
    return found


def latin(pool: Pool, budget: float, rng: np.random.Generator) -> list[int]:
    """Strata of scale (by FLOPs), ln lr, ln batch, as many as runs of the mean cost; the nearest run to each point."""
    order = sorted(range(len(pool.runs)), key=lambda k: flops_of(pool.runs[k]))
    columns = np.array([(rank, *log_setting(pool.runs[k])) for rank, k in enumerate(order)], dtype=float)
    unit = (columns.argsort(axis=0).argsort(axis=0) + 0.5) / len(columns)
    count = max(4, int(budget / (pool.flops / len(pool.runs))))
    points = (np.array([rng.permutation(count) for _ in range(3)]).T + rng.random((count, 3))) / count
    found: list[int] = []
    for point in points:
        for k in np.square(unit - point).sum(axis=1).argsort():
            run = order[k]
            if run not in found:
                if flops_of(pool.runs[run]) <= budget:
                    found.append(run)
                    budget -= flops_of(pool.runs[run])
                break
    return found


def tpe(pool: Pool, budget: float, rng: np.random.Generator) -> list[int]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: list[int] = []
    for (params, tokens), here in pool.by_scale().items():
        count = min(RULE_RUNS, len(here))
        budget -= count * training_flops(params, tokens)
        if budget < 0:
            break
        left, at = list(here), np.array([log_setting(pool.runs[k]) for k in here])
        low, high = at.min(axis=0), at.max(axis=0)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=int(rng.integers(2**31))))
        for _ in range(count):
            trial = study.ask()
            point = [trial.suggest_float(name, low[i], high[i]) for i, name in enumerate(("lr", "batch"))]
            k = min(left, key=lambda k: np.square(np.subtract(log_setting(pool.runs[k]), point)).sum())
            left.remove(k)
            found.append(k)
            loss = pool.runs[k].loss
            study.tell(trial, 10.0 if loss is None else loss)
    return found


# ---------------------------------------------------------------------------------------------- planned run by run

LEVEL_SD: Final = 0.1  # of ln loss: what is known of a scale's lowest loss before its first run


def in_rounds(
    pool: Pool, budget: float, pick: Callable[[list[int], float], list[int]], begun: Sequence[int] = ()
) -> list[int]:
    """Runs in `ROUNDS` equal parts of the budget; `pick` says which, of those made so far and what may be spent."""
    found = list(begun)
    spent = sum(flops_of(pool.runs[k]) for k in found)
    for turn in range(ROUNDS):
        more = pick(found, (budget - spent) / (ROUNDS - turn))
        found += more
        spent += sum(flops_of(pool.runs[k]) for k in more)
    return found


def fit_of(pool: Pool, chosen: Sequence[int]) -> Mapping[str, Any] | None:
    """The model that a stored fit of these runs would hold; None where they are too few for one."""
    try:
        return fitted_model(observe([pool.runs[k] for k in sorted(chosen)]), pool.without)
    except LawfitError:
        return None


def before_any(pool: Pool) -> tuple[float, float]:
    """About where a first sweep's runs would lie."""
    params, tokens = pool.targets[0]
    return middle_of_first(Target(params=params, tokens=tokens), max(run.params for run in pool.runs), None)


def v_optimal(pool: Pool, budget: float, rng: np.random.Generator) -> list[int]:
    """One run after the other: that which cuts the variance of (ln lr*, ln batch*) at the target most for its cost."""

    def pick(made: list[int], amount: float) -> list[int]:
        fitted = fit_of(pool, made) if made else None
        if fitted is None:
            known, valley = of_nothing(*before_any(pool), without=pool.without), Valley(shape=None)
            told: Mapping[Scale, Floats] = {}
        else:
            known, valley = of_fit(fitted), Valley.of_fit(fitted)
            told = told_by_fit(known, fitted)
        return _least_variance(pool, State(knowledge=known, told=told), valley, made, amount)

    return in_rounds(pool, budget, pick)


def _least_variance(pool: Pool, state: State, valley: Valley, made: Sequence[int], amount: float) -> list[int]:
    left = {s: [k for k in here if k not in made] for s, here in pool.by_scale().items()}
    known = state.knowledge.with_sizes(sorted({params for params, _ in left}))
    at = np.array([known.row(*target) for target in pool.targets])  # (targets, 2, dim)
    scales = {scale: _ScaleRuns(pool, known, valley, scale, here) for scale, here in left.items() if here}
    before = {scale: state.told_at(scale) for scale in scales}
    found: list[int] = []
    while True:
        best: tuple[float, Scale, int, Floats] | None = None
        for scale, runs in scales.items():
            price = training_flops(*scale)
            if price > amount or not runs.left:
                continue
            row, own = known.row(*scale), known.own_var(scale[0])
            have = before[scale] + runs.told
            more = seen_through(before[scale] + runs.after, own) - seen_through(have, own)  # (runs, 2, 2)
            beside, there = at[:, None] @ known.cov @ row.T, row @ known.cov @ row.T
            less = beside @ np.linalg.solve(np.eye(2) + more @ there, more) @ np.swapaxes(beside, 2, 3)
            gains = np.trace(less, axis1=2, axis2=3).mean(axis=0) / price
            k = int(gains.argmax())
            if best is None or gains[k] > best[0]:
                best = float(gains[k]), scale, k, more[k]
        if best is None or best[0] <= 0:
            return found
        _, scale, k, more_there = best
        known = known.told(known.row(*scale), more_there)
        found.append(scales[scale].take(k))
        amount -= training_flops(*scale)


class _ScaleRuns:
    """What each run that is left at a scale would add to those taken: Fisher's information for the place of its
    optimum, level, steepness and lean not known, averaged over where the optimum may lie (as `planner.information`)."""

    def __init__(self, pool: Pool, known: Knowledge, valley: Valley, scale: Scale, left: Sequence[int]) -> None:
        self.left = list(left)
        row = known.row(*scale)
        spread = row @ known.cov @ row.T + known.own_var(scale[0])
        half = np.random.default_rng(0).standard_normal((PLACES // 2, 2))
        places = known.optimum(*scale) + np.concatenate([half, -half]) @ symmetric_root(spread)
        off = np.array([log_setting(pool.runs[k]) for k in left])[None] - places[:, None]  # (places, runs, 2)
        q, step = valley.at(scale[1]), 1e-4
        lost = excess(off[..., 0], off[..., 1], q)
        slopes = [
            (excess(off[..., 0] + du, off[..., 1] + dv, q) - excess(off[..., 0] - du, off[..., 1] - dv, q)) / (2 * step)
            for du, dv in ((step, 0.0), (0.0, step))
        ]
        weight = np.where(lost < FAR, 1 / (valley.noise**2 + (valley.misfit * lost) ** 2), 0.0)
        terms = np.stack([*slopes, np.ones_like(lost), lost, lost * off[..., 0], lost * off[..., 1]], axis=-1)
        self.each = weight[..., None, None] * terms[..., :, None] * terms[..., None, :]  # (places, runs, 6, 6)
        doubt = np.diag([0.0, 0.0, *(1 / np.square([LEVEL_SD, *APART]))])
        self.taken = np.broadcast_to(doubt, (len(places), 6, 6)).copy()
        self._look()

    def _look(self) -> None:
        self.told = _of_the_place(self.taken).mean(axis=0)
        self.after = _of_the_place(self.taken[:, None] + self.each).mean(axis=0)

    def take(self, k: int) -> int:
        self.taken = self.taken + self.each[:, k]
        self.each = np.delete(self.each, k, axis=1)
        if self.each.shape[1]:
            self._look()
        return self.left.pop(k)


def _of_the_place(information: Floats) -> Floats:
    """(..., 2, 2) of the first two, the others not known."""
    across = information[..., 2:, :2]
    return np.asarray(
        information[..., :2, :2] - np.swapaxes(across, -1, -2) @ np.linalg.solve(information[..., 2:, 2:], across)
    )


def knowledge_gradient(pool: Pool, budget: float, rng: np.random.Generator) -> list[int]:
    """BoTorch's Gaussian process over (ln params, ln tokens, ln lr, ln batch), and the run whose loss is expected to
    lower the least mean at the target most for its cost: knowledge gradient over a lattice of settings there, exact for
    a finite pool; runs of one round follow each other as if each loss had come out as expected."""
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from scipy.special import ndtri

    columns = np.array([(np.log(r.params), np.log(r.tokens), *log_setting(r)) for r in pool.runs])
    axes = [np.linspace(columns[:, k].min(), columns[:, k].max(), 20) for k in (2, 3)]
    lattice = np.array([(*np.log(target), u, v) for target in pool.targets for u in axes[0] for v in axes[1]])
    low, high = np.minimum(columns.min(0), lattice.min(0)), np.maximum(columns.max(0), lattice.max(0))
    x = torch.tensor((np.vstack([lattice, columns]) - low) / (high - low), dtype=torch.float64)
    price = np.array([flops_of(run) for run in pool.runs])
    worst = max(run.loss for run in pool.runs if run.loss is not None)
    y = np.log([worst if run.loss is None else run.loss for run in pool.runs])
    normals, count = ndtri((np.arange(15) + 0.5) / 15), len(lattice)

    def pick(made: list[int], amount: float) -> list[int]:
        seen = torch.tensor(y[made], dtype=torch.float64)[:, None]
        model = SingleTaskGP(x[count + np.array(made)], seen)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        with torch.no_grad():
            told = model.posterior(x)
            mean, cov = told.mean[:count, 0].numpy(), told.distribution.covariance_matrix.numpy()
            noise = float(model.likelihood.noise.mean()) * float(seen.std() ** 2)
        found: list[int] = []
        while True:
            open_ = [k for k in range(len(price)) if price[k] <= amount and k not in made and k not in found]
            if not open_:
                return found
            at = count + np.array(open_)
            moves = cov[:count, at] / np.sqrt(cov[at, at] + noise)  # (lattice, open)
            after = mean[:, None, None] + moves[..., None] * normals
            least = after.reshape(len(pool.targets), -1, *after.shape[1:]).min(axis=1).mean(axis=(0, 2))
            now = mean.reshape(len(pool.targets), -1).min(axis=1).mean()
            k = open_[int(((now - least) / price[open_]).argmax())]
            found.append(k)
            amount -= price[k]
            column = cov[:, count + k].copy()
            cov = cov - np.outer(column, column) / (column[count + k] + noise)

    begun = cheapest(pool, budget / ROUNDS, rng) or cheapest(pool, budget, rng)[:RULE_RUNS]
    return in_rounds(pool, budget, pick, begun)


RULES: Mapping[str, Callable[[Pool, float, np.random.Generator], list[int]]] = {
    "cheapest": cheapest,
    "uniform": uniform,
    "latin": latin,
    "tpe": tpe,
    "variance": v_optimal,
    "gradient": knowledge_gradient,
    "whole": whole,
}
