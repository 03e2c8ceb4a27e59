"""What a change of the run asks of each setting: the exact rules put together, each with its reason and source.

A change is of one thing, the batch or the horizon; width and depth have tables of their own (`parametrization`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from lawfit.findings import Finding, finding
from lawfit.laws import transfer
from lawfit.laws.timescale import DecayConvention

_MAX_RATIO: Final = 1e9  # from one sequence to beyond any run; more is a slip of the keyboard
_MAX_EXPONENT: Final = 2.0  # measured ones lie between 0 and 1
_EMA_WARNING: Final = 0.1  # share of a step's weight at which the rule for averages stops being a rule


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Settings as tuned before the change; those that are None are not asked for."""

    lr: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    ema: float | None = None  # decay of the average of the weights
    weight_decay: float | None = None
    convention: DecayConvention = DecayConvention.COUPLED


@dataclass(frozen=True, kw_only=True)
class Changed:
    """One setting after a change."""

    setting: str
    before: float | None  # None: not given, so only the factor is known
    after: float | None
    factor: float | None  # None where the change is no factor (averages)
    rule: Finding
    cite: str
    checked: str  # V1, V2 or MEM, as in data/laws.toml; empty without a source


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one change does to all settings."""

    settings: tuple[Changed, ...]
    notes: tuple[Finding, ...]


def change_batch(
    tuned: Tuned, batch_tokens: float, new_batch_tokens: float, *, lr_exponent: float = transfer.SQRT, sde: bool = False
) -> Change:
    """From one batch to another, tokens and model unchanged.

    Parameters
    ----------
    lr_exponent : float
        Of the batch in the learning rate. With `sde` it is `transfer.SQRT` by derivation.
    sde : bool
        All settings of Adam move together, as arXiv 2205.10287 derives; otherwise beta2 keeps its half-life in tokens,
        beta1 and eps stay.
    """
    kappa = _ratio("batch", batch_tokens, new_batch_tokens)
    _check_exponent(lr_exponent)
    if sde and lr_exponent != transfer.SQRT:
        raise ValueError("the rules of the Adam SDE move the learning rate with the square root of the batch")
    lr_factor = float(transfer.batch_lr(1.0, batch_tokens, new_batch_tokens, exponent=lr_exponent))
    settings = [_by_factor("lr", tuned.lr, lr_factor, *_lr_batch_rule(lr_exponent))]
    settings += _adam_sde(tuned, kappa) if sde else _half_life(tuned, batch_tokens, new_batch_tokens)
    if tuned.ema is not None:
        after = float(transfer.ema_for_batch(tuned.ema, kappa))
        settings.append(_value("ema", tuned.ema, after, finding("rules.same_average"), "arXiv:2307.13813", "V2"))
    decay = transfer.weight_decay_for(1.0, batch_ratio=kappa, lr_ratio=lr_factor, convention=tuned.convention)
    settings.append(_by_factor("weight_decay", tuned.weight_decay, float(decay), *_kept_timescale(tuned.convention)))
    return Change(settings=tuple(settings), notes=tuple(_batch_notes(tuned, kappa, lr_exponent)))


def change_horizon(
    tuned: Tuned, tokens: float, new_tokens: float, *, exponent: float | None = None, params: float | None = None
) -> Change:
    """From one horizon to another, batch and model unchanged.

    Parameters
    ----------
    exponent : float or None
        Of the learning rate, ``lr ~ tokens^-exponent``; None: as Bjorck et al. measured at `params`, or their 0.32.
    """
    ratio = _ratio("horizon", tokens, new_tokens)
    if exponent is None:
        chosen = transfer.BJORCK_TOKEN_EXPONENT if params is None else float(transfer.horizon_exponent(params))
        rule, source = finding("rules.measured_horizon", exponent=chosen), ("arXiv:2409.19913", "V2")
    else:
        _check_exponent(exponent)
        chosen, source = exponent, ("yours", "")
        rule = finding("rules.given_horizon", exponent=chosen)
    lr_factor = float(transfer.horizon_lr(1.0, tokens, new_tokens, exponent=chosen))
    lr = _by_factor("lr", tuned.lr, lr_factor, rule, *source)

    def decay(timescale_exponent: float) -> float:
        return float(
            transfer.weight_decay_for(
                1.0,
                tokens_ratio=ratio,
                lr_ratio=lr_factor,
                timescale_exponent=timescale_exponent,
                convention=tuned.convention,
            )
        )

    power_lines = transfer.POWER_LINES_TIMESCALE_EXPONENT
    rule = finding("rules.timescale_moves", exponent=power_lines, convention=tuned.convention)
    weight_decay = _by_factor("weight_decay", tuned.weight_decay, decay(power_lines), rule, "arXiv:2505.13738", "V2")
    notes = [finding("rules.timescale_kept", factor=decay(0.0))]
    if params is None and exponent is None:
        notes.append(finding("rules.large_models"))
    return Change(settings=(lr, weight_decay), notes=tuple(notes))


def _ratio(what: str, before: float, after: float) -> float:
    if not (before > 0 and after > 0 and before * _MAX_RATIO >= after and after * _MAX_RATIO >= before):
        raise ValueError(f"no rule carries a {what} of {before:g} tokens to {after:g}: is one of them a slip?")
    return after / before


def _check_exponent(exponent: float) -> None:
    if not abs(exponent) <= _MAX_EXPONENT:
        raise ValueError(f"an exponent of {exponent:g} is out of reach: measured ones lie between 0 and 1")


def _lr_batch_rule(exponent: float) -> tuple[Finding, str, str]:
    if exponent == transfer.SQRT:
        return finding("rules.adam_batch"), "arXiv:2205.10287", "V2"
    if exponent == transfer.LINEAR:
        return finding("rules.sgd_batch"), "arXiv:2006.09092", "V2"
    return finding("rules.given_batch", exponent=exponent), "yours", ""


def _adam_sde(tuned: Tuned, kappa: float) -> list[Changed]:
    given = transfer.Adam(
        lr=tuned.lr or 1.0,
        beta1=tuned.beta1 or 0.0,
        beta2=tuned.beta2 or 0.0,
        eps=1.0 if tuned.eps is None else tuned.eps,
    )
    moved = transfer.adam_sde(given, kappa)
    cite = "arXiv:2205.10287"
    rule = finding("rules.same_memory")
    settings = [
        _value(name, before, after, rule, cite, "V2")
        for name, before, after in (("beta1", tuned.beta1, moved.beta1), ("beta2", tuned.beta2, moved.beta2))
        if before is not None
    ]
    return [*settings, _by_factor("eps", tuned.eps, kappa**-0.5, finding("rules.eps_as_noise"), cite, "MEM")]


def _half_life(tuned: Tuned, batch_tokens: float, new_batch_tokens: float) -> list[Changed]:
    cite = "arXiv:2507.07101"
    settings = []
    if tuned.beta1 is not None:
        settings.append(_value("beta1", tuned.beta1, tuned.beta1, finding("rules.stays"), cite, "V1"))
    if tuned.beta2 is not None:
        after = float(transfer.beta2_for_batch(tuned.beta2, batch_tokens, new_batch_tokens))
        half_life = float(transfer.beta2_half_life_tokens(tuned.beta2, batch_tokens))
        rule = finding("rules.half_life", half_life_tokens=half_life)
        settings.append(_value("beta2", tuned.beta2, after, rule, cite, "V1"))
    if tuned.eps is not None:
        settings.append(_value("eps", tuned.eps, tuned.eps, finding("rules.eps_stays"), "", ""))
    return settings


def _kept_timescale(convention: DecayConvention) -> tuple[Finding, str, str]:
    return finding("rules.timescale_stays", convention=convention), "arXiv:2405.13698", "V2"


def _batch_notes(tuned: Tuned, kappa: float, lr_exponent: float) -> list[Finding]:
    notes = []
    if lr_exponent in (transfer.SQRT, transfer.LINEAR) and kappa != 1:
        low, high = sorted((kappa**0.25, kappa))
        notes.append(finding("rules.measured_slopes", low=low, high=high))
    if tuned.ema is not None and (gap := float(transfer.ema_gap(tuned.ema, kappa))) > _EMA_WARNING:
        notes.append(finding("rules.stretched_average", gap=gap))
    if tuned.beta2 is not None and kappa * -math.log(tuned.beta2) > math.log(2):
        notes.append(finding("rules.short_half_life"))
    return notes


def _by_factor(setting: str, before: float | None, factor: float, rule: Finding, cite: str, checked: str) -> Changed:
    after = None if before is None else before * factor
    return Changed(setting=setting, before=before, after=after, factor=factor, rule=rule, cite=cite, checked=checked)


def _value(setting: str, before: float | None, after: float, rule: Finding, cite: str, checked: str) -> Changed:
    return Changed(setting=setting, before=before, after=after, factor=None, rule=rule, cite=cite, checked=checked)
