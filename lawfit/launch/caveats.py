"""What a launch is told before it begins: where its grid asks for what the corpus, or a fit, will not give."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from lawfit.launch.folder import Task
from lawfit.launch.plan import Corpus
from lawfit.units import format_quantity

ONE_HORIZON: Final = 1.02  # a fit takes runs of one size as one scale when their tokens differ by less
TWO_HORIZONS: Final = 1.1  # further apart they were meant to be two


def caveats(corpus: Corpus, tasks: Sequence[Task]) -> tuple[str, ...]:
    """Sentences about what is to be trained."""
    found = (split_horizons(tasks), too_much_evaluation(corpus, tasks), repeated_text(corpus, tasks))
    return tuple(sentence for sentence in found if sentence)


def split_horizons(tasks: Sequence[Task]) -> str:
    """Whole steps of large batches can cut one horizon into two, which a fit then does not compare."""
    horizons: dict[object, set[int]] = {}
    for task in tasks:
        horizons.setdefault(task.pack.model, set()).update(task.tokens.values())
    pairs_of = (itertools.pairwise(sorted(tokens)) for tokens in horizons.values())
    split = {(low, high) for low, high in itertools.chain(*pairs_of) if ONE_HORIZON <= high / low < TWO_HORIZONS}
    if not split:
        return ""
    low, high = min(split)
    return (
        f"runs of {format_quantity(low)} and of {format_quantity(high)} tokens count as different horizons in a "
        "fit; if one was meant, whole steps round it: ask for tokens that are a multiple of every batch"
    )


def too_much_evaluation(corpus: Corpus, tasks: Sequence[Task]) -> str:
    """The validation part can hold fewer sequences than a pack evaluates on."""
    greedy = [t.pack for t in tasks if t.pack.eval_sequences > (corpus.validation_tokens - 1) // t.pack.model.seq_len]
    if not greedy:
        return ""
    return (
        f"{len(greedy):,} of {len(tasks):,} packs cannot be trained: {greedy[0].name} evaluates on "
        f"{greedy[0].eval_sequences:,} sequences of {greedy[0].model.seq_len:,} tokens, and validation holds "
        f"{format_quantity(corpus.validation_tokens)} tokens; ask for fewer (eval_sequences in a grid's base), or "
        "make a corpus with a larger --validation-share"
    )


def repeated_text(corpus: Corpus, tasks: Sequence[Task]) -> str:
    """The training part can hold fewer tokens than a run reads that was not asked to repeat fewer."""
    unlimited = (
        tokens
        for task in tasks
        for run, tokens in zip(task.pack.runs, task.tokens.values(), strict=True)
        if run.unique_tokens is None
    )
    longest = max(unlimited, default=0)
    if longest <= corpus.train_tokens:
        return ""
    return (
        f"the longest run reads the {format_quantity(corpus.train_tokens)} training tokens "
        f"{longest / corpus.train_tokens:.3g} times over; a loss on repeated text is not that on as much fresh text"
    )
