"""What a column of results measures, told by its name: its kind, whether lower is better, and of which data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from lawfit.factors import normal
from lawfit.ingest.headers import LONGEST_NAME


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One kind of result, and how it becomes a loss: positive, and the lower the better."""

    kind: str  # how a person states it: --metric KIND
    loss_kind: str  # of the recipe, as laws that lend read it; "" where the file may say it
    said: str = ""  # what was done to the numbers
    to_loss: Callable[[float], float] = float
    highest: float = math.inf  # of a score that has bounds


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan if value == value else value


METRICS: Final[Mapping[str, Metric]] = {
    found.kind: found
    for found in (
        Metric(kind="nats", loss_kind=""),
        Metric(
            kind="bits",
            loss_kind="nats per token",
            said="times ln 2",
            to_loss=lambda bits: bits * math.log(2),
        ),
        Metric(kind="bits_per_byte", loss_kind="bits per byte"),
        Metric(
            kind="perplexity",
            loss_kind="nats per token, the log of what was logged",
            said="its logarithm",
            to_loss=_log,
        ),
        Metric(kind="error", loss_kind="error rate"),
        Metric(kind="squared_error", loss_kind="mean squared error"),
        Metric(kind="score", loss_kind="1 - score", said="as 1 - score", to_loss=lambda s: 1 - s, highest=1),
        Metric(
            kind="percent_score",
            loss_kind="1 - score",
            said="as 1 - score / 100",
            to_loss=lambda s: 1 - s / 100,
            highest=100,
        ),
    )
}
UNBOUNDED: Final = "unbounded"  # higher is better and nothing says where it ends

_SCORES: Final = frozenset(
    {
        *("accuracy", "accuracies", "acc", "acc1", "acc5", "top1", "top5", "f1", "auc", "auroc", "auprc", "recall"),
        *("precision", "mcc", "winrate", "miou", "iou", "map", "em", "passrate"),
    }
)
_ENDLESS: Final = frozenset({"reward", "return", "returns", "psnr", "elo"})  # whatever their numbers are
_UNBOUNDED: Final = _ENDLESS | {"score", "scores", "bleu", "rouge", "meteor", "r2"}
_KINDS: Final = (
    ("bits_per_byte", re.compile(r"(^|_)(bpb|bpc|bits?_(p(er)?_)?(utf_?8_)?(bytes?|chars?|characters?|b))(_|$)")),
    ("bits", re.compile(r"(^|_)(bits?|bpt)(_|$)")),
    ("perplexity", re.compile(r"(^|_)(ppl|perplexity|perplexities)(_|$)")),
    ("squared_error", re.compile(r"(^|_)(mse|squared_error|l2_loss|mean_squared)(_|$)")),
    ("nats", re.compile(r"(^|_)(loss|losses|nll|cross_entropy|crossentropy|xent|ce|lm_?loss|entropy)(_|$)")),
    ("error", re.compile(r"(^|_)(error|err|errors|wer|cer|mae|rmse|error_rate|top1_err)(_|$)")),
)
_KINDS_OF: Final = dict(_KINDS)
# The logarithm of a perplexity or of a likelihood with its sign turned is a loss.
_LOG_OF: Final = re.compile(
    r"(?:^|_)(log_?2|log|ln)_?(?:\w+_)?(?:ppl|perplexity)(?:_|$)|(?:^|_)(?:neg|negative)_log_?(?:likelihood|lik|prob)(?:_|$)"
)
# A loss by its name that is no result to fit: of a part, a constant, a setting, or of before the training.
_NO_RESULT: Final = re.compile(
    r"(^|_)(init|initial|aux|auxiliary|z|balance|balancing|router|scale|scaler|kind|type|name|column|weight|coef|coeff"
    r"|lambda|target|goal|predicted|prediction|pred|preds|extrapolated|expected|fitted|cumulative|over_(the_)?(training|run|steps)|residual|delta|std|stderr|var|variance|spike|spikes|smoothing|fn"
    r"|function|reduction|gap|change|diff|improvement|step|steps|step_?[01]|start|starting|first|before|half|halfway|mid|at_[0-9]\w*|time|nan|clip)(_|$)|loss_rank(ing)?$"
)
# A loss by its name that something was done to: what is left has another shape in data and size.
_ALTERED: Final = re.compile(
    r"(^|_)(excess|reducible|relative|rel|regret|delta|minus|neg|negative|baseline|vs|log_?10|log_?2|ln|normali[sz]ed|scaled|ratio)(_|$)"
)
_UNITS: Final = r"(words?|chars?|characters?|bytes?|seqs?|sequences?|samples?|examples?|docs?|documents?|sentences?)"
_LOSS: Final = r"(loss|nll|ce|xent|cross_entropy|crossentropy|entropy|perplexity|ppl)"
# Of another unit of text than a token.
_OF_UNIT: Final = re.compile(
    rf"(^|_)({_LOSS}|nats)_(per_)?(utf_?8_)?{_UNITS}(_|$)|(^|_){_UNITS}_(level_)?{_LOSS}(_|$)"
    rf"|(^|_)bits?_(per_)?(?!byte|char){_UNITS}(_|$)"  # bits of a byte or character are a kind of their own
)
_LESS: Final = re.compile(
    r"\s[-\u2013\u2212]\s*\d|[-\u2212]\d+\.\d|(?<!cross)[-\u2212]\s*(best|min|floor|entropy)\b|[\u0394\u2206]|\b(ln|log)\s*\("
    r"|^log[_ ]\w*loss$|\s[-\u2013\u2212]\s*(e|l_?inf|l\u221e)\b"
    # times, over or raised to something; e^ and exp of it; in hundredths, decibels or decimal digits
    r"|[×÷√²³^]|\w\*[\w(]|\w\*\s*\d|\w\s+\*\s*[\w(]|[·∙]\s*\d|\d\s*[·∙]|\b(exp|sqrt)\s*\(|(^|[\s(\[])x\s*\d|\d\s*x\s|[\[(]\s*1e-?\d"
    r"|\s/\s*\d|/\d+\.\d|/\s*(e\b|l_?inf)|^1\s*[-\u2212]"
    r"|[\[(]\s*(exp|db|dits?|bans?|hartleys?|%)\s*[\])]|\bbase[-_ ]?10\b",
    re.IGNORECASE,
)
_OVER_LN_2: Final = re.compile(
    r"\s*/\s*\(?(ln|log)[_ ]?\(?2\)?\)?\s*$|\s*/\s*0\.693\d*\s*$", re.IGNORECASE
)  # bits of nats
# The unit of a loss behind its name: `loss [b/B]`, `loss, bits`, `loss in Sh`. Of single letters the case says which.
_UNIT_OF: Final = re.compile(
    r"(?:[\[(]\s*(?:in\s+)?([^\])]*?)\s*[\])]|,\s*(?:in\s+)?([\w/ .]+)|\s+in\s+([\w/ .]+))\s*$"
)
_BITS: Final = re.compile(r"b|bits?|sh|shannons?|base[-_ ]?2|2-log|lb|log(arithm)?[-_ ]?base[-_ ]?2", re.IGNORECASE)
_PER: Final = re.compile(r"(b|bits?)\s*(?:/|per\s|\.)\s*(B|[Bb]ytes?|t|T|tok|toks|tokens?)")
_BASE_2: Final = re.compile(r"(^|_)base_?2(_|$)")
_LOG_LOSS: Final = frozenset({"log_loss", "logloss"})  # the usual name of a classifier's cross-entropy
_PERCENT: Final = re.compile(r"%|(^|[^a-z])(percent|percentage|pct)([^a-z]|$)", re.IGNORECASE)
_VALIDATION: Final = frozenset(
    {"val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout", "holdout"}
)
_TRAINING: Final = frozenset({"train", "training", "trn"})


