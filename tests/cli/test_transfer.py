"""`lawfit transfer`, from tables to the printed answer, the report and the REST document."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lawfit.settings import Settings
from lawfit_api.app import create_app
from tests.cli.conftest import Call
from tests.client import TestClient
from tests.estimate.transfer.test_lr import sweep


def write(path: Path, parametrization: str, slope: float, widths: tuple[float, ...] = (64, 128, 256, 512)) -> Path:
    """A table of learning-rate sweeps at several widths, with noise of 0.1 %."""
    runs = sweep(slope, widths=widths, noise=1e-3, rng=np.random.default_rng(5))
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            [
                *(
                    "run_id",
                    "n_params",
                    "width",
                    "layers",
                    "n_tokens",
                    "batch_size_tokens",
                    "learning_rate",
                    "final_loss",
                ),
                *("optimizer", "dataset", "parametrization"),
            ]
        )
        for run in runs:
            table.writerow(
                [
                    *(run.run_key, run.params, run.extra["width"], 4, run.tokens, run.batch_tokens, run.lr, run.loss),
                    *("adamw", "text", parametrization),
                ]
            )
    return path


@pytest.fixture
def stored(away: Path, call: Call) -> Path:
    """A store with muP sweeps whose best learning rate stays put, and standard ones in which it falls."""
    call("ingest", write(away / "mup.csv", "mup", 0.0), write(away / "standard.csv", "standard", -0.7))
    return away


def test_says_flat_or_which_power_and_compares(stored: Path, text: Call) -> None:
    said, _ = text("transfer")
    assert "mup (mup)" in said
    assert "flat within noise: width^" in said
    assert "moves as width^-0.7" in said
    assert "Best learning rate by width, at 1B tokens and 65,536 tokens a step" in said
    assert "mup against standard: exponents differ by" in said
    assert "no answer: every sweep that shows its best learning rate has the same tokens" in said


def test_one_document_for_command_and_api(stored: Path, call: Call) -> None:
    document = call("transfer", "--recipe", "standard")
    assert document["schema"] == "lawfit.transfer/1"
    assert [one["recipe"] for one in document["recipes"]] == ["standard"]
    axis = document["recipes"][0]["axes"]["size"]
    assert axis["verdict"] == "moves"
    assert axis["low"] <= -0.7 <= axis["high"]
    assert axis["worst_cost"] >= axis["cost_of_keeping"] > 0
    with TestClient(create_app(Settings(database_url=str(stored / "lawfit.db")))) as client:
        assert client.get("/v1/transfer", params={"recipe": "standard"}).json() == document
        assert {one["recipe"] for one in client.get("/v1/transfer").json()["recipes"]} == {"mup", "standard"}
        assert client.get("/v1/transfer", params={"recipe": "gone"}).status_code == 404
        assert client.get("/v1/transfer", params={"level": "0.1"}).status_code == 422


def test_report_has_the_figure_and_its_numbers(stored: Path, text: Call) -> None:
    text("transfer", "--report", "out.html")
    page = (stored / "out.html").read_text()
    assert 'id="transfer-size"' in page
    assert "transfer-tokens" not in page  # one horizon
    assert "Best learning rate against width" in page
    assert "http" not in page.split("<main>")[1].split("</main>")[0].replace("http-equiv", "")


def test_too_few_widths_end_with_what_it_would_take(away: Path, text: Call, call: Call) -> None:
    call("ingest", write(away / "two.csv", "mup", 0.0, widths=(64, 128)))
    _, said = text("transfer", code=4)
    assert "3 or more are needed" in said


def test_an_empty_store_says_what_to_type(text: Call) -> None:
    _, said = text("transfer", code=1)
    assert "lawfit ingest" in said


def test_an_unknown_recipe_is_named(stored: Path, text: Call) -> None:
    _, said = text("transfer", "--recipe", "gone", code=1)
    assert "gone" in said
