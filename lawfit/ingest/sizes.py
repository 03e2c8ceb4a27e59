"""Parameters counted from the shape of a model: GPT, Llama and Mixtral families, total, non-embedding and active."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.factors import spellings
from lawfit.findings import finding
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import View

FAMILIES: Final = ("gpt", "llama", "mixtral")
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "width": ("hidden_size", "d_model", "n_embd", "hidden_dim", "width", "model_dim", "embed_dim", "dim"),
    "layers": ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "layers", "depth"),
    "heads": ("num_attention_heads", "n_heads", "n_head", "num_heads", "heads"),
    "kv_heads": ("num_key_value_heads", "n_kv_heads", "num_kv_heads", "n_kv_head"),
    "head_dim": ("head_dim", "d_head"),
    "inner": ("intermediate_size", "d_ff", "ffn_dim", "n_inner", "ffn_size", "ffn_hidden_size"),
    "vocab": ("vocab_size", "n_vocab", "padded_vocab_size"),
    "length": ("n_positions", "n_ctx", "block_size", "max_position_embeddings"),
    "experts": ("num_local_experts", "num_experts", "n_experts"),
    "chosen": ("num_experts_per_tok", "top_k", "topk", "experts_per_token"),
    "tied": ("tie_word_embeddings", "tie_embeddings", "tied_embeddings"),
}
_NEEDED: Final = {
    "gpt": ("width", "layers"),
    "llama": ("width", "layers", "inner"),
    "mixtral": ("width", "layers", "inner", "experts", "chosen"),
}


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Parameters of one model by the conventions of `units.PARAMS_CONVENTIONS`; None where the shape does not say."""

    total: float | None  # with embedding and head
    non_embedding: float  # blocks and the last norm
    active: float | None  # that work on a token: total less experts that are not chosen


def model_size(family: str, shape: Mapping[str, float]) -> ModelSize:
    """Parameters of a model of a family.

    Matrices and norms as in Hugging Face's `GPT2LMHeadModel` (biases, learned positions, tied head), `LlamaForCausalLM`
    and `MixtralForCausalLM` (no biases, an untied head unless `tied`).

    Parameters
    ----------
    shape : width, layers, and as the family has them heads, kv_heads, head_dim, inner, vocab, length, experts, chosen,
        tied

    Raises
    ------
    ValueError
        The shape lacks what the family needs.
    """
    if lacking := [name for name in _NEEDED[family] if name not in shape]:
        raise ValueError(
            f"a {family} model is counted from {', '.join(_NEEDED[family])}; {', '.join(lacking)} is missing"
        )
    width, layers, vocab = shape["width"], shape["layers"], shape.get("vocab")
    if family == "gpt":
        inner = shape.get("inner", 4 * width)
        block = 4 * width**2 + 4 * width + 2 * width * inner + inner + width + 4 * width
        body = layers * block + 2 * width
        embedding = None if vocab is None else (vocab + shape.get("length", 0)) * width
        total = None if embedding is None else body + embedding  # the head is the embedding
        return ModelSize(total=total, non_embedding=body, active=total)
    heads = shape.get("heads", 1)
    head = shape.get("head_dim", width / heads)
    attention = 2 * width * heads * head + 2 * width * shape.get("kv_heads", heads) * head
    expert = 3 * width * shape["inner"]
    experts, chosen = (shape["experts"], shape["chosen"]) if family == "mixtral" else (1.0, 1.0)
    router = width * experts if family == "mixtral" else 0.0
    body = layers * (attention + experts * expert + router + 2 * width) + width
    idle = layers * (experts - chosen) * expert
    if vocab is None:
        return ModelSize(total=None, non_embedding=body, active=None)
    total = body + vocab * width * (1 if shape.get("tied") else 2)
    return ModelSize(total=total, non_embedding=body, active=total - idle)


def shape_columns(table: Table) -> dict[str, int]:
    """Where a table says the shape of its models."""
    found: dict[str, int] = {}
    for name, names in _NAMES.items():
        ranked = [(names.index(f), at) for at, c in enumerate(table.columns) for f in spellings(c) if f in names]
        if ranked:
            found[name] = min(ranked)[1]
    return found


def families_of(table: Table) -> list[str]:
    """The families whose size the columns of a table give."""
    places = shape_columns(table)
    return [family for family in FAMILIES if set(_NEEDED[family]) <= places.keys()]


def counted_params(table: Table, family: str) -> tuple[str, list[Cell]]:
    """Name and cells of a column of parameters: active ones of experts, else total, else without embedding.

    Raises
    ------
    LogFormatError
        No such family, or columns that do not give its size.
    """
    if family not in FAMILIES:
        raise LogFormatError(finding("ingest.no_family", family=family, families=list(FAMILIES)))
    view, places = View(table), shape_columns(table)
    columns = {name: view.numbers(place) for name, place in places.items() if name != "tied"}
    if "tied" in places:
        columns["tied"] = view.cells(places["tied"]).made(_yes)
    cells: list[Cell] = []
    kind = "active" if family == "mixtral" else "total"
    kind = kind if "vocab" in columns else "non_embedding"
    for at in range(len(table.rows)):
        shape = {name: value for name, column in columns.items() if (value := column[at]) is not None}
        try:
            size = model_size(family, shape)
        except ValueError as error:
            raise LogFormatError(finding("ingest.no_size", file=table.name, why=str(error))) from None
        cells.append(getattr(size, kind))
    return f"{kind} params of the shape", cells


def _yes(cell: Cell) -> float:
    return float(str(cell).strip().lower() in ("true", "1", "1.0", "yes"))
