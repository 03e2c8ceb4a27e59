"""Who may lend what to which recipe: published laws that are of its kind, less those that are withheld.

What a law measured holds for recipes like its own. Three things about a recipe decide (its data and tokenizer do not:
the spread between laws stands for them):

- *Parametrization.* Under muP and its kin (CompleteP, norm-based optimizers) the best base learning rate stays put as
  the width grows (arXiv 2203.03466), so an exponent of params that was measured in standard parametrization is about
  another quantity, and so is a level. Standard laws lend such a recipe nothing about learning rate or batch: their
  exponents of the batch were measured along sizes whose learning rate moved. The other way round, laws measured under
  muP say something about tokens alone, which muP does not change (arXiv 2409.19913, 2408.13359), and may be lent.
- *Optimizer.* A learning rate is a step length in one optimizer's units: level and exponents are lent within a family
  (Adam and its variants; Muon and Scion; signs, as Lion; SGD). So is the AdamW timescale, which other optimizers do not
  have, and the exponent of a critical batch: how well large batches are used is the optimizer's (arXiv 2505.02222).
  Batch laws, of AdamW but for Scion's as far as they say, are lent to every family, and named: exponents in tokens
  agree across the two as well as among AdamW's own.
- *Schedule.* A constant rate wants a lower peak than one that decays from the start (arXiv 2406.19146), so the level of
  the learning rate is lent among schedules that hold the rate, or among those that do not. Exponents are lent across:
  those of the critical batch agree (0.47 at constant rates, 0.462 on a linear decay, arXiv 2410.21676, 2505.13738), and
  of the others the spread between laws holds both kinds.

The asymptote of the loss is the entropy of text, not of a recipe: it is lent to all whose loss is in its unit
(`loss_units`): in bits per byte, or per token of a tokenizer of single bytes, it is another number.

What a recipe or a law does not say is unknown. Most people train with AdamW in standard parametrization, so unknown
counts as that; what is lent on that ground says so (`Lending.assumed`). A schedule that is not known rules out nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lawfit.errors import UnknownLaw
from lawfit.findings import Finding, finding
from lawfit.laws.entry import PublishedLaw
from lawfit.laws.loss_units import LENT_IN, another_unit
from lawfit.laws.published import published_laws
from lawfit.laws.rate_falls import holds_the_rate
from lawfit.records import Json, Recipe

# What is lent: a level by a law's vote, an exponent by its evidence.
TOKENS: Final = "tokens"  # what published laws count data in
QUANTITIES: Final = (
    "lr",  # level
    "lr_joint",  # exponents
    "batch_tokens",  # level
    "batch",  # exponents
    "timescale",
    "critical_batch",
    "least_tokens_batch",
    "loss",  # asymptote
)
_OF_LR: Final = ("lr", "lr_joint")


class Parametrization(StrEnum):
    """How learning rates of matrices depend on width."""

    UNKNOWN = ""
    STANDARD = "standard"
    TRANSFERS = "transfers across width"  # muP, CompleteP, norm-based optimizers
    OTHER = "another"


class Family(StrEnum):
    """Optimizers whose learning rates are in the same units."""

    UNKNOWN = ""
    ADAM = "Adam"
    MATRIX = "Muon"  # orthogonalised or norm-constrained updates
    SIGN = "sign"
    SGD = "SGD"
    OTHER = "another"


class Hold(StrEnum):
    """What the schedule does with the peak learning rate."""

    UNKNOWN = ""
    HELD = "holds its peak"
    DECAYING = "decays from the start"


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What decides who lends to a recipe, or to which recipes a law lends."""

    parametrization: Parametrization
    family: Family
    hold: Hold

    @classmethod
    def of(cls, parametrization: str, optimizer: str, schedule: str) -> Traits:
        """From the words of a recipe or of a law's context."""
        held = Hold.HELD if holds_the_rate(schedule) else Hold.DECAYING
        return cls(
            parametrization=parametrization_of(parametrization),
            family=family_of(optimizer),
            hold=held if schedule.strip() else Hold.UNKNOWN,
        )


@dataclass(frozen=True, kw_only=True)
class Withheld:
    """A law that lends nothing of one quantity, and why."""

    law: str  # id
    quantity: str  # one of QUANTITIES
    reason: Finding


