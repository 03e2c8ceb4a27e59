"""A tiny corpus and grid, and processes that stand in for the trainer where only the launcher is asked."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lawfit.proxy.pack import Pack, parse_pack
from tests.launch import slurm_cluster
from tests.launch.slurm_cluster import SlurmCluster

MODEL = {"layers": 1, "width": 8, "heads": 1, "hidden": 8, "vocab": 61, "seq_len": 8}
GRID: dict[str, Any] = {
    "base": {"vocab": 61, "seq_len": 8, "precision": "fp32", "eval_sequences": 10},
    "shapes": {"tiny": {"layers": 1, "width": 8, "heads": 1, "hidden": 8}},
    "run": {"beta2": 0.99},
    "warmup_fraction": 0.25,
    "blocks": [
        {"shape": "tiny", "tokens": [640], "batch_tokens": [16, 32], "lr": [0.001, 0.01, 1e30], "seeds": [0, 1]},
    ],
}


def nothing_stored(run_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Of runs, those that the store has: none."""
    return {}


def make_pack(
    corpus: Path | str = "corpus", *, lrs: tuple[float, ...] = (0.001, 0.01), steps: int = 20, **own: Any
) -> Pack:
    """A pack of tiny runs."""
    runs = [{"lr": lr, "steps": steps} for lr in lrs]
    content = {"name": "pack", "model": MODEL, "batch_sequences": 4, "precision": "fp32", "eval_sequences": 10}
    return parse_pack({**content, "corpus": str(corpus), "runs": runs, **own})


def write_corpus(folder: Path, content_hash: str = "made-up") -> Path:
    """Tokens with structure to learn, without text or a tokenizer."""
    rng = np.random.default_rng(5)
    tokens = (np.cumsum(rng.choice([1, 2, 5], size=8_000, p=[0.7, 0.2, 0.1])) % 61).astype(np.uint16)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": tokens[:7_000], "validation": tokens[7_000:]}
    for name, part in parts.items():
        part.tofile(folder / f"{name}.bin")
    manifest = {
        "hash": content_hash, "vocab": 61, "documents": 1, "duplicates": 0, "skipped": 0, "train_tokens": 7_000,
        "validation_tokens": 1_000, "validation_bytes": 2_000, "sources": ["made up"],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def grid(corpus: Path, tmp_path: Path) -> Path:
    """A grid file of two packs of six runs, two of which diverge."""
    content = {**GRID, "base": {**GRID["base"], "corpus": str(corpus)}}
    path = tmp_path / "coarse.json"
    path.write_text(json.dumps(content))
    return path


def trainers(logs: Path) -> list[int]:
    """Process ids of what trains into a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"lawfit.train" in words and str(logs).encode() in words:
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)


needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").is_file(), reason="processes are found through /proc")

FAKE = """
import json, os, signal, sys, time
pack = json.load(open(sys.argv[1]))
logs, how = sys.argv[2], sys.argv[3]
behaviour = json.load(open(how))
ids = behaviour["ids"]
with open(how + ".calls", "a") as calls:
    calls.write(json.dumps([run["lr"] for run in pack["runs"]]) + "\\n")
deaths = len(open(how + ".calls").readlines())
if deaths <= behaviour.get("dies", 0):
    for run in pack["runs"]:
        with open(f"{logs}/{ids[str(run['lr'])]}.jsonl", "w") as log:
            for event in ({"event": "start", "pack": pack["name"], "neighbours": len(pack["runs"]) - 1},
                          {"event": "train", "tokens": behaviour.get("at", 10 * deaths)}):
                log.write(json.dumps(event) + "\\n")
    open(behaviour["leaves"], "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
if "say" in behaviour and len(pack["runs"]) > behaviour["survives"]:
    sys.stderr.write(behaviour["say"])
    sys.stderr.flush()
    if "leaves" in behaviour:
        open(behaviour["leaves"], "w").close()
    if behaviour.get("signal"):
        os.kill(os.getpid(), behaviour["signal"])
    sys.exit(1)
for run in pack["runs"]:
    with open(f"{logs}/{ids[str(run['lr'])]}.jsonl", "w") as log:
        for event in ({"event": "start", "pack": pack["name"], "neighbours": len(pack["runs"]) - 1},
                      {"event": "end", "status": "finished", "tokens": 10}):
            log.write(json.dumps(event) + "\\n")
"""


@pytest.fixture
def no_orphans(tmp_path: Path) -> Iterator[None]:
    """Nothing that a test started into its folder outlives it."""
    yield
    for process in trainers(tmp_path / "runs"):
        os.kill(process, signal.SIGKILL)


def fake_trainer(folder: Path, pack: Pack, ids: tuple[str, ...], **behaviour: Any) -> Callable[[Path], list[str]]:
    """A command that writes the logs of a pack at once, or dies in the way described."""
    script, how = folder / "fake.py", folder / "behaviour.json"
    script.write_text(FAKE)
    by_lr = {str(run.lr): run_id for run, run_id in zip(pack.runs, ids, strict=True)}
    how.write_text(json.dumps({"ids": by_lr, "survives": 0, **behaviour}))
    return lambda path: [sys.executable, "-IS", str(script), str(path), str(folder / "runs"), str(how)]


def calls(folder: Path) -> list[list[float]]:
    """The learning rates of each start of the fake trainer."""
    return [json.loads(line) for line in (folder / "behaviour.json.calls").read_text().splitlines()]


def absent(what: str) -> None:
    """Skip, or fail where everything was to be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def slurm_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Two virtual nodes, for all tests that do not break them."""
    if reason := slurm_cluster.missing():
        absent(reason)
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as made:
        yield made


@pytest.fixture
def slurm(slurm_running: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """Slurm, with its commands on PATH."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm_running.environment[name])
    return slurm_running


@pytest.fixture(scope="session")
def ray_running() -> Iterator[None]:
    """Ray on this machine, joined by this process."""
    if find_spec("ray") is None:
        absent("Ray is not installed: pip install 'lawfit[ray]'")
    before = dict(os.environ)
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    ray.init(
        address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )  # fmt: skip
    yield
    ray.shutdown()
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ |= before
