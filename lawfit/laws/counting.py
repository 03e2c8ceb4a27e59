"""What a count of parameters or of FLOPs counts: exact conversions between the conventions that laws use.

The same letter N means several counts, and C several products: most predictions that are off by a factor come from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.laws.power import POWER_PRODUCT

Floats = NDArray[np.float64]

CONVENTIONS: Final = ("non_embedding", "body_plus_head", "total")  # `active` depends on routing: no formula


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The two tables of a language model that some counts leave out."""

    width: int
    vocab: int
    tied: bool = False  # the head is the embedding table, counted once

    def __post_init__(self) -> None:
        for name in ("width", "vocab"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")

    def beyond_body(self, convention: str) -> int:
        """Parameters that a convention counts besides the layers.

        ``non_embedding`` counts neither table, ``body_plus_head`` the head (a tied one too, since it computes),
        ``total`` all that is stored.
        """
        if convention not in CONVENTIONS:
            raise ValueError(f"'{convention}' is no count that a formula converts; there are {', '.join(CONVENTIONS)}")
        table = self.width * self.vocab
        return {"non_embedding": 0, "body_plus_head": table, "total": table if self.tied else 2 * table}[convention]


def convert_params(params: ArrayLike, given: str, wanted: str, tables: Tables) -> Floats:
    """A count by one convention as one by another.

    Raises
    ------
    ValueError
        The tables alone are larger than the count: it is by another convention, or the width or vocabulary is wrong.
    """
    count = _positive("params", params)
    more = tables.beyond_body(wanted)
    body = count - tables.beyond_body(given)
    if not np.all(body > 0):
        raise ValueError(
            f"{np.min(count):,.0f} parameters cannot be counted as {given}: the tables of width {tables.width} and "
            f"vocabulary {tables.vocab} have {tables.beyond_body(given):,} already"
        )
    return np.asarray(body + more)


def flops_per_token(layers: int, width: int, seq_len: int) -> float:
    """DeepSeek's M: training FLOPs per token without vocabulary, attention included (arXiv 2401.02954).

    ``72 layers width^2 + 12 layers width seq_len``: 6 per parameter of the 12 width^2 in a layer, and 12 width seq_len
    for queries times keys and weights times values, the causal half not subtracted. Compute is then M * tokens, where
    others take 6 * params * tokens.
    """
    for name, value in (("layers", layers), ("width", width), ("seq_len", seq_len)):
        if not value >= 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    return 72.0 * layers * float(width) ** 2 + 12.0 * layers * float(width) * float(seq_len)


def deepseek_allocation(flops: ArrayLike) -> tuple[Floats, Floats]:
    """(FLOPs per token, tokens) of lowest loss at M * tokens = flops: DeepSeek LLM, arXiv 2401.02954 (V2).

    ``M = 0.1715 C^0.5243``, ``D = 5.8316 C^0.4757``; the exponents moved with the quality of the data. The product is
    1.0001 C, as the coefficients are rounded.
    """
    compute = {"flops": _positive("flops", flops)}
    return POWER_PRODUCT(0.1715, {"flops": 0.5243}, compute), POWER_PRODUCT(5.8316, {"flops": 0.4757}, compute)


def _positive(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name} must be positive and finite, got {array}")
    return array
