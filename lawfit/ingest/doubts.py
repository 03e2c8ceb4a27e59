"""Numbers that the training of a model hardly has in the unit that they are taken in: asked about before they count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Final

import numpy as np

from lawfit.factors import EPOCHS, normal, spellings
from lawfit.findings import finding
from lawfit.ingest.column_map import ColumnMap
from lawfit.ingest.headers import PLAIN, bare_names
from lawfit.ingest.metrics import is_score, is_unit_said, kind_of
from lawfit.ingest.mixed_units import mixed_units
from lawfit.ingest.names import MULTIPLIERS, is_logged_step
from lawfit.ingest.numbers import MULTIPLE
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.progress import SEEN, unfinished_or_settings
from lawfit.ingest.questions import Choice, Question
from lawfit.ingest.rows import HIGH_LOSS
from lawfit.ingest.stated import counts_unique
from lawfit.ingest.table import Cell
from lawfit.ingest.view import View, median, pairs, ratios, same
from lawfit.packed import Column, groups, members

_FEW_PARAMS: Final = 300  # fewer than the smallest toy model has
_MOST_TOKENS_EACH: Final = 1e5  # per parameter
_LEAST_TOKENS_EACH: Final = 1e-3
_MANY_EACH: Final = 2e3  # tokens per parameter: more than almost anybody trains on
_STEP_EACH: Final = 4.0  # tokens of a batch per parameter
_GOOD_TOKENS_EACH: Final = (0.1, 2e4)
_USUAL_TOKENS_EACH: Final = 20.0
_FEWEST_STEPS: Final = 20  # of a run that somebody would compare with others
_FEW_EACH: Final = 0.1  # tokens per parameter: as few as fine-tuning has, which takes some
_FEW_STEPS: Final = 100
_FEWEST_RUNS: Final = 6  # that are as short, for a unit to be likelier than a few trials
_MOST_UNITS: Final = 3  # that are offered, the likeliest first
_PREFIXES: Final = {"K": 1e3, "M": 1e6, "B": 1e9}
_WHOLE_BATCH: Final = 1e4  # tokens: from here on a fraction of one is rounding
_MOST_STEPS: Final = 2e6  # of a run that somebody would train
_FEW_TOKENS: Final = 128  # of a step: fewer than a short sequence has
_MOST_STEPS_OF_FEW: Final = 2e4
_HIGH_RATE: Final = 0.1
_OF_STEPS: Final = frozenset({"steps", "tokens", "batch_tokens", "batch_sequences", "seq_len"})
_ROUNDED: Final = 0.05
_SAMPLES: Final = frozenset({"samples", "examples", "sequences", "seqs"})
_POSITIONS: Final = frozenset({"max_position_embeddings", "n_positions", "max_positions"})  # the longest of a model
_OF_ALL: Final = SEEN | {"total", "train", "training", "budget", "all"}
_OF_ALL_STEPS: Final = _OF_ALL | {"max", "global", "target", "planned", "updates", "optimizer"}
_PASSES: Final = frozenset((*EPOCHS, "epoch", "passes", "n_passes", "data_passes", "repetitions", "data_repetitions"))
_DIVERGED: Final = 1e300
_FEWEST_SCALES: Final = 4
_OTHER_SCALE: Final = 1.05
_SAME_RATIO: Final = 1.03  # largest over smallest: one column is the other in another unit
_ONE_RATIO: Final = 1.005  # likewise, of a perplexity: losses of two data sets may lie as close as 3 %
_NEAR: Final = 0.03
_MOST_NATS_A_BIT: Final = 3.2  # nats per token over bits per byte, at 4.6 bytes to a token: few vocabularies have more


def doubts(view: View, columns: ColumnMap, options: IngestOptions) -> list[Question]:
    """What is doubted of the numbers in the columns that were found."""
    numbers = {
        name: view.numbers(place, columns.units.get(name, PLAIN))
        for name, place in columns.places.items()
        if name in ("params", "tokens", "lr", "loss", "batch_tokens")
    }
    names = {name: view.table.columns[columns.places[name]] for name in numbers}
    found = _of_sizes(numbers, names, columns, options)
    if "batch_tokens" in numbers and not columns.data_unit:
        found += _of_batch(numbers, names["batch_tokens"], options)
    found += _of_samples(view, names, columns, options)
    found += _of_steps(view, columns, options)
    found += _of_passes(view, names, columns, options)
    found += _of_data(numbers, names, columns, options)
    found += unfinished_or_settings(view, columns, options)
    asked = {column for question in found for column in question.columns}
    found += [each for each in mixed_units(view, columns, options) if asked.isdisjoint(each.columns)]
    if "lr" in numbers and not any(names["lr"] in question.columns for question in found):
        found += _of_rates(numbers["lr"], view.cells(columns.places["lr"]), names["lr"], options)
    if "loss" in numbers and options.metric is None:
        found += _of_loss(view, columns, names["loss"], numbers)
    return found


def _of_sizes(
    numbers: Mapping[str, Column], names: Mapping[str, str], columns: ColumnMap, options: IngestOptions
) -> list[Question]:
    """Parameters and tokens that do not go together, or tokens that are less than a batch."""
    stated = {name for name in names if names[name] in options.units or names[name].startswith(f"{name} = ")}
    if "params" not in numbers:
        return []
    params = numbers["params"].ascending()
    if not params:
        return []
    each = ratios(numbers["params"], numbers["tokens"]) if "tokens" in numbers else []
    middle = median(each) if each else None
    odd = middle is not None and not _LEAST_TOKENS_EACH < middle < _MOST_TOKENS_EACH
    few = median(params) < _FEW_PARAMS
    batches = numbers["batch_tokens"].ascending() if "batch_tokens" in numbers else []
    # a step of more tokens than the model has parameters, by far, is of parameters in thousands
    odd = odd or (
        middle is not None and middle > _MANY_EACH and bool(batches) and median(batches) > _STEP_EACH * median(params)
    )
    tokens = numbers["tokens"].ascending() if "tokens" in numbers else []
    short = bool(batches and tokens) and (
        median(tokens) < (_FEWEST_STEPS if middle is None or middle > _FEW_EACH else _FEW_STEPS) * median(batches)
    )
    short = short and len(tokens) >= _FEWEST_RUNS and "steps" not in columns.places and not columns.data_unit
    short = short or (bool(batches and tokens) and median(tokens) < median(batches) / 2)
    if not (odd or few or short) or {"params", "tokens"} & stated >= {"params", "tokens"} & names.keys():
        return []
    if stated and middle is not None and not odd and not short:
        return []
    free = [name for name in ("params", "tokens") if name in names and name not in stated]
    choices = _likely_units(free, params, tokens, names, columns, floor=median(batches) if batches else 0.0)
    plain: Choice = tuple(("unit", f"{names[name]}=1") for name in free)
    data = {"params": median(params), "tokens": median(tokens) if tokens else None, "each": middle}
    of = [names[name] for name in ("params", "tokens") if name in names]
    asked = finding("ingest.odd_sizes", columns=of, batch=median(batches) if short else None, **data)
    # What stands in brackets and is no unit may say of what the numbers are multiples.
    told = any(set("[(") & set(names[name]) and columns.units.get(name, PLAIN).plain for name in free)
    safe = 0 if len(choices) == 1 and not told else None
    return [Question(found=asked, columns=tuple(of), choices=(*choices, plain), safe=safe)]


def _of_batch(numbers: Mapping[str, Column], name: str, options: IngestOptions) -> list[Question]:
    """Steps of fractions of a token, or so small that a run would take millions: thousands, by the looks of it."""
    sizes = numbers["batch_tokens"].ascending()
    if not sizes or name in options.units or name.startswith("batch_tokens = "):
        return []
    steps = ratios(numbers["batch_tokens"], numbers["tokens"]) if "tokens" in numbers else []
    fractions = any(abs(size - round(size)) > 1e-6 * size for size in set(sizes)) and sizes[-1] < _WHOLE_BATCH
    most = _MOST_STEPS_OF_FEW if median(sizes) < _FEW_TOKENS else _MOST_STEPS
    if not fractions and (not steps or median(steps) <= most):
        return []
    asked = finding("ingest.odd_batch", column=name, low=sizes[0], high=sizes[-1])
    choices: list[Choice] = [(("unit", f"{name}={unit}"),) for unit in ("K", "M", "1")]
    if not fractions:
        choices.insert(2, (("map", f"{name}=batch_sequences"), ("seq-len", "T")))
    return [Question(found=asked, columns=(name,), choices=tuple(choices))]


def _of_steps(view: View, columns: ColumnMap, options: IngestOptions) -> list[Question]:
    """Tokens that are not steps x batch in most rows: of another batch, of passes over the data, or of a plan."""
    places, units = columns.places, columns.units
    names = {name: view.table.columns[place] for name, place in places.items()}
    if "steps" in places and "tokens" not in places and is_logged_step(names["steps"]) and columns.kind == "runs":
        asked = finding("ingest.steps_logged", column=names["steps"])
        choices: list[Choice] = [(("map", f"{names['steps']}=steps"),), (("map", "COLUMN=tokens"),)]
        return (
            []
            if names["steps"] in options.column_map
            else [Question(found=asked, columns=(names["steps"],), choices=tuple(choices))]
        )
    if not {"steps", "tokens"} <= places.keys() or columns.data_unit or columns.kind != "runs":
        return []
    read = {name: view.numbers(place, units.get(name, PLAIN)) for name, place in places.items() if name in _OF_STEPS}
    batches: Sequence[float | None] | None = read.get("batch_tokens")
    if batches is None and "batch_sequences" in read:
        length = options.seq_len or columns.seq_len
        one: Sequence[float | None] = [length] * len(view.table.rows)
        lengths = read.get("seq_len", one)
        batches = [a * b if a and b else None for a, b in zip(read["batch_sequences"], lengths, strict=True)]
    if batches is None:
        return []
    made = [s * b if s and b else None for s, b in zip(read["steps"], batches, strict=True)]
    of_tokens = sorted(tokens / product for product, tokens in pairs(made, read["tokens"]))
    off = [ratio for ratio in of_tokens if not same(ratio, 1.0, _ROUNDED)]
    if len(of_tokens) < 2 or 2 * len(off) <= len(of_tokens):
        return []
    asked = finding("ingest.steps_disagree", column=names["tokens"], steps=names["steps"], ratio=median(of_tokens))
    choices = [(("map", f"{names[name]}=extra"),) for name in ("tokens", "steps") if names[name] in view.table.columns]
    return [Question(found=asked, columns=(names["tokens"], names["steps"]), choices=tuple(choices))]


def _of_samples(view: View, names: Mapping[str, str], columns: ColumnMap, options: IngestOptions) -> list[Question]:
    """A run counted in samples beside steps, or positions of a model, counted in tokens: of how many is a sample?"""
    name = names.get("tokens", "")
    if _SAMPLES.isdisjoint(normal(name).split("_")) or " x " in name or name in {*options.column_map, *options.units}:
        return []
    batch = names.get("batch_tokens", "")
    lengths = [each for each in view.table.columns if columns.data_unit and spellings(each)[-1] in _POSITIONS]
    if not lengths and ("token" not in normal(batch) or batch in {*options.column_map, *options.units}):
        return []
    other = lengths[0] if lengths else batch
    asked = finding("ingest.samples_and_tokens", column=name, other=other)
    choices: list[Choice] = [(("map", f"{each}=seq_len"),) for each in lengths]  # a run may be of shorter sequences
    choices += [(("seq-len", "T"),), (("unit", f"{name}=T"),), (("map", f"{name}=tokens"),)]
    return [Question(found=asked, columns=(name, other), choices=tuple(choices))]


def _of_passes(
    view: View,
    names: Mapping[str, str],
    columns: ColumnMap,
    options: IngestOptions,
) -> list[Question]:
    """Tokens, or steps where no column has tokens, beside passes over them: those of one pass, or of all?"""
    steps = columns.places.get("steps")
    if "tokens" not in names and steps is not None and columns.kind == "runs":
        name, field, of_all = view.table.columns[steps], "steps", _OF_ALL_STEPS
    elif "tokens" in names and steps is None:
        name, field, of_all = names["tokens"], "tokens", _OF_ALL
    else:
        return []
    if " x " in name or name in {*options.column_map, *options.units}:
        return []
    if not of_all.isdisjoint(normal(name).split("_")):
        return []
    for place, column in enumerate(view.table.columns):
        passes = view.values(place) if spellings(column)[-1] in _PASSES and column not in options.column_map else []
        if not passes or passes[-1] <= 1 or any(value % 1 for value in passes):
            continue
        if _grow_together(view, columns.places[field], place, columns.places.get("params")):
            continue
        if _are_of_all(view, columns, field, place):
            continue
        asked = finding("ingest.tokens_of_pass", column=name, other=column, high=passes[-1])
        choices: list[Choice] = [(("map", f"{name}={field}"),)]
        choices += [(("unit", f"{name}={passes[0]:g}"),)] if passes[0] == passes[-1] else []
        return [Question(found=asked, columns=(name, column), choices=tuple(choices))]
    return []


def _are_of_all(view: View, columns: ColumnMap, field: str, passes: int) -> bool:
    """Whether tokens, or steps x batch, are passes times the tokens that a column counts once."""
    length = view.numbers(columns.places[field], columns.units.get(field, PLAIN)).floats()
    if field == "steps":
        if "batch_tokens" not in columns.places:
            return False
        length = (
            length * view.numbers(columns.places["batch_tokens"], columns.units.get("batch_tokens", PLAIN)).floats()
        )
    for place, column in enumerate(view.table.columns):
        for bare, unit in bare_names(column) if place not in columns.places.values() else ():
            if counts_unique(bare):
                made = view.numbers(place, unit).floats() * view.numbers(passes).floats()
                both = np.isfinite(made) & (length > 0)
                if both.any() and (np.abs(made[both] / length[both] - 1) < _ROUNDED).all():
                    return True
    return False


def _grow_together(view: View, length: int, passes: int, params: int | None) -> bool:
    """Whether runs of one size on more passes are longer by as much: they count those of all passes."""
    sizes = view.cells(params) if params is not None else [None] * len(view.table.rows)
    by_size: dict[Cell, list[tuple[float, float]]] = {}
    for size, long, count in zip(sizes, view.numbers(length), view.numbers(passes), strict=True):
        if long and count:
            by_size.setdefault(size, []).append((count, long / count))
    several = any(len({count for count, _ in runs}) > 1 for runs in by_size.values())
    each = [[ratio for _, ratio in runs] for runs in by_size.values()]
    return several and all(same(min(ratios), max(ratios), _ROUNDED) for ratios in each)


def _of_data(
    numbers: Mapping[str, Column], names: Mapping[str, str], columns: ColumnMap, options: IngestOptions
) -> list[Question]:
    """Tokens that are those of the data, by their name and as they are the same for each size of model."""
    name = names.get("tokens", "")
    if "params" not in numbers or "steps" in columns.places or name in options.column_map:
        return []
    if not {"dataset", "corpus"} & set(normal(name).split("_")):
        return []
    tokens, params = ({f"{each:.3g}" for each in numbers[field] if each is not None} for field in ("tokens", "params"))
    if len(tokens) != 1 or len(params) < 2:
        return []
    asked = finding(
        "ingest.tokens_of_data", column=name, low=next(each for each in numbers["tokens"] if each is not None)
    )
    choices: tuple[Choice, ...] = ((("map", f"{name}=tokens"),), (("map", f"{name}=extra"), ("map", "COLUMN=tokens")))
    return [Question(found=asked, columns=(name,), choices=choices)]


def _likely_units(
    free: Sequence[str],
    params: Sequence[float],
    tokens: Sequence[float],
    names: Mapping[str, str],
    columns: ColumnMap,
    floor: float,
) -> list[Choice]:
    """Units in which the sizes would be ordinary ones."""
    given = {"params": median(params), "tokens": median(tokens) if tokens else None}
    options = {name: [("", 1.0), *_PREFIXES.items()] if name in free else [("", 1.0)] for name in given}
    found: list[tuple[int, float, float, Choice]] = []
    for first, n in options["params"]:
        for second, d in options["tokens"]:
            size = n * given["params"] if given["params"] is not None else 0.0
            if size < 1e4 or not (first or second):
                continue
            if given["tokens"] is not None:
                total = d * given["tokens"]
                if not _GOOD_TOKENS_EACH[0] <= total / size <= _GOOD_TOKENS_EACH[1] or total < max(1e5, floor):
                    continue
            odds = abs(math.log10(d * (given["tokens"] or 1.0) / size / _USUAL_TOKENS_EACH))
            units = (("params", first), ("tokens", second))
            said = tuple(("unit", f"{names[name]}={_times(columns, name, unit)}") for name, unit in units if unit)
            found.append((len(said), odds, -size, said))
    return [said for *_, said in sorted(found)[:_MOST_UNITS]]


def _times(columns: ColumnMap, name: str, unit: str) -> str:
    """The unit of the numbers in the cells, where the column's name gave one already."""
    before = columns.units.get(name, PLAIN).factor
    return unit if before == 1 else f"{before * _PREFIXES[unit]:g}"


