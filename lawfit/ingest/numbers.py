"""Cells as numbers: plain ones, those that can mean one thing only (`20M` in a column of counts), else a reason."""

from __future__ import annotations

import math
import re
from typing import Final

from lawfit.ingest.table import Cell
from lawfit.units import parse_quantity

_MISSING: Final = frozenset(
    {
        *("", "na", "n/a", "none", "null", "-", "--", "?"),
        *("#div/0!", "#n/a", "#value!", "#ref!", "#num!", "#name?", "#null!"),  # what spreadsheets leave
    }
)
_PLAIN: Final = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")  # looks at no digit twice
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_THOUSANDS: Final = re.compile(r"[+-]?[0-9]{1,3}(?:[,'’ \u00a0\u202f_][0-9]{3})+(?:\.[0-9]+)?")
_DECIMAL_COMMA: Final = re.compile(r"[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?")
GROUPED: Final = re.compile(
    r"[+-]?[1-9][0-9]{0,2}(?:([,.'’ \u00a0\u202f_])[0-9]{3})(?:\1[0-9]{3})+"
)  # two groups or more
_ONE_GROUP: Final = re.compile(r"[+-]?[1-9][0-9]{0,2}[,'’ \u00a0\u202f_][0-9]{3}")
_DOTTED: Final = re.compile(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}")  # a count in a column where dots part thousands
_DOTTED_TWICE: Final = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3}){2,}")
MULTIPLE: Final = re.compile(r"(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)[xX×]")  # of another rate: 0.25x
_QUANTITY: Final = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]+)?\s?[kKmMbBgGtT]")
_LAKHS: Final = re.compile(r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}")  # as thousands are grouped in India
_SPELT: Final = re.compile(
    r"([0-9]+(?:[.,][0-9]+)?)\s?(thousand|mio\.?|mln|million|millions|bn|billion|billions|trillion|万|亿)",
    re.IGNORECASE,
)
_SPELT_FACTORS: Final = {"t": 1e3, "m": 1e6, "b": 1e9, "万": 1e4, "亿": 1e8}
# 3×10^-4, 3·10⁻⁴, 10^-3, 2^-8, 1/512
_TIMES_TEN: Final = re.compile(
    r"([0-9]+(?:[.,][0-9]+)?)\s?[xX×*·]\s?10\s?(?:(?:\^|\*\*)\s?[({]?(-?[0-9]{1,2})[)}]?|(-[0-9]{1,2}))"
)
_POWER: Final = re.compile(r"(10|2)\s?(?:\^|\*\*)\s?[({]?(-?[0-9]{1,2})[)}]?")
_OF_ONE: Final = re.compile(r"1/([1-9][0-9]{1,6})")
_SUPERSCRIPT: Final = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_SIGNS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−–", "0123456789---")
_LARGEST_INTEGER: Final = 2**63 - 1  # what SQL holds


class CellError(ValueError):
    """A cell does not hold what its column should; the text is the reason of a rejection."""


def is_missing(cell: Cell) -> bool:
    """Whether the source says nothing here."""
    if not isinstance(cell, str):
        return cell is None
    # Length and first character before all: this is asked of every cell of a file.
    return len(cell) < 16 and not "0" <= cell[:1] <= "9" and cell.strip().lower() in _MISSING


def is_number(cell: Cell) -> bool:
    """Whether the cell is a plain number."""
    if isinstance(cell, str):
        return _PLAIN.fullmatch(cell.strip()) is not None
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def plain_number(cell: Cell) -> float | None:
    """The cell as `number` has it where it is a plain one (`is_number`), else None."""
    if isinstance(cell, str):
        return float(text) if _PLAIN.fullmatch(text := cell.strip()) else None
    return number(cell) if is_number(cell) else None


def thousands_by_dots(text: str) -> bool:
    """Whether a cell is a number with dots between its thousands and can be nothing else: ``10.240.000``."""
    return bool(_DOTTED_TWICE.fullmatch(text.strip()))


def may_be_dotted(text: str) -> bool:
    """Whether a cell with a dot is a number of whole thousands groups: ``16.384``, or no number at all."""
    plain = text.strip()
    return bool(_DOTTED.fullmatch(plain) or thousands_by_dots(plain)) or not is_number(text)


def read_otherwise(text: str, *, count: bool) -> float | None:
    """A number that is no plain one and can mean one thing only; None for all others.

    ``1,9e-3``, ``0,002`` and ``3,25`` have decimal commas (``3,125`` may have a thousands separator), ``20,000,000``
    has separators; ``3·10⁻⁴``, ``2^-8`` and ``1/512`` are powers and fractions, ``~3`` is 3. In a column of counts,
    ``20M`` and ``20 million`` have a unit and ``1,200`` is no fraction.
    """
    text = raised(text.strip()).lstrip("~≈").strip()
    if is_number(text):
        return float(text)
    if (found := _power(text)) is not None:
        return found
    if count and (spelt := _SPELT.fullmatch(text)):
        factor = 1e12 if spelt[2].lower().startswith("tr") else _SPELT_FACTORS[spelt[2][0].lower()]
        return float(f"{float(spelt[1].replace(',', '.')) * factor:.15g}")
    if count and _LAKHS.fullmatch(text):
        return float(text.replace(",", ""))
    if GROUPED.fullmatch(text) or (count and _ONE_GROUP.fullmatch(text)):
        return float(re.sub(r"[^0-9+-]", "", text))
    if _DECIMAL_COMMA.fullmatch(text) and not _ONE_GROUP.fullmatch(text) and not count:
        return float(text.replace(",", "."))
    if count and _QUANTITY.fullmatch(text):
        return float(f"{parse_quantity(text):.15g}")
    return None


