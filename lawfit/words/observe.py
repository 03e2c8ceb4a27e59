"""What is said of the runs of a recipe: which are used, at which level of a setting, how far their curves are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lawfit.words import Sentence, named, setting_name

LONGEST_LEVEL: Final = 40  # of its text, in a sentence
_AXES: Final = {
    "lr": "the learning rate",
    "batch_tokens": "the batch",
    "params": "the number of parameters",
    "tokens": "the number of tokens",
    "loss": "the loss",
    "steps": "the number of steps",
    "seed": "the seed",
}
_AND_FINISH: Final = "add runs with a lower learning rate that finish with a loss"


def _shortened(level: str) -> str:
    return level if len(level) <= LONGEST_LEVEL else level[: LONGEST_LEVEL - 3] + "..."


WORDS: Final[Mapping[str, Sentence]] = {
    # levels
    "level": lambda of: f"{setting_name(of['setting'])} {_shortened(of['level'])}",
    "bare_level": lambda of: _shortened(of["level"]),
    "levels": "{levels:join and}",
    "level_as_asked": "{setting:setting} {level}",
    "level_at": lambda of: f"{_shortened(of['level'])} at {of['scales']}",
    "taken_at": "{setting:setting} {levels:few and}",
    # which is held, and why
    "held": "this answer holds at {levels}: {why}",
    "held_as_asked": "this answer holds at {level}, as asked for",
    "at_these_levels": "{kept:,} of {runs:,} runs are at these levels; the others are left out",
    "scales_lost": "left out for want of runs at {levels}: {scales:count scale}",
    "asked_for": "asked for",
    "only_level": "only its runs cover learning rates, batches and scales widely enough for a fit",
    "most_tried": "no scale was run at two of its levels, and at this one most was tried",
    "lowest_losses": named(
        "of {levels:few and} its losses are the lowest{most} (at {lowest} of {compared:count scale})",
        most=lambda of: "" if 2 * of["lowest"] > of["compared"] else " on average",
    ),
    "nearest_to_advice": "it is the nearest to the {weight_decay:.2g} that the law of weight decay advises at "
    "{params:q} parameters on {tokens:q} tokens",
    "better_elsewhere": "at the settings where both were run, {levels} has losses {loss_fraction:pct} lower (at "
    "{lowest} of {compared:count scale}), but too few runs for a fit: a sweep of learning rates there would tell",
    "level_of_sweep": "each scale is taken at the level that its sweep was run at, or of several the one with the "
    "lowest losses",
    "by_scale": "{settings:setting and}: no one level was swept at all scales, so {why} ({taken:join ; })",
    "no_setting": named(
        "{what}, so no level of it can be asked for; {there}",
        what=lambda of: (
            f"'{{name}}' is {_AXES[of['axis']]}, no setting held fixed" if of["axis"] else "no run says its '{name}'"
        ),
        there=lambda of: "settings that vary here: {varying}" if of["varying"] else "no setting varies here",
    ),
    "no_level": "no run has {setting:setting} {level}; there is {levels:few and}",
    "no_level_beside": "{why} (beside {levels:join  and }, as asked for)",
    # columns that need no level
    "between_scales": "{setting:setting} differs between scales ({levels}), inside none of them: the answer follows it",
    "decay_follows": "weight decay follows the {axes:input  and the } in these runs, and so does the answer",
    "no_level_shared": "{setting:setting} takes {levels} values and no sweep shares one: learning rate and batch are "
    "fitted across them, and what it does counts as noise",
    "counts_as_seeds": "runs at equal settings differ in '{column}' ({levels:few or}); their losses do not, so they "
    "count as seeds",
    # text that is read again
    "repeats_no_number": "{runs:count run} state unique tokens or epochs that are no positive number; they are taken "
    "as reading their text once",
    "fresh_are_few": "{again:count run} of {runs:,} read the text more than once, fresh ones are few",
    "others_repeat": "the others read the text more than once, which moves the best learning rate",
    "read_once": "this answer holds for text that is read once: {again:count run} that repeat it are left out",
    # why a run is not used
    "another_level": "{setting:setting} is {others:few or}; this fit uses the runs with {level}: {why}",
    "not_as_asked": "{setting:setting} is {others:few or}; this fit uses the runs with {level}, as asked for",
    "not_of_scale": "at another {settings:setting and} than its scale is taken at, and so no seed of the runs there",
    "repeats": "reads its text more than once, which moves the best learning rate; this fit uses the runs that read it "
    "once",
    "excluded": "excluded by hand: {why}",
    "loss_not_positive": "loss is not positive, so its logarithm does not exist",
    "scale_diverged": "every setting of its scale diverged",
    "scale": "{params:.3g} params x {tokens:.3g} tokens",
    "scales_diverged": "every setting diverged at {scales}; these scales are not used",
    "partly_diverged": "{settings} settings diverged for a minority of their seeds; the mean of the others is used",
    "all_diverged": "nothing to fit: all {diverged} runs diverged; " + _AND_FINISH,
    "no_usable_run": "nothing to fit: there is no usable run; " + _AND_FINISH,
    "most_diverged": "nothing to fit: at every setting at least half of the runs diverged ({diverged} of {runs} runs); "
    + _AND_FINISH,
    # how far a curve is read
    "curves_cut": named(
        "curves of {runs:count run} are read up to where the learning rate begins to fall ({steps}, by {told_by})",
        steps=lambda of: (
            "step {first_step:,.0f}"
            if of["first_step"] == of["last_step"]
            else "steps {first_step:,.0f} to {last_step:,.0f}"
        ),
    ),
    "curves_unread": "curves of {runs:count run} are not read: {why}",
    "by_logged_rate": "the learning rate in the log",
    "by_column": "column {column}",
    "by_schedule": "schedule '{schedule}'",
    "by_branches": "column {column}: shared with the runs that branch off there",
    "rate_falls_early": "the learning rate falls after less than {share:pct} of the run ({told_by})",
    "rate_falls_throughout": "the learning rate decays from the start (schedule '{schedule}'), so a curve half-way is "
    "not a shorter run; steps to a loss are read off runs at a constant learning rate, or at one that is constant up "
    "to a cooldown",
    "schedule_unknown": named(
        "{known}, so a curve may fall because its learning rate does: give a column schedule (constant, or wsd with "
        "cooldown_fraction, the last share of the run in which the rate falls), or learning_rate along the curves",
        known=lambda of: "nothing is known of schedule '{schedule}'" if of["schedule"] else "no schedule is stated",
    ),
    "cooldown_unknown": "the learning rate falls at the end (schedule '{schedule}') and nothing says from where on: "
    "give a column cooldown_fraction (the last share of the run in which it falls), or learning_rate along the curves",
    "beyond_the_run": "{column} is {value}, more than the whole run: is it in another unit?",
    "no_place": "{column} is '{value}', which does not say where the learning rate begins to fall",
}