def _of_rates(values: Column, cells: Column, name: str, options: IngestOptions) -> list[Question]:
    rates = values.ascending()
    multiples = not MULTIPLIERS.isdisjoint(spellings(name))
    if len(rates) < 2 or name in options.units or multiples:  # one row is no evidence
        return []
    low, high = rates[0], rates[-1]
    if high < 0:
        asked = finding("ingest.negative_rates", column=name, low=low, high=high)
        return [
            Question(found=asked, columns=(name,), choices=tuple((("unit", f"{name}={u}"),) for u in ("log10", "ln")))
        ]
    if any(MULTIPLE.fullmatch(str(cell).strip()) for cell in cells.levels):
        asked = finding("ingest.rate_multiples", column=name, low=low, high=high)
        return [Question(found=asked, columns=(name,), choices=((("unit", f"{name}=RATE"),),))]
    if median(rates) >= 1 or (high >= 1 and median(rates) >= _HIGH_RATE):
        asked = finding("ingest.high_rates", column=name, low=low, high=high)
        choices = tuple((("unit", f"{name}={unit}"),) for unit in ("RATE", "1e-3", "1"))
        return [Question(found=asked, columns=(name,), choices=choices)]
    return []


def _of_loss(view: View, columns: ColumnMap, name: str, numbers: Mapping[str, Column]) -> list[Question]:
    """A loss that is too high to be one, or that grows with everything that should lower it."""
    losses = numbers["loss"].ascending()
    if losses and max(-losses[0], losses[-1]) >= _DIVERGED:
        losses = [value for value in losses if abs(value) < _DIVERGED]
    kind = columns.metric.kind
    found: list[Question] = []
    if losses and kind == "nats" and median(losses) > HIGH_LOSS:
        others = [
            column
            for place, column in enumerate(view.table.columns)
            if column != name and kind_of(column) in ("nats", "bits_per_byte") and _fits(view.values(place))
        ]
        asked = finding("ingest.high_loss", column=name, low=losses[0], high=losses[-1], others=others)
        choices: list[Choice] = [(("map", f"{other}=loss"),) for other in others]
        choices += [(("metric", "perplexity"),), (("metric", "nats"),)]
        found.append(Question(found=asked, columns=(name, *others), choices=tuple(choices)))
    elif kind == "nats" and (of_bits := _bits(view, columns, name, numbers["loss"])):
        found.append(of_bits)
    elif len(losses) >= _FEWEST_SCALES and losses[0] == losses[-1] and (others := _varying(view, name, numbers)):
        asked = finding("ingest.constant_loss", column=name, low=losses[0], others=others)
        choices = [*((("map", f"{other}=loss"),) for other in others), (("metric", kind),)]
        found.append(Question(found=asked, columns=(name, *others), choices=tuple(choices)))
    elif not is_score(name) and kind not in ("score", "percent_score") and (by := _rises(numbers)):
        highest = losses[-1]
        metric = "score" if highest <= 1 else "percent_score"
        asked = finding("ingest.rising_loss", column=name, by=by)
        choices = [(("metric", kind),)]
        choices += [(("metric", metric),)] if highest <= 100 else []
        found.append(Question(found=asked, columns=(name,), choices=tuple(choices)))
    return found


