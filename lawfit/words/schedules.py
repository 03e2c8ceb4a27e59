"""Of schedules: what loss curves of a few tell about others, and what gradients ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lawfit.words import Sentence

WORDS: Final[Mapping[str, Sentence]] = {
    "few_courses": "{courses} courses with {curves} curves; two or more of each are needed",
    "nothing_falls": "no learning rate falls in these runs, so what a fall gains cannot be seen",
    "no_law": "no {law} has a floor, a gain from training and a gain from annealing on these curves",
    "unlike_curves": "{curves} curves ({names}, ...) lie {error:pct} off any one law on average, so they are hardly of "
    "one model, batch and data; choose those that are, by their names",
    "no_loss": "{schedule}: the law has no loss there; the run is too unlike the curves",
    "rises_again": "{schedule}: its rate rises again, which no curve's does, so without an interval",
    "still_falls": "{schedule}: the loss still falls at {number} {value:.3g}, the last tried: the curves do not fix it",
    "starts_apart": "starts of the search ended at different laws that fit equally well: trust nothing beyond the "
    "curves",
    "at_bound": "of the law's own numbers the curves do not fix {numbers}: other schedules would",
    "no_interval": "no interval: it takes {needed} curves with a falling rate that can be left out, one by one, and "
    "there are {curves}",
    "interval_of": "the ends of falling curves left out were missed by {miss:pct}: the interval is of that",
    "longer": "{times:.2g} times as long as the longest curve: an extrapolation, so without an interval",
    "shorter": "shorter than every curve, so without an interval",
    "other_peak": "no curve ran at a peak near {lr:.3g}: these laws do not know when training gets unstable, so "
    "without an interval",
    # refined by gradients
    "few_norms": "{norms} gradient norms cannot show a shape; {needed} or more are needed",
    "as_logged": "gradient norms are taken as logged: where a run clips, its steps saw smaller ones",
    "two_norms": "for Adam and its family the source takes 1-norms (--norm 1); of 2-norms this is its rule for SGD",
    "coarse": "{norms} norms are few: a warmup shorter than the first lines of the log does not show",
    "stretched": "stretched to {times:.3g} times the logged length; a warmup may not grow with the run",
}
