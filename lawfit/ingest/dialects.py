"""How trainers print: the lines of nanoGPT, torchtitan, Megatron-LM and litgpt that hold numbers or settings.

To add one: an entry in `DIALECTS`. The names of groups are those of the metrics, the same for all; `step` is the step.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_NUMBER: Final = r"[-+]?(?:[0-9][0-9,]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?|(?i:nan|inf(?:inity)?))"


def _line(pattern: str) -> re.Pattern[str]:
    """A pattern in which `#` stands for a number."""
    return re.compile(pattern.replace("#", _NUMBER))


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The lines of one trainer."""

    name: str
    mark: re.Pattern[str]  # a line that only this trainer prints
    numbers: tuple[re.Pattern[str], ...]  # of steps; groups are metrics
    settings: tuple[re.Pattern[str], ...] = ()  # groups are settings
    assigned: re.Pattern[str] | None = None  # lines `key value` of settings, before the first step
    opens: re.Pattern[str] | None = None  # what begins a block of settings: JSON, or a Python dict
    finished: re.Pattern[str] | None = None
    sequences: str = ""  # the setting that is the batch of all devices in sequences


NANOGPT: Final = Dialect(
    name="nanoGPT",
    mark=_line(r"^(iter #: loss #, time #ms|step #: train loss #, val loss #|tokens per iteration will be: )"),
    numbers=(
        _line(r"^iter (?P<step>#): loss (?P<train_loss>#), time"),
        _line(r"^step (?P<step>#): train loss (?P<train_loss_at_evaluation>#), val loss (?P<val_loss>#)"),
    ),
    settings=(
        _line(r"^tokens per iteration will be: (?P<tokens_per_step>#)"),
        re.compile(r"^number of parameters: (?P<n_params>[0-9.]+[KMB]?)\s*$"),
    ),
    assigned=re.compile(r"^(?:Overriding: )?(?P<key>[A-Za-z_]\w*)\s*=\s*(?P<value>[^#]+?)\s*(?:#.*)?$"),
)
TORCHTITAN: Final = Dialect(
    name="torchtitan",
    mark=_line(r"(\bstep:\s*#\s+loss:\s*#\s|Trainer is initialized with local batch size|\[titan\])"),
    numbers=(
        _line(r"\bvalidate step:\s*(?P<step>#)\s+loss:\s*(?P<val_loss>#)"),
        _line(r"\bstep:\s*(?P<step>#)\s+loss:\s*(?P<train_loss>#)(?:\s+grad_norm:\s*(?P<grad_norm>#))?"),
    ),
    settings=(
        _line(
            r"Trainer is initialized with local batch size (?P<local_batch_size>#), global batch size "
            r"(?P<global_batch_sequences>#), gradient accumulation steps (?P<gradient_accumulation_steps>#), "
            r"sequence length (?P<seq_len>#), total steps (?P<steps>#) \(warmup (?P<warmup_steps>#)\)"
        ),
        _line(r"size: (?P<total_params>#) total parameters"),
    ),
    opens=re.compile(r"Running with (?:configs|args): (?=\{)"),
    finished=re.compile(r"Training completed"),
)
MEGATRON: Final = Dialect(
    name="Megatron-LM",
    mark=_line(r"(-{10,} arguments -{10,}|iteration\s+#/\s*#\s*\|.*\blm loss: )"),
    numbers=(
        _line(
            r"iteration\s+(?P<step>#)/\s*#\s*\|(?:.*?learning rate:\s*(?P<lr>#))?.*?\blm loss:\s*(?P<train_loss>#)"
            r"(?:.*?\bgrad norm:\s*(?P<grad_norm>#))?"
        ),
        _line(r"iteration\s+(?P<step>#)/\s*#\s*\|.*?learning rate:\s*(?P<lr>#)"),
        _line(r"validation loss at iteration (?P<step>#)\b.*?\blm loss value:\s*(?P<val_loss>#)"),
    ),
    assigned=re.compile(r"^\s{2}(?P<key>[a-z_]\w*) \.{2,} (?P<value>.+?)\s*$"),
    finished=re.compile(r"\[after training is done\]|\[exiting program at iteration"),
    sequences="global_batch_size",
)
LITGPT: Final = Dialect(
    name="litgpt",
    mark=_line(r"^Epoch # \| iter # step # \| loss train: #"),
    numbers=(
        _line(r"^Epoch # \| iter # step (?P<step>#) \| loss train: (?P<train_loss>#)"),
        _line(r"^iter #: val loss (?P<val_loss>#)"),
        _line(r"^Final evaluation \| val loss: (?P<val_loss>#)"),
    ),
    settings=(_line(r"^Total parameters: (?P<total_params>#)"),),
    opens=re.compile(r"^(?=\{')"),
    finished=re.compile(r"^(Final evaluation \||\| - Training Time)"),
    sequences="train.global_batch_size",
)
DIALECTS: Final = (MEGATRON, TORCHTITAN, LITGPT, NANOGPT)
