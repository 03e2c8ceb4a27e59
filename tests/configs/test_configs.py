"""Settings of training programs: each in its own language, the arithmetic of units, what is not known left out."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from lawfit import __version__, configs
from lawfit.configs.program import number
from lawfit.documents import Training
from tests.configs import programs

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "configs"
ENDINGS: Final = {"python": ".py.txt", "toml": ".toml", "yaml": ".yaml", "bash": ".sh"}
LR: Final = 6.123e-5


def training(**changes: Any) -> Training:
    """A set-up that knows everything; `schedule` as (what the recipe says, shape, end)."""
    said, shape, end = changes.pop("schedule", ("cosine to 0.1", "cosine", 0.1))
    made: dict[str, Any] = {
        "schema": "lawfit.training/1",
        "prediction_id": "5f1c9a8e7b6d4c32",
        "recipe": {"name": "c4", "key": "k", "optimizer": "adamw"},
        "params": 7e9,
        "tokens": 1.4e12,
        "lr": {"value": LR, "low": 4.3e-5, "high": 9e-5, "level": 0.9},
        "batch_tokens": 4194304.0,
        "seq_len": 2048,
        "sequences": 2048,
        "steps": 333786,
        "world_size": 64,
        "per_device_batch": 4,
        "accumulation": 8,
        "weight_decay": 0.1,
        "warmup_steps": 2000,
        "schedule": {"said": said, "shape": shape, "end": end},
        "beta1": 0.9,
        "beta2": 0.95,
        "epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "expected_regret": 0.0023,
        "notes": [],
        "warnings": ["the target lies 13x beyond the runs"],
    }
    return {**made, **changes}  # type: ignore[typeddict-item]


UNKNOWN: Final = training(
    schedule=("", None, None), weight_decay=None, warmup_steps=None, beta1=None, beta2=None, epsilon=None,
    max_grad_norm=None, notes=["the warmup is left out: the runs do not say one"],
)  # fmt: skip
CASES: Final[Mapping[str, Training]] = {
    "cosine": training(),
    "linear": training(schedule=("linear to 0", "linear", 0.0)),
    "constant": training(schedule=("constant", "constant", 1.0)),
    "wsd": training(schedule=("wsd to 0", "wsd", 0.0)),
    "unknown": UNKNOWN,
}


def settings(name: str, text: str) -> dict[str, Any]:
    """What stands in the text, by the standard library alone: a flat mapping."""
    language = configs.named(name).language
    if language == "toml":
        return {f"{k}.{key}": v for k, part in tomllib.loads(text).items() for key, v in part.items()}
    if language == "yaml":
        return _flat(yaml.safe_load(text))
    if language == "bash":
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        printed = subprocess.run(
            ["bash", "-c", f'{text}\nprintf "%s\\n" "${{TRAINING_ARGS[@]}}"'],
            text=True,
            check=True,
            capture_output=True,
        ).stdout.split()
        return {key: _value(value) for key, value in zip(printed[::2], printed[1::2], strict=True)}
    tree = ast.parse(text)
    if name == "hf":
        call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call))
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}  # type: ignore[attr-defined]


def _flat(value: Any, before: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {before: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{before}.{key}" if before else key)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def stated(made: Training, field: str) -> Any:
    return made["lr"]["value"] if field == "lr" else made[field]  # type: ignore[literal-required]


# What each program calls it. The batch of all devices is `sequences`, or passes x devices x a device's.
NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "hf": {
        "lr": "learning_rate", "per_device_batch": "per_device_train_batch_size",
        "accumulation": "gradient_accumulation_steps", "steps": "max_steps", "weight_decay": "weight_decay",
        "beta1": "adam_beta1", "beta2": "adam_beta2", "epsilon": "adam_epsilon", "warmup_steps": "warmup_steps",
        "max_grad_norm": "max_grad_norm",
    },
    "torchtitan": {
        "lr": "optimizer.lr", "per_device_batch": "training.local_batch_size",
        "sequences": "training.global_batch_size", "seq_len": "training.seq_len", "steps": "training.steps",
        "weight_decay": "optimizer.weight_decay", "beta1": "optimizer.beta1", "beta2": "optimizer.beta2",
        "epsilon": "optimizer.eps", "warmup_steps": "lr_scheduler.warmup_steps", "max_grad_norm": "training.max_norm",
    },
    "megatron": {
        "lr": "--lr", "per_device_batch": "--micro-batch-size", "sequences": "--global-batch-size",
        "seq_len": "--seq-length", "steps": "--train-iters", "weight_decay": "--weight-decay",
        "beta1": "--adam-beta1", "beta2": "--adam-beta2", "epsilon": "--adam-eps",
        "warmup_steps": "--lr-warmup-iters", "max_grad_norm": "--clip-grad",
    },
    "nanogpt": {
        "lr": "learning_rate", "per_device_batch": "batch_size", "seq_len": "block_size", "steps": "max_iters",
        "weight_decay": "weight_decay", "beta1": "beta1", "beta2": "beta2", "warmup_steps": "warmup_iters",
        "max_grad_norm": "grad_clip",
    },
    "levanter": {
        "lr": "optimizer.learning_rate", "per_device_batch": "trainer.per_device_parallelism",
        "sequences": "trainer.train_batch_size", "steps": "trainer.num_train_steps",
        "weight_decay": "optimizer.weight_decay", "beta1": "optimizer.beta1", "beta2": "optimizer.beta2",
        "epsilon": "optimizer.epsilon", "warmup_steps": "optimizer.warmup", "max_grad_norm": "optimizer.max_grad_norm",
    },
    "litgpt": {
        "lr": "optimizer.init_args.lr", "per_device_batch": "train.micro_batch_size",
        "sequences": "train.global_batch_size", "seq_len": "train.max_seq_length",
        "weight_decay": "optimizer.init_args.weight_decay", "epsilon": "optimizer.init_args.eps",
        "warmup_steps": "train.lr_warmup_steps", "max_grad_norm": "train.max_norm",
    },
}  # fmt: skip
EVERY: Final = [program.name for program in configs.PROGRAMS]


def test_each_program_is_asked() -> None:
    assert list(NAMES) == EVERY
    with pytest.raises(ValueError, match="no settings are written for 'nemo'; there are hf, torchtitan"):
        configs.named("nemo")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("case", CASES)
class TestEveryProgram:
    def test_says_what_is_known_and_nothing_else(self, name: str, case: str) -> None:
        made = CASES[case]
        config = configs.config_of(configs.named(name), made)
        found = settings(name, config["text"])
        for field, called in NAMES[name].items():
            assert found.get(called) == stated(made, field), field
        if made["beta1"] is None:
            known = {called for field, called in NAMES[name].items() if stated(made, field) is not None}
            fixed = {"optimizer.name", "optimizer.class_path", "train.max_tokens", "gradient_accumulation_steps"}
            assert set(found) <= known | fixed

    def test_passes_of_all_devices_are_the_batch(self, name: str, case: str) -> None:
        made = CASES[case]
        found = settings(name, configs.config_of(configs.named(name), made)["text"])
        of = {field: found.get(called) for field, called in NAMES[name].items()}
        passes = found.get("gradient_accumulation_steps", made["accumulation"])  # nanoGPT's are of all processes
        devices = 1 if name == "nanogpt" else made["world_size"]
        sequences = of["per_device_batch"] * passes * devices
        assert sequences == of.get("sequences", sequences) == made["sequences"]
        assert sequences * made["seq_len"] == made["batch_tokens"]
        tokens = found.get("train.max_tokens", of.get("steps", 0) * made["batch_tokens"])
        assert tokens == pytest.approx(made["tokens"], rel=1 / made["steps"])

    def test_the_text_is_the_one_that_was_checked(self, name: str, case: str, update_golden: bool) -> None:
        config = configs.config_of(configs.named(name), CASES[case])
        path = GOLDEN / f"{name}_{case}{ENDINGS[config['language']]}"
        text = config["text"].replace(f"lawfit {__version__}", "lawfit")
        if update_golden:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text


# What a Python needs so that it can say what the program itself makes of it. nanoGPT is in no package.
NEEDS: Final = {
    "hf": "transformers accelerate torch",
    "torchtitan": "torchtitan/config/job_config.py tyro torch",  # up to 0.2
    "megatron": "megatron torch",
    "levanter": "levanter yaml",
    "litgpt": "litgpt lightning jsonargparse torch",
}


@cache
def _has(python: str, packages: str) -> bool:
    """A package, or a file of one."""
    code = (
        "import importlib.util as u, pathlib\n"
        "def there(p):\n"
        "    top, _, rest = p.partition('/')\n"
        "    found = u.find_spec(top)\n"
        "    return found and (not rest or (pathlib.Path(found.submodule_search_locations[0]) / rest).exists())\n"
        f"raise SystemExit(not all(there(p) for p in {packages.split()!r}))"
    )
    return subprocess.run([python, "-c", code], check=False, env={**os.environ, "PYTHONPATH": ""}).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("case", ["cosine", "linear"])
@pytest.mark.parametrize("name", NEEDS)
def test_the_program_itself_reads_it(name: str, case: str, tmp_path: Path) -> None:
    """In the Pythons of LAWFIT_TEST_WRITERS that have it."""
    given = os.environ.get("LAWFIT_TEST_WRITERS", "")
    pythons = [python for python in (given.split(":") if given else [sys.executable]) if _has(python, NEEDS[name])]
    if not pythons:
        pytest.skip(f"NOT TESTED against {name} itself: no Python in LAWFIT_TEST_WRITERS has {NEEDS[name]}")
    made = CASES[case]
    language = configs.named(name).language
    file = tmp_path / f"config{ENDINGS[language].removesuffix('.txt')}"
    file.write_text(configs.config_of(configs.named(name), made)["text"], encoding="utf-8")
    script = shutil.copy(programs.__file__, tmp_path / "programs.py")
    for python in pythons:
        done = subprocess.run(
            [python, script, name, str(file)],
            capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        read = json.loads(done.stdout.splitlines()[-1])
        end = read.pop("end", None)
        if end is not None:
            assert end == pytest.approx(made["schedule"]["end"], abs=1e-9)
        tokens = read.pop("max_tokens", None)
        assert tokens is None or tokens == made["steps"] * made["batch_tokens"]
        assert read == {field: stated(made, field) for field in read}


@pytest.mark.parametrize("value", [1e-5, 6.123e-5, 8e-5, 0.1, 1.0, 1e-8, 3, 12345678, 0.00085768])
def test_every_language_reads_a_number_as_one(value: float) -> None:
    text = number(value)
    for read in (ast.literal_eval, yaml.safe_load, json.loads, lambda t: tomllib.loads(f"a = {t}")["a"]):
        found = read(text)
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize("name", EVERY)
def test_names_in_data_end_no_comment(name: str) -> None:
    made = training(recipe={"name": "a\nimport os\n", "key": "k", "optimizer": "muon\u2028x"}, notes=["one\ntwo"])
    text = configs.config_of(configs.named(name), made)["text"]
    assert settings(name, text)
    head, _, _ = text.partition("\n\n")
    assert all(line.startswith("# ") for line in head.splitlines())
    assert "CAREFUL: the runs were trained with muon x" in head


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (("linear to 0", "linear", 0.0), {"lr_scheduler_type": "linear"}),
        (("cosine", "cosine", None), {"lr_scheduler_type": "cosine"}),
        (
            ("cosine to 0.1", "cosine", 0.1),
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
        ),
        (
            ("linear to 0.1", "linear", 0.1),
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 6.123e-6, "power": 1.0}},
        ),
        (("constant", "constant", 1.0), {"lr_scheduler_type": "constant_with_warmup"}),
        (("wsd to 0", "wsd", 0.0), {}),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_schedules_by_the_names_of_transformers(schedule: Any, words: dict[str, Any]) -> None:
    found = settings("hf", configs.config_of(configs.named("hf"), training(schedule=schedule))["text"])
    assert {name: value for name, value in found.items() if name.startswith("lr_scheduler")} == words
