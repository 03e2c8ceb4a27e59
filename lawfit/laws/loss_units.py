"""In which unit a loss is, as far as its name and that of the tokenizer say: what is lent holds in one unit alone."""

from __future__ import annotations

import re
from typing import Final

from lawfit.findings import Finding, finding

# The published asymptotes: Chinchilla's SentencePiece vocabulary, and GPT-2's (arXiv 2203.15556, 2305.16264; MEM).
LENT_IN: Final = "nats per token of a vocabulary of 32 to 50 thousand"

_OTHERS: Final = (
    (r"bits?[ _-]*(per|/)[ _-]*(byte|char)|\bbp[bc]\b|(^|_)bp[bc](_|$)", "bits per byte or character"),
    (r"bits?([ _-]*(per|/)[ _-]*token)?\b|(^|_)bits?(_|$)", "bits"),
    (r"(per|/)[ _-]*(byte|char)", "nats per byte or character"),
    (r"perplexity|\bppl\b|(^|_)ppl(_|$)", "perplexity"),
    (
        r"\b(mse|rmse|mae)\b|(^|_)(mse|rmse|mae)(_|$)|squared|absolute|\bl[12]\b|hinge|contrastive|diffusion",
        "no entropy",
    ),
    (
        r"\berror rate\b|\b1 - score\b",
        "no entropy",
    ),
)
_SINGLE: Final = r"(raw[ _-]*)?(utf-?8[ _-]*)?(bytes?|char(acter)?s?)([ _-]*level)?([ _-]*(256|257|259))?|byt5"


def another_unit(loss_kind: str, tokenizer: str) -> Finding | None:
    """Why a loss of this kind is not in `LENT_IN`; None where it is, or nothing says otherwise.

    ``"validation_bits_per_byte"`` is in bits per byte; ``"bytes"`` as a tokenizer makes every token a byte, while a
    byte-level BPE does not.
    """
    said = loss_kind.strip().lower()
    for pattern, unit in _OTHERS:
        if re.search(pattern, said):
            return finding("published.loss_kind", loss_kind=loss_kind, unit=unit)
    if re.fullmatch(_SINGLE, tokenizer.strip().lower()):
        return finding("published.byte_tokens", tokenizer=tokenizer)
    return None
