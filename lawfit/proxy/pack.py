"""`pack.json` -> frozen settings, checked; and the id of a run, which is the hash of that run's own settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

from lawfit.declared import About, fields_of
from lawfit.proxy.declared import PackError, build, check, demand, object_schema, shortened
from lawfit.proxy.schedules import NAMED, SCHEDULES, multipliers, named
from lawfit.records import Json, content_hash

__all__ = ["Model", "Pack", "PackError", "RunSettings", "load_pack", "pack_schema", "parse_pack"]

OPTIMIZERS = ("adamw", "muon", "sgd")
DECAYS = ("coupled", "independent")
PRECISIONS = ("bf16", "fp32")


@dataclass(frozen=True, kw_only=True)
class Model:
    """Shape of a decoder-only transformer, the same for every run of a pack."""

    layers: Annotated[int, About("Number of layers.", minimum=1)]
    width: Annotated[int, About("Width of the residual stream.", minimum=1)]
    heads: Annotated[int, About("Attention heads; they cut the width into even parts.", minimum=1)]
    hidden: Annotated[int, About("Width of the SwiGLU, gate and up each.", minimum=1)]
    vocab: Annotated[int, About("Vocabulary: at least that of the corpus.", minimum=1)]
    seq_len: Annotated[int, About("Tokens per sequence.", minimum=1)]
    qk_norm: Annotated[bool, About("RMSNorm of queries and keys, per head.")] = False
    embedding_std: Annotated[float, About("Standard deviation of the embedding's first values.", above=0)] = 0.02
    init_std: Annotated[
        float,
        About(
            "That of matrices and head; in matrices that write to the residual stream divided by sqrt(2 layers).",
            above=0,
        ),
    ] = 0.02
    rope_base: Annotated[float, About("Base of the rotary embedding.", above=0)] = 10_000.0
    mup_base_width: Annotated[
        int | None,
        About("Maximal update parametrization: the settings hold at this width. Null: standard.", minimum=1),
    ] = None

    def __post_init__(self) -> None:
        check(self, "model.")
        even_heads = self.width % self.heads == 0 and (self.width // self.heads) % 2 == 0
        demand(even_heads, "model.heads", self.heads, f"a number that cuts width {self.width} into even parts")

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

    lr: Annotated[float, About("Peak learning rate.", above=0)]
    steps: Annotated[int, About("Optimizer steps; tokens are steps x batch_sequences x seq_len.", minimum=1)]
    weight_decay: Annotated[float, About("Of everything but the norm gains; see decay.", minimum=0)] = 0.1
    beta1: Annotated[float, About("Of Adam.", minimum=0, below=1)] = 0.9
    beta2: Annotated[float, About("Of Adam.", minimum=0, below=1)] = 0.95
    beta2_half_life_tokens: Annotated[
        float | None, About("Instead of beta2: the weight of a squared gradient halves in so many tokens.", above=0)
    ] = None
    eps: Annotated[float, About("Of Adam.", above=0)] = 1e-8
    momentum: Annotated[float, About("Of muon's matrices, and of sgd.", minimum=0, below=1)] = 0.95
    clip: Annotated[float, About("Largest gradient norm of this run; 0 does not clip.", minimum=0)] = 1.0
    schedule: Annotated[
        str,
        About(
            "How the learning rate falls after warmup; some with numbers in the name: rex, rex:beta=0.9, uba:phi=0.5, "
            "wsd_s:ends=0.25/0.5/1,cooldown=0.1 (several decays in one run), power:capped=0.1,cooldown=0.1.",
            begins=(*SCHEDULES, *NAMED),
        ),
    ] = "linear"
    warmup_steps: Annotated[int, About("Steps in which the rate rises; fewer than steps.", minimum=0)] = 0
    final_fraction: Annotated[float, About("Last rate, as a fraction of the peak.", minimum=0, maximum=1)] = 0.0
    final_lr: Annotated[
        float | None, About("Last rate in absolute terms, at most lr; instead of final_fraction.", minimum=0)
    ] = None
    cooldown_fraction: Annotated[
        float, About("wsd: the last share of the run, in which the rate falls.", above=0, maximum=1)
    ] = 0.2
    init_seed: Annotated[int, About("Of the first weights.", minimum=0, below=2**63)] = 0
    data_seed: Annotated[
        int, About("Of the order of the data, the same at any batch size. Runs may share it.", minimum=0, below=2**63)
    ] = 0
    average_half_life_tokens: Annotated[
        float | None, About("Also evaluate an exponential average of the weights, of this half-life.", above=0)
    ] = None
    unique_tokens: Annotated[
        float | None,
        About(
            "Read only so many different tokens of the text, in whole sequences, over and over, each time in another "
            "order: those that the run would read first without a limit. Null: all of the text.",
            above=0,
        ),
    ] = None

    def __post_init__(self) -> None:
        check(self)
        demand(self.warmup_steps < self.steps, "warmup_steps", self.warmup_steps, f"in [0, steps = {self.steps})")
        demand(self.final_lr is None or self.final_lr <= self.lr, "final_lr", self.final_lr, f"in [0, lr = {self.lr}]")
        if self.schedule not in SCHEDULES:
            problem = _unfollowable(self.schedule, self.steps, self.warmup_steps, self._floor)
            if problem:
                raise PackError(f"schedule {shortened(repr(self.schedule)[1:-1])}: {problem}")

    @property
    def _floor(self) -> float:
        return self.final_fraction if self.final_lr is None else self.final_lr / self.lr

    def rates(self) -> npt.NDArray[np.float64]:
        """(steps,) learning rate of each step."""
        return self.lr * multipliers(
            self.schedule, self.steps, warmup_steps=self.warmup_steps, floor=self._floor,
            cooldown=self.cooldown_fraction,
        )  # fmt: skip


@lru_cache(maxsize=256)  # the runs of a grid differ in little of this
def _unfollowable(schedule: str, steps: int, warmup_steps: int, floor: float) -> str:
    """Why no rates follow from a schedule; empty where they do."""
    try:
        named(schedule, steps, warmup_steps=warmup_steps, floor=floor)
    except ValueError as error:
        return str(error)
    return ""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """K runs of one shape, one batch size and one optimizer, trained in a single program.

    Runs of schedule wsd or constant that are the same up to a step share it: see `lawfit.proxy.trunks`.
    """

    name: Annotated[str, About("For people and file names.")]
    model: Annotated[Model, About("Shape, the same for all runs.")]
    batch_sequences: Annotated[int, About("Sequences per step of each run.", minimum=1)]
    runs: Annotated[tuple[RunSettings, ...], About("No two the same.")]
    optimizer: Annotated[
        str,
        About(
            "muon: matrices of the layers; embedding, head and gains by adamw. mup_base_width needs adamw.",
            choices=OPTIMIZERS,
        ),
    ] = "adamw"
    decay: Annotated[
        str,
        About("coupled: w -= lr wd w, as torch's AdamW; independent: w -= (lr / peak lr) wd w.", choices=DECAYS),
    ] = "coupled"
    accumulation: Annotated[
        int,
        About("Micro-batches of a step, where it does not fit into memory whole; divides batch_sequences.", minimum=1),
    ] = 1
    precision: Annotated[
        str, About("Of matrix products; weights and optimizer state are fp32.", choices=PRECISIONS)
    ] = "bf16"
    corpus: Annotated[str, About("Folder of the corpus.")] = "corpus"
    corpus_hash: Annotated[str | None, About("When given, another corpus is refused.")] = None
    eval_sequences: Annotated[int, About("Of the validation part, always the same ones.", minimum=1)] = 4096
    evals: Annotated[int, About("Evaluations per run, evenly over its steps, the last at its end.", minimum=1)] = 1
    log_points: Annotated[int, About("Lines of training loss per run.", minimum=1)] = 60
    noise_scale: Annotated[
        bool, About("Measure squared gradient norms at one and two micro-batches for every such line.")
    ] = False

    def __post_init__(self) -> None:
        check(self)
        cuts = self.batch_sequences % self.accumulation == 0
        demand(cuts, "accumulation", self.accumulation, f"a divisor of batch_sequences {self.batch_sequences}")
        demand(len(self.runs) >= 1, "runs", "[]", "at least one run")
        mup_defined = self.model.mup_base_width is None or self.optimizer == "adamw"
        demand(mup_defined, "optimizer", self.optimizer, "adamw with model.mup_base_width: muP's rates are Adam's")
        for i, run in enumerate(self.runs):
            if run.unique_tokens is not None:
                least, whole = self.model.seq_len, run.steps * self.batch_tokens
                allowed = f"a sequence ({least}) or more and fewer than the run's {whole} tokens, or left out"
                demand(
                    least <= run.unique_tokens < whole, f"runs[{i}].unique_tokens", f"{run.unique_tokens:g}", allowed
                )

    @property
    def batch_tokens(self) -> int:
        return self.batch_sequences * self.model.seq_len

    @property
    def micro_sequences(self) -> int:
        return self.batch_sequences // self.accumulation

    def unique_sequences(self, index: int, sequences: int) -> int:
        """Different sequences that run `index` may read of a text of `sequences`."""
        limit = self.runs[index].unique_tokens
        return sequences if limit is None else int(limit // self.model.seq_len)

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
    for field in fields_of(type(settings)):
        value = getattr(settings, field.name)
        if value != field.default:
            # a file may say 1 for 1.0, and -0.0 for 0.0: the run is the same
            chosen[field.name] = float(value) + 0.0 if field.real and value is not None else value
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
    content["model"] = build(Model, content.get("model"), "model")
    runs = content.get("runs")
    if not isinstance(runs, (list, tuple)):
        raise PackError("runs must be a list of objects")
    content["runs"] = tuple(build(RunSettings, run, f"runs[{i}]") for i, run in enumerate(runs))
    pack = build(Pack, content, "")
    first: dict[RunSettings, int] = {}
    for i, run in enumerate(pack.runs):
        if run in first:
            raise PackError(f"runs[{first[run]}] and runs[{i}] are the same run; give them different seeds or drop one")
        first[run] = i
    return pack


def pack_schema() -> dict[str, Json]:
    """JSON schema of `pack.json`. `parse_pack` checks what it cannot say: a warmup within the steps, for example."""
    runs = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"$ref": "#/$defs/run"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pack.json of lawfit",
        "description": (Pack.__doc__ or "").split("\n")[0],
        **object_schema(Pack, model={"$ref": "#/$defs/model"}, runs=runs),
        "$defs": {"model": object_schema(Model), "run": object_schema(RunSettings)},
    }
