"""Published laws on one's own runs: what they count, and why some cannot be scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.words import Sentence, say

_INPUTS: Final[Mapping[str, str]] = {
    "width": "the hidden width of each model, which the runs do not state",
    "steps": "steps at a very large batch",
    "unique_tokens": "how many of the tokens are different",
    "active_fraction": "the share of experts that a token meets",
    "batch_tokens": "a batch size",
    "loss": "the loss",
}


def _counts(sentence: str) -> Sentence:
    """With counts of parameters as people call them: ``body-plus-head``."""
    return lambda data: say(sentence, {name: value.replace("_", "-") for name, value in data.items()})


def _needs(data: Mapping[str, Any]) -> str:
    return f"needs {', '.join(_INPUTS.get(name, name) for name in data['inputs'])}"


WORDS: Final[Mapping[str, Sentence]] = {
    "counts_none": "takes no count of parameters",
    "counts_unsaid": "its source does not say which parameters it counts",
    "yours_unsaid": _counts("counts {law} parameters; your runs do not say what they count"),
    "counts_same": _counts("counts {law} parameters, as your runs do"),
    "counts_differ": _counts("counts {law} parameters, your runs count {yours}: {how}"),
    "own_batch": "its own",
    "fixed_batch": "the one it was made for",
    "best_batch": "the best one tried",
    "carried_batch": "that of the run carried",
    "always": lambda data: f"always {data['weight_decay']:g}" if data["weight_decay"] else "none",
    "needs": _needs,
    "not_carried": "publishes exponents alone, and its form does not carry one measured number to another",
    "no_answer": "has no positive answer at {params:.3g} parameters",
    "one_scale": "carried from one scale to another, and the runs have only one",
    "one_sweep": "carried from one sweep of weight decay to another, and the runs have only one",
    "below_definition": "at sizes this small it says less than its own definition can be ({definition})",
    "few_settings": "no scale has {needed} or more settings, so nothing can be said to cost more or less",
    "few_scales": "the lowest losses of {needed} or more scales tell laws of the loss apart; {scales} here",
    "no_critical_batch": "no critical batch is stored for this recipe: fit first, which says what it takes",
    "one_sided": "no size shows its critical batch from both sides",
    "decay_not_varied": "weight decay was not varied: three or more values at one scale, learning rate and batch tell "
    "laws apart",
    "no_lr": "gives no learning rate",
    "silent": "does not answer here",
    "beta2": "Adam's beta2 is not fitted on runs; lawfit convert batch carries it",
    "allocation": "what a budget is best spent on takes a fitted loss law: lawfit plan",
}
