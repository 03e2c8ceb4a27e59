"""What is said before a launch: horizons that whole steps cut in two, too little text to train or to evaluate on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lawfit.launch import grid
from lawfit.launch.caveats import caveats, repeated_text, split_horizons, too_much_evaluation
from lawfit.launch.folder import Task
from lawfit.launch.plan import Corpus
from tests.launch.conftest import GRID

CORPUS = Corpus(folder="corpus", hash="c", vocab=64, train_tokens=10_000, validation_tokens=801)


def tasks(*tokens: int, unique: int | None = None, evaluated: int = 100) -> list[Task]:
    """Packs of one size, of one run each on so many tokens (16 a step)."""
    (pack, *_) = grid.packs(GRID)
    run = replace(pack.runs[0], unique_tokens=unique)
    made = []
    for number in tokens:
        one = replace(
            pack, batch_sequences=2, eval_sequences=evaluated, runs=(replace(run, steps=number // 16, warmup_steps=0),)
        )
        made.append(Task(pack=one, ids=(f"r{number}",)))
    return made


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ((1600, 1616), ""),  # 1.01: one scale
        ((1600, 1632), "runs of 1.6k and of 1.63k tokens"),  # 1.02
        ((1600, 1744), "runs of 1.6k and of 1.74k tokens"),  # 1.09
        ((1600, 1760), ""),  # 1.10: two horizons were meant
        ((800, 1600, 1680), "runs of 1.6k and of 1.68k tokens"),
        ((1600, 1680, 320, 336), "runs of 320 and of 336 tokens"),
    ],
)
def test_horizons_that_are_nearly_one(tokens: tuple[int, ...], said: str) -> None:
    found = split_horizons(tasks(*tokens))
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_horizons_of_other_models_are_not_compared() -> None:
    one, other = tasks(1600, 1680)
    assert (
        split_horizons([one, replace(other, pack=replace(other.pack, model=replace(other.pack.model, layers=7)))]) == ""
    )


def test_evaluation_takes_no_more_sequences_than_there_are() -> None:
    """800 tokens and the first to foretell from: 100 sequences of 8."""
    assert too_much_evaluation(CORPUS, tasks(1600)) == ""
    assert too_much_evaluation(CORPUS, tasks(1600, 3200, evaluated=101)).startswith("2 of 2 packs cannot be trained: ")
    assert too_much_evaluation(replace(CORPUS, validation_tokens=800), tasks(1600))


def test_text_that_is_read_again_is_said_unless_it_was_asked_for() -> None:
    assert repeated_text(CORPUS, tasks(1600, 9984)) == ""
    assert "the longest run reads the 10k training tokens 2.4 times over" in repeated_text(CORPUS, tasks(1600, 24000))
    assert repeated_text(CORPUS, tasks(24000, unique=5000)) == ""
    assert len(caveats(CORPUS, tasks(24000, 24960, evaluated=101))) == 3
