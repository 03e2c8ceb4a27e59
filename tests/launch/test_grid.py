"""Grid files: products, what a block may say, and what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from lawfit.launch import grid
from lawfit.proxy.pack import PackError
from lawfit.proxy.table import read_csv
from lawfit.proxy.trunks import plan
from lawfit.settings import data_folder
from tests.launch.conftest import GRID


def with_block(**changes: Any) -> dict[str, Any]:
    content = copy.deepcopy(GRID)
    content["blocks"][0] |= changes
    content["blocks"][0] = {name: value for name, value in content["blocks"][0].items() if value is not ...}
    return content


def test_a_grid_is_a_product() -> None:
    content = copy.deepcopy(GRID)
    content["blocks"].append({"shape": "tiny", "tokens": 640, "batch_tokens": 32, "lr": 0.01, "weight_decay": 0.5})
    large, small, decay = grid.packs(content)
    assert [pack.batch_tokens for pack in (large, small, decay)] == [32, 16, 32]
    assert [run.steps for run in large.runs] == [20] * 6
    assert [run.warmup_steps for run in small.runs] == [10] * 6
    assert [(run.lr, run.init_seed, run.data_seed) for run in small.runs] == [
        (lr, seed, seed) for seed in (0, 1) for lr in (0.001, 0.01, 1e30)
    ]
    assert {run.beta2 for run in large.runs} == {0.99}
    assert [(run.lr, run.weight_decay, run.init_seed) for run in decay.runs] == [(0.01, 0.5, 0)]


def test_what_a_block_may_say() -> None:
    content = with_block(
        batch_tokens=32, lr=[0.01], optimizer="muon", decay="independent", noise_scale=True, qk_norm=True,
        beta2=[0.9, 0.99], average_half_life_tokens=320, warmup_fraction=0.5, data_seed=7,
    )  # fmt: skip
    (pack,) = grid.packs(content)
    assert (pack.optimizer, pack.decay, pack.noise_scale, pack.model.qk_norm) == ("muon", "independent", True, True)
    assert [(run.init_seed, run.beta2) for run in pack.runs] == [(0, 0.9), (0, 0.99), (1, 0.9), (1, 0.99)]
    assert {(run.data_seed, run.average_half_life_tokens, run.warmup_steps) for run in pack.runs} == {(7, 320, 10)}


def test_unique_tokens_multiply_within_one_pack() -> None:
    (pack,) = grid.packs(with_block(batch_tokens=32, lr=[0.01, 0.02], unique_tokens=[64, 3.2e2], seeds=0))
    assert [(run.unique_tokens, run.lr) for run in pack.runs] == [(64, 0.01), (64, 0.02), (320, 0.01), (320, 0.02)]
    with pytest.raises(PackError, match=r"blocks\[0\]: runs\[0\]\.unique_tokens .* fewer than the run's 640 tokens"):
        list(grid.packs(with_block(batch_tokens=32, unique_tokens=[640], seeds=0)))


def test_tokens_per_parameter_and_the_vocabulary_of_the_corpus() -> None:
    content = with_block(tokens=..., tokens_per_param=2, batch_tokens=32, lr=[0.01], seeds=0)
    del content["base"]["vocab"]
    (pack,) = grid.packs(content, vocab=77)
    assert pack.model.vocab == 77
    assert pack.runs[0].steps == round(2 * pack.model.non_embedding_params / 32)


def test_what_the_grid_says_of_all_runs_holds_where_a_block_is_silent() -> None:
    content = with_block(lr=..., weight_decay=[0.3], batch_tokens=32, seeds=0)
    content["run"] |= {"lr": 0.02, "weight_decay": 0.2}
    content["blocks"].append({**content["blocks"][0], "lr": [0.01]})
    del content["blocks"][1]["weight_decay"]
    assert [(run.lr, run.weight_decay) for pack in grid.packs(content) for run in pack.runs] == [
        (0.02, 0.3), (0.01, 0.2),
    ]  # fmt: skip


def test_rates_may_be_listed_once_for_silent_blocks() -> None:
    content = with_block(lr=..., batch_tokens=32, seeds=0)
    content["run"] |= {"lr": [0.01, 0.02]}
    assert [run.lr for pack in grid.packs(content) for run in pack.runs] == [0.01, 0.02]


def test_trap_fields_of_all_models_in_base() -> None:
    content = {**GRID, "base": {**GRID["base"], "qk_norm": True}}
    assert [pack.model.qk_norm for pack in grid.packs(content)] == [True, True]
    content["shapes"] = {"tiny": {**GRID["shapes"]["tiny"], "qk_norm": False}}
    assert [pack.model.qk_norm for pack in grid.packs(content)] == [False, False]


@pytest.mark.parametrize(
    ("schedule", "packs"),
    [("wsd", 1), ("constant", 1), ("linear", 2), (["wsd", "constant"], 1), (["wsd", "linear"], 2)],
)
def test_horizons_that_share_steps_share_a_pack(schedule: str | list[str], packs: int) -> None:
    made = list(grid.packs(with_block(tokens=[640, 1280], batch_tokens=16, lr=[0.01], seeds=0, schedule=schedule)))
    assert len(made) == packs
    if packs == 1:
        assert sorted({run.steps for run in made[0].runs}) == [40, 80]
        assert {run.warmup_steps for run in made[0].runs} == {10}  # of the shortest, or nothing would be shared
        assert len(plan(made[0]).rows) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], 'a grid is a JSON object with "base"'),
        ({"blocks": 3}, 'a grid is a JSON object with "base"'),
        ({**GRID, "shape": 1}, "unknown field shape; did you mean shapes"),
        ({**GRID, "base": {"seqlen": 8}}, r"unknown field base\.seqlen; did you mean seq_len"),
        ({**GRID, "run": {"step": 8}}, r"unknown field run\.step"),
        ({**GRID, "base": {"beta2": 0.9}}, r"base\.beta2: it is a field of runs, and belongs in run or in a block"),
        ({**GRID, "run": {"beta2": [0.9, 0.95]}}, r"run\.beta2 is a list: .* lists belong in blocks"),
        ({**GRID, "run": {"warmup_fraction": 0.1}}, r"run\.warmup_fraction: it belongs .* at the top .* or in a block"),
        ({**GRID, "warmup_fraction": "0.1"}, r"^warmup_fraction must be a number in \[0, 1\), got '0.1'"),
        ({**GRID, "shapes": {"tiny": 3}}, "shapes must be an object such as"),
        ({**GRID, "base": {}}, r"blocks\[0\]: vocab of the models is missing"),
        (with_block(shape="huge"), r"blocks\[0\]: no shape 'huge'; the shapes are tiny"),
        (with_block(batch_tokens=[20]), r"blocks\[0\]: batch_tokens 20 is not a multiple of seq_len 8; 24 is"),
        (with_block(learning_rate=[1]), r"unknown field blocks\[0\]\.learning_rate; "),
        (with_block(tokens_per_param=20), "tokens or tokens_per_param, one of them"),
        (with_block(lr=...), r"blocks\[0\]: lr is missing"),
        (with_block(lr=[]), "lr is an empty list"),
        (with_block(lr=["0.1"]), "lr must be a number, or a list of numbers"),
        (with_block(lr=[0.01, 0.01]), r"blocks\[0\]: runs\[0\] and runs\[1\] are the same run"),
        (with_block(optimizer="lion"), r"blocks\[0\]: optimizer must be one of"),
        (with_block(tokens=[float("nan")]), "tokens must be a number above 0"),
        (with_block(tokens=[10**400]), r"tokens must be a number above 0 and below 1e\+18"),
        (with_block(lr=[10**400]), r"runs\[0\]\.lr must be a finite number"),
        (with_block(warmup_fraction=float("nan")), r"blocks\[0\]\.warmup_fraction must be a number in"),
        (with_block(shape=[]), r"blocks\[0\]: no shape ''; the shapes are tiny"),
        (with_block(shape=[{}]), r"blocks\[0\]: no shape \{\}"),
        (with_block(seq_len=0), r"blocks\[0\]: model.seq_len must be 1 or more, got 0"),
        (with_block(tokens=..., tokens_per_param=20, width="8"), r"blocks\[0\]: model.width must be a whole number"),
        (with_block(batch_tokens=[16.5]), "batch_tokens 16.5 is not a multiple of seq_len 8"),
    ],
    ids=lambda value: "" if isinstance(value, (dict, list)) else value[:25],
)  # fmt: skip
def test_a_bad_grid_is_refused(content: Any, message: str) -> None:
    with pytest.raises(PackError, match=message):
        list(grid.packs(content))


@pytest.mark.parametrize(
    ("table", "fewest"),  # as shipped
    [
        *(("sweep", 709), ("critical_batch", 82), ("mup", 30), ("wsd", 12), ("held_back", 34)),
        *(("shapes", 328), ("few_tokens", 132), ("repeated", 248), ("weight_decay", 198)),
        *(("wsd_sweep", 581), ("wsd_warmup", 360), ("sweep_more", 411), ("unseen", 88)),
    ],
)
def test_shipped_runs_come_from_the_shipped_grids(table: str, fewest: int) -> None:
    ids = set()
    for path in data_folder().glob(f"proxy_{table}_grid*.json"):
        for pack in grid.packs(json.loads(path.read_text())):
            assert pack.corpus_hash
            ids |= {pack.run_id(i, pack.corpus_hash) for i in range(len(pack.runs))}
    rows = read_csv(data_folder() / f"proxy_{table}.csv")
    shipped = {row["run_id"] for row in rows}
    assert len(shipped) >= fewest
    assert shipped <= ids
    curves = "proxy_curves.csv" if table == "sweep" else f"proxy_{table}_curves.csv"
    drawn = {row["run_id"] for row in read_csv(data_folder() / curves)}
    assert drawn <= shipped
    assert {row["run_id"] for row in rows if row["diverged"] != "1"} <= drawn  # others may end before their first line
