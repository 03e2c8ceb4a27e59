"""What a run can be set to beside learning rate and batch: which columns of a table are factors, told by their names.

A table without run ids makes keys of its settings, and a fit holds one level of each setting that varies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

WEIGHT_DECAY: Final = "weight_decay"
DECAY_NAMES: Final = (WEIGHT_DECAY, "wd")
# Further inputs of a loss law: by what a run differs from one of the same size on the same number of tokens.
UNIQUE: Final = ("unique_tokens",)
EPOCHS: Final = ("epochs", "num_epochs", "n_epochs")
SHARE: Final = ("active_fraction", "active_share")
SPARSITY: Final = ("sparsity",)
EXPERTS: Final = ("num_experts", "n_experts", "experts", "number_of_experts", "moe_num_experts")
_FURTHER: Final = frozenset((*UNIQUE, *EPOCHS, *SHARE, *SPARSITY, *EXPERTS))

# Columns that are choices and not results: they tell two runs apart when the file has no run ids.
_SETTING: Final = re.compile(
    r"(adam_)?(beta_?\d?|b1|b2|betas|eps|epsilon)|momentum|nesterov|(num_)?warmup.*|.*dropout.*|min_lr.*|lr_min|min_learning_rate"
    r"|final_learning_rate|final_lr|end_lr.*|.*grad.*clip.*|(.*_)?(max|clip)_grad.*norm.*|clip.*|hidden_size|d_model|d_ff|width|depth"
    r"|n_?(layers?|heads?|embd|embed)|num_(layers|heads)|ffn_size|mlp_ratio|vocab_size|init.*|ema.*decay|cooldown.*|decay_.*"
    r"|precision|dtype|changed_(param|value)|other_hparams|label_smoothing|z_loss.*|accumulation.*|gradient_accumulation.*"
)

# Choices that a fit does not see, beside those above, which also make keys and so cannot become more.
_FIXED: Final = re.compile(r"qk_norm|embedding_std|rope_(base|theta)|eval_tokens")

# What trackers put before their names; `params_lr` is Optuna's and `params.lr` MLflow's, while `params_b` is a name.
_PREFIXES: Final = (
    *("config_", "hparams_", "hyperparameters_", "summary_", "metrics_", "args_", "cfg_", "settings_", "params_"),
    *("user_attrs_", "results_", "training_args_", "model_config_", "train_config_"),
)

# As papers head their columns. A delta is a difference, and what it is one of is told by its sign: `ingest.metrics`.
_GREEK: Final = str.maketrans({"η": "eta", "λ": "lambda", "β": "beta", "ε": "eps", "ϵ": "eps"})


_REMEMBERED: Final = 65_536  # names: a table is asked about each of its columns hundreds of times


@lru_cache(maxsize=_REMEMBERED)
def normal(name: str) -> str:
    """A column name in the form in which names are compared."""
    if not name.isascii():
        name = name.translate(_GREEK)
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


@lru_cache(maxsize=_REMEMBERED)
def spellings(name: str) -> tuple[str, ...]:
    """Forms to look up: the whole name, less a wrapper such as `config.`, and the last part of a dotted path."""
    whole = normal(name)
    forms = [whole]
    forms += [rest for prefix in _PREFIXES if whole.startswith(prefix) and len(rest := whole.removeprefix(prefix)) > 1]
    last = re.split(r"[./:|]", name.strip())[-1]
    if (tail := normal(last)) and tail not in forms:
        forms.append(tail)
    return tuple(forms)


@lru_cache(maxsize=4096)
def is_setting(name: str) -> bool:
    """Whether the column is a choice made before the run."""
    return any(_SETTING.fullmatch(form) for form in spellings(name))


def is_held_fixed(name: str) -> bool:
    """Whether runs that differ in this column are hardly of one sweep."""
    return is_setting(name) or any(_FIXED.fullmatch(form) for form in spellings(name))


# Further choices by which people tell designs apart. Keys of runs are made without them, as always.
_DESIGN: Final = re.compile(
    r"(attention|attn|activation|moe)(_.*)?|.*experts?(_.*)?|top_?k|norm_(type|kind)|(num_|n_)?kv_heads|hidden_dim|d_head"
    r"|head_dim|d_state|ffn_dim|tie_.*|rope_.*"
)

# Words of columns that say what came of a run, or who made it where and when: runs that differ there may be seeds.
_RECORD_WORDS: Final = frozenset(
    {
        *("acc", "accumulation", "accuracy", "attempt", "auc", "author", "bits", "bpb", "campaign", "changed"),
        *("checkpoint", "cluster", "comment", "commit", "completed", "compute", "container", "cost", "created"),
        *("date", "description", "device", "devices", "dir", "diverged", "duration", "ended", "entity", "error"),
        *("eval", "f1", "file", "filename", "finished", "flop", "flops", "fold", "folder", "gb", "git", "gpu"),
        *("gpus", "group", "hash", "host", "hostname", "hours", "id", "idx", "index", "job", "label", "launcher"),
        *("link", "log", "loss", "losses", "machine", "mem", "memory", "metric", "mfu", "minutes", "name", "nan"),
        *("nans", "node", "nodes", "noise", "note", "notes", "number", "owner", "parameters", "params", "path"),
        *("perplexity", "points", "ppl", "preempted", "project", "rank", "region", "repeat", "replica", "replicate"),
        *("reported", "rerun", "restarts", "result", "resumed", "runtime", "samples", "score", "seconds", "secs"),
        *("seed", "seeds", "sha", "skipped", "slurm", "source", "spike", "spikes", "started", "state", "status"),
        *("step", "steps", "sweep", "tag", "tags", "task", "test", "throughput", "time", "timestamp", "title"),
        *("tokens", "train", "trunk", "uid", "update", "updated", "uri", "url", "user", "uuid", "val", "valid"),
        *("validation", "version", "wall", "watts", "worker", "zone"),
    }
)


# What was measured before the first step (init_loss) is no choice of an initialisation (init_std).
_FIRST_RESULT: Final = re.compile(r"(.*_)?init(ial)?_(.*_)?(loss|ppl|perplexity|bpb|acc|accuracy|error)")


@lru_cache(maxsize=4096)
def is_factor(name: str) -> bool:
    """Whether the column is known as a choice that moves the loss: runs that differ in it are no seeds of each other.

    Steps of accumulated gradients change nothing but the machine's memory, and a column that tells which setting was
    changed says no more than that setting's own.
    """
    if not {"accumulation", "changed"}.isdisjoint(normal(name).split("_")) or _FIRST_RESULT.fullmatch(normal(name)):
        return False
    return is_held_fixed(name) or any(_DESIGN.fullmatch(form) for form in spellings(name))


# Columns that make the shape of a model: width, depth, heads, inner width. Two shapes are two sizes of one count.
_SHAPE: Final = re.compile(
    r"width|hidden_size|d_model|n_embd|embed_dim|depth|layers|n_?layers?|num_layers|num_hidden_layers|heads|n_?heads?"
    r"|num_heads|num_attention_heads|hidden|hidden_dim|d_ff|ffn_size|ffn_dim|intermediate_size|mlp_ratio"
)


@lru_cache(maxsize=4096)
def is_shape(name: str) -> bool:
    """Whether the column is a dimension of the model."""
    return any(_SHAPE.fullmatch(form) for form in spellings(name))


@lru_cache(maxsize=4096)
def is_record(name: str) -> bool:
    """Whether the column is known as a result, as bookkeeping, or as a count that follows from the size of the run."""
    return not is_factor(name) and not _RECORD_WORDS.isdisjoint(normal(name).split("_"))


def asked_levels(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """``NAME=VALUE`` as (name, value), each once.

    Raises
    ------
    ValueError
        Another form, or two values of one name.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not (name and sign and value):
            raise ValueError(f"a level is asked for as NAME=VALUE, for instance beta2=0.95; got '{text}'")
        name = WEIGHT_DECAY if normal(name) in DECAY_NAMES else name
        if found.setdefault(name, value) != value and not same_level(found[name], value):
            raise ValueError(f"{name} is asked for at two levels, {found[name]} and {value}; an answer holds at one")
    return tuple(found.items())


def levels_typed(text: str) -> list[str]:
    """``NAME=VALUE`` texts of one field, parted by commas: a comma inside a value has no name and sign behind it."""
    return [part.strip() for part in re.split(r",(?=[^,=]*=)", text) if part.strip()]


def same_level(one: str, other: str) -> bool:
    """Whether two texts mean one level: 0.95 and .950, Linear and linear."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one.strip().lower() == other.strip().lower()


def is_further_input(name: str) -> bool:
    """Whether a column of the runs is a further input of a loss law, and no setting that a law of it has to hold."""
    return not _FURTHER.isdisjoint(spellings(name))
