"""How many tokens a step has: from whichever of batch, micro-batch, sequence length, steps and tokens a table has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lawfit.factors import normal
from lawfit.findings import Finding, finding
from lawfit.ingest.headers import Unit
from lawfit.ingest.names import DATA_UNITS, says_whole
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.questions import Choice, Question
from lawfit.ingest.view import View, differs, median, pairs

_TOLERANCE: Final = 0.05  # of tokens and steps x batch: runs round their steps
_FEW_STEPS: Final = 50  # a run of fewer is no training of a language model
_SHORT: Final = 512  # tokens of a sequence, where nothing says it
_MANY: Final = 8192  # sequences in a step
_SAMPLES: Final = 4096  # a batch below is counted in samples: a step of so few tokens is rare

FACTORS: Final = ("micro_batch", "accumulation", "devices")


@dataclass(frozen=True, kw_only=True)
class BatchUnit:
    """What a column that only says "batch size" counts."""

    unit: str | None  # "tokens" or "sequences"; None: only a person knows
    notes: tuple[Finding, ...] = ()
    question: Question | None = None
    seq_len: int | None = None  # where the numbers tell it
    data_unit: str = ""  # "samples", where tokens are none


def unit_of_batch(
    view: View, places: Mapping[str, int], units: Mapping[str, Unit], options: IngestOptions
) -> BatchUnit:
    """Tokens or sequences, as far as other columns tell: what a step has times the steps is what a run has."""
    place = places["batch_unstated"]
    name = view.table.columns[place]
    batch = view.numbers(place, units.get("batch_unstated"))
    column = {field: view.table.columns[places[field]] for field in places}
    if "tokens" in places:
        multiplied = " x " in column["tokens"]  # samples of so many tokens each
        names = "" if multiplied else normal(column["tokens"])
        words = [DATA_UNITS[word] for word in names.split("_") if word in DATA_UNITS]
        if words:
            said = finding("ingest.batch_of_samples", column=name, tokens=column["tokens"], unit=words[0])
            return BatchUnit(unit="tokens", notes=(said,), data_unit=words[0])
    lengths = view.values(places["seq_len"], units.get("seq_len")) if "seq_len" in places else []
    if options.seq_len:
        lengths = [float(options.seq_len)]
    if "tokens" in places and "steps" in places:
        found = _by_product(view, places, units, batch, lengths)
        if found is not None:
            return found
    sizes = view.values(place, units.get("batch_unstated"))
    if lengths and sizes and median(sizes) < median(lengths) and len(view.table.rows) > 1:
        asked = finding("ingest.batch_below_sequence", column=name, batch=median(sizes), seq_len=median(lengths))
        return BatchUnit(unit="sequences", question=_ask(asked, name, "sequences", lengths))
    if sizes and "tokens" in places:
        totals = view.values(places["tokens"], units.get("tokens"))
        length = median(lengths) if lengths else _SHORT
        steps = median(totals) / (median(sizes) * length) if totals and median(sizes) > 0 else _FEW_STEPS
        enough = len(view.table.rows) > 1 and median(sizes) >= _MANY
        if enough and steps < _FEW_STEPS <= median(totals) / median(sizes):
            asked = finding("ingest.batch_too_many", column=name, steps=steps, seq_len=length)
            return BatchUnit(unit="tokens", question=_ask(asked, name, "tokens", lengths))
    asked = finding("ingest.batch_unit", column=name)
    return BatchUnit(unit=None, question=_ask(asked, name, None, lengths))


def accumulated(
    view: View, places: Mapping[str, int], units: Mapping[str, Unit], options: IngestOptions
) -> Question | None:
    """A bare batch that may be a part of the whole: beside accumulation steps, or where one device has the same."""
    name = view.table.columns[places["batch_unstated"]]
    if says_whole(name) or name in options.column_map or options.batch_unit is not None:
        return None
    if {"tokens", "steps"} <= places.keys() and unit_of_batch(view, places, units, options).question is None:
        return None  # they tell what a step has
    whole: Choice = (("map", f"{name}=batch_sequences"),)
    if "micro_batch" in places and not differs(
        view.numbers(places["batch_unstated"]), view.numbers(places["micro_batch"])
    ):
        column = view.table.columns[places["micro_batch"]]
        found = finding("ingest.batch_of_one_device", column=name, other=column)
        missing = [factor for factor in ("accumulation", "devices") if factor not in places]
        part: Choice = (("map", f"{name}=extra"), *(("set", f"{factor}=FACTOR") for factor in missing))
        return Question(found=found, columns=(name, column), choices=(whole, part))
    if median(view.values(places["batch_unstated"], units.get("batch_unstated")) or [0.0]) >= _MANY:
        return None  # tokens; one device's share of them is hardly logged
    parts = [
        field for field in ("accumulation", "devices") if field in places and max(_values(view, places, field)) > 1
    ]
    if not parts:
        return None
    column = view.table.columns[places[parts[0]]]
    steps = view.values(places[parts[0]])
    found = finding("ingest.accumulated", column=name, accumulation=column, factor=median(steps))
    choices: tuple[Choice, ...] = (whole, (("map", f"{name}=micro_batch"),))
    for field in ("devices", "accumulation"):
        if field not in places:
            choices = (choices[0], (*choices[1], ("set", f"{field}=1")))
    return Question(found=found, columns=(name, column), choices=choices)


def _values(view: View, places: Mapping[str, int], field: str) -> Sequence[float]:
    return view.values(places[field]) or [0.0]


def _ask(found: Finding, name: str, safe: str | None, lengths: Sequence[float]) -> Question:
    in_sequences: Choice = (("batch-unit", "sequences"),)
    if not lengths:
        in_sequences = (*in_sequences, ("seq-len", "T"))
    choices = ((("batch-unit", "tokens"),), in_sequences)
    place = None if safe is None else ("tokens", "sequences").index(safe)
    return Question(found=found, columns=(name,), choices=choices, safe=place, assumed=safe is not None)


def _by_product(
    view: View,
    places: Mapping[str, int],
    units: Mapping[str, Unit],
    batch: Sequence[float | None],
    lengths: Sequence[float],
) -> BatchUnit | None:
    """Tokens over steps x batch: one for a batch in tokens, the length of a sequence for one in sequences."""
    name = view.table.columns[places["batch_unstated"]]
    steps = view.numbers(places["steps"], units.get("steps"))
    tokens = view.numbers(places["tokens"], units.get("tokens"))
    products = [None if b is None or s is None else b * s for b, s in zip(batch, steps, strict=True)]
    ratios = sorted(total / product for product, total in pairs(products, tokens) if product > 0)
    if len(ratios) < 2 or median(ratios) <= 0 or ratios[-1] / max(ratios[0], 1e-300) > 1 + 2 * _TOLERANCE:
        return None
    ratio = median(ratios)
    if abs(ratio - 1) < _TOLERANCE:
        sizes = view.values(places["batch_unstated"], units.get("batch_unstated"))
        samples = median(sizes) < _SAMPLES and not lengths
        code = {"column": name, "tokens": view.table.columns[places["tokens"]]}
        if samples:
            return BatchUnit(unit="tokens", notes=(finding("ingest.product_is_samples", **code),), data_unit="samples")
        return BatchUnit(unit="tokens", notes=(finding("ingest.product_is_tokens", **code),))
    if lengths and abs(ratio / median(lengths) - 1) < _TOLERANCE:
        return BatchUnit(unit="sequences", notes=(finding("ingest.product_is_sequences", column=name),))
    length = round(ratio / 64) * 64
    if not lengths and length >= 64 and abs(ratio / length - 1) < _TOLERANCE / 5:
        asked = finding("ingest.product_is_length", column=name, seq_len=length)
        choices = ((("batch-unit", "sequences"), ("seq-len", str(length))), (("batch-unit", "tokens"),))
        ask = Question(found=asked, columns=(name,), choices=choices, safe=0, assumed=True)
        return BatchUnit(unit="sequences", question=ask, seq_len=length)
    return None
