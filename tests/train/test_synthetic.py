from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lawfit.corpus import CorpusError, open_corpus
from lawfit.corpus.files import content_hash
from lawfit.corpus.synthetic import WEIGHTS, Ints, Source, build_synthetic
from lawfit.proxy.pack import Model, Pack, RunSettings


def sample(source: Source, length: int, chains: int, rng: np.random.Generator) -> Ints:
    return np.concatenate(list(source.blocks(length, chains, rng)), axis=1)


@pytest.mark.parametrize("table", ["last", "last_but_one"])
def test_tables_keep_the_frequencies(table: str) -> None:
    source = Source(50, seed=1)
    matrix = getattr(source, table).dense()
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(source.frequencies @ matrix, source.frequencies, rtol=1e-12)
    assert np.count_nonzero(matrix) == 2 * 50 - 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_entropy_is_the_sum_over_all_triples(seed: int) -> None:
    """Written out: every triple, and pairs by iterating the chain itself."""
    vocab, (w0, w1, w2) = 12, WEIGHTS
    source = Source(vocab, seed)
    first, second = source.last.dense(), source.last_but_one.dense()
    chances = w0 * source.frequencies + w1 * first[:, None, :] + w2 * second[None, :, :]  # (a, b, y)
    pairs = np.full((vocab, vocab), vocab**-2.0)
    for _ in range(200):
        pairs = np.einsum("ab,aby->ya", pairs, chances)
    np.testing.assert_allclose(source.pairs, pairs, atol=1e-13)  # the iteration stops at 1e-13
    assert source.entropy == pytest.approx(-np.sum(pairs[..., None] * chances * np.log(chances)), rel=1e-11)


def test_entropy_is_that_of_the_tokens(rng: np.random.Generator) -> None:
    """From counts of triples alone, without the formula; and from the probabilities of the tokens."""
    vocab, length, chains = 8, 1000, 2000
    source = Source(vocab, seed=4)
    tokens = sample(source, length, chains, rng)
    counts = np.zeros((vocab,) * 3)
    np.add.at(counts, (tokens[:, :-2].ravel(), tokens[:, 1:-1].ravel(), tokens[:, 2:].ravel()), 1)
    given = counts / counts.sum(2, keepdims=True)
    surprises = np.array([source.surprise(chain).mean() for chain in tokens])
    error = surprises.std() / np.sqrt(chains)
    assert error < 2e-3
    assert surprises.mean() == pytest.approx(source.entropy, abs=5 * error)
    bias = vocab**3 / (2 * counts.sum())  # of the plug-in estimate, downwards (Miller 1955)
    plug_in = -np.sum(counts * np.log(given, where=counts > 0, out=np.zeros_like(given))) / counts.sum()
    assert plug_in + bias == pytest.approx(source.entropy, abs=5 * error)


def test_frequencies_follow_zipf(rng: np.random.Generator) -> None:
    counts = np.sort(np.bincount(sample(Source(512, seed=2), 2000, 1000, rng).ravel(), minlength=512))[::-1]
    slope, _ = np.polyfit(np.log(np.arange(1, 513)), np.log(counts), 1)
    assert slope == pytest.approx(-1, abs=0.01)  # 2M tokens: the rarest is seen some 570 times
    assert counts[0] / counts.sum() == pytest.approx(1 / np.sum(1 / np.arange(1, 513)), rel=0.02)


def test_each_token_depends_on_the_two_before_it() -> None:
    source = Source(64, seed=0)
    unigram = -np.sum(source.frequencies * np.log(source.frequencies))
    of_pairs = -np.sum(source.pairs * np.log(source.pairs)) - unigram  # given the last token alone
    assert source.entropy < of_pairs - 0.1 < unigram - 0.6


def test_corpus_of_a_seed(tmp_path: Path) -> None:
    made = build_synthetic(tmp_path / "a", tokens=100_003, validation_tokens=20_001, vocab=64, seed=5)
    assert made.hash == "6723555c83ac7526"  # whoever names vocabulary, seed and length names these tokens
    corpus = open_corpus(tmp_path / "a")
    assert (len(corpus.train), len(corpus.validation)) == (100_003, 20_001)
    assert made.entropy == Source(64, 5).entropy
    # 20,000 tokens whose -log p spreads by about 1.5 nats
    assert made.validation_entropy == pytest.approx(made.entropy, abs=5 * 1.5 / np.sqrt(20_000))
    assert content_hash(tmp_path / "a", 64) == made.hash
    assert not np.array_equal(corpus.train[:1000], corpus.validation[:1000])
    again = build_synthetic(tmp_path / "a", tokens=100_003, validation_tokens=20_001, vocab=64, seed=5)
    assert again == made
    other = build_synthetic(tmp_path / "b", tokens=100_003, validation_tokens=20_001, vocab=64, seed=6)
    assert other.hash != made.hash
    with pytest.raises(CorpusError, match="holds another corpus already"):
        build_synthetic(tmp_path / "b", tokens=100_003, validation_tokens=20_001, vocab=64, seed=5)


@pytest.mark.parametrize("vocab", [7, 4097])
def test_vocabulary_out_of_range(tmp_path: Path, vocab: int) -> None:
    with pytest.raises(CorpusError, match=r"is not on offer: 8 to 4,096"):
        build_synthetic(tmp_path / "out", tokens=1000, vocab=vocab)


def test_a_model_comes_near_the_entropy_and_not_below(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the trainer needs lawfit[train]")
    from lawfit.train.loop import train
    from lawfit.train.trainer import Trainer

    manifest = build_synthetic(tmp_path / "corpus", tokens=400_000, validation_tokens=20_000, vocab=16, seed=3)
    pack = Pack(
        name="floor", model=Model(layers=2, width=32, heads=2, hidden=64, vocab=16, seq_len=32), batch_sequences=32,
        runs=(RunSettings(lr=1e-2, steps=300, warmup_steps=20),), precision="fp32", eval_sequences=624,
    )  # fmt: skip
    trainer = Trainer(pack, torch.device("cpu"), compiled=False)
    (outcome,) = train(pack, open_corpus(tmp_path / "corpus"), tmp_path / "logs", trainer=trainer)
    assert manifest.validation_entropy is not None
    frequencies = Source(16, 3).frequencies
    guessing = -np.sum(frequencies * np.log(frequencies))
    assert outcome.loss is not None
    # of 0.74 nats to be learnt; about 0.01 of them lie hidden before each window's beginning
    assert manifest.validation_entropy < outcome.loss < manifest.validation_entropy + 0.06 < guessing - 0.6
    end = json.loads((tmp_path / "logs" / f"{outcome.run_id}.jsonl").read_text().splitlines()[-1])
    assert end["bits_per_byte"] is None  # tokens without text