def _varying(view: View, name: str, numbers: Mapping[str, Column]) -> list[str]:
    """Other losses that are not the same in all of the runs, where those had several learning rates."""
    if "lr" not in numbers or len(set(numbers["lr"].levels)) < 2:
        return []
    others = [at for at, other in enumerate(view.table.columns) if other != name and kind_of(other) == kind_of(name)]
    return [view.table.columns[at] for at in others if len(set(view.values(at))) > 1]


def _bits(view: View, columns: ColumnMap, name: str, losses: Column) -> Question | None:
    """A loss without a unit that goes with a column of bits, or with its perplexity, as bits do and not as nats."""
    if is_unit_said(name):
        return None
    for place, column in enumerate(view.table.columns):
        kind = kind_of(column)
        if place == columns.places["loss"] or kind not in ("bits", "bits_per_byte", "perplexity"):
            continue
        others = view.numbers(place)
        if kind == "perplexity":  # its logarithm in nats
            others = others.made(lambda value: math.log(value) if value is not None and value > 1 else None)
        each = ratios(others, losses)
        if len(each) < 2 or each[-1] / max(each[0], 1e-9) > (_ONE_RATIO if kind == "perplexity" else _SAME_RATIO):
            continue  # of other data, or noisy
        ratio = median(each)
        likely = _likely_kind(kind, ratio)
        if likely == "nats":
            continue
        other = f"ln({column})" if kind == "perplexity" else column
        asked = finding("ingest.bits_or_nats", column=name, other=other, ratio=ratio)
        choices: list[Choice] = [(("metric", each),) for each in ("nats", "bits", "bits_per_byte")]
        safe = [choice[0][1] for choice in choices].index(likely) if likely else None
        return Question(found=asked, columns=(name, column), choices=tuple(choices), safe=safe)
    return None