def raised(text: str) -> str:
    """With exponents behind a ``^`` and minus signs of ASCII: ``10⁻³`` as ``10^-3``."""
    if text.isascii():
        return text
    return _SUPERSCRIPT.sub(lambda found: "^" + found[0], text).translate(_SIGNS)


def _power(text: str) -> float | None:
    """A number with its power of ten or two written out, or one over a number."""
    if times := _TIMES_TEN.fullmatch(text):
        return float(f"{times[1].replace(',', '.')}e{times[2] or times[3]}")
    if power := _POWER.fullmatch(text):
        return float(power[1]) ** int(power[2])
    over = _OF_ONE.fullmatch(text)
    return 1 / float(over[1]) if over else None


def number(cell: Cell) -> float:
    """A plain number, which may be nan or infinite.

    Raises
    ------
    CellError
        Anything else: units, percent signs, separators, words.
    """
    if isinstance(cell, bool):
        raise CellError(f"'{str(cell).lower()}' is not a number")
    if isinstance(cell, (int, float)):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    text = (cell or "").strip()
    if _PLAIN.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return float(text)
    raise CellError(_reason(text))


def at_least_one(cell: Cell) -> float:
    """A count, in the unit of its column.

    Raises
    ------
    CellError
        It is none, or less than one: another unit than in the other rows.
    """
    value = positive(cell)
    if value < 1:
        raise CellError(f"'{cell}' is less than one; is it in another unit than the other rows?")
    return value


def positive(cell: Cell) -> float:
    """A plain number above zero and finite.

    Raises
    ------
    CellError
        It is not.
    """
    value = number(cell)
    if not math.isfinite(value) or value >= 1e300:
        raise CellError(f"'{cell}' is not a finite number")
    if value == 0:
        raise CellError(f"'{cell}' is zero; it must be above zero")
    if value < 0:
        raise CellError(f"'{cell}' is negative; it must be above zero")
    return value


def not_negative(cell: Cell) -> float:
    """A plain number, zero or above, and finite.

    Raises
    ------
    CellError
        It is not.
    """
    value = number(cell)
    if not math.isfinite(value) or value >= 1e300:
        raise CellError(f"'{cell}' is not a finite number")
    if value < 0:
        raise CellError(f"'{cell}' is negative; it must be zero or above")
    return value


def whole(cell: Cell) -> int:
    """A whole number that SQL can hold.

    Raises
    ------
    CellError
        It is not.
    """
    if isinstance(cell, int) and not isinstance(cell, bool):
        value = cell
    elif isinstance(cell, str) and re.fullmatch(r"[+-]?[0-9]{1,30}", cell.strip()):
        value = int(cell)
    else:
        given = number(cell)
        if not math.isfinite(given) or given != int(given):
            raise CellError(f"'{cell}' is not a whole number")
        value = int(given)
    if abs(value) > _LARGEST_INTEGER:
        raise CellError(f"'{cell}' is too large for a whole number")
    return value


def positive_whole(cell: Cell) -> int:
    """A whole number above zero.

    Raises
    ------
    CellError
        It is not.
    """
    value = whole(cell)
    if value <= 0:
        raise CellError(f"'{cell}' is {'zero' if value == 0 else 'negative'}; it must be above zero")
    return value


def positive_steps(cell: Cell) -> float:
    """A number of steps above zero, as it is read off a curve: a fraction is one too, a whole number stays whole.

    Raises
    ------
    CellError
        It is neither.
    """
    value = positive(cell)
    return positive_whole(cell) if value == int(value) else value


def flag(cell: Cell) -> bool:
    """Yes or no, as logs write it.

    Raises
    ------
    CellError
        Neither.
    """
    if isinstance(cell, bool):
        return cell
    text = str(cell).strip().lower()
    if text in ("1", "1.0", "true", "yes", "y", "t"):
        return True
    if text in ("0", "0.0", "false", "no", "n", "f"):
        return False
    raise CellError(f"'{cell}' is neither yes (1, true) nor no (0, false)")


def _reason(text: str) -> str:
    shown = text if len(text) <= 40 else text[:37] + "..."
    if "%" in text:
        bare = text.replace("%", "").strip()
        if _PLAIN.fullmatch(bare):
            return f"'{shown}' has a percent sign; write the plain number, {float(bare) / 100:g} if it is a percentage"
        return f"'{shown}' has a percent sign; write a plain number"
    if _THOUSANDS.fullmatch(text) and not re.match(r"[+-]?0", text):
        return f"'{shown}' has thousands separators; write {re.sub('[^0-9.+-]', '', text)}"
    if _DECIMAL_COMMA.fullmatch(text):
        return f"'{shown}' has a decimal comma; write {text.replace(',', '.')}"
    if not text.isascii():
        return f"'{shown}' is not a number"
    try:
        return f"'{shown}' has a unit; write the plain number, {parse_quantity(text):.15g}"
    except ValueError:
        pass
    if re.match(r"[+-]?[0-9]", text):
        return f"'{shown}' is not a plain number; write it without unit, e.g. 0.001 or 1e9"
    return f"'{shown}' is not a number" if text else "the cell is empty"
