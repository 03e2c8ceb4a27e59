"""The names under which trainers and people write each field. To teach lawfit a name: add it to its list.

Names are compared in lower case with every run of other characters as one underscore: `optimizer.lr`,
`Optimizer LR` and `optimizerLr` are `optimizer_lr`. Within a list, earlier names win.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from lawfit.factors import normal, spellings

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "lr": (
        *("peak_lr", "peak_learning_rate", "lr_peak", "learning_rate_peak", "max_lr", "max_learning_rate", "lr_max"),
        *("learning_rate", "lr", "optimizer_lr", "optimizer_learning_rate", "optim_lr", "optim_learning_rate"),
        *(
            "optimizer_peak_lr",
            "base_lr",
            "base_learning_rate",
            "eta",
            "lrate",
            "mup_base_lr",
            "mup_lr",
            "l_rate",
            "learn_rate",
            "step_size",
        ),
        *("optimizer_args_lr", "optimizer_params_lr", "adam_lr", "adamw_lr", "lr_value", "initial_lr", "lr_init"),
    ),
    "params": (
        *("params", "n_params", "num_params", "parameters", "n_parameters", "num_parameters", "number_of_parameters"),
        *("model_params", "model_parameters", "param_count", "parameter_count", "params_count", "n"),
        *("non_embedding_params", "non_embedding_parameters", "params_non_embedding", "n_params_non_embedding"),
        *("n_non_embedding", "nonembedding_params", "num_non_embedding_params", "n_params_no_embed"),
        *("active_params", "params_active", "n_params_active", "n_active_params", "num_active_params"),
        *(
            "active_parameters",
            "activated_params",
            "activated_parameters",
            "activated",
            "n_activated",
            "n_act",
            "n_active",
            "na",
            "n_a",
        ),
        *("total_params", "params_total", "total_parameters", "n_params_total", "num_total_params"),
        *("model_size", "model_n_params", "model_num_params", "size_params", "trainable_params", "nparams"),
        *("model_parameter_count", "model_param_count", "parameter_total", "num_trainable_params"),
    ),
    "tokens": (
        *("tokens", "n_tokens", "num_tokens", "train_tokens", "training_tokens", "total_tokens", "tokens_total"),
        # What was seen before what was planned, or what there was to see.
        *("n_train_tokens", "num_train_tokens", "tokens_seen", "seen_tokens", "num_input_tokens_seen"),
        *("tokens_trained", "ntokens", "train_tokens_seen", "tokens_processed", "total_train_tokens"),
        *("total_training_tokens", "trained_tokens", "tokens_consumed", "consumed_tokens", "num_training_tokens"),
        *("n_training_tokens", "token_budget", "tokens_budget", "train_max_tokens", "max_tokens", "d"),
        *("data_tokens", "dataset_tokens"),
        # Of what is no text: see DATA_UNITS.
        *("samples_seen", "samples", "n_samples", "num_samples", "train_samples", "consumed_samples", "examples"),
        *("consumed_train_samples", "sequences_seen", "seqs_seen", "num_sequences", "n_sequences"),
        *("examples_seen", "n_examples", "num_examples", "images_seen", "n_images"),
    ),
    "batch_tokens": (
        *("batch_tokens", "batch_size_tokens", "batch_size_in_tokens", "tokens_per_batch", "tokens_per_step"),
        *("global_batch_tokens", "global_batch_size_tokens", "total_batch_tokens", "total_batch_size_tokens"),
        *("train_batch_tokens", "num_tokens_per_train_step", "training_num_tokens_per_train_step", "batch_n_tokens"),
        *("tokens_step", "tokens_per_update", "tokens_per_iteration", "tokens_per_iter", "tokens_per_optimizer_step"),
    ),
    "batch_sequences": (
        *("batch_sequences", "batch_size_sequences", "batch_size_in_sequences", "sequences_per_batch"),
        *("sequences_per_step", "global_batch_sequences", "global_batch_size_sequences", "batch_seqs"),
        *("batch_size_seqs", "global_train_batch_size", "trainer_train_batch_size", "seqs_per_batch", "seqs_per_step"),
    ),
    # Both units, and per-device sizes, go under these names: they are never guessed.
    "batch_unstated": (
        # The whole batch before one that may be a part of it.
        *("global_batch_size", "total_batch_size", "effective_batch_size", "training_global_batch_size"),
        *("train_global_batch_size", "data_loader_global_batch_size", "batch_size", "train_batch_size"),
        *("batchsize", "batch", "global_bs", "bs", "b", "gbs", "train_bs", "total_bs", "bsz", "global_bsz"),
    ),
    "seq_len": (
        *("seq_len", "seq_length", "sequence_length", "seqlen", "context_length", "context_len", "ctx_len", "ctx"),
        *("context", "context_size", "n_ctx", "block_size", "max_seq_len", "max_seq_length", "max_sequence_length"),
        *("model_seq_len", "model_max_sequence_length", "training_seq_len", "training_max_context_length"),
        *("train_max_seq_length", "dataset_sequence_length", "max_context_length", "max_length", "train_seq_len"),
        *("data_seq_len", "seq", "sequence_len", "tokens_per_sequence"),
    ),
    "steps": (
        *("steps", "n_steps", "num_steps", "train_steps", "training_steps", "num_train_steps", "num_training_steps"),
        *("total_steps", "trainer_num_train_steps", "max_steps", "max_iters", "train_iters", "iterations", "n_iters"),
        *("target_steps", "planned_steps", "num_iters", "num_iterations", "total_iters", "training_iters", "updates"),
        *("global_step", "step"),  # of a table of runs: the last one
    ),
    "weight_decay": (
        *("weight_decay", "wd", "optimizer_weight_decay", "optim_weight_decay", "optimizer_wd", "wdecay"),
        *("weightdecay", "adamw_weight_decay", "adam_weight_decay", "lambda", "lambda_wd"),
    ),
    # Multiplied where all three are there.
    "micro_batch": (
        *("micro_batch_size", "per_device_train_batch_size", "per_device_batch_size", "device_batch_size"),
        *("local_batch_size", "training_local_batch_size", "device_train_microbatch_size", "micro_batch", "mbs"),
        *("microbatch_size", "per_gpu_batch_size", "batch_size_per_device", "batch_size_per_gpu", "micro_bs"),
        *("train_micro_batch_size", "train_micro_batch_size_per_gpu", "per_gpu_train_batch_size"),
    ),
    "accumulation": (
        *("gradient_accumulation_steps", "grad_accum_steps", "grad_accum", "accumulation_steps", "accum_steps"),
        *("gradient_accumulation", "accumulate_grad_batches", "grad_accumulation", "grad_accumulation_steps"),
        *("grad_acc", "grad_acc_steps", "accumulation", "accum", "gas", "update_freq"),
    ),
    "devices": (
        *("world_size", "num_gpus", "n_gpus", "num_devices", "n_devices", "devices", "gpus", "gpu_count", "dp_size"),
        *("data_parallel_size", "dp", "data_parallel", "num_replicas", "n_gpu", "dp_degree", "ngpus", "gpu_num"),
        *("data_parallel_degree", "dp_world_size", "num_processes"),
    ),
    "weight_decay_kind": ("weight_decay_kind", "weight_decay_type", "decay_kind", "wd_kind", "wd_type"),
    "seed": ("seed", "random_seed", "rng_seed", "train_seed", "trainer_seed", "training_seed"),
    "loss_kind": ("loss_kind", "loss_type", "loss_name", "metric_name"),
    "params_convention": (
        "params_convention",
        "n_params_kind",
        "params_kind",
        "param_count_kind",
        "parameter_convention",
    ),
    "diverged": ("diverged", "is_diverged", "has_diverged", "did_diverge", "divergent", "exploded", "is_nan"),
    "status": ("status", "state", "run_status", "run_state", "job_state", "trial_state", "job_status"),
    "completed": ("completed", "finished", "is_complete", "is_finished", "complete", "done", "is_done"),
    "run_id": ("run_id", "run_key", "run_uuid", "uuid", "trial_id", "wandb_id"),
    "run_name": (
        "id",
        "run_name",
        "name",
        "run",
        "display_name",
        "wandb_name",
        "trial_name",
        "experiment_name",
        "exp_name",
    ),
    "optimizer": ("optimizer", "optim", "optimizer_name", "optimizer_type", "optim_name", "opt"),
    "schedule": (
        *("schedule", "lr_schedule", "learning_rate_schedule", "scheduler", "lr_scheduler", "lr_scheduler_type"),
        *("scheduler_name", "lr_decay_style", "schedule_name", "schedule_label"),
    ),
    "data": ("data", "dataset", "corpus", "dataset_name", "data_name", "train_data", "training_data", "data_mix"),
    "tokenizer": ("tokenizer", "tokenizer_name", "tokenizer_type"),
    "parametrization": (
        *("parametrization", "parameterization", "parametrisation", "parameterisation"),
        *("mup", "use_mup", "mup_enabled", "is_mup"),  # yes or no: see rows.py
    ),
    "family": ("model_family", "family", "architecture", "arch", "model_type"),
}

# Losses, best first, behind any smoothed one (see loss_column.py): at the end, on validation data, on training data.
LOSSES: Final = (
    *("final_loss", "loss_final", "final_val_loss", "final_valid_loss", "final_validation_loss", "final_eval_loss"),
    *("val_loss", "valid_loss", "validation_loss", "eval_loss", "val_loss_final", "eval_loss_final", "test_loss"),
    *("loss", "lm_loss", "nll", "cross_entropy", "final_train_loss", "final_training_loss", "train_loss"),
    *("training_loss", "train_loss_final"),
)

# One device's share of the batch: multiplying it up would be a guess about the machines.
PER_DEVICE: Final = frozenset(NAMES["micro_batch"])

# What a unit of data is called where it is no token.
DATA_UNITS: Final = {"samples": "samples", "examples": "samples", "images": "images"}

# Multiples of a rate that stands elsewhere.
MULTIPLIERS: Final = frozenset(
    {
        *("lr_multiplier", "lr_mult", "lr_scale", "lr_factor", "rel_lr", "relative_lr", "lr_rel", "lr_multiple"),
        *("learning_rate_multiplier", "learning_rate_scale", "lr_times", "lr_ratio"),
    }
)

# Names that say which of two columns of one field was counted and which was planned.
COUNTED: Final = frozenset({"counted", "count", "actual", "measured", "total", "seen", "exact"})
PLANNED: Final = frozenset({"planned", "plan", "nominal", "target", "budget", "label", "approx", "intended"})

# Parts of a wrapper around names: what was set before a run, and what came of it.
_CONFIG: Final = frozenset(
    {
        *("config", "cfg", "params", "param", "hparams", "hyperparameters", "hyperparams", "args", "settings"),
        *("user_attrs", "training_args", "optimizer", "optim", "training", "trainer", "model"),
    }
)
_RESULT: Final = frozenset({"metrics", "metric", "summary", "results", "result", "optim", "history", "logs", "log"})
TRACKERS: Final = re.compile(r"(config|cfg|params|param|hparams|metrics|summary|user_attrs|tags)[./_]", re.IGNORECASE)


def section(name: str) -> str:
    """``config`` for a name under what was set before the run, ``result`` under what came of it, "" where neither."""
    if found := TRACKERS.match(name.strip()):
        return "result" if found[1].lower() in _RESULT else "config"
    wrapper = re.split(r"[./:|]", name.strip())[0].lower()
    if wrapper == normal(name):
        return ""
    if wrapper in _RESULT:  # levanter logs the current rate as optim/learning_rate
        return "result" if wrapper != "optim" or "/" in name else "config"
    return "config" if wrapper in _CONFIG else ""


def is_logged_step(name: str) -> bool:
    """Whether a column is W&B's count of what was logged, which need not be steps of the optimizer."""
    return re.split(r"[./:|]", name.strip())[-1] == "_step"


