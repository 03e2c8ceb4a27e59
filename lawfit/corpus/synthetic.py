"""A source of tokens whose entropy is known: Zipfian words, each of which depends on the two before it.

A mixture transition model (Raftery 1985, doi:10.1111/j.2517-6161.1985.tb01383.x): the next token is drawn from the word
frequencies, or by a table from the last token, or by another table from the last but one,

    P(y | a, b) = w0 f(y) + w1 K1(y | a) + w2 K2(y | b),        f(rank r) ~ 1 / r.

Each table keeps the frequencies: f K = f. It lays the words out twice, as intervals of length f in [0, 1) in two random
orders, and goes from a word to those whose intervals in the second layout its own meets in the first. So every token
has frequency f exactly; a frequent word has many successors, a rare one hardly any, and the tables have as many
entries to learn as two vocabularies, whose frequencies fall like Zipf's law: loss improves for as long as tokens come.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lawfit.corpus.files import CorpusSettingError, Manifest, content_hash, read_manifest, write_manifest
from lawfit.corpus.making import Progress, no_progress, same_or_refused, scratch

MIN_VOCAB, MAX_VOCAB = 8, 4096  # the entropy is a sum over pairs of tokens
WEIGHTS = (0.2, 0.5, 0.3)  # of frequencies, last token, last token but one
CHAIN_TOKENS = 16_384  # written one after another; longer ones when there would be too many
MAX_CHAINS = 1024
BLOCK_STEPS = 1024  # of every chain, drawn at a time
SETTLING_STEPS = 64  # before the first token; how the chain began is then forgotten to rounding, w2^64
VALIDATION_TOKENS = 2_500_000  # enough for a pack's 4096 sequences of 512
VERSION = 1  # of the tokens that a seed gives

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Words as intervals of [0, 1), each as long as its frequency, in some order."""

    frequencies: Floats
    order: Ints

    @cached_property
    def edges(self) -> Floats:
        edges = np.concatenate([[0.0], np.cumsum(self.frequencies[self.order])])
        edges[-1] = 1.0
        return edges

    @cached_property
    def starts(self) -> Floats:
        """First place of each token."""
        starts = np.empty_like(self.frequencies)
        starts[self.order] = self.edges[:-1]
        return starts

    def token_at(self, places: Floats) -> Ints:
        found = np.searchsorted(self.edges, places, side="right") - 1
        return self.order[np.clip(found, 0, len(self.order) - 1)]

    def place_of(self, tokens: Ints, chance: Floats) -> Floats:
        return self.starts[tokens] + self.frequencies[tokens] * chance


@dataclass(frozen=True)
class Table:
    """K of the module docstring, as its positive entries in the order of their places in [0, 1)."""

    source: Layout
    target: Layout

    @cached_property
    def entries(self) -> tuple[Ints, Ints, Floats]:
        """Rows a, columns y, and K(y | a)."""
        edges = np.union1d(self.source.edges, self.target.edges)
        middles = (edges[:-1] + edges[1:]) / 2
        rows, columns = self.source.token_at(middles), self.target.token_at(middles)
        return rows, columns, np.diff(edges) / self.source.frequencies[rows]

    def dense(self) -> Floats:
        size = len(self.source.frequencies)
        matrix = np.zeros((size, size))
        rows, columns, values = self.entries
        np.add.at(matrix, (rows, columns), values)
        return matrix

    def follow(self, tokens: Ints, chance: Floats) -> Ints:
        """A successor of each token."""
        return self.target.token_at(self.source.place_of(tokens, chance))


