"""Why a fit is not answered from, in words: what its runs lack, and which runs would mend it.

The findings are data in the fit (`estimate.lr_batch.lacking`); the sentence is made here, once for every place that
shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lawfit.errors import Unanswerable
from lawfit.estimate.lr_batch.lacking import Bearing, Lack, LackCode
from lawfit.findings import found_of
from lawfit.records import Fit
from lawfit.units import counted, format_lr, format_percent, format_quantity

_FAR: Final = 3.0  # standard deviations of what is lent
MOST_ROWS: Final = 2  # scales to add runs at that a sentence names


def refusal(fit: Fit) -> Unanswerable:
    """The error of a fit that is not used, the same for command line, notebook, REST and page."""
    found = _causes(fit.payload)
    mend = mending(fit.payload)
    steps = f"runs that would mend it: {mend}; add them and fit again" if mend else _NO_RUNS
    return Unanswerable(
        f"the fit of recipe '{fit.recipe_name}' is not certified, so it is not used: {'; '.join(doubts(fit.payload))}. "
        f"What to do: {steps}. Fit {fit.id} still says what it can where it is asked for by its id "
        f"(lawfit predict --fit {fit.id}; fit= in a URL; fit_id= in Python)",
        lacking=tuple(lack.to_json() for lack in found),
    )


def doubts(payload: Mapping[str, Any]) -> list[str]:
    """What speaks against using a fit: what its runs lack; where they lack nothing, how the search for a law went."""
    if found := _causes(payload):
        return [lack_words(lack) for lack in found]
    reasons = (payload.get("certificate") or {}).get("reasons", [])
    return [str(found_of(each)) for each in reasons] or ["it did not converge"]


def is_a_score(payload: Mapping[str, Any]) -> bool:
    """Whether the losses of a fit look like a score, higher the better: then no law of them is one of a loss."""
    return any(lack.code is LackCode.HILL and lack.bearing is not Bearing.NOTED for lack in _lacking(payload))


def noted(payload: Mapping[str, Any]) -> list[str]:
    """What the runs lack of a fit that answers."""
    return [
        f"{lack_words(lack)}; it would take runs {runs_to_add(lack.runs[:1])}"
        for lack in _lacking(payload)
        if lack.bearing is Bearing.NOTED
    ]


def mending(payload: Mapping[str, Any]) -> str:
    """Runs to add, in words; empty where none is known to help."""
    rows = [row for lack in _causes(payload) for row in lack.runs] or [*payload.get("next_grid", [])]
    if rows:
        return runs_to_add(rows)
    needed = (payload.get("certificate") or {}).get("needed_runs", [])
    return " and ".join(f"a sweep {_scale(run['inputs'])}" for run in needed[:MOST_ROWS])


def lack_words(lack: Lack) -> str:
    """One finding as a clause."""
    return _WORDS[lack.code](lack.numbers)


def runs_to_add(rows: Sequence[Mapping[str, Any]]) -> str:
    """``at 10M parameters on 200M tokens, learning rates 7.50e-4 and 1.50e-3 with a batch of 131k tokens``."""
    return " and ".join(
        f"{_scale(row)}, learning rate{'s' if len(row['lr']) > 1 else ''} {_and([format_lr(lr) for lr in row['lr']])} "
        f"with a batch of {_and([format_quantity(batch) for batch in row['batch_tokens']])} tokens"
        for row in rows[:MOST_ROWS]
    )


def _lacking(payload: Mapping[str, Any]) -> list[Lack]:
    return [Lack.from_json(row) for row in payload.get("lacking", [])]  # none in a fit of before it was looked for


def _causes(payload: Mapping[str, Any]) -> list[Lack]:
    """What forbids an answer by itself; where nothing does, what explains that the search for a law failed.

    What is only remarked on in an answer leaves a direction open, along which there may be several minima.
    """
    found = _lacking(payload)
    by_bearing = ([lack for lack in found if lack.bearing is bearing] for bearing in Bearing)
    return next((lacks for lacks in by_bearing if lacks), [])


def _scale(row: Mapping[str, Any]) -> str:
    return f"at {format_quantity(row['params'])} parameters on {format_quantity(row['tokens'])} tokens"


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _one_run(of: Mapping[str, float]) -> str:
    beside = f" beside {counted(int(of['diverged']), 'setting')} that diverged" if of["diverged"] else ""
    return (
        f"one setting alone finished (learning rate {format_lr(of['lr'])}, batch {format_quantity(of['batch_tokens'])})"
        f"{beside}, so there is nothing to compare it with"
    )


def _one_rate(of: Mapping[str, float]) -> str:
    return f"all runs have one learning rate ({format_lr(of['lr'])}), so nothing shows where the best one lies"


def _rate_by_rule(of: Mapping[str, float]) -> str:
    each = "size" if of["per_size"] else "scale"
    return (
        f"the learning rate was set by a rule (one rate per {each}, {format_lr(of['lr_low'])} to "
        f"{format_lr(of['lr_high'])}), so nothing shows where the best one lies"
    )


def _two_rates(of: Mapping[str, float]) -> str:
    where = "the one scale has" if of["scales"] == 1 else f"none of the {of['scales']:,} scales has more than"
    return f"{where} two learning rates, which show a direction and no best one"


def _flat(of: Mapping[str, float]) -> str:
    return (
        f"the losses do not tell learning rates apart: at one batch they differ by {format_percent(of['spread'])} of "
        "the loss at most, no more than equal runs do"
    )


def _hill(of: Mapping[str, float]) -> str:
    return (
        f"the losses are highest in the middle of the learning rates and lowest at an end ({_of_scales(of, 'hills')}), "
        "as a score is, of which higher is better: if the loss column holds an accuracy, give 1 minus it instead"
    )


def _at_edge(of: Mapping[str, float]) -> str:
    ends = [
        f"the {name} learning rate tried {_of_scales(of, end)}"
        for end, name in (("low", "smallest"), ("high", "largest"))
        if of[end]
    ]
    return f"the losses fall all the way to {' and to '.join(ends)}, so the best one is not bracketed"


def _few_settings(of: Mapping[str, float]) -> str:
    return f"there are fewer than {of['enough']} settings {_of_scales(of, 'few')}, too few to place a minimum"


def _contradicts_runs(of: Mapping[str, float]) -> str:
    lent = (
        f": published laws lend {format_lr(of['published_lr'])} there, {of['sds']:.0f} of their standard deviations "
        "away, and one batch leaves open what they say of it"
        if of["sds"] >= _FAR
        else ""
    )
    return (
        f"{_scale(of)} and batch {format_quantity(of['batch_tokens'])} the runs are best at learning rate "
        f"{format_lr(of['lr'])}, and the law that came out says {format_lr(of['fitted_lr'])}, which costs "
        f"{format_percent(of['cost'])} of the loss on these runs{lent}"
    )


def _lonely_run(of: Mapping[str, float]) -> str:
    setting = f"learning rate {format_lr(of['lr'])}, batch {format_quantity(of['batch_tokens'])}"
    return (
        f"{_scale(of)} one run ({setting}) has a "
        f"loss {format_percent(of['below'])} below every other: check it, and leave it out with lawfit runs exclude if "
        "it is wrong"
    )


def _rate_tied_to_batch(_of: Mapping[str, float]) -> str:
    return (
        "the learning rate was set from the batch at every scale, so what one does cannot be told from what the other "
        "does: the best learning rate at a batch is not determined"
    )


def _one_batch(of: Mapping[str, float]) -> str:
    one = "each scale has runs at one batch" if of["batches"] > 1 else "all runs have one batch"
    return f"{one}, so the best batch is not determined: what is said of it is borrowed"


def _of_scales(of: Mapping[str, float], name: str) -> str:
    return f"at {of[name]:,} of {counted(int(of['scales']), 'scale')}"


_NO_RUNS: Final = (
    "look for runs that are not like the others (lawfit runs list), leave them out (lawfit runs exclude) and fit "
    "again; lawfit fit --json has the whole certificate"
)
_WORDS: Final = {
    LackCode.ONE_RUN: _one_run,
    LackCode.ONE_RATE: _one_rate,
    LackCode.RATE_BY_RULE: _rate_by_rule,
    LackCode.TWO_RATES: _two_rates,
    LackCode.FLAT: _flat,
    LackCode.HILL: _hill,
    LackCode.AT_EDGE: _at_edge,
    LackCode.FEW_SETTINGS: _few_settings,
    LackCode.CONTRADICTS_RUNS: _contradicts_runs,
    LackCode.LONELY_RUN: _lonely_run,
    LackCode.RATE_TIED_TO_BATCH: _rate_tied_to_batch,
    LackCode.ONE_BATCH: _one_batch,
}