def is_altered(name: str) -> bool:
    """Whether a name says that a loss was changed: its logarithm, less a constant, over another, of the other sign."""
    name = _OVER_LN_2.sub("", name).strip("*_ ")
    plain = normal(name)
    if plain in _LOG_LOSS or _LOG_OF.search(plain):
        return False
    of_loss = any(kind in ("nats", "bits", "perplexity") and pattern.search(plain) for kind, pattern in _KINDS)
    return of_loss and bool(_ALTERED.search(plain) or _OF_UNIT.search(plain) or _LESS.search(name))


def is_percent(name: str) -> bool:
    """Whether a name says that its numbers are of 100."""
    return bool(_PERCENT.search(name))


@lru_cache(maxsize=16_384)  # asked of each column by several readers
def kind_of(name: str) -> str:
    """``nats``, another kind of `METRICS`, `UNBOUNDED`; "" where the name says no result that can be fitted."""
    plain = normal(name)
    if _NO_RESULT.search(plain) or is_altered(name):
        return ""
    if unit := _kind_of_unit(name, plain):
        return unit
    if found := _LOG_OF.search(plain):
        return "bits" if found[1] in ("log2", "log_2") else "nats"
    for kind, pattern in _KINDS:
        if pattern.search(plain):
            return kind
    words = set(plain.split("_"))
    if not words.isdisjoint(_SCORES):
        return "score"
    return UNBOUNDED if not words.isdisjoint(_UNBOUNDED) else ""


def _kind_of_unit(name: str, plain: str) -> str:
    """``bits`` or ``bits_per_byte`` where a loss has that unit behind its name; "" of any other."""
    if not _KINDS_OF["nats"].search(plain):
        return ""
    if _OVER_LN_2.search(name) or _BASE_2.search(plain):
        return "bits"
    if len(name) > LONGEST_NAME or not (unit := _UNIT_OF.search(name)):
        return ""
    said = next(filter(None, unit.groups()), "").strip()
    if per := _PER.fullmatch(said):
        return "bits_per_byte" if per[2][0] in "Bb" else "bits"
    return "bits" if _BITS.fullmatch(said) and said != "B" else ""


def is_endless(name: str) -> bool:
    """Whether a score has no upper bound, even where all of its numbers could be shares."""
    return not _ENDLESS.isdisjoint(normal(name).split("_"))


def is_unit_said(name: str) -> bool:
    """Whether a name says that a loss is in nats."""
    return "nats" in normal(name).split("_")


def is_score(name: str) -> bool:
    """Whether the column is a score, of which higher is better."""
    return kind_of(name) in ("score", UNBOUNDED)


def data_of(name: str) -> str:
    """``validation``, ``training`` or "": of which data a name says that it is."""
    words = set(normal(name).replace("held_out", "heldout").split("_"))
    if not words.isdisjoint(_VALIDATION):
        return "validation"
    return "training" if not words.isdisjoint(_TRAINING) else ""
