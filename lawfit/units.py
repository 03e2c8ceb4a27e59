"""Every conversion of units: numbers as people write them, tokens and sequences, FLOPs, parameter conventions."""

from __future__ import annotations

import math
import re
from typing import Final

# What a parameter count counts. Empty string: unknown. Laws and recipes name one of these.
PARAMS_CONVENTIONS: Final = ("non_embedding", "total", "body_plus_head", "active")

_SUFFIXES: Final = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_QUANTITY: Final = re.compile(r"\s*([+-]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:e[+-]?\d+)?)\s*([kmbgt]?)\s*", re.IGNORECASE)


def parse_quantity(text: str) -> float:
    """A number as people write it: ``7e9``, ``7B``, ``1.4T``, ``500k``, ``0.0016``.

    Raises
    ------
    ValueError
        Not a number in that form, or not finite.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a number; write it like 7e9, 7B or 1.4T")
    value = float(match[1]) * _SUFFIXES[match[2].lower()]
    if not math.isfinite(value):
        raise ValueError(f"'{text}' is too large for a number")
    return value


def format_quantity(value: float, digits: int = 3) -> str:
    """A count for people: ``7e9`` -> ``7B``, ``1.05e6`` -> ``1.05M``; small numbers as they are."""
    if not math.isfinite(value):
        return str(value)
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        # 999,600 at 3 digits rounds to 1.00M, so the threshold sits half a digit below the scale.
        if abs(value) >= scale * (1 - 0.5 * 10.0**-digits):
            return f"{value / scale:.{digits}g}{suffix}"
    return f"{value:.{digits}g}"


def format_lr(value: float | None) -> str:
    """A learning rate as people write it: ``6.12e-4``; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def format_flops(value: float) -> str:
    """Compute as people write it: ``1e21``, ``5.53e20``."""
    if not math.isfinite(value):
        return str(value)
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def counted(number: float, noun: str, plural: str = "") -> str:
    """A number of things in words: ``1 run``, ``1,627 runs``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def format_duration(seconds: float) -> str:
    """Wall-clock time in the largest unit that it fills: ``10.9 hours``, ``3.2 days``."""
    for name, length in (("years", 365.25 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= (2 if name == "years" else 1) * length:
            return f"{seconds / length:.3g} {name}"
    return f"{seconds:.3g} seconds"


def format_percent(fraction: float | None) -> str:
    """A share of the loss: ``0.00062`` -> ``0.06 %``; below 0.01 % with one more digit."""
    if fraction is None or not math.isfinite(fraction):
        return "-"
    percent = 100 * fraction
    if percent != 0 and abs(percent) < 0.01:
        return f"{percent:.1g} %" if abs(percent) >= 0.001 else "< 0.001 %"
    return f"{percent:.2f} %" if abs(percent) < 10 else f"{percent:.0f} %"


def format_scale(params: float, tokens: float) -> str:
    """``429M parameters, 40B tokens``."""
    return f"{format_quantity(params)} parameters, {format_quantity(tokens)} tokens"


def six_digits(value: float) -> float:
    """What a document needs: more would pretend to be known."""
    return float(f"{value:.6g}")


def decades_beyond(value: float, low: float, high: float) -> float:
    """How far a value lies outside a range, in powers of ten; 0 inside."""
    return max(0.0, math.log10(low / value), math.log10(value / high))


def sequences_to_tokens(sequences: float, seq_len: float) -> float:
    """Tokens per step of a batch given in sequences."""
    if not seq_len > 0:
        raise ValueError(f"sequence length must be positive, got {seq_len}")
    return sequences * seq_len


def training_flops(params: float, tokens: float) -> float:
    """Training compute by the usual ``C = 6 N D`` (floats: N x D overflows 64-bit integers)."""
    return 6.0 * float(params) * float(tokens)
