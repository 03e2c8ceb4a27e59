"""Faults on Slurm and Ray, with the real command and the real trainer: no run is lost, and none is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the trainer needs lawfit[train]")
pytest.importorskip("tokenizers", reason="the trainer needs lawfit[train]")

from lawfit.storage import Store
from tests.launch import slurm_cluster
from tests.launch.conftest import absent, make_pack, needs_proc, trainers, wait_for
from tests.launch.test_launch import lines, uninterrupted

pytestmark = [pytest.mark.soak, needs_proc, pytest.mark.usefixtures("no_orphans")]

# What the jobs' own script does is the same on all clusters: asked of one.
ON_SLURM = pytest.mark.parametrize("cluster", ["slurm"], indirect=True)
STEPS = 600  # of a run: some seconds, on a busy machine many
LAUNCH = """
from lawfit.launch.backends import slurm
slurm.QUERY_SECONDS = 2.0
from lawfit.cli.main import main
main()
"""


@dataclass
class Cluster:
    """Where `lawfit launch` runs its packs, and how to break it."""

    name: str
    options: tuple[str, ...]
    lose_machine: Callable[[int], None]  # that on which a process runs
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


@pytest.fixture(params=["slurm", "ray"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Two machines, each with room for one pack; of Ray a head beside them."""
    yield from _slurm(tmp_path) if request.param == "slurm" else _ray()


def _slurm(folder: Path) -> Iterator[Cluster]:
    if reason := slurm_cluster.missing():
        absent(reason)
    with slurm_cluster.cluster(folder / "slurm") as made:

        def lose(process: int) -> None:
            words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            (node,) = [word.partition(b"=")[2].decode() for word in words if word.startswith(b"SLURMD_NODENAME=")]
            made.kill_node(node)

        yield Cluster("slurm", ("--slurm", "exclusive"), lose, made.environment)


def _ray() -> Iterator[Cluster]:
    if find_spec("ray") is None:
        absent("Ray is not installed: pip install 'lawfit[ray]'")
    made = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    code = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    for node in nodes:
        print(node.all_processes["raylet"][0].process.pid, flush=True)
    print("", flush=True)
    cluster.remove_node(nodes.pop(int(sys.stdin.readline())))
    print("gone", flush=True)
cluster.shutdown()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **made}, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        out, tell = process.stdout, process.stdin

        def lose(trainer: int) -> None:
            tell.write("who\n")
            tell.flush()
            raylets = [int(line) for line in iter(out.readline, "\n")]
            ancestors = list(_ancestors(trainer))
            (which,) = [n for n, raylet in enumerate(raylets) if raylet in ancestors]
            tell.write(f"{which}\n")
            tell.flush()
            assert out.readline() == "gone\n"

        address = out.readline().strip()
        try:
            yield Cluster("ray", ("--ray-address", address), lose, {**os.environ, **made})
        finally:
            tell.close()
            process.wait(timeout=60)


def _ancestors(process: int) -> Iterator[int]:
    while process > 1:
        yield process
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


