"""Choices of an ingest's questions in words, for a page: nothing of a flag, and a brace for what is to be filled in."""

from __future__ import annotations

import pytest

from lawfit.words.choices import choice_words


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ([("batch_unit", "tokens")], "the batch counts tokens"),
        ([("batch_unit", "sequences"), ("seq_len", "T")], "the batch counts sequences, of {T} tokens each"),
        ([("batch_unit", "sequences"), ("seq_len", "2048")], "the batch counts sequences, of 2048 tokens each"),
        ([("map", "bs=batch_sequences")], "'bs' is the batch in sequences"),
        ([("map", "COLUMN=loss")], "{COLUMN} is the loss"),
        ([("map", "COLUMN=FIELD")], "{COLUMN} is {FIELD}"),
        ([("map", "a=lr"), ("unit", "a=RATE")], "'a' is the learning rate, 'a' is to be multiplied by {RATE}"),
        ([("unit", "size=M")], "'size' counts millions"),
        ([("unit", "lr (e-4)=log10")], "'lr (e-4)' is a power of ten"),
        ([("set", "lr=RATE")], "the learning rate is {RATE} in every run"),
        ([("set", "FIELD=VALUE")], "{FIELD} is {VALUE} in every run"),
        ([("metric", "bits_per_byte")], "the loss is in bits per byte"),
        ([("kind", "losses")], "a row is the loss of a size, without a learning rate"),
        ([("split", "beta2")], "each level of 'beta2' is a recipe of its own"),
        ([("pool", "host")], "runs that differ in 'host' are seeds of each other"),
        ([("only", "split=val")], "only the rows where split=val"),
    ],
    ids=str,
)
def test_choices_are_phrases(choice: list[tuple[str, str]], words: str) -> None:
    assert choice_words([{"option": option, "value": value} for option, value in choice]) == words
