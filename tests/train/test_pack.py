from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lawfit.launch.grid import packs as grid_packs
from lawfit.proxy.pack import PackError, RunSettings, load_pack, pack_schema, parse_pack
from lawfit.settings import data_folder
from tests.golden_numbers import check

GOOD: dict[str, Any] = {
    "name": "good",
    "model": {"layers": 2, "width": 16, "heads": 2, "hidden": 24, "vocab": 61, "seq_len": 12},
    "batch_sequences": 4,
    "runs": [{"lr": 0.01, "steps": 10}, {"lr": 0.02, "steps": 10}],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one entry changed, or dropped when the value is `...`."""
    content = copy.deepcopy(GOOD)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target: Any = content
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return content


BAD = [
    ("model", ..., "model must be an object"),
    ("model.width", ..., r"model\.width is missing"),
    ("model.width", 16.5, r"model\.width must be a whole number, got 16\.5"),
    ("model.heads", 3, r"model\.heads must be a number that cuts width 16 into even parts, got 3"),
    ("model.depth", 3, r"unknown field model\.depth; the fields are layers,"),
    ("runs", [], "runs must be at least one run"),
    ("runs", {}, "runs must be a list"),
    ("runs.1.lr", 0, r"runs\[1\]: lr must be above 0, got 0"),
    ("runs.1.lr", float("nan"), r"runs\[1\]\.lr must be a finite number, got nan"),
    ("runs.1.lr", "high", r"runs\[1\]\.lr must be a finite number, got 'high'"),
    ("runs.1.steps", True, r"runs\[1\]\.steps must be a whole number, got True"),
    ("runs.0.warmup_steps", 10, r"warmup_steps must be in \[0, steps = 10\), got 10"),
    (
        "runs.0.schedule",
        "saw",
        "schedule must be one of linear, cosine, wsd, constant, rex, uba, power, wsd_s, got saw",
    ),
    ("runs.0.schedule", "table:file=x.csv", "schedule must be one of .*, got table:file=x.csv"),
    ("runs.0.schedule", "uba", r"runs\[0\]: schedule uba: uba also needs phi: uba:phi=0.5"),
    ("runs.0.schedule", "uba:phi=0", r"runs\[0\]: schedule uba:phi=0: phi must be positive"),
    ("runs.0.schedule", "cosine:floor=0.1", "cosine has its numbers as settings of the run"),
    ("runs.0.schedule", "rex:floor=0.1", "the floor of a run is its final_fraction or final_lr"),
    ("runs.0.schedule", "wsd_s:ends=0.5/1,cooldown=0.1", "give them a floor by final_fraction or final_lr"),
    ("runs.0.final_lr", 1.0, r"final_lr must be in \[0, lr = 0\.01\], got 1\.0"),
    ("runs.1.lr", 0.01, r"runs\[0\] and runs\[1\] are the same run"),
    ("optimizer", "lion", "optimizer must be one of adamw, muon, sgd, got lion"),
    ("model.mup_base_width", 0, r"model\.mup_base_width must be 1 or more, got 0"),
    ("precision", "fp8", "precision must be one of bf16, fp32, got fp8"),
    ("accumulation", 3, "accumulation must be a divisor of batch_sequences 4, got 3"),
    ("batch_sequences", 0, "batch_sequences must be 1 or more, got 0"),
    ("runs.0.unique_tokens", 0, r"runs\[0\]: unique_tokens must be above 0, got 0"),
    ("runs.1.unique_tokens", 11, r"runs\[1\]\.unique_tokens must be a sequence \(12\) or more .* got 11"),
    ("runs.1.unique_tokens", 480, r"fewer than the run's 480 tokens, or left out, got 480"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_a_bad_pack_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(PackError, match=message):
        parse_pack(changed(path, value))


def test_mup_is_adams() -> None:
    content = changed("model.mup_base_width", 8)
    assert parse_pack(content).model.width_ratio == 2
    with pytest.raises(PackError, match="muP's rates are Adam's, got muon"):
        parse_pack({**content, "optimizer": "muon"})


def test_round_trip() -> None:
    pack = parse_pack(GOOD)
    assert parse_pack(json.loads(json.dumps(pack.to_json()))) == pack


def test_file_is_named_in_the_complaint(tmp_path: Path) -> None:
    path = tmp_path / "pack.json"
    path.write_text("{")
    with pytest.raises(PackError, match=r"pack\.json cannot be read as a pack: "):
        load_pack(path)
    path.write_text(json.dumps(changed("name", ...)))
    with pytest.raises(PackError, match=r"pack\.json: name is missing"):
        load_pack(path)


@pytest.mark.parametrize(
    ("path", "value"), [("name", "other"), ("corpus", "elsewhere"), ("log_points", 3), ("runs.1.lr", 1.0)]
)
def test_run_id_ignores_what_does_not_change_the_run(path: str, value: Any) -> None:
    assert parse_pack(changed(path, value)).run_id(0, "hash") == parse_pack(GOOD).run_id(0, "hash")


@pytest.mark.parametrize(
    ("path", "value"),
    [("runs.0.lr", 0.03), ("runs.0.data_seed", 1), ("model.layers", 3), ("batch_sequences", 8), ("precision", "fp32")],
)
def test_run_id_changes_with_the_run(path: str, value: Any) -> None:
    assert parse_pack(changed(path, value)).run_id(0, "hash") != parse_pack(GOOD).run_id(0, "hash")


def test_run_id_does_not_hear_of_defaults() -> None:
    """A setting that is added later, and left alone, must not rename the runs of older sweeps."""
    assert parse_pack(changed("runs.0.beta2", 0.95)).run_id(0, "hash") == parse_pack(GOOD).run_id(0, "hash")
    assert parse_pack(changed("runs.0.weight_decay", 1)).run_id(0, "hash") == parse_pack(
        changed("runs.0.weight_decay", 1.0)
    ).run_id(0, "hash")
    no_decay = [parse_pack(changed("runs.0.weight_decay", zero)).run_id(0, "hash") for zero in (0, 0.0, -0.0)]
    assert len(set(no_decay)) == 1
    assert parse_pack(GOOD).run_id(0, "hash") == "5c4872294dabee9f"  # pinned: the runs of data/ are named so


def test_run_id_changes_with_the_corpus() -> None:
    assert parse_pack(GOOD).run_id(0, "hash") != parse_pack(GOOD).run_id(0, "other")


# What a schema cannot say: one field's bounds in terms of another, and that a default equals what is written out.
ACROSS_FIELDS = [
    *(("model.heads", 3), ("runs.0.warmup_steps", 10), ("runs.0.final_lr", 1.0), ("accumulation", 3)),
    *(("runs.0.schedule", name) for name in ("uba", "uba:phi=0", "cosine:floor=0.1", "rex:floor=0.1")),
    ("runs.0.schedule", "wsd_s:ends=0.5/1,cooldown=0.1"),
    *(("runs.1.unique_tokens", tokens) for tokens in (11, 480)),
]


def complaints(content: Any) -> list[str]:
    """Of a validator that knows nothing but the schema."""
    jsonschema = pytest.importorskip("jsonschema", reason="the schema is checked by jsonschema, of lawfit[dev]")
    return [error.message for error in jsonschema.Draft202012Validator(pack_schema()).iter_errors(content)]


def test_no_bound_of_the_schema_moves(update_golden: bool) -> None:
    check("pack_schema", pack_schema(), update=update_golden)


def test_schema_is_one() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the schema is checked by jsonschema, of lawfit[dev]")
    jsonschema.Draft202012Validator.check_schema(pack_schema())


@pytest.mark.parametrize(
    ("path", "value"),
    [case[:2] for case in BAD if case[1] == case[1]],  # NaN is no JSON
)
def test_schema_refuses_what_the_trainer_refuses(path: str, value: Any) -> None:
    assert bool(complaints(changed(path, value))) == ((path, value) not in ACROSS_FIELDS)


def test_schema_takes_every_pack_that_was_trained() -> None:
    """Those of the shipped sweep, in full and as a person would write them: without what is at its default."""
    count = 0
    for path in data_folder().glob("proxy_sweep_grid_*.json"):
        for pack in grid_packs(json.loads(path.read_text())):
            whole = json.loads(json.dumps(pack.to_json()))
            assert complaints(whole) == []
            runs = [{k: v for k, v in run.items() if k in ("lr", "steps", "schedule")} for run in whole["runs"][:1]]
            assert complaints({**whole, "runs": runs}) == []
            count += 1
    assert count > 50


def test_every_field_is_described() -> None:
    schema = pack_schema()
    for part in (schema, *schema["$defs"].values()):
        for name, field in part["properties"].items():
            assert field["description"].endswith("."), name
    assert schema["$defs"]["run"]["properties"]["lr"] == {
        "type": "number", "description": "Peak learning rate.", "exclusiveMinimum": 0,
    }  # fmt: skip


def test_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="the trainer needs lawfit[train]")
    from lawfit.train import __main__ as command

    assert command.main(["--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(pack_schema()))
    with pytest.raises(SystemExit, match="2"):
        command.main([])
    assert "no pack.json is named" in capsys.readouterr().err


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_not_finite_is_refused_in_python_too(value: float) -> None:
    with pytest.raises(PackError, match="lr must be a finite number, got"):
        RunSettings(lr=value, steps=1)


def test_packs_are_read_without_torch() -> None:
    """The launcher plans with them, and must not wait for an import of seconds."""
    code = "import sys, lawfit.proxy.pack, lawfit.proxy.trunks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