class Campaign:
    """Launches of three packs of two runs, and what became of their logs."""

    def __init__(self, cluster: Cluster, folder: Path, corpus: Path) -> None:
        self.cluster, self.folder, self.corpus, self.logs = cluster, folder, corpus, folder / "runs"
        self.packs = [folder / f"pack{n}.json" for n in range(3)]
        self.of(STEPS)
        self.launches = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.done: dict[str, str] = {}  # logs as they were when they were first seen to have ended

    def of(self, steps: int) -> None:
        """Runs of so many steps."""
        self.steps = steps
        for n, path in enumerate(self.packs):
            lrs = (0.01 + n / 1000, 0.02 + n / 1000)
            path.write_text(json.dumps(make_pack(self.corpus, lrs=lrs, steps=steps, name=f"pack{n}").to_json()))

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", LAUNCH, "launch", *map(str, self.packs), "--cpu", "--logs", str(self.logs)]
        words += ["--backend", self.cluster.name, *self.cluster.options, "--checkpoint-seconds", "0.5", *options]
        environment = {**self.cluster.environment, "LAWFIT_DATABASE_URL": str(self.folder / "lawfit.db")}
        self.launches += 1
        with self._errors().open("wb") as errors:
            self.process = subprocess.Popen([*words, "--recipe", "r"], cwd=self.folder, env=environment, stderr=errors)
        return self.process

    def _errors(self) -> Path:
        return self.folder / f"launch{self.launches}.err"

    def said(self) -> str:
        """By the launch that was started last."""
        return self._errors().read_text()

    def look(self) -> None:
        for path in self.logs.glob("*.jsonl"):
            text = path.read_text()
            if path.stem not in self.done and '"event": "end"' in text.rpartition("\n{")[2]:
                self.done[path.stem] = text

    def until(self, condition: Callable[[], object], what: str, seconds: float = 120) -> None:
        def met() -> object:
            self.look()
            return condition()

        wait_for(met, what, seconds)

    def until_training(self) -> int:
        """A trainer that has left a checkpoint and is far from its end."""
        self.until(lambda: list(self.logs.glob("*.checkpoint")) and trainers(self.logs), "a checkpoint")
        return trainers(self.logs)[0]

    def farthest(self) -> int:
        """Steps of the run that has most of them."""
        whole = [path.read_text().rpartition("\n")[0].splitlines() for path in self.logs.glob("*.jsonl")]
        return max(json.loads(log[-1]).get("step", 0) for log in whole if log)

    def finish(self, process: subprocess.Popen[bytes], seconds: float = 900) -> str:
        """Wait for the launch's end; nothing lost, nothing twice. What it said."""
        self.until(lambda: process.poll() is not None, "the end of the launch", seconds)
        text = self.said()
        assert process.returncode == 0, text
        self.look()
        assert len(self.done) == 6, "runs lost"
        for run, log in self.done.items():
            assert (self.logs / f"{run}.jsonl").read_text() == log, "a run was done twice"
        assert list(lines(self.logs).values()) == [uninterrupted(self.steps)] * 6
        with Store.open(self.folder / "lawfit.db") as store:
            assert sorted(run.run_key for run in store.runs(store.recipe("r").key)) == sorted(self.done)
        assert trainers(self.logs) == []
        return text


@pytest.fixture
def campaign(cluster: Cluster, tmp_path: Path, corpus: Path) -> Iterator[Campaign]:
    made = Campaign(cluster, tmp_path, corpus)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_all_goes_well(campaign: Campaign) -> None:
    said = campaign.finish(campaign.start())
    assert said.count(" is done: 2 runs") == 3


def test_a_machine_is_lost(campaign: Campaign) -> None:
    process = campaign.start()
    campaign.cluster.lose_machine(campaign.until_training())
    campaign.finish(process)


def test_the_launcher_is_killed(campaign: Campaign) -> None:
    process = campaign.start()
    before = campaign.until_training()
    process.kill()
    process.wait()
    if campaign.cluster.name == "ray":  # whose tasks end with their driver
        campaign.until(lambda: not trainers(campaign.logs), "the end of all tasks")
    again = campaign.start()
    if campaign.cluster.name == "slurm":
        time.sleep(3)
        going = trainers(campaign.logs)
        campaign.look()
        assert before in going or len(campaign.done) > 0
    said = campaign.finish(again)
    if campaign.cluster.name == "slurm":
        assert said.count(" is done: 2 runs") >= 1


@ON_SLURM
def test_the_walltime_comes(campaign: Campaign) -> None:
    """One that leaves time for half of what is to do, at the pace of this machine today, beside the start."""
    campaign.of(20 * STEPS)
    began = time.monotonic()
    process = campaign.start()
    campaign.until_training()
    start, before = time.monotonic() - began, campaign.farthest()
    campaign.until(lambda: campaign.farthest() >= before + 2 * STEPS, "two tenths of a run")
    left = (18 * STEPS - before) * (time.monotonic() - began - start) / (2 * STEPS)
    process.terminate()
    process.wait()
    said = campaign.finish(campaign.start("--walltime-minutes", str((start + left / 2) / 0.75 / 60)))
    assert "stopped (its walltime was over); it goes on from its checkpoint" in said


@ON_SLURM
def test_a_trainer_is_killed(campaign: Campaign) -> None:
    process = campaign.start()
    os.kill(campaign.until_training(), signal.SIGKILL)
    assert "died (ended by signal 9" in campaign.finish(process)


@ON_SLURM
def test_a_trainer_hangs(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    process = campaign.start("--hung-minutes", "0.75")
    os.kill(campaign.until_training(), signal.SIGSTOP)
    assert "died (no log of it grew for too long)" in campaign.finish(process)


def test_a_stop_leaves_checkpoints_and_nothing_running(campaign: Campaign) -> None:
    process = campaign.start()
    campaign.until_training()
    process.terminate()
    assert process.wait(timeout=120) == 130, campaign.said()
    assert trainers(campaign.logs) == []
    campaign.finish(campaign.start())
