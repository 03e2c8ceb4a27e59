"""`pack.json` -> frozen settings, checked; and the id of a run, which is the hash of that run's own settings."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from lawfit.errors import LawfitError
from lawfit.records import Json, content_hash
from lawfit.train.schedules import SCHEDULES, multipliers


class PackError(LawfitError):
    """A pack says something that cannot be trained: which field, what it holds, what it may hold."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Shape of a decoder-only transformer, the same for every run of a pack."""

    layers: int
    width: int  # of the residual stream
    heads: int  # width / heads is the size of a head, an even number
    hidden: int  # of the SwiGLU, gate and up each
    vocab: int
    seq_len: int  # tokens per sequence
    qk_norm: bool = False
    embedding_std: float = 0.02
    init_std: float = 0.02  # matrices and head; matrices that write to the residual stream: divided by sqrt(2 layers)
    rope_base: float = 10_000.0
    mup_base_width: int | None = None  # maximal update parametrization: settings hold at this width (see model.py)

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "hidden", "vocab", "seq_len"):
            _demand(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "1 or more")
        even_heads = self.width % self.heads == 0 and (self.width // self.heads) % 2 == 0
        _demand(even_heads, "model.heads", self.heads, f"a number that cuts width {self.width} into even parts")
        base = self.mup_base_width
        _demand(base is None or base >= 1, "model.mup_base_width", base, "1 or more")
        for name in ("embedding_std", "init_std"):
            _demand(getattr(self, name) > 0, f"model.{name}", getattr(self, name), "above 0")

    @property
    def width_ratio(self) -> float:
        """Width over the base width; 1 in standard parametrization."""
        return self.width / self.mup_base_width if self.mup_base_width else 1.0

    @property
    def parametrization(self) -> str:
        return f"mup from width {self.mup_base_width}" if self.mup_base_width else "standard"

    @property
    def params(self) -> dict[str, int]:
        """Parameter counts by kind. Non-embedding parameters are `matrices + norms`."""
        matrices = self.layers * (4 * self.width**2 + 3 * self.width * self.hidden)
        head_size = self.width // self.heads
        norms = self.width + self.layers * (2 * self.width + 2 * head_size * self.qk_norm)
        return {
            "embedding": self.vocab * self.width,
            "head": self.vocab * self.width,
            "matrices": matrices,
            "norms": norms,
        }

    @property
    def non_embedding_params(self) -> int:
        return self.params["matrices"] + self.params["norms"]

    @property
    def flops_per_token(self) -> float:
        """Forward and backward: 6 per matrix and head weight, and causal attention (half of the full square)."""
        counts = self.params
        return 6.0 * (counts["matrices"] + counts["head"]) + 6.0 * self.layers * self.seq_len * self.width


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What may differ between the runs of a pack."""

    lr: float  # peak
    steps: int
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    beta2_half_life_tokens: float | None = None  # instead of beta2: a squared gradient's weight halves in them
    eps: float = 1e-8
    momentum: float = 0.95  # of muon's matrices, and of sgd
    clip: float = 1.0  # global gradient norm of this run; 0 does not clip
    schedule: str = "linear"
    warmup_steps: int = 0
    final_fraction: float = 0.0  # lr at the end, as a fraction of the peak
    final_lr: float | None = None  # lr at the end, in absolute terms, instead of final_fraction
    cooldown_fraction: float = 0.2  # wsd: the last part of the run, in which lr falls
    init_seed: int = 0
    data_seed: int = 0
    average_half_life_tokens: float | None = None  # also evaluate an exponential average of the weights

    def __post_init__(self) -> None:
        _demand(0 < self.lr < math.inf, "lr", self.lr, "above 0 and finite")
        _demand(self.steps >= 1, "steps", self.steps, "1 or more")
        _demand(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "0 or more")
        for name in ("beta1", "beta2", "momentum"):
            _demand(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        _demand(self.eps > 0, "eps", self.eps, "above 0")
        _demand(0 <= self.clip < math.inf, "clip", self.clip, "0 (no clipping) or more")
        _demand(self.schedule in SCHEDULES, "schedule", self.schedule, "one of " + ", ".join(SCHEDULES))
        _demand(0 <= self.warmup_steps < self.steps, "warmup_steps", self.warmup_steps, f"in [0, steps = {self.steps})")
        _demand(0 <= self.final_fraction <= 1, "final_fraction", self.final_fraction, "in [0, 1]")
        floor = self.final_lr is None or 0 <= self.final_lr <= self.lr
        _demand(floor, "final_lr", self.final_lr, f"in [0, lr = {self.lr}]")
        _demand(0 < self.cooldown_fraction <= 1, "cooldown_fraction", self.cooldown_fraction, "in (0, 1]")
        for name in ("beta2_half_life_tokens", "average_half_life_tokens"):
            half_life = getattr(self, name)
            _demand(half_life is None or half_life > 0, name, half_life, "above 0")
        for name in ("init_seed", "data_seed"):
            _demand(0 <= getattr(self, name) < 2**63, name, getattr(self, name), "0 or more")

    def rates(self) -> npt.NDArray[np.float64]:
        """(steps,) learning rate of each step."""
        floor = self.final_fraction if self.final_lr is None else self.final_lr / self.lr
        return self.lr * multipliers(
            self.schedule, self.steps, warmup_steps=self.warmup_steps, floor=floor, cooldown=self.cooldown_fraction
        )


OPTIMIZERS = ("adamw", "muon", "sgd")  # muon: matrices of the layers; embedding, head and gains by adamw
DECAYS = ("coupled", "independent")  # w -= lr wd w (as torch's AdamW);  w -= (lr / peak lr) wd w
PRECISIONS = ("bf16", "fp32")


@dataclass(frozen=True, kw_only=True)
class Pack:
    """K runs of one shape, one batch size and one optimizer, trained in a single program."""

    name: str
    model: Model
    batch_sequences: int  # sequences per step of each run
    runs: tuple[RunSettings, ...]
    optimizer: str = "adamw"
    decay: str = "coupled"
    accumulation: int = 1  # micro-batches that a batch is computed in, where it does not fit into memory whole
    precision: str = "bf16"  # of matrix products; weights and optimizer state stay fp32
    corpus: str = "corpus"  # folder made by lawfit.train.corpus
    corpus_hash: str | None = None  # when given, another corpus is refused
    eval_sequences: int = 4096  # of the validation part, always the same ones
    evals: int = 1  # evaluations per run, evenly over its steps, the last at its end
    log_points: int = 60  # lines of training loss per run
    noise_scale: bool = False  # measure squared gradient norms at one and two batches for every such line

    def __post_init__(self) -> None:
        _demand(self.batch_sequences >= 1, "batch_sequences", self.batch_sequences, "1 or more")
        cuts = self.accumulation >= 1 and self.batch_sequences % self.accumulation == 0
        _demand(cuts, "accumulation", self.accumulation, f"a divisor of batch_sequences {self.batch_sequences}")
        _demand(len(self.runs) >= 1, "runs", "[]", "at least one run")
        _demand(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, "one of " + ", ".join(OPTIMIZERS))
        mup_defined = self.model.mup_base_width is None or self.optimizer == "adamw"
        _demand(mup_defined, "optimizer", self.optimizer, "adamw with model.mup_base_width: muP's rates are Adam's")
        _demand(self.decay in DECAYS, "decay", self.decay, "one of " + ", ".join(DECAYS))
        _demand(self.precision in PRECISIONS, "precision", self.precision, "one of " + ", ".join(PRECISIONS))
        _demand(self.eval_sequences >= 1, "eval_sequences", self.eval_sequences, "1 or more")
        _demand(self.evals >= 1, "evals", self.evals, "1 or more")
        _demand(self.log_points >= 1, "log_points", self.log_points, "1 or more")

    @property
    def batch_tokens(self) -> int:
        return self.batch_sequences * self.model.seq_len

    @property
    def micro_sequences(self) -> int:
        return self.batch_sequences // self.accumulation

    def beta2(self, index: int) -> float:
        """As it is used in run `index`."""
        run = self.runs[index]
        if run.beta2_half_life_tokens is None:
            return run.beta2
        return float(0.5 ** (self.batch_tokens / run.beta2_half_life_tokens))

    def run_id(self, index: int, corpus_hash: str) -> str:
        """Hash of everything that decides the losses of one run, and nothing about its neighbours.

        What a pack leaves at its default is left out, so that a setting added to the trainer later does not change
        the ids of the runs before it; for the same reason no default ever changes.
        """
        own = {"model": _chosen(self.model), "run": _chosen(self.runs[index]), "corpus_hash": corpus_hash}
        shared = _chosen(self)
        return content_hash({**{name: shared[name] for name in _DECISIVE if name in shared}, **own})

    def to_json(self) -> dict[str, Json]:
        return dataclasses.asdict(self)


_DECISIVE = ("batch_sequences", "optimizer", "decay", "precision", "eval_sequences")  # of a pack, for the losses


def _chosen(settings: Model | RunSettings | Pack) -> dict[str, Json]:
    """The fields that differ from their defaults."""
    chosen = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            real = "float" in str(field.type) and value is not None  # a file may say 1 for 1.0
            chosen[field.name] = float(value) if real else value
    return chosen


def load_pack(path: Path) -> Pack:
    """Read and check one `pack.json`.

    Raises
    ------
    PackError
        Not a readable JSON object, a field that does not exist or is missing, a value out of its range.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PackError(f"{path} cannot be read as a pack: {error}") from None
    try:
        return parse_pack(content)
    except PackError as error:
        raise PackError(f"{path}: {error}") from None


def parse_pack(content: Json) -> Pack:
    """Pack from a JSON value; two runs with the same settings are refused, since they would be one run."""
    if not isinstance(content, Mapping):
        raise PackError(f"a pack is a JSON object, not {type(content).__name__}")
    content = dict(content)
    content["model"] = _build(Model, content.get("model"), "model")
    runs = content.get("runs")
    if not isinstance(runs, (list, tuple)):
        raise PackError("runs must be a list of objects")
    content["runs"] = tuple(_build(RunSettings, run, f"runs[{i}]") for i, run in enumerate(runs))
    pack = _build(Pack, content, "")
    first: dict[RunSettings, int] = {}
    for i, run in enumerate(pack.runs):
        if run in first:
            raise PackError(f"runs[{first[run]}] and runs[{i}] are the same run; give them different seeds or drop one")
        first[run] = i
    return pack


T = TypeVar("T")


def _build(kind: type[T], content: Json, where: str) -> T:
    """Dataclass from a JSON object; every complaint names the field."""
    dot = f"{where}." if where else ""
    if not isinstance(content, Mapping):
        raise PackError(f"{where} must be an object")
    hints = get_type_hints(kind)
    if unknown := sorted(set(content) - set(hints)):
        raise PackError(f"unknown field {dot}{unknown[0]}; the fields are {', '.join(hints)}")
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in content:
            if field.default is dataclasses.MISSING:
                raise PackError(f"{dot}{field.name} is missing")
        elif not _fits(content[field.name], hints[field.name]):
            raise PackError(f"{dot}{field.name} must be {_kind_name(hints[field.name])}, got {content[field.name]!r}")
    try:
        return kind(**content)
    except PackError as error:
        raise PackError(f"{where}: {error}" if where and where != "model" else str(error)) from None


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is NoneType or value is None:
        return value is None and hint is NoneType
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(hint) or hint)


def _kind_name(hint: Any) -> str:
    names = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false", NoneType: "null"}
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_kind_name(option) for option in get_args(hint))
    return names.get(hint, str(hint))


def _demand(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise PackError(f"{field} must be {allowed}, got {value}")
