"""How a run is set up: whole passes of all devices, what all runs have in common, and a refusal that says what fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lawfit
from lawfit import configs, pipeline
from lawfit.advise.training import in_common, that_fits
from lawfit.ask import Misasked, SetUp, Target
from lawfit.cli.main import ExitCode, run
from lawfit.documents import Training
from lawfit.errors import Unanswerable
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.findings import code_of
from lawfit.records import Run
from lawfit.settings import Settings
from lawfit.simulate import write_csv
from lawfit.storage import Store
from lawfit_api.app import create_app
from lawfit_api.schemas import CONFIG
from tests.client import TestClient
from tests.estimate.simulated import sweep

TARGET = Target(params=4e8, tokens=1.2e10)
ALL_RUNS = {"schedule": "cosine to 10 %", "seq_len": 1024, "beta1": 0.9, "beta2": 0.95, "warmup_fraction": 0.02}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Nine scales whose runs say their schedule, sequence length, betas, warmup and weight decay."""
    path = tmp_path_factory.mktemp("training")
    write_csv(sweep().runs, path / "plain.csv")
    pd.read_csv(path / "plain.csv").assign(weight_decay=0.1, **ALL_RUNS).to_csv(path / "sweep.csv", index=False)
    with pipeline.open_store(str(path / "one.db"), create=True) as store:
        pipeline.ingest(store, path / "sweep.csv")
        pipeline.refit(store, options=FitOptions(backtest=False))
    return str(path / "one.db")


@pytest.fixture
def made(url: str) -> Any:
    with pipeline.open_store(url) as store:
        yield store


def set_up(store: Store, target: Target = TARGET, **asked: Any) -> Training:
    return pipeline.set_up(store, None, target, SetUp(**asked), keep=False)


