"""The loss where a further input of the run is asked for: tokens that repeat, a share of active experts, their number.

One form answers, the one that has the input; it was fitted to all runs that say theirs (`estimate.loss.third`). Without
one asked for, the loss is that of ordinary runs: each token once, and as many experts at work as in most runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.ask import THIRD_INPUTS, ThirdInputs
from lawfit.errors import NotEnoughData
from lawfit.estimate.loss.ensemble import LossEnsemble
from lawfit.estimate.loss.result import MIXED, Interval, LossFit, LossPrediction
from lawfit.estimate.observe.repeated import REPEATED
from lawfit.findings import Finding, Found, finding, joined
from lawfit.records import Fit, FitStatus
from lawfit.units import decades_beyond, six_digits

Floats = NDArray[np.float64]

# input that is asked for -> the form that has it
FORM_OF: Final[Mapping[str, str]] = {
    "unique_tokens": "data_constrained",
    "epochs": "data_constrained",
    "active_share": "moe_sparsity",
    "experts": "experts",
}
SAME: Final = 0.05  # of ln of an input that no run varies: a target farther away is another one


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A further input as it was asked for."""

    name: str  # of `THIRD_INPUTS`
    value: float

    @classmethod
    def of(cls, asked: ThirdInputs) -> Asked | None:
        """The one that is asked for, if any."""
        said = [(name, value) for name in THIRD_INPUTS if (value := getattr(asked, name)) is not None]
        return cls(name=said[0][0], value=float(said[0][1])) if said else None

    @property
    def form(self) -> str:
        return FORM_OF[self.name]

    def third(self, tokens: ArrayLike) -> Floats:
        """The form's third input at runs on so many tokens; more unique tokens than tokens are each seen once."""
        tokens = np.asarray(tokens, dtype=float)
        if self.name == "unique_tokens":
            return np.maximum(tokens / self.value, 1.0)
        return np.full_like(tokens, self.value)

    @property
    def found(self) -> Finding:
        """``40B unique tokens``."""
        return finding("advice.third", input=self.name, value=self.value)


