"""An answer as the advisor shows it: a row for each quantity, with the bar of its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lawfit.documents import Answer, part_of, setting_of
from lawfit.units import format_lr, format_percent, format_quantity
from lawfit.words import tell, told
from lawfit.words.advisor import (
    BEYOND,
    BEYOND_ITS_RUNS,
    MEANING,
    SAID_ONCE,
    VERBS,
    leads_with_interval,
    outside_zone_words,
    trust_words,
)
from lawfit.words.answers import (
    LAW_STATUS_WORDS,
    QUANTITY_WORDS,
    at_batch_words,
    batch_range,
    is_simulated,
    settings_words,
)
from lawfit.words.parts import part_labels, words_of

LEAST_SPAN: Final = math.log(4.0)  # a bar's full width is this factor at least
AIR: Final = 1.15  # times the widest interval


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Where marks lie along a bar, in percent of its width."""

    low: float
    high: float
    value: float
    cheap: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity."""

    name: str
    label: str
    meaning: str  # what its number counts
    value: str  # empty: not known
    interval: str
    level: str  # of the interval: "90 %"
    leads: bool  # the interval is the answer
    verb: str  # before the value, where the interval leads
    standing: str  # of a number that lies beyond its own runs, where the settings do not
    cheap: str  # settings that cost little; empty: none are known
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    missing: str  # why there is no value
    bar: Bar | None


@dataclass(frozen=True, kw_only=True)
class Advice:
    """All that is shown of an answer."""

    document: Answer  # its findings told
    trust: str
    beyond: bool
    rows: tuple[Row, ...]
    span: str  # what a bar's full width stands for
    warnings: tuple[str, ...]
    simulated: bool
    held: tuple[str, ...]  # levels of settings that it holds at


def advice_of(document: Answer, cells: Sequence[Mapping[str, Any]]) -> Advice:
    """What is shown of an answer.

    Parameters
    ----------
    document : of `pipeline.recommend`, with its findings
    cells : scales of the fit that it comes from
    """
    warnings = tuple(
        tell(each) for each in document["warnings"] if not (isinstance(each, Mapping) and each["code"] in SAID_ONCE)
    )
    document = told(document)
    known = document["recommendation"]["lr"] is not None
    parts: dict[str, Mapping[str, Any] | None] = {}
    if known:
        parts |= {name: setting_of(document["recommendation"], name) for name in ("lr", "batch_tokens")}
    parts |= {name: part_of(document, name) for name in part_labels()}
    span = _span(part for part in parts.values() if part is not None)
    rows = tuple(_row(document, name, part, span) for name, part in parts.items())
    return Advice(
        document=document,
        trust=trust_words(document, cells) if known else f"No learning rate: {document['missing'].get('lr', '')}",
        beyond=any(row.leads for row in rows if row.name in QUANTITY_WORDS),
        rows=rows,
        span=f"{math.exp(2 * span):,.0f}",
        warnings=warnings,
        simulated=is_simulated(document["recipe"]),
        held=tuple(settings_words(document)),
    )


def _span(parts: Any) -> float:
    """Half the width of every bar, in ln: one for all, so that the wider bar is the larger doubt."""
    widest = max((math.log(part["high"] / part["low"]) for part in parts if part.get("low")), default=0.0)
    return max(LEAST_SPAN, AIR * widest) / 2


def _row(document: Answer, name: str, part: Mapping[str, Any] | None, span: float) -> Row:
    of_setting = name in QUANTITY_WORDS
    label = QUANTITY_WORDS[name] if of_setting else part_labels()[name]
    if part is None:
        missing = document["missing"].get(name) or "this fit has no law for it"
        return Row(
            name=name, label=label, meaning=MEANING.get(name, ""), value="", interval="", level="", leads=False,
            verb="", standing="", cheap="", facts=(), notes=(), missing=missing, bar=None,
        )  # fmt: skip
    zones = sorted((part.get("cheap_zone") or {}).items(), key=lambda item: float(item[0]))
    zone = zones[0][1] if zones else None
    write = _writer(name)
    interval = "" if part.get("low") is None else batch_range(part, f"{write(part['low'])} to {write(part['high'])}")
    if of_setting:
        facts = tuple(_setting_facts(document, name, part))
        notes = tuple(filter(None, (outside_zone_words(part["value"], zone),)))
    else:
        facts = tuple(pair for pair in words_of(name).rows(document, part) if not pair[0].endswith("interval"))
        notes = (*(part.get("lines") or ()), *part["notes"])
        if part["status"] not in ("ok", BEYOND):
            notes = (LAW_STATUS_WORDS.get(part["status"], part["status"]), *notes)
    return Row(
        name=name,
        label=label,
        meaning=MEANING.get(name, "") + (", given by you" if part["status"] == "given" else ""),
        value=f"{part['value']:,.0f}" if name == "batch_tokens" else write(part["value"]),
        interval=interval,
        level=f"{100 * part['level']:g} %",
        leads=leads_with_interval(part),
        verb=VERBS.get(name, "best guess"),
        standing=BEYOND_ITS_RUNS if leads_with_interval(part) and not of_setting else "",
        cheap="" if zone is None else f"{write(zone[0])} to {write(zone[1])}",
        facts=facts,
        notes=notes,
        missing="",
        bar=_bar(part, zone, span) if interval else None,
    )


def _writer(name: str) -> Any:
    if name == "lr":
        return format_lr
    return format_quantity if name == "batch_tokens" else words_of(name).write


def _setting_facts(document: Answer, name: str, part: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    length = document["target"].get("seq_len")
    if part.get("sequences") is not None:
        rows.append(("In sequences", f"{part['sequences']:,.0f}" + (f" of {length:,} tokens" if length else "")))
    for cost, zone in sorted((part.get("cheap_zone") or {}).items(), key=lambda item: float(item[0]))[1:]:
        if zone is not None:
            write = _writer(name)
            rows.append((f"Costs below {100 * float(cost):g} %", f"{write(zone[0])} to {write(zone[1])}"))
    if part.get("expected_regret") is not None:
        rows.append(("Expected cost", f"{format_percent(part['expected_regret'])} of the loss"))
    if "yours" in part:
        share = f"{100 * part['yours']:.0f} %"
        rows.append(("From your runs", share if part["yours"] > 0.995 else f"{share}, the rest from published laws"))
    if words := at_batch_words(part.get("at_batch")):
        rows.append(("At this batch", words))
    return rows


def _bar(part: Mapping[str, Any], zone: Sequence[float] | None, span: float) -> Bar:
    middle = (math.log(part["low"]) + math.log(part["high"])) / 2

    def place(value: float) -> float:
        return round(min(100.0, max(0.0, 50 + 50 * (math.log(value) - middle) / span)), 2)

    return Bar(
        low=place(part["low"]),
        high=place(part["high"]),
        value=place(part["value"]),
        cheap=None if zone is None else (place(zone[0]), place(zone[1])),
    )
