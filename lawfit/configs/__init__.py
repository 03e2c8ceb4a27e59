"""Settings of training programs, ready to be pasted: a module for each program, which writes the set-up of a run.

To add one: a module with a `Program`, and a line in `PROGRAMS`. Command line, REST, MCP and notebook have it then, and
`tests/configs` asks it what it asks of all.
"""

from __future__ import annotations

from typing import Final

from lawfit.configs.hugging_face import HUGGING_FACE
from lawfit.configs.levanter import LEVANTER
from lawfit.configs.litgpt import LITGPT
from lawfit.configs.megatron import MEGATRON
from lawfit.configs.nanogpt import NANOGPT
from lawfit.configs.program import Program
from lawfit.configs.torchtitan import TORCHTITAN
from lawfit.documents import Config, Training
from lawfit.words import told

__all__ = ["PROGRAMS", "Program", "config_of", "named"]

PROGRAMS: Final[tuple[Program, ...]] = (HUGGING_FACE, TORCHTITAN, MEGATRON, NANOGPT, LEVANTER, LITGPT)


def named(name: str) -> Program:
    """The program of that name.

    Raises
    ------
    ValueError
        There is none; with those that there are.
    """
    found = next((program for program in PROGRAMS if program.name == name), None)
    if found is None:
        raise ValueError(f"no settings are written for '{name}'; there are {', '.join(p.name for p in PROGRAMS)}")
    return found


def config_of(program: Program, training: Training) -> Config:
    """The set-up of a run as one program takes it."""
    training = told(training)
    return {
        "program": program.name,
        "title": program.title,
        "language": program.language,
        "text": "\n".join(program.lines(training)) + "\n",
        "training": training,
    }
