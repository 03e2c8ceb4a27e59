"""What published laws lend to a recipe, and what of them cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.words import Sentence, listed, say

_QUANTITIES: Final[Mapping[str, str]] = {
    "lr": "level of the learning rate",
    "lr_joint": "exponents of the learning rate",
    "batch_tokens": "level of the batch",
    "batch": "exponents of the batch",
    "timescale": "exponent of the AdamW timescale",
    "critical_batch": "exponents of the critical batch",
    "least_tokens_batch": "exponent of the batch of least tokens",
    "loss": "asymptote of the loss",
}
# what is taken for granted of a recipe -> as what, and how another one is stated
_TAKEN: Final[Mapping[str, tuple[str, str]]] = {
    "parametrization": ("standard parametrization", "parametrization=mup, to which they would not"),
    "optimizer": ("AdamW", "optimizer=adamw, or another"),
}


def _not_lent(data: Mapping[str, Any]) -> str:
    parts = (
        f"{', '.join(_QUANTITIES[name] for name in part['quantities'])} by {', '.join(part['laws'])}"
        for part in data["parts"]
    )
    return f"{say('not lent ({reason})', data)}: {'; '.join(parts)}"


def _lends(data: Mapping[str, Any]) -> str:
    """``exponents of the batch: params + 0.5 tokens -0.36``."""
    numbers = []
    for row in data["exponents"]:
        path = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in row["along"].items())
        numbers.append(f"{path} {row['value']:g}")
    return _QUANTITIES[data["quantity"]] + (f": {', '.join(numbers)}" if numbers else "")


def _assumed(data: Mapping[str, Any]) -> str:
    taken, stated = zip(*(_TAKEN[name] for name in data["taken"]), strict=True)
    return (
        f"assumed {listed([*taken])}, which the recipe does not say: on that ground published laws lend "
        f"{_QUANTITIES[data['quantity']]} (to say it when runs are read: {'; '.join(stated)})"
    )


def _other_optimizer(data: Mapping[str, Any]) -> str:
    return f"{data['law']} optimizer, and the recipe's is '{data['recipe'] or 'unknown, so taken for AdamW'}'"


WORDS: Final[Mapping[str, Sentence]] = {
    "not_lent": _not_lent,
    "lends": _lends,
    "assumed": _assumed,
    "assumed_nats": "assumed a loss in nats per token, which the recipe does not say: on that ground published laws "
    "lend asymptote of the loss (say so with loss_kind=... when runs are read)",
    "on_request": "withheld on request, with all that was fitted on the same runs",
    "other_data_unit": "tokens, and the recipe counts {unit}",
    "other_unit": "{unit}, and the recipe's loss is {loss}",
    "loss_kind": "'{loss_kind}', {unit}",
    "byte_tokens": "per token of the tokenizer '{tokenizer}', a byte or character each",
    "standard": "standard parametrization, and the recipe's is '{recipe}'",
    "not_standard": "a parametrization that transfers across width, and the recipe's is standard",
    "transfers": "a parametrization that transfers across width, and the recipe's is '{recipe}'",
    "other_optimizer": _other_optimizer,
    "other_schedule": "a schedule that {law}, and the recipe's ('{schedule}') {recipe}",
    "lent": "is in part lent by published laws ({mean:.3g}, sd {sd:g}: {laws})",
    "vague": "rests in part on a vague prior ({mean:g}, sd {sd:g}), as no published law lends it",
    "no_such_law": "no published law '{law}'; there are {laws}",
    "no_such_quantity": "published laws lend no '{quantity}'; they lend {quantities}",
    "unreadable": "the catalogue of published laws {path} cannot be read: {why}",
    "malformed": "{path}, law '{law}': {why}",
    "same_id": "{path}: two laws have the id '{law}'",
}