def is_training_loss(name: str) -> bool:
    """Whether the name says that the loss is that of training data."""
    return not {"train", "training"}.isdisjoint(normal(name).split("_"))


def is_smoothed_loss(name: str) -> bool:
    """Whether the column is a loss averaged over the last steps; an average over ranks or data sets is none."""
    words = set(normal(name).split("_"))
    if "loss" not in words or not _OVER_WHAT.isdisjoint(words):
        return False
    return (
        not {"smooth", "smoothed", "ema", "avg", "running"}.isdisjoint(words) or _LAST.search(normal(name)) is not None
    )


_OVER_WHAT: Final = frozenset({"global", "rank", "ranks", "dp", "macro", "micro", "tasks", "domains", "datasets"})
_LAST: Final = re.compile(r"last_?[0-9]+|(mean|avg)_last|last_mean")

_OWNERS: Final = {form: name for name, forms in NAMES.items() for form in forms}
# Words that people write in several ways, and one of them for all.
_WAYS: Final = {
    **dict.fromkeys(("tok", "toks", "token"), "tokens"),
    **dict.fromkeys(("param", "parameter", "parameters"), "params"),
    **dict.fromkeys(("emb", "embed", "embeddings"), "embedding"),
    **dict.fromkeys(("nonemb", "nonembed", "nonembedding", "nonembeddings"), "non_embedding"),
    **dict.fromkeys(("num", "number", "nb"), "n"),
    "activated": "active",
    "batchsize": "batch_size",
    "learningrate": "learning_rate",
    "tot": "total",
    "wt": "weight",
}


