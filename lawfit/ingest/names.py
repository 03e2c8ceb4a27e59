"""The names under which trainers and people write each field. To teach lawfit a name: add it to its list.

Names are compared in lower case with every run of other characters as one underscore: `optimizer.lr`,
`Optimizer LR` and `optimizerLr` are `optimizer_lr`. Within a list, earlier names win.
"""

from __future__ import annotations

from typing import Final

from lawfit.factors import normal

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "lr": (
        *("peak_lr", "peak_learning_rate", "lr_peak", "learning_rate_peak", "max_lr", "max_learning_rate", "lr_max"),
        *("learning_rate", "lr", "optimizer_lr", "optimizer_learning_rate", "optim_lr", "optim_learning_rate"),
        *("optimizer_peak_lr", "base_lr", "base_learning_rate", "eta"),
    ),
    "params": (
        *("params", "n_params", "num_params", "parameters", "n_parameters", "num_parameters", "number_of_parameters"),
        *("model_params", "model_parameters", "param_count", "parameter_count", "params_count", "n"),
        *("non_embedding_params", "non_embedding_parameters", "params_non_embedding", "n_params_non_embedding"),
        *("n_non_embedding", "nonembedding_params", "num_non_embedding_params", "n_params_no_embed"),
        *("active_params", "params_active", "n_params_active", "n_active_params", "num_active_params"),
        *("total_params", "params_total", "total_parameters", "n_params_total", "num_total_params"),
    ),
    "tokens": (
        *("tokens", "n_tokens", "num_tokens", "train_tokens", "training_tokens", "total_tokens", "tokens_total"),
        *("n_train_tokens", "num_train_tokens", "token_budget", "tokens_budget", "data_tokens", "dataset_tokens"),
        *(
            "train_max_tokens",
            "max_tokens",
            "d",
            "tokens_seen",
            "seen_tokens",
            "num_input_tokens_seen",
            "tokens_trained",
        ),
    ),
    "batch_tokens": (
        *("batch_tokens", "batch_size_tokens", "batch_size_in_tokens", "tokens_per_batch", "tokens_per_step"),
        *("global_batch_tokens", "global_batch_size_tokens", "total_batch_tokens", "total_batch_size_tokens"),
        *("train_batch_tokens", "num_tokens_per_train_step", "training_num_tokens_per_train_step", "batch_n_tokens"),
    ),
    "batch_sequences": (
        *("batch_sequences", "batch_size_sequences", "batch_size_in_sequences", "sequences_per_batch"),
        *("sequences_per_step", "global_batch_sequences", "global_batch_size_sequences", "batch_seqs"),
        *("batch_size_seqs", "global_train_batch_size", "trainer_train_batch_size"),
    ),
    # Both units, and per-device sizes, go under these names: they are never guessed.
    "batch_unstated": (
        *("batch_size", "global_batch_size", "total_batch_size", "train_batch_size", "effective_batch_size"),
        *("training_global_batch_size", "train_global_batch_size", "data_loader_global_batch_size"),
        *("batchsize", "batch", "global_bs", "bs", "b"),
    ),
    "seq_len": (
        *("seq_len", "seq_length", "sequence_length", "seqlen", "context_length", "context_len", "ctx_len", "ctx"),
        *("context", "context_size", "n_ctx", "block_size", "max_seq_len", "max_seq_length", "max_sequence_length"),
        *("model_seq_len", "model_max_sequence_length", "training_seq_len", "training_max_context_length"),
        *("train_max_seq_length", "dataset_sequence_length", "max_context_length", "max_length"),
    ),
    "steps": (
        *("steps", "n_steps", "num_steps", "train_steps", "training_steps", "num_train_steps", "num_training_steps"),
        *("total_steps", "trainer_num_train_steps", "max_steps", "max_iters", "train_iters", "iterations", "n_iters"),
    ),
    "weight_decay": ("weight_decay", "wd", "optimizer_weight_decay", "optim_weight_decay", "optimizer_wd"),
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
    "status": ("status", "state", "run_status", "run_state", "job_state"),
    "completed": ("completed", "finished", "is_complete", "is_finished", "complete"),
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

# Losses, best first, behind any smoothed one (see columns.py): at the end, on validation data, on training data.
LOSSES: Final = (
    *("final_loss", "loss_final", "final_val_loss", "final_valid_loss", "final_validation_loss", "final_eval_loss"),
    *("val_loss", "valid_loss", "validation_loss", "eval_loss", "val_loss_final", "eval_loss_final", "test_loss"),
    *("loss", "lm_loss", "nll", "cross_entropy", "final_train_loss", "final_training_loss", "train_loss"),
    *("training_loss", "train_loss_final"),
)

# One device's share of the batch: multiplying it up would be a guess about the machines.
PER_DEVICE: Final = frozenset(
    {
        *("per_device_train_batch_size", "per_device_batch_size", "micro_batch_size", "device_batch_size"),
        *("local_batch_size", "training_local_batch_size", "device_train_microbatch_size", "micro_batch"),
    }
)

# Words of results of which higher is better, unless the name also has one of those below.
_SCORES: Final = frozenset(
    {
        *("accuracy", "accuracies", "acc", "acc1", "acc5", "top1", "top5", "score", "scores", "f1", "auc", "auroc"),
        *("auprc", "recall", "bleu", "rouge", "meteor", "mcc", "r2", "reward", "return", "winrate", "psnr", "miou"),
    }
)
_LOWER_IS_BETTER: Final = frozenset({"loss", "error", "err", "nll", "entropy", "perplexity", "ppl", "bpb"})


def is_smoothed_loss(name: str) -> bool:
    """Whether the column is a loss averaged over the last steps."""
    words = normal(name).split("_")
    return "loss" in words and not {"smooth", "smoothed", "ema", "avg"}.isdisjoint(words)


def is_score(name: str) -> bool:
    """Whether the column is a score, of which higher is better."""
    words = set(normal(name).split("_"))
    return not words.isdisjoint(_SCORES) and words.isdisjoint(_LOWER_IS_BETTER)


def is_training_loss(name: str) -> bool:
    """Whether the name says that the loss is that of training data."""
    return not {"train", "training"}.isdisjoint(normal(name).split("_"))
