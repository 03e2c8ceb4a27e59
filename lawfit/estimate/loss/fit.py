"""A loss law fitted to runs: estimate, resamples, certificate, and what follows from them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from lawfit.errors import NotEnoughData
from lawfit.estimate.loss.forms import FORMS, QUICK, SAME_INPUT, LossForm, Smooth
from lawfit.estimate.loss.forms_further import EVERY_FORM
from lawfit.estimate.loss.result import (
    Allocation,
    AsymptoteCase,
    AsymptotePrior,
    FormDraws,
    Interval,
    LossFit,
    LossPrediction,
    expanded_interval,
)
from lawfit.estimate.numerics.certificate import (
    WEAK,
    Certificate,
    NeededRun,
    Precision,
    Search,
    certificate,
    influences,
    lack_of_fit,
    needed_runs,
    score_covariance,
    vague_covariance,
    wandering,
    weak_parameters,
)
from lawfit.estimate.numerics.newton import Bools, Floats, Minima, Penalty, minimise
from lawfit.estimate.numerics.quantiles import normal_quantile
from lawfit.estimate.numerics.resample import cluster_index, cluster_weights, interval
from lawfit.estimate.numerics.varpro import PowerSum, best_start, same_minimum
from lawfit.findings import finding

__all__ = ["Allocation", "AsymptoteCase", "AsymptotePrior", "Interval", "LossFit", "LossPrediction", "fit_loss"]

DELTA: Final = 1e-3  # of arXiv 2203.15556 and 2404.10102
LEVEL: Final = 0.9
RESAMPLES: Final = 1000
GROUPS: Final = 10  # scales along an input, beyond which neighbours are examined together
SUSPECTS: Final = 5  # single clusters that are left out in turn
# In units of the noise, at any run, between the laws that two searches end at. In a form with a third input some
# parameters may stand for each other (an asymptote and a nearly constant term): searches part along that valley, and
# laws do not.
SAME_LAW: Final = 0.1


def fit_loss(
    params: ArrayLike,
    tokens: ArrayLike,
    loss: ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    form: str = "additive",
    third: ArrayLike | None = None,
    asymptote: float | AsymptotePrior | None = None,
    lent: Mapping[str, tuple[float, float]] | None = None,
    delta: float = DELTA,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> LossFit:
    """Fit a loss law to runs, from a global start, robustly, with everything needed to judge it.

    Parameters
    ----------
    params, tokens : (n,) positive floats
    loss : (n,) positive floats, nats per token
        Of runs of one recipe; diverged runs have none and are left out by the caller, who says so.
    clusters : (n,) labels
        Rows of one training run (its checkpoints) are not independent: give them one label.
    form : name in `loss_forms_further.EVERY_FORM`
    third : (n,) positive floats
        Of a form that has a third input: tokens per unique token, or the share of active experts.
    asymptote : float, AsymptotePrior or None
        Held fixed, known with some width, or free.
    lent : name of a coefficient -> (mean, sd) of its natural log
        Known with some width beside the runs; of a form with a third input.
    delta : float
        Huber's threshold in log loss.
    resamples : int
        0 gives the estimate and its certificate without intervals.

    Raises
    ------
    ValueError
        Inputs that are not positive, or of different lengths; an unknown form.
    NotEnoughData
        Not more rows than parameters.
    FitError
        The losses do not fall with the inputs.
    """
    if form not in EVERY_FORM:
        raise ValueError(f"unknown form '{form}'; there are {', '.join(EVERY_FORM)}")
    if bool(needed := EVERY_FORM[form].third) != (third is not None):
        raise ValueError(f"the form '{form}' {f'also needs {needed}' if needed else 'has no third input'}")
    columns = _columns(params, tokens, loss, *(() if third is None else (third,)))
    return _Fit(EVERY_FORM[form], columns, clusters, asymptote, delta, level, lent or {}).run(resamples, rng)


def quick_fit(
    columns: Sequence[Floats], *, clusters: ArrayLike, form: str, asymptote: float | AsymptotePrior | None
) -> FormDraws:
    """The estimate of `fit_loss` alone, without resamples and what it takes to judge it: for fits within a backtest."""
    fit = _Fit(FORMS[form], np.stack(columns), clusters, asymptote, DELTA, LEVEL)
    fit.problem.patience = QUICK
    found = fit._search(np.ones((1, len(fit.log_y))))
    theta = found.theta[best_start(found)]
    fit._linearise(theta)
    return FormDraws(
        form=form,
        centre=(float(fit.centre[0]), float(fit.centre[1])),
        theta=theta,
        draws=np.empty((0, len(theta))),
        delta=DELTA,
        noise=fit.noise,
    )


class _Fit:
    """One fit under way."""

    def __init__(
        self,
        form: LossForm,
        columns: Floats,
        clusters: ArrayLike | None,
        asymptote: float | AsymptotePrior | None,
        delta: float,
        level: float,
        lent: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self.form, self.level = form, level
        self.log_n, self.log_d, self.log_y, *third = np.log(columns)
        self.centre = np.array([self.log_n.mean(), self.log_d.mean()])
        logs = np.column_stack([self.log_n - self.centre[0], self.log_d - self.centre[1], *third])
        self.problem = form.problem(self.log_y, logs, delta)
        self.labels = None if clusters is None else np.asarray(clusters)
        self.index = cluster_index(clusters, len(self.log_y))
        self.clusters = int(self.index.max()) + 1
        self.frozen = np.zeros(len(form.names), dtype=bool)
        self.log_first: float | None = None
        self.prior = asymptote if isinstance(asymptote, AsymptotePrior) else None
        self.priors: dict[int, tuple[float, float]] = {}  # place in theta -> mean and sd
        self.penalty: Penalty | None = None
        if asymptote is not None:
            self._hold(asymptote)
        if self.prior is not None:
            self.priors[0] = float(np.log(self.prior.mean)), self.prior.log_sd
        self.priors |= {form.names.index(name): known for name, known in (lent or {}).items()}
        self.dropped = self._dropped()
        self._begin_at({place: mean for place, (mean, _) in self.priors.items() if place} | self.dropped)
        self.fitted = int((~self.frozen).sum())
        if len(self.log_y) <= self.fitted:
            few = {"runs": len(self.log_y), "parameters": self.fitted, "needed": self.fitted + 1}
            raise NotEnoughData(finding("loss.few_runs", **few, formula=form.formula))

    def _dropped(self) -> dict[int, float]:
        """Place in theta -> value, of the terms of inputs that no run varies: held where they add nothing."""
        found: dict[int, float] = {}
        for name, logs in (("params", self.log_n), ("tokens", self.log_d)):
            for gone in self.form.terms.get(name, ()) if np.ptp(logs) <= SAME_INPUT else ():
                place = self.form.names.index(gone)
                found[place] = 1.0 if gone in self.form.exponents else float(self.problem.low[place])
        self.frozen[list(found)] = True
        return found

    def _begin_at(self, values: Mapping[int, float]) -> None:
        """Every start of a search has these values."""
        starts = self.form.starts
        if not values or starts is None:
            return

        def begun(problem: PowerSum | Smooth) -> Floats:
            theta = starts(problem)
            theta[:, list(values)] = list(values.values())
            return theta

        self.form = replace(self.form, starts=begun)

    def _hold(self, asymptote: float | AsymptotePrior) -> None:
        if not self.form.asymptote:
            raise ValueError(f"the form '{self.form.name}' has no asymptote to hold")
        value = asymptote.mean if isinstance(asymptote, AsymptotePrior) else asymptote
        if not 0 < value < float(np.exp(self.log_y.max())):
            raise ValueError(f"the asymptote must lie between 0 and the largest loss, got {value:g}")
        self.log_first = float(np.log(value))
        self.frozen[0] = not isinstance(asymptote, AsymptotePrior)

    def run(self, resamples: int, rng: np.random.Generator) -> LossFit:
        ones = np.ones((1, len(self.log_y)))
        found = self._search(ones)
        best = best_start(found)
        theta = found.theta[best]
        self._linearise(theta)
        groups = self._groups(theta)
        weights = np.concatenate(
            [cluster_weights(self.index, resamples, rng=rng), *(1.0 - rows[None, :] for rows in groups.values())]
        )
        again, agree = self._resample(weights, theta, resamples, rng)
        search = self._search_report(found, best, again.take(np.arange(resamples)), agree[:resamples])
        left = dict(zip(groups, again.theta[resamples:], strict=True))
        draws = again.theta[:resamples]
        report = self._certificate(found, best, search, draws, groups, left)
        return LossFit(
            form=self.form.name,
            centre=(float(self.centre[0]), float(self.centre[1])),
            theta=theta,
            draws=draws,
            level=self.level,
            delta=self.problem.delta,
            asymptote="prior" if self.prior else "fixed" if self.log_first is not None else "free",
            parameters=self._parameters(theta, draws, report.weak),
            sensitivity=self._sensitivity(theta, draws),
            residuals=np.quantile(self.residual, np.linspace(0, 1, min(1000, len(self.residual)))) * self.spare,
            noise=self.noise,
            scales={
                name: (float(np.exp(logs.min())), float(np.exp(logs.max())))
                for name, logs in (
                    ("params", self.log_n),
                    ("tokens", self.log_d),
                    ("flops", self.log_n + self.log_d + np.log(6.0)),
                )
            },
            fitted=self.fitted,
            certificate=report,
        )

    def _search(self, ones: Floats) -> Minima:
        """All starts; with a prior in two rounds, for its weight is in units that the residuals set."""
        if not self.priors:
            return self.form.search(self.problem, ones, log_first=self.log_first, frozen=self.frozen, penalty=None)
        places = list(self.priors)
        held = self.frozen.copy()
        held[places] = True
        found = self.form.search(self.problem, ones, log_first=self.log_first, frozen=held, penalty=None)
        for _ in range(2):
            self._linearise(found.theta[int(np.nanargmin(found.objective))])
            precision, centre = np.zeros((2, len(self.form.names)))
            centre[places], spread = np.array(list(self.priors.values())).T
            precision[places] = self.unit / spread**2
            self.penalty = Penalty(precision=precision, centre=centre)
            found = self.form.search(
                self.problem, ones, log_first=self.log_first, frozen=self.frozen, penalty=self.penalty
            )
        return found

    def _linearise(self, theta: Floats) -> None:
        """Residuals, their scale, and the information at the estimate."""
        self.residual = self.log_y - self.problem.log_model(theta[None, :])[0]
        delta = self.problem.delta
        self.spare = float(np.sqrt(self.clusters / max(self.clusters - self.fitted, 1)))
        self.noise = 1.4826 * float(np.median(np.abs(self.residual))) * self.spare
        # share of residuals within delta; where delta is far below the noise, from the density around zero
        width = max(delta, self.noise)
        self.inside = min(1.0, delta / width) * float((np.abs(self.residual) <= width).mean())
        self.clipped = np.clip(self.residual, -delta, delta)
        self.jacobian = self.problem.jacobian(theta)
        gram = self.jacobian.T @ self.jacobian
        squares = float((self.clipped**2).mean()) * self.spare**2 + 1e-22
        self.variance = squares / max(self.inside, 1e-9) ** 2  # of one run, as the estimate feels it
        free = ~self.frozen
        clustered = score_covariance(
            self.inside * gram[np.ix_(free, free)], (self.clipped[:, None] * self.jacobian)[:, free], self.index
        )
        plain = vague_covariance(gram[np.ix_(free, free)] / self.variance)
        # rows of a cluster that err together tell less than as many independent ones
        effect = max(1.0, float(np.nan_to_num(np.mean(np.diag(clustered) / np.maximum(np.diag(plain), 1e-300)))))
        self.unit = effect * self.variance * self.inside  # squared standard errors to units of the objective
        self.information = gram / (self.variance * effect)
        if self.penalty is not None:
            self.information = self.information + np.diag(self.penalty.precision) / self.unit
        self.scale = np.array(
            [
                max(abs(t), 1e-3) if name in self.form.exponents else 1.0
                for t, name in zip(theta, self.form.names, strict=True)
            ]
        )

    def _resample(
        self, weights: Floats, theta: Floats, resamples: int, rng: np.random.Generator
    ) -> tuple[Minima, Bools]:
        penalty = self.penalty
        if penalty is not None:
            # resamples of what a prior stands for: without them its width would not be in the intervals
            centre = np.tile(penalty.centre, (len(weights), 1))
            for place, (_, sd) in self.priors.items():
                centre[:resamples, place] += sd * rng.standard_normal(resamples)
            penalty = Penalty(precision=penalty.precision, centre=centre)
        return self.form.search_resamples(
            self.problem,
            weights,
            theta,
            log_first=self.log_first,
            frozen=self.frozen,
            penalty=penalty,
            close=SAME_LAW * self.noise if self.form.third else 0.0,
        )

    def _groups(self, theta: Floats) -> dict[str, Floats]:
        """Rows (as 0 or 1) that are left out together: each scale of each input, and the most influential clusters.

        Those that the law cannot be fitted without are no group.
        """
        found: dict[str, Floats] = {}
        for name, logs in (("params", self.log_n), ("tokens", self.log_d)):
            for low, high in _bins(logs):
                inside = (logs >= low) & (logs <= high)
                found[f"{name} {_span(low, high)}"] = inside.astype(float)
        if self.labels is not None:
            pull = np.zeros((self.clusters, len(theta)))
            np.add.at(pull, self.index, self.clipped[:, None] * self.jacobian / self.inside / self.variance)
            step = pull @ np.linalg.pinv(self.information, hermitian=True)
            reach = np.einsum("ck,ck->c", step @ self.information, step)
            for cluster in np.argsort(-reach)[:SUSPECTS]:
                rows = self.index == cluster
                found[f"cluster {self.labels[rows.argmax()]}"] = rows.astype(float)
        spare = len(self.log_y) - self.fitted
        return {
            name: rows for name, rows in found.items() if 0 < rows.sum() < spare and self._determined_without(rows > 0)
        }

    def _single_runs(self) -> list[str]:
        """Scales of an input with one run, that the others do not determine the law without: nothing checks it."""
        found: dict[int, str] = {}  # by the run: its size before its horizon
        for name, logs in (("params", self.log_n), ("tokens", self.log_d)):
            for low, high in _bins(logs):
                inside = (logs >= low) & (logs <= high)
                if inside.sum() == 1 and not self._determined_without(inside):
                    found.setdefault(int(inside.argmax()), f"{name} {_span(low, high)}")
        return list(found.values())

    def _determined_without(self, rows: Bools) -> bool:
        """Whether the other runs determine every parameter: else their law lies anywhere on a ridge (of two sizes)."""
        free = ~self.frozen
        lost = self.jacobian[rows][:, free]
        left = self.information[np.ix_(free, free)] - lost.T @ lost * self.inside / self.unit
        relative = np.sqrt(np.diag(vague_covariance(left))) / self.scale[free]
        return not (relative > WEAK).any()

    def _search_report(self, found: Minima, best: int, again: Minima, agree: Bools) -> Search:
        same = same_minimum(found.objective, found.objective[best]) & found.converged
        apart = found.theta[same] - found.theta[best]
        spread = np.sqrt(np.einsum("sk,kl,sl->s", apart, self.information, apart)).max(initial=0.0)
        return Search(
            starts=len(same),
            agreeing=int(same.sum()),
            spread=float(spread),
            gradient_norm=float(found.distance[best]),
            converged=bool(found.converged[best]),
            resamples=len(agree),
            # at a kink of the loss, with few runs, no Newton step is exact: two searches that end as one are proof too
            resamples_converged=int((again.converged | agree).sum()),
            resamples_agreeing=int(agree.sum()),
        )

    def _certificate(
        self,
        found: Minima,
        best: int,
        search: Search,
        draws: Floats,
        groups: Mapping[str, Floats],
        left: Mapping[str, Floats],
    ) -> Certificate:
        free = ~self.frozen
        theta, at_bound = found.theta[best], found.at_bound[best, free]
        names = tuple(name for name, is_free in zip(self.form.names, free, strict=True) if is_free)
        information, scale = self.information[np.ix_(free, free)], self.scale[free]
        sd = np.sqrt(np.diag(vague_covariance(information)))
        doubt = 2 * np.nan_to_num(found.objective - found.objective[best], nan=np.inf) / self.unit
        loose = wandering(found.theta[:, free], doubt, best, scale)
        relative = sd / scale
        if len(draws):  # where the law is far from linear in its parameters, resamples spread further than that
            low, high = np.quantile(draws[:, free], [0.05, 0.95], axis=0)
            relative = np.maximum(relative, (high - low) / (2 * normal_quantile(0.95)) / scale)
        weak = weak_parameters(names, np.where(loose, np.inf, relative), at_bound)
        n, d = (self.log_n - self.centre[0]) / np.log(10), (self.log_d - self.centre[1]) / np.log(10)
        return certificate(
            search=search,
            precision=Precision(
                names=names,
                information=information,
                relative_sd=relative,
                at_bound=at_bound,
                weak=weak,
                runs=self._needed_runs(found.theta[doubt < 1], names, weak) if weak else (),
            ),
            structure=lack_of_fit(
                self.clipped,
                self.inside,
                self.jacobian[:, free],
                {
                    name: feature
                    for name, feature in {"params^2": n**2, "params * tokens": n * d, "tokens^2": d**2}.items()
                    if np.ptp(feature) > 0
                },
                self.index,
            ),
            influence=influences(
                names,
                theta[free],
                relative * scale,
                {name: (int(groups[name].sum()), estimate[free]) for name, estimate in left.items()},
                np.array([name not in self.form.exponents for name in names]),
            ),
            rows=len(self.log_y),
            clusters=self.clusters,
            single=self._single_runs(),
        )

    def _needed_runs(self, as_good: Floats, names: Sequence[str], weak: Sequence[str]) -> tuple[NeededRun, ...]:
        """Judged where every parameter has an effect: one of the equally good estimates may have lost a whole term."""
        free = ~self.frozen
        jacobians = [self.problem.jacobian(theta)[:, free] for theta in as_good]
        pick = int(np.argmax([(j**2).sum(axis=0).min() for j in jacobians]))
        information = jacobians[pick].T @ jacobians[pick] / self.variance
        candidates, logs = self._candidates()
        there = self.form.problem(np.full(len(logs), self.log_y.mean()), logs, self.problem.delta)
        effect = there.jacobian(as_good[pick])[:, free] / np.sqrt(self.variance)
        return needed_runs(names, weak, information, self.scale[free], candidates, effect)

    def _candidates(self) -> tuple[list[dict[str, float]], Floats]:
        """Runs that could be made: sizes, tokens and their ratio a decade beyond what there is, none dearer."""
        axes = [np.linspace(x.min() - np.log(10), x.max() + np.log(10), 24) for x in (self.log_n, self.log_d)]
        n, d = (grid.ravel() for grid in np.meshgrid(*axes, indexing="ij"))
        ratio = self.log_d - self.log_n
        usual = (d - n >= ratio.min() - np.log(10)) & (d - n <= ratio.max() + np.log(10))
        usual &= n + d <= (self.log_n + self.log_d).max() + 1e-9
        n, d = n[usual], d[usual]
        runs = [{"params": float(a), "tokens": float(b)} for a, b in zip(np.exp(n), np.exp(d), strict=True)]
        logs = np.column_stack([n, d]) - self.centre
        return runs, np.pad(logs, ((0, 0), (0, 1 if self.form.third else 0)))  # ordinary runs: the third log is 0

    def _parameters(self, theta: Floats, draws: Floats, weak: Sequence[str]) -> dict[str, Interval]:
        """Published parameters, less those of terms that were dropped; none that is open gets an interval."""
        held = {self.form.names[place] for place in self.dropped}
        value = {name: v[0] for name, v in self.form.natural(theta[None, :], self.centre).items()}
        spread = dict(self.form.natural(draws, self.centre))
        open_ended = set(weak)
        if self.form.name == "additive":  # of params* ~ flops^a: better known than alpha and beta are
            value["params_exponent"] = value["beta"] / (value["alpha"] + value["beta"])
            spread["params_exponent"] = spread["beta"] / (spread["alpha"] + spread["beta"])
            if open_ended & {"alpha", "beta"}:
                open_ended.add("params_exponent")
        return {
            name: expanded_interval(
                float(value[name]),
                spread[name][: 0 if name in open_ended else None],
                self.level,
                self.clusters,
                self.fitted,
            )
            for name in value
            if name not in held
        }

    def _sensitivity(self, theta: Floats, draws: Floats) -> tuple[AsymptoteCase, ...]:
        """The fit with the asymptote held at the ends of its interval and a tenth below and above."""
        if not self.form.asymptote:
            return ()
        held = [theta[0] + np.log(0.9), theta[0] + np.log(1.1)]
        if len(draws) and self.clusters > self.fitted and not self.frozen[0]:
            held += [float(bound) for bound in interval(draws[:, 0], self.level, self.clusters, self.fitted)]
        start = np.tile(theta, (len(held), 1))
        start[:, 0] = np.sort(np.minimum(held, self.log_y.max()))
        frozen = self.frozen.copy()
        frozen[0] = True
        for delta in (d for d in (0.1, 0.01) if d > self.problem.delta):
            start = minimise(self.problem.with_delta(delta), start, np.ones((1, len(self.log_y))), frozen=frozen).theta
        found = minimise(self.problem, start, np.ones((1, len(self.log_y))), frozen=frozen)
        natural = self.form.natural(found.theta, self.centre)
        objective = float((self.clipped * (self.residual - 0.5 * self.clipped)).sum())  # of the data, without a prior
        return tuple(
            AsymptoteCase(
                asymptote=float(np.exp(found.theta[i, 0])),
                doubt=float(2 * (found.objective[i] - objective) / self.unit),
                parameters={name: float(value[i]) for name, value in natural.items()},
            )
            for i in np.flatnonzero(found.converged)
        )


def _columns(*columns: ArrayLike) -> Floats:
    """(3 or 4, n): params, tokens, loss and what else there is, checked."""
    found = [np.asarray(x, dtype=float).ravel() for x in columns]
    if len({len(x) for x in found}) != 1:
        raise ValueError(f"params, tokens and loss have {', '.join(str(len(x)) for x in found)} rows: not one each")
    for name, x in zip(("params", "tokens", "loss", "the third input"), found, strict=False):
        bad = np.flatnonzero(~((x > 0) & np.isfinite(x)))
        if len(bad):
            raise ValueError(f"{name} must be positive and finite in every row; row {bad[0]} has {x[bad[0]]}")
    return np.stack(found)


def _bins(logs: Floats) -> list[tuple[float, float]]:
    """Distinct values, or `GROUPS` ranges with as many rows each where there are more."""
    values = np.unique(np.round(logs, 2))  # sizes within a percent are one scale
    if len(values) <= GROUPS:
        return [(v - 0.0051, v + 0.0051) for v in values]
    edges = np.quantile(logs, np.linspace(0, 1, GROUPS + 1))
    return [(float(a), float(b)) for a, b in itertools.pairwise(np.unique(edges))]


def _span(low: float, high: float) -> str:
    low, high = float(np.exp(low)), float(np.exp(high))
    return f"{np.sqrt(low * high):.3g}" if high < 1.02 * low else f"{low:.3g} to {high:.3g}"