@dataclass(frozen=True, kw_only=True)
class Lending:
    """What published laws lend to one recipe."""

    lenders: Mapping[str, tuple[str, ...]]  # quantity -> ids of the laws that lend it; empty: nobody does
    withheld: tuple[Withheld, ...]
    without: tuple[str, ...]  # the same as `priors` and `lent` take it: ids, or "id.quantity"
    assumed: Mapping[str, tuple[Finding, ...]]  # quantity -> what was taken for granted about the recipe to lend it

    def not_lent(self) -> list[Finding]:
        """Which laws are withheld and why, one finding per reason."""
        told: dict[Finding, dict[str, list[str]]] = {}
        for each in self.withheld:
            told.setdefault(each.reason, {}).setdefault(each.quantity, []).append(each.law)
        said = []
        for reason, quantities in told.items():
            by_laws: dict[tuple[str, ...], list[str]] = {}
            for quantity, laws in quantities.items():
                by_laws.setdefault(tuple(laws), []).append(quantity)
            parts = [{"quantities": lent, "laws": laws} for laws, lent in by_laws.items()]
            said.append(finding("published.not_lent", reason=reason, parts=parts))
        return said

    def to_json(self) -> dict[str, Json]:
        return {
            "lenders": {quantity: list(laws) for quantity, laws in self.lenders.items()},
            "withheld": [vars(each).copy() for each in self.withheld],
            "assumed": {quantity: list(said) for quantity, said in self.assumed.items()},
        }


def parametrization_of(words: str) -> Parametrization:
    """``"mup from width 64"`` transfers across width, ``"sp"`` is standard; a word that is not known is another one."""
    said = words.strip().lower().replace("µ", "mu").replace("μ", "mu")
    if not said:
        return Parametrization.UNKNOWN
    if re.match(r"(standard|sp\b|default|none|pytorch|(no|non|not|without)\b)", said):
        return Parametrization.STANDARD
    if re.search(r"mup|mu-p|mu p|maximal update|completep|spectral|norm-based|modula", said):
        return Parametrization.TRANSFERS
    return Parametrization.OTHER


def family_of(optimizer: str) -> Family:
    """Whose units the learning rate is in; of several optimizers, the one of the matrices."""
    said = optimizer.strip().lower()
    if not said:
        return Family.UNKNOWN
    for family, pattern in (
        (Family.MATRIX, r"muon|scion"),
        (Family.SIGN, r"\blion|sign"),
        # variants that step in Adam's units, by their bare names; `lawfit.simulate` makes runs as AdamW's would be
        (Family.ADAM, r"adam|\bmini\b|\bcautious|\bmars\b|^simulated$"),
        (Family.SGD, r"\bsgd|momentum|nesterov"),
    ):
        if re.search(pattern, said):
            return family
    return Family.OTHER


def may_lend(law_id: str, quantity: str, without: Sequence[str]) -> bool:
    """Whether `without` names neither the law nor this quantity of it (``"step_law"``, ``"step_law.lr"``)."""
    return law_id not in without and f"{law_id}.{quantity}" not in without


def lenders(quantity: str, without: Sequence[str] = ()) -> tuple[PublishedLaw, ...]:
    """Laws that lend a quantity: by a vote, or by evidence (of which the catalogue holds none from memory).

    Raises
    ------
    UnknownLaw
        `without` names a law that is not in the catalogue.
    """
    check_withheld(without)
    return tuple(law for law in _candidates(quantity) if may_lend(law.id, quantity, without))


def lent_by(law: PublishedLaw) -> dict[str, Finding]:
    """What a law lends, by quantity; empty for one that lends nothing.

    Levels are lent by a vote, exponents by evidence that was read in a source (`PublishedLaw.exponents`).
    """
    found = {}
    for quantity in QUANTITIES:
        rows = [row for row in law.exponents if row.of == quantity]
        if rows or quantity in law.votes:
            exponents = [{"along": row.along, "value": row.value} for row in rows]
            found[quantity] = finding("published.lends", quantity=quantity, exponents=exponents)
    return found


def check_withheld(without: Sequence[str]) -> None:
    """Refuse a name that is neither a law nor a quantity of one.

    Raises
    ------
    UnknownLaw
        With the ids, or the quantities, that exist.
    """
    laws = published_laws()
    for name in without:
        law_id, _, quantity = name.partition(".")
        if law_id not in laws:
            raise UnknownLaw(finding("published.no_such_law", law=law_id, laws=list(laws)))
        if "." in name and quantity not in QUANTITIES:
            raise UnknownLaw(finding("published.no_such_quantity", quantity=quantity, quantities=QUANTITIES))


