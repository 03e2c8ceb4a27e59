"""Which column is the loss: that of validation data, in nats where there is one, whatever the order of the columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from lawfit.factors import normal, spellings
from lawfit.findings import Finding, finding
from lawfit.ingest.metrics import UNBOUNDED, data_of, is_endless, is_score, kind_of
from lawfit.ingest.names import LOSSES, is_smoothed_loss, is_training_loss, section
from lawfit.ingest.questions import Choice, Question
from lawfit.ingest.view import View, differs, median, pairs

_MOST_PERCENT: Final = 100.0
_SMOOTHED_ENOUGH: Final = 0.9  # share of the rows with a raw loss that must have the smoothed one
_SMOOTHED_ABOVE: Final = 1.03  # of the last loss, in the median run
_FEWEST: Final = 3  # numbers, to tell from them what a column measures
_KIND_ORDER: Final = ("nats", "bits", "bits_per_byte", "perplexity", "squared_error", "error", "score")
# What trainers add to a cross-entropy, and the words that say that nothing was added.
_TERM: Final = re.compile(
    r"(^|_)(aux|auxiliary|z|balance|balancing|router|load_balancing|kd|distill|distillation|mtp)(_\w+)?_loss(_|$)|(^|_)loss_(aux|auxiliary|z|balance|router)(_|$)"
)
_IN_NATS: Final = re.compile(r"[\s_]*[\[(]\s*nats?\b[^\])]*[\])]\s*$", re.IGNORECASE)
_PURE: Final = frozenset({"ce", "lm", "nll", "xent", "cross", "crossentropy", "token"})
_ON_THE_WAY: Final = frozenset({"best", "min", "lowest", "minimum"})
_OVER_ALL: Final = frozenset({"macro", "micro", "mean", "avg", "average", "overall", "total", "all", "combined"})
_COMMON: Final = frozenset(
    {
        *("val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout", "holdout", "train", "training"),
        *("final", "last", "loss", "lm", "metrics", "metric", "summary", "results", "cross", "entropy", "ce", "nll"),
        *("mean", "avg", "average", "macro", "micro", "overall", "total", "global", "bpb", "bpc", "ppl", "perplexity"),
        *(
            "wer",
            "cer",
            "mae",
            "rmse",
            "mse",
            "error",
            "err",
            "rate",
            "accuracy",
            "acc",
            "score",
            "top1",
            "smooth",
            "smoothed",
            "ema",
            "set",
        ),
        *("token", "tokens", "per", "nats", "bits", "byte", "value", "best", "min", "end", "step", "of", "run", "log"),
    }
)


@dataclass(frozen=True, kw_only=True)
class LossChoice:
    """The column of the loss, and why it is that one."""

    place: int | None
    evidence: str = ""
    notes: tuple[Finding, ...] = ()
    questions: tuple[Question, ...] = ()


def choose(view: View, free: list[int], metric: str | None = None) -> LossChoice:
    """The loss among columns that nothing else is read from.

    Parameters
    ----------
    metric : what a person says that it measures
    """
    scores = [place for place in free if is_score(view.table.columns[place]) and view.holds_numbers(place)]
    free = _without_sums(view, free)
    if metric in ("score", "percent_score") and len(scores) == 1:
        return LossChoice(place=scores[0], evidence="the only score")
    exact = view.table.exact
    named = [place for place in free if _is_known(view.table.columns[place]) and (exact or view.filled(place))]
    # Validation data under other words still goes before training data under the usual ones.
    trained = named and all(data_of(view.table.columns[place]) == "training" for place in named)
    if (letter := _letter(view, free)) is not None and (trained or not named):
        if trained:
            return LossChoice(place=letter, questions=tuple(filter(None, [_which(view, letter, named)])))
        return _taken(letter, finding("ingest.n_d_l", column=view.table.columns[letter]), view.table.columns[letter])
    bare = named and all(_is_bare(view.table.columns[place]) for place in named)
    if trained or bare or not named:
        loose = _loose(view, [place for place in free if place not in named])
        if loose.place is not None and (not named or data_of(view.table.columns[loose.place]) == "validation"):
            return loose if named else _instead_of_empty(view, free, loose)
        if not named:
            return loose
    return _by_name(view, named)


def _instead_of_empty(view: View, free: list[int], loose: LossChoice) -> LossChoice:
    """The same, said where a loss under a usual name is there and holds no number in any row."""
    columns = view.table.columns
    empty = [columns[place] for place in free if _is_known(columns[place]) and place != loose.place]
    if not empty:
        return loose
    said = finding("ingest.loss_instead", column=columns[loose.place or 0], empty=empty)
    return replace(loose, notes=(said, *loose.notes))


def _without_sums(view: View, free: list[int]) -> list[int]:
    """Without losses that have other terms in them: where a column holds such a term, the cross-entropy is the loss."""
    columns = view.table.columns
    if not any(_TERM.search(normal(column)) and view.holds_numbers(at) for at, column in enumerate(columns)):
        return free
    pure = [place for place in free if _is_pure(columns[place]) and view.holds_numbers(place)]
    of_data = {data_of(columns[place]) for place in pure}
    sums = {at for at in free if kind_of(columns[at]) == "nats" and at not in pure and data_of(columns[at]) in of_data}
    return [place for place in free if place not in sums]


def _is_pure(column: str) -> bool:
    return kind_of(column) == "nats" and not _PURE.isdisjoint(normal(column).split("_"))


def _is_known(column: str) -> bool:
    return kind_of(column) != "" and (is_smoothed_loss(column) or not set(LOSSES).isdisjoint(_forms(column)))


def _forms(column: str) -> tuple[str, ...]:
    """How a column may stand in `LOSSES`; nats are the unit of all of them."""
    return spellings(_IN_NATS.sub("", column))[:2]


def _is_bare(column: str) -> bool:
    """Whether nothing says of which data a loss is, and it was not said to be final either."""
    return data_of(column) == "" and "final" not in normal(column).split("_") and not is_smoothed_loss(column)


def _by_name(view: View, named: list[int]) -> LossChoice:
    """Among losses under known names: the smoothed one of the best data, else the first name of `LOSSES`."""
    columns = view.table.columns
    ranked = sorted(
        (data_of(columns[place]) == "training", LOSSES.index(form), data_of(columns[place]) != "validation", place)
        for place in named
        for form in _forms(columns[place])
        if form in LOSSES
    )
    raw = ranked[0][-1] if ranked else None
    smoothed = [place for place in named if is_smoothed_loss(columns[place])]
    if raw is not None and not is_training_loss(columns[raw]):
        # A smoothed loss on training data, or on data that it does not say, does not outrank one on validation data.
        smoothed = [place for place in smoothed if not is_training_loss(columns[place])]
        if data_of(columns[raw]) == "validation":
            smoothed = [place for place in smoothed if data_of(columns[place]) == "validation"]
    if not smoothed:
        if raw is None:
            return LossChoice(place=None)
        alike = [place for *rank, place in ranked[1:] if rank == [*ranked[0][:-1]] and place != raw]
        if asked := _which(view, raw, alike):
            return LossChoice(place=raw, questions=(asked,))
        others = list(dict.fromkeys(columns[place] for *_, place in ranked[1:] if place != raw))
        said = (finding("ingest.loss_is", column=columns[raw], others=others),) if others else ()
        return LossChoice(place=raw, notes=said)
    best = max(smoothed, key=view.filled)
    if raw is None or view.filled(best) >= _SMOOTHED_ENOUGH * view.filled(raw):
        if raw is not None and (asked := _which_of_late(view, best, raw)):
            return LossChoice(place=best, questions=(asked,))
        said = () if raw is None else (finding("ingest.smoothed_loss", column=columns[best], raw=columns[raw]),)
        return LossChoice(place=best, evidence="smoothed, so less noisy than a last value", notes=said)
    few = finding(
        "ingest.few_smoothed",
        column=columns[raw],
        smoothed=columns[best],
        filled=view.filled(best),
        rows=len(view.table.rows),
    )
    return LossChoice(place=raw, notes=(few,))


def _loose(view: View, free: list[int]) -> LossChoice:
    """Among results whose name has words of a loss in it, or is of another kind."""
    columns = view.table.columns
    found = []
    for place in free:
        kind = kind_of(columns[place])
        if kind in _KIND_ORDER and view.filled(place) and view.holds_numbers(place):
            found.append((_rank(columns[place], kind), place))
    if not found:
        endless = [place for place in free if kind_of(columns[place]) == UNBOUNDED]
        if endless:
            return LossChoice(place=None, questions=(unbounded(view, endless[0]),))
        return _objective(view, free)
    found.sort()
    rank, place = found[0]
    if ask := _which(view, place, [other for r, other in found[1:] if r == rank]):
        return LossChoice(place=place, questions=(ask,))
    others = [columns[other] for _, other in found[1:]]
    notes = (finding("ingest.loss_is", column=columns[place], others=others),) if others else ()
    strange = [word for word in _own_words(columns[place]) if word not in _COMMON]
    if strange:  # `cd_val_loss`: surely a loss, but perhaps of something else
        asked = finding("ingest.loss_by_its_words", column=columns[place], words=strange)
        choices = ((("map", f"{columns[place]}=loss"),),)
        ask = Question(found=asked, columns=(columns[place],), choices=choices, safe=0, assumed=True)
        return LossChoice(place=place, notes=notes, questions=(ask,))
    return LossChoice(place=place, notes=notes)


def _which(view: View, place: int, alike: list[int]) -> Question | None:
    """Which of several losses that nothing parts, where they hold other numbers."""
    others = [other for other in alike if differs(view.numbers(place), view.numbers(other), 1e-6)]
    if not others:
        return None
    names = [view.table.columns[each] for each in (place, *others)]
    choices = tuple((("map", f"{name}=loss"),) for name in names)
    found = finding("ingest.two_columns", columns=names, field="loss")
    return Question(found=found, columns=tuple(names), choices=choices)


def _which_of_late(view: View, smoothed: int, raw: int) -> Question | None:
    """Asked where a smoothed loss lies well above the last: losses fall, so it is the mean of much of the run."""
    ratios = sorted(a / b for a, b in pairs(view.numbers(smoothed), view.numbers(raw)) if b > 0)
    return _which(view, smoothed, [raw]) if ratios and median(ratios) > _SMOOTHED_ABOVE else None


def _rank(column: str, kind: str) -> tuple[int, int, int, int, bool, bool]:
    """Validation before unsaid before training; nats first; the plainest name; means over data sets before one.

    What a run ended with goes before the best that it had on its way.
    """
    words = normal(column).split("_")
    data = ("validation", "", "training").index(data_of(column))
    strange = [word for word in words if word not in _COMMON]
    over_all = not _OVER_ALL.isdisjoint(words)
    return (
        data == 2,
        _KIND_ORDER.index(kind),
        data,
        0 if over_all else 1 + (len(strange) > 0),
        not _ON_THE_WAY.isdisjoint(words),
        "test" in words,
    )


def _own_words(column: str) -> list[str]:
    """Words of the last part of a path: those before it name data sets."""
    parts = re.split(r"[./:|]", column.strip())
    return normal(parts[-1]).split("_") if len(parts) > 1 else _stripped(column).split("_")


def _stripped(column: str) -> str:
    return min(spellings(column), key=len)


def unbounded(view: View, place: int) -> Question:
    """Asked of a score that may have no upper bound; where its numbers are shares or percent, it may have one."""
    column, values = view.table.columns[place], view.values(place)
    choices: tuple[Choice, ...] = ((("map", "COLUMN=loss"),),)
    bounded = bool(values) and values[0] >= 0 and values[-1] <= _MOST_PERCENT and not is_endless(column)
    if bounded:
        choices = ((("map", f"{column}=loss"), ("metric", "score")), *choices)
    found = finding("ingest.unbounded_score", column=column, bounded=bounded)
    return Question(found=found, columns=(column,), choices=choices)


def percent_or_share(column: str, values: Sequence[float], kind: str) -> Question:
    """Asked where a name says percent and no number is above one."""
    found = finding(
        "ingest.percent_or_share", column=column, low=min(values, default=0.0), high=max(values, default=0.0)
    )
    choices: tuple[Choice, ...] = ((("metric", "percent_score"),), (("metric", "score"),))
    if kind == "error":
        choices = ((("unit", f"{column}=0.01"),), (("unit", f"{column}=1"),))
    return Question(found=found, columns=(column,), choices=choices)


def _objective(view: View, free: list[int]) -> LossChoice:
    """`value` of a study, or `objective` of a search: a result whose name does not say what it measures."""
    columns = view.table.columns
    for place in free:
        named = normal(columns[place]).removeprefix("values_") in (
            "value",
            "objective",
            "objective_value",
            "values",
            "0",
        )
        if named and view.holds_numbers(place) and section(columns[place]) != "config":
            asked = finding("ingest.objective", column=columns[place])
            choices = tuple(
                (("map", f"{columns[place]}=loss"), ("metric", kind)) for kind in ("nats", "error", "score")
            )
            values = view.values(place)
            if len(values) >= _FEWEST and values[-1] <= 1:  # no loss of a language model: an accuracy, or an error
                shares = finding("ingest.shares", column=columns[place], low=values[0], high=values[-1])
                ask = Question(found=shares, columns=(columns[place],), choices=choices)
                return LossChoice(place=place, questions=(ask,))
            ask = Question(found=asked, columns=(columns[place],), choices=choices, safe=0, assumed=True)
            return LossChoice(place=place, questions=(ask,))
    return LossChoice(place=None)


def _letter(view: View, free: list[int]) -> int | None:
    """The column `L`, which papers call the loss so; of whole numbers, it counts layers."""
    for place in free:
        if normal(view.table.columns[place]) == "l" and any(value % 1 for value in view.values(place)):
            return place
    return None


def _taken(place: int, asked: Finding, column: str) -> LossChoice:
    choices = ((("map", f"{column}=loss"),),)
    return LossChoice(
        place=place, questions=(Question(found=asked, columns=(column,), choices=choices, safe=0, assumed=True),)
    )