@lru_cache(maxsize=4096)
def _one_way(form: str) -> str:
    """A name in its one way: `num_nonemb_param` and `n_params_no_embed` name non-embedding parameters."""
    if "_" not in form:
        return form
    joined = "_".join(_WAYS.get(word, word) for word in form.split("_"))
    joined = joined.replace("no_embedding", "non_embedding").replace("n_of_", "n_")
    return joined.replace("bs_tokens", "batch_size_tokens")


_WRITTEN: Final = {
    name: {_one_way(form): at for at, form in reversed([*enumerate(forms)])} for name, forms in NAMES.items()
}
# What has to stand in a name beside words that say nothing more, for a field; the first that fits.
_FILLERS: Final = frozenset(
    {"n", "of", "the", "in", "on", "for", "value", "count", "total", "train", "training", "run", "all"}
)
_OF_OPTIMIZER: Final = frozenset(
    {"optimizer", "optim", "opt", "adam", "adamw", "w", "lambda", "coef", "coefficient", "rate"}
)
_OF_RATE: Final = frozenset({"optimizer", "optim", "opt", "adam", "adamw", "peak", "max", "maximum"})
_A_RATE: Final = "(lr|wd|learning_rate|weight_decay)"
_COUNTS: Final = re.compile(f"(n|count)_(of_)?{_A_RATE}|{_A_RATE}_count")  # how many were tried
_BY_WORDS: Final[tuple[tuple[str, frozenset[str], frozenset[str]], ...]] = (
    ("params", frozenset({"params"}), frozenset({"model", "size", "trainable"})),
    ("params", frozenset({"params", "non", "embedding"}), frozenset({"model"})),
    ("tokens", frozenset({"tokens"}), frozenset({"seen", "processed", "consumed", "trained", "set", "d"})),
    ("batch_tokens", frozenset({"tokens", "batch"}), frozenset({"per", "size", "global", "effective"})),
    ("batch_tokens", frozenset({"tokens", "step"}), frozenset({"per", "global", "optimizer", "update"})),
    ("lr", frozenset({"lr"}), _OF_RATE),
    ("lr", frozenset({"learning", "rate"}), _OF_RATE),
    ("weight_decay", frozenset({"wd"}), _OF_OPTIMIZER),
    ("weight_decay", frozenset({"weight", "decay"}), _OF_OPTIMIZER),
    ("weight_decay", frozenset({"w", "decay"}), _OF_OPTIMIZER),
    ("steps", frozenset({"steps"}), frozenset({"max"})),
)