def lending_to(recipe: Recipe, named: Sequence[str] = ()) -> Lending:
    """Who lends what to a recipe, and who does not, with the reason.

    Parameters
    ----------
    named : laws that must not lend anything, because they were fitted on these runs; an id, or one quantity of it
        (``step_law.lr``). All that was fitted on the same runs is withheld with them.

    Raises
    ------
    UnknownLaw
        `named` holds a law that is not in the catalogue.
    """
    check_withheld(named)
    traits = Traits.of(recipe.parametrization, recipe.optimizer, recipe.schedule)
    whole = _of_one_body(named)
    lending: dict[str, list[str]] = {quantity: [] for quantity in QUANTITIES}
    withheld = []
    for quantity in QUANTITIES:
        for law in _candidates(quantity):
            reason = (
                finding("published.on_request")
                if not may_lend(law.id, quantity, whole)
                else _misfit(law, quantity, traits, recipe)
            )
            if reason:
                withheld.append(Withheld(law=law.id, quantity=quantity, reason=reason))
            else:
                lending[quantity].append(law.id)
    found = {quantity: tuple(laws) for quantity, laws in lending.items()}
    return Lending(
        lenders=found,
        withheld=tuple(withheld),
        without=tuple(dict.fromkeys((*whole, *(f"{each.law}.{each.quantity}" for each in withheld)))),
        assumed=_assumed(traits, found) | _assumed_unit(recipe, found),
    )


def _candidates(quantity: str) -> list[PublishedLaw]:
    return [
        law
        for law in published_laws().values()
        if quantity in law.votes or any(row.of == quantity for row in law.exponents)
    ]


def _of_one_body(named: Sequence[str]) -> tuple[str, ...]:
    """The names, and the same of every law that was fitted on the same runs."""
    laws = published_laws()
    found: dict[str, None] = {}
    for name in named:
        law_id, dot, quantity = name.partition(".")
        found |= {f"{law.id}{dot}{quantity}": None for law in laws.values() if law.evidence == laws[law_id].evidence}
    return tuple(found)


def _misfit(law: PublishedLaw, quantity: str, recipe: Traits, said: Recipe) -> Finding | None:
    """Why a law lends nothing of a quantity to a recipe of these traits; None where it does."""
    unit = str(said.extra.get("data_unit") or TOKENS)
    if unit != TOKENS:
        return finding("published.other_data_unit", unit=unit)
    if quantity == "loss":
        other = another_unit(said.loss_kind, said.tokenizer)
        return None if other is None else finding("published.other_unit", unit=LENT_IN, loss=other)
    own = Traits.of(*(law.context.get(name, "") for name in ("parametrization", "optimizer", "schedule")))
    return (
        _other_parametrization(own.parametrization, quantity, recipe.parametrization, said.parametrization)
        or _other_family(own.family, quantity, recipe.family, said.optimizer)
        or _other_schedule(own.hold, quantity, recipe.hold, said.schedule)
    )


def _other_parametrization(own: Parametrization, quantity: str, recipe: Parametrization, said: str) -> Finding | None:
    usual = (Parametrization.STANDARD, Parametrization.UNKNOWN)
    if recipe in usual:
        if own not in usual and quantity in _OF_LR:
            return finding("published.not_standard")
        return None
    # of learning rates even a law that does not say its parametrization is taken for a standard one
    if own is Parametrization.STANDARD or (own is Parametrization.UNKNOWN and quantity in _OF_LR):
        return finding("published.standard", recipe=said)
    if recipe is Parametrization.OTHER and quantity in _OF_LR:
        return finding("published.transfers", recipe=said)
    return None


def _other_family(own: Family, quantity: str, recipe: Family, said: str) -> Finding | None:
    if quantity in ("batch_tokens", "batch"):
        return None
    law_family, recipe_family = (Family.ADAM if f is Family.UNKNOWN else f for f in (own, recipe))
    if law_family is recipe_family and recipe_family is not Family.OTHER:
        return None
    return finding("published.other_optimizer", law=law_family, recipe=said)


def _other_schedule(own: Hold, quantity: str, recipe: Hold, said: str) -> Finding | None:
    if quantity != "lr" or Hold.UNKNOWN in (own, recipe) or own is recipe:
        return None
    return finding("published.other_schedule", law=own, recipe=recipe, schedule=said)


def _assumed_unit(recipe: Recipe, found: Mapping[str, Sequence[str]]) -> dict[str, tuple[Finding, ...]]:
    return {} if recipe.loss_kind or not found["loss"] else {"loss": (finding("published.assumed_nats"),)}


def _assumed(recipe: Traits, found: Mapping[str, Sequence[str]]) -> dict[str, tuple[Finding, ...]]:
    """What was taken for granted, under each quantity that would not be lent if the recipe were not the usual one."""
    assumed: dict[str, tuple[Finding, ...]] = {}
    for quantity in ("lr_joint", "timescale", "critical_batch"):
        taken = ["parametrization"] * (recipe.parametrization is Parametrization.UNKNOWN and quantity in _OF_LR)
        taken += ["optimizer"] * (recipe.family is Family.UNKNOWN)
        if found[quantity] and taken:
            assumed[quantity] = (finding("published.assumed", taken=taken, quantity=quantity),)
    return assumed