@dataclass(frozen=True, kw_only=True)
class LossAtThird:
    """The loss at any scale with a further input given; answers as `LossFit` and `LossEnsemble` do.

    What ordinary runs say of the level, by all their forms, times what the one form with the input says that the input
    does: its loss there over its loss at the usual input, where both answers are therefore one. Where there is no law
    of ordinary runs the form answers alone.
    """

    fit: LossFit  # the form that has the input
    asked: Asked
    stored: Mapping[str, Any]  # what the payload keeps of the form
    ordinary: LossEnsemble | LossFit | None
    sentences: tuple[Found, ...]  # on the law of ordinary runs
    standing: FitStatus  # of the same
    drift_sd: float  # of log loss per decade of compute beyond the runs, as of ordinary runs
    drift_freedom: float

    @property
    def scales(self) -> Mapping[str, tuple[float, float]]:
        return self.fit.scales if self.ordinary is None else self.ordinary.scales

    @property
    def level(self) -> float:
        return self.fit.level

    @property
    def status(self) -> FitStatus:
        """The worse of both that answer."""
        # numbers that are open and not lent are in the interval, as a form that is certified has its own there
        own = FitStatus.SPARSE if self.stored["lent"] else FitStatus.OK
        if self.ordinary is None:
            return own
        return self.standing if self.always_usual or own is FitStatus.OK else own

    @cached_property
    def doubts(self) -> list[Found]:
        """What is open in the law of ordinary runs, and in the form, one by one, as its own certificate says."""
        if self.always_usual:
            return list(self.sentences)
        certificate = self.fit.certificate
        said: list[Found] = list(certificate.warnings)
        if self.stored["status"] == FitStatus.SPARSE.value:
            lent = finding("advice.numbers_lent", names=self.stored["lent"])
            why = joined(certificate.reasons) if certificate.reasons else lent
            said.insert(0, finding("advice.open_form", form=self.asked.form, why=why))
        return [*self.sentences, *said]

    @cached_property
    def covered(self) -> tuple[float, float]:
        """Smallest and largest third input of the runs."""
        low, high = self.stored["covered"]
        return float(low), float(high)

    @property
    def usual(self) -> float:
        """The third input of ordinary runs."""
        return float(self.stored["usual"])

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        return np.exp(self.log_loss(params, tokens))

    def log_loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        if self.ordinary is None:
            return np.log(self.fit.loss(params, tokens, self.asked.third(tokens)))
        return self.ordinary.log_loss(params, tokens) + self.effect(params, tokens)

    def effect(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """ln of the form's loss with the input over its loss with the usual one."""
        there = self.fit.loss(params, tokens, self.asked.third(tokens))
        return np.log(there) - np.log(self.fit.loss(params, tokens, self.usual))

    def effect_draws(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """(resamples, scales) the same by each resample of the form."""
        there = self.fit.log_draws(params, tokens, self.asked.third(tokens))
        return there - self.fit.log_draws(params, tokens, self.usual)

    def beyond(self, tokens: float) -> float:
        """Decades by which the third input lies beyond those of the runs."""
        return decades_beyond(float(self.asked.third(tokens)), *self.covered)

    @property
    def always_usual(self) -> bool:
        """Whether ordinary runs answer whatever the scale: what is asked for is what they have."""
        return self.ordinary is not None and self.asked.name != "unique_tokens" and self.is_usual(1.0)

    def is_usual(self, tokens: float) -> bool:
        return bool(np.isclose(float(self.asked.third(tokens)), self.usual, rtol=1e-9))

    def mixed_log_draws(self, params: float, tokens: float) -> tuple[Floats, Floats]:
        """(draws,) log losses of the law at one scale, drift included, and of one more run; or empty."""
        rng = np.random.default_rng(0)
        if self.ordinary is None:
            law = self.fit.widened_log_draws(params, tokens, float(self.asked.third(tokens)))
            if not len(law):
                return law, law
            law = np.resize(law, MIXED)
            flops = decades_beyond(6.0 * params * tokens, *self.scales["flops"])
            law = law + self.drift_sd * flops * rng.standard_t(self.drift_freedom, len(law))
            law = law + self._unseen(params, tokens) * rng.standard_normal(len(law))
            return law, law + rng.choice(self.fit.residuals, len(law))
        law, _ = self.ordinary.mixed_log_draws(params, tokens)
        moved = self.fit.widened(self.effect_draws(params, tokens)[:, 0])
        if not len(law) or not len(moved):
            return np.empty(0), np.empty(0)
        # resamples of the form and of the average are drawn independently of each other
        moved = rng.permutation(np.resize(moved, len(law)))
        law = law + moved + self._unseen(params, tokens) * rng.standard_normal(len(law))
        # what a run has of its own: as those with that input, which the form may not follow as far
        return law, law + rng.choice(self.fit.residuals, len(law))

    def _unseen(self, params: float, tokens: float) -> float:
        """Sd of what the input does beyond the runs: as uncertain, per decade, as it is large.

        No run shows how it goes on there.
        """
        beyond = self.beyond(tokens)
        return beyond * abs(float(self.effect(params, tokens))) if beyond else 0.0

    def predict(self, params: float, tokens: float) -> LossPrediction:
        """Loss at one scale, with an interval that is wider where the scale or the input lies beyond the runs."""
        if self.ordinary is not None and self.is_usual(tokens):
            said = self.ordinary.predict(params, tokens)
            decades = {**said.extrapolation_decades, self.asked.name: 0.0}
            return replace(said, extrapolation_decades=decades)
        value = float(self.loss(params, tokens))
        law, run = self.mixed_log_draws(params, tokens)
        at = {"params": params, "tokens": tokens, "flops": 6.0 * params * tokens}
        laws = [self.fit.scales, self.scales]  # what the input does and the level come from these
        return LossPrediction(
            expected=self._interval(value, law),
            run=self._interval(value, run),
            extrapolation_decades={
                **{name: max(decades_beyond(at[name], *scales[name]) for scales in laws) for name in at},
                self.asked.name: self.beyond(tokens),
            },
        )

    def _interval(self, value: float, draws: Floats) -> Interval:
        if not len(draws):
            return Interval(value=value, low=None, high=None)
        low, high = np.exp(np.quantile(draws, [0.5 - self.level / 2, 0.5 + self.level / 2]))
        return Interval(value=value, low=float(low), high=float(high))


def usable_form(payload: Mapping[str, Any], form: str) -> Mapping[str, Any] | None:
    """What is kept of a form with a third input, where it may answer."""
    stored: Mapping[str, Any] | None = (payload.get("further_forms") or {}).get(form)
    # a fit of before forms had a status answers as it did, and is asked for by no new input
    usable = stored is not None and stored.get("status", FitStatus.UNCERTIFIED.value) != FitStatus.UNCERTIFIED.value
    return stored if usable else None


def asked_for(payload: Mapping[str, Any], asked: ThirdInputs, tokens: float | None) -> Asked | None:
    """The further input that moves the loss; None also where ordinary runs have what is asked for, and no form more.

    Parameters
    ----------
    tokens : of the target, where they are known
    """
    third = Asked.of(asked)
    if third is None or usable_form(payload, third.form) is not None:
        return third
    # fits of before do not say what is usual; tokens that are read once always are
    usual = (payload.get("usual") or {"data_constrained": 1.0}).get(third.form)
    if usual is None or (third.name == "unique_tokens" and tokens is None):
        return third
    return None if np.isclose(float(third.third(tokens or 1.0)), usual, rtol=1e-9) else third


def as_ordinary(payload: Mapping[str, Any], asked: ThirdInputs, tokens: float | None) -> list[Found]:
    """A note where what is asked for is what ordinary runs have, and no form of the runs knows of others."""
    third = Asked.of(asked)
    if third is None or asked_for(payload, asked, tokens) is not None:
        return []
    return [finding("advice.as_ordinary", third=third.found)]


def loss_at_third(fit: Fit, asked: Asked, level: float) -> LossAtThird:
    """The law that answers with a further input.

    Raises
    ------
    NotEnoughData
        The runs carry no form with that input: why.
    """
    stored = usable_form(fit.payload, asked.form)
    if stored is None:
        asked_of = {"recipe": fit.recipe_name, "input": asked.name, "third": asked.found}
        raise NotEnoughData(finding("advice.third_unknown", **asked_of, why=_lacking(fit.payload, asked.form)))
    forms = fit.payload.get("forms")
    drift = None if forms is None else LossEnsemble.from_json(forms).drift
    alone = not _has_ordinary(fit, stored)
    return LossAtThird(
        fit=replace(LossFit.from_json(stored["fit"]), level=level),
        asked=asked,
        stored=stored,
        ordinary=None if alone else ordinary_law(fit, level),
        sentences=() if alone else tuple(fit.payload.get("sentences") or ()),
        standing=fit.status,
        drift_sd=0.0 if drift is None else drift.sd,
        drift_freedom=1.0 if drift is None else drift.freedom,
    )


@lru_cache(maxsize=16)
def ordinary_law(fit: Fit, level: float) -> LossEnsemble | LossFit:
    """The loss of ordinary runs: the average of forms where there is one, else the additive law alone."""
    if forms := fit.payload.get("forms"):
        return LossEnsemble.from_json(forms).at_level(level)
    return replace(LossFit.from_json(fit.payload["fit"]), level=level)


def _has_ordinary(fit: Fit, stored: Mapping[str, Any]) -> bool:
    """Whether ordinary runs say the level: by a law that may answer, and wherever the form does."""
    everywhere = set(fit.payload.get("same_input") or ()) <= set(stored.get("same_input") or ())
    return fit.status is not FitStatus.UNCERTIFIED and "fit" in fit.payload and everywhere


def _lacking(payload: Mapping[str, Any], form: str) -> Found:
    stored = (payload.get("further_forms") or {}).get(form)
    if stored is not None and "status" in stored:
        reasons = stored["fit"]["certificate"]["reasons"]
        return finding("advice.form_not_certified", form=form, why=joined(reasons))
    lacking: Found | None = (payload.get("not_fitted") or {}).get(form)
    return lacking or finding("advice.no_such_form")


def require_scale(payload: Mapping[str, Any], asked: Asked | None, params: float, tokens: float) -> None:
    """That a target has the parameters, or tokens, that all runs have, where no run varies them.

    Raises
    ------
    NotEnoughData
        It has not: nothing shows how the loss moves with that input.
    """
    stored = payload if asked is None else usable_form(payload, asked.form) or {}
    for name, value in (stored.get("same_input") or {}).items():
        wanted = {"params": params, "tokens": tokens}[name]
        if abs(np.log(wanted / value)) > SAME:
            raise NotEnoughData(finding("advice.one_amount", input=name, value=value, wanted=wanted))


def require_both(payload: Mapping[str, Any], asked: Asked | None) -> None:
    """That the runs vary parameters and tokens, which a plan weighs against each other.

    Raises
    ------
    NotEnoughData
        They do not.
    """
    stored = payload if asked is None else usable_form(payload, asked.form) or {}
    for name, value in (stored.get("same_input") or {}).items():
        raise NotEnoughData(finding("plan.one_amount", input=name, value=value))


def third_part(law: LossAtThird, params: float, tokens: float) -> dict[str, Any]:
    """What the document says of the input that was asked for."""
    third, (low, high), effect = float(law.asked.third(tokens)), law.covered, float(law.effect(params, tokens))
    return {
        "input": law.asked.name,
        "asked": law.asked.value,
        "form": law.fit.form,
        "at": third,
        "covered": [low, high],
        "usual": law.usual,
        "loss_at_usual": six_digits(float(law.loss(params, tokens)) * np.exp(-effect)),
        "effect": six_digits(np.expm1(effect)),
        "alone": law.ordinary is None,
        "scales": law.fit.certificate.rows,
        "parameters": {
            name: {"value": p.value, "low": p.low, "high": p.high} for name, p in law.fit.parameters.items()
        },
        "lent": list(law.stored["lent"]),
    }


def third_notes(law: LossAtThird, params: float, tokens: float) -> list[Found]:
    """Notes on the input that was asked for: where the form comes from, and what no run covers."""
    part = third_part(law, params, tokens)
    form = {"third": law.asked.found, "form": law.asked.form, "scales": law.fit.certificate.rows}
    first: list[Found] = [finding("advice.as_ordinary", third=law.asked.found)]
    if law.ordinary is None:
        first = [finding("advice.by_form_alone", **form)]
    elif not law.is_usual(tokens):
        first = [finding("advice.moved_by_third", **form, effect=part["effect"], usual=law.usual)]
    if law.asked.name == "unique_tokens":
        seen = finding("advice.seen", times=part["at"]) if part["at"] > 1 else finding("advice.seen_once")
        first.append(seen)
    said = [joined(first), *beyond_note(law, tokens)]
    if part["lent"] and (law.ordinary is None or not law.is_usual(tokens)):
        said.append(finding("advice.form_lent", names=part["lent"]))
    return said


def settings_note(asked: ThirdInputs, tokens: float) -> list[Found]:
    """That learning rate, batch and weight decay know nothing of the input that was asked for."""
    third = Asked.of(asked)
    if third is None or (third.form == "data_constrained" and float(third.third(tokens)) < REPEATED):
        return []
    if third.form == "data_constrained":
        return [finding("advice.settings_of_repeats", third=third.found)]
    return [finding("advice.ordinary_settings", third=third.found)]


def beyond_note(law: LossAtThird, tokens: float) -> list[Found]:
    """That the input that was asked for, or found best, lies beyond the runs."""
    if law.beyond(tokens) <= 0:
        return []
    low, high = law.covered
    return [finding("advice.third_beyond", form=law.asked.form, low=low, high=high, at=law.asked.third(tokens))]


def ordinary_notes(payload: Mapping[str, Any]) -> list[Found]:
    """What is taken for granted where no further input is asked for, and the runs vary one."""
    return [
        finding("advice.ordinary", form=form, usual=stored["usual"], usable=stored["status"] != FitStatus.UNCERTIFIED)
        for form, stored in (payload.get("further_forms") or {}).items()
        if "status" in stored
    ]