class Source:
    """The source of one vocabulary and one seed."""

    def __init__(self, vocab: int, seed: int) -> None:
        if not MIN_VOCAB <= vocab <= MAX_VOCAB:
            raise CorpusSettingError(
                f"a synthetic vocabulary of {vocab:,} is not on offer: {MIN_VOCAB} to {MAX_VOCAB:,}, "
                "because its entropy is summed over all pairs of tokens"
            )
        rng = np.random.default_rng([VERSION, vocab, seed])
        ranks = rng.permutation(vocab) + 1  # frequent tokens are spread over the vocabulary
        self.frequencies: Floats = 1 / ranks / np.sum(1 / ranks)
        layouts = [Layout(self.frequencies, rng.permutation(vocab)) for _ in range(5)]
        self.words = layouts[0]
        self.last, self.last_but_one = Table(*layouts[1:3]), Table(*layouts[3:5])

    @cached_property
    def pairs(self) -> Floats:
        """(V, V) probability of last token a and last but one b, in the long run.

        The fixed point of J'(y, a) = f(a) [w0 f(y) + w1 K1(y | a)] + w2 sum_b J(a, b) K2(y | b), reached geometrically.
        """
        f, (w0, w1, w2) = self.frequencies, WEIGHTS
        rows, columns, values = self.last_but_one.entries
        by_column = np.argsort(columns, kind="stable")
        rows, values = rows[by_column], values[by_column]
        begins = np.searchsorted(columns[by_column], np.arange(len(f)))  # every column has an entry
        known = f[:, None] * (w0 * f + w1 * self.last.dense())  # (a, y)
        pairs = np.outer(f, f)
        while True:
            after = (known + w2 * np.add.reduceat(pairs[:, rows] * values, begins, axis=1)).T
            if np.abs(after - pairs).sum() < 1e-13:
                return np.ascontiguousarray(after)
            pairs = after

    @cached_property
    def entropy(self) -> float:
        """Mean of -log P(y | a, b), nats per token, exact to rounding.

        Summed over a, b and y with -p log p = g(p): where only the frequencies speak, g(w0 f(y)); entries of a table
        change it, whatever the other token; where entries of both meet in one y, the sum is corrected pair by pair.
        """
        f, (w0, w1, w2) = self.frequencies, WEIGHTS
        total = float(_g(w0 * f).sum())
        for table, weight in ((self.last, w1), (self.last_but_one, w2)):
            rows, columns, values = table.entries
            base = w0 * f[columns]
            total += float(np.sum(f[rows] * (_g(base + weight * values) - _g(base))))
        first, second = self._dense
        for y in range(len(f)):
            a, b = np.flatnonzero(first[:, y]), np.flatnonzero(second[:, y])
            base, one, two = w0 * f[y], w1 * first[a, y][:, None], w2 * second[b, y]
            both = _g(base + one + two) - _g(base + one) - _g(base + two) + _g(base)
            total += float(np.sum(self.pairs[np.ix_(a, b)] * both))
        return total

    def surprise(self, tokens: Ints) -> Floats:
        """-log P of every token of a chain from its third on, nats."""
        y, a, b = tokens[2:], tokens[1:-1], tokens[:-2]
        w0, w1, w2 = WEIGHTS
        first, second = self._dense
        return np.asarray(-np.log(w0 * self.frequencies[y] + w1 * first[a, y] + w2 * second[b, y]))

    @cached_property
    def _dense(self) -> tuple[Floats, Floats]:
        return self.last.dense(), self.last_but_one.dense()

    def blocks(self, length: int, chains: int, rng: np.random.Generator) -> Iterator[Ints]:
        """(chains, up to BLOCK_STEPS) tokens at a time, `length` of each chain in all; none begins at its beginning."""
        a, b = self.words.token_at(rng.random((2, chains)))
        w0, w1, _ = WEIGHTS
        done = -SETTLING_STEPS
        while done < length:
            steps = min(BLOCK_STEPS, length - done) if done >= 0 else SETTLING_STEPS
            block = np.empty((chains, steps), dtype=np.int64)
            for step, (which, chance) in enumerate(rng.random((steps, 2, chains))):
                by_table = np.where(which < w0 + w1, self.last.follow(a, chance), self.last_but_one.follow(b, chance))
                a, b = np.where(which < w0, self.words.token_at(chance), by_table), a
                block[:, step] = a
            if done >= 0:
                yield block
            done += steps


def build_synthetic(
    folder: Path,
    *,
    tokens: int,
    validation_tokens: int = VALIDATION_TOKENS,
    vocab: int = 512,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Manifest:
    """Make a corpus from a source; one that is there already with the same settings is left as it is.

    No model can be expected to fall below `entropy`; on the very validation tokens of this corpus the source itself
    has the loss `validation_entropy`. A trained model stays above by what it cannot see: its windows begin without
    the two tokens before them.

    Parameters
    ----------
    tokens, validation_tokens : int
        Of the training and of the validation part.

    Raises
    ------
    CorpusSettingError
        A vocabulary out of range.
    CorpusError
        A folder that holds something else.
    """
    source = Source(vocab, seed)
    counts = {"validation": validation_tokens, "train": tokens}
    settings = json.dumps([VERSION, vocab, seed, counts])
    inputs_hash = hashlib.sha256(settings.encode()).hexdigest()[:16]
    with scratch(folder) as part:
        if (existing := read_manifest(folder)) is not None:
            return same_or_refused(folder, existing, inputs_hash)
        documents, validation_entropy = _write_parts(part, source, counts, (VERSION, vocab, seed), progress)
        progress("summing the entropy", 1.0)
        manifest = Manifest(
            hash=content_hash(part, vocab),
            vocab=vocab,
            documents=documents,
            duplicates=0,
            skipped=0,
            train_tokens=tokens,
            validation_tokens=validation_tokens,
            validation_bytes=None,
            sources=(f"synthetic, vocabulary {vocab}, seed {seed}",),
            inputs_hash=inputs_hash,
            entropy=source.entropy,
            validation_entropy=validation_entropy,
        )
        write_manifest(part, manifest)
    return manifest


def _write_parts(
    folder: Path, source: Source, counts: Mapping[str, int], seeds: Sequence[int], progress: Progress
) -> tuple[int, float]:
    """Both parts as files; the number of chains, and the mean surprise of the source at its validation tokens."""
    surprises, documents, done = 0.0, 0, 0
    for i, (name, count) in enumerate(counts.items()):
        of = np.random.default_rng([*seeds, i])
        share = partial(_report, progress, done, sum(counts.values()))
        drawn = _draw(folder / f"{name}.bin", source, count, of, share)
        if name == "validation":
            surprises = float(np.mean([source.surprise(chain.astype(np.int64)).mean() for chain in drawn]))
        documents += len(drawn)
        done += count
        del drawn
        os.truncate(folder / f"{name}.bin", 2 * count)
    return documents, surprises


def _report(progress: Progress, before: int, whole: int, tokens: int) -> None:
    progress("drawing tokens", (before + tokens) / whole)


def _draw(
    file: Path, source: Source, count: int, rng: np.random.Generator, drawn: Callable[[int], None]
) -> np.memmap[Any, np.dtype[np.uint16]]:
    """Chains of tokens, as many as make the count and a little more, written to a file."""
    chains = min(max(1, count // CHAIN_TOKENS), MAX_CHAINS)
    length = -(-count // chains)
    written = np.memmap(file, dtype=np.uint16, mode="w+", shape=(chains, length))
    column = 0
    for block in source.blocks(length, chains, rng):
        written[:, column : column + block.shape[1]] = block
        column += block.shape[1]
        drawn(column * chains)
    written.flush()
    return written


def _g(p: Floats) -> Floats:
    return np.asarray(-p * np.log(p))