@lru_cache(maxsize=4096)
def _by_words(form: str) -> str:
    """The field whose words a name has, in any order and beside words that say nothing more; "" for none."""
    if _COUNTS.fullmatch(_one_way(form)):
        return ""
    words = {*_one_way(form).split("_")}
    if "embedding" in words and (words & {"excl", "excluding", "without", "wo"} or {"w", "o"} <= words):
        words = words - {"excl", "excluding", "without", "wo", "w", "o"} | {"non"}
    for name, needed, more in _BY_WORDS:
        if needed <= words and words - needed <= more | _FILLERS:
            return name
    return ""


_TAIL_FIELDS: Final = frozenset(NAMES) - {
    "batch_unstated",
    "batch_sequences",
    "run_id",
    "run_name",
    "status",
    "completed",
}
_INVERSE: Final = re.compile(r"\s*1\s*/")
_OF_A_RUN: Final = frozenset({"lr", "params", "tokens", "weight_decay"})  # over one another they are another quantity
# Of these, what is last in a path is not that of the run: val/tokens, warmup.steps, head.params.
_OTHERS: Final = frozenset({"val", "valid", "validation", "eval", "test", "warmup", "head", "embedding", "teacher"})
_WHOLE: Final = re.compile(r"(^|_)(global|total|effective|all|full|gbs)(_|$)")
_PLANNED_LAST: Final = 1000  # behind every name that says nothing of a plan