class TestUnits:
    @pytest.mark.parametrize(("world_size", "per_device"), [(1, None), (8, None), (8, 4), (6, 5), (64, 2)])
    def test_passes_of_all_devices_are_the_batch(self, made: Store, world_size: int, per_device: int | None) -> None:
        found = set_up(made, world_size=world_size, per_device_batch=per_device)
        sequences = found["per_device_batch"] * found["accumulation"] * world_size
        assert sequences == found["sequences"]
        assert sequences * found["seq_len"] == found["batch_tokens"]
        assert found["steps"] == round(TARGET.tokens / found["batch_tokens"])
        if per_device is None:
            assert found["accumulation"] == 1
            assert "training.whole_share" in [code_of(each) for each in found["notes"]]
        else:
            assert found["per_device_batch"] == per_device

    def test_a_free_batch_is_held_to_what_fits_as_a_multiple_is(self, made: Store) -> None:
        found = set_up(made, world_size=8, per_device_batch=4)
        same = pipeline.recommend(made, None, replace(TARGET, batch_multiple=32), keep=False)
        assert found["batch_tokens"] == same["recommendation"]["batch_tokens"]["value"]
        assert found["lr"] == same["recommendation"]["lr"]
        assert found["prediction_id"] == same["id"]
        given = replace(TARGET, batch_tokens=2**18)
        assert that_fits(given, SetUp(world_size=8)) == given

    def test_a_batch_that_does_not_fit_is_refused_with_the_nearest_that_does(self, made: Store) -> None:
        given = replace(TARGET, batch_tokens=1024.0 * 500)
        with pytest.raises(
            ValueError, match=r"500 sequences of 1,024, which 4 sequences a device x 64 devices"
        ) as said:
            set_up(made, given, world_size=64, per_device_batch=4)
        nearest = {1024 * 256: "262,144", 1024 * 512: "524,288"}
        cost = {
            batch: pipeline.recommend(made, None, replace(TARGET, batch_tokens=batch), keep=False)["expected_regret"]
            for batch in nearest
        }
        best = min(nearest, key=lambda batch: cost[batch]["loss_fraction"])
        assert f"the nearest that fits is {nearest[best]} tokens" in str(said.value)
        assert f"{100 * cost[best]['loss_fraction']:.2f} % of the loss" in str(said.value)
        assert f"batch_tokens {best}" in str(said.value)
        assert set_up(made, replace(given, batch_tokens=best), world_size=64, per_device_batch=4)

    def test_a_batch_of_broken_sequences_is_refused(self, made: Store) -> None:
        with pytest.raises(ValueError, match=r"cannot share in whole passes; the nearest"):
            set_up(made, replace(TARGET, batch_tokens=300_000.0))

    def test_no_batch_of_a_short_run_fits(self, made: Store) -> None:
        short = Target(params=4e8, tokens=1e7, batch_tokens=1024.0 * 100)
        with pytest.raises(ValueError, match="nor any other that the run has tokens for"):
            set_up(made, short, world_size=9999, per_device_batch=2)

    @pytest.mark.parametrize("wrong", [{"world_size": 0}, {"per_device_batch": 0}, {"warmup": -1.0}])
    def test_what_cannot_be_is_named(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(Misasked, match=next(iter(wrong))):
            SetUp(**wrong)


class TestWhatRunsSay:
    def test_in_common_is_the_recipes(self, made: Store) -> None:
        found = set_up(made)
        assert (found["beta1"], found["beta2"], found["weight_decay"]) == (0.9, 0.95, 0.1)
        assert found["schedule"] == {"said": "cosine to 10 %", "shape": "cosine", "end": 0.1}
        assert found["warmup_steps"] == round(0.02 * found["steps"])
        assert (found["epsilon"], found["max_grad_norm"]) == (None, None)
        codes = [code_of(each) for each in found["notes"]]
        assert {"training.warmup_share", "training.held_weight_decay"} <= set(codes)

    @pytest.mark.parametrize(("warmup", "steps"), [(0.0, 0), (500.0, 500), (0.1, None)])
    def test_a_warmup_may_be_asked_for(self, made: Store, warmup: float, steps: int | None) -> None:
        found = set_up(made, warmup=warmup)
        assert found["warmup_steps"] == (round(0.1 * found["steps"]) if steps is None else steps)

    def test_what_differs_or_is_not_stated_by_all_is_not_in_common(self) -> None:
        one = sweep().runs[0]

        def with_extra(**extra: Any) -> Run:
            return replace(one, extra=extra)

        assert in_common([with_extra(beta2=0.95, eps="1e-8"), with_extra(adam_beta2=0.95, epsilon=1e-8)]) == {
            "beta2": 0.95,
            "epsilon": 1e-8,
        }
        assert in_common([with_extra(beta2=0.95), with_extra(beta2=0.99)]) == {}
        assert in_common([with_extra(beta2=0.95), with_extra()]) == {}
        assert in_common([with_extra(beta1="adam")]) == {}
        assert in_common([]) == {}
        decayed = replace(one, weight_decay=0.1)
        assert in_common([decayed, decayed]) == {"weight_decay": 0.1}
        independent = replace(decayed, extra={"weight_decay_kind": "independent"})
        assert in_common([independent]) == {}
        assert in_common([decayed, replace(one, excluded="odd")]) == {"weight_decay": 0.1}

    @pytest.mark.parametrize(
        ("said", "shape", "end"),
        [
            ("cosine", "cosine", None),
            ("Linear to 0", "linear", 0.0),
            ("cosine to 0.1", "cosine", 0.1),
            ("cosine:floor=0.1", "cosine", 0.1),
            ("constant", "constant", 1.0),
            ("wsd to 0", "wsd", 0.0),
            ("", None, None),
            ("cosine with restarts", None, None),
        ],
    )
    def test_schedules_are_known_by_their_names(self, said: str, shape: str | None, end: float | None) -> None:
        from lawfit.advise.training import _schedule

        notes: list[Any] = []
        assert _schedule(said, notes) == {"said": said, "shape": shape, "end": end}
        assert bool(notes) == (end is None)


class TestEverySurface:
    @pytest.mark.parametrize("program", [each.name for each in configs.PROGRAMS])
    def test_one_document(self, program: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["predict", "--params", "400M", "--tokens", "12B", "--as", program, "--world-size", "8"]
        words += ["--per-device-batch", "4", "--warmup", "0.01"]
        assert run(["--database", url, *words, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert CONFIG.validate_python(printed) == printed
        query = {"params": "400M", "tokens": "12B", "world_size": 8, "per_device_batch": "4", "warmup": 0.01}
        with TestClient(create_app(Settings(database_url=url))) as client:
            answer = client.get(f"/v1/configs/{program}", params=query)
        assert json.dumps(answer.json()) == json.dumps(printed)
        assert run(["--database", url, *words]) == 0
        assert capsys.readouterr().out == printed["text"]

    def test_the_notebook_writes_the_same(self, url: str) -> None:
        fitted = lawfit.fit(lawfit.observe(pd.read_csv(Path(url).parent / "sweep.csv"), recipe="sweep"), backtest=False)
        answer = lawfit.predict(fitted, params="400M", tokens="12B", batch_multiple=32)
        config = answer.as_config("torchtitan", world_size=8, per_device_batch="4")
        with pipeline.open_store(url) as store:
            training = set_up(store, world_size=8, per_device_batch=4)
        stored = configs.config_of(configs.named("torchtitan"), training)
        by_id = {"prediction_id": ""}
        assert {**config.document["training"], **by_id} == {**stored["training"], **by_id}
        assert str(config).splitlines()[1:] == stored["text"].splitlines()[1:]
        with pytest.raises(ValueError, match=r"the nearest that fits is .* expected to cost"):
            lawfit.predict(fitted, params="400M", tokens="12B", batch_tokens="500k").as_config("hf", world_size=8)
        alone = lawfit.Answer(document=answer.document)
        assert alone.as_config("hf").document["training"]["beta2"] is None  # no runs to look at
        with pytest.raises(ValueError, match="not one that the devices can share"):
            alone.as_config("hf", world_size=7)

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--as", "nemo"], "there are hf, torchtitan"),
            (["--world-size", "8"], "give --as PROGRAM"),
            (["--as", "hf", "--lr", "1e-3"], "neither --lr nor --report"),
            (["--as", "hf", "--batch-tokens", "512000", "--world-size", "64"], "--batch-tokens 524288"),
        ],
        ids=["program", "no program", "a cost", "a batch"],
    )
    def test_refusals(self, words: list[str], said: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        command = ["--database", url, "predict", "--params", "400M", "--tokens", "12B", *words]
        assert run(command) == ExitCode.USAGE
        assert said.replace("--batch", "batch") in capsys.readouterr().err.replace("--batch", "batch")

    def test_rest_refuses_as_well(self, url: str) -> None:
        with TestClient(create_app(Settings(database_url=url))) as client:
            query = {"params": 4e8, "tokens": 1.2e10}
            assert client.get("/v1/configs/nemo", params=query).status_code == 422
            answer = client.get("/v1/configs/hf", params={**query, "batch_tokens": 512000, "world_size": 64})
            assert answer.status_code == 422
            assert "the nearest that fits" in answer.json()["detail"]
            assert client.get("/v1/configs/hf", params={**query, "world_size": 0}).json()["errors"][0]["field"] == (
                "world_size"
            )


def test_without_a_sequence_length_there_are_no_sequences(tmp_path: Path) -> None:
    write_csv(sweep().runs, tmp_path / "sweep.csv")
    fitted = lawfit.fit(lawfit.observe(pd.read_csv(tmp_path / "sweep.csv")), backtest=False)
    answer = lawfit.predict(fitted, params=4e8, tokens=1.2e10)
    with pytest.raises(ValueError, match="seq_len is needed"):
        answer.as_config("hf")
    document = {**answer.document, "recommendation": {"lr": None, "batch_tokens": None}, "missing": {"lr": "no rates"}}
    with pytest.raises(Unanswerable, match="no rates"):
        lawfit.Answer(document=document).as_config("hf")  # type: ignore[arg-type]