def _likely_kind(other: str, ratio: float) -> str:
    """What a loss is that is so many times a column of another kind; "" where that does not tell."""
    if other == "bits_per_byte":  # a token has several bytes
        return "bits_per_byte" if same(ratio, 1.0, _NEAR) else "nats" if ratio < _MOST_NATS_A_BIT else ""
    of_bits = 1.0 if other == "bits" else 1 / math.log(2)
    return next(
        (kind for kind, factor in (("bits", 1.0), ("nats", math.log(2))) if same(ratio, factor * of_bits, _NEAR)), ""
    )


def _fits(values: Sequence[float]) -> bool:
    return bool(values) and values[0] > 0 and median(values) <= HIGH_LOSS


def _rises(numbers: Mapping[str, Column]) -> str:
    """The input with which even the best loss of each scale rises throughout; "" where there is none."""
    if "tokens" not in numbers or "params" not in numbers:
        return ""
    columns = [numbers[name] for name in ("params", "tokens", "loss")]
    held = np.flatnonzero(~np.isnan([column.floats() for column in columns]).any(axis=0))
    params, tokens, losses = (column.take(held) for column in columns)
    lowest: dict[tuple[float, float], float] = {}
    highest: dict[tuple[float, float], float] = {}
    for rows in members(groups([params, tokens], len(held))[0]):
        scale, here = (params[rows[0]], tokens[rows[0]]), losses.take(rows).floats()
        lowest[scale], highest[scale] = here.min(), here.max()
    if len(lowest) < _FEWEST_SCALES:
        return ""
    for name, at, other in (("tokens", 1, 0), ("params", 0, 1)):
        ordered = sorted(lowest, key=lambda scale: (scale[other], scale[at]))
        alone = [list(scales) for _, scales in groupby(ordered, key=lambda scale: scale[other])]
        steps = [step for scales in alone for step in pairwise(scales)]
        if any(b[at] < a[at] * _OTHER_SCALE for a, b in steps):
            continue  # the same but for rounding to whole steps
        compared = sum(len(scales) * (len(scales) - 1) // 2 for scales in alone)  # what rises step by step rises in all
        if compared >= _FEWEST_SCALES - 1 and all(lowest[a] < lowest[b] and highest[a] < highest[b] for a, b in steps):
            return name
    by_compute = sorted(lowest, key=lambda scale: scale[0] * scale[1])
    values = [lowest[scale] for scale in by_compute]
    return "compute" if all(a < b for a, b in pairwise(values)) else ""
