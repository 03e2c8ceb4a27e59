"""What a column's name says beside its field: the unit of its numbers (`N [M]`, `tokens_B`, `lr x1000`, `log10_lr`)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from lawfit.ingest.numbers import raised
from lawfit.units import parse_quantity

_WORDS: Final = {
    **dict.fromkeys(("k", "thousand", "thousands"), 1e3),
    **dict.fromkeys(("m", "mio", "mln", "million", "millions"), 1e6),
    **dict.fromkeys(("b", "g", "bn", "billion", "billions"), 1e9),
    **dict.fromkeys(("t", "tn", "trillion", "trillions"), 1e12),
    **dict.fromkeys(("%", "percent"), 0.01),
}
_COUNTS: Final = r"params|parameters|tokens|toks|token|tok|samples|steps|seqs|sequences"
_NOUNS: Final = {"toks": "tokens", "tok": "tokens", "token": "tokens", "seqs": "sequences"}
_GLUED: Final = re.compile(
    r"^(k|m|b|g|t|thousands?|millions?|billions?)[ -]?(tok\w*|seqs?|sequences|samples)$", re.IGNORECASE
)
LONGEST_NAME: Final = 300  # characters
_BRACKET: Final = re.compile(r"^(?P<bare>.+?)[\s_]*[\[(]\s*(?:in\s+)?(?P<unit>[^\])]+?)\s*[\])]\s*$")
# What a bracket says that makes another quantity of the name before it: tokens (per GPU), lr (mean), batch (start).
_OTHER: Final = re.compile(
    r"\bper\b(?!\s*(?:optimi[sz]er\s*)?(?:step|batch|update|iter|run|model))"
    r"|√|\bsqrt\b|\bscaled\b|\b(?:bs|batch|batch size|b)\s*="  # lr (x sqrt(bs/256)), lr (bs=256)
    r"|[x×*]\s*(?:chinchilla|compute[- ]optimal|optimal)\b"
    r"|\b(?:mean|avg|average|std|min|minimum|last|final|initial|first|start|end|best|rank|index|idx|level|unique|distinct)\b",
    re.IGNORECASE,
)
# tokens (×20N), tokens [x params]: multiples of the size of the model.
_OF_SIZE: Final = re.compile(
    r"^(?P<bare>.+?)[\s_]*[\[(]\s*(?:in\s+)?(?P<times>[x×*]\s*)?(?P<factor>[0-9]+(?:\.[0-9]+)?)?\s*(?P<of>[x×*·]\s*)?"
    r"(?:N|params|parameters)\s*[\])]\s*$"
)
_TIMES: Final = re.compile(
    r"^(?P<bare>.+?)[\s_]*(?:[x*×·]|times)[\s_]*(?P<unit>1e-?\d+|10\^-?\d+|10[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+|10+)$", re.IGNORECASE
)
_SPELT: Final = re.compile(
    r"^(?P<bare>.+?)[\s_.]+(?:in[\s_]+)?(?P<unit>thousands|millions?|billions?|trillions?|mln|mio|bn)$", re.I
)
_CAPITAL: Final = re.compile(r"^(?P<bare>.+?)[\s_](?P<unit>[KMBT])$")
_SMALL: Final = re.compile(rf"^(?P<bare>.*?(?:{_COUNTS}|size))[\s_]*(?P<unit>[kmbt])$")
_BEFORE: Final = re.compile(
    rf"^(?P<before>(?:.*[\s_.])?)(?P<unit>[kmbt])[\s_]?(?P<after>(?:{_COUNTS}))$", re.IGNORECASE
)
_SAID_BEFORE: Final = re.compile(r"^[KMB] ?[A-Z]?[a-z]+$")  # B tokens, MParams; B_tokens may be those of a batch
_LOG: Final = re.compile(
    r"^(?:(?P<base>log_?10|log_?2|ln|log)[\s_(]+(?P<bare>.+?)\)?|(?P<bare2>.+?)[\s_]*[\[(]?(?P<base2>log_?10|log_?2|ln|log)[\])]?)$",
    re.I,
)


_FORMULA: Final = re.compile(r"[×·∙*÷√^]|\b(?:sqrt|exp)\b|^\s*1\s*/", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """How the number in a cell becomes the number that is meant."""

    factor: float = 1.0
    power_of: float | None = None  # the cell holds the exponent
    as_written: str = ""  # for people
    sure: bool = True  # the name says it, and does not only hint at it

    def of(self, value: float) -> float:
        """The number that is meant; 12 digits, so that 0.207 billions are 207 millions."""
        if self.power_of is not None:
            value = self.power_of**value if abs(value) < 300 else math.inf
        found = value * self.factor
        return float(f"{found:.12g}") if math.isfinite(found) else found

    @property
    def word(self) -> str:
        """As a person states it."""
        if self.power_of is not None:
            return {10.0: "log10", 2.0: "log2"}.get(self.power_of, "ln")
        return {1e3: "K", 1e6: "M", 1e9: "B", 1e12: "T"}.get(self.factor, f"{self.factor:g}")

    @property
    def plain(self) -> bool:
        return self.factor == 1 and self.power_of is None


PLAIN: Final = Unit()


def unit_of(text: str) -> Unit:
    """A unit as a person states it: ``M``, ``billion``, ``1e-3``, ``log10``, ``ln``, ``1`` for plain numbers.

    Raises
    ------
    ValueError
        Another word.
    """
    word = text.strip().lower()
    if word in ("log10", "log2", "ln"):
        return Unit(power_of={"log10": 10.0, "log2": 2.0, "ln": math.e}[word], as_written=f"{word} of the value")
    if word in _WORDS:
        return Unit(factor=_WORDS[word], as_written=_shown(_WORDS[word]))
    try:
        factor = parse_quantity(word)
    except ValueError:
        raise ValueError(
            f"a unit is K, M, B, T, a factor such as 1e6 or 1e-3, log10 or ln, or 1 for plain numbers; got '{text}'"
        ) from None
    if factor <= 0:
        raise ValueError(f"a unit is above zero, got '{text}'")
    return Unit(factor=factor, as_written="plain numbers" if factor == 1 else _shown(factor))


def _shown(factor: float) -> str:
    return f"in units of {factor:g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


@lru_cache(maxsize=16_384)  # asked of each column again for each field
def bare_names(column: str) -> tuple[tuple[str, Unit], ...]:
    """The names that a header may stand for, each with the unit that is then said; the plain name comes first."""
    name = column.strip()
    found = [(name, PLAIN)]
    if len(name) > LONGEST_NAME:  # no header of a person's; patterns would look for a unit for seconds
        return tuple(found)
    if match := _BRACKET.match(name):
        if _OTHER.search(match["unit"]) or multiple_of_size(name):
            return tuple(found)
        said = _GLUED.sub(r"\1 \2", match["unit"].strip())  # ktok, Mtokens
        word = re.sub(rf"\b(of|{_COUNTS})\b", "", said, flags=re.IGNORECASE).strip()
        if unit := _stated(word.lstrip("x×* ")):
            counted = re.search(rf"\b({_COUNTS})\b", said, flags=re.IGNORECASE)
            noun = "" if counted is None else _NOUNS.get(counted[1].lower(), counted[1])
            more = [(f"{match['bare']} {noun}", unit)] if noun else []
            return (*more, (match["bare"], unit))  # the bracket is a unit, so the whole is no name
        if not _LOG.match(name):  # lr (log10) is no lr
            found.append((match["bare"], PLAIN))
    for pattern, sure in ((_TIMES, True), (_SPELT, True), (_CAPITAL, True), (_SMALL, False)):
        if (match := pattern.match(name)) and (unit := _stated(match["unit"], sure=sure)):
            found.append((match["bare"], unit))
            break
    sure = bool(_SAID_BEFORE.match(name)) or name[-4:].lower() in ("ktok", "mtok")
    if (match := _BEFORE.match(name)) and (unit := _stated(match["unit"], sure=sure)):
        found.append((match["before"] + match["after"], unit))
    if match := _LOG.match(name):
        base = (match["base"] or match["base2"]).lower().replace("_", "")
        bare = (match["bare"] or match["bare2"]).strip("_ .")
        powers = {"log10": 10.0, "log2": 2.0, "ln": math.e, "log": 10.0}
        found.append((bare, Unit(power_of=powers[base], as_written=f"{base} of the value", sure=base != "log")))
    return tuple(found)


def is_formula(column: str) -> bool:
    """Whether a name says how its numbers were worked out: `lr × sqrt(bs/256)`, `1/lr`."""
    return bool(_FORMULA.search(column.strip("*_ ")))


def multiple_of_size(column: str) -> tuple[str, float] | None:
    """The name before a bracket that says by what number of parameters its cells are multiplied, and times how much."""
    match = _OF_SIZE.match(column.strip()) if len(column) <= LONGEST_NAME else None
    if match is None or not (match["times"] or match["of"]):
        return None  # tokens (20N) may be their number
    return match["bare"], float(match["factor"] or 1)


def _stated(word: str, *, sure: bool = True) -> Unit | None:
    word = raised(word.strip()).lower()
    word = re.sub(r"^(10\s*(\^|\*\*)\s*\{?|10(?=-)|(?=e-?\d))", "1e", word)
    word = word.replace("1ee", "1e").rstrip("}")
    if word.lower() in _WORDS:
        factor = _WORDS[word.lower()]
    elif re.fullmatch(r"1e-?\d+|10+", word):
        factor = float(word)
    else:
        return None
    return Unit(factor=factor, as_written=_shown(factor), sure=sure)


def for_rates(unit: Unit) -> Unit:
    """``lr x1000``: rates are far below one, so a power of ten that makes them larger was multiplied in."""
    if unit.factor > 1 and unit.power_of is None:
        factor = 1 / unit.factor
        return Unit(factor=factor, as_written=_shown(factor), sure=unit.sure)
    return unit
