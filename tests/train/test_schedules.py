from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from lawfit.corpus import Corpus
from lawfit.laws import schedules
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.proxy.schedules import SCHEDULES, ends_on_the_way, multipliers, named

X = np.arange(100) / 100
WSD_S = "wsd_s:ends=0.25/0.5/1,cooldown=0.2"
LAWS = {
    "rex": lambda x: schedules.rex(x, floor=0.1),
    "rex:beta=0.9": lambda x: schedules.rex(x, beta=0.9, floor=0.1),
    "uba:phi=0.5": lambda x: schedules.uba(x, phi=0.5, floor=0.1),
    "power:capped=0.2,cooldown=0.1": lambda x: schedules.power(x, capped=0.2, cooldown=0.1, floor=0.1),
    WSD_S: lambda x: schedules.wsd_s(x, ends=(0.25, 0.5, 1), cooldown=0.2, floor=0.1),
}


@pytest.mark.parametrize("name", LAWS)
def test_a_schedule_with_its_numbers_in_its_name_is_the_law_of_that_name(name: str) -> None:
    inside = ~np.isin(X, (0.25, 0.5))  # there a step is the first one back at the peak
    np.testing.assert_allclose(multipliers(name, 100, floor=0.1)[inside], LAWS[name](X)[inside], atol=1e-9)
    ours = RunSettings(lr=0.4, steps=100, schedule=name, final_lr=0.04).rates()
    np.testing.assert_allclose(ours[inside], 0.4 * LAWS[name](X)[inside], atol=1e-9)


@pytest.mark.parametrize("name", ["rex", "uba:phi=0.5"])
def test_a_shape_runs_whole_after_its_warmup(name: str) -> None:
    f = multipliers(name, 100, warmup_steps=20, floor=0.1)
    np.testing.assert_allclose(f[:21], np.arange(1, 22) / 21)
    np.testing.assert_allclose(f[20:], LAWS[name](np.arange(80) / 80), atol=1e-12)


def test_power_counts_its_tokens_from_the_first_step() -> None:
    """The warmup rises to where the power law is by then, which may be past its cap (arXiv 2408.13359)."""
    f = multipliers("power:capped=0.1,cooldown=0.1", 100, warmup_steps=20)
    np.testing.assert_allclose(f[20:], schedules.power(X[20:], capped=0.1, cooldown=0.1), atol=1e-9)
    np.testing.assert_allclose(f[:20], f[20] * np.arange(1, 21) / 21)


def test_each_decay_of_wsd_s_ends_where_a_model_is_kept() -> None:
    f = multipliers(WSD_S, 200, warmup_steps=10, floor=0.1)
    assert ends_on_the_way(WSD_S, 200) == (50, 100)
    assert ends_on_the_way("wsd", 200) == ends_on_the_way("constant", 200) == ()
    for end in (50, 100, 200):
        assert f[end - 1] < 0.2  # one step before the floor
        assert (np.diff(f[round(0.8 * end) : end]) < 0).all()
    assert f[50] == f[100] == 1


def test_a_decay_within_the_warmup_is_found_without_looking_at_every_step(rng: np.random.Generator) -> None:
    said = {True: 0, False: 0}
    for _ in range(500):
        steps = int(rng.choice([3, 50, 333, 1000]))
        warmup, ends = int(rng.integers(steps)), [*np.unique(rng.integers(1, 1000, 3) / 1000).tolist(), 1]
        cooldown = float(rng.uniform(0.001, 0.3))
        begun = np.minimum(np.nextafter(np.arange(warmup + 1) / steps, 2), 1)
        try:
            begins = bool((schedules.wsd_s(begun, ends=ends, cooldown=cooldown, floor=0.1) < 1).any())
        except ValueError:  # decays that overlap
            continue
        said[begins] += 1
        text = f"wsd_s:ends={'/'.join(map(str, ends))},cooldown={cooldown!r}"
        with pytest.raises(ValueError, match="its first decay begins before") if begins else nullcontext():
            named(text, steps, warmup_steps=warmup, floor=0.1)
    assert min(said.values()) > 50


def test_wsd_s_is_trained_and_evaluated_at_each_end(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the trainer needs lawfit[train]")
    from lawfit.train.loop import train
    from lawfit.train.trainer import Trainer

    runs = tuple(
        RunSettings(lr=1e-2, steps=20, schedule=name, warmup_steps=2, final_fraction=0.1)
        for name in (WSD_S, "rex", "uba:phi=0.5", "power:capped=0.2,cooldown=0.1")
    )
    pack = Pack(name="p", model=model, batch_sequences=4, runs=runs, precision="fp32", eval_sequences=30, log_points=20)
    train(pack, corpus, tmp_path, trainer=Trainer(pack, torch.device("cpu"), compiled=False))
    for i, run in enumerate(runs):
        lines = [
            json.loads(line) for line in (tmp_path / f"{pack.run_id(i, 'made-up')}.jsonl").read_text().splitlines()
        ]
        trained = [line["lr"] for line in lines if line["event"] == "train"]
        np.testing.assert_allclose(trained, run.rates(), rtol=1e-6)
        assert [line["step"] for line in lines if line["event"] == "eval"] == ([5, 10] if i == 0 else [])
        assert lines[-1]["status"] == "finished"


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_to_the_peak_and_nothing_exceeds_it(name: str) -> None:
    f = multipliers(name, 100, warmup_steps=9)
    np.testing.assert_allclose(f[:10], np.arange(1, 11) / 10)
    assert f.max() == 1.0
    assert (f > 0).all()
    assert (np.diff(f[9:]) <= 0).all()


def test_linear() -> None:
    np.testing.assert_allclose(multipliers("linear", 4), [1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(multipliers("linear", 4, floor=0.2), [1, 0.8, 0.6, 0.4])


def test_cosine() -> None:
    f = multipliers("cosine", 8, floor=0.1)
    np.testing.assert_allclose(f, [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])


def test_wsd_cools_down_over_the_last_share_of_the_whole_run() -> None:
    f = multipliers("wsd", 100, warmup_steps=10, cooldown=0.2)
    assert (f[10:81] == 1).all()  # step 80 is where the fall begins
    np.testing.assert_allclose(f[80:], 1 - np.arange(20) / 20, atol=1e-12)


def test_constant() -> None:
    assert (multipliers("constant", 5) == 1).all()


def test_warmup_must_fit() -> None:
    with pytest.raises(ValueError, match="warmup of 5 steps does not fit into 5 steps"):
        multipliers("linear", 5, warmup_steps=5)


def test_rates_of_a_run() -> None:
    """To a fraction of the peak, or to a floor that is the same for any peak (settings.final_lr wins)."""
    run = RunSettings(lr=0.4, steps=8, schedule="cosine", final_fraction=0.5, warmup_steps=2)
    np.testing.assert_allclose(run.rates(), 0.4 * multipliers("cosine", 8, warmup_steps=2, floor=0.5))
    for lr in (0.4, 0.04):
        rates = RunSettings(lr=lr, steps=1000, schedule="cosine", final_lr=0.01, final_fraction=0.9).rates()
        assert rates[0] == lr
        assert rates[-1] == pytest.approx(0.01, rel=1e-3)  # one step before the floor