def says_whole(name: str) -> bool:
    """Whether a name says that a batch is that of all devices and all accumulation steps."""
    return bool(_WHOLE.search(normal(name)))


def is_wrapper(column: str) -> bool:
    """Whether a name is one around names: of all settings, or of all results."""
    return normal(column) in _CONFIG | _RESULT


@lru_cache(maxsize=65_536)  # asked of each column for each field, by several readers
def rank_of(bare: str, name: str) -> tuple[int, int] | None:
    """Place of a name in the list of a field, and how literally it stands there; None where it does not."""
    if name in _OF_A_RUN and _INVERSE.match(bare):
        return None
    parts = re.split(r"[./:|]", bare.strip())
    over = [_OWNERS.get(normal(part.split("(")[0])) for part in bare.split("/")]
    if len(over) == 2 and None not in over and {*over} <= _OF_A_RUN and not is_wrapper(bare.split("/")[0]):
        return None
    if len(parts) > 1 and name in _OF_A_RUN | {"steps"} and not _OTHERS.isdisjoint(map(normal, parts[:-1])):
        return None
    forms = [*spellings(bare)]
    forms[-1:-1] = [normal("_".join(parts[at:])) for at in range(1, len(parts) - 1)]
    tracked = normal(TRACKERS.sub("", bare.strip(), count=1))  # `params.batch_size` is no last part of a path
    for literal, form in enumerate(forms):
        last_part_only = literal == len(forms) - 1 and literal > 0
        if last_part_only and name not in _TAIL_FIELDS and form != tracked and not says_whole(form):
            continue
        if form in NAMES[name]:
            return NAMES[name].index(form), literal
        if form not in _OWNERS and (place := _WRITTEN[name].get(_one_way(form))) is not None:
            return place, literal
        if form not in _OWNERS and (owner := _by_words(form)):
            return (len(NAMES[name]), literal) if owner == name else None
        if form in _OWNERS:  # training.batch.tokens is the batch, whatever its last part
            return None
        words = form.split("_")
        if name in ("params", "tokens", "steps") and not PLANNED.isdisjoint(words):
            rest = "_".join(word for word in words if word not in PLANNED)
            if rest in NAMES[name]:
                return _PLANNED_LAST + NAMES[name].index(rest), literal
    return None
