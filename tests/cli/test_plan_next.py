"""`lawfit plan next` as a command; its numbers are tested in tests/planner."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lawfit.cli.main import ExitCode
from lawfit.launch.grid import packs
from lawfit.planner.planned import rows_of
from lawfit.proxy.table import read_csv
from lawfit.storage import Store
from tests.cli.conftest import Call
from tests.golden_stores import watched_fit
from tests.launch.test_shapes import DATA


def test_an_empty_store_gets_its_first_sweep(tmp_path: Path, call: Call, text: Call) -> None:
    words = ("plan", "next", "--params", "1B", "--tokens", "20B", "--database", tmp_path / "none.db")
    document = call(*words, "--budget", "1e18flops", "--runs", tmp_path / "runs.csv")
    assert document["fit_id"] is None
    assert "first sweep" in document["warnings"][0]
    assert len({grid["params"] for grid in document["grids"]}) >= 3
    with (tmp_path / "runs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == document["budget"]["runs"]
    shown, _ = text(*words, "--budget", "1e18flops")
    assert "first sweep" in shown
    assert "a new size" in shown
    document = call(*words, "--budget", "2runs", code=ExitCode.NOT_ENOUGH)
    assert "2 runs buys no grid" in document["error"]["message"]
    document = call(*words, "--budget", "much", code=ExitCode.USAGE)
    assert "write 1e19flops" in document["error"]["message"]
    document = call(*words, "--budget", "64runs", "--max-params", "10", code=ExitCode.NOT_ENOUGH)
    assert "the smallest model that can be made here has" in document["error"]["message"]
    there = tmp_path / "no folder" / "runs.csv"
    document = call(*words, "--budget", "64runs", "--runs", there, code=ExitCode.FAILED)
    assert f"the plan cannot be written to {there}: No such file" in document["error"]["message"]


def test_the_grid_file_of_a_first_sweep_is_its_runs(tmp_path: Path, call: Call) -> None:
    words = ("plan", "next", "--params", "1B", "--tokens", "20B", "--database", tmp_path / "none.db")
    files = ("--grid", tmp_path / "grid.json", "--runs", tmp_path / "runs.csv")
    document = call(*words, "--budget", "3e17flops", "--seq-len", "512", *files)
    grid = json.loads((tmp_path / "grid.json").read_text(encoding="utf-8"))
    assert grid == document["grid_file"]
    made = list(packs(grid, vocab=4096))
    runs = {
        (pack.model.non_embedding_params, pack.batch_tokens, run.lr, run.init_seed)
        for pack in made
        for run in pack.runs
    }
    rows = read_csv(tmp_path / "runs.csv")
    wanted = {(float(r["params"]), float(r["batch_tokens"]), float(r["lr"]), int(r["seed"])) for r in rows}
    assert runs == wanted
    assert sum(len(pack.runs) for pack in made) == len(rows) == document["budget"]["runs"]
    assert {pack.model.seq_len for pack in made} == {512}
    assert document == call(*words, "--budget", "3e17flops", "--seq-len", "512")
    assert document["id"] != call(*words, "--budget", "4e17flops", "--seq-len", "512")["id"]


def test_grids_that_come_back_have_other_seeds(tmp_path: Path, call: Call) -> None:
    words = ("plan", "next", "--params", "1B", "--tokens", "20B", "--database", tmp_path / "none.db")
    document = call(*words, "--budget", "1e18flops")
    scales = [(grid["params"], grid["tokens"]) for grid in document["grids"]]
    assert len(set(scales)) < len(scales)
    runs = [tuple(row.values()) for row in rows_of(document["grids"])]
    assert len(set(runs)) == len(runs)


@pytest.mark.soak
def test_a_recipe_trained_here_goes_on_in_its_shapes(tmp_path: Path, call: Call) -> None:
    """Our own sweep, half of its columns read back: the corpus by its hash, beta2, warmup, QK-norm, heads of 32."""
    store = ("--database", tmp_path / "own.db")
    rows = [row for row in read_csv(DATA / "proxy_sweep.csv") if row["weight_decay"] == "0.1"]
    with (tmp_path / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if int(row["n_params"]) in (201536, 804224, 3213824))
    call("ingest", tmp_path / "sweep.csv", *store)
    call("fit", *store)
    asked = ("plan", "next", "--params", "100M", "--tokens", "2B", "--budget", "1e17flops")
    document = call(*asked, *store, "--runs", tmp_path / "runs.csv")
    grid = document["grid_file"]
    assert grid["base"] == {"corpus": "corpus", "corpus_hash": "8adf79d9bdb6780c", "seq_len": 256}
    assert (grid["warmup_fraction"], grid["run"]) == (0.1, {"schedule": "linear", "beta1": 0.9, "beta2": 0.95})
    made = {pack.model.non_embedding_params: pack.model for pack in packs(grid, vocab=4096)}
    sweeps = document["weight_decay"]["sweeps"]
    assert set(made) == {each["params"] for each in (*sweeps, *document["grids"])}
    assert {(model.layers, model.width // model.heads, model.qk_norm) for model in made.values()} == {(4, 32, True)}
    # weight decay is open in these runs: swept at the learning rate and batch of a run that is there
    assert sum(each["cost"] for each in sweeps) <= 0.1 * document["budget"]["amount"]
    assert document["budget"]["runs"] == sum(each["runs"] for each in (*sweeps, *document["grids"]))
    columns = ("n_params", "learning_rate", "batch_size_tokens")
    there = {tuple(float(row[name]) for name in columns) for row in rows}
    for sweep in sweeps:
        assert 0.1 not in sweep["weight_decay"]
        assert (sweep["params"], sweep["lr"][0], sweep["batch_tokens"][0]) in there
    swept = [run.weight_decay for pack in packs(grid, vocab=4096) for run in pack.runs if run.weight_decay != 0.1]
    assert sorted(swept) == sorted(value for each in sweeps for value in each["weight_decay"] for _ in each["seeds"])
    with (tmp_path / "runs.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == document["budget"]["runs"]
    assert sum(float(row["weight_decay"]) != 0.1 for row in table) == sum(each["runs"] for each in sweeps)
    assert "are expected to take off" in document["weight_decay"]["words"]
    # under way it is not asked for again, and its runs tell nothing of learning rate and batch
    again = call(*asked, *store, "--under-way", document["id"])
    assert "weight_decay" not in again
    assert not any("weight decay" in warning for warning in again["warnings"])
    assert len(again["under_way"]) == sum(each["runs"] for each in document["grids"])


def test_a_recipe_of_another_trainer_has_rows_and_no_grid(tmp_path: Path, call: Call) -> None:
    words = ("plan", "next", "--params", "2B", "--tokens", "60B", "--budget", "1e20flops")
    shutil.copy(watched_fit("five_sizes")[0], tmp_path / "made.db")
    there = ("--database", tmp_path / "made.db")
    document = call(*words, *there, "--runs", tmp_path / "runs.csv")
    assert document["grid_file"] is None
    assert "is trained with simulated" in document["missing"]["grid_file"]
    assert {grid["shape"] for grid in document["grids"]} == {None}
    assert len(read_csv(tmp_path / "runs.csv")) == document["budget"]["runs"]
    refused = call(*words, *there, "--grid", tmp_path / "grid.json", code=ExitCode.NOT_ENOUGH)
    assert "take the rows of the plan to the program that trained it" in refused["error"]["message"]
    assert not (tmp_path / "grid.json").exists()


def test_a_plan_is_rehearsed_and_reported(tmp_path: Path, text: Call) -> None:
    words = ("plan", "next", "--params", "1B", "--tokens", "20B", "--database", tmp_path / "none.db")
    shown, said = text(*words, "--budget", "1e17flops", "--rehearse", "--report", tmp_path / "next.html")
    assert "Played in 100 worlds drawn from what is known" in " ".join(shown.split())
    assert "report: " in said
    content = (tmp_path / "next.html").read_text(encoding="utf-8")
    assert "Rehearsed" in content
    assert "Where the runs lie" in content


def test_a_plan_beside_one_that_is_under_way(tmp_path: Path, call: Call) -> None:
    """Its runs count as made, but for those that are there; a plan that is not there is said."""
    shutil.copy(watched_fit("five_sizes")[0], database := tmp_path / "made.db")
    words = ("plan", "next", "--params", "2B", "--tokens", "60B", "--budget", "40runs", "--database", database)
    first = call(*words)
    second = call(*words, "--under-way", first["id"])
    assert len(second["under_way"]) == first["budget"]["runs"]
    assert second["now"]["expected_regret"] == pytest.approx(first["after"]["expected_regret"], rel=0.02)
    row = second["under_way"][0]
    with Store.open(str(database)) as store:
        made = replace(store.runs(store.recipe().key)[0], run_key="first", tokens=row["tokens"] * 1.001, loss=3.0)
        made = replace(made, **{name: row[name] for name in ("params", "lr", "batch_tokens")})
        store.put_runs(store.recipe(), [made])
    third = call(*words, "--under-way", first["id"])
    assert third["under_way"] == second["under_way"][1:]
    assert "1 run" in " ".join(third["warnings"])  # the fit has not seen it
    refused = call(*words, "--under-way", "nope", code=ExitCode.NOT_ENOUGH)
    assert "nope" in refused["error"]["message"]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--budget", "$200"), ExitCode.USAGE, "a budget in dollars needs flops-per-second"),
        (("--budget", "$200", "--flops-per-second", "4e14"), ExitCode.USAGE, "a budget in dollars needs price"),
        (("--budget", "64runs", "--price", "2"), ExitCode.USAGE, "a price for each GPU-hour needs flops-per-second"),
        (("--budget", "64runs", "--max-params", "10"), ExitCode.NOT_ENOUGH, "no run can be made within these limits"),
        (("--budget", "64runs", "--level", "1"), ExitCode.USAGE, "level must be 0.5 or more and below 1"),
        (("--budget", "64runs", "--fit", "none"), ExitCode.NOT_ENOUGH, "no fit"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path: Path, call: Call, more: tuple[str, ...], code: ExitCode, words: str) -> None:
    shutil.copy(watched_fit("five_sizes")[0], tmp_path / "made.db")
    asked = ("plan", "next", "--params", "2B", "--tokens", "60B", "--database", tmp_path / "made.db")
    assert words in call(*asked, *more, code=code)["error"]["message"]


def test_a_target_among_the_runs_is_worth_no_run(tmp_path: Path, call: Call) -> None:
    shutil.copy(watched_fit("five_sizes")[0], tmp_path / "made.db")
    asked = ("plan", "next", "--params", "40M", "--tokens", "500M", "--budget", "64runs")
    refused = call(*asked, "--database", tmp_path / "made.db", code=ExitCode.NOT_ENOUGH)
    assert "nothing worth running: the target lies among the runs" in refused["error"]["message"]


def test_what_is_under_way_is_of_the_recipe_and_counts_once(tmp_path: Path, call: Call) -> None:
    shutil.copy(watched_fit("five_sizes")[0], database := tmp_path / "made.db")
    words = ("plan", "next", "--params", "2B", "--tokens", "60B", "--budget", "40runs", "--database", database)
    first = call(*words)
    assert len(call(*words, "--under-way", f"{first['id']}, {first['id']}")["under_way"]) == first["budget"]["runs"]
    with Store.open(str(database)) as store:
        recipe = store.recipe()
        other = replace(recipe, name="other")
        store.put_runs(other, [replace(run, run_key=f"o{k}") for k, run in enumerate(store.runs(recipe.key))])
    refused = call(*words, "--recipe", "other", "--under-way", first["id"], code=ExitCode.NOT_ENOUGH)
    assert f"is of recipe '{recipe.name}'" in refused["error"]["message"]
    refused = call(*words, "--recipe", "other", "--fit", first["fit_id"], code=ExitCode.NOT_ENOUGH)
    assert "belongs to recipe" in refused["error"]["message"]


def test_a_plan_that_is_not_kept_says_no_id(tmp_path: Path, call: Call, text: Call) -> None:
    words = ("plan", "next", "--params", "1B", "--tokens", "20B", "--budget", "1e18flops")
    assert not call(*words, "--database", tmp_path / "none.db")["kept"]
    assert "Kept as" not in text(*words, "--database", tmp_path / "none.db")[0]
    shutil.copy(watched_fit("five_sizes")[0], tmp_path / "made.db")
    assert "Kept as" in text(*words, "--database", tmp_path / "made.db")[0]


def test_a_small_target_gets_a_first_sweep(tmp_path: Path, call: Call) -> None:
    words = ("plan", "next", "--params", "4M", "--tokens", "1B", "--budget", "1e17flops")
    sizes = {grid["params"] for grid in call(*words, "--database", tmp_path / "none.db")["grids"]}
    assert max(sizes) <= 4e6
    words = ("plan", "next", "--params", "30k", "--tokens", "1B", "--budget", "1e17flops")
    refused = call(*words, "--database", tmp_path / "none.db", code=ExitCode.NOT_ENOUGH)
    assert "- parameters" not in refused["error"]["message"]
